"""Formats of which Pillow and OpenCV read some kinds wrong, or not at all: PNM, PFM, SGI, SUN raster, BMP with masks.

Each decoder returns the pixels of a file as HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA), full range. It raises
`ImageError`, or where a file is damaged any error of numpy's and struct's, which `decode` turns into one.
"""
from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Callable

import cv2
import numpy as np

from ..errors import ImageError
from .picture import scale_to_full_range

_GAP = rb'(?:\s|#[^\n]*\n)+'  # numbers of PNM stand between white space and comments
_PNM_MAXIMUM = re.compile(rb'P[2356](?:' + _GAP + rb'(\d+)){3}')  # the third number
_PFM_HEADER = re.compile(rb'P([Ff])' + _GAP + rb'(\d+)' + _GAP + rb'(\d+)' + _GAP + rb'([-+.\deE]+)\s')
_SUN_RUN = re.compile(rb'\x80(?:\x00|(.)(.))', re.DOTALL)  # 0x80, and either 0 for itself or a count and a value
_SUN_RUN_LENGTHS, _SUN_RGB, _SUN_LAST_KIND = 2, 3, 5  # kinds of file; all others hold plain BGR
_BMP_HEADER = struct.Struct('<2s8xIIii2xHI')
_BMP_MASKS_AT = 54  # inside of long headers, behind short ones
_BMP_BITFIELDS, _BMP_ALPHABITFIELDS = 3, 6  # kinds of compression, so called
_BMP_SIZE_WITH_ALPHA = 56  # of headers that hold a mask for alpha, too


def decode(data: bytes, decoder: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """Decode a file with one of the decoders below.

    Raises:
        ImageError: damaged, or of a kind that can't be read.
    """
    try:
        return decoder(data)
    except (struct.error, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ImageError(f'damaged: {error}') from None


def decode_by_opencv(data: bytes) -> np.ndarray:
    """Decode a file of any format that OpenCV reads, in its own depth and not turned upright."""
    with contextlib.suppress(cv2.error):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is not None:
            return pixels
    raise ImageError('not a picture, or a damaged one')


def decode_pnm(data: bytes) -> np.ndarray:
    """Decode PBM, PGM and PPM, whose values OpenCV does not scale from their maximum, and PFM as float32.

    OpenCV reads only some headers of PFM. The sign of its scale is the order of bytes; the scale itself becomes 1.
    """
    if data[:2] not in (b'PF', b'Pf'):
        pixels = decode_by_opencv(data)
        maximum = _PNM_MAXIMUM.match(data)
        return scale_to_full_range(pixels, int(maximum[1]), pixels.dtype.type) if maximum else pixels
    header = _PFM_HEADER.match(data)
    if header is None:
        raise ValueError('a PFM with a wrong header')
    channels = 3 if header[1] == b'F' else 1
    width, height, scale = int(header[2]), int(header[3]), float(header[4])
    samples = np.frombuffer(data, '<f4' if scale < 0 else '>f4', height * width * channels, header.end())
    rows = samples.reshape(height, width, channels)[::-1, :, ::-1]  # from the bottom up, and RGB
    pixels = (rows / np.float32(abs(scale) or 1)).astype(np.float32)
    return pixels if channels == 3 else pixels[..., 0]


def decode_sgi(data: bytes) -> np.ndarray:
    """Decode SGI. Pillow reads 8 of 16 bits, and no compressed rows without an end mark, which ffmpeg writes."""
    compressed, size, dimensions, width, height, channels = struct.unpack_from('>2x2B4H', data)
    channels = channels if dimensions > 2 else 1
    if channels not in (1, 3, 4):
        raise ImageError(f'an SGI file of {channels} channels can\'t be read')
    dtype, rows, start = np.dtype(f'>u{size}'), height * channels, 512
    if compressed:
        starts, lengths = np.frombuffer(data, '>u4', 2 * rows, start).reshape(2, rows).tolist()
        samples = np.stack([_expand_sgi_row(np.frombuffer(data, dtype, length // size, start), width)
                            for start, length in zip(starts, lengths, strict=True)])
    else:
        samples = np.frombuffer(data, dtype, rows * width, start)
    planes = samples.reshape(channels, height, width)[:, ::-1].astype(dtype.newbyteorder('='))  # from the bottom up
    return planes[0] if channels == 1 else np.dstack([*planes[2::-1], *planes[3:]])


def _expand_sgi_row(row: np.ndarray, width: int) -> np.ndarray:
    """Return a row of run lengths as `width` values. A run is a count and one value, or a count and as many values."""
    values = np.empty(width, row.dtype)
    position = filled = 0
    while filled < width:
        first = int(row[position])
        count, length = first & 0x7F, first & 0x7F if first & 0x80 else 1
        if not count:
            raise ValueError(f'a row of {filled} pixels instead of {width}')
        values[filled:filled + count] = row[position + 1:position + 1 + length]
        position, filled = position + 1 + length, filled + count
    return values


def decode_sun_raster(data: bytes) -> np.ndarray:
    """Decode SUN raster, of which OpenCV and Pillow read some kinds wrong or not at all."""
    width, height, depth, _, kind, _, palette_bytes = struct.unpack_from('>4x7I', data)
    if depth not in (1, 8, 24, 32) or kind > _SUN_LAST_KIND:
        raise ImageError(f'a SUN raster of {depth} bits and kind {kind} can\'t be read')
    body = data[32 + palette_bytes:]
    if kind == _SUN_RUN_LENGTHS:
        body = _SUN_RUN.sub(lambda run: run[2] * (run[1][0] + 1) if run[1] else b'\x80', body)
    row_bytes = -(-width * depth // 16) * 2
    rows = np.frombuffer(body, np.uint8, row_bytes * height).reshape(height, row_bytes)
    if depth > 8:  # the fourth byte, in front of the others, means nothing
        pixels = rows[:, :width * depth // 8].reshape(height, width, depth // 8)[..., -3:]
        return pixels[..., ::-1] if kind == _SUN_RGB else pixels
    values = np.unpackbits(rows, axis=1)[:, :width] if depth == 1 else rows[:, :width]
    if not palette_bytes:
        return 255 - 255 * values if depth == 1 else values  # of two colours without a palette 1 is black
    count = palette_bytes // 3  # all red, then all green, then all blue
    colours = np.frombuffer(data, np.uint8, 3 * count, 32).reshape(3, count)[::-1].T
    return (colours[:, 0] if (colours == colours[:, :1]).all() else colours)[values]


def has_bmp_masks(data: bytes) -> bool:
    """Tell whether a file is a BMP with masks."""
    if len(data) < _BMP_HEADER.size:
        return False
    signature, *_, compression = _BMP_HEADER.unpack_from(data)
    return signature == b'BM' and compression in (_BMP_BITFIELDS, _BMP_ALPHABITFIELDS)


def decode_masked_bmp(data: bytes) -> np.ndarray:
    """Decode a BMP whose colours lie where masks in the file say; Pillow reads the usual masks only."""
    _, start, size, width, height, bits, compression = _BMP_HEADER.unpack_from(data)
    red, green, blue, alpha = (*struct.unpack_from('<3I', data, _BMP_MASKS_AT), 0)
    if size >= _BMP_SIZE_WITH_ALPHA or compression == _BMP_ALPHABITFIELDS:
        alpha, = struct.unpack_from('<I', data, _BMP_MASKS_AT + 12)
    rows, columns = abs(height), -(-width * bits // 32) * 32 // bits  # rows end at a multiple of four bytes
    values = np.frombuffer(data, f'<u{bits // 8}', rows * columns, start).reshape(rows, columns)[:, :width]
    masks = [blue, green, red, *([alpha] if alpha else [])]
    units = [mask & -mask or 1 for mask in masks]
    tops = [mask // unit for mask, unit in zip(masks, units, strict=True)]
    if bits not in (16, 32) or width <= 0 or any(mask >> bits for mask in masks) or any(
            top & (top + 1) for top in tops):
        raise ValueError(f'a BMP of {width} columns and {bits} bits with masks '
                         f'{", ".join(f"{mask:#x}" for mask in masks)}')
    dtype = np.uint16 if max(tops) > 255 else np.uint8
    pixels = np.dstack([scale_to_full_range((values & mask) // unit, top, dtype)
                        for mask, unit, top in zip(masks, units, tops, strict=True)]).astype(dtype)
    return pixels[::-1 if height > 0 else 1]  # stored from the bottom up, unless the height is negative
