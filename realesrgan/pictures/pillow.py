"""Open and decode pictures with Pillow, and with imagecodecs those whose pixels Pillow would cut to 8 bits."""
from __future__ import annotations

import contextlib
import importlib
import io
import logging
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from ..errors import ImageError, flatten_message
from . import formats
from .picture import reorder_to_bgr, scale_to_full_range

logger = logging.getLogger(__name__)

_opening = threading.Lock()

# Pillow decodes icons while it opens them, so their size can't be checked before. It refuses twice this.
_MOST_ICON_PIXELS = 1 << 24
_MOST_TEXT_BYTES = 1 << 26  # of a profile or a text of a PNG; Pillow's own 1 MiB is less than some printers' profiles
_ICON = b'\x00\x00\x01\x00'
_HEAD_BYTES = 128
_JPEG_END = b'\xFF\xD9'
_JPEG_SCAN_PARTS = b'\xFF\xC4', b'\xFF\xDA'  # tables, and the scan's own header
_J2K_SIZES = b'\xFF\x4F\xFF\x51'  # a codestream of JPEG 2000 begins with its sizes
_J2K_SIGNED = 0x80
_AVIF_DEPTHS = {0x40: 10, 0x60: 12}  # the bits of a byte in the box av1C


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
        try:
            importlib.import_module(row.plugin or '')
        except (ImportError, ValueError):
            raise ImageError(row.refused) from None
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
        raise ImageError(f'damaged, or of a kind that can\'t be read: {error}') from None


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
            return reorder_to_bgr(np.asarray(_convert_cmyk(image))), True
        if image.mode in ('1', 'L') and 'transparency' not in image.info:
            return np.array(image.convert('L')), False
        if image.mode == 'LAB' or image.mode.startswith(('I', 'F')):
            raise ImageError(f'{image.format} with pixels of Pillow\'s mode {image.mode} can\'t be read exactly')
        pixels = reorder_to_bgr(np.asarray(image.convert('RGBA' if image.has_transparency_data else 'RGB')))
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
        from PIL import ImageCms
        with contextlib.suppress(ImageCms.PyCMSError):  # a damaged profile
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), ImageCms.createProfile('sRGB'), outputMode='RGB')
            if converted is not None:
                return converted
    return image.convert('RGB')


def decode_jpeg(data: bytes, image: Image.Image) -> tuple[np.ndarray, bool]:
    """Decode a JPEG as `decode` does, as far as the file goes; the rest is gray, with a warning.

    Args:
        data: The file.
        image: The file as Pillow opened it.

    Raises:
        ImageError: damaged elsewhere than at its end, or cut off before its pixels begin.
    """
    try:
        return decode(image)
    except ImageError:
        # With an end marker added, libjpeg fills in the missing rows, as viewers show them. It can't if the file breaks
        # off before a scan of a progressive JPEG: then the file is shortened to the scans before.
        for end in (len(data), max(map(data.rfind, _JPEG_SCAN_PARTS))):
            with contextlib.suppress(ImageError):
                if (completed := open_image(io.BytesIO(data[:end] + _JPEG_END))) is not None:
                    decoded = decode(completed)
                    logger.warning('is cut off; the missing part is gray')
                    return decoded
        raise


def decode_deep(data: bytes, image: Image.Image) -> tuple[np.ndarray, bool]:
    """Decode JPEG 2000 or AVIF of 8 bits, or colours that are to be converted, as `decode` does; others in full depth.

    Args:
        data: The file.
        image: The file as Pillow opened it.

    Raises:
        ImageError: damaged, or of a kind that can't be read.
    """
    bits = _find_avif_depth(data) if image.format == 'AVIF' else _find_jpeg2000_depth(data, image.size)
    if bits == 8 or image.mode not in ('L', 'LA', 'RGB', 'RGBA', 'I;16'):
        return decode(image)
    import imagecodecs
    try:
        samples = imagecodecs.avif_decode(data, 0) if image.format == 'AVIF' else imagecodecs.jpeg2k_decode(data)
        return reorder_to_bgr(scale_to_full_range(samples, 2 ** bits - 1)), False
    except Exception as error:  # its decoders raise errors of their own kinds
        raise ImageError(f'damaged: {flatten_message(error)}') from None


def _find_avif_depth(data: bytes) -> int:
    start = data.find(b'av1C')
    return _AVIF_DEPTHS.get(data[start + 6] & 0x60, 8) if 0 <= start < len(data) - 6 else 8


def _find_jpeg2000_depth(data: bytes, size: tuple[int, int]) -> int:
    start = data.find(_J2K_SIZES)
    try:  # the sides of the reference grid, where the picture begins in it, its tiles, and the number of channels
        right, bottom, left, top, channels = struct.unpack_from('>4I16xH', data, start + 8)
    except struct.error:
        return 8  # Pillow reports the damage
    depths = set(data[start + 42:start + 42 + 3 * channels:3])
    if start < 0 or {depth & ~_J2K_SIGNED for depth in depths} <= {7}:
        return 8
    if (right - left, bottom - top) != size:  # which was checked against the limit
        raise ImageError(f'damaged: it says that it has {size[0]}x{size[1]} and {right - left}x{bottom - top} pixels')
    if len(depths) > 1 or max(depths) >= 16:
        raise ImageError('JPEG 2000 with signed values, more than 16 bits or channels of several depths can\'t be read')
    return max(depths) + 1
