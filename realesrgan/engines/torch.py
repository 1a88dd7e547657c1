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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

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
_IN_FLIGHT, _TOGETHER = 2, 4
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
#: Of batches that are computed alike: their shape, their dtype, and the size of their results.
Kind = tuple[Sequence[int], np.dtype, tuple[int, int] | None]


@dataclass
class _Gathered:
    """Batches of one kind, which are computed at once.

    Attributes:
        kind: Theirs.
        host: Memory for all that there may be; None once they have begun.
        count: How many there are.
        waits: What waits for the results of all, or of each.
        error: Why they could not begin.
    """

    kind: Kind
    host: torch.Tensor | None
    count: int = 0
    waits: Sequence[Callable[[], Finished]] = ()
    error: Exception | None = None


class _Graph(NamedTuple):
    """A run that was captured, with all tensors that it reads and writes."""

    kind: Kind
    graph: torch.cuda.CUDAGraph
    pixels: torch.Tensor
    finished: Finished
    resizer: TensorResizer | None


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
        if device.type in PIPELINED:
            self.in_flight, self.together = _IN_FLIGHT, _TOGETHER
        self._resizers: dict[Kind, TensorResizer] = {}
        self._gathering: _Gathered | None = None
        # For uploads, for computing, and for downloads.
        self._streams: Sequence[torch.cuda.Stream] = ()
        self._graph: _Graph | None = None
        self._last: tuple[Kind | None, int] = None, 0  # what was computed last, and how often in a row
        self._lock = threading.RLock()
        if device.type == 'cuda':
            self._streams = [torch.cuda.Stream(self._device) for _ in range(3)]  # type: ignore[no-untyped-call]
        self._pins = bool(self._streams)
        self._graphs_allowed = is_ours and bool(self._streams)
        if self._streams:
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
        kind, length = (batch.shape, batch.dtype, size), len(batch)
        with self._lock:
            work = self._gathering
            if work is not None and work.kind != kind:
                self._begin(work)
                work = None
            if work is None:
                in_torch = torch.int16 if batch.dtype == np.uint16 else getattr(torch, str(batch.dtype))
                with self._translate_errors():
                    host = self._allocate((together * length, *batch.shape[1:]), in_torch)
                work = self._gathering = _Gathered(kind, host)
            assert work.host is not None
            first = work.count * length
            work.host[first:first + length].numpy().view(batch.dtype)[...] = batch
            work.count += 1
            if first + length == len(work.host):
                self._begin(work)

        def wait() -> np.ndarray:
            with self._lock:
                if work.host is not None:
                    self._begin(work)
            if work.error is not None:
                raise work.error
            at_once = len(work.waits) == 1
            pixels, finite = (tensor[first:first + length] if at_once else tensor
                              for tensor in work.waits[0 if at_once else first // length]())
            if not finite.all():
                raise NonFiniteError(f'the network gave values that are not finite ({self.description})')
            return pixels.numpy().view(batch.dtype)
        return wait

    def release(self) -> None:
        with self._lock:
            self._drop_graph()
            self._last = None, 0  # or no graph would be made again
            self._resizers.clear()
            if self._device.type != 'cpu':
                with _capturing:
                    getattr(torch, self._device.type).empty_cache()

    # ---- to the device and back ----

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return memory of the host from, or to, which the device copies."""
        if self._pins and math.prod(shape) * dtype.itemsize <= _MOST_PINNED_BYTES:
            try:
                return torch.empty(shape, dtype=dtype, pin_memory=True)
            except RuntimeError as error:  # systems limit it
                self._pins = False
                logger.debug('no page-locked memory: %s', flatten_message(error))
        return torch.empty(shape, dtype=dtype)

    def _begin(self, work: _Gathered) -> None:
        """Start all batches at once; where memory runs out, one after the other. Errors are kept."""
        assert work.host is not None
        (length, *_), dtype, size = work.kind
        rows = work.host[:work.count * length]
        self._gathering = work.host = None  # so that its memory can be taken again
        try:
            try:
                work.waits = [self._start(rows, dtype, size)]
            except MemoryError:
                had_graph, self._graphs_allowed = self._graph is not None, False  # it takes more than need be
                self.release()
                if not had_graph and work.count == 1:
                    raise
            if not work.waits:
                work.waits = [self._start(rows[first:first + length], dtype, size)
                              for first in range(0, len(rows), length)]
        except MemoryError as error:
            work.error = MemoryError(*error.args)  # without the frames of the other, which hold what took the memory
        except Exception as error:
            work.error = error

    @torch.inference_mode()
    def _start(self, host: torch.Tensor, dtype: np.dtype, size: tuple[int, int] | None) -> Callable[[], Finished]:
        """Start to compute pixels, N x H x W x 3; return what waits until they are finished, and on the host.

        Raises:
            MemoryError, BrokenDeviceError: as `Engine.submit`.
        """
        with self._translate_errors():
            if not self._streams:
                pixels, finite = self._run(host.to(self._device), dtype, size)
                at_once = pixels.cpu(), finite.cpu()
                return lambda: at_once
            upload, compute, download = self._streams
            with torch.cuda.stream(upload):
                pixels = host.to(self._device, non_blocking=True)
            with torch.cuda.stream(compute):
                compute.wait_stream(upload)
                pixels.record_stream(compute)
                finished = self._compute(pixels, dtype, size)
            with torch.cuda.stream(download):
                download.wait_stream(compute)
                copies = []
                for tensor in finished:
                    tensor.record_stream(download)
                    memory = self._allocate(tuple(tensor.shape), tensor.dtype)
                    copies.append(memory.copy_(tensor, non_blocking=True))
                done: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # keeps no core busy
                done.record(download)

        def wait() -> Finished:
            with self._translate_errors():
                done.synchronize()
                return copies[0], copies[1]
        return wait

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
        kind = pixels.shape, dtype, size
        self._last = kind, self._last[1] + 1 if self._last[0] == kind else 1
        if self._last[1] == _GRAPH_FROM and self._graphs_allowed and pixels[..., 0].numel() <= _MOST_GRAPH_PIXELS:
            self._capture(kind, pixels)
        graph = self._graph
        if graph is None or graph.kind != kind:
            return self._run(pixels, dtype, size)
        graph.pixels.copy_(pixels)
        graph.graph.replay()
        return graph.finished[0].clone(), graph.finished[1].clone()

    def _capture(self, kind: Kind, pixels: torch.Tensor) -> None:
        """Make a graph, in the stream in which all of it has run before; where that can't be done, do without."""
        self._drop_graph()
        try:
            own, graph = pixels.clone(), torch.cuda.CUDAGraph()
            with _capturing, torch.cuda.graph(graph, stream=self._streams[1], capture_error_mode='thread_local'):
                finished = self._run(own, *kind[1:])
        except Exception as error:
            self._graphs_allowed = False
            logger.debug('no CUDA graph: %s', flatten_message(error))
        else:
            self._graph = _Graph(kind, graph, own, finished, self._resizers.get(kind))

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._streams[1].synchronize()  # where it may be running
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
                kind = pixels.shape, dtype, size
                if kind not in self._resizers:
                    self._resizers = {kind: TensorResizer(wanted[2:], size[::-1], np.iinfo(dtype).max, self._device)}
                levels = self._resizers[kind](levels)
            levels = levels.to(torch.uint8) if dtype == np.uint8 else levels.to(torch.int32).to(torch.int16)
        return levels.flip(1).permute(0, 2, 3, 1).contiguous(), finite


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch's means that a picture is too large for the device, or the host."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ('out of memory', "can't allocate memory", 'not enough memory', 'int_max elements',
                                  '32bitindexmath'))
