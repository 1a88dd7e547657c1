"""EXIF as TIFF bytes, read and changed in place.

Writing it anew would lose what Pillow does not know, such as the notes of camera makers, which hold offsets into the
whole.
"""
from __future__ import annotations

import contextlib
import logging
import struct
from collections.abc import Iterator

from PIL import ExifTags, Image

from .picture import Metadata

logger = logging.getLogger(__name__)

PREFIX = b'Exif\0\0'
ORIENTATION = 0x0112
#: Tags of EXIF and of TIFF that hold words about the picture.
WORD_TAGS = (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software,
             ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright)
_ASCII, _SHORT, _RATIONAL = 2, 3, 5  # types of TIFF
_DETAILS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo


def _iterate_entries(exif: bytes) -> Iterator[tuple[int, str, int, int, int]]:
    """Yield the position, order of bytes, tag, type and count of each entry of the main directory.

    Raises:
        KeyError, struct.error: damaged.
    """
    order = {b'II': '<', b'MM': '>'}[exif[:2]]
    directory, = struct.unpack_from(f'{order}I', exif, 4)
    count, = struct.unpack_from(f'{order}H', exif, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        yield entry, order, *struct.unpack_from(f'{order}HHI4x', exif, entry)


def reset_orientation(exif: bytes) -> tuple[bytes | None, int | None]:
    """Return EXIF with its orientation set to 1, and the orientation it had, if any; None for damaged EXIF."""
    try:
        for entry, order, tag, kind, count in _iterate_entries(exif):
            if tag == ORIENTATION:
                value, = struct.unpack_from(f'{order}H', exif, entry + 8)
                if (kind, count) != (_SHORT, 1) or not 1 <= value <= 8:
                    return exif, None
                patched = bytearray(exif)
                struct.pack_into(f'{order}H', patched, entry + 8, 1)
                return bytes(patched), value
    except (KeyError, struct.error):
        logger.warning('its EXIF data is damaged and is left out')
        return None, None
    return exif, None


def reset_resolution(exif: bytes) -> bytes:
    """Return EXIF with a resolution of 72, which by its specification stands for one that is not known."""
    patched = bytearray(exif)
    with contextlib.suppress(KeyError, struct.error):
        for entry, order, tag, kind, count in _iterate_entries(exif):
            if tag in (ExifTags.Base.XResolution, ExifTags.Base.YResolution) and (kind, count) == (_RATIONAL, 1):
                start, = struct.unpack_from(f'{order}I', exif, entry + 8)
                struct.pack_into(f'{order}2I', patched, start, 72, 1)
    return bytes(patched)


def list_words(exif: bytes) -> tuple[dict[int, bytes], bool]:
    """Return the tags that hold words, each with its bytes, and whether there is more, about exposure and place."""
    words, more = {}, False
    try:
        for entry, order, tag, kind, count in _iterate_entries(exif):
            more = more or tag in _DETAILS
            if tag in WORD_TAGS and kind == _ASCII:
                start = entry + 8 if count <= 4 else struct.unpack_from(f'{order}I', exif, entry + 8)[0]
                words[tag] = exif[start:start + count]
    except (KeyError, struct.error):
        return {}, True
    return words, more


def build_resolution(metadata: Metadata) -> bytes | None:
    """Return EXIF that holds the resolution alone, for formats with no other place for it; None without resolution."""
    if not metadata.dpi:
        return None
    tags = Image.Exif()
    tags[ExifTags.Base.XResolution], tags[ExifTags.Base.YResolution] = metadata.dpi
    tags[ExifTags.Base.ResolutionUnit] = 2  # inch
    return tags.tobytes().removeprefix(PREFIX)
