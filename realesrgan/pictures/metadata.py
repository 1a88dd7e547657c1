"""What a file says about its picture: read through Pillow, put into PNG and JPEG files byte by byte."""
from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags, Image

logger = logging.getLogger(__name__)

_BASIC_TAGS = (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software,
               ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright)
_EXIF_PREFIX = b'Exif\0\0'
_ORIENTATION = 0x0112
_XMP_PREFIX = b'http://ns.adobe.com/xap/1.0/\0'
_ICC_PREFIX = b'ICC_PROFILE\0'
_SEGMENT_BYTES = 65533  # what a JPEG segment holds beside its length
_METRES_PER_INCH = 0.0254
_PNG_HEADER = 33  # signature and IHDR
_JFIF_HEADER = 20  # SOI and APP0


@dataclass(frozen=True)
class Metadata:
    """What a file says about its picture.

    Attributes:
        icc: ICC profile.
        exif: EXIF as TIFF bytes, without the "Exif" prefix; its orientation is 1, for the pixels are upright.
        xmp: XMP packet.
        dpi: Resolution in pixels an inch, horizontal and vertical.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


def read_metadata(image: Image.Image) -> tuple[Metadata, int]:
    """Return what an opened image says, and the orientation (1..8) that its EXIF asks for."""
    exif, orientation = None, 1
    if image.format == 'TIFF':
        exif = _exif_of_tiff(image)
    elif raw := image.info.get('exif'):
        exif, orientation = _upright_exif(raw.removeprefix(_EXIF_PREFIX))
    xmp = image.info.get('xmp') or image.info.get('XML:com.adobe.xmp')
    dpi = image.info.get('dpi')
    return Metadata(
        icc=image.info.get('icc_profile') or None,
        exif=exif,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and all(value > 1 for value in dpi) else None), orientation


def _upright_exif(exif: bytes) -> tuple[bytes | None, int]:
    """Return EXIF with its orientation set to 1, all else as it was, and the orientation; None if it is damaged."""
    try:
        order = {b'II': '<', b'MM': '>'}[exif[:2]]
        directory, = struct.unpack_from(f'{order}I', exif, 4)
        count, = struct.unpack_from(f'{order}H', exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(f'{order}HHIH', exif, entry)
            if tag == _ORIENTATION:
                if (kind, values) != (3, 1) or not 1 <= value <= 8:
                    return exif, 1
                patched = bytearray(exif)
                struct.pack_into(f'{order}H', patched, entry + 8, 1)
                return bytes(patched), value
    except (KeyError, struct.error):
        logger.warning('its EXIF data is damaged and is left out')
        return None, 1
    return exif, 1


def _exif_of_tiff(image: Image.Image) -> bytes | None:
    """Return as EXIF those of a TIFF's tags that describe the picture, not how its file is laid out."""
    try:
        tags, kept = image.getexif(), Image.Exif()
        for tag in _BASIC_TAGS:
            if tag in tags:
                kept[tag] = tags[tag]
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if entries := tags.get_ifd(ifd):
                kept.get_ifd(ifd).update(entries)
        return kept.tobytes().removeprefix(_EXIF_PREFIX) if len(kept) else None
    except (SyntaxError, ValueError, TypeError, struct.error, OSError):
        logger.warning('its EXIF data is damaged and is left out')
        return None


# ---- into files ----

def resolution_as_exif(metadata: Metadata) -> bytes | None:
    """Return EXIF of the resolution alone, for formats that have no other place for it."""
    if not metadata.dpi:
        return None
    tags = Image.Exif()
    tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = metadata.dpi
    tags[ExifTags.Base.ResolutionUnit] = 2  # inch
    return tags.tobytes().removeprefix(_EXIF_PREFIX)


def header_size(kind: str) -> int:
    """Return how many bytes of a new file `header_with` replaces; 0 for formats that it leaves alone."""
    return _PNG_HEADER if kind == 'png' else _JFIF_HEADER if kind.startswith('j') else 0


def header_with(header: bytes, kind: str, metadata: Metadata) -> bytes:
    """Return the first bytes of a PNG or JPEG file, as OpenCV writes them, with the metadata added.

    Args:
        header: `header_size(kind)` bytes.
        kind: 'png', 'jpg' or another extension.
        metadata: What to add; what does not fit into a JPEG is left out with a warning.
    """
    if kind == 'png':
        return header + b''.join(_png_chunks(metadata))
    if kind.startswith('j'):
        if metadata.dpi:  # unit and densities stand at byte 13
            density = (min(round(value), 65535) for value in metadata.dpi)
            header = header[:13] + struct.pack('>BHH', 1, *density) + header[18:]
        return header + b''.join(_jpeg_segments(metadata))
    return header


def _png_chunks(metadata: Metadata) -> Iterator[bytes]:
    if metadata.icc:
        yield _png_chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(metadata.icc))
    if metadata.dpi:
        yield _png_chunk(b'pHYs', struct.pack('>IIB', *(round(dpi / _METRES_PER_INCH) for dpi in metadata.dpi), 1))
    if metadata.exif:
        yield _png_chunk(b'eXIf', metadata.exif)
    if metadata.xmp:  # iTXt, for tEXt is Latin-1
        yield _png_chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + metadata.xmp)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def _jpeg_segments(metadata: Metadata) -> Iterator[bytes]:
    for name, prefix, content in (('EXIF', _EXIF_PREFIX, metadata.exif), ('XMP', _XMP_PREFIX, metadata.xmp)):
        if content and len(prefix) + len(content) > _SEGMENT_BYTES:
            logger.warning('the %s data is too long for jpg and is left out', name)
        elif content:
            yield _jpeg_segment(0xE1, prefix + content)
    icc = metadata.icc or b''
    size = _SEGMENT_BYTES - len(_ICC_PREFIX) - 2
    count = -(-len(icc) // size)
    if count > 255:
        logger.warning('the ICC profile is too long for jpg and is left out')
        return
    for index in range(count):
        part = icc[index * size:(index + 1) * size]
        yield _jpeg_segment(0xE2, _ICC_PREFIX + bytes((index + 1, count)) + part)


def _jpeg_segment(marker: int, content: bytes) -> bytes:
    return struct.pack('>BBH', 0xFF, marker, len(content) + 2) + content
