"""Upscale picture files: what each worker does, with the next picture read and the last one written meanwhile."""
from __future__ import annotations

import errno
import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from ..errors import DiskFullError, RunError, explain, flatten_message
from ..events import Examined, Outcome, Progress
from ..files import whole_file
from ..log import about
from ..measures import Effort
from ..options import PictureOptions
from ..pipeline import read_ahead, write_behind
from ..quality import Borders, compare, examine
from ..workers.enhancers import BuildEnhancer, Enhancer, build_enhancer
from ..workers.measuring import Stages, measure_effort
from ..workers.options import Place
from ..workers.pool import Report
from .formats import require_room
from .names import Job, Targets, name_comparison
from .picture import Picture
from .reading import decode
from .writing import encode, write

logger = logging.getLogger(__name__)

#: A result larger than this is written before the next picture is upscaled, so that two never wait in memory.
_LARGE_BYTES = 1 << 28
_READ_AHEAD = 2
_WRITTEN_BEHIND = 2


@dataclass(frozen=True)
class PictureTask:
    """Pictures that a worker takes at once.

    Attributes:
        jobs: What to read and where to write.
        sources: Real paths of all inputs of the run, which are never written to.
        ended: Names of inputs whose outcome has been heard; they are left out when a task is tried again.
        suspects: Names of inputs that a worker may have broken at; if another does so too, they have failed.
        taken: Real paths of their results.
    """

    jobs: Sequence[Job]
    sources: Set[str]
    ended: Set[str] = frozenset()
    suspects: Set[str] = frozenset()
    taken: Set[str] = frozenset()

    def __str__(self) -> str:
        return ', '.join(job.source.name for job in self.jobs)


@dataclass(frozen=True)
class Suspected:
    """A picture at which a worker may have broken, by its name. Another worker tries once more."""

    source: str


@dataclass(frozen=True)
class _Read:
    """A picture, or the reason why it can't be read, and the seconds of its stages."""

    job: Job
    picture: Picture | Exception
    stages: Stages


@dataclass(frozen=True)
class _Result:
    """A picture to be written.

    Attributes:
        job: The picture's.
        target: Where it goes.
        picture: The upscaled picture.
        source: The pixels of the input, if both are to be compared.
        borders: Where its tiles meet.
        stages: Seconds so far.
        effort: What it took so far.
        outcome: What will be reported when it is written.
    """

    job: Job
    target: Path
    picture: Picture
    source: np.ndarray | None
    borders: Borders
    stages: Stages
    effort: Effort
    outcome: Outcome


class PictureWorker:
    """Upscales pictures with one upsampler. It reports a `Progress` for each tile, and each picture's `Outcome`.

    Args:
        enhancer: What it upscales with.
        options: The caller's.
    """

    def __init__(self, enhancer: Enhancer, options: PictureOptions) -> None:
        self._enhancer = enhancer
        self._options = options
        self._outscale = options.outscale or options.default_outscale

    @classmethod
    def build(cls, options: PictureOptions, place: Place, build: BuildEnhancer = build_enhancer) -> Self:
        """Build a worker from the caller's options and the place where it computes."""
        return cls(build(options, place), options)

    def __call__(self, task: PictureTask, report: Report) -> None:
        """Upscale the pictures of a task, in order. One that fails does not hold up the others.

        Raises:
            RunError: no other picture would fare better.
            Exception: what nobody foresaw while a picture was upscaled, if it is not among the suspects. What was
                upscaled before has been written then.
        """
        targets = Targets(task.sources, task.taken)
        waiting = (job for job in task.jobs if str(job.source) not in task.ended)
        written: deque[Outcome | Examined] = deque()  # by the writing thread, reported by this one
        broken: Exception | None = None

        def report_written() -> None:
            while written:
                report(written.popleft())

        def report_tile(done: int, total: int) -> None:
            report_written()
            report(Progress(source, done, total))

        def write_result(result: _Result | Outcome) -> None:
            written.extend(self._write(result, targets))

        self._enhancer.on_tile = report_tile
        try:
            with read_ahead(_read_all(waiting, self._options.max_pixels), _READ_AHEAD) as pictures, write_behind(
                    write_result, _WRITTEN_BEHIND) as behind:
                for picture in pictures:
                    source = str(picture.job.source)
                    report_written()
                    try:
                        result = self._try(picture, targets, task.suspects)
                    except Exception as error:
                        if not isinstance(error, RunError):
                            report(Suspected(source))
                        broken = error
                        break
                    is_large = isinstance(result, _Result) and result.picture.pixels.nbytes > _LARGE_BYTES
                    behind.put(result)
                    del picture, result  # or they would stay in memory with the next ones
                    if is_large:
                        behind.flush()
        finally:
            report_written()
        if broken is not None:
            raise broken

    def _try(self, read: _Read, targets: Targets, suspects: Set[str]) -> _Result | Outcome:
        """Return the result of a picture, or its failure; see `__call__` for what is raised."""
        source = str(read.job.source)
        try:
            with about(source):
                return self._upscale(read, targets)
        except RunError:
            raise
        except Exception as error:
            told = explain(error)
            if told is not error and source not in suspects:
                raise
            return Outcome(source, error=told)

    def _upscale(self, read: _Read, targets: Targets) -> _Result | Outcome:
        job, picture, stages, options = read.job, read.picture, read.stages, self._options
        if isinstance(picture, Exception):
            return Outcome(str(job.source), error=picture)
        with stages.measure('network'):
            target = targets.choose(job, picture)
            outscale = self._outscale or self._enhancer.scale
            require_room(target.suffix[1:], *(int(side * outscale) for side in picture.pixels.shape[:2]))
            pixels, _ = self._enhancer.enhance(picture.pixels, self._outscale, options.alpha_upsampler)
        height, width = picture.pixels.shape[:2]
        outcome = Outcome(str(job.source), None if job.to_stdout else target, frames=1, megapixels=height * width / 1e6,
                          seconds=stages.seconds['network'], size=(width, height), result_size=pixels.shape[1::-1])
        return _Result(job, target, Picture(pixels, picture.metadata),
                       picture.pixels if options.check or options.compare else None,
                       Borders.of_tiles(self._enhancer.tiles), stages, measure_effort(self._enhancer, stages), outcome)

    def _write(self, result: _Result | Outcome, targets: Targets) -> Iterator[Outcome | Examined]:
        """Write a result; yield what is to be reported of it.

        Raises:
            DiskFullError: the disk is full, or the user's part of it.
        """
        if isinstance(result, Outcome):
            yield result
            return
        job, target, quality = result.job, result.target, self._options.quality
        with about(job.source):
            try:
                with result.stages.measure('write'):
                    if job.to_stdout:
                        assert sys.__stdout__ is not None  # or the run would have ended before it began
                        sys.__stdout__.buffer.write(encode(result.picture, target.suffix[1:], quality))
                        sys.__stdout__.buffer.flush()
                    else:
                        with whole_file(target) as temporary:
                            write(result.picture, temporary, target.suffix[1:], quality)
            except RunError:
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DiskFullError(f'{"stdout" if job.to_stdout else target}: {error.strerror}') from error
                yield Outcome(str(job.source), error=explain(error))
                return
            outcome = replace(result.outcome, effort=replace(result.effort, seconds=dict(result.stages.seconds)))
            if result.source is not None and self._options.check:
                try:
                    yield _examine(result, result.source)
                except Exception as error:
                    outcome = _add_problem(outcome, 'no check', error)
            if result.source is not None and self._options.compare:
                try:
                    outcome = replace(outcome, comparison=_compare(
                        result, result.source, self._options.label, targets))
                except Exception as error:
                    outcome = _add_problem(outcome, 'no comparison', error)
            yield outcome


def _read_all(jobs: Iterable[Job], max_pixels: int) -> Iterator[_Read]:
    """Yield each job with its picture, or with the reason why it can't be read."""
    for job in jobs:
        stages = Stages()
        with about(job.source), stages.measure('read'):
            try:
                picture: Picture | Exception = decode(job.file.read(max_pixels), max_pixels)
            except RunError:
                raise
            except Exception as error:
                picture = explain(error)
        yield _Read(job, picture, stages)
        del picture  # or it would stay in memory while the next one is read


def _examine(result: _Result, source: np.ndarray) -> Examined:
    """Compare a result with its source, and warn of what looks wrong."""
    quality, preview = examine(source, result.picture.pixels, result.borders)
    for finding in quality.findings:
        logger.warning('%s', finding)
    return Examined(str(result.job.source), quality, preview)


def _compare(result: _Result, source: np.ndarray, label: str, targets: Targets) -> Path:
    """Write the picture that shows a result beside its source, and return its path."""
    target = name_comparison(result.target, 'jpg')
    targets.claim_comparison(result.job, target)
    with whole_file(target) as temporary:
        write(Picture(compare(source, result.picture.pixels, label)), temporary, 'jpg')
    return target


def _add_problem(outcome: Outcome, what: str, error: Exception) -> Outcome:
    logger.debug('%s', what, exc_info=error)
    return replace(outcome, problems=(*outcome.problems, f'{what}: {flatten_message(explain(error))}'))

