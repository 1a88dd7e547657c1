"""Upscale one source to a video: chunks to workers, their parts into a folder, the parts to the result."""
from __future__ import annotations

import functools
import logging
import operator
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import MediaError, PartsError, VideoError, flatten_message
from ..events import Examined, Progress, Run
from ..measures import Effort
from ..pictures.names import name_comparison
from ..workers.options import FaceOptions
from ..workers.pool import Pool
from .checkpoint import Parts, describe_run, open_parts
from .chunks import Chunk, ChunkProgress, FrameExamined, Upscaled
from .comparing import write_comparison
from .disk import DiskWatch, estimate_result_size, format_size, measure_free_disk
from .joining import join_parts
from .options import VideoOptions
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


def upscale_source(source: Source, target: Path, options: VideoOptions, faces: FaceOptions | None, weights: str,
                   pool: Pool, run: Run) -> Made:
    """Upscale a source to `target`, which is written whole or not at all.

    A damaged source gives what could be decoded of it, and a problem. When the run can't go on, parts that are whole
    stay, and the same call goes on from them.

    Args:
        source: What to upscale.
        target: The result.
        options: The caller's.
        faces: How faces are restored, or None.
        weights: Fingerprint of the weights.
        pool: The workers, `ChunkWorker` each.
        run: Hears of progress, and ends the run.

    Raises:
        VideoError, MediaError, WorkerError, PartsError, DiskFullError: see the message.
        OSError: the result can't be written.
        Cancelled: the caller wanted that.
    """
    identity = source.identify()
    manifest = describe_run(source.ffmpeg.version, identity, weights, options, faces)
    with open_parts(target, source.encoding.container, manifest, restart=options.restart,
                    keep=options.keep_parts) as parts:
        _warn_of_little_room(source, parts.folder)
        with ExitStack() as stack:
            chunks = source.make_chunks(parts, stack)
            found = _find_parts(chunks, parts, run)
            if options.check:
                chunks = _choose_samples(chunks, source.total)
            done, reused = _upscale_chunks(source, chunks, found, parts, pool, run)
            made = [upscaled for upscaled in done if upscaled.index not in found]
            if not _is_same(source.identify(), identity):
                _discard(made, parts)
                raise VideoError(f'{source.name}: changed while it was upscaled; give the command again')
            comparison = _compare(chunks, done, target, options, run) if options.compare else None
        _require_intact(made, parts, run)
        problems = source.find_damage(chunks, done)
        problems += join_parts(parts, done, source.encoding.rate, target, source.make_join(parts))
    logger.debug('%d frames computed', sum(upscaled.computed for upscaled in done))
    efforts = [upscaled.effort for upscaled in done if upscaled.effort]
    return Made(sum(upscaled.frames for upscaled in done), reused, tuple(problems),
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
        write_comparison(chunks, done, comparison, options.upsampler.label, run.check)
    except (MediaError, VideoError) as error:
        logger.warning('%s', flatten_message(error))
        return None
    return comparison


def _find_parts(chunks: Sequence[Chunk], parts: Parts, run: Run) -> dict[int, Upscaled]:
    """Return what became of the chunks that an earlier run has finished, by number; damaged parts don't count."""
    found = {}
    for chunk in chunks:
        note = parts.note(chunk.index)
        if note is None or not note['frames']:  # of a video that could not be read then, perhaps
            continue
        run.check()
        if parts.is_intact(chunk.index):
            found[chunk.index] = Upscaled.from_note(chunk.index, note)
        else:
            logger.warning('%s: damaged since it was written; it is made again', parts.path(chunk.index))
    return found


def _is_same(identity: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Tell whether a source still holds what it did; that it was touched says nothing."""
    return all(identity.get(name) == before.get(name) for name in ('source', 'bytes', 'content'))


def _discard(made: Sequence[Upscaled], parts: Parts) -> None:
    """Remove parts that may show another video than the manifest names."""
    for upscaled in made:
        parts.path(upscaled.index).unlink()


def _require_intact(done: Sequence[Upscaled], parts: Parts, run: Run) -> None:
    """Check that the parts of this run are still as they were written.

    Raises:
        PartsError: one is not; the same command makes it again.
    """
    for upscaled in done:
        run.check()
        if not parts.is_intact(upscaled.index):
            raise PartsError(f'{parts.path(upscaled.index)}: damaged since it was written, so the disk may be failing; '
                             'the same command makes it again')


def _upscale_chunks(source: Source, chunks: Sequence[Chunk], found: Mapping[int, Upscaled], parts: Parts, pool: Pool,
                    run: Run) -> tuple[list[Upscaled], int]:
    """Upscale the chunks that have no part yet; return what became of all, and how many frames were there already."""
    done = dict(found)
    frames = {index: upscaled.frames for index, upscaled in done.items()}
    reused = sum(frames.values())
    if done:
        logger.info('reusing %d of %d parts of an earlier run', len(done), len(chunks))
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
    return [done[chunk.index] for chunk in chunks], reused


def _warn_of_little_room(source: Source, folder: Path) -> None:
    """Warn if the disk seems too small for the parts, the result made of them, and extracted frames."""
    if source.total is None:
        return
    needed = 2 * estimate_result_size(source.encoding, source.total) + source.extracted_bytes
    free = measure_free_disk(folder)
    if needed > free:
        logger.warning('about %s of disk will be needed, %s are free', format_size(needed), format_size(free))
