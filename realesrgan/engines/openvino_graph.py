"""Networks as OpenVINO graphs, built from their layers.

Tracing the PyTorch module would take ten seconds for a large network. The graph takes pixels as they lie in a picture:
conversion, channel order, clamping and rounding are part of it.
"""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import openvino as ov
from openvino import opset13 as op

from ..archs.layers import Layers

_CHANNELS = 1  # the axis, in NCHW

Weights = Mapping[str, np.ndarray]


def build_model(layers: Layers, weights: Weights, dtype: np.dtype) -> ov.Model:
    """Return a network as a graph from pixels to pixels.

    Args:
        layers: The network.
        weights: float32, by parameter name.
        dtype: uint8, or float32 for pixels in 0..1.

    Returns:
        A graph that takes N x H x W x 3, BGR, and gives N x sH x sW x 3, BGR, clamped, of the same dtype, and the sum
        of all values before clamping, a scalar.
    """
    pixels = op.parameter([-1, -1, -1, 3], ov.Type(dtype))
    unit = op.convert(pixels, ov.Type.f32)
    if dtype == np.uint8:
        unit = op.divide(unit, np.float32(255))
    rgb = _reverse_channels(op.transpose(unit, np.array([0, 3, 1, 2])))
    values = _build_layers(rgb, layers, weights)
    result = op.clamp(values, 0.0, 1.0)
    if dtype == np.uint8:
        result = op.convert(op.round(op.multiply(result, np.float32(255)), 'half_to_even'), ov.Type.u8)
    if layers.shuffle > 1:  # after rounding, when there are a quarter as many bytes to move
        result = op.depth_to_space(result, 'depth_first', layers.shuffle)
    result = op.transpose(_reverse_channels(result), np.array([0, 2, 3, 1]))
    total = op.reduce_sum(values, np.array([0, 1, 2, 3]))  # finite if all values are
    return ov.Model([result, total], [pixels])


def _build_layers(x: ov.Node, layers: Layers, weights: Weights) -> ov.Node:
    """Map the picture, N x 3 x H x W, RGB in 0..1, to the result, which a pixel-shuffle has still to enlarge."""
    features = [op.space_to_depth(x, 'depth_first', layers.fold) if layers.fold > 1 else x]
    for layer in layers.convolutions:
        y = features[layer.inputs[0]]
        if len(layer.inputs) > 1:
            y = op.concat([features[feature] for feature in layer.inputs], _CHANNELS)
        if layer.doubles:
            y = op.interpolate(y, np.array([2, 2], np.float32), 'nearest', 'scales', axes=np.array([2, 3]),
                               coordinate_transformation_mode='asymmetric', nearest_mode='floor')
        y = op.convolution(y, weights[f'{layer.name}.weight'], [1, 1], [1, 1], [1, 1], [1, 1])
        y = op.add(y, weights[f'{layer.name}.bias'].reshape(1, -1, 1, 1))
        if isinstance(layer.slope, str):
            y = op.prelu(y, weights[layer.slope])
        elif layer.slope != 1:
            y = op.prelu(y, np.array([layer.slope], np.float32))
        for feature, share in layer.residuals:
            y = op.add(features[feature], y if share == 1 else op.multiply(y, np.float32(share)))
        features.append(y)
    if not layers.adds_picture:
        return features[-1]
    # The picture is added before the pixel-shuffle, where enlarging it is to repeat each of its channels.
    repeated = np.arange(3).repeat(layers.shuffle ** 2)
    return op.add(features[-1], op.gather(x, repeated, np.int64(_CHANNELS)))


def _reverse_channels(x: ov.Node) -> ov.Node:
    """Turn RGB into BGR or back."""
    return op.gather(x, np.array([2, 1, 0]), np.int64(_CHANNELS))
