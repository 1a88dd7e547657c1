"""Put what is known about a picture into the header of its file, byte by byte."""
from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator

from . import exif
from .formats import MetadataStyle
from .picture import Metadata
from .png import build_chunk

logger = logging.getLogger(__name__)

_XMP_PREFIX = b'http://ns.adobe.com/xap/1.0/\0'
_ICC_PREFIX = b'ICC_PROFILE\0'
_PHOTOSHOP_PREFIX = b'Photoshop 3.0\0'
_SEGMENT_BYTES = 65533  # what a JPEG segment holds beside its own length
_METRES_PER_INCH = 0.0254
_MOST_DPI_OF_JPEG = 65535
_HEX_DIGITS = 72  # in a line
_HEADER_BYTES = {
    MetadataStyle.PNG_CHUNKS: 33,  # signature and IHDR
    MetadataStyle.JPEG_SEGMENTS: 20,  # SOI and APP0, the JFIF segment
    MetadataStyle.BMP_HEADER: 54,
}


def header_size(style: MetadataStyle) -> int:
    """Return how many bytes of a new file `add_to_header` takes; 0 for styles that need nothing added."""
    return _HEADER_BYTES.get(style, 0)


def add_to_header(header: bytes, style: MetadataStyle, metadata: Metadata) -> bytes:
    """Add metadata to the header of a file that OpenCV wrote without any.

    Args:
        header: The first `header_size(style)` bytes of the file.
        style: How metadata gets into files of this format.
        metadata: What to add. Whatever is too long for a JPEG is left out with a warning.

    Returns:
        What the file begins with instead.
    """
    if style is MetadataStyle.PNG_CHUNKS:
        return header + b''.join(_build_png_chunks(metadata))
    if style is MetadataStyle.JPEG_SEGMENTS:
        if metadata.dpi and max(metadata.dpi) > _MOST_DPI_OF_JPEG:
            logger.warning('its resolution of %g x %g dpi is too high for jpg and is left out', *metadata.dpi)
        elif metadata.dpi:  # the JFIF segment holds unit and densities from byte 13 of the file on
            header = header[:13] + struct.pack('>BHH', 1, *map(round, metadata.dpi)) + header[18:]
        return header + b''.join(_build_jpeg_segments(metadata))
    if style is MetadataStyle.BMP_HEADER and metadata.dpi:  # pixels per metre from byte 38 of the file on
        return header[:38] + struct.pack('<2i', *_count_per_metre(metadata.dpi)) + header[46:]
    return header


def _count_per_metre(dpi: tuple[float, float]) -> tuple[int, int]:
    return round(dpi[0] / _METRES_PER_INCH), round(dpi[1] / _METRES_PER_INCH)


def _build_png_chunks(metadata: Metadata) -> Iterator[bytes]:
    if metadata.icc:
        yield build_chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(metadata.icc))
    for kind, content in metadata.colour:
        if not (metadata.icc and kind == b'sRGB'):  # which must not stand beside a profile
            yield build_chunk(kind, content)
    if metadata.dpi:
        yield build_chunk(b'pHYs', struct.pack('>IIB', *_count_per_metre(metadata.dpi), 1))
    if metadata.exif:
        yield build_chunk(b'eXIf', metadata.exif)
    if metadata.xmp:  # in iTXt, because tEXt holds Latin-1 only
        yield build_chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + metadata.xmp)
    if metadata.iptc:  # as ImageMagick and ExifTool keep it
        digits = _build_iptc_resource(metadata.iptc).hex()
        lines = [digits[start:start + _HEX_DIGITS] for start in range(0, len(digits), _HEX_DIGITS)]
        text = '\n'.join(('', 'iptc', f'{len(digits) // 2:8}', *lines, ''))
        yield build_chunk(b'zTXt', b'Raw profile type iptc\0\0' + zlib.compress(text.encode()))
    for kind, content in metadata.texts:
        yield build_chunk(kind, content)
    if metadata.comment:  # behind others, as it was read
        yield _build_comment(metadata.comment)


def _build_comment(comment: bytes) -> bytes:
    """Return the chunk of a PNG for a comment: tEXt for ASCII, otherwise iTXt, which is UTF-8."""
    comment = comment.replace(b'\0', b'')
    if comment.isascii():
        return build_chunk(b'tEXt', b'Comment\0' + comment)
    try:
        text = comment.decode()
    except UnicodeDecodeError:
        text = comment.decode('latin-1')
    return build_chunk(b'iTXt', b'Comment\0\0\0\0\0' + text.encode())


def _build_iptc_resource(iptc: bytes) -> bytes:
    """Return IPTC records as one of Photoshop's resources."""
    return struct.pack('>4sH2xI', b'8BIM', 0x0404, len(iptc)) + iptc + bytes(len(iptc) % 2)


def _build_jpeg_segments(metadata: Metadata) -> Iterator[bytes]:
    resource = metadata.iptc and _build_iptc_resource(metadata.iptc)
    for name, marker, prefix, content in (
            ('EXIF data', 0xE1, exif.PREFIX, metadata.exif), ('XMP data', 0xE1, _XMP_PREFIX, metadata.xmp),
            ('IPTC data', 0xED, _PHOTOSHOP_PREFIX, resource), ('comment', 0xFE, b'', metadata.comment)):
        if content and len(prefix) + len(content) > _SEGMENT_BYTES:
            logger.warning('the %s is too long for jpg and is left out', name)
        elif content:
            yield _build_jpeg_segment(marker, prefix + content)
    icc = metadata.icc or b''
    size = _SEGMENT_BYTES - len(_ICC_PREFIX) - 2
    count = -(-len(icc) // size)
    if count > 255:  # parts are numbered in one byte
        logger.warning('the ICC profile is too long for jpg and is left out')
        return
    for index in range(count):
        part = icc[index * size:(index + 1) * size]
        yield _build_jpeg_segment(0xE2, _ICC_PREFIX + bytes((index + 1, count)) + part)


def _build_jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content
