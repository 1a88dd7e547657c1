"""The networks as ncnn models, put together from their weights: the text and the bytes of a `.param` and a `.bin` file.

Format: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure; the layers and their options:
https://github.com/Tencent/ncnn/blob/master/docs/developer-guide/operators.md.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..archs.architecture import NetworkShape
from ..archs.rrdbnet import RRDBNetShape
from ..archs.srvgg import SRVGGNetCompactShape

Weights = Mapping[str, np.ndarray]

INPUT, OUTPUT = 'picture', 'result'

_MAGIC = 7767517
_FLOAT32 = np.zeros(1, np.uint32)  # what the weights of a convolution begin with
_LEAK = 0.2
_RESIDUAL = 0.2


def build_model(shape: NetworkShape, weights: Weights) -> tuple[str, bytes]:
    """Return a network as an ncnn model.

    Args:
        shape: The network's; its type must be a key of `BUILDERS`.
        weights: float32, by parameter name.

    Returns:
        The text of its `.param` and the bytes of its `.bin`, in float32. It maps the blob `INPUT`, 3 x H x W, RGB in
        0..1, to the blob `OUTPUT`, 3 x sH x sW.
    """
    graph = _Graph(weights)
    BUILDERS[type(shape)](graph, shape)
    return graph.to_param(), graph.to_bin()


@dataclass
class _Layer:
    kind: str
    inputs: Sequence[str]
    output: str
    options: str


@dataclass
class _Graph:
    """Layers in order, each with one output, which any number of later layers may take.

    Attributes:
        weights: float32, by parameter name.
    """

    weights: Weights
    _layers: list[_Layer] = field(default_factory=list)
    _values: list[np.ndarray] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, options: str = '') -> str:
        """Add a layer; return the name of its output."""
        self._layers.append(_Layer(kind, inputs, f'{kind.lower()}{len(self._layers)}', options))
        return self._layers[-1].output

    def convolve(self, x: str, name: str, *, leaky: bool = False) -> str:
        """Add the 3x3 convolution of that parameter name, with a leaky ReLU if asked for."""
        weight, bias = self.weights[f'{name}.weight'], self.weights[f'{name}.bias']
        self._values += [_FLOAT32, weight, bias]
        activation = f' 9=2 -23310=1,{_LEAK}' if leaky else ''
        return self.add('Convolution', x, options=f'0={len(bias)} 1=3 4=1 5=1 6={weight.size}{activation}')

    def prelu(self, x: str, name: str) -> str:
        """Add the PReLU of that parameter name."""
        slopes = self.weights[f'{name}.weight']
        self._values.append(slopes)
        return self.add('PReLU', x, options=f'0={slopes.size}')

    def enlarge(self, x: str, factor: int) -> str:
        """Enlarge by nearest neighbour.

        ncnn's Interp computes coordinates in float16 too, which has none of the odd numbers above 2048. So this lays
        the picture beside itself and shuffles.
        """
        return self.add('PixelShuffle', self.add('Concat', *[x] * factor ** 2), options=f'0={factor} 1=1')

    def add_scaled(self, x: str, y: str, factor: float) -> str:
        """Return x + factor * y."""
        return self.add('Eltwise', x, y, options=f'0=1 -23301=2,1.0,{factor}')

    def to_param(self) -> str:
        """Return the text of the `.param` file. What several layers take goes through a Split to each of them."""
        self._layers[-1].output = OUTPUT
        uses = Counter(name for layer in self._layers for name in layer.inputs)
        taken: Counter[str] = Counter()

        def take(name: str) -> str:
            taken[name] += 1
            return name if uses[name] == 1 else f'{name}_{taken[name]}'

        def split(name: str) -> list[str]:
            return [] if uses[name] < 2 else [
                f'Split split_{name} 1 {uses[name]} {name} ' + ' '.join(f'{name}_{i + 1}' for i in range(uses[name]))]

        lines = [f'Input {INPUT} 0 1 {INPUT}', *split(INPUT)]
        for layer in self._layers:
            inputs = ' '.join(map(take, layer.inputs))
            lines.append(f'{layer.kind} {layer.output} {len(layer.inputs)} 1 {inputs} {layer.output} {layer.options}')
            lines += split(layer.output)
        blobs = 1 + len(self._layers) + sum(count for count in uses.values() if count > 1)
        return '\n'.join([str(_MAGIC), f'{len(lines)} {blobs}', *lines, ''])

    def to_bin(self) -> bytes:
        """Return the bytes of the `.bin` file."""
        return b''.join(np.ascontiguousarray(values).tobytes() for values in self._values)


def _build_srvgg(graph: _Graph, shape: SRVGGNetCompactShape) -> None:
    y = INPUT
    for index in range(0, 2 * shape.num_conv + 2, 2):
        y = graph.prelu(graph.convolve(y, f'body.{index}'), f'body.{index + 1}')
    y = graph.convolve(y, f'body.{2 * shape.num_conv + 2}')
    x = INPUT
    if shape.scale > 1:
        y = graph.add('PixelShuffle', y, options=f'0={shape.scale}')
        x = graph.enlarge(x, shape.scale)
    graph.add('BinaryOp', y, x, options='0=0')


def _build_rrdbnet(graph: _Graph, shape: RRDBNetShape) -> None:
    x = INPUT
    if shape.multiple > 1:
        x = graph.add('Reorg', x, options=f'0={shape.multiple}')
    x = graph.convolve(x, 'conv_first')
    y = x
    for block in range(shape.num_block):
        inner = y
        for dense in range(1, 4):
            inner = _build_dense_block(graph, inner, f'body.{block}.rdb{dense}')
        y = graph.add_scaled(y, inner, _RESIDUAL)
    x = graph.add('BinaryOp', x, graph.convolve(y, 'conv_body'), options='0=0')
    for name in ('conv_up1', 'conv_up2'):
        x = graph.convolve(graph.enlarge(x, 2), name, leaky=True)
    graph.convolve(graph.convolve(x, 'conv_hr', leaky=True), 'conv_last')


def _build_dense_block(graph: _Graph, x: str, name: str) -> str:
    features = [x]
    for index in range(1, 5):
        joined = x if index == 1 else graph.add('Concat', *features)
        features.append(graph.convolve(joined, f'{name}.conv{index}', leaky=True))
    return graph.add_scaled(x, graph.convolve(graph.add('Concat', *features), f'{name}.conv5'), _RESIDUAL)


#: The builder of each architecture that this engine runs.
BUILDERS: dict[type[NetworkShape], Callable[[_Graph, Any], None]] = {
    RRDBNetShape: _build_rrdbnet, SRVGGNetCompactShape: _build_srvgg}
