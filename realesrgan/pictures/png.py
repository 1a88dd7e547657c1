"""Decode PNG in full depth, and refuse damaged files instead of guessing their pixels."""
from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from ..errors import ImageError

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PIXEL_CHUNKS = (b'IHDR', b'PLTE', b'tRNS', b'IDAT', b'IEND')
_PIECE_BYTES = 1 << 20
_GRAY = 0
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def decode(data: bytes) -> np.ndarray:
    """Decode a PNG file, not turned upright.

    OpenCV's decoder fills in what is missing from damaged files and prints complaints to stderr. So files are checked
    first, and OpenCV gets only the chunks that make up the pixels.

    Returns:
        HxW, HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16, full range.

    Raises:
        ImageError: damaged.
    """
    chunks = list(_iterate_chunks(data))
    contents = dict(chunks)
    if chunks[0][0] != b'IHDR' or len(chunks[0][1]) != 13 or b'IDAT' not in contents:
        raise ImageError('damaged: a PNG without header or pixels')
    width, height, depth, colour, _, _, interlaced = struct.unpack('>IIBBBBB', contents[b'IHDR'])
    needed = None if interlaced else height * (1 + (width * depth * _CHANNELS.get(colour, 0) + 7) // 8)
    if (found := _measure_inflated(content for kind, content in chunks if kind == b'IDAT')) < (needed or 1):
        raise ImageError(f'damaged: it holds {found} bytes of pixels and needs {needed or "more"}')
    cleaned = _SIGNATURE + b''.join(build_chunk(kind, content) for kind, content in chunks if kind in _PIXEL_CHUNKS)
    pixels = cv2.imdecode(np.frombuffer(cleaned, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError('damaged: OpenCV can\'t decode this PNG')
    if colour == _GRAY and len(transparent := contents.get(b'tRNS', b'')) == 2 and pixels.ndim == 2:
        return _add_alpha(pixels, struct.unpack('>H', transparent)[0], depth)
    return pixels


def build_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file, with its length before and its checksum behind."""
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def _iterate_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each chunk up to the end of the picture."""
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


def _measure_inflated(parts: Iterable[bytes]) -> int:
    """Return how many bytes a compressed stream holds, with one piece of it in memory at a time."""
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


def _add_alpha(gray: np.ndarray, transparent: int, depth: int) -> np.ndarray:
    """Return gray as BGRA in which one value, given in the file's own depth, is transparent.

    OpenCV does this by itself for transparent colours, but not for gray.
    """
    top = np.iinfo(gray.dtype).max
    transparent = transparent * top // (2 ** depth - 1)
    alpha = np.where(gray == transparent, 0, top).astype(gray.dtype)
    return np.dstack((gray, gray, gray, alpha))
