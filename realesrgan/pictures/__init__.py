"""Picture files: found, read, upscaled, written."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .run import PictureOptions, upscale_pictures

__all__ = ['PictureOptions', 'upscale_pictures']


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import run
        return getattr(run, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
