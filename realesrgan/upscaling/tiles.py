"""Pure geometry: how a picture is padded and cut into tiles. All lengths are in pixels of the network's input."""
from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np


@dataclass(frozen=True)
class Span:
    """A tile along one axis: it answers for `start:stop`, the network sees `padded_start:padded_stop`."""

    start: int
    stop: int
    padded_start: int
    padded_stop: int

    @property
    def window(self) -> slice:
        """What the network sees, as a slice of the picture."""
        return slice(self.padded_start, self.padded_stop)

    def target(self, scale: int) -> slice:
        """What the tile answers for, as a slice of the upscaled picture."""
        return slice(self.start * scale, self.stop * scale)

    def crop(self, scale: int) -> slice:
        """What the tile answers for, as a slice of the network's result."""
        return slice((self.start - self.padded_start) * scale, (self.stop - self.padded_start) * scale)


@dataclass(frozen=True)
class Tile:
    """A tile of a picture."""

    rows: Span
    columns: Span


def cut_axis(length: int, tile: int, pad: int, multiple: int = 1) -> list[Span]:
    """Cut one axis into spans of `tile` pixels that see `pad` pixels more on each side, where there are any.

    Args:
        length: Length of the axis; a multiple of `multiple`.
        tile: Length of a span, 0 for a single one.
        pad: Pixels seen beyond the span on each side.
        multiple: What the borders of a window are widened to, so that a network that folds 2x2 or 4x4 pixels into
            one gets whole groups, and the same groups as the untiled picture.
    """
    if tile <= 0:
        return [Span(0, length, 0, length)]
    spans = []
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        first = max(start - pad, 0) // multiple * multiple
        last = min(-(-(stop + pad) // multiple) * multiple, length)
        spans.append(Span(start, stop, first, last))
    return spans


def cut_axis_evenly(length: int, window: int, pad: int, multiple: int = 1) -> list[Span]:
    """Cut one axis into as few spans as windows of a given length allow; all windows have one length, the shortest.

    An engine that prepares itself for each new shape then does so once for a whole picture.

    Args:
        length: Length of the axis; a multiple of `multiple`.
        window: Largest length of a window; rounded down to `multiple`, more than `2 * (pad + multiple)`.
        pad: Least number of pixels seen beyond a span on each side, but for the ends of the axis.
        multiple: What windows start and end at.
    """
    if length <= window:
        return [Span(0, length, 0, length)]
    window = window // multiple * multiple
    overlap = 2 * (pad + multiple)
    count = -(-(length - overlap) // (window - overlap))
    window = -(-(length + (count - 1) * overlap) // (count * multiple)) * multiple
    starts = [index * (length - window) // (count - 1) // multiple * multiple for index in range(count)]
    borders = [0, *((before + window + start) // 2 for before, start in pairwise(starts)), length]
    return [Span(*border, start, start + window) for border, start in zip(pairwise(borders), starts, strict=True)]


def cut(height: int, width: int, tile: int, pad: int, multiple: int = 1) -> list[Tile]:
    """Cut a picture into tiles, row by row; the arguments are those of `cut_axis`."""
    return _crossed(cut_axis(height, tile, pad, multiple), cut_axis(width, tile, pad, multiple))


def cut_evenly(height: int, width: int, window: int, pad: int, multiple: int = 1) -> list[Tile]:
    """Cut a picture into tiles, row by row; the arguments are those of `cut_axis_evenly`."""
    return _crossed(cut_axis_evenly(height, window, pad, multiple), cut_axis_evenly(width, window, pad, multiple))


def _crossed(rows: list[Span], columns: list[Span]) -> list[Tile]:
    return [Tile(row, column) for row in rows for column in columns]


def pad_picture(picture: np.ndarray, pad: int, multiple: int = 1) -> np.ndarray:
    """Extend a picture by reflection at its right and lower border, where the original pads too.

    Args:
        picture: HxW or HxWxC.
        pad: Rows and columns to add, before the sides are made multiples of `multiple`.
        multiple: See `cut_axis`.

    Returns:
        The picture itself if there is nothing to add. Sides shorter than the pad are reflected over and over, a side
        of one pixel is repeated.
    """
    height, width = picture.shape[:2]
    bottom = pad + -(height + pad) % multiple
    right = pad + -(width + pad) % multiple
    if not bottom and not right:
        return picture
    # In two steps, as the original does: the second reflects what the first has added.
    for rows, columns in ((pad, pad), (bottom - pad, right - pad)):
        picture = cv2.copyMakeBorder(picture, 0, rows, 0, columns, cv2.BORDER_REFLECT_101)
    return picture
