"""Decode BMP files whose colours lie where masks in the file say; Pillow reads the most usual masks only."""
from __future__ import annotations

import struct

import numpy as np

from ..errors import ImageError

_HEADER = struct.Struct('<2s8xIIii2xHI')
_MASKS_AT = 54  # inside of long headers, behind short ones
_BITFIELDS, _ALPHABITFIELDS = 3, 6  # kinds of compression, so called
_SIZE_WITH_ALPHA = 56  # of headers that hold a mask for alpha, too


def has_masks(data: bytes) -> bool:
    """Tell whether a file is a BMP with masks."""
    if len(data) < _MASKS_AT:
        return False
    signature, *_, compression = _HEADER.unpack_from(data)
    return signature == b'BM' and compression in (_BITFIELDS, _ALPHABITFIELDS)


def decode(data: bytes) -> np.ndarray:
    """Decode a BMP file with masks (see `has_masks`).

    Returns:
        HxWx3 (BGR) or HxWx4 (BGRA), full range; uint16 if a mask has more than eight bits, otherwise uint8.

    Raises:
        ImageError: damaged, or not of 16 or 32 bits.
    """
    try:
        _, start, size, width, height, bits, compression = _HEADER.unpack_from(data)
        red, green, blue, alpha = (*struct.unpack_from('<3I', data, _MASKS_AT), 0)
        if size >= _SIZE_WITH_ALPHA or compression == _ALPHABITFIELDS:
            alpha, = struct.unpack_from('<I', data, _MASKS_AT + 12)
        rows, columns = abs(height), -(-width * bits // 32) * 32 // bits  # rows end at a multiple of four bytes
        values = np.frombuffer(data, f'<u{bits // 8}', rows * columns, start).reshape(rows, columns)[:, :width]
    except (struct.error, ValueError, TypeError, ZeroDivisionError) as error:
        raise ImageError(f'damaged: {error}') from None
    masks = [blue, green, red, *([alpha] if alpha else [])]
    tops = [mask // (mask & -mask or 1) for mask in masks]
    if bits not in (16, 32) or width <= 0 or any(mask >> bits for mask in masks) or any(
            top & (top + 1) for top in tops):
        raise ImageError(f'damaged: a BMP of {width} columns and {bits} bits with masks '
                         f'{", ".join(f"{mask:#x}" for mask in masks)}')
    dtype = np.uint16 if max(tops) > 255 else np.uint8
    channels = [_scale((values & mask) // (mask & -mask or 1), top, dtype)
                for mask, top in zip(masks, tops, strict=True)]
    return np.dstack(channels)[::-1 if height > 0 else 1]  # stored from the bottom up, unless the height is negative


def _scale(values: np.ndarray, top: int, dtype: type[np.uint8 | np.uint16]) -> np.ndarray:
    return np.rint(values * (np.iinfo(dtype).max / (top or 1))).astype(dtype)
