"""The networks. Their PyTorch modules are imported on first use."""
from __future__ import annotations

import importlib
from typing import Any


def __getattr__(name: str) -> Any:
    if name in ('rrdbnet_arch', 'srvgg_arch'):
        return importlib.import_module(f'.{name}', __name__)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
