"""Decode PNG in full depth, or say what is wrong with it."""
from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import cv2
import numpy as np

from ..errors import ImageError

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_KEPT = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')
_PIECE_BYTES = 1 << 20
_GRAY, _CHANNELS = 0, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def decode(data: bytes) -> np.ndarray:
    """Decode a PNG file.

    OpenCV's decoder prints of damaged files, and fills up what is missing; so they are refused before, and it gets
    the chunks that make the pixels only.

    Returns:
        HxW, HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16.

    Raises:
        ImageError: damaged.
    """
    chunks = list(_chunks(data))
    kinds = dict(chunks)
    if chunks[0][0] != b'IHDR' or len(chunks[0][1]) != 13 or b'IDAT' not in kinds:
        raise ImageError('damaged: a PNG without header or pixels')
    width, height, depth, colour, _, _, interlaced = struct.unpack('>IIBBBBB', kinds[b'IHDR'])
    expected = None if interlaced else height * (1 + (width * depth * _CHANNELS.get(colour, 0) + 7) // 8)
    if (found := _inflated_size(content for kind, content in chunks if kind == b'IDAT')) < (expected or 1):
        raise ImageError(f'damaged: {found} bytes of pixels, {expected or "more"} are due')
    cleaned = _SIGNATURE + b''.join(
        struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
        for kind, content in chunks if kind in _KEPT)
    pixels = cv2.imdecode(np.frombuffer(cleaned, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError('damaged: OpenCV can\'t decode this PNG')
    if colour == _GRAY and len(transparent := kinds.get(b'tRNS', b'')) == 2 and pixels.ndim == 2:
        return _with_transparent_gray(pixels, struct.unpack('>H', transparent)[0], depth)
    return pixels


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and content of each chunk up to the end of the picture."""
    position, kind = len(_SIGNATURE), b''
    while kind != b'IEND':
        if position + 8 > len(data):
            raise ImageError(f'damaged: it ends after {len(data)} bytes, in the middle of the picture')
        size, kind = struct.unpack_from('>I4s', data, position)
        content = data[position + 8:position + 8 + size]
        if len(data) < position + 12 + size:
            raise ImageError(f'damaged: it ends after {len(data)} bytes, in the middle of the picture')
        if struct.unpack_from('>I', data, position + 8 + size)[0] != zlib.crc32(kind + content):
            raise ImageError(f'damaged: wrong checksum of the chunk at byte {position}')
        position += 12 + size
        yield kind, content


def _inflated_size(parts: Iterator[bytes]) -> int:
    """Return how many bytes a compressed stream holds, keeping no more than a piece of it at a time."""
    stream, size = zlib.decompressobj(), 0
    try:
        for part in parts:
            piece = stream.decompress(part, _PIECE_BYTES)
            size += len(piece)
            while stream.unconsumed_tail:
                size += len(stream.decompress(stream.unconsumed_tail, _PIECE_BYTES))
    except zlib.error as error:
        raise ImageError(f'damaged: {error}') from None
    return size + len(stream.flush())


def _with_transparent_gray(gray: np.ndarray, value: int, depth: int) -> np.ndarray:
    """Make one gray value transparent, which OpenCV does for colours only."""
    top = np.iinfo(gray.dtype).max
    value = value * top // (2 ** depth - 1)
    alpha = np.where(gray == value, 0, top).astype(gray.dtype)
    return np.dstack((gray, gray, gray, alpha))
