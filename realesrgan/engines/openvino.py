"""The OpenVINO engine: the CPU, about as fast as its matrix units allow."""
from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING

import numpy as np

from ..archs.loaded import LoadedNetwork
from ..errors import EngineError, NonFiniteError, RealESRGANError
from .engine import explain_missing_layers

if TYPE_CHECKING:
    import openvino as ov

    from .devices import Device


class OpenVINOEngine:
    """Runs a network on the CPU; see `Engine` for the interface.

    Args:
        network: The network, which has layers.
        bfloat16: Compute in bfloat16, else in float32. What surrounds the convolutions is float32 either way.
        threads: The number of threads that it computes with; None is one per core.
    """

    name = 'openvino'

    def __init__(self, network: LoadedNetwork, *, bfloat16: bool, threads: int | None = None) -> None:
        layers = network.layers()
        assert layers is not None  # or it would have been refused
        self._layers = layers
        self._weights = network.arrays
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
        self._lock = threading.RLock()  # an InferRequest runs one batch at a time, and refuses others meanwhile
        self.scale = network.scale
        self.half = bfloat16
        self.description = f'openvino, cpu, {"bfloat16" if bfloat16 else "float32"}'

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        with self._lock:
            try:
                request = self._prepare_request(batch.dtype)
                request.infer([np.ascontiguousarray(batch)], share_inputs=True)
            except RuntimeError as error:
                if any(sign in str(error).lower() for sign in ('memory', 'alloc')):
                    raise MemoryError(f'{self.description}: {" ".join(str(error).split())}') from error
                raise
            if not np.isfinite(request.get_output_tensor(1).data):
                raise NonFiniteError(f'the network gave values that are not finite ({self.description})')
            # A copy, because the next batch is written into the same tensor.
            return request.get_output_tensor(0).data.copy()

    def release(self) -> None:
        with self._lock:
            for request in self._requests.values():
                request.get_compiled_model().release_memory()

    def _prepare_request(self, dtype: np.dtype) -> ov.InferRequest:
        """Return what runs batches of a dtype; the one for the other dtype keeps no memory."""
        if dtype != self._dtype:
            self.release()
            self._dtype = dtype
        if dtype not in self._requests:
            import openvino as ov

            from .openvino_graph import build_model
            model = build_model(self._layers, self._weights, dtype)
            self._requests[dtype] = ov.Core().compile_model(model, 'CPU', self._settings).create_infer_request()
        return self._requests[dtype]


def explain_refusal(network: LoadedNetwork) -> RealESRGANError | None:
    """Return why OpenVINO can't run a network; None if it can."""
    if importlib.util.find_spec('openvino') is None:
        return EngineError('the engine openvino is not installed: pip install openvino')
    return explain_missing_layers(network, OpenVINOEngine.name)


def make(network: LoadedNetwork, device: Device, precision: str,  # noqa: ARG001
         threads: int | None) -> OpenVINOEngine:
    """Return an engine; see `EngineModule.make`."""
    return OpenVINOEngine(network, bfloat16=precision == 'bfloat16', threads=threads)
