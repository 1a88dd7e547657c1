"""Decode PBM, PGM, PPM and PFM: values are scaled from what the file states to the full range."""
from __future__ import annotations

import re

import numpy as np

from ..errors import ImageError
from . import opencv

_GAP = rb'(?:\s|#[^\n]*\n)+'  # numbers stand between white space and comments
# The third number in the header of a PGM or PPM.
_MAXIMUM = re.compile(rb'P[2356](?:' + _GAP + rb'(\d+)){3}')
_PFM = re.compile(rb'P([Ff])' + _GAP + rb'(\d+)' + _GAP + rb'(\d+)' + _GAP + rb'([-+.\deE]+)\s')


def decode(data: bytes) -> np.ndarray:
    """Decode a PBM, PGM, PPM or PFM file.

    Returns:
        HxW or HxWx3 (BGR); uint8 or uint16, full range, and for PFM float32, where the scale that it states is 1.

    Raises:
        ImageError: damaged.
    """
    if data[:2] in (b'PF', b'Pf'):
        return _decode_pfm(data)
    pixels = opencv.decode(data)
    maximum = _MAXIMUM.match(data)
    top = np.iinfo(pixels.dtype).max if maximum else 0
    if not maximum or int(maximum[1]) == top:  # OpenCV ignores the maximum
        return pixels
    return np.rint(pixels * (top / int(maximum[1]))).clip(0, top).astype(pixels.dtype)


def _decode_pfm(data: bytes) -> np.ndarray:
    """Decode a PFM file, of which OpenCV reads only some headers. The sign of its scale is the order of bytes."""
    header = _PFM.match(data)
    try:
        if header is None:
            raise ValueError('a PFM with a wrong header')
        channels = 3 if header[1] == b'F' else 1
        width, height, scale = int(header[2]), int(header[3]), float(header[4])
        dtype = '<f4' if scale < 0 else '>f4'
        samples = np.frombuffer(data, dtype, height * width * channels, header.end())
        rows = samples.reshape(height, width, channels)[::-1, :, ::-1]  # from the bottom up, and RGB
        pixels = (rows / np.float32(abs(scale) or 1)).astype(np.float32)
    except (ValueError, OverflowError) as error:
        raise ImageError(f'damaged: {error}') from None
    return pixels if channels == 3 else pixels[..., 0]
