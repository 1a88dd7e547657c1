"""Lanczos's filter, as OpenCV's INTER_LANCZOS4 has it: its bits, several times as fast (see `kernel/lanczos.c`)."""
from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from ..errors import EngineError
from .kernel.library import TAPS, Kernel, get_kernel

ONE = 2048  # of a weight
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
    taps = np.empty(size, _TAPS)
    taps['first'] = before - 3
    taps['weights'] = np.rint(weights * ONE)
    return taps
