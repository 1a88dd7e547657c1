"""Decode PNG in full depth, and refuse damaged files instead of guessing their pixels; encode it on all cores."""
from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from zlib_ng import zlib_ng as zlib

from ..engines.cpu import count_cores
from ..errors import ImageError, flatten_message
from . import colour as colours
from .picture import Chunks, reorder_to_bgr

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PLAIN = _SIGNATURE + b'\0\0\0\x0DIHDR'  # begins so, and has nothing but two empty chunks behind that one
_PLAIN_BYTES = 57
_TEXTS = b'tEXt', b'zTXt', b'iTXt'
_COMMENT = b'Comment\0'
# Keywords of texts that are read as something else.
_ABSORBED = b'XML:com.adobe.xmp\0', *(f'Raw profile type {name}\0'.encode() for name in (
    'exif', 'APP1', 'xmp', 'iptc', '8bim', 'icc', 'icm'))
_GRAY, _RGB, _RGBA = 0, 2, 6
_SUB = 1  # the filter that stores what each byte adds to that of the pixel before
_BAND_BYTES = 1 << 20  # before they are deflated
_MOST_BANDS = 256  # that wait to be written
_ADLER_MODULUS = 65521

logger = logging.getLogger(__name__)
logging.getLogger('imagecodecs').addHandler(logging.NullHandler())  # or warnings that viewers ignore would go to stderr


def decode(data: bytes) -> np.ndarray:
    """Decode a PNG file, not turned upright.

    Returns:
        HxW, HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16, full range.

    Raises:
        ImageError: damaged.
    """
    import imagecodecs
    try:
        pixels = reorder_to_bgr(imagecodecs.png_decode(data))
    except Exception as error:  # imagecodecs raises errors of its own kind, and loses some of libpng's messages
        is_lost = isinstance(error, UnicodeDecodeError) or not str(error)
        reason = 'chunks are missing, or unknown' if is_lost else flatten_message(error)
        raise ImageError(f'damaged: {reason}') from None
    if pixels.shape[2:] != (4,) and any(kind == b'tRNS' for kind, _ in _iterate_chunks(data)):
        logger.warning('its transparency is damaged and is left out')
    return pixels


def encode(pixels: np.ndarray, metadata: Iterable[bytes] = ()) -> Iterator[bytes]:
    """Yield the pieces of a PNG file.

    Filter, level and strategy are those of OpenCV, and so of Real-ESRGAN 0.3.0; zlib-ng makes the same bytes as zlib in
    two thirds of the time. But rows are deflated in bands, on all cores, which costs some bytes for each. As runs are
    all that is looked for, nothing is lost where a band begins.

    Args:
        pixels: HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16.
        metadata: Chunks that go before the pixels.
    """
    height, width = pixels.shape[:2]
    samples = pixels.reshape(height, width, -1)
    kind = {1: _GRAY, 3: _RGB, 4: _RGBA}[samples.shape[2]]
    yield _SIGNATURE + build_chunk(b'IHDR', struct.pack('>IIBB3x', width, height, 8 * pixels.itemsize, kind))
    yield from metadata
    rows = max(_BAND_BYTES // (pixels.nbytes // height), 1)

    def deflate(top: int) -> tuple[bytes, int, int]:
        band = _filter_rows(samples[top:top + rows]).data
        compressor = zlib.compressobj(1, wbits=-zlib.MAX_WBITS, strategy=zlib.Z_RLE)
        deflated = compressor.compress(band)
        deflated += compressor.flush(zlib.Z_SYNC_FLUSH if top + rows < height else zlib.Z_FINISH)
        return deflated, zlib.adler32(band), band.nbytes

    low, high, header = 1, 0, b'\x78\x01'  # the two halves of the checksum so far, and the beginning of a zlib stream
    with ThreadPoolExecutor(count_cores()) as pool:
        for start in range(0, height, rows * _MOST_BANDS):
            for deflated, checksum, size in pool.map(deflate, range(start, min(start + rows * _MOST_BANDS, height),
                                                                    rows)):
                high = (high + (checksum >> 16) + size * (low - 1)) % _ADLER_MODULUS
                low = (low + (checksum & 0xFFFF) - 1) % _ADLER_MODULUS
                yield build_chunk(b'IDAT', header + deflated)
                header = b''
    yield build_chunk(b'IDAT', struct.pack('>HH', high, low)) + build_chunk(b'IEND', b'')


def _filter_rows(samples: np.ndarray) -> np.ndarray:
    """Return rows of HxWxC, gray, BGR or BGRA, as PNG stores them, with the filter Sub."""
    height, width, channels = samples.shape
    depth = samples.itemsize
    stored = samples.astype(samples.dtype.newbyteorder('>'), copy=False).view(np.uint8).reshape(height, width, -1)
    filtered = np.empty((height, 1 + width * channels * depth), np.uint8)
    filtered[:, 0] = _SUB
    pixels = filtered[:, 1:].reshape(height, width, -1)  # in the same memory
    for channel, source in enumerate((2, 1, 0, 3)[:channels] if channels > 1 else (0,)):
        for byte in range(depth):
            values, target = stored[..., depth * source + byte], pixels[..., depth * channel + byte]
            target[:, 0] = values[:, 0]
            np.subtract(values[:, 1:], values[:, :-1], out=target[:, 1:])
    return filtered


def build_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file, with its length before and its checksum behind."""
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def is_png(data: bytes) -> bool:
    """Tell by its first bytes whether a file is a PNG."""
    return data.startswith(_SIGNATURE)


def read_description(data: bytes) -> tuple[bytes, Chunks, Chunks]:
    """Return the metadata of a PNG, also that behind its pixels, where many programs put it.

    Returns:
        A PNG without pixels that holds all that Pillow makes sense of; the chunks that hold other texts; and those that
        describe its colours (see `colour`).

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
    return (_SIGNATURE + b''.join(build_chunk(*chunk) for chunk in header), texts,
            tuple(chunk for chunk in colour if chunk[0] not in damaged))


def read_size_of_plain(header: bytes) -> tuple[int, int] | None:
    """Return height and width of a PNG in which there is nothing else that Pillow makes sense of; None for any other.

    Args:
        header: The PNG without pixels that `read_description` returns.
    """
    if len(header) != _PLAIN_BYTES or not header.startswith(_PLAIN):
        return None
    width, height = struct.unpack_from('>II', header, len(_PLAIN))
    return height, width


def _iterate_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the content of each chunk up to the end of the picture."""
    position, kind = len(_SIGNATURE), b''
    while kind != b'IEND':
        size, kind = struct.unpack_from('>I4s', data, position) if position + 8 <= len(data) else (0, b'')
        end = position + 8 + size
        if len(data) < end + 4:
            raise ImageError(f'damaged: it ends after {len(data)} bytes, in the middle of the picture')
        content = data[position + 8:end]
        if int.from_bytes(data[end:end + 4]) != zlib.crc32(kind + content):
            raise ImageError(f'damaged: wrong checksum of the chunk at byte {position}')
        position = end + 4
        yield kind, content
