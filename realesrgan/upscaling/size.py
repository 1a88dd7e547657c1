"""The final size of a picture or a frame. Nothing here imports numpy, so that options may use it."""
from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f'{self.width}x{self.height}'


def scale_size(width: int, height: int, outscale: float) -> Size:
    """Return a multiple of a size, rounded down as in Real-ESRGAN 0.3.0; no side is 0."""
    return Size(*(max(int(side * outscale), 1) for side in (width, height)))


def fit_size(width: int, height: int, most_width: int | None, most_height: int | None,
             multiples: tuple[int, int] = (1, 1)) -> Size:
    """Return the largest size with the proportions of another that fits into a box.

    The side that fills the box has its length, rounded down to a multiple; the other one is rounded to the nearest. No
    side is 0.

    Args:
        width, height: The proportions.
        most_width, most_height: The box; one of them may be None, which bounds nothing.
        multiples: What the sides must be multiples of, as `ffmpeg.colour.find_size_multiples` returns them.
    """
    columns, rows = multiples
    most_width = None if most_width is None else _round_down(most_width, columns)
    most_height = None if most_height is None else _round_down(most_height, rows)
    if most_width is not None and (most_height is None or most_width * height <= most_height * width):
        return Size(most_width, _divide(most_width * height, width, rows))
    assert most_height is not None, 'a box has a side'
    return Size(_divide(most_height * width, height, columns), most_height)


def _round_down(side: int, multiple: int) -> int:
    return max(side // multiple, 1) * multiple


def _divide(product: int, by: int, multiple: int) -> int:
    """Return the multiple that is nearest to a quotient; the larger of two."""
    return max((2 * product + by * multiple) // (2 * by * multiple), 1) * multiple
