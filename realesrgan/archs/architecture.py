"""How an architecture describes one of its networks to the rest of the house.

A network of 3x3 convolutions describes its topology once, as `Layers`, and every engine but PyTorch is built from it.
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

if TYPE_CHECKING:
    from torch import nn

# Pixels of the folded input. Anything further away hardly matters: on a photo, RealESRGAN_x4plus in tiles of 224 padded
# by 48 pixels agrees with the untiled result to 62 dB, in float32; padded by 32, to 56 dB.
_FURTHEST = 48
_BLEND = 8
# For networks that say nothing about themselves, in pixels of the picture. Most attention windows have 8 or 16 pixels.
# With these values, tiles of the architectures in the tests agree with the untiled result to 50 dB, most of them to 65.
# Only OmniSR, which sees the whole picture, is at 48 dB with tiles of 64 pixels.
_UNKNOWN_FIELD = 32
USUAL_WINDOW = 16


class Convolution(NamedTuple):
    """A 3x3 convolution over a border of zeros, and what follows it.

    Attributes:
        name: Its parameters are `NAME.weight` and `NAME.bias`.
        inputs: Numbers of the features whose channels, one after the other, it takes.
        channels: Of its result.
        slope: Of negative results: one number (1 is no activation), or the name of a PReLU's parameter.
        residuals: After that, the result becomes `feature + share * result` for each in turn.
        doubles: Whether its input is first enlarged twice, by nearest neighbour.
    """

    name: str
    inputs: Sequence[int]
    channels: int
    slope: float | str = 1.0
    residuals: Sequence[tuple[int, float]] = ()
    doubles: bool = False


class Layers:
    """A network as a chain of 3x3 convolutions. `convolve` adds one after the other, and `finish` the last.

    Its features are numbered: 0 is the picture, n the result of the nth convolution.

    Args:
        fold: The picture's blocks of `fold` x `fold` pixels are the channels of feature 0 (pixel-unshuffle).

    Attributes:
        fold: As above.
        convolutions: In order.
        channels: Of each feature.
        enlarged: The side of each feature as a multiple of feature 0's.
        shuffle: By how much the last feature is enlarged by pixel-shuffle.
        adds_picture: Whether the picture, enlarged by nearest neighbour, is added to the result.
    """

    def __init__(self, fold: int = 1) -> None:
        self.fold = fold
        self.convolutions: list[Convolution] = []
        self.channels, self.enlarged = [3 * fold ** 2], [1]
        self.shuffle, self.adds_picture = 1, False

    def convolve(self, name: str, inputs: Sequence[int], channels: int, slope: float | str = 1.0, *,
                 residuals: Sequence[tuple[int, float]] = (), doubles: bool = False) -> int:
        """Add a convolution; see `Convolution`.

        Returns:
            The number of its result.

        Raises:
            ValueError: its inputs differ in size, or a residual differs from its result.
        """
        size = self.enlarged[inputs[0]]
        enlarged = 2 * size if doubles else size
        if any(self.enlarged[feature] != size for feature in inputs) or any(
                (self.channels[feature], self.enlarged[feature]) != (channels, enlarged) for feature, _ in residuals):
            raise ValueError(f'{name}: its inputs differ in size, or its residuals from its result')
        self.convolutions.append(Convolution(name, tuple(inputs), channels, slope, tuple(residuals), doubles))
        self.channels.append(channels)
        self.enlarged.append(enlarged)
        return len(self.convolutions)

    def finish(self, name: str, inputs: Sequence[int], *, shuffle: int = 1, adds_picture: bool = False) -> Self:
        """Add the convolution that gives the result, without an activation; return the network.

        Raises:
            ValueError: the picture is to be added to a result that something else than `shuffle` has resized.
        """
        last = self.convolve(name, inputs, 3 * shuffle ** 2)
        if adds_picture and (self.fold, self.enlarged[last]) != (1, 1):
            raise ValueError(f'{name}: the picture can be added only where all features have its size')
        self.shuffle, self.adds_picture = shuffle, adds_picture
        return self

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter by name, in the order of the convolutions."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.convolutions:
            channels_in = sum(self.channels[feature] for feature in layer.inputs)
            shapes[f'{layer.name}.weight'] = layer.channels, channels_in, 3, 3
            shapes[f'{layer.name}.bias'] = layer.channels,
            if isinstance(layer.slope, str):
                shapes[layer.slope] = layer.channels,
        return shapes

    def measure_receptive_field(self) -> int:
        """Return how many pixels of the picture, to each side of a place, the result at that place depends on."""
        seen = [0] * len(self.channels)  # pixels of each feature, around the place
        for number, layer in reversed(list(enumerate(self.convolutions, 1))):
            around = seen[number] + 1
            if layer.doubles:
                around = -(-around // 2)
            for feature in layer.inputs:
                seen[feature] = max(seen[feature], around)
            for feature, _ in layer.residuals:
                seen[feature] = max(seen[feature], seen[number])
        return seen[0] * self.fold

    def count_products(self) -> float:
        """Return how many multiplications its convolutions take, written out, for each pixel of the picture."""
        shapes = self.parameter_shapes()
        return sum(math.prod(shapes[f'{layer.name}.weight']) * self.enlarged[number] ** 2
                   for number, layer in enumerate(self.convolutions, 1)) / self.fold ** 2

    def assign_buffers(self) -> list[int]:
        """Return the number of the buffer that each feature lies in.

        A feature takes the buffer of another of its kind that no later convolution reads. The picture keeps its own.
        """
        readers = [[*layer.inputs, *(feature for feature, _ in layer.residuals)] for layer in self.convolutions]
        last_reader = {feature: number for number, features in enumerate(readers) for feature in features}
        kinds = list(zip(self.channels, self.enlarged, strict=True))
        free: dict[tuple[int, int], list[int]] = {kind: [] for kind in kinds}
        buffers, count = [0], 1
        for number, features in enumerate(readers):
            unused = free[kinds[number + 1]]
            buffers.append(unused.pop() if unused else count)
            count = max(count, buffers[-1] + 1)
            for feature in dict.fromkeys(features):
                if feature and last_reader[feature] == number:
                    free[kinds[feature]].append(buffers[feature])
        return buffers

    def count_values(self) -> float:
        """Return how many values the buffers hold for each pixel of the picture."""
        sizes = [channels * enlarged ** 2 for channels, enlarged in zip(self.channels, self.enlarged, strict=True)]
        return sum(dict(zip(self.assign_buffers(), sizes, strict=True)).values()) / self.fold ** 2


class NetworkTraits:
    """Facts about a network, of whatever architecture, that upscaling with it needs.

    Attributes:
        scale: Output pixels per input pixel, along a side.
    """

    scale: int

    def layers(self) -> Layers | None:
        """Return the network as a chain of 3x3 convolutions; None where it is none, and only PyTorch runs it."""
        return None

    @property
    def multiple(self) -> int:
        """The sides of the input must be multiples of this, such as the side of blocks folded into channels."""
        return 1

    @property
    def alignment(self) -> int:
        """Tiles begin at multiples of this, so that windows of attention lie as in the whole picture."""
        return USUAL_WINDOW if self.layers() is None else 1

    @property
    def receptive_field(self) -> int:
        """Input pixels around a tile that show in its result."""
        layers = self.layers()
        if layers is None:
            return _UNKNOWN_FIELD
        return min(layers.measure_receptive_field(), _FURTHEST * layers.fold)

    @property
    def blend(self) -> int:
        """Input pixels by which tiles overlap and are cross-faded: 0 where `receptive_field` is exact."""
        layers = self.layers()
        if layers is None:
            return _BLEND
        return _BLEND * layers.fold if layers.measure_receptive_field() > _FURTHEST * layers.fold else 0

    @property
    def values_per_pixel(self) -> float | None:
        """Values that a run keeps for each pixel of input; None where that is not known."""
        layers = self.layers()
        return None if layers is None else layers.count_values()

    def runs_in(self, precision: str) -> bool:
        """Return whether it can be computed in a precision: 'float32', 'float16' or 'bfloat16'."""
        return True


class _KnownTraits(NamedTuple):
    architecture: str
    scale: int
    multiple: int = 1
    alignment: int = USUAL_WINDOW
    precisions: tuple[str, ...] = ('float32', 'float16', 'bfloat16')


class ForeignTraits(_KnownTraits, NetworkTraits):
    """Those of a network of which little is known.

    Attributes:
        architecture: The architecture's name.
        alignment: See `NetworkTraits`.
        precisions: Those that it can be computed in.
    """

    def runs_in(self, precision: str) -> bool:
        return precision in self.precisions


class NetworkConfig(NetworkTraits, ABC):
    """The hyper-parameters of one network, and what follows from them.

    Each architecture has one subclass, a named tuple or a frozen dataclass, in a module that imports neither torch nor
    numpy. It should say its `layers`, if it is a chain of 3x3 convolutions: then all engines run it, and the rest
    follows. One that is not may override `multiple`, `alignment`, `receptive_field`, `blend` and `values_per_pixel`.

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
    def current_names(cls, state_dict: Mapping[str, Any]) -> dict[str, Any]:
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
    """Return the multiple to which Real-ESRGAN 0.3.0 extends the sides of a picture, whatever the network needs."""
    return {2: 2, 1: 4}.get(scale, 1)
