"""Upscale picture files: the work of each worker, with the next picture read and the last one written meanwhile."""
from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from ..engines.memory import MemoryLog
from ..enhancers import BuildEnhancer, build_enhancer, measure_timings
from ..errors import DiskFullError, RealESRGANError, RunError, explain, flatten_message, forget_locals
from ..events import Examined, Outcome, Progress
from ..files import keep_dates, whole_file
from ..log import about
from ..options import PictureOptions
from ..pipeline import read_ahead, write_behind
from ..pool.pool import Place, Report
from ..quality.checks import judge, sum_up
from ..timings import Stopwatch
from ..upscaling.size import scale_size
from ..upscaling.tiles import Tile
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
#: How many pictures may be in work when a worker dies.
MOST_IN_WORK = _READ_AHEAD + 1 + _WRITTEN_BEHIND


class PictureTask(NamedTuple):
    """Pictures that a worker takes at once.

    Attributes:
        jobs: The pictures, and where their results go.
        sources: Real paths of inputs that their results must not overwrite.
        taken: Real paths of results that others of the run have got.
        attempt: How often they were tried before.
    """

    jobs: Sequence[Job]
    sources: Set[str] = frozenset()
    taken: Set[str] = frozenset()
    attempt: int = 0

    def __str__(self) -> str:
        return ', '.join(job.source.name for job in self.jobs)


class _Item:
    """A picture on its way.

    Attributes:
        job: Its path, and where the result goes.
        stopwatch: Measures its stages.
        picture: The picture, once it is read.
        error: Why there is no result.
        result: The upscaled picture.
        target: The path of the result.
        tiles: Those of the result.
        outcome: Is reported when the result is written.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.stopwatch = Stopwatch()
        self.picture: Picture | None = None
        self.error: Exception | None = None
        self.result: Picture | None = None
        self.target = Path()
        self.tiles: Sequence[Tile] = ()
        self.outcome: Outcome | None = None


class PictureWorker:
    """Upscales pictures with one enhancer. It reports a `Progress` for each tile, and each picture's `Outcome`.

    Args:
        options: How pictures are upscaled.
        place: Where it computes.
        build: Makes the enhancer.
    """

    def __init__(self, options: PictureOptions, place: Place, build: BuildEnhancer = build_enhancer) -> None:
        self._options = options
        self._loading = Stopwatch()
        with self._loading.measure('load'):
            self._enhancer = build(options, place)
        self._memory = MemoryLog()

    def __call__(self, task: PictureTask, report: Report) -> None:
        """Upscale the pictures of a task, in order. One that fails does not hold up the others.

        Raises:
            RunError: no other picture would fare better.
            Exception: an error that nobody foresaw while a picture was upscaled: the worker may be broken. Pictures
                before it have been written then, and reported.
        """
        targets = Targets(task.sources, task.taken)
        written: SimpleQueue[Outcome | Examined] = SimpleQueue()  # by the writing thread, reported by this one

        def report_written() -> None:
            while not written.empty():
                report(written.get())

        def report_tile(done: float, total: int) -> None:
            report_written()
            report(Progress(source, done, total))
            self._memory.update()

        def write_item(item: _Item) -> None:
            for note in self._write(item, targets):
                written.put(note)

        self._enhancer.on_tile = report_tile
        try:
            with read_ahead(_read_all(task.jobs, self._options.max_pixels), _READ_AHEAD) as items, write_behind(
                    write_item, _WRITTEN_BEHIND) as behind:
                for item in items:
                    source = str(item.job.source)
                    report_written()
                    self._upscale(item, targets)
                    if item.picture is not None and item.error is not None:
                        forget_locals(item.error)
                    behind.put(item)
                    is_large = item.result is not None and item.result.pixels.nbytes > _LARGE_BYTES
                    del item  # or it would stay in memory with the next one
                    if is_large:
                        behind.flush()
                self._memory.update(at_once=True)
        finally:
            report_written()

    def _upscale(self, item: _Item, targets: Targets) -> None:
        """Upscale a picture, unless it could not be read; see `__call__` for errors."""
        job, picture, options = item.job, item.picture, self._options
        if picture is None:
            return
        try:
            with about(job.source), item.stopwatch.measure('network'):
                item.target = targets.choose(job, picture)
                height, width = picture.pixels.shape[:2]
                size = options.find_size(width, height)
                outscale = None if size else options.outscale or options.default_outscale
                final = size or scale_size(width, height, outscale or self._enhancer.scale)
                require_room(item.target.suffix[1:], final.height, final.width)
                pixels, _ = self._enhancer.enhance(picture.pixels, outscale, options.alpha_upsampler, size=size,
                                                    strength=options.strength)
        except RunError:
            raise
        except (RealESRGANError, OSError, MemoryError) as error:
            item.error = error
            return
        item.result = Picture(pixels, picture.metadata)
        item.tiles = self._enhancer.tiles
        item.outcome = Outcome(
            str(job.source), None if job.to_stdout else item.target, frames=1, megapixels=height * width / 1e6,
            size=(width, height), result_size=pixels.shape[1::-1],
            timings=measure_timings(self._enhancer, item.stopwatch, options.label))
        item.stopwatch.seconds.update(self._loading.seconds)
        self._loading.seconds.clear()
        if not (options.check or options.no_check):
            with about(job.source):
                judged = judge(picture.pixels, pixels, item.tiles, all_pixels=False)
            if judged is not None:
                item.outcome = item.outcome._replace(verdict=sum_up(judged[0].findings))
        if not (options.check or options.compare):
            item.picture = None  # it need not wait in memory

    def _write(self, item: _Item, targets: Targets) -> Iterator[Outcome | Examined]:
        """Write a result; yield its notes.

        Raises:
            DiskFullError: the disk is full, or the user's part of it.
        """
        job, target, result, quality = item.job, item.target, item.result, self._options.quality
        if result is None:
            yield Outcome(str(job.source), error=item.error)
            return
        with about(job.source):
            try:
                with item.stopwatch.measure('write'):
                    if job.to_stdout:
                        assert sys.__stdout__ is not None  # or the run would have ended before it began
                        sys.__stdout__.buffer.write(encode(result, target.suffix[1:], quality))
                        sys.__stdout__.buffer.flush()
                    else:
                        with whole_file(target) as temporary:
                            write(result, temporary, target.suffix[1:], quality)
                            if self._options.keep_dates:
                                keep_dates([job.source] if job.file.data is None else [], temporary)
            except RunError:
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise DiskFullError(f'{"stdout" if job.to_stdout else target}: {error.strerror}') from error
                yield Outcome(str(job.source), error=explain(error))
                return
            yield from self._judge(item, result, targets)

    def _judge(self, item: _Item, result: Picture, targets: Targets) -> Iterator[Outcome | Examined]:
        """Compare a result with its source as the options ask; yield what was found, and the outcome."""
        outcome, source = item.outcome, str(item.job.source)
        assert outcome is not None
        timings = outcome.timings
        assert timings is not None
        if item.picture is not None and self._options.check:
            with item.stopwatch.measure('check'):
                judged = judge(item.picture.pixels, result.pixels, item.tiles, all_pixels=True)
            if judged is not None:
                yield Examined(source, *judged)
                outcome = outcome._replace(verdict=sum_up(judged[0].findings))
        if item.picture is not None and self._options.compare:
            try:
                comparison = name_comparison(item.target, 'jpg')
                targets.claim(comparison, f'comparison of {source}', 'it')
                from ..quality.comparisons import compare
                with item.stopwatch.measure('check'), whole_file(comparison) as temporary:
                    write(Picture(compare(item.picture.pixels, result.pixels, self._options.label)), temporary, 'jpg')
                outcome = outcome._replace(comparison=comparison)
            except Exception as error:
                logger.debug('no comparison', exc_info=error)
                problem = f'no comparison: {flatten_message(explain(error))}'
                outcome = outcome._replace(problems=(*outcome.problems, problem))
        seconds = dict(item.stopwatch.seconds)
        yield outcome._replace(seconds=sum(seconds.values()), timings=timings._replace(seconds=seconds))


def _read_all(jobs: Iterable[Job], max_pixels: int) -> Iterator[_Item]:
    """Yield each job with its picture, or with the reason why it can't be read."""
    for job in jobs:
        item = _Item(job)
        with about(job.source), item.stopwatch.measure('read'):
            try:
                item.picture = decode(job.file.read(max_pixels), max_pixels)
            except RunError:
                raise
            except Exception as error:
                item.error = explain(error)
        yield item
        del item  # or it would stay in memory while the next one is read
