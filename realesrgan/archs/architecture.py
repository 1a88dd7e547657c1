"""What every architecture tells the rest of the house about one of its networks."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from torch import nn

    from .layers import Layers

# Pixels of the folded input. What a network sees further away does not show: tiles of 224 of RealESRGAN_x4plus that see
# 48 pixels around themselves agree with the untiled result to 62 dB on a photo, in float32; with 32 it is 56 dB.
_FURTHEST = 48
_BLEND = 8


class HasShape(Protocol):
    """A tensor of any library, as far as its shape goes."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Tensor = TypeVar('Tensor')


class NetworkTraits:
    """What must be known of a network, of whatever architecture, to upscale with it.

    Attributes:
        scale: Output pixels per input pixel, along a side.
    """

    scale: int

    def layers(self) -> Layers | None:
        """Return the network as a chain of 3x3 convolutions; None where it is none, and only PyTorch runs it."""
        return None

    @property
    def multiple(self) -> int:
        """What the sides of the input must be multiples of, such as the side of blocks folded into channels."""
        return 1

    @property
    def receptive_field(self) -> int | None:
        """Input pixels around a tile that show in its result; None where that must be measured."""
        layers = self.layers()
        return None if layers is None else min(layers.measure_receptive_field(), _FURTHEST * layers.fold)

    @property
    def blend(self) -> int:
        """Input pixels by which tiles overlap and are cross-faded: 0 where `receptive_field` is exact."""
        layers = self.layers()
        if layers is None:
            return _BLEND
        return _BLEND * layers.fold if layers.measure_receptive_field() > _FURTHEST * layers.fold else 0

    @property
    def values_per_pixel(self) -> float | None:
        """Values that a run keeps for each pixel of input; None where its memory must be measured."""
        layers = self.layers()
        return None if layers is None else layers.count_values()

    def runs_in(self, precision: str) -> bool:
        """Return whether it can be computed in a precision: 'float32', 'float16' or 'bfloat16'."""
        return True


@dataclass(frozen=True)
class MeasuredTraits(NetworkTraits):
    """Those of a network of which little is known beforehand.

    Attributes:
        architecture: The architecture's name.
        precisions: What it can be computed in.
    """

    architecture: str
    scale: int
    multiple: int = 1
    precisions: tuple[str, ...] = ('float32', 'float16', 'bfloat16')

    def runs_in(self, precision: str) -> bool:
        return precision in self.precisions


class NetworkConfig(NetworkTraits, ABC):
    """The hyper-parameters of one network, and what follows from them.

    Each architecture has one subclass, a frozen dataclass in a module that imports neither torch nor numpy. It should
    say its `layers`, if it is a chain of 3x3 convolutions: then all engines run it, and all else that is known of it
    follows. One that is not may override `multiple`, `receptive_field`, `blend` and `values_per_pixel`.

    Attributes:
        architecture: The architecture's name.
        first_parameter: A parameter that its state dicts have; others may have it too.
    """

    architecture: ClassVar[str]
    first_parameter: ClassVar[str]

    @classmethod
    @abstractmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """Read the hyper-parameters off a state dict.

        Args:
            shapes: The shapes of its tensors, by current parameter names.

        Raises:
            KeyError, ValueError, IndexError: it belongs to another architecture; the message says why.
        """

    @classmethod
    def current_names(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict with this architecture's former parameter names replaced by today's."""
        return dict(state_dict)

    @abstractmethod
    def build(self) -> nn.Module:
        """Return the network with random weights; it maps (N, 3, H, W), RGB in 0..1, to (N, 3, scale*H, scale*W)."""

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of its state dict, by current parameter name and in its order."""
        layers = self.layers()
        if layers is not None:
            return layers.parameter_shapes()
        return {name: tuple(tensor.shape) for name, tensor in self.build().state_dict().items()}


def find_multiple_of_0_3_0(scale: int) -> int:
    """Return what Real-ESRGAN 0.3.0 extends the sides of a picture to multiples of, whatever the network needs."""
    return {2: 2, 1: 4}.get(scale, 1)
