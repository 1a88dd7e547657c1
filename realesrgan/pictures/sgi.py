"""Decode SGI files; Pillow reads 8 of 16 bits, and no compressed rows without an end mark, which ffmpeg writes."""
from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ..errors import ImageError

_HEADER_BYTES = 512
_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype('u1'), 2: np.dtype('>u2')}  # by the bytes of a value
_COUNT, _LITERAL = 0x7F, 0x80  # what the first value of a run is made of


def decode(data: bytes) -> np.ndarray:
    """Decode an SGI file of gray, RGB or RGBA.

    Returns:
        HxW, HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16.

    Raises:
        ImageError: damaged, or of another number of channels.
    """
    try:
        compressed, size, dimensions, width, height, channels = struct.unpack_from('>2x2B4H', data)
        if dimensions < 3:
            channels = 1
        if channels not in (1, 3, 4):
            raise ImageError(f'an SGI file of {channels} channels can\'t be read')
        dtype, rows = _TYPES[size], height * channels
        if compressed:
            table = np.frombuffer(data, '>u4', 2 * rows, _HEADER_BYTES).reshape(2, rows).tolist()
            samples = np.stack([_expand(np.frombuffer(data, dtype, length // size, start), width)
                                for start, length in zip(*table, strict=True)])
        else:
            samples = np.frombuffer(data, dtype, rows * width, _HEADER_BYTES)
    except (struct.error, KeyError, ValueError, IndexError) as error:
        raise ImageError(f'damaged: {error}') from None
    planes = samples.reshape(channels, height, width)[:, ::-1].astype(dtype.newbyteorder('='))  # from the bottom up
    return planes[0] if channels == 1 else np.dstack([planes[2], planes[1], planes[0], *planes[3:]])


def _expand(row: np.ndarray, width: int) -> np.ndarray:
    """Return a row of run lengths as `width` values. A run is a count and one value, or a count and as many values."""
    values = np.empty(width, row.dtype)
    position = filled = 0
    while filled < width:
        first = int(row[position])
        count = first & _COUNT
        if not count:
            raise ValueError(f'a row of {filled} pixels instead of {width}')
        length = count if first & _LITERAL else 1
        values[filled:filled + count] = row[position + 1:position + 1 + length]
        position, filled = position + 1 + length, filled + count
    return values
