"""Borders that a container says to cut off: PixelCrop of Matroska (RFC 9559), 'clap' of MP4 (ISO/IEC 14496-12, 12.1.4).

ffprobe tells of them since version 7.1 only, so they are read here.
"""
from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

#: What is cut off on the left, at the top, on the right and at the bottom, in pixels.
Crop = tuple[int, int, int, int]

_SEGMENT, _TRACKS, _CLUSTER, _TRACK, _VIDEO = 0x18538067, 0x1654AE6B, 0x1F43B675, 0xAE, 0xE0
_CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)
_WIDTH, _HEIGHT, _SHOWN_WIDTH, _SHOWN_HEIGHT = 0xB0, 0xBA, 0x54B0, 0x54BA
_VISUAL_ENTRY = 78  # bytes of a sample entry in front of its boxes


def read_crop(path: Path, format_name: str, number: int) -> tuple[Crop, Fraction | None] | None:
    """Read what a file says to cut off.

    Args:
        path: The file.
        format_name: ffmpeg's name of the container.
        number: Of the video track, counted from 0 among those.

    Returns:
        The crop, and the width of a pixel divided by its height where what ffmpeg before 7.1 says of that does not
        consider the crop. None if there is no crop, or the file makes no sense.
    """
    read = {'matroska': _read_matroska, 'mov': _read_mp4}.get(format_name.split(',')[0])
    if read is None:
        return None
    try:
        with path.open('rb') as file:
            found = read(file, path.stat().st_size, number)
    except (OSError, ValueError, LookupError, ArithmeticError, StopIteration, struct.error):
        return None
    return found if any(found[0]) else None


# ---- Matroska ----

def _read_matroska(file: BinaryIO, size: int, number: int) -> tuple[Crop, Fraction | None]:
    segment = next(place for identifier, *place in _list_elements(file, 0, size) if identifier == _SEGMENT)
    video = _list_matroska_videos(file, *segment)[number]
    left, top, right, bottom = (video.get(identifier, 0) for identifier in _CROPS)
    width, height = video[_WIDTH] - left - right, video[_HEIGHT] - top - bottom
    shown = Fraction(video.get(_SHOWN_WIDTH, width), video.get(_SHOWN_HEIGHT, height))
    return (left, top, right, bottom), shown / Fraction(width, height)


def _list_matroska_videos(file: BinaryIO, start: int, stop: int) -> list[dict[int, int]]:
    """Return the numbers in the description of each video track of a segment, by identifier."""
    for identifier, *tracks in _list_elements(file, start, stop):
        if identifier == _TRACKS:
            return [{name: int.from_bytes(_read_at(file, *place)) for name, *place in _list_elements(file, *video)
                     if place[1] - place[0] <= 8}
                    for kind, *track in _list_elements(file, *tracks) if kind == _TRACK
                    for part, *video in _list_elements(file, *track) if part == _VIDEO]
        if identifier == _CLUSTER:
            break
    return []


def _list_elements(file: BinaryIO, position: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield identifier, start and end of each EBML element between two positions."""
    while position < stop:
        file.seek(position)
        identifier, _ = _read_variable_integer(file)
        marked, bits = _read_variable_integer(file)
        length = marked - (1 << bits)
        start = file.tell()
        position = stop if length == (1 << bits) - 1 else min(start + length, stop)  # all ones: it is unknown
        yield identifier, start, position


def _read_variable_integer(file: BinaryIO) -> tuple[int, int]:
    """Return an integer of EBML with the bit that marks its length, and the number of bits after that."""
    first = file.read(1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise ValueError('no EBML')
    return int.from_bytes(bytes([first]) + file.read(length - 1)), 7 * length


# ---- MP4 ----

def _read_mp4(file: BinaryIO, size: int, number: int) -> tuple[Crop, None]:
    movie = _find_box(file, 0, size, b'moov')
    tracks = [(start, stop) for name, start, stop in _list_boxes(file, *movie) if name == b'trak']
    media = [_find_box(file, *track, b'mdia') for track in tracks]
    videos = [place for place in media if _read_at(file, *_find_box(file, *place, b'hdlr'))[8:12] == b'vide']
    start, stop = _find_box(file, *videos[number], b'minf', b'stbl', b'stsd')
    _, entry, end = next(_list_boxes(file, start + 8, stop))
    width, height = struct.unpack('>24xHH', _read_at(file, entry, entry + 28))
    numbers = struct.unpack('>iIiIiIiI', _read_at(file, *_find_box(file, entry + _VISUAL_ENTRY, end, b'clap')))
    shown_width, shown_height, right, down = (Fraction(*numbers[index:index + 2]) for index in range(0, 8, 2))
    left, top = (math.floor(shift + (whole - shown) / 2) for shift, whole, shown in (
        (right, width, shown_width), (down, height, shown_height)))
    return (left, top, width - left - math.floor(shown_width), height - top - math.floor(shown_height)), None


def _find_box(file: BinaryIO, start: int, stop: int, *names: bytes) -> tuple[int, int]:
    """Return where the contents of the first box of a name begin and end, within the first of the name before."""
    for name in names:
        start, stop = next((place[0], place[1]) for found, *place in _list_boxes(file, start, stop) if found == name)
    return start, stop


def _list_boxes(file: BinaryIO, position: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of each box between two positions."""
    while position + 8 <= stop:
        length, name = struct.unpack('>I4s', _read_at(file, position, position + 8))
        start = position + 8
        if length == 1:
            length, start = struct.unpack('>Q', _read_at(file, start, start + 8))[0], start + 8
        end = min(position + length, stop) if length else stop
        if end < start:
            raise ValueError('a box that ends before it begins')
        yield name, start, end
        position = end


def _read_at(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(min(stop - start, 1 << 16))
