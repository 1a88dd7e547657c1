"""A network with its weights, for any engine: as arrays, and as a PyTorch module where one is asked for."""
from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

from ..errors import UnknownNetworkError
from .architecture import ForeignTraits, Layers, NetworkConfig, NetworkTraits, find_multiple_of_0_3_0
from .registry import ARCHITECTURES, identify_network

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn


class LoadedNetwork:
    """A network with its weights; made of arrays, or by `from_module`. Neither imports PyTorch.

    Args:
        traits: Facts about it that upscaling needs; its hyper-parameters, if its architecture is known.
        arrays: float32, one for each of its `parameter_shapes()`; None if the module has them. They are not copied.
        module: The module; None if it is to be built of the arrays where it is asked for.
        unknown: Why only PyTorch may run it: its architecture is not known, or its module computes more than its
            parameters say; None if any engine may.

    Attributes:
        traits, unknown: As above.
    """

    def __init__(self, traits: NetworkTraits, arrays: Mapping[str, np.ndarray] | None,
                 module: nn.Module | None = None, unknown: UnknownNetworkError | None = None) -> None:
        self.traits = traits
        self.unknown = unknown
        self._arrays = arrays
        self._module = module
        self._is_built = module is None  # by us, from the arrays

    @classmethod
    def from_module(cls, module: nn.Module, scale: int | None = None) -> Self:
        """Return a PyTorch module as a network.

        Args:
            module: The module; it stays `module`, and is not copied. A class of another name, or one with hooks or
                another `forward`, may compute something else, and is run as it is.
            scale: Its scale, for a module of an unknown architecture; None takes its attribute `scale`.

        Raises:
            ValueError: the scale is not known.
        """
        name = type(module).__name__
        try:
            config = identify_network(module.state_dict())
            sizes = {parameter: tuple(tensor.shape) for parameter, tensor in module.state_dict().items()}
            if config.architecture == name and sizes == config.parameter_shapes():
                return cls(config, None, module, UnknownNetworkError('its module has hooks, or a forward of its own')
                           if _is_altered(module) else None)
            unknown = UnknownNetworkError(f'it is a module of the class {name}, not {config.architecture}')
        except UnknownNetworkError as error:
            unknown = error
        if scale is None:
            scale = getattr(module, 'scale', None)
        if scale is None:
            raise ValueError(f'the scale of {name} is not known; pass it')
        # A module may count on what it got from 0.3.0.
        return cls(ForeignTraits(name, scale, find_multiple_of_0_3_0(scale)), None, module, unknown)

    @property
    def config(self) -> NetworkConfig | None:
        """Its hyper-parameters; None if they don't determine what it computes."""
        return self.traits if self.unknown is None and isinstance(self.traits, NetworkConfig) else None

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along a side."""
        return self.traits.scale

    def layers(self) -> Layers | None:
        """Return the network as a chain of 3x3 convolutions; None where only PyTorch can run it."""
        return None if self.config is None else self.config.layers()

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """The weights: float32, by current parameter name."""
        if self._arrays is None:
            self._arrays = {name: tensor.detach().float().cpu().numpy()
                            for name, tensor in self.module.state_dict().items()}
        return self._arrays

    @property
    def module(self) -> nn.Module:
        """The PyTorch module, always the same. The torch engine moves it to its device and precision."""
        if self._module is None:
            assert self.config is not None  # it was made from arrays
            self._module = _build_module(self.config, self.arrays)
        return self._module

    def read_module_state(self) -> Hashable:
        """Return a value that changes with the module's parameters, buffers and hooks; None without a module.

        The version of a tensor counts writes to it, except through `.data`, which its checksum shows. On a GPU there
        are no checksums, because PyTorch runs the module itself there.
        """
        if self._module is None:
            return None
        return _is_altered(self._module), tuple(map(_read_tensor_state, chain(
            self._module.parameters(), self._module.buffers())))

    def reread(self) -> LoadedNetwork:
        """Return the network as the module is now."""
        if type(self.traits) in ARCHITECTURES:
            return LoadedNetwork.from_module(self.module, self.scale)
        return LoadedNetwork(self.traits, None, self._module, self.unknown)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out of copies and pickles all that can be made from the rest; their `module` is their own."""
        left_out = {'_module': None} if self._is_built else {'_arrays': None}
        return vars(self) | left_out


def _is_altered(module: nn.Module) -> bool:
    """Return whether hooks or a `forward` of its own make a module, or one in it, differ from its class."""
    return any(part._forward_hooks or part._forward_pre_hooks or 'forward' in vars(part) for part in module.modules())


def _read_tensor_state(tensor: torch.Tensor) -> Hashable:
    import torch
    version = 0 if tensor.is_inference() else tensor._version
    checksum = None
    if tensor.device.type == 'cpu':
        checksum = zlib.crc32(tensor.detach().reshape(-1).view(torch.uint8).numpy().data)
    return id(tensor), tensor.data_ptr(), tensor.dtype, version, checksum


def _build_module(config: NetworkConfig, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """Return the module on the CPU, frozen and in evaluation mode."""
    import numpy as np
    import torch
    is_ours = type(config) in ARCHITECTURES
    # No time is spent on random weights that are replaced at once, nor on copies. Modules of other packages may
    # hold more than weights in float32.
    with torch.device('meta' if is_ours else 'cpu'):
        module = config.build()
    tensors = {name: torch.from_numpy(np.require(array, np.float32, 'W')) for name, array in arrays.items()}
    module.load_state_dict(tensors, strict=True, assign=is_ours)
    return module.requires_grad_(False).eval()
