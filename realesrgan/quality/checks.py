"""Check a result against its input in a millisecond: at some thousand points, without any pass over all pixels.

Nothing here imports OpenCV, because every run checks its results.
"""
from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..errors import explain, flatten_message
from ..events import Finding, Preview, Quality, Verdict
from ..upscaling.tiles import Tile

logger = logging.getLogger(__name__)

_POINTS = 96  # along each side, at most; of pictures of less than 192 pixels every other one
_CELL = 4  # points along each side of a pixel of the small copies
_LINE_POINTS = 512  # of a border of tiles, at most
_BORDERS = 8  # of tiles along each axis, at most
_BACKGROUND = 128  # behind transparent pixels

# Results of 43 photos, drawings, film frames, texts and gradients by three networks have a likeness of at least 25 dB,
# colours moved by at most 8.8 levels, but for one with heavy grain, 8 % clipped, and with a tile_pad of 10 steps of at
# most 1.6 levels.
_LEAST_LIKENESS = 20.0
_LIKENESS_OF_NO_USE = 12.0
_CONSTANT_OF_NO_USE = 0.05
_MOST_COLOUR_SHIFT = 10.0
_MOST_CLIPPED = 0.1
_OFF_THE_END = 24  # levels of the input, so that noise in the dark may become black
MOST_TILE_STEP = 2.5
# What an input's area must show so that a constant or black one of the result is a loss.
VARIED_LEVELS = 32
_FINE_LEVELS = 96  # of lines and letters
BRIGHT_LEVEL = 32
BLACK_LEVEL = 2


def check(before: np.ndarray, after: np.ndarray, tiles: Sequence[Tile] = ()) -> Quality:
    """Compare a result with its input at up to 96x96 points spread over both.

    A fault that is smaller than a tenth of a side may escape; `measures.examine` looks at every pixel.

    Args:
        before: HxW, HxWx3 or HxWx4, BGR; uint8, uint16 of full range, or floating point from 0 to 1.
        after: Of any size.
        tiles: Those that it was made of, at whose borders steps are looked for.
    """
    rows, columns = (_spread(length, min(max(length // 2, 32), _POINTS)) for length in before.shape[:2])
    ours, theirs = convert_to_levels(_take(before, rows, columns)), _take_middles(before, after, rows, columns)
    moved = theirs - ours
    blue, green, red = map(float, moved.mean((1, 2)))
    constant, black = _measure_lost_areas(ours, theirs)
    clipped = ((theirs <= 0) & (ours >= _OFF_THE_END)) | ((theirs >= 255) & (ours <= 255 - _OFF_THE_END))
    small = _fold(_fold(moved, np.add), np.add) / _CELL ** 2
    steps = measure_tile_steps(before, after, tiles)
    quality = Quality(
        likeness=measure_psnr(float(np.square(small).mean())), colour_shift=(blue, green, red),
        not_finite=1 - float(np.isfinite(after).mean()) if after.dtype.kind == 'f' else 0.0,
        constant=constant, black=black, clipped=float(clipped.mean()),
        tile_step=max((step.levels for step in steps), default=None))
    return quality._replace(findings=tuple(find_faults(quality)))


def judge(before: np.ndarray, after: np.ndarray, tiles: Sequence[Tile], *, all_pixels: bool,
          frame: int | None = None) -> tuple[Quality, Preview | None] | None:
    """Check a result, or with `all_pixels` examine it, and log what looks wrong as warnings; frames by their number.

    An error is no fault of the result: it is a warning too, and there is no verdict.
    """
    about = '' if frame is None else f'frame {frame + 1}: '
    try:
        if all_pixels:
            from .measures import examine
            quality, preview = examine(before, after, tiles)
        else:
            quality, preview = check(before, after, tiles), None
    except Exception as error:
        logger.warning('%sno check: %s', about, flatten_message(explain(error)))
        logger.debug('no check', exc_info=error)
        return None
    for finding in quality.findings:
        logger.warning('%s%s', about, finding.message)
    return quality, preview


def find_faults(quality: Quality) -> list[Finding]:
    """Return what looks wrong about a result."""
    findings = []
    if quality.not_finite:
        findings.append(Finding('not finite', f'{quality.not_finite:.2%} of its values are not finite', is_bad=True))
    if quality.constant:
        findings.append(Finding(
            'constant', f'{quality.constant:.1%} of it is a single colour where the input has detail',
            is_bad=quality.constant > _CONSTANT_OF_NO_USE))
    if quality.black:
        findings.append(Finding('black', f'{quality.black:.1%} of it is black where the input is not', is_bad=True))
    if quality.clipped > _MOST_CLIPPED:
        findings.append(Finding(
            'clipped', f'{quality.clipped:.1%} of its values are clipped where the input\'s are not'))
    if max(map(abs, quality.colour_shift)) > _MOST_COLOUR_SHIFT:
        shift = ', '.join(f'{level:+.1f} {name}' for name, level in zip(
            ('blue', 'green', 'red'), quality.colour_shift, strict=True))
        findings.append(Finding('colour', f'its mean colour has moved by {shift} (levels of 255)'))
    if quality.likeness < _LEAST_LIKENESS:
        findings.append(Finding('unlike', f'a small copy of it is far from one of the input: {quality.likeness:.1f} dB',
                                is_bad=quality.likeness < _LIKENESS_OF_NO_USE))
    if quality.tile_step is not None and quality.tile_step > MOST_TILE_STEP:
        findings.append(Finding('tiles', f'tiles show: a step of {quality.tile_step:.1f} levels at their borders; a '
                                         'larger --tile_pad helps'))
    return findings


def sum_up(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict on a file from what was found in all of it."""
    found = list(findings)
    word = 'bad' if any(finding.is_bad for finding in found) else 'look' if found else 'good'
    found.sort(key=lambda finding: not finding.is_bad)
    return Verdict(word, tuple(dict.fromkeys(finding.kind for finding in found)),
                   tuple(dict.fromkeys(finding.message for finding in found)))


def convert_to_levels(picture: np.ndarray) -> np.ndarray:
    """Return 3xHxW, float32, with levels from 0 to 255, over gray where a picture is transparent."""
    if picture.dtype.kind == 'f':
        picture, most = np.nan_to_num(picture, posinf=1, neginf=0).clip(0, 1), 1
    else:
        most = np.iinfo(picture.dtype).max
    levels = np.ascontiguousarray(np.atleast_3d(picture).transpose(2, 0, 1), np.float32)
    if most != 255:
        levels *= np.float32(255 / most)
    if len(levels) == 4:
        alpha = levels[3] / 255
        return levels[:3] * alpha + _BACKGROUND * (1 - alpha)
    return levels if len(levels) == 3 else np.repeat(levels, 3, 0)


def measure_psnr(squares: float) -> float:
    """Return the dB of a mean squared difference of levels."""
    return float(10 * np.log10(255 ** 2 / max(squares, 1e-6)))


def _spread(length: int, most: int, multiple: int = _CELL) -> np.ndarray:
    """Return the positions of up to `most` pixels, spread evenly over a side: a multiple, so that some may repeat."""
    count = max(min(length, most) // multiple * multiple, multiple)
    return ((np.arange(count) + 0.5) * (length / count)).astype(np.intp)


def _take(picture: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return picture.take(rows, 0).take(columns, 1)


def _take_middles(before: np.ndarray, after: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the levels in the middle of some pixels of the input in the result: of one, or the mean of two, of its."""
    firsts, seconds = [], []
    for axis, at in enumerate((rows, columns)):
        middle, last = (at + 0.5) * (after.shape[axis] / before.shape[axis]), after.shape[axis] - 1
        firsts.append((np.ceil(middle) - 1).astype(np.intp).clip(0, last))
        seconds.append(np.floor(middle).astype(np.intp).clip(0, last))
    levels = convert_to_levels(_take(after, *firsts))
    levels += convert_to_levels(_take(after, *seconds))
    levels /= 2
    return levels


def _fold(points: np.ndarray, merge: np.ufunc) -> np.ndarray:
    """Merge each 2x2 points of 3xHxW into one; reductions over so short axes take numpy ten times as long."""
    both = merge(points[:, ::2], points[:, 1::2])
    return merge(both[..., ::2], both[..., 1::2])


def _measure_lost_areas(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Return the shares of areas of 8x8 points that are constant, and of 2x2 that are black, unlike the input's."""
    constant = black = 0.0
    largest, least = _fold(theirs, np.maximum), _fold(theirs, np.minimum)
    dark = largest.max(0) <= BLACK_LEVEL
    if dark.any():
        black = float((dark & (_fold(ours, np.minimum).max(0) >= BRIGHT_LEVEL)).mean())
    high, low = _join(_fold(largest, np.maximum), np.maximum), _join(_fold(least, np.minimum), np.minimum)
    flat = (high == low).all(0) & (high.max(0) > BLACK_LEVEL)
    if flat.any():
        fine = _fold(ours, np.add) / 4
        coarse = _fold(fine, np.add) / 4  # where noise and specks matter little
        varied = [(_join(high, np.maximum) - _join(low, np.minimum)).max(0) for high, low in (
            (_fold(fine, np.maximum), _fold(fine, np.minimum)), (coarse, coarse))]
        constant = float((flat & ((varied[0] >= _FINE_LEVELS) | (varied[1] >= VARIED_LEVELS))).mean())
    return constant, black


def _join(cells: np.ndarray, merge: np.ufunc) -> np.ndarray:
    """Merge each 2x2 neighbours of 3xHxW; they overlap."""
    both = merge(cells[:, :-1], cells[:, 1:])
    return merge(both[..., :-1], both[..., 1:])


class TileStep(NamedTuple):
    """By how many levels pixels differ more across a border of tiles than beside it.

    Attributes:
        axis: 0 for a border of rows, 1 of columns.
        start: Where it is, in pixels of the input.
        levels: The step.
    """

    axis: int
    start: int
    levels: float


def measure_tile_steps(before: np.ndarray, after: np.ndarray, tiles: Sequence[Tile]) -> list[TileStep]:
    """Return the steps at borders of tiles, at most 8 along each axis.

    An edge of what is depicted makes a step in the input too, within a pixel of it, which does not count.
    """
    steps = []
    for axis, spans in enumerate(([tile.rows for tile in tiles], [tile.columns for tile in tiles])):
        starts = sorted({span.start for span in spans} - {0})
        for start in (starts[at] for at in _spread(len(starts), _BORDERS, 1)) if starts else ():
            at = round(start * after.shape[axis] / before.shape[axis])
            if 4 <= at < after.shape[axis] - 4:
                here, _, most = _measure_steps(after, axis, at, 0)
                expected, ordinary, _ = _measure_steps(before, axis, start, 1)
                steps.append(TileStep(axis, start, here - most - max(expected - ordinary, 0)))
    return steps


def _measure_steps(picture: np.ndarray, axis: int, at: int, tolerance: int) -> tuple[float, float, float]:
    """Return by how many levels lines `at` - 1 and `at` differ, and the median and the most that those beside them do.

    With a tolerance the step is the largest of those that many lines away.
    """
    first = max(at - 6, 0)
    along = _spread(picture.shape[1 - axis], _LINE_POINTS)
    lines = picture[first:at + 6].take(along, 1) if axis == 0 else picture[:, first:at + 6].take(along, 0)
    levels = convert_to_levels(lines)
    differences = np.abs(np.diff(levels, axis=1 + axis)).mean((0, 2 - axis))
    here = at - first - 1
    near = slice(max(here - tolerance, 0), here + tolerance + 1)
    beside = np.delete(differences, near)
    return float(differences[near].max()), float(np.median(beside)), float(beside.max())
