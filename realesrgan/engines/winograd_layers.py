"""The networks as chains of convolutions, for the winograd engine."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..archs.architecture import NetworkShape
from ..archs.rrdbnet import RRDBNetShape
from ..archs.srvgg import SRVGGNetCompactShape

Weights = Mapping[str, np.ndarray]

_LEAK = 0.2
_RESIDUAL = 0.2


@dataclass(frozen=True, eq=False)
class Feature:
    """A buffer of channels of the picture's size, times `enlarged`."""

    channels: int
    enlarged: int = 1


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution, what follows it, and where its result goes.

    Attributes:
        name: Its parameters are `NAME.weight` and `NAME.bias`.
        inputs: Their channels, one after the other, are its input; of half the output's size if it enlarges first.
        output: Where the result goes.
        slope: For negative results: of each channel or of all; 1 is no activation.
        residuals: At most two: the result becomes `feature + share * result` for each in turn.
    """

    name: str
    inputs: tuple[Feature, ...]
    output: Feature
    slope: np.ndarray | float = 1.0
    residuals: tuple[tuple[Feature, float], ...] = ()

    @property
    def doubles(self) -> bool:
        """Whether the input is first enlarged twice, by nearest neighbour."""
        return self.output.enlarged != self.inputs[0].enlarged


@dataclass(frozen=True)
class Layers:
    """A whole network.

    Attributes:
        picture: The input, with blocks of `fold` x `fold` pixels folded into channels (pixel-unshuffle).
        convolutions: In order. Each sees only what steps before it wrote.
        shuffle: By how much the last output is enlarged by pixel-shuffle.
        adds_picture: Whether the enlarged picture is added to the result.
    """

    picture: Feature
    fold: int
    convolutions: Sequence[Convolution]
    shuffle: int
    adds_picture: bool


def _list_srvgg(shape: SRVGGNetCompactShape, weights: Weights) -> Layers:
    picture = now = Feature(3)
    free = [Feature(shape.num_feat), Feature(shape.num_feat)]
    convolutions = []
    for index in range(0, 2 * shape.num_conv + 2, 2):
        convolutions.append(Convolution(f'body.{index}', (now,), free[0], weights[f'body.{index + 1}.weight']))
        now, free = free[0], free[::-1]
    last = Feature(3 * shape.scale ** 2)
    convolutions.append(Convolution(f'body.{2 * shape.num_conv + 2}', (now,), last))
    return Layers(picture, 1, convolutions, shape.scale, adds_picture=True)


def _list_rrdbnet(shape: RRDBNetShape, _: Weights) -> Layers:
    feat = shape.num_feat
    picture, first = Feature(3 * shape.multiple ** 2), Feature(feat)
    trunk = [Feature(feat) for _ in range(3)]
    grown = [Feature(shape.num_grow_ch) for _ in range(4)]
    convolutions = [Convolution('conv_first', (picture,), first)]
    now = first
    for block in range(shape.num_block):
        start = now
        for dense in range(1, 4):
            name = f'body.{block}.rdb{dense}.conv'
            convolutions += [Convolution(f'{name}{i + 1}', (now, *grown[:i]), grown[i], _LEAK) for i in range(4)]
            residuals = [(now, _RESIDUAL), (start, _RESIDUAL)][:2 if dense == 3 else 1]
            output = next(feature for feature in trunk if feature not in (now, start))
            convolutions.append(Convolution(f'{name}5', (now, *grown), output, residuals=tuple(residuals)))
            now = output
    body = next(feature for feature in trunk if feature is not now)
    convolutions.append(Convolution('conv_body', (now,), body, residuals=((first, 1.0),)))
    twice, four_times, high, last = Feature(feat, 2), Feature(feat, 4), Feature(feat, 4), Feature(3, 4)
    convolutions += [Convolution('conv_up1', (body,), twice, _LEAK),
                     Convolution('conv_up2', (twice,), four_times, _LEAK),
                     Convolution('conv_hr', (four_times,), high, _LEAK),
                     Convolution('conv_last', (high,), last)]
    return Layers(picture, shape.multiple, convolutions, 1, adds_picture=False)


#: How each architecture that this engine runs is listed.
BUILDERS: dict[type[NetworkShape], Callable[[Any, Weights], Layers]] = {
    RRDBNetShape: _list_rrdbnet, SRVGGNetCompactShape: _list_srvgg}
