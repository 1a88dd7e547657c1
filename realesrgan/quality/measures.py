"""Measure all pixels of a result, for a report: how alike, how natural, what was gained, and where it looks wrong."""
from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from ..events import Cell, Finding, Preview, Quality
from ..upscaling.tiles import Tile
from .checks import (
    BLACK_LEVEL,
    BRIGHT_LEVEL,
    MOST_TILE_STEP,
    VARIED_LEVELS,
    TileStep,
    check,
    find_faults,
    measure_psnr,
    measure_tile_steps,
)
from .comparisons import convert_to_bgr8, enlarge, find_largest_difference

logger = logging.getLogger(__name__)

_CELL = 16  # side of the areas that are looked at, in pixels of the input
_BAND = 512  # rows that are measured at once, so that large pictures need little memory
_SSIM_WINDOW = 7
_NIQE_BLOCK = 96
_LEAST_NIQE_SIDE = 288  # three of NIQE's blocks; fewer say little
_MOST_NIQE_SIDE = 768  # of the square in the middle that is measured

# Results of 43 photos, drawings, film frames, texts and gradients by three networks reach at least 25 dB, and lose
# at most 14 of NIQE, which says little about even pictures; noise costs hundreds. Bounds of likeness are lower because
# removing grain costs some.
_LEAST_PSNR = 18.0
_LEAST_SSIM = 0.45
_LEAST_PSNR_OF_GRAIN = 25.0  # from which a low SSIM is that of grain that was removed
_MOST_NIQE_LOST = 20.0

# The map: cells along each side, and from which shift of their mean colour they are wrong.
_MAP = 16
_MOST_LOCAL_SHIFT = 24.0
_LOST_WEIGHT = 10.0  # of black and constant areas, which come first
_BORDER_WIDTH = 0.02
_MOST_CELLS = 128

_MOST_GAIN_SIDE = 1024  # of the square in the middle that is measured
_MOST_EDGE_REACH = 8  # pixels to either side of an edge; those of an input's pixel
_EDGE_LEVELS = 32
_LEAST_EDGES = 32

_PREVIEW_SIDE = 384
_THUMBNAIL_SIDE = 160


def examine(before: np.ndarray, after: np.ndarray, tiles: Sequence[Tile] = ()) -> tuple[Quality, Preview]:
    """Return what `check` does and the rest of a `Quality`, measured at all pixels; and small pictures of both.

    Args:
        before, after, tiles: As `check` takes them.
    """
    quality = check(before, after, tiles)
    before, after = convert_to_bgr8(before), convert_to_bgr8(after)
    enlarged, scale = enlarge(before, after), after.shape[0] / before.shape[0]
    steps = measure_tile_steps(before, after, tiles)
    if after.shape[0] < before.shape[0]:  # of a result that is smaller than its input the input is scaled
        before = cv2.resize(before, after.shape[1::-1], interpolation=cv2.INTER_AREA)
    shrunk = cv2.resize(after, before.shape[1::-1], interpolation=cv2.INTER_AREA)
    psnr, ssim = _measure_likeness(before, shrunk)
    constant, black = _find_lost_areas(before, shrunk)
    blue, green, red = (after_mean - before_mean for after_mean, before_mean in zip(
        cv2.mean(after)[:3], cv2.mean(before)[:3], strict=True))
    quality = quality._replace(
        psnr=psnr, ssim=ssim, niqe_before=_measure_niqe(enlarged), niqe_after=_measure_niqe(after),
        colour_shift=(blue, green, red), constant=max(float(constant.mean()), quality.constant),
        black=max(float(black.mean()), quality.black), gained=measure_gain(enlarged, after, scale),
        cells=tuple(_find_cells(before, shrunk, {'black': black, 'constant': constant}, steps)))
    place = find_largest_difference(enlarged, after, _PREVIEW_SIDE)
    shrink = min(_THUMBNAIL_SIDE / max(after.shape[:2]), 1)
    size = tuple(max(round(side * shrink), 1) for side in after.shape[1::-1])
    preview = Preview(_encode(cv2.resize(after, size, interpolation=cv2.INTER_AREA)), _encode(enlarged[place]),
                      _encode(after[place]))
    findings = [*find_faults(quality), *_find_faults_of_all_pixels(quality)]
    return quality._replace(findings=tuple(findings)), preview


def _find_faults_of_all_pixels(quality: Quality) -> Iterator[Finding]:
    assert quality.psnr is not None
    if quality.psnr < _LEAST_PSNR or (quality.psnr < _LEAST_PSNR_OF_GRAIN and (quality.ssim or 1) < _LEAST_SSIM):
        likeness = '' if quality.ssim is None else f', SSIM {quality.ssim:.2f}'
        yield Finding('unlike', f'scaled back it is far from the input: PSNR {quality.psnr:.1f} dB{likeness}')
    if (quality.niqe_before is not None and quality.niqe_after is not None
            and quality.niqe_after - quality.niqe_before > _MOST_NIQE_LOST):
        yield Finding('unnatural', f'it looks less natural than the input enlarged by bicubic: NIQE '
                                   f'{quality.niqe_after:.1f}, was {quality.niqe_before:.1f}')


def _measure_likeness(before: np.ndarray, shrunk: np.ndarray) -> tuple[float, float | None]:
    """Return PSNR in dB and SSIM of two pictures of one size."""
    squares, ssim, rows = 0.0, 0.0, 0
    for start in range(0, len(before), _BAND):
        ours, theirs = before[start:start + _BAND], shrunk[start:start + _BAND]
        squares += float(np.square(ours.astype(np.float32) - theirs).sum(dtype=np.float64))
        if min(ours.shape[:2]) >= _SSIM_WINDOW:
            ssim += len(ours) * measure_ssim(ours, theirs)
            rows += len(ours)
    return measure_psnr(squares / before.size), ssim / rows if rows else None


def measure_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return the structural similarity of two pictures of one size, HxWx3, uint8, at least 7x7: 1 if they are equal.

    Source: Wang et al., 2004, with windows of 7x7 pixels of equal weight and sample variances, each channel by itself.
    """
    def average(values: np.ndarray) -> np.ndarray:
        inside = slice(_SSIM_WINDOW // 2, -(_SSIM_WINDOW // 2))
        return cv2.blur(values, (_SSIM_WINDOW, _SSIM_WINDOW))[inside, inside]

    first, second = first.astype(np.float64), second.astype(np.float64)
    mean, other_mean = average(first), average(second)
    of_sample = _SSIM_WINDOW ** 2 / (_SSIM_WINDOW ** 2 - 1)
    variance = of_sample * (average(first ** 2) - mean ** 2)
    other_variance = of_sample * (average(second ** 2) - other_mean ** 2)
    covariance = of_sample * (average(first * second) - mean * other_mean)
    least_mean, least_variance = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # so that even areas don't divide by nothing
    return float(np.mean((2 * mean * other_mean + least_mean) * (2 * covariance + least_variance)
                         / ((mean ** 2 + other_mean ** 2 + least_mean)
                            * (variance + other_variance + least_variance))))


def _find_lost_areas(before: np.ndarray, shrunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each cell whether the result is constant, and whether it is black, although the input is not."""
    (low, high, mean), (ours_low, ours_high, _) = map(_describe_cells, (before, shrunk))
    smooth_low, smooth_high, _ = _describe_cells(cv2.blur(before, (5, 5)))  # where noise and specks matter little
    varied = np.minimum(high - low, smooth_high - smooth_low).max(2) >= VARIED_LEVELS
    dark = ours_high.max(2) <= BLACK_LEVEL
    return ((ours_high - ours_low).max(2) == 0) & varied & ~dark, dark & (mean.max(2) >= BRIGHT_LEVEL)


def _describe_cells(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return least, largest and mean values of each cell, rows x columns x 3, without parts of cells at the end."""
    height, width = (min(_CELL, side) for side in picture.shape[:2])
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    whole = picture[:rows * height, :columns * width].reshape(rows, height, -1)
    low, high = (merge.reduce(merge.reduce(whole, 1).reshape(rows, columns, width, 3), 2).astype(int)
                 for merge in (np.minimum, np.maximum))
    return low, high, _average(picture[:rows * height, :columns * width], rows, columns)


# ---- where it looks wrong ----

def _find_cells(before: np.ndarray, shrunk: np.ndarray, lost: Mapping[str, np.ndarray],
                steps: Sequence[TileStep]) -> list[Cell]:
    """Return the areas that look wrong, the worst first.

    Args:
        before, shrunk: The input and the result in one size, HxWx3, uint8.
        lost: By the kind of loss, for each cell of `_describe_cells` whether it is lost.
        steps: At borders of tiles.
    """
    height, width = before.shape[:2]
    rows, columns = (min(side, _MAP) for side in (height, width))
    moved = np.stack([_average(picture, rows, columns) for picture in (before, shrunk)])
    away = np.abs(moved[1] - moved[0]).max(2)
    cells = [Cell(column / columns, row / rows, 1 / columns, 1 / rows, float(away[row, column]) / _MOST_LOCAL_SHIFT,
                  'colour') for row, column in np.argwhere(away >= _MOST_LOCAL_SHIFT)]
    for kind, areas in lost.items():
        shares = cv2.resize(areas.astype(np.float32), (min(columns, areas.shape[1]), min(rows, areas.shape[0])),
                            interpolation=cv2.INTER_AREA)
        size = 1 / shares.shape[1], 1 / shares.shape[0]
        cells += [Cell(column * size[0], row * size[1], size[0], size[1], _LOST_WEIGHT + float(shares[row, column]),
                       kind) for row, column in np.argwhere(shares > 0)]
    for step in steps:
        at = max(step.start / before.shape[step.axis] - _BORDER_WIDTH / 2, 0)
        if step.levels > MOST_TILE_STEP:
            x, y, across, down = (0.0, at, 1.0, _BORDER_WIDTH) if step.axis == 0 else (at, 0.0, _BORDER_WIDTH, 1.0)
            cells.append(Cell(x, y, across, down, step.levels / MOST_TILE_STEP, 'tiles'))
    return sorted(cells, key=lambda cell: -cell.weight)[:_MOST_CELLS]


def _average(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)


# ---- what was gained ----

def measure_gain(enlarged: np.ndarray, after: np.ndarray, scale: float) -> float | None:
    """Return how many times as steep a result's edges are as the same edges of the input enlarged by bicubic.

    Only edges that the input has count, horizontal and vertical ones, and of each the mean along it, so that neither
    noise nor invented texture counts; steepness is measured in shares of the contrast across the edge, so that neither
    contrast nor halos count.

    Args:
        enlarged, after: HxWx3, uint8, of one size; their middle is measured.
        scale: By how much the input was enlarged.

    Returns:
        1 where nothing was gained, below it where edges are softer; None where there are too few edges.
    """
    sides = [slice(max(side - _MOST_GAIN_SIDE, 0) // 2, max(side - _MOST_GAIN_SIDE, 0) // 2 + _MOST_GAIN_SIDE)
             for side in after.shape[:2]]
    gray = [cv2.cvtColor(picture[*sides], cv2.COLOR_BGR2GRAY).astype(np.float32) for picture in (enlarged, after)]
    reach = min(max(math.ceil(scale), 2), _MOST_EDGE_REACH)
    across, ratios = np.ones((1, 2 * reach + 1), np.uint8), []
    for first, second in (gray, [np.ascontiguousarray(picture.T) for picture in gray]):
        smooth = cv2.GaussianBlur(first, (0, 0), reach / 2)
        slope, along = np.abs(cv2.Sobel(smooth, -1, 1, 0)), np.abs(cv2.Sobel(smooth, -1, 0, 1))
        contrast, steepest = _measure_edges(first, across)
        contrast_after, steepest_after = _measure_edges(second, across)
        edges = (slope > 4 * along) & (contrast >= _EDGE_LEVELS) & (slope >= cv2.dilate(slope, across))
        ratios.append(steepest_after[edges] / np.maximum(contrast_after[edges], _EDGE_LEVELS / 4)
                      / (steepest[edges] / contrast[edges]))
    both = np.concatenate(ratios)
    return float(np.median(both)) if len(both) >= _LEAST_EDGES else None


def _measure_edges(gray: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return at each pixel the contrast and the largest step between neighbours, across vertical edges."""
    mean = cv2.blur(gray, (1, across.size))
    steps = np.abs(np.diff(mean, axis=1, prepend=mean[:, :1]))
    return cv2.dilate(mean, across) - cv2.erode(mean, across), cv2.dilate(steps, across)


# ---- naturalness ----

def _measure_niqe(picture: np.ndarray) -> float | None:
    """Return the NIQE of the middle of a picture, HxWx3, BGR, uint8: how natural it looks by itself; lower is better.

    None for a picture that is too small or too even, or where basicsr, which brings the model's parameters, is not
    installed. Its own function gives the same in fifty times the time, most of which is its import.

    Source: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE SPL 2013.
    """
    parameters = _load_niqe_parameters() if min(picture.shape[:2]) >= _LEAST_NIQE_SIDE else None
    if parameters is None:
        return None
    mean, covariance, window = parameters
    sides = [min(side, _MOST_NIQE_SIDE) // _NIQE_BLOCK * _NIQE_BLOCK for side in picture.shape[:2]]
    rows, columns = (slice((length - side) // 2, (length - side) // 2 + side)
                     for length, side in zip(picture.shape[:2], sides, strict=True))
    # Luma of BT.601 in studio swing, as MATLAB's rgb2ycbcr gives it.
    luma = np.rint(picture[rows, columns].astype(np.float64) @ (24.966 / 255, 128.553 / 255, 65.481 / 255) + 16)
    features = []
    for block in (_NIQE_BLOCK, _NIQE_BLOCK // 2):
        blurred = cv2.filter2D(luma, -1, window, borderType=cv2.BORDER_REPLICATE)
        squares = cv2.filter2D(np.square(luma), -1, window, borderType=cv2.BORDER_REPLICATE)
        normal = (luma - blurred) / (np.sqrt(np.abs(squares - np.square(blurred))) + 1)
        height, width = (side // block for side in normal.shape)
        blocks = normal.reshape(height, block, width, block).transpose(2, 0, 1, 3).reshape(-1, block, block)
        features.append(_describe_blocks(blocks))
        luma = _halve(luma)
    with np.errstate(all='ignore'):
        described = np.concatenate(features, 1)
        whole = described[np.isfinite(described).all(1)]
        if len(whole) < 2:  # areas of one colour have no statistics
            return None
        off = mean - np.nanmean(described, 0)
        value = float(np.sqrt(off @ np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2) @ off))
    return value if np.isfinite(value) else None


@functools.cache
def _load_niqe_parameters() -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the mean and covariance of features of natural pictures, and the window of local means."""
    package = find_spec('basicsr')
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        try:
            with np.load(Path(folder, 'metrics', 'niqe_pris_params.npz')) as file:
                return file['mu_pris_param'].ravel(), file['cov_pris_param'], file['gaussian_window']
        except (OSError, KeyError, ValueError) as error:
            logger.info('no NIQE in the report: %s', error)
    return None


@functools.cache
def _tabulate_shapes() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return shapes of generalised Gaussian distributions; of each the ratio of moments, the scale and the mean."""
    shapes = np.arange(0.2, 10.001, 0.001)
    first, second, third = (np.array([math.gamma(order / shape) for shape in shapes]) for order in (1, 2, 3))
    return shapes, np.square(second) / (first * third), np.sqrt(first / third), second / first


def _describe_blocks(blocks: np.ndarray) -> np.ndarray:
    """Return 18 features of each block: shapes of the distributions of its values and of products of neighbours."""
    alpha, left, right, _ = _fit_distribution(blocks)
    features = [alpha, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        alpha, left, right, mean = _fit_distribution(blocks * np.roll(blocks, shift, (1, 2)))
        features += [alpha, (right - left) * mean, left, right]
    return np.stack(features, 1)


def _fit_distribution(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fit asymmetric generalised Gaussian distributions; return their shapes, scales to either side, and means."""
    shapes, moments, scales, means = _tabulate_shapes()
    values = blocks.reshape(len(blocks), -1)
    squares = np.square(values)
    with np.errstate(all='ignore'):
        left, right = (np.sqrt((squares * side).sum(1) / side.sum(1)) for side in (values < 0, values > 0))
        ratio = left / right
        moment = np.square(np.abs(values).mean(1)) / squares.mean(1)
        moment *= (ratio ** 3 + 1) * (ratio + 1) / np.square(np.square(ratio) + 1)
    at = np.searchsorted(moments, moment).clip(1, len(shapes) - 1)
    at -= moment - moments[at - 1] < moments[at] - moment
    unknown = np.where(np.isfinite(moment), 0, np.nan)
    return shapes[at] + unknown, left * scales[at], right * scales[at], means[at]


def _halve(luma: np.ndarray) -> np.ndarray:
    """Return a picture at half the size, as MATLAB's imresize does: bicubic of twice the width, mirrored at borders."""
    x = np.abs(np.arange(-3.5, 4) / 2)
    weights = np.where(x <= 1, 1.5 * x ** 3 - 2.5 * x ** 2 + 1, -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2)
    weights /= weights.sum()
    # The middle of a window of 8 is between its fourth and fifth pixel.
    return cv2.sepFilter2D(luma, -1, weights, weights, anchor=(3, 3), borderType=cv2.BORDER_REFLECT)[::2, ::2]


def _encode(picture: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()
