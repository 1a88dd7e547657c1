"""Outline a run on a video, with time and room on the disk, by timing a few frames."""
from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from ..engines.cpu import count_cores
from ..files import format_size, measure_free_disk
from ..pool.pool import Place
from .parts import Part, count, estimate_result_size
from .source import CHUNK_SECONDS, Source
from .steady import time_steadying
from .worker import PART_SECONDS

if TYPE_CHECKING:
    from ..enhancers import Enhancer

_TIMED_FRAMES = 3


def outline_run(source: Source, target: Path, outscale: float | None, places: Sequence[Place], enhancer: Enhancer,
                there: Sequence[Part], *, steady: bool = False) -> list[str]:
    """Time a few frames and return what a run would do, a line for each point.

    Args:
        source: The source to upscale.
        target: The result.
        outscale: Final size as a multiple of the input's; None is that of the source's encoding.
        places: Where each worker would compute.
        enhancer: Upscales as one worker would.
        there: The parts of an earlier run.
        steady: Whether results are steadied.
    """
    # Workers that share a CPU get their share of its cores; on it `enhancer` is timed with its own share.
    parallel = len(places) if enhancer.device_type == 'cpu' else len(set(places))
    seconds, steadying = _time_frames(source, outscale, enhancer, steady=steady)
    if enhancer.device_type == 'cpu':  # it goes on beside the network, and takes one of its cores
        seconds += steadying / max(count_cores() // places[0].workers, 1)
    seconds = max(seconds, steadying)
    encoding, (width, height) = source.encoding, source.size
    frames = 'unknown number' if source.total is None else f'{source.total}'
    lines = [f'result   {target}',
             f'frames   {frames}, {width}x{height} to {encoding.width}x{encoding.height}, '
             f'{encoding.rate} frames/s, ' + (target.suffix[1:] if source.makes_animation else
                                            f'{encoding.codec} {encoding.pixel_format}')]
    reused = sum(part.frames for part in there)
    lines.append(f'chunks   {len(source.cut())}' + (
        f'; {count(len(there), "part")} with {count(reused, "frame")} there from an earlier run' if there else ''))
    if source.step:
        second = source.step * seconds  # of work in a second of the video
        length = min(max(int(PART_SECONDS / second), 1), CHUNK_SECONDS)
        lines.append(f'parts    of {length} s, about {timedelta(seconds=round(length * second))} of work each')
    counts = {place: places.count(place) for place in places}
    lines.append('workers  ' + ', '.join(f'{count} on {place}' for place, count in counts.items()))
    lines.append(f'speed    {parallel / seconds:.3g} frames/s, timed on {_TIMED_FRAMES} frames')
    if source.total is not None:
        left = max(source.total - reused, 0)
        lines.append(f'time     about {timedelta(seconds=round(left * seconds / parallel))}')
        size = format_size(estimate_result_size(encoding, source.total))
        extracted = f', {format_size(source.extracted_bytes)} of extracted frames' if source.extracted_bytes else ''
        lines.append(f'disk     about {size}, twice that before the parts are removed{extracted}; '
                     f'{format_size(measure_free_disk(target.parent))} are free')
        if source.step * seconds > PART_SECONDS:
            kept = source.step * encoding.width * encoding.height * 3 * (1 + encoding.dtype_is_deep) * len(places)
            lines[-1] += f'; up to {format_size(kept)} more for frames of unfinished parts'
    lines.append(f'memory   {format_size(psutil.Process().memory_info().rss)} per worker, not counting that of a GPU')
    return lines


def _time_frames(source: Source, outscale: float | None, enhancer: Enhancer, *, steady: bool) -> tuple[float, float]:
    """Return the seconds that the network takes for a frame, and steadying on one core."""
    width, height = source.size
    blank = np.zeros((height, width, 3), np.uint16 if source.encoding.dtype_is_deep else np.uint8)
    frames = list(itertools.islice(source.sample(), _TIMED_FRAMES)) or [blank] * _TIMED_FRAMES
    size = (source.encoding.width, source.encoding.height) if outscale is None else None
    enhancer.enhance(frames[0], outscale=outscale, size=size)  # compiles and allocates what later frames reuse
    start = time.perf_counter()
    results = [enhancer.enhance(frame, outscale=outscale, size=size)[0] for frame in frames]
    seconds = (time.perf_counter() - start) / len(frames)
    return seconds, time_steadying([*zip(frames, results, strict=True)]) if steady else 0.0
