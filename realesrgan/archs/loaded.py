"""A network with its weights, for any engine: as arrays, and as a PyTorch module where one is asked for."""
from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from ..errors import UnknownNetworkError
from .architecture import MeasuredTraits, NetworkShape, NetworkTraits, find_multiple_of_0_3_0
from .registry import ARCHITECTURES, identify_network

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class LoadedNetwork:
    """A network with its weights. Made by `from_arrays` or `from_module`; neither imports PyTorch.

    Attributes:
        traits: What upscaling must know of it; its hyper-parameters, if its architecture is known.
        unknown: Why its architecture is not known; None if it is.
    """

    def __init__(self, traits: NetworkTraits, arrays: Mapping[str, np.ndarray] | None, module: nn.Module | None,
                 unknown: UnknownNetworkError | None = None) -> None:
        self.traits = traits
        self.unknown = unknown
        self._arrays = arrays
        self._module = module
        self._is_built = module is None  # by us, from the arrays

    @classmethod
    def from_arrays(cls, shape: NetworkShape, arrays: Mapping[str, np.ndarray]) -> Self:
        """Return a network of a known architecture.

        Args:
            shape: Its hyper-parameters.
            arrays: float32, one for each of `shape.parameter_shapes()`. They are not copied.
        """
        return cls(shape, arrays, None)

    @classmethod
    def from_module(cls, module: nn.Module, scale: int | None = None) -> Self:
        """Return a PyTorch module as a network.

        Args:
            module: The module; it stays `module`, and is not copied. A class of another name may compute something
                else, and is run as it is.
            scale: Its scale, for a module of an unknown architecture; None takes its attribute `scale`.

        Raises:
            ValueError: the scale is not known.
        """
        name = type(module).__name__
        try:
            shape = identify_network(module.state_dict())
            sizes = {parameter: tuple(tensor.shape) for parameter, tensor in module.state_dict().items()}
            if shape.architecture == name and sizes == shape.parameter_shapes():
                return cls(shape, None, module)
            unknown = UnknownNetworkError(f'it is a module of the class {name}, not {shape.architecture}')
        except UnknownNetworkError as error:
            unknown = error
        if scale is None:
            scale = getattr(module, 'scale', None)
        if scale is None:
            raise ValueError(f'the scale of {name} is not known; say what it is')
        # A module may count on what it got from 0.3.0.
        return cls(MeasuredTraits(name, scale, find_multiple_of_0_3_0(scale)), None, module, unknown)

    @property
    def shape(self) -> NetworkShape | None:
        """Its hyper-parameters; None if its architecture is not known."""
        return self.traits if isinstance(self.traits, NetworkShape) else None

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along a side."""
        return self.traits.scale

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
            assert self.shape is not None  # it was made from arrays
            self._module = _build_module(self.shape, self.arrays)
        return self._module

    def copy(self) -> LoadedNetwork:
        """Return the same network, with a `module` of its own. Arrays are shared; no engine writes to them."""
        # A given module is copied even where its arrays are known, because it may be of a class of the caller's.
        module = None if self._is_built else copy.deepcopy(self._module)
        return LoadedNetwork(self.traits, self._arrays, module, self.unknown)


def _build_module(shape: NetworkShape, arrays: Mapping[str, np.ndarray]) -> nn.Module:
    """Return the module on the CPU, frozen and in evaluation mode."""
    import numpy as np
    import torch
    is_ours = type(shape) in ARCHITECTURES
    # No time is spent on random weights that are replaced at once, nor on copies. Modules of the user's own may hold
    # more than weights in float32.
    with torch.device('meta' if is_ours else 'cpu'):
        module = shape.build()
    tensors = {name: torch.from_numpy(np.require(array, np.float32, 'W')) for name, array in arrays.items()}
    module.load_state_dict(tensors, strict=True, assign=is_ours)
    return module.requires_grad_(False).eval()
