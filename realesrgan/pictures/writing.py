"""Write pictures, with as much of their metadata as the format holds.

OpenCV encodes, as in Real-ESRGAN 0.3.0, so files hold the same bytes; tifffile encodes TIFF.
"""
from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from . import colour, formats, opencv, tiff
from .formats import Format, MetadataStyle, Writer
from .headers import add_to_header, header_size
from .picture import Metadata, Picture

logger = logging.getLogger(__name__)

#: From this many bytes of pixels on, `write` makes no second copy of the picture in memory.
STREAMED_BYTES = 1 << 30
_PIECE_BYTES = 1 << 24
_LABELS = {'icc': 'the colour profile', 'exif': 'EXIF', 'xmp': 'XMP', 'dpi': 'the resolution', 'iptc': 'IPTC',
           'comment': 'the comment', 'texts': 'texts'}


def encode(picture: Picture, extension: str, quality: int = 95) -> bytes:
    """Encode a picture as a file.

    Args:
        picture: With alpha only where `formats.holds_alpha(extension)`. 16 bits become 8, with a warning, where the
            format holds no more.
        extension: Names the format; one of `formats.list_writable_extensions()`, in any case.
        quality: 1..100, for formats that have a quality.

    Returns:
        The bytes of the file.

    Raises:
        ImageError: the extension can't be written, or the picture can't be encoded, for instance because it is too
            large for the format.
    """
    extension = extension.lower()
    row = formats.find_writable(extension)
    picture = _fit_to_format(picture, extension, row)
    if row.writer is Writer.TIFF:
        file = io.BytesIO()
        tiff.write(file, picture.pixels, picture.metadata)
        return file.getvalue()
    by_opencv = picture.metadata if row.metadata is MetadataStyle.OPENCV else Metadata()
    encoded = opencv.encode(picture.pixels, extension, _list_settings(row, quality), by_opencv)
    size = header_size(row.metadata)
    return add_to_header(encoded[:size].tobytes(), row.metadata, picture.metadata) + encoded[size:].tobytes()


def write(picture: Picture, path: Path, extension: str, quality: int = 95, *,
          streamed_bytes: int = STREAMED_BYTES) -> None:
    """Write a picture to a file; very large pictures without a second copy of them in memory.

    Args:
        picture: See `encode`, as for `extension` and `quality`.
        path: The file. Another file beside it may be written on the way.
        extension: Names the format, whatever `path` is called.
        quality: 1..100.
        streamed_bytes: The size of pixels from which a picture counts as very large.

    Raises:
        ImageError: see `encode`.
        OSError: the file can't be written.
    """
    extension = extension.lower()
    row = formats.find_writable(extension)
    # OpenCV puts metadata into files in memory only.
    if picture.pixels.nbytes < streamed_bytes or row.metadata is MetadataStyle.OPENCV:
        path.write_bytes(encode(picture, extension, quality))
        return
    picture = _fit_to_format(picture, extension, row)
    if row.writer is Writer.TIFF:
        tiff.write(path, picture.pixels, picture.metadata)
        return
    body = path.with_name(f'{path.stem}-body.{extension}')
    try:
        opencv.write(body, picture.pixels, _list_settings(row, quality))
        with body.open('rb') as source, path.open('wb') as target:
            header = source.read(header_size(row.metadata))
            target.write(add_to_header(header, row.metadata, picture.metadata))
            while piece := source.read(_PIECE_BYTES):
                target.write(piece)
    finally:
        body.unlink(missing_ok=True)


def _fit_to_format(picture: Picture, extension: str, row: Format) -> Picture:
    """Return the picture with the depth and the channels that the format holds."""
    pixels, metadata = picture.pixels, picture.metadata
    if pixels.dtype == np.uint16 and not row.deep:
        logger.warning('%s holds 8 bits only: the 16-bit picture is converted', extension)
        pixels = np.rint(pixels / 257).astype(np.uint8)
    if pixels.ndim == 2 and not row.gray:
        if metadata.icc:
            logger.warning('%s has colours only: the profile for gray is left out', extension)
        pixels, metadata = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), replace(metadata, icc=None)
    return Picture(pixels, _fit_metadata(metadata, extension, row, gray=pixels.ndim == 2))


def _fit_metadata(metadata: Metadata, extension: str, row: Format, *, gray: bool) -> Metadata:
    """Return the metadata as the format holds it, and warn of what it does not hold."""
    left_out = [label for name, label in _LABELS.items() if getattr(metadata, name) and name not in row.holds]
    if metadata.colour and 'colour' not in row.holds:
        described = colour.describe(metadata.colour, gray=gray)
        if 'icc' not in row.holds or (not described.profile and not described.plain):
            left_out += [] if described.plain else ['the description of its colours']
        elif described.profile and (not metadata.icc or b'cICP' in dict(metadata.colour)):  # which counts before it
            metadata = replace(metadata, icc=described.profile)
            if described.clipped:
                logger.warning('is HDR, which %s does not hold: what is brighter than white is white in it; --ext %s '
                               'keeps it', extension, formats.FALLBACK)
    if left_out:
        logger.warning('not kept in %s: %s; --ext %s keeps it', extension, ', '.join(left_out), formats.FALLBACK)
    return metadata


def _list_settings(row: Format, quality: int) -> list[int]:
    return [getattr(cv2, row.quality_setting), quality] if row.quality_setting else []
