"""Borders that a container says to cut off: PixelCrop of Matroska (RFC 9559), 'clap' of MP4 (ISO/IEC 14496-12, 12.1.4).

ffprobe reports them only since version 7.1, so they are read here.
"""
from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO

#: The borders on the left, at the top, on the right and at the bottom, in pixels.
Crop = tuple[int, int, int, int]

_SEGMENT, _TRACKS, _TRACK, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_CROPS = (0x54CC, 0x54BB, 0x54DD, 0x54AA)
_WIDTH, _HEIGHT, _SHOWN_WIDTH, _SHOWN_HEIGHT = 0xB0, 0xBA, 0x54B0, 0x54BA
_VISUAL_ENTRY = 78  # bytes of a sample entry in front of its boxes

# Yields the name of each element between two positions, and where its contents begin and end.
_ListElements = Callable[[BinaryIO, int, int], Iterator[tuple[int | bytes, int, int]]]


def read_crop(path: Path, format_name: str, number: int) -> tuple[Crop, Fraction | None] | None:
    """Read the borders that a file says to cut off.

    Args:
        path: The file.
        format_name: ffmpeg's name of the container.
        number: Of the video track, counted from 0 among those.

    Returns:
        The crop, and the width of a pixel divided by its height if ffmpeg before 7.1 computes that without the crop.
        None if there is no crop, or the file makes no sense.
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


def _read_matroska(file: BinaryIO, size: int, number: int) -> tuple[Crop, Fraction | None]:
    videos = _find(file, 0, size, _list_ebml, _SEGMENT, _TRACKS, _TRACK, _VIDEO)
    video = {name: int.from_bytes(_read_at(file, start, stop))
             for name, start, stop in _list_ebml(file, *next(islice(videos, number, None)))
             if stop - start <= 8}
    left, top, right, bottom = (video.get(name, 0) for name in _CROPS)
    width, height = video[_WIDTH] - left - right, video[_HEIGHT] - top - bottom
    shown = Fraction(video.get(_SHOWN_WIDTH, width), video.get(_SHOWN_HEIGHT, height))
    return (left, top, right, bottom), shown / Fraction(width, height)


def _read_mp4(file: BinaryIO, size: int, number: int) -> tuple[Crop, None]:
    videos = (media for media in _find(file, 0, size, _list_boxes, b'moov', b'trak', b'mdia')
              if _read_at(file, *next(_find(file, *media, _list_boxes, b'hdlr'), (0, 0)))[8:12] == b'vide')
    start, stop = next(_find(file, *next(islice(videos, number, None)), _list_boxes, b'minf', b'stbl', b'stsd'))
    _, entry, end = next(_list_boxes(file, start + 8, stop))
    width, height = struct.unpack('>24xHH', _read_at(file, entry, entry + 28))
    clap = next(_find(file, entry + _VISUAL_ENTRY, end, _list_boxes, b'clap'))
    numbers = struct.unpack('>iIiIiIiI', _read_at(file, *clap))
    shown_width, shown_height, right, down = (Fraction(*numbers[index:index + 2]) for index in range(0, 8, 2))
    left, top = (math.floor(shift + (whole - shown) / 2) for shift, whole, shown in (
        (right, width, shown_width), (down, height, shown_height)))
    return (left, top, width - left - math.floor(shown_width), height - top - math.floor(shown_height)), None


# ---- elements of EBML and boxes of MP4, which hold others ----

def _find(file: BinaryIO, start: int, stop: int, list_elements: _ListElements,
          *path: int | bytes) -> Iterator[tuple[int, int]]:
    """Yield where the contents of each element begin and end that lies under a path of names."""
    for name, first, end in list_elements(file, start, stop):
        if name == path[0] and len(path) == 1:
            yield first, end
        elif name == path[0]:
            yield from _find(file, first, end, list_elements, *path[1:])


def _list_ebml(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    def read_integer() -> tuple[int, int]:
        """Return an integer of EBML with the bit that marks its length, and the number of bits after that."""
        first = file.read(1)[0]
        length = 9 - first.bit_length()
        if length > 8:
            raise ValueError('no EBML')
        return int.from_bytes(bytes([first]) + file.read(length - 1)), 7 * length

    while start < stop:
        file.seek(start)
        name, _ = read_integer()
        marked, bits = read_integer()
        length, first = marked - (1 << bits), file.tell()
        start = stop if length == (1 << bits) - 1 else min(first + length, stop)  # all ones: it is unknown
        yield name, first, start


def _list_boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    while start < stop:
        length, name = struct.unpack('>I4s', _read_at(file, start, start + 8))
        first = start + 8
        if length == 1:
            length, first = struct.unpack('>Q', _read_at(file, first, first + 8))[0], first + 8
        end = min(start + length, stop) if length else stop
        if end < first:
            raise ValueError('a box that ends before it begins')
        yield name, first, end
        start = end


def _read_at(file: BinaryIO, start: int, stop: int) -> bytes:
    file.seek(start)
    return file.read(min(stop - start, 1 << 16))
