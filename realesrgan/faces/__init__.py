"""Restore faces with GFPGAN. What is listed here is imported on first use."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .enhancer import FaceEnhancer

__all__ = ['FaceEnhancer']


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import enhancer
        return getattr(enhancer, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
