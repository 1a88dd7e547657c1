"""Read the metadata of a picture, through Pillow. All is checked here, so that writing can trust it.

EXIF is kept as the TIFF bytes that it is, and changed in place: written anew, it would lose parts that Pillow does not
know, such as the notes of camera makers, which hold offsets into the whole.
"""
from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PIL import ExifTags, Image

from .picture import EXIF_PREFIX, XMP_PREFIX, Chunks, Metadata

if TYPE_CHECKING:
    from xml.dom import minidom

logger = logging.getLogger(__name__)

_MOST_DPI = 1_000_000  # of a microscope; 4294967295 is a damaged file's
_IPTC_RESOURCE = 0x0404
_IPTC_TAGS = 33723, 34377  # of TIFF: IPTC itself, and Photoshop's resources, of which it is one
# The marks of a gain map in a file, beside XMP: ISO 21496-1, and Apple's in an auxiliary picture.
_GAIN_MAPS = b'urn:iso:std:iso:ts:21496:-1', b':aux:hdrgainmap'
_GAIN_MAP_FORMATS = 'JPEG', 'MPO', 'HEIF', 'AVIF'
_COMMENTED = 'JPEG', 'MPO', 'GIF', 'PNG'  # a comment in JPEG 2000 names the program that wrote it
# How HEIF and AVIF name their colours: primaries, transfer, matrix, and the range in one bit.
_NCLX = re.compile(rb'colrnclx\0(.)\0(.)', re.DOTALL)
_ASCII, _SHORT = 2, 3  # types of EXIF and TIFF
_ORIENTATION = 0x0112
_DETAILS = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
# Tags of EXIF and of TIFF that hold words about the picture.
_WORD_TAGS = (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software,
              ExifTags.Base.DateTime, ExifTags.Base.Artist, ExifTags.Base.Copyright)
# As an attribute or as an element.
_XMP_ORIENTATION = re.compile(rb'(\btiff:Orientation\s*(?:=\s*["\']|>)\s*)[2-8]')
# Namespaces that announce data behind or beside a picture: its label, and the names there; '' begins all.
_ANNOUNCED: dict[str, tuple[str, tuple[str, ...]]] = {
    'http://ns.adobe.com/hdr-gain-map/1.0/': ('gain map (for HDR)', ('',)),
    'http://ns.apple.com/HDRGainMap/1.0/': ('gain map (for HDR)', ('',)),
    'http://ns.google.com/photos/1.0/camera/': ('moving part', ('MotionPhoto', 'MicroVideo')),
    'http://ns.adobe.com/xmp/note/': ('extended XMP', ('HasExtendedXMP',)),
    'http://ns.google.com/photos/1.0/container/': ('', ('',)),  # which lists all that is in the file
    'http://ns.google.com/photos/1.0/container/item/': ('', ('',)),
}


def read_metadata(image: Image.Image, data: bytes) -> tuple[Metadata, int | None]:
    """Return the metadata of an opened picture, and the orientation (1..8) that its EXIF asks for, if any.

    Whatever is damaged, past belief, or about something that no result has, is left out with a warning.

    Args:
        image: The picture.
        data: Its file.
    """
    profiles = _read_raw_profiles(image)
    exif, orientation = None, None
    if image.format == 'TIFF':
        exif, orientation = _collect_tiff_exif(image)
    elif raw := _read_bytes(image, 'EXIF data', 'exif') or profiles.get('exif'):
        exif, orientation = _reset_orientation(raw.removeprefix(EXIF_PREFIX))
    xmp = _read_bytes(image, 'XMP data', 'xmp', 'XML:com.adobe.xmp') or profiles.get('xmp')
    if xmp and orientation:  # some programs follow it where there is no EXIF
        xmp = _XMP_ORIENTATION.sub(rb'\g<1>1', xmp)
    icc = _read_bytes(image, 'colour profile', 'icc_profile') or profiles.get('icc')
    if image.info.get('icc_profile', b'') is None:  # Pillow's sign that it is damaged or incomplete
        logger.warning('its colour profile is damaged and is left out')
    return Metadata(
        icc=icc,
        exif=exif,
        xmp=_remove_announcements(xmp, image, data),
        dpi=_read_resolution(image),
        iptc=_read_iptc(image) or _find_iptc(profiles.get('iptc', b'')),
        comment=_read_bytes(image, 'comment', 'Comment', 'comment') if image.format in _COMMENTED else None,
        colour=() if icc else _read_nclx(image, data)), orientation


def measure_upright(image: Image.Image) -> tuple[int, int]:
    """Return width and height as they will be once the orientation in EXIF is applied, without decoding the picture."""
    raw = image.info.get('exif')
    if image.format == 'TIFF' or not isinstance(raw, bytes):  # Pillow has applied that of a TIFF
        return image.size
    _, orientation = _reset_orientation(raw.removeprefix(EXIF_PREFIX))
    width, height = image.size
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def _read_bytes(image: Image.Image, label: str, *names: str) -> bytes | None:
    """Return the first of these entries that Pillow found; anything but bytes or text is damaged."""
    found = next(filter(None, map(image.info.get, names)), None)
    if found is None or isinstance(found, bytes):
        return found
    if isinstance(found, str):
        return found.encode(errors='replace')
    logger.warning('its %s is damaged and is left out', label)
    return None


def _read_resolution(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution in pixels per inch; None where the file states none, as 0 or 1, or an absurd one."""
    try:
        across, down = map(float, image.info.get('dpi') or (0, 0))
    except (TypeError, ValueError, ArithmeticError):
        across = down = math.nan
    if 1 < across <= _MOST_DPI and 1 < down <= _MOST_DPI:
        return across, down
    if not (0 <= across <= 1 and 0 <= down <= 1):
        logger.warning('its resolution of %g x %g dpi makes no sense and is ignored', across, down)
    return None


def _read_raw_profiles(image: Image.Image) -> dict[str, bytes]:
    """Return the profiles that ImageMagick keeps in PNG as text: a line with the name, one with the size, then hex."""
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
            name = 'xmp' if content.startswith(XMP_PREFIX) else 'exif'
        profiles[{'icm': 'icc', '8bim': 'iptc'}.get(name, name)] = content.removeprefix(XMP_PREFIX)
    return profiles


def _read_iptc(image: Image.Image) -> bytes | None:
    resources = image.info.get('photoshop')
    if isinstance(resources, dict):  # of a JPEG
        content = resources.get(_IPTC_RESOURCE)
        return content if isinstance(content, bytes) else None
    # Many programs store it as numbers, of which Pillow returns only the first; these are the raw bytes.
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


def _read_nclx(image: Image.Image, data: bytes) -> Chunks:
    """Return the colours that HEIF and AVIF state as cICP, unless they are the usual ones or unknown."""
    found = _NCLX.search(data) if image.format in ('HEIF', 'AVIF') else None
    if found is None or (found[1] in b'\1\2' and found[2] in b'\1\2\6\x0D'):
        return ()
    return (b'cICP', found[1] + found[2] + b'\0\1'),


# ---- EXIF ----

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


def _reset_orientation(exif: bytes) -> tuple[bytes | None, int | None]:
    """Return EXIF with its orientation set to 1, and the orientation it had, if any; None for damaged EXIF."""
    try:
        for entry, order, tag, kind, count in _iterate_entries(exif):
            if tag == _ORIENTATION:
                value, = struct.unpack_from(f'{order}H', exif, entry + 8)
                if (kind, count) != (_SHORT, 1) or not 1 <= value <= 8:
                    return exif, None
                return exif[:entry + 8] + struct.pack(f'{order}H', 1) + exif[entry + 10:], value
    except (KeyError, struct.error):
        logger.warning('its EXIF data is damaged and is left out')
        return None, None
    return exif, None


def list_words(exif: bytes) -> tuple[dict[int, bytes], bool]:
    """Return the tags that hold words, each with its bytes, and whether there is more, about exposure and place."""
    words, more = {}, False
    try:
        for entry, order, tag, kind, count in _iterate_entries(exif):
            more = more or tag in _DETAILS
            if tag in _WORD_TAGS and kind == _ASCII:
                start = entry + 8 if count <= 4 else struct.unpack_from(f'{order}I', exif, entry + 8)[0]
                words[tag] = exif[start:start + count]
    except (KeyError, struct.error):
        return {}, True
    return words, more


def _collect_tiff_exif(image: Image.Image) -> tuple[bytes | None, int | None]:
    """Return as EXIF those tags of a TIFF that describe the picture, not its file's layout, and its orientation."""
    try:
        tags, kept = image.getexif(), Image.Exif()
        kept.update({tag: tags[tag] for tag in _WORD_TAGS if tag in tags})
        for ifd in _DETAILS:
            if entries := tags.get_ifd(ifd):
                kept.get_ifd(ifd).update(entries)
        orientation = getattr(image, 'tag_v2', {}).get(_ORIENTATION)  # in `tags` it may be that of XMP
        return (kept.tobytes().removeprefix(EXIF_PREFIX) if len(kept) else None,
                orientation if orientation in range(1, 9) else None)
    except Exception:  # Pillow raises nearly anything when it is damaged
        logger.warning('its EXIF data is damaged and is left out')
        return None, None


# ---- XMP ----

def _remove_announcements(xmp: bytes | None, image: Image.Image, data: bytes) -> bytes | None:
    """Return XMP without the announcements of a gain map or other data behind the picture, which no result has."""
    announced: list[str] = []
    if xmp and any(namespace.encode() in xmp for namespace in _ANNOUNCED):
        from xml.dom import minidom
        from xml.parsers.expat import ExpatError
        try:
            if b'<!DOCTYPE' in xmp:  # could define entities without end
                raise ValueError
            document = minidom.parseString(xmp.strip(b'\0 \t\r\n'))  # noqa: S318, for there are no entities
            for element in document.getElementsByTagName('*'):
                announced += _clean_element(element)
            xmp = ''.join(node.toxml() for node in document.childNodes).encode()
        except (ExpatError, ValueError):
            xmp = None
            logger.warning('its XMP data is damaged and is left out')
    if image.format in _GAIN_MAP_FORMATS and any(mark in data for mark in _GAIN_MAPS):
        announced.append('gain map (for HDR)')
    for name in filter(None, dict.fromkeys(announced)):
        logger.warning('its %s is left out', name)
    return xmp


def _clean_element(element: minidom.Element) -> Iterator[str]:
    """Remove an element of XMP and its attributes where they announce something, and yield the labels."""
    for attribute in list(element.attributes.values()):
        if (label := _find_label(attribute)) is not None:
            yield label
            element.removeAttributeNode(attribute)
        elif attribute.name.startswith('xmlns:') and _ANNOUNCED.get(attribute.value, ('', ()))[1] == ('',):
            element.removeAttributeNode(attribute)  # nothing needs this prefix now
    if (label := _find_label(element)) is not None and element.parentNode is not None:
        yield label
        element.parentNode.removeChild(element)


def _find_label(node: minidom.Attr | minidom.Element) -> str | None:
    label, names = _ANNOUNCED.get(node.namespaceURI or '', ('', ()))
    return label if (node.localName or '').startswith(names) else None
