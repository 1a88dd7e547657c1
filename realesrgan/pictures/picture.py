"""A picture in memory: its pixels, and its metadata."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

#: What stands before EXIF and XMP in files.
EXIF_PREFIX = b'Exif\0\0'
XMP_PREFIX = b'http://ns.adobe.com/xap/1.0/\0'
#: Chunks of PNG, each with its kind and its content.
Chunks = tuple[tuple[bytes, bytes], ...]


class Metadata(NamedTuple):
    """The metadata of a picture.

    Attributes:
        icc: ICC profile.
        exif: EXIF as TIFF bytes, without the "Exif" prefix. Its orientation is 1, because pixels are kept upright.
        xmp: XMP packet.
        dpi: Horizontal and vertical resolution in pixels per inch.
        iptc: IPTC-IIM records.
        comment: A comment, as JPEG and GIF hold one: text of unknown encoding.
        texts: Other texts as chunks of PNG (kind, content), each as it was.
        colour: The description of colours, as chunks of PNG (kind, content); see `colour`.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    iptc: bytes | None = None
    comment: bytes | None = None
    texts: Chunks = ()
    colour: Chunks = ()


class Picture(NamedTuple):
    """A picture as it is meant to be seen, upright.

    Attributes:
        pixels: HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA, colours not multiplied by alpha); uint8 or uint16, full range.
        metadata: The metadata of its file.
    """

    pixels: np.ndarray
    metadata: Metadata = Metadata()

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha channel, even one that is opaque everywhere."""
        return self.pixels.ndim == 3 and self.pixels.shape[2] == 4


def reorder_to_bgr(samples: np.ndarray) -> np.ndarray:
    """Return HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA) from gray, gray and alpha, RGB or RGBA."""
    samples = np.atleast_3d(samples)
    match samples.shape[2]:
        case 1:
            return samples[..., 0]
        case 2:
            return np.ascontiguousarray(samples[..., [0, 0, 0, 1]])
        case channels:
            pixels = np.empty(samples.shape, samples.dtype)
            for channel, source in enumerate((2, 1, 0, 3)[:channels]):
                pixels[..., channel] = samples[..., source]
            return pixels


def import_opencv() -> Any:
    """Return OpenCV, which takes a tenth of a start to import, and which many pictures do without.

    It prints the reasons why it refuses files to stderr; here they are in the errors that are raised.
    """
    import cv2
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


def scale_to_full_range(samples: np.ndarray, top: int, dtype: type[np.uint8 | np.uint16] | None = None) -> np.ndarray:
    """Scale integers from 0 to `top` to the full range of 8 or 16 bits; larger values are clipped.

    Args:
        samples: The values.
        top: The value of white.
        dtype: uint8 or uint16; None for the smaller one that holds `top`, and for no change if neither does.
    """
    if dtype is None and top > 65535:
        return samples
    dtype = dtype or (np.uint8 if top <= 255 else np.uint16)
    full = np.iinfo(dtype).max
    if top in (0, full):
        return samples
    return np.rint(samples * (full / top)).clip(0, full).astype(dtype)
