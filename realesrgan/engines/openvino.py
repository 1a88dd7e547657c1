"""The OpenVINO engine: the CPU, about as fast as its matrix units allow.

The graph is put together from the state dict (tracing the PyTorch module would take ten seconds for a large network)
and takes pixels as they lie in a picture: conversion, channel order, clamping and rounding are part of it.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
from openvino import opset13 as op
from torch import nn

from ..errors import NonFiniteError
from ..models import RRDBNetShape, SRVGGNetCompactShape, identify_network

_CHANNELS = 1  # the axis, in NCHW
_LEAK = np.float32(0.2)
_RESIDUAL = np.float32(0.2)


class OpenVINOEngine:
    """Runs an RRDBNet or SRVGGNetCompact on the CPU; see `Engine` for the interface.

    Args:
        network: The network, for its state dict.
        bfloat16: Compute in bfloat16, else in float32. What surrounds the convolutions is float32 either way.
        threads: The number that it computes with; None is all cores.

    Raises:
        UnknownNetworkError: another network.
    """

    kind = 'openvino'

    def __init__(self, network: nn.Module, *, bfloat16: bool, threads: int | None = None) -> None:
        weights = {name: tensor.float().numpy() for name, tensor in network.state_dict().items()}
        self._shape = identify_network(network.state_dict())
        self._weights = weights
        self._settings = {
            'INFERENCE_PRECISION_HINT': 'bf16' if bfloat16 else 'f32',
            'PERFORMANCE_HINT': 'LATENCY',
            'NUM_STREAMS': 1,
        }
        if threads is not None:
            self._settings['INFERENCE_NUM_THREADS'] = threads
            self._settings['ENABLE_CPU_PINNING'] = False  # or several processes would share the same cores
        self._requests: dict[np.dtype, ov.InferRequest] = {}
        self._dtype: np.dtype | None = None  # of the last batch
        self.scale = self._shape.scale
        self.half = bfloat16
        self.description = f'openvino, cpu, {"bfloat16" if bfloat16 else "float32"}'

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        try:
            request = self._request(batch.dtype)
            request.infer([np.ascontiguousarray(batch)], share_inputs=True)
        except RuntimeError as error:
            if any(sign in str(error).lower() for sign in ('memory', 'bad_alloc', 'alloc')):
                raise MemoryError(f'{self.description}: {" ".join(str(error).split())}') from error
            raise
        if not np.isfinite(request.get_output_tensor(1).data):
            raise NonFiniteError(f'the network gave values that are not finite ({self.description})')
        return request.get_output_tensor(0).data.copy()

    def release(self) -> None:
        for request in self._requests.values():
            request.get_compiled_model().release_memory()

    def _request(self, dtype: np.dtype) -> ov.InferRequest:
        """Return what runs batches of a dtype; that of the other keeps no memory."""
        if dtype != self._dtype:
            self.release()
            self._dtype = dtype
        if dtype not in self._requests:
            self._requests[dtype] = self._compiled(dtype)
        return self._requests[dtype]

    def _compiled(self, dtype: np.dtype) -> ov.InferRequest:
        """Return the network compiled for pictures of uint8, or of float32 in 0..1."""
        pixels = op.parameter([-1, -1, -1, 3], ov.Type(dtype))
        unit = op.convert(pixels, ov.Type.f32)
        if dtype == np.uint8:
            unit = op.divide(unit, np.float32(255))
        rgb = _reversed_channels(op.transpose(unit, np.array([0, 3, 1, 2])))
        if isinstance(self._shape, RRDBNetShape):
            values, shuffle = _rrdbnet(rgb, self._shape, self._convolution), 1
        else:
            values, shuffle = _srvgg(rgb, self._shape, self._convolution, self._weights), self._shape.scale
        result = op.clamp(values, 0.0, 1.0)
        if dtype == np.uint8:
            result = op.convert(op.round(op.multiply(result, np.float32(255)), 'half_to_even'), ov.Type.u8)
        if shuffle > 1:  # after rounding, when there is a quarter as much to move
            result = op.depth_to_space(result, 'depth_first', shuffle)
        result = op.transpose(_reversed_channels(result), np.array([0, 2, 3, 1]))
        total = op.reduce_sum(values, np.array([0, 1, 2, 3]))  # finite if all values are
        model = ov.Model([result, total], [pixels], type(self._shape).__name__)
        return ov.Core().compile_model(model, 'CPU', self._settings).create_infer_request()

    def _convolution(self, x: ov.Node, name: str) -> ov.Node:
        y = op.convolution(x, self._weights[f'{name}.weight'], [1, 1], [1, 1], [1, 1], [1, 1])
        return op.add(y, self._weights[f'{name}.bias'].reshape(1, -1, 1, 1))


Convolution = Callable[[ov.Node, str], ov.Node]


def _reversed_channels(x: ov.Node) -> ov.Node:
    """Turn RGB into BGR or back."""
    return op.gather(x, np.array([2, 1, 0]), np.int64(_CHANNELS))


def _srvgg(x: ov.Node, shape: SRVGGNetCompactShape, convolution: Convolution,
           weights: dict[str, np.ndarray]) -> ov.Node:
    """Build SRVGGNetCompact up to its pixel-shuffle: the residual plus the input, which is added before it."""
    y = x
    for index in range(0, 2 * shape.num_conv + 2, 2):
        y = op.prelu(convolution(y, f'body.{index}'), weights[f'body.{index + 1}.weight'])
    y = convolution(y, f'body.{2 * shape.num_conv + 2}')
    repeated = np.arange(3).repeat(shape.scale ** 2)
    return op.add(y, op.gather(x, repeated, np.int64(_CHANNELS)))


def _rrdbnet(x: ov.Node, shape: RRDBNetShape, convolution: Convolution) -> ov.Node:
    """Build RRDBNet."""
    if shape.multiple > 1:
        x = op.space_to_depth(x, 'depth_first', shape.multiple)
    x = convolution(x, 'conv_first')
    y = x
    for block in range(shape.num_block):
        inner = y
        for dense in range(1, 4):
            inner = _dense_block(inner, f'body.{block}.rdb{dense}', convolution)
        y = op.add(y, op.multiply(inner, _RESIDUAL))
    x = op.add(x, convolution(y, 'conv_body'))
    for name in ('conv_up1', 'conv_up2'):
        x = _leaky(convolution(_doubled(x), name))
    return convolution(_leaky(convolution(x, 'conv_hr')), 'conv_last')


def _dense_block(x: ov.Node, name: str, convolution: Convolution) -> ov.Node:
    features = [x]
    for index in range(1, 5):
        joined = features[0] if index == 1 else op.concat(features, _CHANNELS)
        features.append(_leaky(convolution(joined, f'{name}.conv{index}')))
    return op.add(x, op.multiply(convolution(op.concat(features, _CHANNELS), f'{name}.conv5'), _RESIDUAL))


def _leaky(x: ov.Node) -> ov.Node:
    return op.prelu(x, _LEAK.reshape(1))


def _doubled(x: ov.Node) -> ov.Node:
    """Enlarge twice by nearest neighbour."""
    return op.interpolate(x, np.array([2, 2], np.float32), 'nearest', 'scales', axes=np.array([2, 3]),
                          coordinate_transformation_mode='asymmetric', nearest_mode='floor')
