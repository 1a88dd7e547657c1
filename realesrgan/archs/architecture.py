"""What every architecture tells the rest of the house about one of its networks."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from .network import Network


class HasShape(Protocol):
    """A tensor of any library, as far as its shape goes."""

    @property
    def shape(self) -> tuple[int, ...]: ...


Tensor = TypeVar('Tensor')


class NetworkShape(ABC):
    """The hyper-parameters of one network, and what follows from them.

    Each architecture has one subclass, a frozen dataclass in a module that imports neither torch nor numpy.

    Attributes:
        architecture: The architecture's name.
        first_parameter: A parameter that its state dicts have; others may have it too.
        working_bytes: Memory that one pixel of input takes while the network runs, by engine and by whether it
            computes in half precision; for 64 features and a network that folds no pixels. Measure it with
            `benchmarks/memory.py`.
        scale: Output pixels per input pixel, along a side.
        num_feat: Channels between the convolutions.
    """

    architecture: ClassVar[str]
    first_parameter: ClassVar[str]
    working_bytes: ClassVar[Mapping[tuple[str, bool], int]]
    scale: int
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

    @property
    def multiple(self) -> int:
        """What the sides of the input must be multiples of: the side of the blocks that are folded into channels."""
        return 1

    @property
    @abstractmethod
    def reach(self) -> int:
        """Input pixels around a tile that its result is taken to depend on."""

    @property
    def blend(self) -> int:
        """Input pixels by which tiles overlap and are cross-faded: 0 where `reach` is exact."""
        return 0

    @abstractmethod
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of its state dict, by current parameter name and in its order."""

    @abstractmethod
    def build(self) -> Network:
        """Return the network with random weights."""

    def estimate_bytes_per_pixel(self, engine: str, *, half: bool) -> float:
        """Estimate the memory that one pixel of input takes while the network runs.

        Args:
            engine: A name from `engines.table`. One that was never measured counts as the hungriest of the others.
            half: Whether it computes in half precision.
        """
        measured = self.working_bytes.get((engine, half))
        if measured is None:
            measured = max(count for (_, is_half), count in self.working_bytes.items() if is_half == half)
        return measured * self.num_feat / 64 / self.multiple ** 2


def convolution_shapes(name: str, channels_in: int, channels_out: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weight and bias of a 3x3 convolution, by parameter name."""
    return {f'{name}.weight': (channels_out, channels_in, 3, 3), f'{name}.bias': (channels_out,)}
