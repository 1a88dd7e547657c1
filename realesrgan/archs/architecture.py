"""What every architecture tells the rest of the house about one of its networks."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from torch import nn


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

    @property
    def multiple(self) -> int:
        """What the sides of the input must be multiples of, such as the side of blocks folded into channels."""
        return 1

    @property
    def reach(self) -> int | None:
        """Input pixels around a tile that its result is taken to depend on; None where that must be measured."""
        return None

    @property
    def blend(self) -> int:
        """Input pixels by which tiles overlap and are cross-faded: 0 where `reach` is exact."""
        return 8 if self.reach is None else 0

    def estimate_bytes_per_pixel(self, engine: str, *, half: bool) -> float | None:
        """Estimate the memory that one pixel of input takes while the network runs; None where it must be measured.

        Args:
            engine: A name from `engines.table`.
            half: Whether it computes in half precision.
        """
        return None

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


class NetworkShape(NetworkTraits, ABC):
    """The hyper-parameters of one network, and what follows from them.

    Each architecture has one subclass, a frozen dataclass in a module that imports neither torch nor numpy. `multiple`,
    `reach` and `blend` are properties that it may override.

    Attributes:
        architecture: The architecture's name.
        first_parameter: A parameter that its state dicts have; others may have it too.
        working_bytes: Memory that one pixel of input takes while the network runs, by engine and by whether it
            computes in half precision; for 64 features and a network that folds no pixels. Measure it with
            `benchmarks/memory.py`. Without it, memory is measured before large pictures.
        num_feat: Channels between the convolutions, if `working_bytes` is given.
    """

    architecture: ClassVar[str]
    first_parameter: ClassVar[str]
    working_bytes: ClassVar[Mapping[tuple[str, bool], int]] = MappingProxyType({})
    num_feat: int

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
        module = self.build()
        if not hasattr(module, 'state_dict'):
            raise TypeError(f'{type(self).__name__}.build returned {module!r}, no torch.nn.Module')
        return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}

    def estimate_bytes_per_pixel(self, engine: str, *, half: bool) -> float | None:
        """See `NetworkTraits`. What was never measured counts as the hungriest of what was."""
        if not self.working_bytes:
            return None
        measured = self.working_bytes.get((engine, half))
        if measured is None:
            alike = [count for (_, is_half), count in self.working_bytes.items() if is_half == half]
            measured = max(alike or self.working_bytes.values())
        return measured * self.num_feat / 64 / self.multiple ** 2


def find_multiple_of_0_3_0(scale: int) -> int:
    """Return what Real-ESRGAN 0.3.0 extends the sides of a picture to multiples of, whatever the network needs."""
    return {2: 2, 1: 4}.get(scale, 1)


def convolution_shapes(name: str, channels_in: int, channels_out: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weight and bias of a 3x3 convolution, by parameter name."""
    return {f'{name}.weight': (channels_out, channels_in, 3, 3), f'{name}.bias': (channels_out,)}
