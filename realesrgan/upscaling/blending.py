"""Put upscaled tiles together into one picture, cross-faded where they overlap."""
from __future__ import annotations

import numpy as np

from .tiles import Span, Tile


class Stitcher:
    """Writes tiles into a picture; takes them row by row, each row from left to right.

    With `blend` each tile reaches that many input pixels into its neighbours, and the two are cross-faded linearly
    over the strip that both cover. Beside the picture only one such strip of its width is kept.

    Args:
        result: The upscaled picture to fill, HxW or HxWxC, unsigned integers.
        scale: The network's scale.
        blend: Input pixels that tiles reach into each other: at most a window's pad, and half a tile. 0 cuts hard.
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
        """Return by how many input pixels a tile reaches beyond its start; the first one by none."""
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
    """Return weights that rise from 0 to 1, symmetric, and reach neither."""
    return (np.arange(length, dtype=np.float32) + 0.5) / length


def _mix(old: np.ndarray, new: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Return (1 - share) * old + share * new, rounded."""
    return np.rint(old + share * (new.astype(np.float32) - old)).astype(old.dtype)
