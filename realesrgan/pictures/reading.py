"""Read pictures: upright, in their full depth, with their metadata.

Each format goes through a decoder that reads it exactly, as `formats` says: Pillow for 8 bits (it gives the same pixels
as OpenCV, which Real-ESRGAN 0.3.0 reads with), imagecodecs for PNG and deeper pixels, tifffile for TIFF, and OpenCV.
"""
from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ImageError
from . import formats, png
from .picture import Metadata, Picture, import_opencv, scale_to_full_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from ..upscaling.size import Size
    from .names import Job

logger = logging.getLogger(__name__)

_DEEP = 3  # times as many bytes take results of 16 bits, whose lower ones are noise to a compressor

_ANIMATED, _VIDEO_SCRIPT = ('GIF', 'PNG', 'WEBP', 'AVIF'), 'inference_realesrgan_video.py'
# The third number of a PNM. Numbers stand between white space and comments.
_PNM_MAXIMUM = re.compile(rb'P[2356](?:(?:\s|#[^\n]*\n)+(\d+)){3}')


def decode(data: bytes, max_pixels: int = formats.MOST_PIXELS) -> Picture:
    """Decode the bytes of a picture file.

    Of several frames or pages only the first is decoded, with a warning. CMYK and YCbCr are converted to sRGB and lose
    their profile. Floating-point values from 0 to 1 become 16 bits. What is missing at the end of a JPEG is gray, with
    a warning.

    Args:
        data: The file.
        max_pixels: How many pixels it may have.

    Raises:
        ImageError: not a picture, damaged, of too many pixels, or of a kind whose pixels can't be read exactly.
    """
    if not data:
        raise ImageError('the file is empty')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # Pillow warns about metadata it can't parse
        if _is_camera_raw(data):
            raise ImageError(formats.FORMATS['raw'].refused)
        header, texts, colours = png.read_description(data) if png.is_png(data) else (data, (), ())
        metadata, stated_orientation = Metadata(), None
        if size := png.read_size_of_plain(header):
            formats.require_few_pixels(*size, max_pixels)
            pixels, orientation, converted = png.decode(data), None, False
        else:
            from . import pillow  # only here, because Pillow takes a tenth of a start
            from .metadata import read_metadata
            image = pillow.open_image(io.BytesIO(header))
            if image is not None:
                formats.require_few_pixels(image.height, image.width, max_pixels)
                metadata, stated_orientation = read_metadata(image, data)
            pixels, orientation, converted = _decode_pixels(data, image, max_pixels)
        if png.is_png(data):
            metadata = metadata._replace(texts=texts, colour=colours)
    if not pixels.size:
        raise ImageError('damaged: it holds no pixels')
    formats.require_few_pixels(pixels.shape[0], pixels.shape[1], max_pixels)
    # Byte 16 of the header of a profile names its colour space.
    if metadata.icc and (converted or metadata.icc[16:20] != (b'GRAY' if pixels.ndim == 2 else b'RGB ')):
        if not converted:
            logger.warning('its colour profile is damaged, or for pixels of another kind, and is left out')
        metadata = metadata._replace(icc=None)
    return Picture(_turn_upright(_convert_to_integers(pixels), orientation or stated_orientation or 1), metadata)


def _is_camera_raw(data: bytes) -> bool:
    if not re.match(formats.FORMATS['tiff'].signature or b'', data):
        return False
    from . import tiff  # only here, because tifffile takes a twentieth of a start
    return tiff.is_camera_raw(data)


def looks_like_picture(path: Path) -> bool:
    """Tell by the beginning of a file whether it is a picture, maybe of a format that is not read."""
    from . import pillow
    try:
        row = formats.find_by_content(None, pillow.read_head(path))
        if row is not None and row.refused:
            return True
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            image = pillow.open_image(path)
    except (ImageError, OSError):
        return False
    if image is not None:
        image.close()
    return image is not None


def estimate_result_size(job: Job, find_size: Callable[[int, int], Size]) -> tuple[int, int] | None:
    """Return the bytes of a picture's result, estimated, and its own pixels, by its header; None if it can't be read.

    Also None for a pipe, which can be read only once.

    Args:
        job: Says where the picture is, and the format of its result.
        find_size: Returns the final size for the width and height of the picture.
    """
    if job.file.data is None and not os.path.isfile(job.source):
        return None
    from . import pillow
    from .metadata import measure_upright
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            image = pillow.open_image(job.source if job.file.data is None else io.BytesIO(job.file.data))
    except (ImageError, OSError):
        return None
    if image is None:
        return None
    with image:
        row = formats.find_writable(job.extension)
        layout = f'{image.mode} {getattr(image, "tile", "")}'  # the latter names the layout in the file
        deep = row.deep and ';16' in layout
        channels = len(image.getbands()) / 3 if row.gray else 1
        pixels, final = image.width * image.height, math.prod(find_size(*measure_upright(image)))
        return int(final * row.result_bits * channels / 8 * (_DEEP if deep else 1)), pixels


def _decode_pixels(data: bytes, image: Image.Image | None,
                   max_pixels: int) -> tuple[np.ndarray, int | None, bool]:
    """Decode the pixels of a file as they are stored.

    Args:
        data: The file.
        image: The file as Pillow opened it, if Pillow knows it.
        max_pixels: See `decode`.

    Returns:
        The pixels, their orientation (1..8) if the decoder knows it, and whether colours were converted to sRGB.
    """
    from . import pillow
    name = None if image is None else image.format
    row = formats.find_by_content(name, data) or formats.Format()
    reader = row.reader
    # The further frames of MPO, Pillow's name for a JPEG with several pictures, are previews by a camera.
    if image is not None and name != 'MPO' and (frames := pillow.count_frames(image)) != 1:
        hint = f'; {_VIDEO_SCRIPT} upscales all of an animation' if name in _ANIMATED else ''
        logger.warning('only the first of %s frames or pages is used%s', frames or 'several, damaged', hint)
        if frames is None:
            image = pillow.open_image(io.BytesIO(data))
    if reader == 'png':
        return png.decode(data), None, False
    if reader == 'tiff':
        from . import tiff
        if (decoded := tiff.decode(data, max_pixels)) is not None:
            return *decoded, False
    if image is None or reader == 'opencv':
        return _decode_by_opencv(data), None, False
    if reader == 'jpeg':
        pixels, converted = pillow.decode_jpeg(data, image)
    else:
        pixels, converted = pillow.decode_deep(data, image) if reader == 'deep' else pillow.decode(image)
    return pixels, 1 if reader == 'tiff' else None, converted


def _decode_by_opencv(data: bytes) -> np.ndarray:
    """Decode a file of any format that OpenCV reads, in its own depth and not turned upright.

    OpenCV does not scale the values of PBM, PGM and PPM from the maximum that they state.
    """
    cv2 = import_opencv()
    with contextlib.suppress(cv2.error):
        pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is not None:
            maximum = _PNM_MAXIMUM.match(data)
            return scale_to_full_range(pixels, int(maximum[1]), pixels.dtype.type) if maximum else pixels
    raise ImageError('not a picture, or a damaged one')


def _convert_to_integers(pixels: np.ndarray) -> np.ndarray:
    """Return 8- and 16-bit pixels as they are and floating point from 0 to 1 as 16 bits; refuse all else."""
    if pixels.dtype.kind == 'f':
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # also true if any value is NaN
            raise ImageError(f'floating-point values from {low:g} to {high:g}; only 0 to 1 can be read')
        return np.rint(pixels.astype(np.float32) * 65535).astype(np.uint16)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError(f'values of type {pixels.dtype}; only 8 bits, 16 bits and floating point can be read')
    return pixels


def _turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror pixels as an EXIF orientation (1..8) asks."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    quarter_turns = {3: 2, 4: 2, 5: 1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))
