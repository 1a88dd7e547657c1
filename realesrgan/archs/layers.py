"""A network as a chain of 3x3 convolutions: its topology, described once. Every engine but PyTorch is built from it."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Convolution:
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


@dataclass
class Layers:
    """A whole network. `convolve` adds one convolution after the other, and `finish` the last.

    Its features are numbered: 0 is the picture, n the result of the nth convolution.

    Attributes:
        fold: The picture's blocks of `fold` x `fold` pixels are the channels of feature 0 (pixel-unshuffle).
        convolutions: In order.
        channels: Of each feature.
        enlarged: The side of each feature as a multiple of feature 0's.
        shuffle: By how much the last feature is enlarged by pixel-shuffle.
        adds_picture: Whether the picture, enlarged by nearest neighbour, is added to the result.
    """

    fold: int = 1
    convolutions: list[Convolution] = field(default_factory=list, init=False)
    channels: list[int] = field(init=False)
    enlarged: list[int] = field(init=False)
    shuffle: int = field(default=1, init=False)
    adds_picture: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.channels, self.enlarged = [3 * self.fold ** 2], [1]

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
