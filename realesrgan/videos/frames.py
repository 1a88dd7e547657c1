"""Where the frames of a chunk come from: a video, or picture files."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from ..errors import FrameError, ImageError
from ..ffmpeg.decoder import Damage, Decoding, FrameReader, count_frames
from ..ffmpeg.probe import MediaInfo
from ..ffmpeg.programs import FFmpeg
from ..pictures.formats import MOST_PIXELS
from ..pictures.inputs import InputFile
from ..pictures.reading import decode


@dataclass(frozen=True)
class VideoFrames:
    """Frames that are decoded from a video.

    Attributes:
        info: The video.
        decoding: Which frames.
        first: The first of them alone; None where `decoding` does not seek.
        unseeked: The same frames, decoded from the start of the video; None likewise.
        also: See `FrameReader`.
    """

    info: MediaInfo
    decoding: Decoding
    first: Decoding | None = None
    unseeked: Decoding | None = None
    also: tuple[str, ...] = ()

    def open(self, ffmpeg: FFmpeg) -> FrameReader:
        """Start decoding, from the start of the video if a seek, which goes too far, would lose the first frame."""
        reader = FrameReader(ffmpeg, self.info, self.decoding, self.also)
        if self.first is None or self.unseeked is None:
            return reader
        with ExitStack() as stack:
            stack.enter_context(reader)  # it decodes what leads to the first frame while that is looked for
            if count_frames(ffmpeg, self.info, self.first)[0]:
                stack.pop_all()
                return reader
        return FrameReader(ffmpeg, self.info, self.unseeked)


@dataclass(frozen=True)
class FrameShape:
    """The size and depth that all frames share.

    Attributes:
        height, width: In pixels.
        deep: Whether they have 16 bits.
        alpha: Whether they have transparency.
        name: The file that this was read off.
    """

    height: int
    width: int
    deep: bool
    name: str
    alpha: bool = False


def measure_frames(files: Sequence[Path], max_pixels: int) -> FrameShape:
    """Return the shape of the first picture, after comparing the size of every other one with it.

    Args:
        files: Pictures.
        max_pixels: How many pixels each may have.

    Raises:
        FrameError: one is of another size, or the first can't be read.
    """
    first = _read_frame(files[0], deep=None, alpha=None, max_pixels=max_pixels)
    shape = FrameShape(first.shape[0], first.shape[1], first.dtype == np.uint16, files[0].name,
                       alpha=first.shape[2] == 4)
    for file in files[1:]:
        size = _read_size(file)
        if size not in (None, (shape.width, shape.height)):
            raise _misfit(file, size, shape)
    return shape


class StillFrames:
    """Frames that no program decodes in the background: what `FrameReader` needs to be ended for, they need not."""

    damage: Damage | None = None  # it was looked for before

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def kill(self) -> None:
        """Do nothing: reading a frame ends by itself."""


@dataclass(frozen=True)
class FrameFiles(StillFrames):
    """Frames in picture files: a context manager and an iterator of HxWx3, BGR, or with alpha HxWx4,
    BGRA; uint8 or, if deep, uint16.

    Attributes:
        files: Pictures.
        shape: Of all of them.

    Raises:
        FrameError: while iterating, a picture of another size, or one that can't be read.
    """

    files: Sequence[Path]
    shape: FrameShape

    def open(self, _ffmpeg: FFmpeg) -> Self:
        """Return themselves, which can be read again and again."""
        return self

    def __iter__(self) -> Iterator[np.ndarray]:
        most = max(self.shape.height * self.shape.width, MOST_PIXELS)
        for file in self.files:
            frame = _read_frame(file, deep=self.shape.deep, alpha=self.shape.alpha, max_pixels=most)
            if frame.shape[:2] != (self.shape.height, self.shape.width):
                raise _misfit(file, frame.shape[1::-1], self.shape)
            yield frame


def _misfit(file: Path, size: tuple[int, ...] | None, shape: FrameShape) -> FrameError:
    width, height = size or (0, 0)
    return FrameError(f'{file}: is {width}x{height}, but {shape.name} is {shape.width}x{shape.height}; the frames of a '
                      'video must be of one size')


def _read_frame(file: Path, *, deep: bool | None, alpha: bool | None, max_pixels: int) -> np.ndarray:
    """Read a picture as BGR, or with `alpha` as BGRA, converted to a depth; None keeps what it has."""
    try:
        picture = decode(InputFile(file).read(max_pixels), max_pixels).pixels
    except ImageError as error:
        raise FrameError(f'{file}: {error}') from None
    if picture.ndim == 2:
        picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    elif picture.shape[2] == 4 and alpha is False:
        picture = picture[..., :3]
    if picture.shape[2] == 3 and alpha:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA)
    if deep is False and picture.dtype == np.uint16:
        picture = np.rint(picture / 257).astype(np.uint8)
    elif deep is True and picture.dtype == np.uint8:
        picture = picture.astype(np.uint16) * np.uint16(257)
    return np.ascontiguousarray(picture)


def _read_size(file: Path) -> tuple[int, int] | None:
    """Return width and height, upright, from the file's header; None where only decoding tells."""
    from PIL import ExifTags, Image
    try:
        with Image.open(file) as image:
            sideways = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8) and image.format != 'TIFF'
            width, height = image.size
    except (OSError, SyntaxError, ValueError):
        return None
    return (height, width) if sideways else (width, height)
