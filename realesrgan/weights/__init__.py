"""Where weights are, how they are fetched, checked and read. What is listed here is imported on first use."""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import load_model
    from .reading import load_state_dict
    from .sources import fingerprint, prefetch

__all__ = ['fingerprint', 'load_model', 'load_state_dict', 'prefetch']

_MODULES = {'load_model': 'loading', 'load_state_dict': 'reading', 'prefetch': 'sources', 'fingerprint': 'sources'}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f'.{_MODULES[name]}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
