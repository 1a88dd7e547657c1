"""Read what files say about their pictures, through Pillow. All is checked here, so that writing can trust it."""
from __future__ import annotations

import logging
import math
import re
import struct

from PIL import ExifTags, Image

from . import exif as exif_data
from . import xmp as xmp_packets
from .picture import Metadata

logger = logging.getLogger(__name__)

_XMP_PREFIX = b'http://ns.adobe.com/xap/1.0/\0'
_MOST_DPI = 1_000_000  # of a microscope; 4294967295 is a damaged file's
_IPTC_RESOURCE = 0x0404
_IPTC_TAGS = 33723, 34377  # of TIFF: IPTC itself, and Photoshop's resources, of which it is one
# What marks a gain map in a file, beside XMP: ISO 21496-1, and Apple's in an auxiliary picture.
_GAIN_MAPS = b'urn:iso:std:iso:ts:21496:-1', b':aux:hdrgainmap'
_COMMENTED = 'JPEG', 'MPO', 'GIF', 'PNG'  # a comment in JPEG 2000 names the program that wrote it
_GAIN_MAP_FORMATS = 'JPEG', 'MPO', 'HEIF', 'AVIF'
# How HEIF and AVIF name their colours: primaries, transfer, matrix, and the range in one bit.
_NCLX = re.compile(rb'colrnclx\0(.)\0(.)', re.DOTALL)


def read_metadata(image: Image.Image, data: bytes) -> tuple[Metadata, int | None]:
    """Return what an opened picture says about itself, and the orientation (1..8) that its EXIF asks for, if any.

    What is damaged, past belief, or about something that no result has, is left out with a warning.

    Args:
        image: The picture.
        data: Its file.
    """
    profiles = _read_raw_profiles(image)
    exif, orientation = None, None
    if image.format == 'TIFF':
        exif, orientation = _collect_tiff_exif(image)
    elif raw := _read_bytes(image, 'EXIF data', 'exif') or profiles.get('exif'):
        exif, orientation = exif_data.reset_orientation(raw.removeprefix(exif_data.PREFIX))
    xmp = _read_bytes(image, 'XMP data', 'xmp', 'XML:com.adobe.xmp') or profiles.get('xmp')
    icc = _read_bytes(image, 'colour profile', 'icc_profile') or profiles.get('icc')
    if image.info.get('icc_profile', b'') is None:  # how Pillow says that it can't be unpacked, or lacks a part
        logger.warning('its colour profile is damaged and is left out')
    dpi, believable = _read_resolution(image)
    if exif and not believable:
        exif = exif_data.reset_resolution(exif)
    return Metadata(
        icc=icc,
        exif=exif,
        xmp=_remove_announcements(xmp, image, data),
        dpi=dpi,
        iptc=_read_iptc(image) or _find_iptc(profiles.get('iptc', b'')),
        comment=_read_bytes(image, 'comment', 'Comment', 'comment') if image.format in _COMMENTED else None,
        colour=() if icc else _read_nclx(image, data)), orientation


def _read_bytes(image: Image.Image, label: str, *names: str) -> bytes | None:
    """Return what Pillow found under the first of these names that there is; anything but bytes or text is damaged."""
    found = next(filter(None, map(image.info.get, names)), None)
    if found is None or isinstance(found, bytes):
        return found
    if isinstance(found, str):
        return found.encode(errors='replace')
    logger.warning('its %s is damaged and is left out', label)
    return None


def _read_resolution(image: Image.Image) -> tuple[tuple[float, float] | None, bool]:
    """Return the resolution in pixels per inch, and whether it may be; None where the file states none, as 0 or 1."""
    dpi = image.info.get('dpi')
    try:
        across, down = map(float, dpi or (0, 0))
    except (TypeError, ValueError, ArithmeticError):
        across = down = math.nan
    if 1 < across <= _MOST_DPI and 1 < down <= _MOST_DPI:
        return (across, down), True
    if 0 <= across <= 1 and 0 <= down <= 1:
        return None, True
    logger.warning('its resolution of %g x %g dpi makes no sense and is left out', across, down)
    return None, False


def _read_raw_profiles(image: Image.Image) -> dict[str, bytes]:
    """Return what ImageMagick keeps as hexadecimal text in PNG: a line with its name, one with its size, the bytes."""
    profiles: dict[str, bytes] = {}
    for keyword, text in image.info.items():
        if not isinstance(keyword, str) or not isinstance(text, str) or not keyword.startswith('Raw profile type '):
            continue
        try:
            name, size, *digits = text.split()
            content = bytes.fromhex(''.join(digits))[:int(size)]
        except ValueError:
            logger.warning('its text %s is damaged and is left out', keyword)
            continue
        if name == 'APP1':
            name = 'xmp' if content.startswith(_XMP_PREFIX) else 'exif'
        profiles[{'icm': 'icc', '8bim': 'iptc'}.get(name, name)] = content.removeprefix(_XMP_PREFIX)
    return profiles


def _read_iptc(image: Image.Image) -> bytes | None:
    resources = image.info.get('photoshop')
    if isinstance(resources, dict):  # of a JPEG
        content = resources.get(_IPTC_RESOURCE)
        return content if isinstance(content, bytes) else None
    # Many programs say that it is numbers, of which Pillow gives the first only; these are the bytes.
    tags = getattr(getattr(image, 'tag_v2', None), '_tagdata', {})
    return next(filter(None, (_find_iptc(tags.get(tag, b'')) for tag in _IPTC_TAGS)), None)


def _find_iptc(content: bytes) -> bytes | None:
    """Return IPTC records, which may lie among Photoshop's resources: each has an ID, a name, a size, its content."""
    if content.startswith(b'\x1C'):
        return content
    start = content.find(struct.pack('>4sH', b'8BIM', _IPTC_RESOURCE))
    if start < 0 or start + 12 > len(content):
        return None
    start += 6 + (content[start + 6] + 2) // 2 * 2  # a length, a name, and a byte where both are odd
    size = int.from_bytes(content[start:start + 4])
    return content[start + 4:start + 4 + size] or None


def _remove_announcements(xmp: bytes | None, image: Image.Image, data: bytes) -> bytes | None:
    """Return XMP without what announces a gain map or other data behind the picture, which no result has."""
    packet, announced = xmp_packets.remove_announcements(xmp) if xmp else (None, [])
    if xmp and packet is None:
        logger.warning('its XMP data is damaged and is left out')
    if image.format in _GAIN_MAP_FORMATS and any(mark in data for mark in _GAIN_MAPS):
        announced.append('gain map (for HDR)')
    for name in dict.fromkeys(announced):
        logger.warning('its %s is left out', name)
    return packet


def _read_nclx(image: Image.Image, data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return as cICP what HEIF and AVIF say of their colours, unless it is that they are as usual or unknown."""
    found = _NCLX.search(data) if image.format in ('HEIF', 'AVIF') else None
    if found is None or (found[1] in b'\1\2' and found[2] in b'\1\2\6\x0D'):
        return ()
    return (b'cICP', found[1] + found[2] + b'\0\1'),


def _collect_tiff_exif(image: Image.Image) -> tuple[bytes | None, int | None]:
    """Return as EXIF those tags of a TIFF that describe the picture, not its file's layout, and its orientation."""
    try:
        tags, kept = image.getexif(), Image.Exif()
        for tag in exif_data.WORD_TAGS:
            if tag in tags:
                kept[tag] = tags[tag]
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            if entries := tags.get_ifd(ifd):
                kept.get_ifd(ifd).update(entries)
        orientation = getattr(image, 'tag_v2', {}).get(exif_data.ORIENTATION)  # in `tags` it may be that of XMP
        return (kept.tobytes().removeprefix(exif_data.PREFIX) if len(kept) else None,
                orientation if orientation in range(1, 9) else None)
    except Exception:  # Pillow raises nearly anything when it is damaged
        logger.warning('its EXIF data is damaged and is left out')
        return None, None
