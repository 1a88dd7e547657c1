"""Decode and encode pictures with OpenCV."""
from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ..errors import ImageError
from . import exif
from .picture import Metadata

# OpenCV prints what is wrong with a file to stderr; here the error that is raised says so.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(data: bytes) -> np.ndarray:
    """Decode a file as it is stored, not turned upright.

    Returns:
        HxW, HxWx3 (BGR) or HxWx4 (BGRA), in the file's own depth.

    Raises:
        ImageError: not a picture, damaged, or of a format that OpenCV does not read.
    """
    pixels = None
    with contextlib.suppress(cv2.error):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError('not a picture, or a damaged one')
    return pixels


def encode(pixels: np.ndarray, extension: str, settings: Sequence[int], metadata: Metadata) -> np.ndarray:
    """Encode a picture.

    Args:
        pixels: HxW, HxWx3 (BGR) or HxWx4 (BGRA), uint8 or uint16, of a kind that the format holds.
        extension: Names the format; without the dot.
        settings: OpenCV's names of settings, each followed by its value.
        metadata: What OpenCV is to write itself; empty for formats it can't do that for.

    Returns:
        The file as a 1-D array of uint8.

    Raises:
        ImageError: OpenCV can't encode it, for instance because it is too large for the format.
    """
    kinds, chunks = _list_chunks(metadata)
    try:
        done, file = cv2.imencodeWithMetadata(f'.{extension}', pixels, kinds, chunks, settings)
    except cv2.error as error:
        raise _explain_failure(error, extension) from None
    if not done:
        raise _explain_size(pixels, extension)
    return file


def write(path: Path, pixels: np.ndarray, settings: Sequence[int]) -> None:
    """Write a picture without metadata straight to a file; the extension of the path names the format.

    Raises:
        ImageError: see `encode`.
    """
    extension = path.suffix[1:]
    try:
        done = cv2.imwrite(str(path), pixels, settings)
    except cv2.error as error:
        raise _explain_failure(error, extension) from None
    if not done:
        raise _explain_size(pixels, extension)


def _list_chunks(metadata: Metadata) -> tuple[list[int], list[np.ndarray]]:
    """Return the metadata as OpenCV takes it: the kinds of the chunks, and their bytes."""
    chunks = {
        cv2.IMAGE_METADATA_EXIF: metadata.exif or exif.build_resolution(metadata),
        cv2.IMAGE_METADATA_ICCP: metadata.icc,
        cv2.IMAGE_METADATA_XMP: metadata.xmp}
    present = {kind: np.frombuffer(chunk, np.uint8) for kind, chunk in chunks.items() if chunk}
    return list(present), list(present.values())


def _explain_failure(error: cv2.error, extension: str) -> ImageError:
    return ImageError(f'OpenCV can\'t encode it as {extension}: {error.err or error}')


def _explain_size(pixels: np.ndarray, extension: str) -> ImageError:
    height, width = pixels.shape[:2]
    return ImageError(f'OpenCV can\'t encode it as {extension}; is {width}x{height} too large for the format?')
