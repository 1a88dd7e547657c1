"""Compare models before a run: upscale a small part of a picture by each, and show the results on one sheet."""
from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np

from ..engines.choice import pick_device
from ..enhancers import BuildEnhancer, build_enhancer, prepare
from ..errors import EngineError, RunError, WeightsError, explain, flatten_message
from ..events import FilmFlicker, Outlined, Tried
from ..files import format_size, whole_file
from ..options import RunOptions, drop_faces_of_anime
from ..pool.pool import Place
from .comparisons import convert_to_bgr8, encode_sheet, enlarge

logger = logging.getLogger(__name__)

_SIDE, _SIDE_ON_GPU = 160, 512  # of the part, in pixels of the input: a second or two of the slowest model
_QUICK_SECONDS = 3.0  # results that come sooner are made twice, because the first one takes longer
_MOST_SEARCHED = 1024  # pixels along the longer side of the copy in which the busiest part is looked for
_LEAST_PANEL = 640  # pixels; small results are shown enlarged
_CAPTION, _GAP = 58, 8  # pixels
_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2}  # by the number of panels; 3 for more

#: Takes parts of frames and their results, and returns the result that is shown, and how much they flicker.
JudgeFrames = Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], tuple[np.ndarray, FilmFlicker | None]]


@dataclass(frozen=True)
class Amount:
    """The work of a whole run.

    Attributes:
        megapixels: Of all pictures, or of a frame.
        frames: How many there are of a video, 0 if that is unknown; None for pictures.
        size: Estimated bytes of the results.
        workers: How many results are made at a time.
    """

    megapixels: float
    frames: int | None = None
    size: int = 0
    workers: int = 1

    def find_seconds(self, speed: float) -> float | None:
        """Return what the run takes of a model that takes `speed` seconds for a megapixel; None if that is unknown."""
        return speed * self.megapixels * (1 if self.frames is None else self.frames) / self.workers or None

    def describe(self, seconds: float) -> tuple[str, str]:
        """Return the speed, and what the run takes and weighs, of a model that takes `seconds` for a megapixel."""
        whole = self.find_seconds(seconds)
        speed = f'{seconds:.3g} s/megapixel' if self.frames is None else f'{seconds * self.megapixels:.3g} s/frame'
        if whole is None:
            return speed, 'of unknown length'
        size = format_size(self.size) if self.size >> 20 else 'less than 1 MiB'
        return speed, f'about {timedelta(seconds=max(round(whole), 1))}, {size}'


@dataclass(frozen=True)
class Sheet:
    """What `compare_models` found.

    Attributes:
        pixels: The sheet, HxWx3, BGR, uint8.
        lines: A line for each model: its speed, what the whole run takes and weighs, or why it failed.
        part: The part of the input, enlarged by bicubic to the size of the first result, HxWx3, BGR, uint8.
        tried: The models.
    """

    pixels: np.ndarray
    lines: tuple[str, ...]
    part: np.ndarray
    tried: tuple[Tried, ...]

    def write(self, path: Path, source: str, headline: str) -> Outlined:
        """Write the sheet to a file, and return the event that reports it."""
        with whole_file(path) as temporary:
            temporary.write_bytes(encode_sheet(self.pixels, path.suffix))
        return Outlined(source, (headline, *self.lines), path, encode_sheet(self.part, '.jpg'), self.tried)


def compare_models(picture: np.ndarray, options: RunOptions, amount: Amount, *, before: Iterable[np.ndarray] = (),
                   after: Iterable[np.ndarray] = (), judge: JudgeFrames | None = None,
                   build: BuildEnhancer = build_enhancer, check: Callable[[], None] = lambda: None) -> Sheet:
    """Upscale a part of a picture by each model of `options.models` and show the results beside bicubic.

    A model that fails, for want of weights perhaps, does not hold up the others.

    Args:
        picture: HxW, HxWx3 or HxWx4, BGR; uint8 or uint16.
        options: How; `models`, or else `model_name`, says by which models, and `preview_at` which part: None for the
            busiest.
        amount: The work of the run that the preview is for.
        before, after: The frames of a video before and after it, of the same kind.
        judge: Called with the same part of all of them, and what a model makes of it; None: the result is shown as is.
        build: Makes enhancers.
        check: Called before each result; what it raises ends the comparison.

    Raises:
        RunError: no model could be tried, such as without the GPU that was asked for.
        Exception: all of them failed; the first one's error.
    """
    place = Place(options.gpu_id[0] if options.gpu_id else None)
    side = _SIDE if pick_device(gpu_id=place.gpu_id, engine=options.engine).type == 'cpu' else _SIDE_ON_GPU
    point, (height, width) = options.preview_at, picture.shape[:2]
    if point is not None and (point[0] >= width or point[1] >= height):
        logger.warning('has %dx%d pixels, so the preview shows the part nearest to %d,%d', width, height, *point)
    area = find_busiest(picture, side) if point is None else _find_around(picture, side, point)
    part = picture[area].copy()  # and no more of any frame is kept
    parts = [*(frame[area].copy() for frame in before), part, *(frame[area].copy() for frame in after)]
    final = options.find_size(width, height)
    if final is not None:
        options = options.replace(width=None, height=None, fit=None, outscale=final.width / width)
    trials, errors = list[tuple[np.ndarray | None, Tried]](), []
    for model in options.models or (options.model_name,):
        check()
        try:
            trials.append(_try(parts, drop_faces_of_anime(options.replace(model_name=model, models=())), amount, place,
                               build, judge, check))
        except Exception as error:
            if isinstance(error, RunError) and not isinstance(error, (WeightsError, EngineError)):
                raise  # no other model would fare better
            errors.append(error)
            trials.append((None, Tried(model, b'', 0.0, None, amount.size, error=explain(error))))
    if len(errors) == len(trials):
        raise errors[0]
    lines = tuple(f'{tried.model}: ' + (flatten_message(tried.error) if tried.error else ', '.join(
        amount.describe(tried.speed))) + (f'; {tried.flicker}' if tried.flicker else '') for _, tried in trials)
    enlarged = enlarge(convert_to_bgr8(part), next(pixels for pixels, _ in trials if pixels is not None))
    return Sheet(_draw(enlarged, trials, amount), lines, enlarged, tuple(tried for _, tried in trials))


def find_busiest(picture: np.ndarray, side: int) -> tuple[slice, slice]:
    """Return rows and columns of the square of a picture that has most detail; `side` pixels, or as many as it has."""
    shrink = min(_MOST_SEARCHED / max(picture.shape[:2]), 1)
    small = convert_to_bgr8(picture)
    if shrink < 1:
        small = cv2.resize(small, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    detail = np.minimum(np.abs(cv2.Laplacian(gray, cv2.CV_32F)), 64)  # or a single hard edge would win
    height, width = (min(max(round(side * shrink), 1), length) for length in gray.shape)
    mean = cv2.boxFilter(detail, cv2.CV_32F, (width, height), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = mean[:gray.shape[0] - height + 1, :gray.shape[1] - width + 1]
    found = np.unravel_index(int(inside.argmax()), inside.shape)
    starts = [min(round(int(at) / shrink), max(length - side, 0))
              for at, length in zip(found, picture.shape[:2], strict=True)]
    return slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)


def _find_around(picture: np.ndarray, side: int, point: tuple[int, int]) -> tuple[slice, slice]:
    """Return rows and columns of the square around a point (x, y), as far as the picture's borders allow."""
    rows, columns = (slice(start, start + side) for start in (
        min(max(middle - side // 2, 0), max(length - side, 0))
        for middle, length in zip(reversed(point), picture.shape[:2], strict=False)))
    return rows, columns


def _try(parts: Sequence[np.ndarray], options: RunOptions, amount: Amount, place: Place, build: BuildEnhancer,
         judge: JudgeFrames | None, check: Callable[[], None]) -> tuple[np.ndarray, Tried]:
    """Return what a model makes of the part, HxWx3, BGR, uint8, and what is found out about it."""
    prepare(options)
    enhancer = build(options, place)
    results, best = list[np.ndarray](), float('inf')
    for part in parts if len(parts) > 1 else [*parts, *parts]:
        if results:
            check()
            if len(parts) == 1 and best > _QUICK_SECONDS:
                break
        start = time.perf_counter()
        results.append(enhancer.enhance(part, options.outscale or options.default_outscale, options.alpha_upsampler,
                                        strength=options.strength)[0])
        best = min(best, time.perf_counter() - start)
    pixels, flicker = judge(parts, results[:len(parts)]) if judge else (results[0], None)
    height, width = parts[0].shape[:2]
    pixels, speed = convert_to_bgr8(pixels), best / (height * width / 1e6)
    return pixels, Tried(options.label, encode_sheet(pixels, '.jpg'), speed, amount.find_seconds(speed), amount.size,
                         flicker)


def _draw(enlarged: np.ndarray, trials: Sequence[tuple[np.ndarray | None, Tried]], amount: Amount) -> np.ndarray:
    """Return the input enlarged by bicubic and the results, each over its caption, in rows of panels of one size."""
    height, width = enlarged.shape[:2]
    factor = max(-(-_LEAST_PANEL // width), 1)
    flicker = next((f'; flicker {tried.flicker.source:.2f} levels' for _, tried in trials if tried.flicker), '')
    panels = [_caption(enlarged, factor, 'bicubic', f'the input, enlarged{flicker}')]
    for pixels, tried in trials:
        shown = pixels if pixels is not None else np.full((height, width, 3), 235, np.uint8)
        if shown.shape != enlarged.shape:  # a network of another scale, without -s
            shown = cv2.resize(shown, (width, height), interpolation=cv2.INTER_AREA)
        speed, whole = ('failed', flatten_message(tried.error)) if tried.error else amount.describe(tried.speed)
        flicker = f'; {tried.flicker.summary}' if tried.flicker else ''
        whole = whole if tried.error else f'whole job: {whole}{flicker}'
        panels.append(_caption(shown, factor, f'{tried.model}: {speed}', whole))
    columns = _COLUMNS.get(len(panels), 3)
    rows, (panel_height, panel_width) = -(-len(panels) // columns), panels[0].shape[:2]
    sheet = np.full((rows * (panel_height + _GAP) - _GAP, columns * (panel_width + _GAP) - _GAP, 3), 255, np.uint8)
    for index, panel in enumerate(panels):
        top, left = index // columns * (panel_height + _GAP), index % columns * (panel_width + _GAP)
        sheet[top:top + panel_height, left:left + panel_width] = panel
    return sheet


def _caption(panel: np.ndarray, factor: int, *lines: str) -> np.ndarray:
    """Return a panel enlarged by a whole factor, over two lines of text that are cut where they don't fit."""
    panel = np.repeat(np.repeat(panel, factor, 0), factor, 1)
    caption = np.full((_CAPTION, panel.shape[1], 3), 255, np.uint8)
    for index, line in enumerate(lines):
        text = line.encode('ascii', 'replace').decode()
        for size in (0.6, 0.5, 0.42):
            if cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0] < caption.shape[1] - 8:
                break
        cv2.putText(caption, text, (4, 22 + 26 * index), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate((panel, caption))
