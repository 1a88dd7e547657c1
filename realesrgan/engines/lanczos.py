"""Lanczos's filter, as OpenCV's INTER_LANCZOS4 has it.

On the CPU it has its bits, several times as fast (see `kernel/lanczos.c`). In PyTorch, on any device, it is within a
level of them.
"""
from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ..errors import EngineError
from .kernel.library import TAPS, Kernel, get_kernel

if TYPE_CHECKING:
    import torch

ONE = 2048  # of a weight
_BAND = 32  # rows of a result that one matrix gives
_TAPS = np.dtype([('first', np.int32), ('weights', np.int32, TAPS)])  # as lanczos.c has them
_LANES = 4
_HALF = math.sqrt(0.5)
# Of the angles from the first tap to each, an eighth of a turn apart; every second one with its sign changed.
_COSINES = np.array([1, -_HALF, 0, _HALF, -1, _HALF, 0, -_HALF])
_SINES = np.array([0, -_HALF, 1, -_HALF, 0, _HALF, -1, _HALF])
_ALMOST_ZERO = 1e-6


def resize(picture: np.ndarray, size: tuple[int, int], threads: int) -> np.ndarray:
    """Resize a picture. 8 bits go through the kernel; 16 bits, and all where there is no kernel, through OpenCV.

    Args:
        picture: HxW or HxWxC, uint8 or uint16, without gaps between its values.
        size: Width and height of the result.
        threads: How many the kernel computes with.
    """
    if picture.dtype == np.uint8:
        try:
            return resize_by_kernel(get_kernel(), picture, size, threads)
        except EngineError:  # there is none
            pass
    import cv2  # only here, because it takes a tenth of a start
    return cv2.resize(picture, size, interpolation=cv2.INTER_LANCZOS4)


def resize_by_kernel(kernel: Kernel, picture: np.ndarray, size: tuple[int, int], threads: int) -> np.ndarray:
    """Resize a picture, uint8, by a kernel; see `resize`."""
    height, width, channels = (*picture.shape, 1)[:3]
    rows, columns = find_taps(height, size[1]), find_taps(width, size[0])
    result = np.empty((size[1], size[0], *picture.shape[2:]), np.uint8)

    def resize_band(band: tuple[int, int]) -> None:
        line = np.empty((width + 2 * TAPS) * channels + _LANES, np.int32)
        kernel.resize(picture.ctypes.data, height, width, channels, result.ctypes.data, size[0], rows.ctypes.data,
                      columns.ctypes.data, *band, line.ctypes.data)

    borders = [size[1] * band // threads for band in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(resize_band, pairwise(borders)))
    return result


@functools.lru_cache(maxsize=4)  # for the frames of a video
def find_taps(length: int, size: int) -> np.ndarray:
    """Return which pixels make up each one of a resized axis: the first of eight, and their weights in 2048ths.

    Args:
        length: Pixels before.
        size: Pixels after.
    """
    taps = np.empty(size, _TAPS)
    taps['first'], weights = find_weights(length, size)
    taps['weights'] = np.rint(weights * ONE)
    return taps


def find_weights(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of the eight pixels that make up each one of a resized axis, and their weights, float32.

    All is rounded where OpenCV rounds, in whose `resize.cpp` the filter is called `interpolateLanczos4`.

    Args:
        length: Pixels before.
        size: Pixels after.
    """
    places = ((np.arange(size) + 0.5) * (1 / (size / length)) - 0.5).astype(np.float32)
    before = np.floor(places)
    first = (places - before + np.float32(3))[:, None]
    distances = first - np.arange(TAPS, dtype=np.float32)
    angle = first * np.float64(-math.pi / 4)
    sines = _COSINES * np.sin(angle) + _SINES * np.cos(angle)
    with np.errstate(all='ignore'):  # a pixel that stays where it is counts alone
        weights = np.where(np.abs(distances) < _ALMOST_ZERO, 1e30, sines / (distances * np.float64(math.pi / 4)) ** 2)
    weights = weights.astype(np.float32)
    weights *= 1 / np.cumsum(weights, 1)[:, -1:]
    return before.astype(np.int64) - 3, weights


# ---- in PyTorch ----

class TensorResizer:
    """Resizes pictures on a device, to one size, by two products with matrices.

    A matrix of all rows would be zeros but for eight pixels in each. So there is a small one for every `_BAND` rows of
    the result, and the pixels that these are made of are gathered for it.

    Args:
        before: Height and width of the pictures.
        after: Those of the results.
        top: The largest level: 255 or 65535.
        device: Where the pictures are.
    """

    def __init__(self, before: tuple[int, int], after: tuple[int, int], top: int, device: torch.device) -> None:
        import torch
        self._after = after
        self._top = top
        self._axes = []
        for length, size in zip(before, after, strict=True):
            first, weights = find_weights(length, size)
            if top == 255:  # OpenCV adds integers
                weights = np.rint(weights * ONE) / np.float32(ONE)
            places, matrices = _cut_into_bands(first, weights, length)
            self._axes.append((torch.from_numpy(places).to(device), torch.from_numpy(matrices).to(device)))

    def __call__(self, levels: torch.Tensor) -> torch.Tensor:
        """Return N x C x H x W, whole levels in float32, in the new size: whole levels too, at most one from OpenCV's.

        The first product is exact, in 8 bits; the second is rounded where OpenCV's integers are not.
        """
        count, channels = levels.shape[:2]
        for axis, (places, matrices) in zip((-2, -1), self._axes, strict=True):
            bands, _, taps = matrices.shape
            pixels = levels.index_select(axis, places)
            height, width = pixels.shape[2:]
            if axis == -2:
                rows = matrices @ pixels.reshape(count, channels, bands, taps, width)
                levels = rows.flatten(2, 3)[:, :, :self._after[0]]
            else:
                columns = pixels.reshape(-1, bands, taps).transpose(0, 1) @ matrices.transpose(1, 2)
                levels = columns.transpose(0, 1).reshape(count, channels, height, -1)[..., :self._after[1]]
        rounded = levels.add(0.5).floor_() if self._top == 255 else levels.round()  # as OpenCV's integers, and floats
        return rounded.clamp_(0, self._top)


def _cut_into_bands(first: np.ndarray, weights: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels of each band, one after the other, and their weights in its rows, bands x rows x pixels."""
    bands = -(-len(first) // _BAND)
    rows = np.arange(len(first))
    starts = first[::_BAND]
    offsets = first - starts[rows // _BAND]
    taps = int(offsets.max()) + TAPS
    places = (starts[:, None] + np.arange(taps)).clip(0, length - 1)  # beyond its border a picture's last pixel
    matrices = np.zeros((bands, _BAND, taps), np.float32)
    for tap in range(TAPS):
        matrices[rows // _BAND, rows % _BAND, offsets + tap] = weights[:, tap]
    return places.ravel(), matrices
