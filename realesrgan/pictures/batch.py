"""Upscale picture files one after the other while the next is read and the last is written."""
from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2

from ..atomic_files import whole_file
from ..errors import ImageError, RealESRGANError
from ..log import about
from ..workers.worker import enhancer
from .names import Job
from .picture import Picture
from .reading import decode
from .writing import encode, write

logger = logging.getLogger(__name__)

#: Results larger than this are written before the next picture is upscaled, so that two never wait in memory.
_LARGE_BYTES = 1 << 28
_WAITING = 2
_PICTURES_OF_A_TASK = 4

# What a picture may fail with; anything else is a bug and ends the run.
_FAILURES = (RealESRGANError, OSError, MemoryError, ValueError, OverflowError, cv2.error)


Result = TypeVar('Result')


@dataclass(frozen=True)
class Outcome:
    """What came of a picture.

    Attributes:
        job: What was to be done.
        target: Where the result is; None if the picture failed.
        error: Why it failed, else None.
        megapixels: Of the input.
    """

    job: Job
    target: Path | None = None
    error: BaseException | None = None
    megapixels: float = 0.0


def upscale_files(jobs: Sequence[Job], sources: Collection[str], upscale: Callable[[Picture], Picture],
                  quality: int) -> Iterator[Outcome]:
    """Upscale pictures and yield what came of each, in order. One that fails does not hold up the others.

    Reading, the network (in this thread) and writing overlap; a few pictures at most wait between them.

    Args:
        jobs: What to read and where to write.
        sources: Real paths of all inputs, which are never written to.
        upscale: Turns a picture into a larger one.
        quality: Of jpg and webp, 1 to 100.
    """
    reader, writer = ThreadPoolExecutor(1, 'read'), ThreadPoolExecutor(1, 'write')
    reads: deque[Future[Picture]] = deque()
    writes: deque[Future[Outcome]] = deque()
    waiting = iter(jobs)
    planned = _Targets(sources)
    try:
        for job in jobs:
            while len(reads) < _WAITING and (following := next(waiting, None)) is not None:
                reads.append(reader.submit(_read, following))
            picture = reads.popleft()
            with about(job.source):
                try:
                    source = picture.result()
                    target = planned.choose(job, source)
                    result = upscale(source)
                except _FAILURES as error:
                    outcome = _done(Outcome(job, error=error))
                else:
                    outcome = writer.submit(_write, job, source, result, target, quality)
                    if result.pixels.nbytes > _LARGE_BYTES:
                        outcome.exception()
                    del source, result
            writes.append(outcome)
            del picture
            while len(writes) > _WAITING or (writes and writes[0].done()):
                yield writes.popleft().result()
        while writes:
            yield writes.popleft().result()
    finally:
        reader.shutdown(cancel_futures=True)
        writer.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Batch:
    """Pictures that a worker takes at once, and how they are upscaled: see `upscale_files` and `enhance`."""

    jobs: Sequence[Job]
    sources: Set[str]
    outscale: float
    alpha_upsampler: str
    quality: int


def upscale_batch(batch: Batch) -> Iterator[Outcome]:
    """Upscale pictures with this process's upsampler; see `upscale_files`."""
    def upscale(picture: Picture) -> Picture:
        pixels, _ = enhancer().enhance(picture.pixels, batch.outscale, batch.alpha_upsampler)
        return Picture(pixels, picture.metadata)
    return upscale_files(batch.jobs, batch.sources, upscale, batch.quality)


def upscale_whole_batch(batch: Batch) -> list[Outcome]:
    """Do the same as a task of a pool."""
    return list(upscale_batch(batch))


def cut_batch(batch: Batch) -> list[Batch]:
    """Cut the pictures of a batch into small ones, for several workers; those that may clash stay together."""
    by_result: dict[str, list[Job]] = {}
    for job in batch.jobs:
        by_result.setdefault(str(job.target_stem).casefold(), []).append(job)
    tasks: list[list[Job]] = [[]]
    for jobs in by_result.values():
        if len(tasks[-1]) >= _PICTURES_OF_A_TASK:
            tasks.append([])
        tasks[-1] += jobs
    return [replace(batch, jobs=jobs, sources=batch.sources & _results_of(jobs)) for jobs in tasks]


def _results_of(jobs: Sequence[Job]) -> set[str]:
    return {os.path.realpath(job.target(alpha=alpha)) for job in jobs for alpha in (False, True)}


class _Targets:
    """Says where results go: never over an input, never over a result of the same run."""

    def __init__(self, sources: Collection[str]) -> None:
        self._sources = sources
        self._written: set[str] = set()

    def choose(self, job: Job, picture: Picture) -> Path:
        target = job.target(alpha=picture.has_alpha)
        resolved = os.path.realpath(target)
        if resolved in self._sources:
            raise ImageError(f'its result would overwrite the input {target}; choose another --suffix or -o')
        if resolved in self._written:
            raise ImageError(f'its result would overwrite another\'s, {target}; give it another name')
        self._written.add(resolved)
        if target.suffix[1:] != job.extension:
            logger.warning('has transparency, which %s does not hold; written as %s', job.extension, target.name)
        return target


def _done(result: Result) -> Future[Result]:
    """Return a future that has its result."""
    future: Future[Result] = Future()
    future.set_result(result)
    return future


def _read(job: Job) -> Picture:
    with about(job.source):
        return decode(job.file.read())


def _write(job: Job, source: Picture, result: Picture, target: Path, quality: int) -> Outcome:
    height, width = source.pixels.shape[:2]
    with about(job.source):
        try:
            if job.to_stdout:
                sys.stdout.buffer.write(encode(result, target.suffix[1:], quality))
                sys.stdout.buffer.flush()
            else:
                with whole_file(target) as temporary:
                    write(result, temporary, target.suffix[1:], quality)
        except _FAILURES as error:
            return Outcome(job, error=error)
    return Outcome(job, target, megapixels=height * width / 1e6)
