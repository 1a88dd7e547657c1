"""A folder of pictures as the frames of a video."""
from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from .image_files import InputError, list_folder
from .images import ImageError, decode

logger = logging.getLogger(__name__)


class FrameError(ImageError):
    """A picture that does not go with the others."""


def list_frames(folder: Path) -> list[Path]:
    """List the pictures of a folder in natural order; what is none is logged and left out.

    Raises:
        InputError: there is none.
    """
    files = list_folder(folder)
    if not files:
        raise InputError(f'{folder}: no pictures in it; a folder is taken for one of frames. Give videos one by one')
    return files


class FolderReader:
    """The frames in files: a context manager and an iterator of HxWx3, BGR, uint8, or uint16 if the first is so.

    The size of every file is looked at before the first frame is computed.

    Args:
        files: Pictures of one size.

    Raises:
        FrameError: a picture of another size than the first.
        ImageError: a picture that can't be read.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files
        first = self._read(files[0], None)
        self.height, self.width = first.shape[:2]
        self.dtype = first.dtype
        for file in files[1:]:
            size = _size(file)
            if size not in (None, (self.width, self.height)):
                raise self._misfit(file, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def kill(self) -> None:
        """Nothing to stop: reading a file ends by itself."""

    def __iter__(self) -> Iterator[np.ndarray]:
        for file in self._files:
            frame = self._read(file, self.dtype)
            if frame.shape[:2] != (self.height, self.width):
                raise self._misfit(file, frame.shape[1::-1])
            yield frame

    def _misfit(self, file: Path, size: tuple[int, ...] | None) -> FrameError:
        width, height = size or (0, 0)
        return FrameError(f'{file}: is {width}x{height}, but {self._files[0].name} is {self.width}x{self.height}; the '
                          'frames of a video must be of one size')

    @staticmethod
    def _read(file: Path, dtype: np.dtype | None) -> np.ndarray:
        """Read a picture as BGR; alpha is dropped, the depth made that of the first."""
        try:
            picture = decode(file.read_bytes()).pixels
        except ImageError as error:
            raise FrameError(f'{file}: {error}') from None
        if picture.ndim == 2:
            picture = cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
        elif picture.shape[2] == 4:
            picture = picture[..., :3]
        if dtype == np.uint8 and picture.dtype == np.uint16:
            picture = np.rint(picture / 257).astype(np.uint8)
        elif dtype == np.uint16 and picture.dtype == np.uint8:
            picture = picture.astype(np.uint16) * np.uint16(257)
        return np.ascontiguousarray(picture)


def _size(file: Path) -> tuple[int, int] | None:
    """Return width and height by the file's header, upright; None where only decoding tells."""
    from PIL import ExifTags, Image
    try:
        with Image.open(file) as image:
            sideways = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8) and image.format != 'TIFF'
            width, height = image.size
    except (OSError, SyntaxError, ValueError):
        return None
    return (height, width) if sideways else (width, height)
