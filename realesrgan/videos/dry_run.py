"""Say what a run on a video would do and need, after timing a few frames."""
from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import psutil

from ..ffmpeg.encoder import Encoding
from ..workers.worker import Enhancer
from .checkpoint import Parts, parts_folder
from .disk import estimated_bytes, free_bytes, mebibytes

_TIMED_FRAMES = 3


@dataclass(frozen=True)
class Outline:
    """A run, in numbers.

    Attributes:
        total: Frames, or None if that is unknown.
        size: Width and height of the input.
        outscale: Final size as a multiple of the input's.
        encoding: How the result is encoded.
        chunks: Their number.
        sample: Opens a reader of the first frames; None where they could not be read again.
        for_files: Bytes of the frames that are written to files first.
    """

    total: int | None
    size: tuple[int, int]
    outscale: float
    encoding: Encoding
    chunks: int
    sample: Callable[[], Iterable[np.ndarray]] | None
    for_files: int = 0


def describe(outline: Outline, target: Path, workers: Sequence[object], enhancer: Enhancer, *,
             parallel: int) -> list[str]:
    """Time a few frames and return the plan, a line for each of its points.

    Args:
        outline: The run.
        target: The result.
        workers: Where each of them computes.
        enhancer: The upsampler of one worker.
        parallel: By how much all are faster than one.
    """
    seconds = _seconds_per_frame(outline, enhancer)
    encoding, width, height = outline.encoding, *outline.size
    frames = 'unknown number' if outline.total is None else f'{outline.total}'
    lines = [f'result   {target}', f'frames   {frames}, {width}x{height} to {encoding.width}x{encoding.height}, '
             f'{encoding.rate} frames/s, {encoding.codec} {encoding.pixel_format}']
    there = len(Parts(parts_folder(target), encoding.container).whole())
    lines.append(f'chunks   {outline.chunks}' + (f', {there} of them there from an earlier run' if there else ''))
    counts = {str(place): list(map(str, workers)).count(str(place)) for place in workers}
    lines.append('workers  ' + ', '.join(f'{count} on {place}' for place, count in counts.items()))
    lines.append(f'speed    {parallel / seconds:.3g} frames/s, timed on {_TIMED_FRAMES} frames')
    if outline.total is not None:
        share = 1 - min(there / outline.chunks, 1)
        lines.append(f'time     about {timedelta(seconds=round(outline.total * share * seconds / parallel))}')
        size = estimated_bytes(encoding, outline.total)
        files = f', {mebibytes(outline.for_files)} of extracted frames' if outline.for_files else ''
        lines.append(f'disk     about {mebibytes(size)}, twice that before the parts are removed{files}; '
                     f'{mebibytes(free_bytes(target.parent))} are free')
    lines.append(f'memory   {mebibytes(psutil.Process().memory_info().rss)} for each worker, beside that of a GPU')
    return lines


def _seconds_per_frame(outline: Outline, enhancer: Enhancer) -> float:
    width, height = outline.size
    blank = np.zeros((height, width, 3), np.uint16 if outline.encoding.dtype_is_deep else np.uint8)
    frames = list(itertools.islice(outline.sample(), _TIMED_FRAMES)) if outline.sample else []
    frames = frames or [blank] * _TIMED_FRAMES
    enhancer.enhance(frames[0], outscale=outline.outscale)  # what is compiled or allocated at the first frame
    start = time.perf_counter()
    for frame in frames:
        enhancer.enhance(frame, outscale=outline.outscale)
    return (time.perf_counter() - start) / len(frames)
