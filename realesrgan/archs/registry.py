"""The architectures, and which of them a state dict belongs to.

To add one, write its torch module (`NAME_arch.py`) and its config (`NAME.py`, see `architecture.NetworkConfig`), and
put the config into `ARCHITECTURES`. Another package names its config in an entry point of the group `ENTRY_POINTS`.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UnknownNetworkError
from .architecture import NetworkConfig
from .rrdbnet import RRDBNetConfig
from .srvgg import SRVGGNetCompactConfig

ARCHITECTURES: tuple[type[NetworkConfig], ...] = (RRDBNetConfig, SRVGGNetCompactConfig)
#: The group of entry points that name the architectures of other packages.
ENTRY_POINTS = 'realesrgan.architectures'


def identify_network(state_dict: Mapping[str, Any],
                     architectures: Sequence[type[NetworkConfig]] = ARCHITECTURES) -> NetworkConfig:
    """Read a network's hyper-parameters off the names and shapes of its state dict.

    Args:
        state_dict: Tensors or arrays under current parameter names (see `current_names`).
        architectures: Those to try, in order.

    Raises:
        UnknownNetworkError: it belongs to none of them, or takes or gives something other than RGB.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    complaint: str | None = None
    for architecture in architectures:
        if architecture.first_parameter not in shapes:
            continue
        try:
            return architecture.from_shapes(shapes)
        except (KeyError, ValueError, IndexError) as error:
            complaint = complaint or f'it looks like {architecture.architecture} but is not one: {error}'
    if complaint is not None:
        raise UnknownNetworkError(complaint)
    known = ', '.join(f'{architecture.architecture} ({architecture.first_parameter})'
                      for architecture in architectures)
    found = ', '.join(map(str, list(shapes)[:3])) or 'nothing'
    raise UnknownNetworkError(f'it is none of {known}; it holds {found} ...')


def current_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict with old parameter names of built-in architectures replaced by today's; others stay."""
    current = dict(state_dict)
    for architecture in ARCHITECTURES:
        current = architecture.current_names(current)
    return current
