"""The winograd engine: the CPU, in float32, with a quarter of the multiplications (see `kernel/winograd.c`).

Python writes a program for pictures of one size, steps and the memory that they work in, which the kernel runs on all
cores.
"""
from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from ..archs.architecture import Convolution, Layers
from ..archs.loaded import LoadedNetwork
from ..errors import EngineError, NonFiniteError, RealESRGANError
from .cpu import count_cores, measure_l2_cache
from .devices import Device
from .engine import Engine
from .kernel.library import (
    CHUNK_GROUPS,
    CONVOLVE,
    GROUP,
    LOAD,
    MOST_BLOCK,
    MOST_GROUPS,
    STORE,
    Kernel,
    Program,
    Step,
    find_kernel,
)

_FREQUENCIES = 36
_MOST_RESIDUALS = 2  # of a step
_SECONDS_BETWEEN_LOOKS = 0.2
_SHARE_OF_L2 = 0.5  # the rest is for weights and for what is fetched ahead
_TILE = 4  # outputs of one, along a side
_BAND_TILES = 4  # rows of tiles in a band: few, so that threads seldom wait; more would read less twice
_BAND_ROWS = _BAND_TILES * _TILE
_FLOAT_BYTES = 4
_MOST_FLOATS = sys.maxsize // _FLOAT_BYTES // 2

# Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), F(4x4,3x3).
_G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
               [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]])
_KERNEL_TO_FREQUENCIES = np.kron(_G, _G)  # 36 x 9


class WinogradEngine(Engine):
    """Runs a network on the CPU; see `Engine` for the interface.

    Args:
        network, device, precision: As `Engine` has them.
        threads: The number of threads that it computes with; None is one per core. They end with each picture.
        kernel: The compiled kernel; None is the best for this processor.
    """

    name = 'winograd'

    def __init__(self, network: LoadedNetwork, device: Device, precision: str, threads: int | None = None, *,
                 kernel: Kernel | None = None) -> None:
        super().__init__(network, device, precision)
        layers = network.layers()
        assert layers is not None  # or it would have been refused
        self._layers = layers
        self._kernel = kernel = kernel or _get_kernel()
        self._threads = threads or count_cores()
        self._weights = _pack_parameters(network, layers, kernel.panel, self._threads)
        self._task_tiles = _choose_task_tiles(kernel)
        self._memory = allocate(0)  # of the planes of one program at a time
        self._scratch: list[np.ndarray] = []  # of each thread
        self._program: SizedProgram | None = None
        self._size = (0, 0)  # of the pictures that it is for
        self._lock = threading.RLock()
        self.description += f', {kernel.variant}'

    @classmethod
    def explain_refusal(cls, network: LoadedNetwork) -> RealESRGANError | None:
        layers = network.layers()
        assert layers is not None
        groups = [sum(_count_groups(layers.channels[feature]) for feature in layer.inputs)
                  for layer in layers.convolutions]
        if max(groups) > MOST_GROUPS or max(layers.shuffle, layers.fold) > MOST_BLOCK:
            return EngineError('the engine winograd does not run this network: it is too wide')
        # A step takes the step before it, for whose rows it waits, to be of its input's size (see `winograd.c`).
        sizes = [layers.enlarged[layer.inputs[0]] for layer in layers.convolutions]
        if sizes != layers.enlarged[:-1] or any(
                len(layer.residuals) > _MOST_RESIDUALS for layer in layers.convolutions):
            return EngineError('the engine winograd does not run this network: it has more than two residuals at a '
                               'place, or branches of different sizes')
        try:
            _get_kernel()
        except EngineError as error:
            return error
        return None

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
            self._program, self._scratch, self._memory = None, [], allocate(0)

    def _prepare(self, height: int, width: int) -> SizedProgram:
        """Return the program for pictures of a size."""
        if self._program is None or self._size != (height, width):
            self._program = None
            planes, floats = _lay_out(self._layers, height // self._layers.fold, width // self._layers.fold)
            self._clear_memory(floats)
            self._program = SizedProgram(self._layers, self._weights, planes, self._memory, self._task_tiles)
            self._size = height, width
        if not self._scratch:
            most = max(map(_count_groups, self._layers.channels))
            self._scratch = [allocate(self._kernel.count_scratch_floats(self._task_tiles, most))
                             for _ in range(self._threads)]
        return self._program

    def _clear_memory(self, count: int) -> None:
        """Make the memory hold so many floats, all of them zeros. It grows as needed, and is kept until released.

        Raises:
            MemoryError: there is not enough.
        """
        if count > _MOST_FLOATS:  # numpy would call that a wrong value
            raise MemoryError(f'a network would need {count * _FLOAT_BYTES / 2 ** 30:.0f} GiB')
        if count > self._memory.size:
            self._memory = allocate(0)  # before the larger one is there
            self._memory = allocate(count)
        else:
            self._memory[:count] = 0

    def _run(self, program: SizedProgram, pixels: np.ndarray, result: np.ndarray) -> None:
        """Run a program on all threads. An interrupt, such as Ctrl-C, ends them after their tasks of milliseconds."""
        program.prepare(pixels, result)
        # A pool of threads that wait for the next picture would save a tenth of a millisecond. But its threads would be
        # missing after a fork, and end before Python does.
        memory, scratch = self._memory, self._scratch
        threads = [_KernelThread(self._kernel, program, floats, pixels, result) for floats in scratch]
        # Until all threads have ended, this is theirs alone, whatever interrupts us, and however often.
        self._program, self._memory, self._scratch = None, allocate(0), []
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.wait()
        except BaseException:
            program.stop()
            raise
        self._program, self._memory, self._scratch = program, memory, scratch


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
            pass  # Windows reports Ctrl-C only here, and so does Linux if it came just before the wait
        if self._error is not None:
            raise self._error


@functools.cache
def _get_kernel() -> Kernel:
    """Return the kernel of this process, which is loaded once."""
    return find_kernel()


def _choose_task_tiles(kernel: Kernel) -> int:
    """Return how many tiles a thread works on at a time: as many as its cache holds with 64 channels in and out."""
    tile_bytes = 4 * _FREQUENCIES * 2 * 64
    blocks = int(measure_l2_cache() * _SHARE_OF_L2) // (tile_bytes * kernel.block)
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


# ---- programs ----

@dataclass(frozen=True)
class Planes:
    """Where the planes of a feature lie; see `winograd.c`.

    Attributes:
        start: Number of their first float in the memory.
        height, width: Of the picture in them.
        groups: How many planes there are.
    """

    start: int
    height: int
    width: int
    groups: int

    @property
    def row(self) -> int:
        """Floats from one row to the next."""
        return _extend(self.width) * GROUP

    @property
    def size(self) -> int:
        """Floats from one plane to the next."""
        return _extend(self.height) * self.row


class SizedProgram:
    """A network's steps for pictures of one size.

    Args:
        layers: The network.
        weights: The parameters of its convolutions; see `_pack_parameters`.
        planes: Where each feature lies in the memory; see `_lay_out`.
        memory: Zeros. Only the program that was made last may run in them.
        task_tiles: Tiles that a thread works on at a time, a multiple of the kernel's.

    Attributes:
        pointer: What the kernel runs.
        result_shape: Of the result: height, width, 3.
    """

    def __init__(self, layers: Layers, weights: Sequence[Sequence[np.ndarray]], planes: Sequence[Planes],
                 memory: np.ndarray, task_tiles: int) -> None:
        self._owners = weights, memory  # the steps have the addresses of what these hold
        picture, *outputs = planes
        last, address = outputs[-1], memory.ctypes.data

        def locate(feature: Planes, group: int = 0) -> int:
            """Return the address of pixel (0, 0) of a plane, inside its border of zeros."""
            return address + _FLOAT_BYTES * (feature.start + feature.row + GROUP + feature.size * group)

        steps = [Step(kind=LOAD, height=picture.height, width=picture.width, out=locate(picture), out_row=picture.row,
                      out_plane=picture.size, block=layers.fold, **_cut(picture))]
        for layer, (weight, bias, slope), output in zip(layers.convolutions, weights, outputs, strict=True):
            inputs = [planes[feature] for feature in layer.inputs]
            groups = [locate(feature, group) for feature in inputs for group in range(feature.groups)]
            step = Step(kind=CONVOLVE, height=output.height, width=output.width, groups_in=len(groups),
                        groups_out=output.groups, doubled=int(layer.doubles), task_tiles=task_tiles,
                        in_row=inputs[0].row, out=locate(output), out_row=output.row, out_plane=output.size,
                        weights=weight.ctypes.data, bias=bias.ctypes.data, slope=slope.ctypes.data,
                        **_cut(output, task_tiles))
            step.inputs[:len(groups)] = groups
            for index, (feature, share) in enumerate(layer.residuals):
                step.residual[index], step.residual_scale[index] = locate(planes[feature]), share
            steps.append(step)
        store = Step(kind=STORE, height=last.height, width=last.width, groups_in=last.groups, in_row=last.row,
                     block=layers.shuffle, **_cut(last))
        store.inputs[:last.groups] = [locate(last, group) for group in range(last.groups)]
        if layers.adds_picture:
            store.base, store.base_row = locate(picture), picture.row
        steps.append(store)

        self._done = np.zeros(sum(step.bands for step in steps), np.int32)
        tickets = bands = 0
        for step in steps:
            step.first_ticket, step.done = tickets, self._done.ctypes.data + 4 * bands
            tickets += step.bands * step.band_tasks
            bands += step.bands
        self._steps = (Step * len(steps))(*steps)
        self._program = Program(steps=self._steps, tickets=tickets, yield_address=_YIELD_ADDRESS)
        self.pointer = ctypes.pointer(self._program)
        self.result_shape = last.height * layers.shuffle, last.width * layers.shuffle, 3

    def prepare(self, pixels: np.ndarray, result: np.ndarray) -> None:
        """Make the next run read `pixels` and write `result`, which the caller must keep.

        Both are contiguous and of one dtype, uint8 or float32.
        """
        self._done.fill(0)
        self._program.next_ticket = self._program.not_finite = self._program.stop = 0
        for step, array in ((self._steps[0], pixels), (self._steps[len(self._steps) - 1], result)):
            step.pixels, step.is_float = array.ctypes.data, int(array.dtype == np.float32)

    def stop(self) -> None:
        """Make all threads that run it return after their tasks."""
        self._program.stop = 1

    @property
    def is_finite(self) -> bool:
        """Whether all values of the last run's result were finite, before they were clamped."""
        return not self._program.not_finite


def _lay_out(layers: Layers, height: int, width: int) -> tuple[list[Planes], int]:
    """Return where the planes of each feature lie, and how many floats they take together."""
    buffers: dict[int, Planes] = {}
    end = 0
    numbers = layers.assign_buffers()
    for number, channels, enlarged in zip(numbers, layers.channels, layers.enlarged, strict=True):
        if number not in buffers:
            buffers[number] = planes = Planes(end, height * enlarged, width * enlarged, _count_groups(channels))
            end += planes.groups * planes.size
    return [buffers[number] for number in numbers], end


def _cut(planes: Planes, task_tiles: int = 0) -> dict[str, int]:
    """Return the fields of a step that say how its rows are cut into bands, and those into tasks."""
    rows = min(_BAND_TILES, -(-planes.height // _TILE))
    tasks = -(-rows * -(-planes.width // _TILE) // task_tiles) if task_tiles else 1
    return {'band_rows': _BAND_ROWS, 'bands': -(-planes.height // _BAND_ROWS), 'band_tasks': tasks}


def _extend(side: int) -> int:
    """Return a side with its border and extended to whole tiles."""
    return -(-side // _TILE) * _TILE + 2


# ---- memory and weights, as the kernel reads them ----

def allocate(floats: int) -> np.ndarray:
    """Return zeros that begin with a cache line, as the kernel's vectors must."""
    memory = np.zeros(floats + GROUP, np.float32)  # not touched, so none is used yet
    skipped = -memory.ctypes.data % (4 * GROUP) // 4
    return memory[skipped:skipped + floats]


def _count_groups(channels: int) -> int:
    """Return how many groups hold so many channels."""
    return -(-channels // GROUP)


def _pack_parameters(network: LoadedNetwork, layers: Layers, panel: int,
                     threads: int) -> list[tuple[np.ndarray, ...]]:
    """Return the weights, biases and slopes of each convolution, for a kernel that computes `panel` channels at a time.

    Biases and slopes are filled up with zeros to whole panels.
    """
    sizes = [_extend_channels(layer.channels, panel) * _FREQUENCIES * GROUP * sum(
        _count_groups(layers.channels[feature]) for feature in layer.inputs) for layer in layers.convolutions]
    # Together, because the system gives its huge pages only to large memory.
    memory = allocate(sum(sizes))

    def pack(layer: Convolution, packed: np.ndarray) -> tuple[np.ndarray, ...]:
        pack_weights(network.arrays[f'{layer.name}.weight'], [layers.channels[feature] for feature in layer.inputs],
                     panel, packed)
        vectors = [allocate(_extend_channels(layer.channels, panel)) for _ in range(2)]
        slope = network.arrays[layer.slope] if isinstance(layer.slope, str) else layer.slope
        vectors[0][:layer.channels], vectors[1][:layer.channels] = network.arrays[f'{layer.name}.bias'], slope
        return packed, *vectors

    pieces = np.split(memory, list(accumulate(sizes))[:-1])
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(pack, layers.convolutions, pieces))


def _extend_channels(channels: int, panel: int) -> int:
    """Return a number of output channels, filled up to whole panels."""
    return -(-channels // panel) * panel


def pack_weights(weight: np.ndarray, inputs: Sequence[int], panel: int, packed: np.ndarray) -> None:
    """Transform the weights of a convolution for F(4x4,3x3), in the order in which the kernel reads them.

    Args:
        weight: out x in x 3 x 3.
        inputs: How the input channels are divided among buffers, each of which is filled up to whole groups.
        panel: Output channels that the kernel computes at a time.
        packed: Gets them, float32: chunk after chunk of input channels, each panel x 36 x channel in x channel out.
    """
    channels_out = weight.shape[0]
    padded = np.zeros((_extend_channels(channels_out, panel), sum(map(_count_groups, inputs)) * GROUP, 9), np.float32)
    source = target = 0
    for channels in inputs:
        padded[:channels_out, target:target + channels] = weight[:, source:source + channels].reshape(
            channels_out, channels, 9)
        source += channels
        target += _count_groups(channels) * GROUP
    # Turned before they are transformed, when they are a quarter as many: panel x 9 x channel in x channel out.
    by_panel = padded.reshape(-1, panel, target, 9).transpose(0, 3, 2, 1).astype(np.float64, order='C')
    chunks = -(-target // (CHUNK_GROUPS * GROUP))
    depth = -(-target // (chunks * GROUP)) * GROUP
    end = 0
    with np.errstate(all='ignore'):  # weights that are not finite give results that are not, which is an error then
        for start in range(0, target, depth):
            chunk = by_panel[:, :, start:start + depth]
            size = _FREQUENCIES * chunk.shape[2] * panel
            for kernels in chunk:
                transformed = packed[end:end + size].reshape(_FREQUENCIES, -1, panel)
                # A group at a time: so the products in float64 stay in the cache, and numpy starts no threads for them.
                for group in range(0, chunk.shape[2], GROUP):
                    some = kernels[:, group:group + GROUP]
                    transformed[:, group:group + GROUP] = (_KERNEL_TO_FREQUENCIES @ some.reshape(9, -1)).reshape(
                        _FREQUENCIES, GROUP, panel)
                end += size
