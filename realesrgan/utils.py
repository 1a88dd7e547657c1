"""Where Real-ESRGAN 0.3.0 kept `RealESRGANer`; kept so that `from realesrgan.utils import RealESRGANer` works."""
from .upscaling.upsampler import RealESRGANer

__all__ = ['RealESRGANer']
