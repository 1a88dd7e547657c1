"""A network's steps for one size of pictures, and the memory that they work in."""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .winograd_layers import Convolution, Feature, Layers
from .kernel.library import CONVOLVE, GROUP, LOAD, STORE, Kernel, Program, Step
from .kernel.packing import count_groups, pack_vector, pack_weights

_TILE = 4  # outputs of a tile, along a side
_BAND_TILES = 4  # rows of tiles in a band


@dataclass(frozen=True)
class Packed:
    """The parameters of a convolution as the kernel reads them."""

    weights: np.ndarray
    bias: np.ndarray
    slope: np.ndarray

    @classmethod
    def pack(cls, convolution: Convolution, arrays, panel: int) -> Packed:
        weight = arrays[f'{convolution.name}.weight']
        return cls(pack_weights(weight, [feature.channels for feature in convolution.inputs], panel),
                   pack_vector(arrays[f'{convolution.name}.bias'], len(weight), panel),
                   pack_vector(convolution.slope, len(weight), panel))


@dataclass(frozen=True)
class _Planes:
    """Where the planes of a feature are: the address of pixel (0, 0) of the first, and the bytes ..."""

    address: int
    height: int
    width: int
    groups: int

    @property
    def row(self) -> int:
        return _padded(self.width) * GROUP

    @property
    def plane(self) -> int:
        return _padded(self.height) * self.row

    @property
    def first_pixel(self) -> int:
        return self.address + 4 * (self.row + GROUP)


def _padded(side: int) -> int:
    return -(-side // _TILE) * _TILE + 2


class Buffers:
    def __init__(self) -> None:
        self._memory = np.zeros(0, np.float32)

    def take(self, floats: int) -> int:
        if self._memory.size < floats + GROUP:
            self._memory = np.zeros(floats + GROUP, np.float32)
        else:
            self._memory.fill(0)
        return self._memory.ctypes.data + -self._memory.ctypes.data % 64


class SizedProgram:
    def __init__(self, kernel: Kernel, layers: Layers, packed: Sequence[Packed], height: int, width: int,
                 buffers: Buffers, task_tiles: int, yield_: int, band_tiles=_BAND_TILES) -> None:
        self.layers, self.buffers = layers, buffers
        features: dict[Feature, None] = {layers.picture: None}
        for convolution in layers.convolutions:
            features[convolution.output] = None
        offset, planes = 0, {}
        for feature in features:
            p = _Planes(offset * 4, height * feature.enlarged, width * feature.enlarged, count_groups(feature.channels))
            planes[feature] = p
            offset += p.groups * p.plane
        address = buffers.take(offset)
        planes = {feature: _Planes(p.address + address, p.height, p.width, p.groups) for feature, p in planes.items()}
        steps = []
        p = planes[layers.picture]
        steps.append(Step(kind=LOAD, height=height, width=width, groups_out=p.groups, band_rows=16, out=p.first_pixel,
                          out_row=p.row, out_plane=p.plane, block=layers.fold, band_tasks=1))
        for convolution, pk in zip(layers.convolutions, packed, strict=True):
            out, source = planes[convolution.output], planes[convolution.inputs[0]]
            s = Step(kind=CONVOLVE, height=out.height, width=out.width, groups_out=out.groups,
                     doubled=int(convolution.doubles), band_rows=_TILE * band_tiles, task_tiles=task_tiles,
                     in_row=source.row, out=out.first_pixel, out_row=out.row, out_plane=out.plane,
                     weights=pk.weights.ctypes.data, bias=pk.bias.ctypes.data, slope=pk.slope.ctypes.data)
            ins = [planes[f].first_pixel + 4 * g * planes[f].plane for f in convolution.inputs for g in range(planes[f].groups)]
            s.groups_in = len(ins)
            s.inputs[:len(ins)] = ins
            for i, (f, share) in enumerate(convolution.residuals):
                s.residual[i], s.residual_scale[i] = planes[f].first_pixel, share
            rows = min(band_tiles, -(-out.height // 4))
            s.band_tasks = -(-rows * -(-out.width // 4) // task_tiles)
            steps.append(s)
        last = planes[layers.convolutions[-1].output]
        s = Step(kind=STORE, height=last.height, width=last.width, groups_in=last.groups, band_rows=16, in_row=last.row,
                 block=layers.shuffle, band_tasks=1)
        s.inputs[:last.groups] = [last.first_pixel + 4 * g * last.plane for g in range(last.groups)]
        if layers.adds_picture:
            s.base, s.base_row = p.first_pixel, p.row
        steps.append(s)
        tickets = bands = 0
        for s in steps:
            s.first_ticket = tickets
            s.bands = -(-s.height // s.band_rows)
            tickets += s.bands * s.band_tasks
            bands += s.bands
        self.done = np.zeros(bands, np.int32)
        bands = 0
        for s in steps:
            s.done = self.done.ctypes.data + 4 * bands
            bands += s.bands
        self.steps = (Step * len(steps))(*steps)
        self.program = Program(steps=self.steps, count=len(steps), tickets=tickets, yield_=yield_)
        self.out_shape = (last.height * layers.shuffle, last.width * layers.shuffle, 3)

    def prepare(self, pixels: np.ndarray, result: np.ndarray) -> None:
        self.done.fill(0)
        p = self.program
        p.not_finite = p.stop = p.next_ticket = 0
        self.steps[0].pixels = pixels.ctypes.data
        self.steps[len(self.steps) - 1].pixels = result.ctypes.data
        self.steps[0].is_float = self.steps[len(self.steps) - 1].is_float = int(pixels.dtype == np.float32)
