"""Judge a result: measure it against its input, find what looks wrong, and show both side by side."""
from __future__ import annotations

import functools
import itertools
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from .events import Preview, Quality
from .upscaling.tiles import Tile

logger = logging.getLogger(__name__)

_CELL = 16  # side of the areas that are looked at, in pixels of the input
_BAND = 512  # rows that are measured at once, so that large pictures need little memory
_SSIM_WINDOW = 7
_LEAST_NIQE_SIDE = 288  # three of NIQE's blocks of 96 pixels; fewer say little
_MOST_NIQE_SIDE = 1024  # of the square in the middle that is measured, because it takes a second for each megapixel

# Good results of the pictures in inputs/ by three networks reach at least 29.5 dB and 0.87, move colours by at most
# 4.4 levels, clip at most 0.09 more of the values, lose at most 0.3 of NIQE, and with a tile_pad of 10 have steps of at
# most 2.5 levels; with one of 0 at least 6.4. Bounds of likeness are lower because removing grain costs some.
_LEAST_PSNR = 18.0
_LEAST_SSIM = 0.45
_MOST_COLOUR_SHIFT = 8.0
_MOST_NEWLY_CLIPPED = 0.2
_MOST_NIQE_LOST = 4.0
_MOST_TILE_STEP = 4.0
# What an input's area must show so that a constant or black one of the result is a loss.
_VARIED_LEVELS = 32
_BRIGHT_LEVEL = 32
_BLACK_LEVEL = 2

_BACKGROUND = 128  # behind transparent pixels
_LONGEST_PANEL = 2000  # pixels; comparisons are for looking at, and the place that is enlarged keeps its pixels
_PLACE = 192  # side of the place that is enlarged, in pixels of the result
_PREVIEW_SIDE = 384
_THUMBNAIL_SIDE = 160
_GAP = 8
_RED = 48, 48, 230


def check(before: np.ndarray, after: np.ndarray, tiles: Sequence[Tile] = ()) -> Quality:
    """Compare a result with what it was made of.

    Args:
        before: HxW, HxWx3 or HxWx4, BGR; uint8, uint16 of full range, or floating point from 0 to 1.
        after: Of any size.
        tiles: Those that it was made of, at whose borders steps are looked for.
    """
    return examine(before, after, tiles)[0]


def examine(before: np.ndarray, after: np.ndarray, tiles: Sequence[Tile] = ()) -> tuple[Quality, Preview]:
    """Return what `check` does, and small pictures of the result and of the place where it differs most."""
    not_finite = 1 - float(np.isfinite(after).mean()) if after.dtype.kind == 'f' else 0.0
    before, after = convert_to_bgr8(before), convert_to_bgr8(after)
    enlarged = enlarge(before, after)
    tile_step = _measure_tile_step(enlarged, after, before.shape, tiles)
    if after.shape[0] < before.shape[0]:  # of a result that is smaller than its input the input is scaled
        before = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_AREA)
    shrunk = cv2.resize(after, before.shape[1::-1], interpolation=cv2.INTER_AREA)
    psnr, ssim = _measure_likeness(before, shrunk)
    constant, black = _measure_lost_areas(before, shrunk)
    blue, green, red = (after_mean - before_mean for after_mean, before_mean in zip(
        cv2.mean(after)[:3], cv2.mean(before)[:3], strict=True))
    quality = Quality(
        psnr=psnr, ssim=ssim, niqe_before=_measure_niqe(enlarged), niqe_after=_measure_niqe(after),
        clipped_before=_measure_clipped(before), clipped_after=_measure_clipped(after),
        colour_shift=(blue, green, red), not_finite=not_finite, constant=constant, black=black, tile_step=tile_step)
    place = find_largest_difference(enlarged, after, _PREVIEW_SIDE)
    shrink = min(_THUMBNAIL_SIDE / max(after.shape[:2]), 1)
    size = tuple(max(round(side * shrink), 1) for side in after.shape[1::-1])
    preview = Preview(_encode(cv2.resize(after, size, interpolation=cv2.INTER_AREA)), _encode(enlarged[place]),
                      _encode(after[place]))
    return replace(quality, findings=tuple(find_faults(quality))), preview


def find_faults(quality: Quality) -> list[str]:
    """Return what looks wrong about a result, a line each."""
    findings = []
    if quality.not_finite:
        findings.append(f'{quality.not_finite:.2%} of its values are not finite')
    if quality.constant:
        findings.append(f'{quality.constant:.1%} of it is a single colour where the input has detail')
    if quality.black:
        findings.append(f'{quality.black:.1%} of it is black where the input is not')
    if quality.clipped_after - quality.clipped_before > _MOST_NEWLY_CLIPPED:
        findings.append(f'{quality.clipped_after:.1%} of its values are clipped, {quality.clipped_before:.1%} of the '
                        'input\'s')
    if max(map(abs, quality.colour_shift)) > _MOST_COLOUR_SHIFT:
        shift = ', '.join(f'{level:+.1f} {name}' for name, level in zip(
            ('blue', 'green', 'red'), quality.colour_shift, strict=True))
        findings.append(f'its mean colour has moved by {shift} (levels of 255)')
    if quality.psnr < _LEAST_PSNR or (quality.ssim is not None and quality.ssim < _LEAST_SSIM):
        likeness = '' if quality.ssim is None else f', SSIM {quality.ssim:.2f}'
        findings.append(f'scaled back it is far from the input: PSNR {quality.psnr:.1f} dB{likeness}')
    if (quality.niqe_before is not None and quality.niqe_after is not None
            and quality.niqe_after - quality.niqe_before > _MOST_NIQE_LOST):
        findings.append(f'it looks less natural than the input enlarged by bicubic: NIQE {quality.niqe_after:.1f}, '
                        f'was {quality.niqe_before:.1f}')
    if quality.tile_step is not None and quality.tile_step > _MOST_TILE_STEP:
        findings.append(f'tiles show: a step of {quality.tile_step:.1f} levels at their borders; a larger --tile_pad '
                        'helps')
    return findings


def _measure_likeness(before: np.ndarray, shrunk: np.ndarray) -> tuple[float, float | None]:
    """Return PSNR in dB and SSIM of two pictures of one size."""
    from skimage.metrics import structural_similarity
    squares, ssim, rows = 0.0, 0.0, 0
    for start in range(0, len(before), _BAND):
        ours, theirs = before[start:start + _BAND], shrunk[start:start + _BAND]
        squares += float(np.square(ours.astype(np.float32) - theirs).sum(dtype=np.float64))
        if min(ours.shape[:2]) >= _SSIM_WINDOW:
            likeness = structural_similarity(  # type: ignore[no-untyped-call]
                ours, theirs, win_size=_SSIM_WINDOW, channel_axis=2)
            ssim += len(ours) * float(likeness)
            rows += len(ours)
    psnr = 10 * np.log10(255 ** 2 / max(squares / before.size, 1e-6))
    return float(psnr), ssim / rows if rows else None


def _measure_clipped(picture: np.ndarray) -> float:
    bands = (picture[start:start + _BAND] for start in range(0, len(picture), _BAND))
    return sum(int(np.count_nonzero((band == 0) | (band == 255))) for band in bands) / picture.size


def _measure_lost_areas(before: np.ndarray, shrunk: np.ndarray) -> tuple[float, float]:
    """Return the shares of cells that are constant, or black, although the input's are not."""
    (low, high), (ours_low, ours_high) = map(_find_extremes, (before, shrunk))
    constant = ((ours_high - ours_low).max(2) == 0) & ((high - low).max(2) >= _VARIED_LEVELS)
    black = (ours_high.max(2) <= _BLACK_LEVEL) & (high.max(2) >= _BRIGHT_LEVEL)
    return float(constant.mean()), float(black.mean())


def _find_extremes(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest values of each cell, rows x columns x 3, without parts of cells at the end."""
    height, width = (min(_CELL, side) for side in picture.shape[:2])
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    cells = picture[:rows * height, :columns * width].reshape(rows, height, columns, width, 3)
    return cells.min((1, 3)).astype(int), cells.max((1, 3)).astype(int)


def _measure_tile_step(enlarged: np.ndarray, after: np.ndarray, size: Sequence[int],
                       tiles: Sequence[Tile]) -> float | None:
    """Return by how many levels pixels differ more across the worst border of tiles than beside it.

    A step that the input shows there too, an edge of what is depicted, does not count.
    """
    steps = []
    for axis, spans in enumerate(([tile.rows for tile in tiles], [tile.columns for tile in tiles])):
        scale = after.shape[axis] / size[axis]
        ours, theirs = (np.moveaxis(picture, axis, 0) for picture in (after, enlarged))
        for start in {span.start for span in spans} - {0}:
            at = round(start * scale)
            if 4 <= at < len(ours) - 4:
                steps.append(_measure_step(ours, at) - max(_measure_step(theirs, at), 0))
    return max(steps, default=None)


def _measure_step(picture: np.ndarray, at: int) -> float:
    """Return by how many levels lines `at` - 1 and `at` differ more than the lines beside them do."""
    lines = picture[max(at - 6, 0):at + 6].astype(np.float32)
    differences = [float(np.abs(second - first).mean()) for first, second in itertools.pairwise(lines)]
    here = min(at, 6) - 1
    return differences.pop(here) - float(np.median(differences))


def _measure_niqe(picture: np.ndarray) -> float | None:
    """Return the NIQE of the middle of a picture, HxWx3, BGR, uint8: how natural it looks by itself; lower is better.

    None for a picture that is too small or too even, or where basicsr is not installed.

    Source: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE SPL 2013;
    computed by basicsr, which brings the model's parameters.
    """
    calculate = _import_niqe() if min(picture.shape[:2]) >= _LEAST_NIQE_SIDE else None
    if calculate is None:
        return None
    top, left = (max(side - _MOST_NIQE_SIDE, 0) // 2 for side in picture.shape[:2])
    window = picture[top:top + _MOST_NIQE_SIDE, left:left + _MOST_NIQE_SIDE]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            value = float(calculate(window, 0))
    except (np.linalg.LinAlgError, ValueError):  # of areas of one colour it has no statistics
        return None
    return value if np.isfinite(value) else None


@functools.cache
def _import_niqe() -> Callable[[np.ndarray, int], float] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            from basicsr.metrics.niqe import calculate_niqe
    except ImportError as error:
        logger.info('no NIQE in the report: %s', error)
        return None
    return calculate_niqe


# ---- pictures of both ----

def convert_to_bgr8(picture: np.ndarray) -> np.ndarray:
    """Return a picture as HxWx3, BGR, uint8, over gray where it is transparent.

    Args:
        picture: HxW, HxWx3 or HxWx4, BGR; uint8, uint16 of full range, or floating point from 0 to 1.
    """
    if picture.dtype == np.uint16:
        picture = np.rint(picture / np.float32(257)).astype(np.uint8)
    elif picture.dtype != np.uint8:
        picture = np.rint(np.nan_to_num(picture, posinf=1, neginf=0).clip(0, 1) * 255).astype(np.uint8)
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    if picture.shape[2] == 3:
        return picture
    alpha = picture[..., 3:].astype(np.float32) / 255
    return np.rint(picture[..., :3] * alpha + _BACKGROUND * (1 - alpha)).astype(np.uint8)


def enlarge(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return an input enlarged by bicubic to the size of its result, both as `convert_to_bgr8` returns them."""
    return cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def find_largest_difference(enlarged: np.ndarray, after: np.ndarray, side: int) -> tuple[slice, slice]:
    """Return rows and columns of the square where two pictures of one size differ most.

    The pictures are HxWx3, uint8; the square has `side` pixels, or as many as they have.
    """
    height, width = (min(side, length) for length in after.shape[:2])
    difference = cv2.absdiff(enlarged, after).max(2)
    mean = cv2.boxFilter(difference, cv2.CV_32F, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = mean[:mean.shape[0] - height + 1, :mean.shape[1] - width + 1]
    y, x = map(int, np.unravel_index(int(inside.argmax()), inside.shape))
    return slice(y, y + height), slice(x, x + width)


def compare(before: np.ndarray, after: np.ndarray, name: str) -> np.ndarray:
    """Return a picture of an input and its result, labelled, and below it the place where they differ most, enlarged.

    Args:
        before, after: The input and the result, as `convert_to_bgr8` takes them.
        name: What the result is labelled with, in ASCII.

    Returns:
        HxWx3, BGR, uint8; two panels of at most 2000 pixels side by side, and two below them.
    """
    after = convert_to_bgr8(after)
    enlarged = enlarge(convert_to_bgr8(before), after)
    rows, columns = find_largest_difference(enlarged, after, max(min(_PLACE, min(after.shape[:2]) // 2), 1))
    shrink = min(_LONGEST_PANEL / max(after.shape[:2]), 1)
    wholes, places = [], []
    for picture in (enlarged, after):
        place = picture[rows, columns]
        whole = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        corner, opposite = ((round(x * shrink), round(y * shrink)) for x, y in (
            (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)))
        wholes.append(cv2.rectangle(whole, corner, opposite, _RED, max(round(whole.shape[1] / 400), 1)))
        size = whole.shape[1], max(round(place.shape[0] * whole.shape[1] / place.shape[1]), 1)
        places.append(cv2.resize(place, size, interpolation=cv2.INTER_NEAREST))
    return _stack(put_side_by_side(wholes[0], wholes[1], name), _stack(*places, axis=1), axis=0)


def put_side_by_side(enlarged: np.ndarray, after: np.ndarray, name: str) -> np.ndarray:
    """Return two pictures of one size, HxWx3, uint8, labelled side by side."""
    panels = [panel.copy() for panel in (enlarged, after)]
    for panel, label in zip(panels, ('bicubic', name), strict=True):
        _label(panel, label)
    return _stack(*panels, axis=1)


def _label(panel: np.ndarray, label: str) -> None:
    """Write a label into the upper left corner of a picture, in place; nothing where it would not fit."""
    size = min(max(panel.shape[1] / 900, 0.4), 1.5)
    thickness = max(round(size * 1.5), 1)
    (width, height), base = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    margin = height // 2
    if width + 2 * margin > panel.shape[1] or height + base + 2 * margin > panel.shape[0]:
        return
    cv2.rectangle(panel, (0, 0), (width + 2 * margin, height + base + 2 * margin), (0, 0, 0), cv2.FILLED)
    cv2.putText(panel, label, (margin, height + margin), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thickness,
                cv2.LINE_AA)


def _encode(picture: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def _stack(first: np.ndarray, second: np.ndarray, *, axis: int) -> np.ndarray:
    shape = list(first.shape)
    shape[axis] = _GAP
    return np.concatenate((first, np.full(shape, 255, np.uint8), second), axis)
