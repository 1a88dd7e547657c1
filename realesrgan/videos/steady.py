"""Steady a film that was upscaled frame by frame: average results along the motion of the input. Measure its flicker.

A network decides anew in every frame what detail looks like, so detail flickers although the input hardly changes. Each
result is averaged with those of two frames before and two after it, as far as the input shows the same in them. It
depends on these five frames alone, and so is the same however the film is cut.
"""
from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from fractions import Fraction
from itertools import cycle, takewhile
from typing import Any

import cv2
import numpy as np

from ..events import FilmFlicker

#: How many frames on either side a result is averaged with.
RADIUS = 2
_MEASURED = 3  # frames of each second whose flicker is measured
_ROWS = 3  # one row in three is measured
_TIMED = 3  # frames

# Levels are those of 8 bits.
_LEAST_NOISE, _MOST_NOISE = 3.0, 12.0  # by which equal pixels may differ: coding alone causes 3, grain 12
_SOFTNESS = 3.0  # of the limit of equality, in units of the noise's power
_UNMOVED = 3.0  # smaller differences count as unmoved, even if motion fits better
_DRIFT = 16.0  # by which results, shrunk to the input, may differ; ghosts that the input does not show differ by more
_TEAR = 0.7  # pixels by which the motion of neighbours may differ
_ASTRAY = 0.5, 0.05  # the error of motion there and back, in pixels and as a share of the motion
_FOUND = 0.3  # the weight from which a pixel counts as found in another frame
_LEAST_FOUND = 0.5  # the share of a frame that is found, unless there is a cut
_LEAST_SIDE = 16  # of a frame in which OpenCV finds motion
_LARGE_SIDE = 360  # from which frames are analysed at half their size, which is still finer than needed
_TILE = 256  # side of the areas that are averaged at once; their data fits into the cache
_WHOLE = 255  # the sum of all weights of a pixel
_MOST_GAIN = 1.5  # of contrast
_LEAST_GAIN = 1.03  # smaller gains don't show
_UNIT = 128  # of gains as integers
_MOST_CHANGE = 1.5  # power of what stands still, in units of the noise's
_MOST_LIGHT = 0.25, 4.0  # power of light on what stands still, in those units, and in squared levels
_LEAST_STILL = 0.01  # the share of frames that must stand still for a meaningful flicker


@dataclass
class Frame:
    """A frame of a film, and its result.

    Attributes:
        number: In the film.
        source: hxwx3, BGR, uint8; half the size of large frames.
        result: HxWx3, BGR, uint8 or uint16.
        gray: The luma of the source.
        shrunk: The result at the size of the source, uint8.
    """

    number: int
    source: np.ndarray
    result: np.ndarray
    gray: np.ndarray = field(init=False)
    shrunk: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.source = _halve_large(convert_to_8_bits(self.source))
        self.gray = cv2.cvtColor(self.source, cv2.COLOR_BGR2GRAY)
        size = self.source.shape[1::-1]
        self.shrunk = convert_to_8_bits(cv2.resize(self.result, size, interpolation=cv2.INTER_AREA))


@dataclass(frozen=True)
class Difference:
    """How far two pictures differ around each pixel, hxw, float32, in squared levels.

    Attributes:
        power: The mean square of all that differs.
        noise: The same without what is one level for the whole surroundings, as light is.
    """

    power: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class Match:
    """Where the pixels of one frame are in another.

    Attributes:
        flow: hxwx2, float32: how far right and down each is; None: nothing has moved.
        weight: hxw, float32, 0..1: how far each can be relied on.
    """

    flow: np.ndarray | None
    weight: np.ndarray


def convert_to_8_bits(picture: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 or uint16 of full range, as uint8."""
    return picture if picture.dtype == np.uint8 else cv2.convertScaleAbs(picture, alpha=1 / 257)


def _halve_large(picture: np.ndarray) -> np.ndarray:
    is_large = min(picture.shape[:2]) >= _LARGE_SIDE
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) if is_large else picture


def measure_difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """Compare two pictures, hxwx3, uint8."""
    difference = cv2.subtract(a, b, dtype=cv2.CV_16S)
    power = cv2.GaussianBlur(_mean_square(difference), (5, 5), 0)
    return Difference(power, power - _mean_square(cv2.GaussianBlur(difference, (5, 5), 0)))


def find_motion(a: Frame, b: Frame) -> np.ndarray:
    """Return how far each pixel of a frame moves until another one, hxwx2, float32.

    Source: Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, as OpenCV has it.
    """
    if min(a.gray.shape) < _LEAST_SIDE:
        return np.zeros((*a.gray.shape, 2), np.float32)
    return _load_dis().calc(a.gray, b.gray, None)  # type: ignore[call-overload]  # OpenCV says that None is allowed


def match(a: Frame, b: Frame, flow: np.ndarray, back: np.ndarray, unmoved: Difference) -> Match | None:
    """Find the pixels of one frame in another.

    Args:
        a, b: Both frames.
        flow, back: The motion from `a` to `b`, and from `b` to `a`.
        unmoved: The difference of both if nothing moves.

    Returns:
        None if a cut lies between them.
    """
    h, w = a.gray.shape
    there = _make_grid(h, w) + flow
    missed = cv2.magnitude(*cv2.split(flow + _fetch(back, there, cv2.INTER_LINEAR)))
    known = (missed < _ASTRAY[0] + _ASTRAY[1] * cv2.magnitude(*cv2.split(flow))) & (
        cv2.inRange(there, (0, 0), (w - 1, h - 1)) > 0)
    moved = measure_difference(a.source, _fetch(b.source, there, cv2.INTER_CUBIC))
    # Motion that is found is never exactly 0. Where standing still explains the input too, nothing is interpolated.
    stays = unmoved.power <= np.maximum(1.2 * moved.power + 0.5, 2 * _UNMOVED ** 2)
    stays = cv2.medianBlur(stays.astype(np.uint8), 5) > 0
    flow = np.where(stays[..., np.newaxis], np.float32(0), flow)
    noise = float(np.median(np.where(stays, unmoved.noise, moved.noise)[::2, ::2]))
    noise = min(max(noise, 2 * _LEAST_NOISE ** 2), 2 * _MOST_NOISE ** 2)
    excess = np.maximum(np.where(stays, unmoved.power, moved.power) / noise - 1, 0)
    weight = np.exp(-excess / _SOFTNESS) * (known | stays)
    if (weight > _FOUND).mean() < _LEAST_FOUND:
        return None
    drift = cv2.absdiff(a.shrunk, _fetch(b.shrunk, _make_grid(h, w) + flow, cv2.INTER_LINEAR))
    weight *= np.exp(-np.square(_find_largest(drift) / np.float32(_DRIFT)))
    # Between two motions a pixel would be fetched from neither.
    weight *= _find_largest(cv2.morphologyEx(flow, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))) < _TEAR
    weight = cv2.GaussianBlur(cv2.erode(weight, np.ones((3, 3), np.uint8)), (3, 3), 0)
    return Match(flow if flow.any() else None, weight)


def average(frame: Frame, others: Sequence[tuple[Frame, Match]]) -> np.ndarray:
    """Return the result of a frame averaged with those of others, which its pixels were found in.

    Whole pixels of results are fetched, which keeps them sharp. Tiles that stand still are not fetched, and those
    without weight not looked at.
    """
    height, width = frame.result.shape[:2]
    h, w = frame.gray.shape
    total = 1 + sum(found.weight for _, found in others)
    layers = []
    for other, found in others:
        weight = np.rint(found.weight * (_WHOLE / total)).astype(frame.result.dtype)
        flow = None if found.flow is None else cv2.resize(
            found.flow * np.array([width / w, height / h], np.float32), (width, height))
        layers.append((other.result, flow, cv2.resize(weight, (width, height)), found.flow, weight))
    averaged = frame.result.copy()
    for tile, part in _list_tiles(height, width, h, w):
        own = np.full(averaged[tile].shape[:2], _WHOLE, averaged.dtype)
        pixels = np.zeros(averaged[tile].shape, np.float32)
        is_alone = True
        for result, flow, weight, small_flow, small_weight in layers:
            if not small_weight[part].any():
                continue
            piece, is_alone = result[tile], False
            if flow is not None and small_flow is not None and small_flow[part].any():
                corner = np.array((tile[1].start, tile[0].start, 0.0, 0.0))  # OpenCV adds numbers faster than numpy
                there = cv2.add(cv2.add(_make_grid(*own.shape), flow[tile]), corner)
                piece = _fetch(result, there, cv2.INTER_NEAREST)
            cv2.accumulateProduct(piece, cv2.merge([weight[tile]] * 3), pixels)
            own = cv2.subtract(own, weight[tile])
        if not is_alone:
            cv2.accumulateProduct(averaged[tile], cv2.merge([own] * 3), pixels)
            averaged[tile] = _round(pixels, _WHOLE, averaged.dtype)
    return averaged


def regain_contrast(averaged: np.ndarray, frame: Frame) -> np.ndarray:
    """Return an averaged result in which fine detail has as much contrast as in that of the frame alone.

    Detail that a network made of noise differs from frame to frame, so averages lose much of it, and look smeared. What
    is left of it is steady, and is raised here; what was there in all frames has kept its contrast and stays.
    """
    shrunk = cv2.resize(averaged, frame.source.shape[1::-1], interpolation=cv2.INTER_AREA)
    own, left = (cv2.GaussianBlur(_measure_detail(result, small), (9, 9), 0) for result, small in (
        (frame.result, frame.shrunk), (averaged, shrunk)))
    gain = np.clip((own + 1) / (left + 1), 1, _MOST_GAIN)
    if gain.max() < _LEAST_GAIN:
        return averaged
    size = averaged.shape[1::-1]
    gains = cv2.resize(np.rint((gain - 1) * _UNIT).astype(averaged.dtype), size)
    coarse = cv2.resize(shrunk, size)
    for tile, part in _list_tiles(*averaged.shape[:2], *gain.shape):
        if gain[part].max() >= _LEAST_GAIN:
            more = cv2.merge([gains[tile]] * 3)
            raised, lowered = np.zeros(more.shape, np.float32), np.zeros(more.shape, np.float32)
            cv2.accumulateProduct(averaged[tile], cv2.add(more, np.array([_UNIT, _UNIT, _UNIT, 0.0])), raised)
            cv2.accumulateProduct(coarse[tile], more, lowered)
            averaged[tile] = _round(np.maximum(cv2.subtract(raised, lowered), 0), _UNIT, averaged.dtype)
    return averaged


def _measure_detail(result: np.ndarray, shrunk: np.ndarray) -> np.ndarray:
    """Return the mean contrast, hxw, float32, in levels, of the green of a result in each pixel of the input."""
    green, coarse = (convert_to_8_bits(cv2.extractChannel(picture, 1)) for picture in (result, shrunk))
    detail = cv2.absdiff(green, cv2.resize(coarse, green.shape[::-1]))
    return cv2.resize(detail, coarse.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32)


@dataclass(frozen=True)
class Flicker:
    """The change of luma from frame to frame where the input stands still, in levels of 255, as sums.

    Attributes:
        share: The sum of the shares of frames that stand still, by which the others are weighted.
        source: The change in the input.
        result: The change in the network's results.
        steadied: The change in the written frames.
    """

    share: float = 0.0
    source: float = 0.0
    result: float = 0.0
    steadied: float = 0.0

    def __add__(self, other: Flicker) -> Flicker:
        return Flicker(*(ours + theirs for ours, theirs in zip(astuple(self), astuple(other), strict=True)))

    def average(self, *, steadied: bool = True) -> FilmFlicker | None:
        """Return the changes in levels, that of the written frames if `steadied`; None if too little stands still."""
        return None if self.share < _LEAST_STILL else FilmFlicker(
            self.source / self.share, self.result / self.share, self.steadied / self.share if steadied else None)


def is_measured(number: int, rate: Fraction) -> bool:
    """Tell whether the flicker between a frame and the one before it is measured: of a few in each second.

    Args:
        number: Of the frame in the film.
        rate: Frames in a second.
    """
    return number > 0 and (number - 1) % math.ceil(rate) < _MEASURED


def measure_flicker(sources: tuple[np.ndarray, np.ndarray], results: tuple[np.ndarray, np.ndarray],
                    steadied: tuple[np.ndarray, np.ndarray]) -> Flicker:
    """Measure how much two frames, their results and what is written of them differ where the input stands still.

    What stands still differs by noise alone. That is the smaller of two guesses: how much most of both frames differ,
    which motion adds to, and how much each pixel differs from its neighbours, which detail adds to.

    Args:
        sources: Both frames of the input, hxwx3, BGR, uint8 or uint16.
        results, steadied: HxWx3, likewise.
    """
    before, after = (_halve_large(convert_to_8_bits(source)) for source in sources)
    difference = measure_difference(before, after)
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # Immerkaer, "Fast Noise Variance Estimation"
    roughness = cv2.filter2D(cv2.cvtColor(after, cv2.COLOR_BGR2GRAY), cv2.CV_32F, kernel)[::2, ::2]
    noise = float(np.median(np.abs(roughness))) / (6 * 0.6745)  # the norm of the kernel, and the median of a normal
    power = 2 * max(_LEAST_NOISE ** 2, min(2 * noise ** 2, float(np.median(difference.noise[::2, ::2])) / 2))
    light = difference.power - difference.noise
    still = (difference.power <= _MOST_CHANGE * power) & (light <= max(_MOST_LIGHT[0] * power, _MOST_LIGHT[1]))
    still = cv2.erode(still.astype(np.uint8), np.ones((3, 3), np.uint8))
    share = float(still.mean())
    small, large = (cv2.resize(still, pictures[0].shape[1::-1], interpolation=cv2.INTER_NEAREST)[::_ROWS]
                    for pictures in (sources, results))
    source = _measure_change(sources[0][::_ROWS], sources[1][::_ROWS], small)
    result = _measure_change(results[0][::_ROWS], results[1][::_ROWS], large)
    written = result
    if steadied[1] is not results[1]:
        written = _measure_change(steadied[0][::_ROWS], steadied[1][::_ROWS], large)
    return Flicker(share, share * source, share * result, share * written)


def _measure_change(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> float:
    """Return the mean change of luma, in levels of 255, where a mask is not 0."""
    difference = cv2.absdiff(cv2.cvtColor(before, cv2.COLOR_BGR2GRAY), cv2.cvtColor(after, cv2.COLOR_BGR2GRAY))
    return float(cv2.mean(difference, mask)[0]) * 255 / np.iinfo(before.dtype).max


class Steadier:
    """Steadies results as they come.

    Frames may come with gaps, as where an earlier run has upscaled some: a gap ends a film, and another one begins.
    """

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._next = 0  # the number of the frame to steady next
        self._motions: dict[tuple[int, int], np.ndarray] = {}
        self._unmoved: dict[tuple[int, int], Difference] = {}

    def add(self, number: int, source: np.ndarray, result: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Take a frame, and yield the numbers of those that are steadied by it with their results.

        Args:
            number: Of the frame in the film.
            source: hxwx3, BGR, uint8 or uint16.
            result: HxWx3, likewise.
        """
        if not self._frames or number != self._frames[-1].number + 1:
            yield from self.finish()
            self._next = number
        self._frames.append(Frame(number, source, result))
        if number - self._next == RADIUS:
            yield from self._steady_next()

    def finish(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the frames that have waited for others."""
        while self._frames and self._next <= self._frames[-1].number:
            yield from self._steady_next()
        self._frames.clear()
        self._motions.clear()
        self._unmoved.clear()

    def _steady_next(self) -> Iterator[tuple[int, np.ndarray]]:
        index = self._next - self._frames[0].number
        frame = self._frames[index]
        before, after = self._frames[:index][::-1][:RADIUS], self._frames[index + 1:index + 1 + RADIUS]
        others = [(other, found) for side in (before, after)
                  for other, found in takewhile(lambda pair: pair[1], ((other, self._match(frame, other))
                                                                       for other in side))]
        self._next += 1
        yield frame.number, regain_contrast(average(frame, others), frame) if others else frame.result  # type: ignore[arg-type]
        if index == RADIUS:
            gone = self._frames.pop(0).number
            for kept in (self._motions, self._unmoved):
                for pair in [pair for pair in kept if gone in pair]:
                    del kept[pair]

    def _match(self, a: Frame, b: Frame) -> Match | None:
        pair = min(a.number, b.number), max(a.number, b.number)
        if pair not in self._unmoved:
            self._unmoved[pair] = measure_difference(a.source, b.source)
            self._motions[a.number, b.number] = find_motion(a, b)
            self._motions[b.number, a.number] = find_motion(b, a)
        return match(a, b, self._motions[a.number, b.number], self._motions[b.number, a.number], self._unmoved[pair])


def time_steadying(frames: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """Return the seconds that steadying a frame takes on one core, timed on a few that are shown to and fro.

    Args:
        frames: Each with its result; colours alone are looked at.
    """
    steadier, threads = Steadier(), cv2.getNumThreads()
    to_and_fro = cycle([*frames, *frames[-2:0:-1]])
    cv2.setNumThreads(1)
    try:
        for number, pair in zip(range(2 * RADIUS + 1 + _TIMED), to_and_fro, strict=False):
            if number == 2 * RADIUS + 1:  # from here on each is steadied by four others
                start = time.perf_counter()
            list(steadier.add(number, *(np.ascontiguousarray(pixels[..., :3]) for pixels in pair)))
        return (time.perf_counter() - start) / _TIMED
    finally:
        cv2.setNumThreads(threads)


def _round(pixels: np.ndarray, unit: int, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype == np.uint8:
        return cv2.convertScaleAbs(pixels, alpha=1 / unit)
    return np.rint(pixels / unit).clip(0, np.iinfo(dtype).max).astype(dtype)


@functools.lru_cache(4)
def _list_tiles(height: int, width: int, h: int, w: int) -> Sequence[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Return the tiles of a picture, each with the place in a smaller one from which it is enlarged."""
    def cut(length: int, small: int) -> list[tuple[slice, slice]]:
        ends = [(start, min(start + _TILE, length)) for start in range(0, length, _TILE)]
        return [(slice(start, end), slice(max(start * small // length - 1, 0), -(-end * small // length) + 1))
                for start, end in ends]
    return [((rows, columns), (r, c)) for rows, r in cut(height, h) for columns, c in cut(width, w)]


def _mean_square(colours: np.ndarray) -> np.ndarray:
    return cv2.transform(cv2.multiply(colours, colours, dtype=cv2.CV_32F), np.full((1, 3), 1 / 3, np.float32))


def _find_largest(channels: np.ndarray) -> np.ndarray:
    return functools.reduce(cv2.max, cv2.split(channels))  # far faster than numpy's max along the last axis


def _fetch(picture: np.ndarray, there: np.ndarray, interpolation: int) -> np.ndarray:
    return cv2.remap(  # type: ignore[call-overload]  # likewise
        picture, there, None, interpolation, borderMode=cv2.BORDER_REPLICATE)


@functools.lru_cache(8)
def _make_grid(height: int, width: int) -> np.ndarray:
    """Return the coordinates of each pixel, to the right and down, height x width x 2, float32."""
    return np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))


@functools.cache
def _load_dis() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
