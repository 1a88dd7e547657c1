"""Decode JPEG 2000 and AVIF of any depth but 8 bits, with imagecodecs: Pillow would cut it to 8."""
from __future__ import annotations

import struct

import imagecodecs
import numpy as np
from PIL import Image

from ..errors import ImageError
from .tiff import scale_to_full_range

_SIZES = b'\xFF\x4F\xFF\x51'  # a codestream of JPEG 2000 begins with its sizes
_SIZES_AT = 8  # behind that: where the picture ends and begins, its tiles, and the number of channels
_DEPTHS_AT = 42  # three bytes about each channel
_SIGNED = 0x80
_AV1 = b'av1C'  # the box of AVIF that says, in the third byte behind it, how deep pixels are
_TEN_BITS, _TWELVE_BITS = 0x40, 0x60
_CHANNELS = {2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}  # BGR or BGRA from gray and alpha, RGB, RGBA


def decode(data: bytes, image: Image.Image) -> np.ndarray | None:
    """Decode a file of another depth than 8 bits, not turned upright.

    Args:
        data: The file.
        image: The file as Pillow opened it.

    Returns:
        HxW, HxWx3 (BGR) or HxWx4 (BGRA), full range: uint8 below 8 bits, otherwise uint16. None for what Pillow decodes
        exactly: 8 bits, and colours that it converts.

    Raises:
        ImageError: damaged, or of a kind that can't be read.
    """
    bits = _find_avif_depth(data) if image.format == 'AVIF' else _find_jpeg2000_depth(data, image.size)
    if bits == 8 or image.mode not in ('L', 'LA', 'RGB', 'RGBA', 'I;16'):
        return None
    try:
        samples = imagecodecs.avif_decode(data, 0) if image.format == 'AVIF' else imagecodecs.jpeg2k_decode(data)
        return reorder(scale_to_full_range(samples, bits))
    except Exception as error:  # its decoders raise errors of their own kinds
        raise ImageError(f'damaged: {" ".join(str(error).split())}') from None


def reorder(samples: np.ndarray) -> np.ndarray:
    """Return HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA) from gray, gray and alpha, RGB or RGBA."""
    samples = np.atleast_3d(samples)
    if samples.shape[2] == 1:
        return samples[..., 0]
    return np.ascontiguousarray(samples[..., _CHANNELS[samples.shape[2]]])


def _find_avif_depth(data: bytes) -> int:
    start = data.find(_AV1) + len(_AV1) + 2
    depth = data[start] & _TWELVE_BITS if len(_AV1) < start < len(data) else 0
    return {_TEN_BITS: 10, _TWELVE_BITS: 12}.get(depth, 8)


def _find_jpeg2000_depth(data: bytes, size: tuple[int, int]) -> int:
    start = data.find(_SIZES)
    try:
        right, bottom, left, top, channels = struct.unpack_from('>4I16xH', data, start + _SIZES_AT)
    except struct.error:
        return 8  # Pillow will tell
    depths = set(data[start + _DEPTHS_AT:start + _DEPTHS_AT + 3 * channels:3])
    if start < 0 or {depth & ~_SIGNED for depth in depths} <= {7}:
        return 8
    if (right - left, bottom - top) != size:  # which has been judged
        raise ImageError(f'damaged: it says that it has {size[0]}x{size[1]} and {right - left}x{bottom - top} pixels')
    if len(depths) > 1 or max(depths) >= 16:
        raise ImageError('JPEG 2000 with signed values, more than 16 bits or channels of several depths can\'t be read')
    return max(depths) + 1
