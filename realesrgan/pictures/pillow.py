"""Open and decode pictures with Pillow."""
from __future__ import annotations

import contextlib
import importlib
import io
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from ..errors import ImageError
from . import formats

logger = logging.getLogger(__name__)

_opening = threading.Lock()

# Pillow decodes icons while it opens them, so nobody else could judge their size in time. It refuses twice this.
_MOST_ICON_PIXELS = 1 << 24
_MOST_TEXT_BYTES = 1 << 26  # of a profile or a text of a PNG; Pillow's own 1 MiB are less than some printers' profiles
_ICON = b'\x00\x00\x01\x00'
_HEAD_BYTES = 128


def open_image(file: io.BytesIO | Path) -> Image.Image | None:
    """Open a picture without decoding it; None if it is of no format that Pillow may open.

    Raises:
        ImageError: damaged, or of a format that is not read.
        OSError: the file can't be read.
    """
    head = read_head(file)
    row = formats.find_by_content(None, head)
    names = formats.list_pillow_names()
    if row is not None and row.refused:
        require_plugin(row)
        names = list(row.pillow_names)
    is_icon = head.startswith(_ICON)
    try:
        if is_icon and isinstance(file, io.BytesIO):
            file = io.BytesIO(_state_depths(file.getvalue()))
        with _limit(_MOST_ICON_PIXELS if is_icon else None):
            return Image.open(file, formats=names)
    except UnidentifiedImageError:
        return None
    except Exception as error:  # Pillow's plugins raise nearly anything when a file is damaged
        raise ImageError(f'damaged: {error}') from None


def read_head(file: io.BytesIO | Path) -> bytes:
    """Return the first bytes of a file, which tell its format.

    Raises:
        OSError: it can't be read.
    """
    if isinstance(file, io.BytesIO):
        return bytes(file.getbuffer()[:_HEAD_BYTES])
    with file.open('rb') as opened:
        return opened.read(_HEAD_BYTES)


def _state_depths(icon: bytes) -> bytes:
    """Return an icon whose directory states how deep each BMP in it is: where it says 0, Pillow drops the alpha."""
    changed, count = bytearray(icon), int.from_bytes(icon[4:6], 'little')
    for entry in range(6, min(6 + 16 * count, len(icon) - 15), 16):
        start = int.from_bytes(icon[entry + 12:entry + 16], 'little')
        if icon[entry + 6:entry + 8] == bytes(2) and not icon.startswith(b'\x89PNG', start):
            changed[entry + 6:entry + 8] = icon[start + 14:start + 16].ljust(2, b'\0')
    return bytes(changed)


def require_plugin(row: formats.Format) -> None:
    """Load the plug-in that reads a format which is refused without it.

    Raises:
        ImageError: it has none, or that is not installed.
    """
    try:
        if row.plugin:
            importlib.import_module(row.plugin)
            return
    except ImportError:
        pass
    raise ImageError(row.refused)


@contextlib.contextmanager
def _limit(pixels: int | None) -> Iterator[None]:
    """Open pictures of at most twice so many pixels, or of any size, for `formats.require_few_pixels` to judge."""
    with _opening:
        limits = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
        Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = pixels, _MOST_TEXT_BYTES
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = limits


def count_frames(image: Image.Image) -> int | None:
    """Return how many frames or pages an opened picture has; None if it is damaged behind the first.

    Some plugins go through the whole file for that, and stay where they fail. So open it again after None.
    """
    try:
        with _limit(None):
            return getattr(image, 'n_frames', 1)
    except Exception:  # Pillow's plugins raise nearly anything when a file is damaged
        return None


def decode(image: Image.Image) -> tuple[np.ndarray, bool]:
    """Decode an opened picture as it is stored; Pillow turns only TIFF upright by itself.

    Returns:
        HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA) of uint8, and whether colours were converted to sRGB.

    Raises:
        ImageError: damaged, or of a mode that is not read exactly.
    """
    if (bits := image.info.get('bit_depth', 8)) > 8:
        logger.warning('its %d bits are read as 8', bits)
    try:
        image.load()
        if image.mode == 'CMYK':
            return _reorder_to_bgr(_convert_cmyk(image)), True
        if image.mode in ('1', 'L') and 'transparency' not in image.info:
            return np.array(image.convert('L')), False
        if image.mode == 'LAB' or image.mode.startswith(('I', 'F')):
            raise ImageError(f'{image.format} with pixels of Pillow\'s mode {image.mode} can\'t be read exactly')
        pixels = _reorder_to_bgr(image.convert('RGBA' if image.has_transparency_data else 'RGB'))
        if (image.format == 'ICO' or (image.mode == 'P' and 'transparency' not in image.info)) and (
                not pixels[..., 3:].any()):
            pixels = pixels[..., :3]  # some programs leave the alpha of icons and palettes 0 and mean opaque
        return pixels, image.mode == 'YCbCr'
    except ImageError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything when a file is damaged
        raise ImageError(f'damaged: {error}') from None


def _convert_cmyk(image: Image.Image) -> Image.Image:
    """Convert CMYK to sRGB, by the picture's own profile if it has one."""
    profile = image.info.get('icc_profile')
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError):  # a damaged profile
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), ImageCms.createProfile('sRGB'), outputMode='RGB')
            if converted is not None:
                return converted
    return image.convert('RGB')


def _reorder_to_bgr(image: Image.Image) -> np.ndarray:
    pixels = np.array(image)
    return cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR)
