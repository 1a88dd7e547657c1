"""A network as a program of the kernel, for pictures of one size, and the memory that it works in."""
from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..archs.layers import Convolution, Layers
from .kernel.library import CONVOLVE, GROUP, LOAD, STORE, Program, Step
from .kernel.packing import PackedConvolution, allocate, count_groups

_TILE = 4  # outputs of one, along a side
_BAND_TILES = 4  # rows of tiles in a band: few, so that threads seldom wait; more would read less twice
_BAND_ROWS = _BAND_TILES * _TILE
_FLOAT_BYTES = 4
_MOST_FLOATS = sys.maxsize // _FLOAT_BYTES // 2


@dataclass(frozen=True)
class Planes:
    """Where the planes of a feature lie; see `winograd.c`.

    Attributes:
        start: Number of their first float in the buffer.
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

    @property
    def origin(self) -> int:
        """Number of the float of pixel (0, 0) of the first plane, inside the border of zeros."""
        return self.start + self.row + GROUP


def _extend(side: int) -> int:
    """Return a side with its border and extended to whole tiles."""
    return -(-side // _TILE) * _TILE + 2


class Buffer:
    """Memory for the planes of one program at a time; it grows as needed, and is kept until it is released."""

    def __init__(self) -> None:
        self._floats = allocate(0)

    def clear(self, count: int) -> np.ndarray:
        """Return memory for so many floats, all of them zeros.

        Raises:
            MemoryError: there is not enough memory.
        """
        if count > _MOST_FLOATS:  # numpy would call that a wrong value
            raise MemoryError(f'a network would need {count * _FLOAT_BYTES / 2 ** 30:.0f} GiB')
        if count > self._floats.size:
            self.release()
            self._floats = allocate(count)
        else:
            self._floats[:count] = 0
        return self._floats

    def release(self) -> None:
        """Give the memory back."""
        self._floats = allocate(0)


class SizedProgram:
    """A network's steps for pictures of one size.

    Args:
        layers: The network.
        packed: The parameters of its convolutions.
        height: Of the picture, divided by `layers.fold`.
        width: Likewise.
        buffer: Memory for its planes. Only the program that was made last may run.
        task_tiles: Tiles that a thread works on at a time, a multiple of the kernel's.
        yield_address: Of a function that gives the processor to another thread or process.

    Attributes:
        pointer: What the kernel runs.
        result_shape: Of the result: height, width, 3.

    Raises:
        MemoryError: there is not enough memory for the planes.
    """

    def __init__(self, layers: Layers, packed: Sequence[PackedConvolution], height: int, width: int, buffer: Buffer,
                 task_tiles: int, yield_address: int) -> None:
        self._planes, floats = _lay_out(layers, height, width)
        memory = buffer.clear(floats)
        self._address = memory.ctypes.data
        self._owners = [packed, memory]  # the steps have the addresses of what these hold
        picture, *outputs = self._planes
        last = outputs[-1]
        steps = [self._load(picture, layers.fold)]
        steps += [self._convolve(*step, task_tiles) for step in zip(layers.convolutions, packed, outputs, strict=True)]
        steps.append(self._store(last, layers.shuffle, picture if layers.adds_picture else None))
        self._done = np.zeros(sum(step.bands for step in steps), np.int32)
        tickets = bands = 0
        for step in steps:
            step.first_ticket, step.done = tickets, self._done.ctypes.data + 4 * bands
            tickets += step.bands * step.band_tasks
            bands += step.bands
        self._steps = (Step * len(steps))(*steps)
        self._program = Program(steps=self._steps, tickets=tickets, yield_address=yield_address)
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

    # ---- steps ----

    def _locate(self, planes: Planes) -> int:
        return self._address + _FLOAT_BYTES * planes.origin

    def _locate_groups(self, features: Sequence[Planes]) -> list[int]:
        return [self._locate(planes) + _FLOAT_BYTES * planes.size * group
                for planes in features for group in range(planes.groups)]

    def _load(self, picture: Planes, block: int) -> Step:
        return Step(kind=LOAD, height=picture.height, width=picture.width, out=self._locate(picture),
                    out_row=picture.row, out_plane=picture.size, block=block, **_cut(picture))

    def _convolve(self, convolution: Convolution, packed: PackedConvolution, output: Planes, task_tiles: int) -> Step:
        inputs = [self._planes[feature] for feature in convolution.inputs]
        groups = self._locate_groups(inputs)
        step = Step(kind=CONVOLVE, height=output.height, width=output.width, groups_in=len(groups),
                    groups_out=output.groups, doubled=int(convolution.doubles), task_tiles=task_tiles,
                    in_row=inputs[0].row, out=self._locate(output), out_row=output.row, out_plane=output.size,
                    weights=packed.weights.ctypes.data, bias=packed.bias.ctypes.data, slope=packed.slope.ctypes.data,
                    **_cut(output, task_tiles))
        step.inputs[:len(groups)] = groups
        for index, (feature, share) in enumerate(convolution.residuals):
            step.residual[index], step.residual_scale[index] = self._locate(self._planes[feature]), share
        return step

    def _store(self, last: Planes, block: int, base: Planes | None) -> Step:
        step = Step(kind=STORE, height=last.height, width=last.width, groups_in=last.groups, in_row=last.row,
                    block=block, **_cut(last))
        step.inputs[:last.groups] = self._locate_groups([last])
        if base is not None:
            step.base, step.base_row = self._locate(base), base.row
        return step


def _lay_out(layers: Layers, height: int, width: int) -> tuple[list[Planes], int]:
    """Return where the planes of each feature lie, and how many floats they take together."""
    buffers: dict[int, Planes] = {}
    end = 0
    numbers = layers.assign_buffers()
    for number, channels, enlarged in zip(numbers, layers.channels, layers.enlarged, strict=True):
        if number not in buffers:
            buffers[number] = planes = Planes(end, height * enlarged, width * enlarged, count_groups(channels))
            end += planes.groups * planes.size
    return [buffers[number] for number in numbers], end


def _cut(planes: Planes, task_tiles: int = 0) -> dict[str, int]:
    """Return the fields of a step that say how its rows are cut into bands, and those into tasks."""
    rows = min(_BAND_TILES, -(-planes.height // _TILE))
    tasks = -(-rows * -(-planes.width // _TILE) // task_tiles) if task_tiles else 1
    return {'band_rows': _BAND_ROWS, 'bands': -(-planes.height // _BAND_ROWS), 'band_tasks': tasks}
