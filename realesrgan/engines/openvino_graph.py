"""The networks as OpenVINO graphs, put together from their weights.

Tracing the PyTorch module would take ten seconds for a large network. The graph takes pixels as they lie in a picture:
conversion, channel order, clamping and rounding are part of it.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from ..archs.architecture import NetworkShape
from ..archs.rrdbnet import RRDBNetShape
from ..archs.srvgg import SRVGGNetCompactShape

Weights = Mapping[str, np.ndarray]
#: Builds a network: takes the picture, N x 3 x H x W, RGB in 0..1, its shape and its weights; returns the result and
#: the factor by which a pixel-shuffle has still to enlarge it (1: not at all).
Builder = Callable[[ov.Node, Any, Weights], tuple[ov.Node, int]]

_CHANNELS = 1  # the axis, in NCHW
_LEAK = np.float32(0.2)
_RESIDUAL = np.float32(0.2)


def build_model(shape: NetworkShape, weights: Weights, dtype: np.dtype) -> ov.Model:
    """Return a network as a graph from pixels to pixels.

    Args:
        shape: The network's; its type must be a key of `BUILDERS`.
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
    values, shuffle = BUILDERS[type(shape)](rgb, shape, weights)
    result = op.clamp(values, 0.0, 1.0)
    if dtype == np.uint8:
        result = op.convert(op.round(op.multiply(result, np.float32(255)), 'half_to_even'), ov.Type.u8)
    if shuffle > 1:  # after rounding, when there are a quarter as many bytes to move
        result = op.depth_to_space(result, 'depth_first', shuffle)
    result = op.transpose(_reverse_channels(result), np.array([0, 2, 3, 1]))
    total = op.reduce_sum(values, np.array([0, 1, 2, 3]))  # finite if all values are
    return ov.Model([result, total], [pixels], shape.architecture)


def _build_srvgg(x: ov.Node, shape: SRVGGNetCompactShape, weights: Weights) -> tuple[ov.Node, int]:
    y = x
    for index in range(0, 2 * shape.num_conv + 2, 2):
        y = op.prelu(_convolve(y, weights, f'body.{index}'), weights[f'body.{index + 1}.weight'])
    y = _convolve(y, weights, f'body.{2 * shape.num_conv + 2}')
    # The residual is added before the pixel-shuffle, where the enlarged input is each of its channels repeated.
    repeated = np.arange(3).repeat(shape.scale ** 2)
    return op.add(y, op.gather(x, repeated, np.int64(_CHANNELS))), shape.scale


def _build_rrdbnet(x: ov.Node, shape: RRDBNetShape, weights: Weights) -> tuple[ov.Node, int]:
    if shape.multiple > 1:
        x = op.space_to_depth(x, 'depth_first', shape.multiple)
    x = _convolve(x, weights, 'conv_first')
    y = x
    for block in range(shape.num_block):
        inner = y
        for dense in range(1, 4):
            inner = _build_dense_block(inner, weights, f'body.{block}.rdb{dense}')
        y = op.add(y, op.multiply(inner, _RESIDUAL))
    x = op.add(x, _convolve(y, weights, 'conv_body'))
    for name in ('conv_up1', 'conv_up2'):
        x = _leak(_convolve(_double(x), weights, name))
    return _convolve(_leak(_convolve(x, weights, 'conv_hr')), weights, 'conv_last'), 1


def _build_dense_block(x: ov.Node, weights: Weights, name: str) -> ov.Node:
    features = [x]
    for index in range(1, 5):
        joined = features[0] if index == 1 else op.concat(features, _CHANNELS)
        features.append(_leak(_convolve(joined, weights, f'{name}.conv{index}')))
    return op.add(x, op.multiply(_convolve(op.concat(features, _CHANNELS), weights, f'{name}.conv5'), _RESIDUAL))


#: The builder of each architecture that this engine runs.
BUILDERS: dict[type[NetworkShape], Builder] = {RRDBNetShape: _build_rrdbnet, SRVGGNetCompactShape: _build_srvgg}


def _convolve(x: ov.Node, weights: Weights, name: str) -> ov.Node:
    y = op.convolution(x, weights[f'{name}.weight'], [1, 1], [1, 1], [1, 1], [1, 1])
    return op.add(y, weights[f'{name}.bias'].reshape(1, -1, 1, 1))


def _reverse_channels(x: ov.Node) -> ov.Node:
    """Turn RGB into BGR or back."""
    return op.gather(x, np.array([2, 1, 0]), np.int64(_CHANNELS))


def _leak(x: ov.Node) -> ov.Node:
    return op.prelu(x, _LEAK.reshape(1))


def _double(x: ov.Node) -> ov.Node:
    """Enlarge twice by nearest neighbour."""
    return op.interpolate(x, np.array([2, 2], np.float32), 'nearest', 'scales', axes=np.array([2, 3]),
                          coordinate_transformation_mode='asymmetric', nearest_mode='floor')
