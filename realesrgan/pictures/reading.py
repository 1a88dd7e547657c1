"""Read pictures: upright, in their full depth, with what their files say about them.

Each format goes through what reads it exactly, as `formats` says: Pillow for 8 bits (it gives the same pixels as
OpenCV, which Real-ESRGAN 0.3.0 reads with), OpenCV for deeper formats, tifffile for TIFF, and modules of our own.
"""
from __future__ import annotations

import io
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import ImageError
from . import bmp, deep, formats, jpeg, opencv, pillow, png, pnm, sgi, sun_raster, tiff, xmp
from .formats import Reader
from .metadata import read_metadata
from .picture import Metadata, Picture

logger = logging.getLogger(__name__)

# What needs nothing but the file.
_DECODERS = {Reader.PNG: png.decode, Reader.PNM: pnm.decode, Reader.SGI: sgi.decode,
             Reader.SUN_RASTER: sun_raster.decode}


def decode(data: bytes, max_pixels: int = formats.MOST_PIXELS) -> Picture:
    """Decode the bytes of a picture file.

    Of several frames or pages only the first is decoded, with a warning. CMYK and YCbCr are converted to sRGB and lose
    their profile. Floating-point values from 0 to 1 become 16 bits. What is missing at the end of a JPEG
    is gray, with a warning.

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
        if tiff.is_camera_raw(data):
            raise ImageError(formats.FORMATS['raw'].refused)
        description = png.read_description(data) if png.is_png(data) else None
        image = _open(description.header if description else data)
        if image is not None:
            formats.require_few_pixels(image.height, image.width, max_pixels)
        metadata, stated_orientation = (Metadata(), None) if image is None else read_metadata(image, data)
        if description:
            metadata = replace(metadata, texts=description.texts, colour=description.colour)
        pixels, orientation, converted = _decode_pixels(data, image, max_pixels)
    if not pixels.size:
        raise ImageError('damaged: it holds no pixels')
    formats.require_few_pixels(pixels.shape[0], pixels.shape[1], max_pixels)
    if stated_orientation:
        metadata = replace(metadata, xmp=xmp.reset_orientation(metadata.xmp))
    if metadata.icc and (converted or not _fits_profile(metadata.icc, pixels)):
        if not converted:
            logger.warning('its colour profile is damaged, or for pixels of another kind, and is left out')
        metadata = replace(metadata, icc=None)
    return Picture(_turn_upright(_convert_to_integers(pixels), orientation or stated_orientation or 1), metadata)


def is_picture(path: Path) -> bool:
    """Tell by the beginning of a file whether it is a picture, maybe of a format that is not read."""
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


def _open(data: bytes) -> Image.Image | None:
    """Open a file with Pillow; None if Pillow can't, and the file may be a picture."""
    try:
        return pillow.open_image(io.BytesIO(data))
    except ImageError:
        if bmp.has_masks(data):
            return None
        raise


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
    name = None if image is None else image.format
    row = formats.find_by_content(name, data)
    reader = Reader.PILLOW if row is None else row.reader
    # The further frames of MPO, Pillow's name for a JPEG with several pictures, are previews by a camera.
    if image is not None and name != 'MPO' and (frames := pillow.count_frames(image)) != 1:
        logger.warning('only the first of %s frames or pages is used', frames or 'several, damaged')
        if frames is None:
            image = pillow.open_image(io.BytesIO(data))
    if reader in _DECODERS and (image is not None or reader is not Reader.SGI):  # whose rows may all be the same one
        return _DECODERS[reader](data), None, False
    if reader is Reader.TIFF and (decoded := tiff.decode(data, max_pixels)) is not None:
        return *decoded, False
    if image is None:
        masked = reader is Reader.BMP and bmp.has_masks(data)
        return bmp.decode(data) if masked else opencv.decode(data), None, False
    if reader is Reader.OPENCV:
        return opencv.decode(data), None, False
    if reader is Reader.DEEP and (pixels := deep.decode(data, image)) is not None:
        return pixels, None, False
    pixels, converted = jpeg.decode(data, image) if reader is Reader.JPEG else pillow.decode(image)
    return pixels, 1 if reader is Reader.TIFF else None, converted


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


def _fits_profile(icc: bytes, pixels: np.ndarray) -> bool:
    """Tell whether an ICC profile is meant for such pixels. Byte 16 of its header names its colour space."""
    return icc[16:20] == (b'GRAY' if pixels.ndim == 2 else b'RGB ')
