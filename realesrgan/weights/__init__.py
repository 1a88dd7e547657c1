"""Where weights are, how they are fetched, checked and read."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load_model, load_state_dict

__all__ = ['load_model', 'load_state_dict']


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import loading
        return getattr(loading, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
