"""Judging results: checks, measures, and pictures that compare. Names are loaded when they are used."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks import check
    from .comparisons import compare
    from .measures import examine

__all__ = ['check', 'compare', 'examine']

_MODULES = {'check': 'checks', 'compare': 'comparisons', 'examine': 'measures'}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f'.{_MODULES[name]}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
