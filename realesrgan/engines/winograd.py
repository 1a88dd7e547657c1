"""The winograd engine: the CPU, with a quarter of the multiplications, in float32 or int16 (see `kernel/winograd.c`).

Python writes a program for pictures of one size, steps and the memory that they work in, which the kernel runs on all
cores.
"""
from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate, pairwise

import numpy as np

from ..archs.architecture import Convolution, Layers
from ..archs.loaded import LoadedNetwork
from ..errors import EngineError, NonFiniteError, RealESRGANError
from ..pipeline import run_in_thread
from .cpu import count_cores, measure_l2_cache
from .devices import Device
from .engine import Engine, upscale_in_float
from .kernel.library import (
    CHUNK_GROUPS,
    CONVOLVE,
    LOAD,
    MOST_BLOCK,
    MOST_GROUPS,
    MOST_RUNS,
    STORE,
    Kernel,
    Program,
    Segment,
    Step,
    Wait,
    get_kernel,
)
from .rolling import BAND, GROUP, LEAST_TILES, TILE, Plane, RollingNetwork, Schedule, ScheduledStep

_FREQUENCIES = 36
_MOST_RESIDUALS = 2  # of a step
_SECONDS_BETWEEN_LOOKS = 0.2
_SHARE_OF_L2 = 0.5  # the rest is for weights and for what is fetched ahead
_TASKS_OF_A_THREAD = 2  # in a job, at least, or threads would wait for each other
_FLOAT_BYTES = 4
_MOST_FLOATS = sys.maxsize // _FLOAT_BYTES // 2

# Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016), F(4x4,3x3).
_G = np.array([[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
               [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]])
_KERNEL_TO_FREQUENCIES = np.kron(_G, _G)  # 36 x 9


class WinogradEngine(Engine):
    """Runs a network on the CPU; see `Engine` for the interface.

    Args:
        network, device, precision: As `Engine` has them. A kernel without int16 takes float32 instead.
        threads: The number of threads that it computes with; None is one per core. They end with each picture.
        kernel: The compiled kernel; None is the best for this processor.
        least_tiles: How many tiles a step computes in a wave, at least; None is what suits the threads and caches.
    """

    name = 'winograd'

    def __init__(self, network: LoadedNetwork, device: Device, precision: str, threads: int | None = None, *,
                 kernel: Kernel | None = None, least_tiles: int | None = None) -> None:
        kernel = kernel or get_kernel()
        super().__init__(network, device, precision if kernel.has_ints else 'float32')
        layers = network.layers()
        assert layers is not None  # or it would have been refused
        self._layers = layers
        self._rolling: dict[bool, RollingNetwork] = {}  # with V kept or without
        self._keeps = self.half
        self._kernel = kernel
        self._threads = threads or count_cores()
        arrays = _balance_channels(network.arrays, layers) if self.half else network.arrays
        self._weights = _pack_parameters(arrays, layers, kernel, self._threads, ints=self.half)
        self._task_tiles = _choose_task_tiles(kernel)
        self._least_tiles = least_tiles or max(LEAST_TILES, _TASKS_OF_A_THREAD * self._threads * self._task_tiles)
        most_groups = max(map(_count_groups, layers.channels))
        self._scratch_floats = kernel.count_scratch_floats(self._task_tiles, most_groups)
        self._memory = allocate(0)  # of the planes of one program at a time
        self._scratch: list[np.ndarray] = []  # of each thread
        self._program: SizedProgram | None = None
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
        if any(len(layer.residuals) > _MOST_RESIDUALS for layer in layers.convolutions):
            return EngineError('the engine winograd does not run this network: it has more than two residuals at a '
                               'place')
        try:
            get_kernel()
        except EngineError as error:
            return error
        return None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        if batch.dtype == np.uint16:
            return upscale_in_float(self, batch)
        if batch.dtype not in (np.uint8, np.float32):
            raise TypeError(f'a batch of {batch.dtype}; allowed are uint8, uint16 and float32')
        with self._lock:
            program = self._prepare(*batch.shape[1:3])
            results = np.empty((len(batch), *program.result_shape), batch.dtype)
            for picture, result in zip(batch, results, strict=True):
                self._run(program, np.ascontiguousarray(picture), result)
                if not program.is_finite:
                    raise NonFiniteError(f'the network gave values that are not finite ({self.description})')
        return results

    def count_bytes(self, height: int, width: int) -> int:
        floats = _lay_out(self._schedule(height, width))[1] + self._threads * self._scratch_floats
        return floats * _FLOAT_BYTES

    def release(self) -> None:
        with self._lock:
            self._program, self._scratch, self._memory = None, [], allocate(0)

    def _prepare(self, height: int, width: int) -> SizedProgram:
        """Return the program for pictures of a size."""
        if self._program is None or self._program.result_shape != (height * self.scale, width * self.scale, 3):
            self._program = None
            schedule = self._schedule(height, width)
            starts, floats = _lay_out(schedule)
            self._clear_memory(floats)
            self._program = SizedProgram(self._layers, schedule, starts, self._weights, self._memory, self._task_tiles,
                                         self._kernel.block, turned=width > height)
        if not self._scratch:
            self._scratch = [allocate(self._scratch_floats) for _ in range(self._threads)]
        return self._program

    def _schedule(self, height: int, width: int) -> Schedule:
        """Return the schedule for pictures of a size, of which the longer side rolls."""
        shorter, longer = sorted((height // self._layers.fold, width // self._layers.fold))
        block = self._kernel.block
        keeps = self._keeps and -(-shorter // TILE) > block // 2
        if keeps not in self._rolling:
            self._rolling[keeps] = RollingNetwork(self._layers, keeps=keeps)
        return Schedule(self._rolling[keeps], longer, shorter, self._least_tiles, block, self._kernel.kept_floats)

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
        # Until all threads have ended, this is theirs alone, whatever interrupts us, and however often.
        self._program, self._memory, self._scratch = None, allocate(0), []
        try:
            threads = [run_in_thread(partial(self._work, program, floats, pixels, result), 'winograd')
                       for floats in scratch]
            tickets = self._kernel.count_tickets(program.pointer) if self.on_progress else 0
            for thread in threads:
                while True:
                    try:
                        thread.result(_SECONDS_BETWEEN_LOOKS)
                        break
                    except TimeoutError:
                        if self.on_progress:
                            self.on_progress(min(program.pointer.contents.next_ticket / tickets, 1))
        except BaseException:
            program.stop()
            raise
        self._program, self._memory, self._scratch = program, memory, scratch

    def _work(self, program: SizedProgram, scratch: np.ndarray, *_kept: np.ndarray) -> None:
        """Work on a program in a thread, which so keeps all memory that it works in."""
        self._kernel.run(program.pointer, scratch.ctypes.data)


def _choose_task_tiles(kernel: Kernel) -> int:
    """Return how many tiles a thread works on at a time: as many as its cache holds with 64 channels in and out."""
    tile_bytes = 4 * _FREQUENCIES * 2 * 64
    blocks = int(measure_l2_cache() * _SHARE_OF_L2) // (tile_bytes * kernel.block)
    return kernel.block * min(max(blocks, 1), MOST_RUNS)


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

class SizedProgram:
    """A network's steps for pictures of one size.

    Args:
        layers: The network.
        schedule: Its steps for that size.
        starts: The number of each plane's first float in the memory; see `_lay_out`.
        weights: The parameters of its convolutions; see `_pack_parameters`.
        memory: Zeros. Only the program that was made last may run in them.
        task_tiles: Tiles that a thread works on at a time, a multiple of the kernel's.
        block: The kernel's.
        turned: Whether the schedule's rows are the pictures' columns.

    Attributes:
        pointer: What the kernel runs.
        result_shape: Of the result: height, width, 3.
    """

    def __init__(self, layers: Layers, schedule: Schedule, starts: Mapping[Plane, int],
                 weights: Sequence[Sequence[np.ndarray]], memory: np.ndarray, task_tiles: int, block: int, *,
                 turned: bool) -> None:
        self._layers, self._schedule, self._starts, self._turned = layers, schedule, starts, turned
        self._weights, self._memory = weights, memory  # steps have addresses in them
        self._task_tiles, self._block = task_tiles, block
        count = len(schedule.steps)
        self._waits = [(Wait * len(step.waits))(*step.waits) for step in schedule.steps]
        self._steps = (Step * count)(*map(self._make_step, schedule.steps))
        tasks = [_count_tasks(step) for step in self._steps]
        self._done = np.zeros(sum(tasks), np.int32)
        for step, waits, before in zip(self._steps, self._waits, accumulate(tasks, initial=0), strict=False):
            step.waits, step.wait_count = ctypes.addressof(waits), len(waits)
            step.done = self._done[before:].ctypes.data
        self._segments = (Segment * len(schedule.segments))(*(Segment(*segment) for segment in schedule.segments))
        self._program = Program(steps=self._steps, segments=self._segments, segment_count=len(self._segments),
                                yield_address=_YIELD_ADDRESS)
        self.pointer = ctypes.pointer(self._program)
        height, width = (self._steps[count - 1].block * side for side in (
            self._steps[count - 1].height, self._steps[count - 1].width))
        self.result_shape = (width, height, 3) if turned else (height, width, 3)

    def _locate(self, plane: Plane, group: int = 0) -> int:
        """Return the address of pixel (0, 0) of a group, behind a row and a pixel of zeros."""
        schedule = self._schedule
        floats = self._starts[plane] + group * schedule.size(plane) + schedule.row(plane) + GROUP
        return self._memory.ctypes.data + _FLOAT_BYTES * floats

    def _make_step(self, scheduled: ScheduledStep) -> Step:
        schedule, rolling = self._schedule, scheduled.step
        groups = [(read.plane, group) for read in rolling.inputs for group in range(read.plane.groups)]
        weight, scales, bias, slope = [allocate(0)] * 4 if rolling.layer is None else self._weights[rolling.layer]
        if scales.size and len(groups) % 2:
            groups.append(groups[-1])  # any of this chunk will do: it is multiplied by zeros
        plane = rolling.plane or groups[0][0]
        step = Step(height=schedule.height * plane.enlarged, width=schedule.width * plane.enlarged,
                    turned=self._turned, advance=scheduled.advance, lag=scheduled.lag, band_rows=BAND,
                    groups_in=len(groups))
        if groups:
            step.in_row = schedule.row(groups[0][0])
            step.inputs[:len(groups)] = [self._locate(*group) for group in groups]
            step.in_ring[:len(groups)] = [schedule.rows[group[0]] for group in groups]
        if rolling.plane:
            step.groups_out, step.out, step.out_ring = plane.groups, self._locate(plane), schedule.rows[plane]
            step.out_row, step.out_plane = schedule.row(plane), schedule.size(plane)
        if rolling.layer is None:
            step.kind, step.block = (LOAD, self._layers.fold) if rolling.plane else (STORE, self._layers.shuffle)
            step.line = 3 * step.block * (step.height if self._turned else step.width)
            for base in rolling.residuals:
                step.base, step.base_ring = self._locate(base.plane), schedule.rows[base.plane]
                step.base_row = schedule.row(base.plane)
            return step
        step.kind, step.doubled, step.task_tiles = CONVOLVE, rolling.doubled, self._task_tiles
        step.run = schedule.run(rolling)
        step.task_runs = self._task_tiles // (self._block if step.run > 1 else 1)
        step.band_rows = max(BAND, step.task_runs // _count_runs(step))
        for kept in rolling.kept:
            step.kept[kept.chunk] = self._memory.ctypes.data + _FLOAT_BYTES * self._starts[kept.plane]
            step.kept_ring[kept.chunk] = schedule.rows[kept.plane] // TILE
            step.is_there[kept.chunk] = kept.is_there
        step.weights, step.bias, step.slope = (array.ctypes.data for array in (weight, bias, slope))
        step.scales = scales.ctypes.data if scales.size else None
        shares = [share for _, share in self._layers.convolutions[rolling.layer].residuals]
        for index, (read, share) in enumerate(zip(rolling.residuals, shares, strict=True)):
            step.residual[index], step.residual_scale[index] = self._locate(read.plane), share
            step.residual_ring[index], step.residual_plane[index] = schedule.rows[read.plane], schedule.size(read.plane)
        return step

    def prepare(self, pixels: np.ndarray, result: np.ndarray) -> None:
        """Make the next run read `pixels` and write `result`, which the caller must keep.

        Both are contiguous and of one dtype, uint8 or float32.
        """
        self._done.fill(0)
        self._program.next_ticket = self._program.not_finite = self._program.stop = 0
        for step in self._steps:
            if step.kind != CONVOLVE:
                array = pixels if step.kind == LOAD else result
                step.pixels, step.is_float = array.ctypes.data, int(array.dtype == np.float32)

    def stop(self) -> None:
        """Make all threads that run it return after their tasks."""
        self._program.stop = 1

    @property
    def is_finite(self) -> bool:
        """Whether all values of the last run's result were finite, before they were clamped."""
        return not self._program.not_finite


def _lay_out(schedule: Schedule) -> tuple[dict[Plane, int], int]:
    """Return the number of each plane's first float in the memory, and how many floats they take together."""
    ends = list(accumulate((plane.groups * schedule.size(plane) for plane in schedule.rows), initial=0))
    return dict(zip(schedule.rows, ends, strict=False)), ends[-1]


def _count_runs(step: Step) -> int:
    """Return how many runs of tiles a row has."""
    return -(-step.width // (TILE * step.run))


def _count_tasks(step: Step) -> int:
    """Return how many tasks the largest job of a step has, at most."""
    rows = min(step.advance, -(-step.height // TILE))
    tasks = -(-step.band_rows * _count_runs(step) // step.task_runs) if step.kind == CONVOLVE else 1
    return -(-rows // step.band_rows) * tasks


# ---- memory and weights, as the kernel reads them ----

def allocate(floats: int) -> np.ndarray:
    """Return zeros that begin with a cache line, as the kernel's vectors must."""
    memory = np.zeros(floats + GROUP, np.float32)  # not touched, so none is used yet
    skipped = -memory.ctypes.data % (4 * GROUP) // 4
    return memory[skipped:skipped + floats]


def _count_groups(channels: int) -> int:
    """Return how many groups hold so many channels."""
    return -(-channels // GROUP)


def _pack_parameters(arrays: Mapping[str, np.ndarray], layers: Layers, kernel: Kernel, threads: int, *,
                     ints: bool) -> list[tuple[np.ndarray, ...]]:
    """Return the weights, scales, biases and slopes of each convolution.

    Args:
        arrays: The network's parameters.
        layers: The network.
        kernel: The kernel that reads them. It computes whole panels, to which biases and slopes are filled up with
            zeros.
        threads: How many to compute with.
        ints: Whether weights become int16, but for those of the convolution that takes the picture: of the 32 channels
            that int16 needs it has 3. What is not int16 has no scales.
    """
    panel = kernel.panel
    rounded = [ints and layer.inputs != (0,) for layer in layers.convolutions]
    inputs = [[layers.channels[feature] for feature in layer.inputs] for layer in layers.convolutions]
    sizes = []  # of weights and scales in turn
    for layer, channels, is_rounded in zip(layers.convolutions, inputs, rounded, strict=True):
        values = _extend_channels(layer.channels, panel) * _FREQUENCIES
        groups = sum(map(_count_groups, channels))
        sizes += ([values * GROUP * _extend_to_pairs(groups) // 2, values * -(-groups // CHUNK_GROUPS)] if is_rounded
                  else [values * GROUP * groups, 0])
    # Together, because the system gives its huge pages only to large memory.
    pieces = np.split(allocate(sum(sizes)), list(accumulate(sizes))[:-1])

    def pack(layer: Convolution, channels: list[int], packed: np.ndarray,
             scales: np.ndarray) -> tuple[np.ndarray, ...]:
        weight = arrays[f'{layer.name}.weight']
        if scales.size:
            round_weights(weight, channels, kernel, packed.view(np.int16), scales)
        else:
            pack_weights(weight, channels, panel, packed)
        vectors = [allocate(_extend_channels(layer.channels, panel)) for _ in range(2)]
        slope = arrays[layer.slope] if isinstance(layer.slope, str) else layer.slope
        vectors[0][:layer.channels], vectors[1][:layer.channels] = arrays[f'{layer.name}.bias'], slope
        return packed, scales, *vectors

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(pack, layers.convolutions, inputs, pieces[::2], pieces[1::2]))


def _extend_channels(channels: int, panel: int) -> int:
    """Return a number of output channels, filled up to whole panels."""
    return -(-channels // panel) * panel


def _balance_channels(arrays: Mapping[str, np.ndarray], layers: Layers) -> Mapping[str, np.ndarray]:
    """Return a network's parameters so that a feature's channels are of more equal size; the results are the same.

    In int16 the channels of a tile share a scale, so small ones lose more; animevideov3 gains 1 dB by this, 4 on the
    worst of 25 pictures. A channel can be divided by any number if the weights that read it are multiplied by it, and
    powers of two are exact; but only in a chain, with nothing but PReLU between its convolutions. Other networks are
    returned as they are.
    """
    chain = layers.convolutions
    if any(layer.inputs != (number,) or layer.residuals or layer.doubles for number, layer in enumerate(chain)):
        return arrays
    # How large a channel is shows in any picture; these are noise, a ramp and edges. They are so small that numpy
    # starts no threads for the products. The noise is parts of multiples of the golden ratio by squares: numpy.random
    # takes a fortieth of a start to import.
    side = 5
    x: np.ndarray = np.empty((3, layers.channels[0], side, side), np.float32)
    rows, columns = np.mgrid[:side, :side] / side
    noise = np.arange(x[0].size) ** 2 * 0.6180339887 % 1
    x[0], x[1], x[2] = noise.reshape(x[0].shape), columns, (rows + columns / 2) % 0.5 > 0.25
    balanced = dict(arrays)
    for layer, reader in pairwise(chain):
        weight, bias = (arrays[f'{layer.name}.{kind}'] for kind in ('weight', 'bias'))
        slope = arrays[layer.slope] if isinstance(layer.slope, str) else np.full(len(bias), layer.slope)
        padded = np.zeros((*x.shape[:2], side + 2, side + 2), np.float32)
        padded[:, :, 1:-1, 1:-1] = x
        taps = np.ascontiguousarray(weight.transpose(2, 3, 0, 1))  # or numpy would multiply without BLAS
        with np.errstate(all='ignore'):
            x = bias[:, None] + sum(
                taps[i, j] @ padded[:, :, i:i + side, j:j + side].reshape(len(x), -1, side * side)
                for i in range(3) for j in range(3))
            x = np.where(x > 0, x, slope[:, None] * x).reshape(len(x), -1, side, side)
            sizes = np.sqrt(np.square(x).mean((0, 2, 3)))
            # Half of the way, in logarithms: the weights that read a channel then differ by the other half.
            factors = np.exp2(np.rint(np.log2(np.maximum(sizes / sizes.max(), 1e-4)) / 2)).astype(np.float32)
        if not np.isfinite(factors).all():
            return arrays
        balanced[f'{layer.name}.weight'] = balanced[f'{layer.name}.weight'] / factors[:, None, None, None]
        balanced[f'{layer.name}.bias'] = bias / factors
        balanced[f'{reader.name}.weight'] = balanced[f'{reader.name}.weight'] * factors[:, None, None]
    return balanced


def _extend_to_pairs(groups: int) -> int:
    """Return a number of groups, filled up to an even number, as int16 needs it."""
    return groups + groups % 2


def _fill_up(weight: np.ndarray, inputs: Sequence[int], channels_out: int, channels_in: int) -> np.ndarray:
    """Return weights of out x in x 3 x 3, filled up with zeros: channels_out x channels_in x 9, float32.

    Args:
        weight: The weights.
        inputs: How the input channels are divided among buffers, each of which is filled up to whole groups.
        channels_out, channels_in: All there will be.
    """
    padded = np.zeros((channels_out, channels_in, 9), np.float32)
    source = target = 0
    for channels in inputs:
        padded[:len(weight), target:target + channels] = weight[:, source:source + channels].reshape(
            len(weight), channels, 9)
        source += channels
        target += _count_groups(channels) * GROUP
    return padded


def pack_weights(weight: np.ndarray, inputs: Sequence[int], panel: int, packed: np.ndarray) -> None:
    """Transform the weights of a convolution for F(4x4,3x3), in the order in which the kernel reads them.

    Args:
        weight: out x in x 3 x 3.
        inputs: How the input channels are divided among buffers, each of which is filled up to whole groups.
        panel: Output channels that the kernel computes at a time.
        packed: Gets them, float32: chunk after chunk of input channels, each panel x 36 x channel in x channel out.
    """
    target = sum(map(_count_groups, inputs)) * GROUP
    padded = _fill_up(weight, inputs, _extend_channels(len(weight), panel), target)
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


def round_weights(weight: np.ndarray, inputs: Sequence[int], kernel: Kernel, packed: np.ndarray,
                  scales: np.ndarray) -> None:
    """Do the same in int16.

    Args:
        weight, inputs: As `pack_weights` has them.
        kernel: The kernel that will read them.
        packed: Gets them, int16: chunk after chunk of input channels, each panel x 36 x pair of channels in x channel
            out x 2. A pair is of two groups, of which the last may be zeros.
        scales: Gets what a 1 stands for, float32: chunk x panel x 36 x channel out.
    """
    panel, channels_in = kernel.panel, _extend_to_pairs(sum(map(_count_groups, inputs))) * GROUP
    padded = _fill_up(weight, inputs, _extend_channels(len(weight), panel), channels_in)
    by_panel = padded.reshape(-1, panel, channels_in, 9).transpose(0, 3, 2, 1)
    end = done = 0
    for start in range(0, channels_in, CHUNK_GROUPS * GROUP):
        for kernels in by_panel[:, :, start:start + CHUNK_GROUPS * GROUP]:
            turned = allocate(kernels.size)
            turned.reshape(kernels.shape)[...] = kernels
            size = _FREQUENCIES * kernels[0].size
            kernel.round_weights(turned.ctypes.data, kernels.shape[1], packed[end:end + size].ctypes.data,
                                 scales[done:].ctypes.data)
            end, done = end + size, done + _FREQUENCIES * panel
