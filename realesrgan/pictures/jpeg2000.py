"""Decode JPEG 2000 of any depth but 8 bits, which Pillow would cut to 8 and OpenCV would not scale."""
from __future__ import annotations

import numpy as np

from ..errors import ImageError
from .tiff import scale_to_full_range

_SIZES = b'\xFF\x4F\xFF\x51'  # the codestream begins with its sizes
_COUNT_AT = 40  # in them: the number of channels, and behind it three bytes about each
_SIGNED = 0x80


def decode_deep(data: bytes, mode: str) -> np.ndarray | None:
    """Decode a JPEG 2000 file of another depth than 8 bits.

    Args:
        data: The file.
        mode: Pillow's mode of the picture.

    Returns:
        HxW, HxWx3 (BGR) or HxWx4 (BGRA), full range: uint8 below 8 bits, otherwise uint16. None for what Pillow decodes
        exactly: 8 bits, and colours that it converts.

    Raises:
        ImageError: damaged, or of a kind that can't be read.
    """
    start = data.find(_SIZES)
    channels = int.from_bytes(data[start + _COUNT_AT:start + _COUNT_AT + 2]) if start >= 0 else 0
    depths = set(data[start + _COUNT_AT + 2:start + _COUNT_AT + 2 + 3 * channels:3])
    if mode not in ('L', 'LA', 'RGB', 'RGBA', 'I;16') or {depth & ~_SIGNED for depth in depths} <= {7}:
        return None
    if len(depths) > 1 or max(depths) >= 16:
        raise ImageError('JPEG 2000 with signed values, more than 16 bits or channels of several depths can\'t be read')
    import imagecodecs  # loads its libraries, which most runs do without
    try:
        samples = np.atleast_3d(imagecodecs.jpeg2k_decode(data))
    except Exception as error:  # its decoder raises an error of its own kind
        raise ImageError(f'damaged: {error}') from None
    samples = scale_to_full_range(samples, max(depths) + 1)
    if samples.shape[2] == 1:
        return samples[..., 0]
    order = {2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
    return np.ascontiguousarray(samples[..., order[samples.shape[2]]])
