"""The architectures, and which of them a state dict belongs to.

To add one, write its torch module (`NAME_arch.py`) and its config (`NAME.py`, see `architecture.NetworkConfig`), and
put the config into `ARCHITECTURES`.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import UnknownNetworkError
from .architecture import HasShape, NetworkConfig, Tensor
from .rrdbnet import RRDBNetConfig
from .srvgg import SRVGGNetCompactConfig

ARCHITECTURES: tuple[type[NetworkConfig], ...] = (RRDBNetConfig, SRVGGNetCompactConfig)


def identify_network(state_dict: Mapping[str, HasShape],
                     architectures: Sequence[type[NetworkConfig]] = ARCHITECTURES) -> NetworkConfig:
    """Read a network's hyper-parameters off the names and shapes of its state dict.

    Args:
        state_dict: Tensors or arrays under current parameter names (see `current_names`).
        architectures: Those to try, in order.

    Raises:
        UnknownNetworkError: it belongs to none of them, or takes or gives something other than RGB.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    complaint: Exception | None = None
    for architecture in architectures:
        if architecture.first_parameter not in shapes:
            continue
        try:
            config = architecture.from_shapes(shapes)
            if not isinstance(config, NetworkConfig):
                raise TypeError(f'{architecture.__name__}.from_shapes returned {config!r}, no NetworkConfig')
            return config
        except (KeyError, ValueError, IndexError) as error:
            complaint = complaint or error
    if complaint is not None:
        raise UnknownNetworkError(f'it looks like a network of Real-ESRGAN but is not one: {complaint}')
    known = ', '.join(f'{architecture.architecture} ({architecture.first_parameter})'
                      for architecture in architectures)
    found = ', '.join(map(str, list(shapes)[:3])) or 'nothing'
    raise UnknownNetworkError(f'it is none of {known}; it holds {found} ...')


def current_names(state_dict: Mapping[str, Tensor], own: Sequence[type[NetworkConfig]] = ()) -> dict[str, Tensor]:
    """Return the state dict with old parameter names of any architecture replaced by today's; other names stay."""
    current = dict(state_dict)
    for architecture in (*own, *ARCHITECTURES):
        current = architecture.current_names(current)
    return current
