"""Upscale one source to a video: chunks to workers, their parts into a folder, the parts to the result."""
from __future__ import annotations

import functools
import logging
import operator
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import MediaError, PartsError, VideoError, flatten_message
from ..events import Examined, Progress, Run
from ..measures import Effort
from ..options import VideoOptions
from ..pictures.names import name_comparison
from ..workers.pool import Pool
from .checkpoint import describe_run, open_parts
from .chunks import Chunk, ChunkProgress, FrameExamined, Upscaled
from .comparing import write_comparison
from .disk import DiskWatch, estimate_result_size, format_size, measure_free_disk
from .joining import join_parts
from .parts import Part, Parts, count
from .source import Source

logger = logging.getLogger(__name__)


#: How many frames of a video are compared with their sources, and which ones where their number is unknown.
_SAMPLES = 12
_OF_UNKNOWN = (0, 24, 240, 2400)


@dataclass(frozen=True)
class Made:
    """What became of a source.

    Attributes:
        frames: How many were written.
        reused: How many of them an earlier run had upscaled.
        problems: What the result lacks, a line each.
        effort: What this run took; None if all was there.
        comparison: The clip that shows both, if there is one.
    """

    frames: int
    reused: int
    problems: tuple[str, ...]
    effort: Effort | None
    comparison: Path | None


def upscale_source(source: Source, target: Path, options: VideoOptions, weights: str, pool: Pool, run: Run) -> Made:
    """Upscale a source to `target`, which is written whole or not at all.

    A damaged source gives what could be decoded of it, and a problem. When the run can't go on, parts that are whole
    stay, the same call goes on from them, and a warning says so.

    Args:
        source: What to upscale.
        target: The result.
        options: The caller's.
        weights: Fingerprint of the weights.
        pool: The workers, `ChunkWorker` each.
        run: Hears of progress, and ends the run.

    Raises:
        VideoError, MediaError, WorkerError, PartsError, DiskFullError: see the message.
        OSError: the result can't be written.
        Cancelled: the caller wanted that.
    """
    identity = source.identify()
    manifest = describe_run(source.ffmpeg.version, identity, weights, options)
    with open_parts(target, source.encoding.container, manifest, restart=options.restart,
                    keep=options.keep_parts) as parts:
        _warn_of_little_room(source, parts.folder)
        frames: dict[int, int] = {}
        with _telling_what_is_kept(parts, frames, options), ExitStack() as stack:
            chunks = source.make_chunks(parts, stack)
            found = _find_parts(chunks, parts, run)
            if options.check:
                chunks = _choose_samples(chunks, source.total)
            done = _upscale_chunks(source, chunks, found, frames, parts, pool, run)
            made = [part for upscaled in done for part in upscaled.parts if part not in found[upscaled.index]]
            if not _is_same(source.identify(), identity):
                _discard(made, parts)
                raise VideoError(f'{source.name}: changed while it was upscaled; give the command again')
            comparison = _compare(chunks, done, target, options, run) if options.compare else None
            _require_intact(made, parts, run)
            problems = source.find_damage(chunks, done)
            problems += join_parts(parts, done, source.encoding.rate, target, source.make_join(parts))
    total = sum(upscaled.frames for upscaled in done)
    reused = total - sum(part.frames for part in made) + sum(upscaled.reused for upscaled in done)
    logger.debug('%d frames computed', sum(upscaled.computed for upscaled in done))
    efforts = [upscaled.effort for upscaled in done if upscaled.effort]
    return Made(total, reused, tuple(problems),
                functools.reduce(operator.add, efforts) if efforts else None, comparison)


def _choose_samples(chunks: Sequence[Chunk], total: int | None) -> list[Chunk]:
    """Return the chunks with the frames that are compared with their sources, spread evenly over the video."""
    samples = [round((number + 0.5) * total / _SAMPLES - 0.5) for number in range(_SAMPLES)] if total else _OF_UNKNOWN
    stops = [chunk.first for chunk in chunks[1:]] + [sys.maxsize]
    return [replace(chunk, samples=frozenset(sample - chunk.first for sample in samples
                                             if chunk.first <= sample < stop))
            for chunk, stop in zip(chunks, stops, strict=True)]


def _compare(chunks: Sequence[Chunk], done: Sequence[Upscaled], target: Path, options: VideoOptions,
             run: Run) -> Path | None:
    """Write a comparison, or warn of why there is none."""
    comparison = name_comparison(target, 'mp4')
    try:
        write_comparison(chunks, done, comparison, options.label, run.check)
    except (MediaError, VideoError) as error:
        logger.warning('%s', flatten_message(error))
        return None
    return comparison


@contextmanager
def _telling_what_is_kept(parts: Parts, frames: Mapping[int, int], options: VideoOptions) -> Iterator[None]:
    """Warn, if the block ends early, of how many frames are lost and what is kept.

    Args:
        parts: Those of the result.
        frames: How many frames of each chunk are upscaled.
        options: The caller's.
    """
    try:
        yield
    except BaseException:
        kept = parts.describe()
        lost = sum(frames.values()) - sum(part.frames for part in parts.find()) - len(parts.list_frames())
        if kept:
            command = 'the same command without --restart' if options.restart else 'the same command'
            logger.warning('%s lost, %s kept; %s goes on from there', count(max(lost, 0), 'frame'), kept, command)
        elif lost > 0:
            logger.warning('%s lost, no part was finished', count(lost, 'frame'))
        raise


def _find_parts(chunks: Sequence[Chunk], parts: Parts, run: Run) -> dict[int, list[Part]]:
    """Return the parts of each chunk, by its number, that an earlier run has finished; damaged ones don't count."""
    found: dict[int, list[Part]] = {chunk.index: [] for chunk in chunks}
    firsts = [chunk.first for chunk in chunks]
    frames = parts.list_frames()
    for part in parts.find():
        run.check()
        if parts.is_intact(part.first):
            found[chunks[bisect_right(firsts, part.first) - 1].index].append(part)
            if any(part.first <= frame < part.stop for frame in frames):  # a kill came before they were removed
                parts.drop_frames(part.first, part.stop)
        else:
            logger.warning('%s: damaged since it was written; it is made again', parts.path(part.first))
            parts.path(part.first).unlink()
    return found


def _is_same(identity: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Tell whether a source still holds what it did; that it was touched says nothing."""
    return all(identity.get(name) == before.get(name) for name in ('source', 'bytes', 'content'))


def _discard(made: Sequence[Part], parts: Parts) -> None:
    """Remove parts that may show another video than the manifest names."""
    for part in made:
        parts.path(part.first).unlink()


def _require_intact(made: Sequence[Part], parts: Parts, run: Run) -> None:
    """Check that the parts of this run are still as they were written.

    Raises:
        PartsError: one is not; the same command makes it again.
    """
    for part in made:
        run.check()
        if not parts.is_intact(part.first):
            raise PartsError(f'{parts.path(part.first)}: damaged since it was written, so the disk may be failing; '
                             'the same command makes it again')


def _upscale_chunks(source: Source, chunks: Sequence[Chunk], found: Mapping[int, Sequence[Part]],
                    frames: dict[int, int], parts: Parts, pool: Pool, run: Run) -> list[Upscaled]:
    """Upscale the chunks that have not all of their parts yet; return what became of all.

    `frames` counts the frames of each that are upscaled.
    """
    frames |= {index: sum(part.frames for part in there) for index, there in found.items()}
    reused = sum(frames.values())
    if there := parts.describe():
        logger.info('reusing %s of an earlier run', there)
    done = {chunk.index: Upscaled(chunk.index, tuple(found[chunk.index]), found[chunk.index][-1].damage)
            for chunk in chunks if chunk.is_done(found[chunk.index])}
    todo = [chunk for chunk in chunks if chunk.index not in done]
    disk = DiskWatch(parts.folder)

    def hear(note: Any) -> None:
        if isinstance(note, ChunkProgress):
            frames[note.index] = note.frames
            run.tell(Progress(source.name, sum(frames.values()), source.total, reused))
            disk.look()
        elif isinstance(note, FrameExamined):
            for finding in note.quality.findings:
                logger.warning('frame %d: %s', note.frame + 1, finding)
            run.tell(Examined(source.name, note.quality, note.preview, note.frame))

    run.tell(Progress(source.name, reused, source.total, reused))
    if todo:
        disk.look()
        for upscaled in pool.map_unordered(todo, hear):
            done[upscaled.index] = upscaled
            hear(ChunkProgress(upscaled.index, upscaled.frames))
    return [done[chunk.index] for chunk in chunks]


def _warn_of_little_room(source: Source, folder: Path) -> None:
    """Warn if the disk seems too small for the parts, the result made of them, and extracted frames."""
    if source.total is None:
        return
    needed = 2 * estimate_result_size(source.encoding, source.total) + source.extracted_bytes
    free = measure_free_disk(folder)
    if needed > free:
        logger.warning('about %s of disk will be needed, %s are free', format_size(needed), format_size(free))
