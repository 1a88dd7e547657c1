"""A picture in memory: its pixels and what its file says about them."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Metadata:
    """The metadata of a picture.

    Attributes:
        icc: ICC profile.
        exif: EXIF as TIFF bytes, without the "Exif" prefix. Its orientation is 1, because pixels are kept upright.
        xmp: XMP packet.
        dpi: Horizontal and vertical resolution in pixels per inch.
        iptc: IPTC-IIM records.
        comment: A comment, as JPEG and GIF hold one: text in no stated encoding.
        texts: Other texts as chunks of PNG (kind, content), each as it was.
        colour: What colours look like, as chunks of PNG (kind, content); see `colour`.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    iptc: bytes | None = None
    comment: bytes | None = None
    texts: tuple[tuple[bytes, bytes], ...] = ()
    colour: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture as it is meant to be seen, upright.

    Attributes:
        pixels: HxW (gray), HxWx3 (BGR) or HxWx4 (BGRA, colours not multiplied by alpha); uint8 or uint16, full range.
        metadata: What its file says about it.
    """

    pixels: np.ndarray
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def has_alpha(self) -> bool:
        """Whether there is an alpha channel, even one that is opaque everywhere."""
        return self.pixels.ndim == 3 and self.pixels.shape[2] == 4
