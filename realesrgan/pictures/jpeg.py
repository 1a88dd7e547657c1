"""Decode JPEG, also where the end of the file is missing."""
from __future__ import annotations

import contextlib
import io
import logging

import numpy as np
from PIL import Image

from ..errors import ImageError
from . import pillow

logger = logging.getLogger(__name__)

_END = b'\xFF\xD9'
_PARTS = b'\xFF\xC4', b'\xFF\xDA'  # what scans begin with: tables, and the scan's own header


def decode(data: bytes, image: Image.Image) -> tuple[np.ndarray, bool]:
    """Decode a JPEG file as far as it goes, not turned upright; what is missing at its end is gray, with a warning.

    Args:
        data: The file.
        image: The file as Pillow opened it.

    Returns:
        See `pillow.decode`.

    Raises:
        ImageError: damaged elsewhere than at its end, or cut off before its pixels begin.
    """
    try:
        return pillow.decode(image)
    except ImageError:
        # Behind an end marker libjpeg fills up what is missing, as viewers show it. It can't where the file breaks off
        # in front of a scan of a progressive JPEG: then the file is shortened to the scans before.
        for end in (len(data), max(map(data.rfind, _PARTS))):
            with contextlib.suppress(ImageError):
                if (completed := pillow.open_image(io.BytesIO(data[:end] + _END))) is not None:
                    decoded = pillow.decode(completed)
                    logger.warning('is cut off at its end; what is missing there is gray')
                    return decoded
        raise
