"""Read what files say about their pictures, through Pillow, and put it into PNG and JPEG files byte by byte."""
from __future__ import annotations

import logging
import math
import re
import struct
import zlib
from collections.abc import Iterator

from PIL import ExifTags, Image

from .formats import MetadataStyle
from .picture import Metadata
from .png import build_chunk

logger = logging.getLogger(__name__)

_BASIC_TAGS = (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software,
               ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright)
_EXIF_PREFIX = b'Exif\0\0'
_ORIENTATION = 0x0112
_SHORT = 3  # the EXIF type of 16-bit integers
# As an attribute or as an element.
_XMP_ORIENTATION = re.compile(rb'(\btiff:Orientation\s*(?:=\s*["\']|>)\s*)[2-8]')
_XMP_PREFIX = b'http://ns.adobe.com/xap/1.0/\0'
_ICC_PREFIX = b'ICC_PROFILE\0'
_SEGMENT_BYTES = 65533  # what a JPEG segment holds beside its own length
_METRES_PER_INCH = 0.0254
_MOST_DPI_OF_JPEG = 65535
_MOST_DPI = 1_000_000  # of a microscope; 4294967295 is a damaged file's
_HEADER_BYTES = {
    MetadataStyle.PNG_CHUNKS: 33,  # signature and IHDR
    MetadataStyle.JPEG_SEGMENTS: 20,  # SOI and APP0, the JFIF segment
}


def read_metadata(image: Image.Image) -> tuple[Metadata, int | None]:
    """Return what an opened picture says about itself, and the orientation (1..8) that its EXIF asks for, if any.

    Damaged EXIF is left out with a warning.
    """
    exif, orientation = None, None
    if image.format == 'TIFF':
        exif, orientation = _collect_tiff_exif(image)
    elif raw := image.info.get('exif'):
        exif, orientation = _reset_orientation(raw.removeprefix(_EXIF_PREFIX))
    return Metadata(
        icc=_read_bytes(image, 'colour profile', 'icc_profile'),
        exif=exif,
        xmp=_read_bytes(image, 'XMP data', 'xmp', 'XML:com.adobe.xmp'),
        dpi=_read_resolution(image)), orientation


def _read_bytes(image: Image.Image, label: str, *names: str) -> bytes | None:
    """Return what Pillow found under the first of these names that there is; anything but bytes or text is damaged."""
    found = next(filter(None, map(image.info.get, names)), None)
    if found is None or isinstance(found, bytes):
        return found
    if isinstance(found, str):
        return found.encode(errors='replace')
    logger.warning('its %s is damaged and is left out', label)
    return None


def _read_resolution(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution in pixels per inch; None where the file states none (as 0 or 1), or one past belief."""
    dpi = image.info.get('dpi')
    try:
        across, down = map(float, dpi or (0, 0))
    except (TypeError, ValueError, ArithmeticError):
        across = down = math.nan
    if 1 < across <= _MOST_DPI and 1 < down <= _MOST_DPI:
        return across, down
    if not (0 <= across <= 1 and 0 <= down <= 1):
        logger.warning('its resolution of %g x %g dpi makes no sense and is left out', across, down)
    return None


def reset_xmp_orientation(xmp: bytes | None) -> bytes | None:
    """Return XMP with its orientation set to 1; some programs turn pictures by it where there is no EXIF."""
    return xmp and _XMP_ORIENTATION.sub(rb'\g<1>1', xmp)


def _reset_orientation(exif: bytes) -> tuple[bytes | None, int | None]:
    """Return EXIF with its orientation set to 1, and the orientation it had, if any; None for damaged EXIF.

    Only the orientation's two bytes change: writing EXIF anew would lose what Pillow does not know, such as the notes
    of camera makers, which hold offsets into the whole.
    """
    try:
        order = {b'II': '<', b'MM': '>'}[exif[:2]]
        directory, = struct.unpack_from(f'{order}I', exif, 4)
        count, = struct.unpack_from(f'{order}H', exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(f'{order}HHIH', exif, entry)
            if tag == _ORIENTATION:
                if (kind, values) != (_SHORT, 1) or not 1 <= value <= 8:
                    return exif, None
                patched = bytearray(exif)
                struct.pack_into(f'{order}H', patched, entry + 8, 1)
                return bytes(patched), value
    except (KeyError, struct.error):
        logger.warning('its EXIF data is damaged and is left out')
        return None, None
    return exif, None


def _collect_tiff_exif(image: Image.Image) -> tuple[bytes | None, int | None]:
    """Return as EXIF those tags of a TIFF that describe the picture, not its file's layout, and its orientation."""
    try:
        tags, kept = image.getexif(), Image.Exif()
        for tag in _BASIC_TAGS:
            if tag in tags:
                kept[tag] = tags[tag]
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if entries := tags.get_ifd(ifd):
                kept.get_ifd(ifd).update(entries)
        orientation = getattr(image, 'tag_v2', {}).get(_ORIENTATION)  # in `tags` it may be that of XMP
        return (kept.tobytes().removeprefix(_EXIF_PREFIX) if len(kept) else None,
                orientation if orientation in range(1, 9) else None)
    except Exception:  # Pillow raises nearly anything when it is damaged
        logger.warning('its EXIF data is damaged and is left out')
        return None, None


# ---- into files ----

def build_resolution_exif(metadata: Metadata) -> bytes | None:
    """Return EXIF that holds the resolution alone, for formats with no other place for it; None without resolution."""
    if not metadata.dpi:
        return None
    tags = Image.Exif()
    tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = metadata.dpi
    tags[ExifTags.Base.ResolutionUnit] = 2  # inch
    return tags.tobytes().removeprefix(_EXIF_PREFIX)


def header_size(style: MetadataStyle) -> int:
    """Return how many bytes of a new file `add_to_header` takes; 0 for styles that need nothing added."""
    return _HEADER_BYTES.get(style, 0)


def add_to_header(header: bytes, style: MetadataStyle, metadata: Metadata) -> bytes:
    """Add metadata to the header of a PNG or JPEG file that OpenCV wrote without any.

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
    return header


def _build_png_chunks(metadata: Metadata) -> Iterator[bytes]:
    if metadata.icc:
        yield build_chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(metadata.icc))
    if metadata.dpi:
        yield build_chunk(b'pHYs', struct.pack('>IIB', *(round(dpi / _METRES_PER_INCH) for dpi in metadata.dpi), 1))
    if metadata.exif:
        yield build_chunk(b'eXIf', metadata.exif)
    if metadata.xmp:  # in iTXt, because tEXt holds Latin-1 only
        yield build_chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + metadata.xmp)


def _build_jpeg_segments(metadata: Metadata) -> Iterator[bytes]:
    for name, prefix, content in (('EXIF', _EXIF_PREFIX, metadata.exif), ('XMP', _XMP_PREFIX, metadata.xmp)):
        if content and len(prefix) + len(content) > _SEGMENT_BYTES:
            logger.warning('the %s data is too long for jpg and is left out', name)
        elif content:
            yield _build_jpeg_segment(0xE1, prefix + content)
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
