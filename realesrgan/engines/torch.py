"""The PyTorch engine: any device, float32 or half precision.

On a CUDA device three things go on at the same time, each in a stream of its own: the next picture is uploaded, one is
computed, and the last result is downloaded. Pictures are turned into RGB, resized and rounded there, so that only bytes
of the final size travel.
"""
from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..archs.loaded import LoadedNetwork
from ..archs.registry import ARCHITECTURES
from ..errors import BrokenDeviceError, NonFiniteError, flatten_message
from .devices import Device
from .engine import Engine
from .lanczos import TensorResizer

logger = logging.getLogger(__name__)

#: The kinds of devices that work on several pictures at once, and finish them.
PIPELINED = ('cuda',)
_IN_FLIGHT = 2
# Arrays up to this size travel by way of page-locked memory, from and into which a CUDA device copies faster, and
# while it computes. PyTorch keeps that memory for the next batch, which is too much for whole pictures.
_MOST_PINNED_BYTES = 128 << 20
# Of larger pictures, kernels take longer than it takes to launch them. Until a size has come so often, it may be the
# last of its kind.
_MOST_GRAPH_PIXELS, _GRAPH_FROM = 1 << 20, 3
_SECONDS_BETWEEN_REPORTS = 0.2
_MOST_VALUES = 2 ** 31 - 1  # of a tensor: some of PyTorch's kernels count in 32 bits

# PyTorch allows one capture in a process; at no such time may memory be given back or a device be waited for.
_capturing = threading.Lock()

#: What a run gives: N x H x W x 3 pixels, and for each of the N whether its values are finite.
Finished = tuple[torch.Tensor, torch.Tensor]


class TorchEngine(Engine):
    """Runs a network in PyTorch; see `Engine` for the interface.

    Args:
        network: Its module is moved to the device and precision.
        device: Where it runs.
        precision: float32 is taken instead of one that the network can't be computed in.
        threads: Those of PyTorch, in the whole process.
    """

    name = 'torch'

    def __init__(self, network: LoadedNetwork, device: Device, precision: str, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        if not network.traits.runs_in(precision):
            precision = 'float32'
        super().__init__(network, device, precision)
        self._device = torch.device(str(device))
        self._dtype = getattr(torch, precision)
        # The networks of this package are faster with channels last. Those of others may count on the usual order.
        is_ours = type(network.traits) in ARCHITECTURES
        self._layout = torch.channels_last if is_ours else torch.contiguous_format
        self._module = network.module.to(self._device, self._dtype).to(memory_format=self._layout).eval()
        self.finishes = device.type in PIPELINED
        self.in_flight = _IN_FLIGHT if self.finishes else 0
        self._resizers: dict[Any, TensorResizer] = {}
        self._gathering: _Work | None = None
        self._streams = _Streams(self._device) if device.type == 'cuda' else None
        self._pins = self._streams is not None
        self._graphs_allowed = is_ours and self._streams is not None
        self._graph: _Graph | None = None
        self._last: tuple[Any, int] = None, 0  # what was computed last, and how often in a row
        self._lock = threading.RLock()
        if self._streams is not None:
            with _capturing:
                torch.cuda.synchronize(self._device)  # until the weights are there, for other streams too
            if layers := network.layers():
                values = (channels * enlarged ** 2 for channels, enlarged in
                          zip(layers.channels, layers.enlarged, strict=True))
                self.most_pixels = _MOST_VALUES * layers.fold ** 2 // max(values)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return self.submit(batch)()

    def submit(self, batch: np.ndarray, size: tuple[int, int] | None = None,
               together: int = 1) -> Callable[[], np.ndarray]:
        with self._lock:
            work = self._gathering
            if work is None or not work.takes(batch, size):
                if work is not None:
                    work.begin()
                with self._translate_errors():
                    work = self._gathering = _Work(self, batch, size, together)
            number = work.add(batch)
        return lambda: work.wait(number)

    def release(self) -> None:
        with self._lock:
            self._drop_graph()
            self._last = None, 0  # or no graph would be made again
            self._resizers.clear()
            if self._device.type != 'cpu':
                with _capturing:
                    getattr(torch, self._device.type).empty_cache()

    def economise(self) -> bool:
        """After memory ran out: do without what takes more of it than need be; return whether there was anything."""
        could = self._graph is not None
        self._graphs_allowed = False
        self.release()
        return could

    # ---- to the device and back ----

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return memory of the host from, or to, which the device copies."""
        if self._pins and math.prod(shape) * dtype.itemsize <= _MOST_PINNED_BYTES:
            try:
                return torch.empty(shape, dtype=dtype, pin_memory=True)
            except RuntimeError as error:  # systems limit it
                self._pins = False
                logger.debug('no page-locked memory: %s', flatten_message(error))
        return torch.empty(shape, dtype=dtype)

    @torch.inference_mode()
    def start(self, host: torch.Tensor, dtype: np.dtype, size: tuple[int, int] | None) -> Callable[[], Finished]:
        """Start to compute pixels, N x H x W x 3; return what waits until they are finished, and on the host.

        Raises:
            MemoryError, BrokenDeviceError: as `Engine.submit`.
        """
        with self._translate_errors():
            streams = self._streams
            if streams is None:
                pixels, finite = self._run(host.to(self._device), dtype, size)
                at_once = pixels.cpu(), finite.cpu()
                return lambda: at_once
            with torch.cuda.stream(streams.upload):
                pixels = host.to(self._device, non_blocking=True)
            with torch.cuda.stream(streams.compute):
                streams.compute.wait_stream(streams.upload)
                pixels.record_stream(streams.compute)
                finished = self._compute(pixels, dtype, size)
            with torch.cuda.stream(streams.download):
                streams.download.wait_stream(streams.compute)
                copies = self._copy_back(finished[0]), self._copy_back(finished[1])
                done: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # keeps no core busy
                done.record(streams.download)

        def wait() -> Finished:
            with self._translate_errors():
                done.synchronize()
                return copies
        return wait

    def _copy_back(self, tensor: torch.Tensor) -> torch.Tensor:
        """Begin to copy a tensor to the host, in the current stream."""
        tensor.record_stream(torch.cuda.current_stream(self._device))
        return self.allocate(tuple(tensor.shape), tensor.dtype).copy_(tensor, non_blocking=True)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                raise MemoryError(f'{self.description}: {str(error).splitlines()[0]}') from error
            # PyTorch has no class of its own for what a GPU reports on all versions and backends.
            if self._device.type != 'cpu' and isinstance(error, RuntimeError) and not isinstance(
                    error, (NotImplementedError, RecursionError)):
                raise BrokenDeviceError(f'{self.description}: {flatten_message(error)}') from error
            raise

    @contextmanager
    def _report_layers(self) -> Iterator[None]:
        """Report the share of layers with weights that have run; only on a CPU, as a GPU runs them after the calls."""
        report, layers, ran, reported = self.on_progress, list[torch.nn.Module](), 0, 0.0
        if report is not None and self._device.type == 'cpu':
            layers = [module for module in self._module.modules() if list(module.parameters(recurse=False))]

        def count(*_: object) -> None:
            nonlocal ran, reported
            ran += 1
            now = time.monotonic()
            if report is not None and now - reported >= _SECONDS_BETWEEN_REPORTS:
                reported = now
                report(min(ran / len(layers), 1))  # a layer may run several times
        hooks = [layer.register_forward_hook(count) for layer in layers]
        try:
            yield
        finally:  # or the module could no longer be saved or compiled
            for hook in hooks:
                hook.remove()

    # ---- on the device ----

    def _compute(self, pixels: torch.Tensor, dtype: np.dtype, size: tuple[int, int] | None) -> Finished:
        """Return what `_run` does; on CUDA, from the third time on, by a graph that launches all kernels at once."""
        key = pixels.shape, dtype, size
        self._last = key, self._last[1] + 1 if self._last[0] == key else 1
        if self._last[1] == _GRAPH_FROM and self._graphs_allowed and pixels[..., 0].numel() <= _MOST_GRAPH_PIXELS:
            self._capture(key, pixels)
        graph = self._graph
        if graph is None or graph.key != key:
            return self._run(pixels, dtype, size)
        graph.pixels.copy_(pixels)
        graph.graph.replay()
        return graph.finished[0].clone(), graph.finished[1].clone()

    def _capture(self, key: Any, pixels: torch.Tensor) -> None:
        """Make a graph, in the stream in which all of it has run before; where that can't be done, do without."""
        self._drop_graph()
        streams = self._streams
        assert streams is not None
        try:
            own, graph = pixels.clone(), torch.cuda.CUDAGraph()
            with _capturing, torch.cuda.graph(graph, stream=streams.compute, capture_error_mode='thread_local'):
                finished = self._run(own, *key[1:])
        except Exception as error:
            self._graphs_allowed = False
            logger.debug('no CUDA graph: %s', flatten_message(error))
        else:
            self._graph = _Graph(key, graph, own, finished, self._resizers.get(key))

    def _drop_graph(self) -> None:
        if self._graph is not None and self._streams is not None:
            self._streams.compute.synchronize()  # where it may be running
            self._graph = None

    def _run(self, pixels: torch.Tensor, dtype: np.dtype, size: tuple[int, int] | None) -> Finished:
        """Compute pixels, N x H x W x 3, BGR, on the device; uint16 come, and go, as int16 of the same bits."""
        batch = pixels.flip(-1)
        if dtype == np.uint8:
            batch = batch.float().div_(255)
        elif dtype == np.uint16:
            batch = batch.to(torch.int32).bitwise_and_(0xFFFF).float().div_(65535)
        with self._report_layers():
            result = self._module(batch.to(self._dtype).permute(0, 3, 1, 2).contiguous(memory_format=self._layout))
        count, height, width = pixels.shape[:3]
        wanted = (count, 3, height * self.scale, width * self.scale)
        shape = getattr(result, 'shape', None)
        if shape != wanted:
            raise ValueError(f'for {width}x{height} pixels the network gave {shape or type(result)}, not {wanted}')
        # The sum is finite if all values are, and costs less than to look at each.
        finite = torch.isfinite(result.sum((1, 2, 3), dtype=torch.float32))
        levels = result.clamp_(0, 1).float()
        if dtype != np.float32:
            levels = levels.mul_(np.iinfo(dtype).max).round_()
            if size is not None and size != (wanted[3], wanted[2]):
                levels = self._find_resizer((pixels.shape, dtype, size))(levels)
            levels = levels.to(torch.uint8) if dtype == np.uint8 else levels.to(torch.int32).to(torch.int16)
        return levels.flip(1).permute(0, 2, 3, 1).contiguous(), finite

    def _find_resizer(self, key: Any) -> TensorResizer:
        if key not in self._resizers:
            self._resizers.clear()
            (_, height, width, _), dtype, size = key
            self._resizers[key] = TensorResizer((height * self.scale, width * self.scale), size[::-1],
                                                int(np.iinfo(dtype).max), self._device)
        return self._resizers[key]


class _Streams:
    """The streams of a CUDA device that an engine uses."""

    def __init__(self, device: torch.device) -> None:
        self.upload, self.compute, self.download = (
            torch.cuda.Stream(device) for _ in range(3))  # type: ignore[no-untyped-call]


class _Graph:
    """A run that was captured, with all tensors that it reads and writes."""

    def __init__(self, key: Any, graph: torch.cuda.CUDAGraph, pixels: torch.Tensor, finished: Finished,
                 resizer: TensorResizer | None) -> None:
        self.key, self.graph, self.pixels, self.finished, self._resizer = key, graph, pixels, finished, resizer


class _Work:
    """Batches of one kind that are computed at once, when all have come or the first result is waited for.

    Args:
        engine: Computes them.
        batch: One of them.
        size: Of their results.
        together: How many there may be.
    """

    def __init__(self, engine: TorchEngine, batch: np.ndarray, size: tuple[int, int] | None, together: int) -> None:
        self._engine = engine
        self._shape, self._dtype, self._size = batch.shape, batch.dtype, size
        self._together = together
        kind = torch.int16 if batch.dtype == np.uint16 else getattr(torch, str(batch.dtype))
        self._host = engine.allocate((together * len(batch), *batch.shape[1:]), kind)
        self._count = 0
        self._fetch: list[Callable[[], Finished]] = []  # for all batches at once, or each
        self._error: Exception | None = None

    def takes(self, batch: np.ndarray, size: tuple[int, int] | None) -> bool:
        """Return whether a batch may be added."""
        return (batch.shape, batch.dtype, size) == (self._shape, self._dtype, self._size)

    def add(self, batch: np.ndarray) -> int:
        """Copy a batch; return its number. The last one begins the work."""
        number, length = self._count, len(batch)
        self._host[number * length:(number + 1) * length].numpy().view(batch.dtype)[...] = batch
        self._count += 1
        if self._count == self._together:
            self.begin()
        return number

    def begin(self) -> None:
        """Start what has come. Where memory runs out, start one after the other; errors are kept for `wait`."""
        engine, length = self._engine, self._shape[0]
        engine._gathering = None
        rows = self._host[:self._count * length]
        del self._host  # so that its memory can be taken again
        try:
            try:
                self._fetch = [self._start(rows)]
            except MemoryError:
                if not engine.economise() and self._count == 1:
                    raise
            if not self._fetch:
                self._fetch = [self._start(rows[first:first + length]) for first in range(0, len(rows), length)]
        except MemoryError as error:
            self._error = MemoryError(*error.args)  # without the frames of the other, which hold what took the memory
        except Exception as error:
            self._error = error

    def _start(self, rows: torch.Tensor) -> Callable[[], Finished]:
        return self._engine.start(rows, self._dtype, self._size)

    def wait(self, number: int) -> np.ndarray:
        """Return the result of a batch; see `Engine.submit` for errors."""
        with self._engine._lock:
            if not self._fetch and self._error is None:
                self.begin()
        if self._error is not None:
            raise self._error
        length, is_one = self._shape[0], len(self._fetch) == 1
        pixels, finite = (tensor[number * length:(number + 1) * length] if is_one else tensor
                          for tensor in self._fetch[0 if is_one else number]())
        if not finite.all():
            raise NonFiniteError(f'the network gave values that are not finite ({self._engine.description})')
        return pixels.numpy().view(self._dtype)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch's means that a picture is too large for the device, or the host."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ('out of memory', "can't allocate memory", 'not enough memory', 'int_max elements',
                                  '32bitindexmath'))
