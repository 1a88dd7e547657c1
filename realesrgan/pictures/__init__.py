"""Picture files: found, read, upscaled, written."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..options import PictureOptions
    from .run import upscale_pictures

__all__ = ['PictureOptions', 'upscale_pictures']


def __getattr__(name: str) -> Any:
    if name == 'PictureOptions':
        from ..options import PictureOptions
        return PictureOptions
    if name == 'upscale_pictures':
        from .run import upscale_pictures
        return upscale_pictures
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
