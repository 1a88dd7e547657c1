"""Real-ESRGAN inference: upscale images and videos (Wang et al., ICCVW 2021).

Importing the package imports nothing else. PyTorch is imported only where it is needed: on a GPU, for faces, by the
torch engine, and for modules and tensors that are asked for.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .upscaling.upsampler import RealESRGANer

__all__ = ['RealESRGANer', '__version__']


def __getattr__(name: str) -> Any:
    if name == 'RealESRGANer':
        from .upscaling.upsampler import RealESRGANer
        return RealESRGANer
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
