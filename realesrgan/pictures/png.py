"""Decode PNG in full depth, and refuse damaged files instead of guessing their pixels."""
from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Container, Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np

from ..errors import ImageError
from . import colour as colours
from .deep import reorder

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_TEXTS = b'tEXt', b'zTXt', b'iTXt'
_COMMENT = b'Comment\0'
# Keywords of texts that are read as something else.
_ABSORBED = b'XML:com.adobe.xmp\0', *(f'Raw profile type {name}\0'.encode() for name in (
    'exif', 'APP1', 'xmp', 'iptc', '8bim', 'icc', 'icm'))
_LONGEST_SIDE = 1_000_000  # libpng reads no longer one
_GRAY, _RGB, _PALETTE = 0, 2, 3
_DEPTHS = {_GRAY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}

logger = logging.getLogger(__name__)
logging.getLogger('imagecodecs').addHandler(logging.NullHandler())  # or what viewers pass over went to stderr


class _Header(NamedTuple):
    """The fields of the IHDR chunk."""

    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filtering: int
    interlaced: int


class Description(NamedTuple):
    """The metadata of a PNG.

    Attributes:
        header: A PNG without pixels that holds all that Pillow makes sense of.
        texts: The chunks (kind, content) that hold other texts.
        colour: The chunks (kind, content) that say what its colours look like; see `colour`.
    """

    header: bytes
    texts: tuple[tuple[bytes, bytes], ...]
    colour: tuple[tuple[bytes, bytes], ...]


def decode(data: bytes) -> np.ndarray:
    """Decode a PNG file, not turned upright.

    The decoder gets only what makes up the pixels: it refuses what it knows to be wrong in the rest, which viewers pass
    over.

    Returns:
        HxW, HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16, full range.

    Raises:
        ImageError: damaged.
    """
    chunks = list(_iterate_chunks(data))
    first = dict(reversed(chunks))
    if chunks[0][0] != b'IHDR' or len(chunks[0][1]) != 13 or b'IDAT' not in first:
        raise ImageError('damaged: a PNG without header or pixels')
    header = _read_header(first[b'IHDR'])
    colours = _check_colours(first.get(b'PLTE', b''), first.get(b'tRNS', b''), header)
    stream = [chunk for chunk in chunks if chunk[0] == b'IDAT']
    cleaned = [(b'IHDR', first[b'IHDR']), *colours.items(), *stream, (b'IEND', b'')]
    try:
        samples = imagecodecs.png_decode(_SIGNATURE + b''.join(build_chunk(*chunk) for chunk in cleaned))
    except Exception as error:  # its decoder raises errors of its own kind
        raise ImageError(f'damaged: {error}') from None
    return reorder(samples)


def build_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file, with its length before and its checksum behind."""
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def is_png(data: bytes) -> bool:
    """Tell by its first bytes whether a file is a PNG."""
    return data.startswith(_SIGNATURE)


def read_description(data: bytes) -> Description:
    """Return what a PNG says beside its pixels, also behind them, where many programs put it.

    Raises:
        ImageError: damaged.
    """
    chunks = list(_iterate_chunks(data))
    pixels = next((index for index, (kind, _) in enumerate(chunks) if kind == b'IDAT'), len(chunks))
    says = [chunk for index, chunk in enumerate(chunks) if index < pixels or chunk[0] in (*_TEXTS, b'eXIf')]
    comment = next((chunk for chunk in reversed(says) if chunk[0] in _TEXTS and chunk[1].startswith(_COMMENT)), None)
    texts = tuple(chunk for chunk in says if chunk[0] in _TEXTS and chunk is not comment
                  and not chunk[1].startswith(_ABSORBED))
    colour = tuple(chunk for chunk in says if chunk[0] in colours.CHUNK_BYTES)
    damaged = colours.find_damaged(colour)
    for kind in sorted(damaged):
        logger.warning('its description of colours (%s) is damaged and is left out', kind.decode())
    header = [*(chunk for chunk in says if chunk not in texts + colour), (b'IDAT', b''), (b'IEND', b'')]
    return Description(_SIGNATURE + b''.join(build_chunk(*chunk) for chunk in header), texts,
                       tuple(chunk for chunk in colour if chunk[0] not in damaged))


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


def _read_header(content: bytes) -> _Header:
    header = _Header(*struct.unpack('>IIBBBBB', content))
    if header.depth not in _DEPTHS.get(header.colour, ()) or header.compression or header.filtering or (
            header.interlaced > 1 or not header.width or not header.height):
        raise ImageError(f'damaged: a PNG with the header {" ".join(map(str, header))}')
    if max(header.width, header.height) > _LONGEST_SIDE:
        raise ImageError(f'too large to read: a PNG of {header.width}x{header.height}')
    return header


def _check_colours(palette: bytes, transparent: bytes, header: _Header) -> dict[bytes, bytes]:
    """Return the chunks with the palette and the transparency, as far as a picture of this kind has them."""
    chunks = {}
    if header.colour == _PALETTE:
        palette = palette[:3 << header.depth]
        if not palette or len(palette) % 3:
            raise ImageError(f'damaged: a palette of {len(palette)} bytes')
        chunks[b'PLTE'] = palette
    sizes: dict[int, Container[int]] = {_GRAY: (2,), _RGB: (6,), _PALETTE: range(1, len(palette) // 3 + 1)}
    if transparent and header.colour in sizes:
        if len(transparent) in sizes[header.colour]:
            chunks[b'tRNS'] = transparent
        else:
            logger.warning('its transparency is damaged and is left out')
    return chunks
