"""The OpenVINO engine: the CPU, about as fast as its matrix units allow.

It builds a network as a graph from the network's layers, because tracing the PyTorch module would take ten seconds for
a large one. The graph takes pixels as they lie in a picture: conversion, channel order, clamping and rounding are part
of it.
"""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

import numpy as np
import openvino as ov
from openvino import opset13 as op

from ..archs.architecture import Layers
from ..archs.loaded import LoadedNetwork
from ..errors import NonFiniteError, flatten_message
from .devices import Device
from .engine import Engine, upscale_in_float

_CHANNELS = 1  # the axis, in NCHW
_MILLISECONDS_BETWEEN_LOOKS = 200

Weights = Mapping[str, np.ndarray]


class OpenVINOEngine(Engine):
    """Runs a network on the CPU; see `Engine` for the interface. What surrounds the convolutions is always float32."""

    name = 'openvino'

    def __init__(self, network: LoadedNetwork, device: Device, precision: str, threads: int | None = None) -> None:
        super().__init__(network, device, precision)
        layers = network.layers()
        assert layers is not None  # or it would have been refused
        self._layers = layers
        self._weights = network.arrays
        self._settings = {
            'INFERENCE_PRECISION_HINT': 'bf16' if self.half else 'f32',
            'PERFORMANCE_HINT': 'LATENCY',
            'NUM_STREAMS': 1,
        }
        if threads is not None:
            self._settings['INFERENCE_NUM_THREADS'] = threads
            self._settings['ENABLE_CPU_PINNING'] = False  # or several processes would share the same cores
        self._requests: dict[np.dtype, ov.InferRequest] = {}
        self._dtype: np.dtype | None = None  # of the last batch
        self._lock = threading.RLock()  # an InferRequest runs one batch at a time, and refuses others meanwhile

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        if batch.dtype == np.uint16:
            return upscale_in_float(self, batch)
        with self._lock:
            try:
                request = self._prepare_request(batch.dtype)
                self._infer(request, np.ascontiguousarray(batch))
            except RuntimeError as error:
                if any(sign in str(error).lower() for sign in ('memory', 'alloc')):
                    raise MemoryError(f'{self.description}: {flatten_message(error)}') from error
                raise
            if not np.isfinite(request.get_output_tensor(1).data):
                raise NonFiniteError(f'the network gave values that are not finite ({self.description})')
            # A copy, because the next batch is written into the same tensor.
            return request.get_output_tensor(0).data.copy()

    def release(self) -> None:
        with self._lock:
            for request in self._requests.values():
                request.get_compiled_model().release_memory()

    def _infer(self, request: ov.InferRequest, pixels: np.ndarray) -> None:
        """Run a request. Unlike `InferRequest.infer` it ends at Ctrl-C, after the layer that it is at."""
        request.start_async([pixels], share_inputs=True)
        try:
            while not request.wait_for(_MILLISECONDS_BETWEEN_LOOKS):
                pass
        except BaseException:
            request.cancel()
            with contextlib.suppress(RuntimeError):  # which says that it was cancelled
                request.wait()
            self._requests.clear()  # because it may keep that picture's size (OpenVINO 2026.4)
            raise

    def _prepare_request(self, dtype: np.dtype) -> ov.InferRequest:
        """Return the request that runs batches of a dtype; the one for the other dtype keeps no memory."""
        if dtype != self._dtype:
            self.release()
            self._dtype = dtype
        if dtype not in self._requests:
            model = build_model(self._layers, self._weights, dtype)
            self._requests[dtype] = ov.Core().compile_model(model, 'CPU', self._settings).create_infer_request()
        return self._requests[dtype]


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
