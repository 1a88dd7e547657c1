"""The winograd engine: the CPU, in float32, with a quarter of the multiplications (see `kernel/winograd.c`)."""
from __future__ import annotations

import ctypes
import functools
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np

from ..archs.loaded import LoadedNetwork
from ..errors import EngineError, NonFiniteError, RealESRGANError
from .cpu import count_cores, measure_l2_cache
from .engine import explain_missing_layers
from .kernel.library import MOST_BLOCK, MOST_GROUPS
from .kernel.packing import PackedConvolution, allocate, count_groups
from .winograd_program import Buffer, SizedProgram

if TYPE_CHECKING:
    from .devices import Device
    from .kernel.library import Kernel

_FREQUENCIES = 36
_MOST_RESIDUALS = 2  # of a step
_SECONDS_BETWEEN_LOOKS = 0.2
_SHARE_OF_L2 = 0.5  # the rest is for weights and for what is fetched ahead


class WinogradEngine:
    """Runs a network on the CPU; see `Engine` for the interface.

    Args:
        network: The network, which has layers.
        kernel: What computes.
        threads: The number of threads that it computes with; None is one per core. They end with each picture.
        l2_bytes: The cache that a thread's work is sized for; None is the processor's own.
    """

    name = 'winograd'
    half = False

    def __init__(self, network: LoadedNetwork, kernel: Kernel, *, threads: int | None = None,
                 l2_bytes: int | None = None) -> None:
        layers = network.layers()
        assert layers is not None  # or it would have been refused
        self._layers = layers
        self._kernel = kernel
        self._packed = [PackedConvolution.pack(
            network.arrays[f'{layer.name}.weight'], network.arrays[f'{layer.name}.bias'],
            network.arrays[layer.slope] if isinstance(layer.slope, str) else layer.slope,
            [layers.channels[feature] for feature in layer.inputs], kernel.panel) for layer in layers.convolutions]
        self._threads = threads or count_cores()
        self._task_tiles = _choose_task_tiles(kernel, l2_bytes or measure_l2_cache())
        self._buffer = Buffer()
        self._scratch: list[np.ndarray] = []  # of each thread
        self._program: SizedProgram | None = None
        self._size = (0, 0)  # of the pictures that it is for
        self._lock = threading.RLock()
        self.scale = network.scale
        self.description = f'winograd, cpu, float32, {kernel.variant}'

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        if batch.dtype not in (np.uint8, np.float32):
            raise TypeError(f'a batch of {batch.dtype}; allowed are uint8 and float32')
        with self._lock:
            program = self._prepare(*batch.shape[1:3])
            results = np.empty((len(batch), *program.result_shape), batch.dtype)
            for picture, result in zip(batch, results, strict=True):
                self._run(program, np.ascontiguousarray(picture), result)
                if not program.is_finite:
                    raise NonFiniteError(f'the network gave values that are not finite ({self.description})')
        return results

    def release(self) -> None:
        with self._lock:
            self._program = None
            self._scratch = []
            self._buffer.release()

    def _prepare(self, height: int, width: int) -> SizedProgram:
        """Return the program for pictures of a size."""
        if self._program is None or self._size != (height, width):
            self._program = None
            fold = self._layers.fold
            self._program = SizedProgram(self._layers, self._packed, height // fold, width // fold, self._buffer,
                                         self._task_tiles, _YIELD_ADDRESS)
            self._size = height, width
        if not self._scratch:
            most = max(map(count_groups, self._layers.channels))
            self._scratch = [allocate(self._kernel.count_scratch_floats(self._task_tiles, most))
                             for _ in range(self._threads)]
        return self._program

    def _run(self, program: SizedProgram, pixels: np.ndarray, result: np.ndarray) -> None:
        """Run a program on all threads. An interrupt, such as Ctrl-C, ends them after their tasks of milliseconds."""
        program.prepare(pixels, result)
        # A pool of threads that wait for the next picture would save a tenth of a millisecond. But its threads would be
        # missing after a fork, and end before Python does.
        buffer, scratch = self._buffer, self._scratch
        threads = [_KernelThread(self._kernel, program, memory, pixels, result) for memory in scratch]
        # Until all threads have ended, this is theirs alone, whatever interrupts us, and however often.
        self._program, self._buffer, self._scratch = None, Buffer(), []
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.wait()
        except BaseException:
            program.stop()
            raise
        self._program, self._buffer, self._scratch = program, buffer, scratch


class _KernelThread(threading.Thread):
    """Works on a program, and keeps all memory that it works in.

    `threading.Thread.join` would not do: where an interrupt ends it, Python 3.11 takes the thread for ended.
    """

    def __init__(self, kernel: Kernel, program: SizedProgram, scratch: np.ndarray, *others: np.ndarray) -> None:
        super().__init__(name='winograd', daemon=True)
        self._kernel = kernel
        self._program = program
        self._scratch = scratch
        self._others = others
        self._ended = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._kernel.run(self._program.pointer, self._scratch.ctypes.data)
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def wait(self) -> None:
        """Wait for its end, and raise what it raised."""
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            pass  # Windows tells of Ctrl-C only here, and so does Linux if it came just before the wait
        if self._error is not None:
            raise self._error


def explain_refusal(network: LoadedNetwork) -> RealESRGANError | None:
    """Return why this engine can't run a network on this machine; None if it can."""
    layers = network.layers()
    if layers is None:
        return explain_missing_layers(network, WinogradEngine.name)
    groups = [sum(count_groups(layers.channels[feature]) for feature in layer.inputs) for layer in layers.convolutions]
    if max(groups) > MOST_GROUPS or max(layers.shuffle, layers.fold) > MOST_BLOCK:
        return EngineError('the engine winograd does not run this network: it is too wide')
    # A step takes the step before it, for whose rows it waits, to be of its input's size (see `winograd.c`).
    sizes = [layers.enlarged[layer.inputs[0]] for layer in layers.convolutions]
    if sizes != layers.enlarged[:-1] or any(len(layer.residuals) > _MOST_RESIDUALS for layer in layers.convolutions):
        return EngineError('the engine winograd does not run this network: it has more than two residuals at a place, '
                           'or branches of different sizes')
    try:
        _get_kernel()
    except EngineError as error:
        return error
    return None


def make(network: LoadedNetwork, device: Device, precision: str, threads: int | None) -> WinogradEngine:  # noqa: ARG001
    """Return an engine; see `EngineModule.make`."""
    return WinogradEngine(network, _get_kernel(), threads=threads)


@functools.cache
def _get_kernel() -> Kernel:
    """Return the kernel of this process, which is loaded once."""
    from .kernel.library import find_kernel
    return find_kernel()


def _choose_task_tiles(kernel: Kernel, l2_bytes: int) -> int:
    """Return how many tiles a thread works on at a time: as many as its cache holds with 64 channels in and out."""
    tile_bytes = 4 * _FREQUENCIES * 2 * 64
    blocks = int(l2_bytes * _SHARE_OF_L2) // (tile_bytes * kernel.block)
    return kernel.block * max(blocks, 1)


def _find_yield() -> int:
    """Return the address of the system's function that gives the processor to another thread or process."""
    if sys.platform == 'win32':
        function = ctypes.WinDLL('kernel32').SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


_YIELD_ADDRESS = _find_yield()
