"""Where Real-ESRGAN 0.3.0 kept `RealESRGANer`; kept so that `from realesrgan.utils import RealESRGANer` works."""
from .upsampler import RealESRGANer

__all__ = ['RealESRGANer']
