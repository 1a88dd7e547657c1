"""Decode SUN raster files, of which OpenCV and Pillow read some kinds wrong or not at all."""
from __future__ import annotations

import re
import struct

import numpy as np

from ..errors import ImageError

_HEADER_BYTES = 32
_RUN_LENGTHS, _RGB, _LAST_KIND = 2, 3, 5  # kinds of file; all others hold plain BGR
_DEPTHS = 1, 8, 24, 32
_RUN = re.compile(rb'\x80(?:\x00|(.)(.))', re.DOTALL)  # 0x80, and either 0 for itself or a count and a value


def decode(data: bytes) -> np.ndarray:
    """Decode a SUN raster file.

    Returns:
        HxW (gray) or HxWx3 (BGR) of uint8.

    Raises:
        ImageError: damaged, or of a depth or kind that is not read.
    """
    try:
        width, height, depth, _, kind, _, palette_bytes = struct.unpack_from('>4x7I', data)
    except struct.error as error:
        raise ImageError(f'damaged: {error}') from None
    if depth not in _DEPTHS or kind > _LAST_KIND:
        raise ImageError(f'a SUN raster of {depth} bits and kind {kind} can\'t be read')
    body = data[_HEADER_BYTES + palette_bytes:]
    if kind == _RUN_LENGTHS:
        body = _RUN.sub(lambda run: run[2] * (run[1][0] + 1) if run[1] else b'\x80', body)
    row_bytes = -(-width * depth // 16) * 2
    if len(body) < max(row_bytes * height, 1):
        raise ImageError(f'damaged: it holds {len(body)} bytes of pixels and needs {row_bytes * height}')
    rows = np.frombuffer(body, np.uint8, row_bytes * height).reshape(height, row_bytes)
    if depth > 8:  # the fourth byte, in front of the others, means nothing
        pixels = rows[:, :width * depth // 8].reshape(height, width, depth // 8)[..., -3:]
        return pixels[..., ::-1] if kind == _RGB else pixels
    values = np.unpackbits(rows, axis=1)[:, :width] if depth == 1 else rows[:, :width]
    if not palette_bytes:
        return 255 - 255 * values if depth == 1 else values  # of two colours without a palette 1 is black
    return _look_up(values, data[_HEADER_BYTES:_HEADER_BYTES + palette_bytes])


def _look_up(values: np.ndarray, palette: bytes) -> np.ndarray:
    """Return the colours of a palette that holds all red, then all green, then all blue; gray if it is gray."""
    count = len(palette) // 3
    colours = np.frombuffer(palette, np.uint8, 3 * count).reshape(3, count).T[:, ::-1]
    if values.size and values.max() >= len(colours):
        raise ImageError(f'damaged: colour {values.max()} of a palette of {len(colours)}')
    return (colours[:, 0] if (colours == colours[:, :1]).all() else colours)[values]
