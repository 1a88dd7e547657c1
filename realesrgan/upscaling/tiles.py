"""How a picture is padded and cut into tiles, and put together again. Lengths are in pixels of the network's input."""
from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """A tile along one axis. It yields `start:stop` of the picture; the network sees `padded_start:padded_stop`."""

    start: int
    stop: int
    padded_start: int
    padded_stop: int

    @property
    def window(self) -> slice:
        """The slice of the picture that the network sees."""
        return slice(self.padded_start, self.padded_stop)

    def target(self, scale: int) -> slice:
        """Return the slice of the upscaled picture that the tile yields."""
        return slice(self.start * scale, self.stop * scale)

    def crop(self, scale: int) -> slice:
        """Return the slice of the network's result that the tile yields."""
        return slice((self.start - self.padded_start) * scale, (self.stop - self.padded_start) * scale)


class Tile(NamedTuple):
    """A tile of a picture."""

    rows: Span
    columns: Span


def cut_axis(length: int, tile: int, pad: int, multiple: int = 1) -> list[Span]:
    """Cut one axis into spans of `tile` pixels whose windows are `pad` pixels longer on each side, up to the borders.

    Args:
        length: Length of the axis.
        tile: Length of a span; 0 gives a single one.
        pad: Pixels seen beyond the span on each side.
        multiple: The borders of a window are widened to multiples of this, so that a network that folds 2x2 or 4x4
            pixels into one gets whole groups, and the same groups as from the untiled picture.
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
    """Cut one axis into as few spans as windows of at most `window` pixels allow, with windows of equal length.

    An engine that prepares itself for each new shape then does so once per picture. Only the last window is shorter if
    the length is no multiple of `multiple`.

    Args:
        length: Length of the axis.
        window: Largest length of a window, more than `2 * pad + multiple`; it is rounded down to `multiple`.
        pad: Least number of pixels seen beyond a span on each side, except at the ends of the axis.
        multiple: Windows start and end at multiples of this.
    """
    if length <= window:
        return [Span(0, length, 0, length)]
    end, length = length, -(-length // multiple) * multiple
    window = window // multiple * multiple
    # Two neighbouring windows share a pad each. Rounding their starts may bring them one `multiple` further apart.
    overlap = 2 * pad + multiple
    # `count` windows with that overlap cover count * window - (count - 1) * overlap pixels. The fewest that reach the
    # end of the axis, then the shortest that still do.
    count = -(-(length - overlap) // (window - overlap))
    window = -(-(length + (count - 1) * overlap) // (count * multiple)) * multiple
    # Spread evenly, so that the surplus is shared; each span ends in the middle of the overlap.
    starts = [index * (length - window) // (count - 1) // multiple * multiple for index in range(count)]
    borders = [0, *((before + window + start) // 2 for before, start in pairwise(starts)), end]
    return [Span(*border, start, min(start + window, end))
            for border, start in zip(pairwise(borders), starts, strict=True)]


def cut_into_tiles(height: int, width: int, tile: int, pad: int, multiple: int = 1) -> list[Tile]:
    """Cut a picture into tiles, listed row by row; see `cut_axis` for the arguments."""
    return _cross(cut_axis(height, tile, pad, multiple), cut_axis(width, tile, pad, multiple))


def cut_into_even_tiles(height: int, width: int, window: int, pad: int, multiple: int = 1) -> list[Tile]:
    """Cut a picture into tiles with windows of one size, listed row by row; see `cut_axis_evenly`."""
    return _cross(cut_axis_evenly(height, window, pad, multiple), cut_axis_evenly(width, window, pad, multiple))


def _cross(rows: list[Span], columns: list[Span]) -> list[Tile]:
    return [Tile(row, column) for row in rows for column in columns]


def pad_picture(picture: np.ndarray, pad: int, multiple: int = 1) -> np.ndarray:
    """Extend a picture by reflection at its right and lower border, as Real-ESRGAN 0.3.0 does.

    Args:
        picture: HxW or HxWxC, of any dtype.
        pad: Rows and columns to add before the sides are extended to multiples of `multiple`.
        multiple: See `cut_axis`.

    Returns:
        The extended picture; the picture itself if there is nothing to add. A side shorter than the pad is reflected
        again and again, and a side of one pixel is repeated.
    """
    height, width = picture.shape[:2]
    bottom = pad + -(height + pad) % multiple
    right = pad + -(width + pad) % multiple
    if not bottom and not right:
        return picture
    import cv2  # only here, because it takes a tenth of a start
    # In two steps, as 0.3.0 does: the second reflects what the first has added.
    for rows, columns in ((pad, pad), (bottom - pad, right - pad)):
        picture = cv2.copyMakeBorder(picture, 0, rows, 0, columns, cv2.BORDER_REFLECT_101)
    return picture


# ---- putting tiles together ----

class Stitcher:
    """Writes tiles into a picture; takes them row by row, each row from left to right.

    With `blend` each tile extends that many input pixels into its neighbours, and the two are cross-faded linearly
    over the strip that both cover. Beside the picture only one such strip of its width is kept.

    Args:
        result: The upscaled picture to fill, HxW or HxWxC, unsigned integers.
        scale: The network's scale.
        blend: Input pixels by which tiles extend into each other: at most a window's pad, and half a tile. 0 cuts hard.
    """

    def __init__(self, result: np.ndarray, scale: int, blend: int = 0) -> None:
        self._result = result
        self._scale = scale
        self._blend = blend
        self._strip = np.empty((2 * blend * scale, *result.shape[1:]), result.dtype)

    def add(self, tile: Tile, upscaled: np.ndarray) -> None:
        """Write a tile.

        Args:
            tile: The tile.
            upscaled: The network's result for its window, of the dtype and channels of the picture.
        """
        scale, blend = self._scale, self._blend
        width = self._result.shape[1]
        left = self._overlap(tile.columns)
        right = min(tile.columns.stop + blend, width // scale)
        columns = slice((tile.columns.start - left) * scale, right * scale)
        piece = upscaled[:, self._within(tile.columns, columns)]
        top = self._overlap(tile.rows)
        first = (tile.rows.start + top) * scale
        last = min(tile.rows.stop + blend, self._result.shape[0] // scale) * scale
        # The rows around the tile's upper border are in the picture already, from the row of tiles above. This row's
        # go into the strip, where they are faded into each other from left to right; only when the row is complete is
        # the strip faded into the picture. Fading both ways at once would weigh the four tiles at a corner wrongly.
        around = slice((tile.rows.start - top) * scale, first)
        if top:
            self._fade_in(self._strip[:, columns], piece[self._within(tile.rows, around)], left)
        self._fade_in(self._result[first:last, columns], piece[self._within(tile.rows, slice(first, last))], left)
        if top and right * scale == width:
            ramp = _ramp(2 * top * scale).reshape(-1, *[1] * (self._result.ndim - 1))
            self._result[around] = _mix(self._result[around], self._strip, ramp)

    def _overlap(self, span: Span) -> int:
        """Return by how many input pixels a tile extends beyond its start; the first one by none."""
        return self._blend if span.start else 0

    def _within(self, span: Span, target: slice) -> slice:
        """Turn a slice of the upscaled picture into one of the network's result for the tile's window."""
        offset = span.padded_start * self._scale
        return slice(target.start - offset, target.stop - offset)

    def _fade_in(self, target: np.ndarray, piece: np.ndarray, left: int) -> None:
        """Write a piece, with its first 2*left input columns cross-faded into what is there."""
        faded = 2 * left * self._scale
        if faded:
            ramp = _ramp(faded).reshape(1, -1, *[1] * (piece.ndim - 2))
            target[:, :faded] = _mix(target[:, :faded], piece[:, :faded], ramp)
        target[:, faded:] = piece[:, faded:]


def _ramp(length: int) -> np.ndarray:
    """Return weights that rise symmetrically between 0 and 1, without either."""
    return (np.arange(length, dtype=np.float32) + 0.5) / length


def _mix(old: np.ndarray, new: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return (1 - share) * old + share * new, rounded."""
    return np.rint(old + share * (new.astype(np.float32) - old)).astype(old.dtype)
