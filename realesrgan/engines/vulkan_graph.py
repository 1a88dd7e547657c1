"""Networks as ncnn models, built from their layers: the text and the bytes of a `.param` and a `.bin` file.

Format: https://github.com/Tencent/ncnn/wiki/param-and-model-file-structure; the layers and their options:
https://github.com/Tencent/ncnn/blob/master/docs/developer-guide/operators.md.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..archs.layers import Convolution, Layers

INPUT, OUTPUT = 'picture', 'result'

_MAGIC = 7767517
_FLOAT32 = np.zeros(1, np.uint32)  # what the weights of a convolution begin with


def build_model(layers: Layers, weights: Mapping[str, np.ndarray]) -> tuple[str, bytes]:
    """Return a network as an ncnn model.

    Args:
        layers: The network.
        weights: float32, by parameter name.

    Returns:
        The text of its `.param` and the bytes of its `.bin`, in float32. It maps the blob `INPUT`, 3 x H x W, RGB in
        0..1, to the blob `OUTPUT`, 3 x sH x sW.
    """
    graph = _Graph()
    features = [graph.add('Reorg', INPUT, options=f'0={layers.fold}') if layers.fold > 1 else INPUT]
    for layer in layers.convolutions:
        channels_in = sum(layers.channels[feature] for feature in layer.inputs)
        features.append(graph.convolve(layer, features, channels_in))
    result = features[-1]
    if layers.shuffle > 1:
        result = graph.add('PixelShuffle', result, options=f'0={layers.shuffle}')
    if layers.adds_picture:
        picture = graph.enlarge(INPUT, layers.shuffle) if layers.shuffle > 1 else INPUT
        graph.add('BinaryOp', result, picture, options='0=0')
    values: list[np.ndarray] = []
    for name in layers.parameter_shapes():
        values += [_FLOAT32, weights[name]] if weights[name].ndim == 4 else [weights[name]]
    return graph.to_param(), b''.join(np.ascontiguousarray(array).tobytes() for array in values)


@dataclass
class _Layer:
    kind: str
    inputs: Sequence[str]
    output: str
    options: str


@dataclass
class _Graph:
    """ncnn's layers in order, each with one output, which any number of later layers may take."""

    _layers: list[_Layer] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, options: str = '') -> str:
        """Add a layer; return the name of its output."""
        self._layers.append(_Layer(kind, inputs, f'{kind.lower()}{len(self._layers)}', options))
        return self._layers[-1].output

    def convolve(self, layer: Convolution, features: Sequence[str], channels_in: int) -> str:
        """Add a convolution and what follows it; return the name of its result."""
        x = features[layer.inputs[0]]
        if len(layer.inputs) > 1:
            x = self.add('Concat', *(features[feature] for feature in layer.inputs))
        if layer.doubles:
            x = self.enlarge(x, 2)
        activation = f' 9=2 -23310=1,{layer.slope}' if layer.slope != 1 and not isinstance(layer.slope, str) else ''
        x = self.add('Convolution', x, options=f'0={layer.channels} 1=3 4=1 5=1 '
                                               f'6={9 * channels_in * layer.channels}{activation}')
        if isinstance(layer.slope, str):
            x = self.add('PReLU', x, options=f'0={layer.channels}')
        for feature, share in layer.residuals:
            x = (self.add('BinaryOp', features[feature], x, options='0=0') if share == 1 else
                 self.add('Eltwise', features[feature], x, options=f'0=1 -23301=2,1.0,{share}'))
        return x

    def enlarge(self, x: str, factor: int) -> str:
        """Enlarge by nearest neighbour.

        ncnn's Interp computes coordinates in float16 too, which has none of the odd numbers above 2048. So this lays
        the picture beside itself and shuffles.
        """
        return self.add('PixelShuffle', self.add('Concat', *[x] * factor ** 2), options=f'0={factor} 1=1')

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
