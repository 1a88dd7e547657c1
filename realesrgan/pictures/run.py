"""`upscale_pictures`: everything that the image script does, for programs."""
from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..enhancers import EnhancerCache, build_enhancer, count_workers, prepare
from ..errors import InputError, RunError, UsageError, WorkerError, explain, flatten_message
from ..events import Event, Examined, Found, Outcome, Run
from ..files import format_size, measure_free_disk, remove_leftovers
from ..log import about, append_log
from ..options import PictureOptions, drop_faces_of_anime
from ..pool.pool import MOST_ATTEMPTS, Pool, list_places, make_pool
from ..upscaling.size import Size, scale_size
from ..version import __version__
from .inputs import STREAM, InputFile, Inputs, find_pictures, list_inputs, read_bounded
from .names import Job, list_jobs, name_comparison, name_preview, require_folder_name, require_output_folder

if TYPE_CHECKING:
    from .worker import PictureTask

logger = logging.getLogger(__name__)

_PICTURES_OF_A_TASK = 4  # where several workers share them
_MOST_ATTEMPTS = 2  # of a picture, unless its worker dies
_SAMPLES = 50  # by which the room for results is estimated
_LIKELY_SCALE = 4  # of a network of which it is not known yet


def upscale_pictures(inputs: Inputs, output: str | os.PathLike[str], options: PictureOptions | None = None, *,
                     on_event: Callable[[Event], None] | None = None,
                     cancel: threading.Event | None = None,
                     enhancers: EnhancerCache | None = None) -> list[Outcome]:
    """Upscale picture files. One that fails does not stop the others.

    Args:
        inputs: Pictures, folders and glob patterns, one or several; or '-' alone for a picture on stdin.
        output: Folder for the results, or '-' for stdout.
        options: How; None for the defaults.
        on_event: Called in this thread: with `Found` once, with `Progress` and `Warned`, and for each picture with
            `Outcome`. What it raises ends the run.
        cancel: Ends the run, after the current tile, when it is set. Results that are finished stay.
        enhancers: Upsamplers of earlier calls, and of this one afterwards; the pictures are upscaled in this process.

    Returns:
        The outcome of each picture. Errors are in there, a line each (`errors.flatten_message`).

    Raises:
        UsageError: several pictures are to go to stdout, or it is closed; or `output` looks like a picture file, or
            can't be written.
        InputError: the inputs hold no picture at all.
        RealESRGANError: no worker can be built, or else a `RunError`, which no other picture would survive.
        Cancelled: `cancel` was set.
    """
    run, options = Run(on_event, cancel), options or PictureOptions()
    with append_log(options.log), run.session():
        logger.debug('Real-ESRGAN %s, %s', __version__, options)
        return _Pictures(run, os.fspath(output), options, enhancers).upscale(list_inputs(inputs))


class _Pictures:
    """One run over pictures."""

    def __init__(self, run: Run, output: str, options: PictureOptions, enhancers: EnhancerCache | None) -> None:
        self._run = run
        self._enhancers = enhancers
        self._output = output
        self._options = drop_faces_of_anime(options)
        self._outcomes: list[Outcome] = []
        self._ended: set[str] = set()  # pictures whose outcome a worker has reported
        self._taken: set[str] = set()  # real paths of their results

    def upscale(self, inputs: Sequence[str]) -> list[Outcome]:
        jobs = self._list_jobs(inputs)
        sources = {os.path.realpath(job.source) for job in jobs if job.file.data is None}
        waiting = [job for job in jobs if not self._skip(job)]
        self._run.emit(Found(len(waiting)))
        if waiting and self._output != STREAM:
            require_output_folder(Path(self._output))
            for folder in {job.target_stem.parent for job in waiting}:
                remove_leftovers(folder)
            if len(waiting) > 1:
                self._warn_of_little_room(waiting)
        if waiting and self._options.preview:
            self._preview(waiting)
        elif waiting:
            with self._open_pool(waiting) as (pool, is_shared):
                self._upscale_all(waiting, sources, pool, is_shared=is_shared)
        return self._outcomes

    def _list_jobs(self, inputs: Sequence[str | InputFile]) -> list[Job]:
        options, to_stdout = self._options, self._output == STREAM
        if options.cluster is not None and (to_stdout or list(inputs) == [STREAM]):
            raise UsageError('--cluster needs files that all its nodes see, not - for stdin or stdout')
        for option, does in (('preview', 'writes a sheet'), ('compare', 'writes pictures beside the results'),
                             ('keep_dates', 'dates the files of results')):
            if to_stdout and getattr(options, option):
                raise UsageError(f'--{option} {does}, which -o - does not put into a folder')
        if to_stdout and sys.__stdout__ is None:
            raise UsageError('-o - writes to stdout, which is closed')
        require_folder_name(Path(self._output))
        if list(inputs) == [STREAM]:
            if sys.stdin is None:
                raise UsageError('-i - reads stdin, which is closed')
            data = read_bounded(sys.stdin.buffer, options.max_pixels)
            inputs = [InputFile(Path('stdin'), data=data)]
        files = find_pictures(inputs, recursive=options.recursive,
                              exclude=None if to_stdout else Path(self._output),
                              on_error=lambda name, error: self._end(Outcome(name, error=error)))
        if to_stdout and len(files) > 1:
            raise UsageError(f'{len(files)} pictures can\'t all go to stdout; name a folder with -o')
        pipes = [file.path for file in files if not os.path.isfile(file.path)] if options.cluster is not None else []
        if pipes:
            raise UsageError(f'{pipes[0]}: --cluster needs files, which nodes can read too')
        naming = Path(self._output), options.suffix, options.ext
        if not to_stdout:
            files = _leave_out_results(files, list_jobs(files, *naming))
        return [job._replace(to_stdout=to_stdout) for job in list_jobs(files, *naming)]

    def _skip(self, job: Job) -> bool:
        """Report a picture as skipped if its result exists and that matters."""
        if not self._options.skip_existing or job.to_stdout:
            return False
        existing = [target for target in job.possible_targets if os.path.exists(target)]
        if existing:
            self._end(Outcome(str(job.source), existing[0], skipped=True))
        return bool(existing)

    def _warn_of_little_room(self, waiting: Sequence[Job]) -> None:
        """Warn if the disk seems too small for the results. Some inputs, spread evenly, stand for all."""
        needed, _ = self._estimate(waiting)
        free = measure_free_disk(Path(self._output))
        if needed > free:
            logger.warning('about %s of disk will be needed for %d results, %s are free', format_size(needed),
                           len(waiting), format_size(free))

    def _estimate(self, waiting: Sequence[Job]) -> tuple[int, float]:
        """Return the bytes of the results and the megapixels of the pictures, by some that stand for all."""
        from .reading import estimate_result_size
        samples = waiting[::-(-len(waiting) // _SAMPLES)]
        options = self._options
        scale = options.outscale or options.default_outscale or _LIKELY_SCALE

        def find_size(width: int, height: int) -> Size:
            return options.find_size(width, height) or scale_size(width, height, scale)
        known = [size for job in samples if (size := estimate_result_size(job, find_size)) is not None]
        share = len(waiting) / max(len(known), 1)
        return int(sum(size for size, _ in known) * share), sum(pixels for _, pixels in known) * share / 1e6

    def _preview(self, waiting: Sequence[Job]) -> None:
        """Show a part of the first picture, by each model, and what all pictures would take."""
        from ..quality.previews import Amount, compare_models
        from .reading import decode
        job, options = waiting[0], self._options
        sheet = name_preview(job.target(alpha=False), 'png' if options.ext == 'png' else 'jpg')
        try:
            with about(job.source):
                if os.path.realpath(sheet) in {os.path.realpath(other.source) for other in waiting}:
                    raise InputError(f'its preview would overwrite the input {sheet}; choose another --suffix or -o')
                picture = decode(job.file.read(options.max_pixels), options.max_pixels)
                size, megapixels = self._estimate(waiting)
                amount = Amount(megapixels, None, size, min(len(list_places(options.gpu_id)), len(waiting)))
                found = compare_models(picture.pixels, options, amount, check=self._run.check,
                                       build=self._enhancers.build if self._enhancers else build_enhancer)
                count = '' if len(waiting) == 1 else f'; the whole job is {len(waiting)} pictures'
                which = 'the busiest' if options.preview_at is None else 'a'
                event = found.write(sheet, str(job.source), f'preview  {sheet}, {which} part of {job.source}{count}')
        except RunError:
            raise
        except Exception as error:
            self._end(Outcome(str(job.source), error=explain(error)))
            return
        self._run.emit(event)

    def _end(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._run.emit(outcome)

    @contextlib.contextmanager
    def _open_pool(self, jobs: Sequence[Job]) -> Iterator[tuple[Pool, bool]]:
        """Open the workers of the pictures; tell too whether several share them."""
        from .worker import PictureWorker
        options = self._options
        prepare(options)
        build = partial(PictureWorker, options, build=self._enhancers.build if self._enhancers else build_enhancer)
        alone = len(jobs) == 1 or self._enhancers is not None  # with a whole device
        places = list_places(options.gpu_id, 1 if alone else count_workers(options))
        if alone:
            places = places[:1]
        # What networks of other packages print must not get into a picture on stdout.
        silence = contextlib.redirect_stdout(sys.stderr) if self._output == STREAM else contextlib.nullcontext()
        # Of a task that fails only the pictures that are left are tried again, so that is not up to the pool.
        with silence, contextlib.ExitStack() as stack:
            if options.cluster is None:
                pool = make_pool(build, places, self._run.check, isolate=False, attempts=1)
                yield stack.enter_context(pool), len(places) > 1
            else:
                from ..pool.cluster import open_ray_pool
                files = [job.source for job in jobs]
                yield stack.enter_context(open_ray_pool(
                    build, options, files, Path(self._output), self._run.check, attempts=1)), True

    def _upscale_all(self, jobs: Sequence[Job], sources: set[str], pool: Pool, *, is_shared: bool) -> None:
        """Upscale pictures. Those that a task leaves behind when it fails are tried again."""
        from .worker import MOST_IN_WORK, PictureTask

        def make_task(jobs: Sequence[Job], attempt: int = 0) -> PictureTask:
            paths = {os.path.realpath(path) for job in jobs for path in _list_paths(job)}
            return PictureTask(jobs, sources & paths, self._taken & paths, attempt)

        size = _PICTURES_OF_A_TASK if is_shared else len(jobs)
        tasks = [make_task(some) for some in share_jobs(jobs, size)]
        while tasks:
            again: list[PictureTask] = []
            for task, error in pool.map_unordered(tasks, self._on_note):
                left = [job for job in task.jobs if str(job.source) not in self._ended]
                if error is not None and left:
                    # A worker raises at the first that is left; one that dies may have done so at any in its work.
                    is_lost = isinstance(error, WorkerError)
                    most, suspects = (MOST_ATTEMPTS, MOST_IN_WORK) if is_lost else (_MOST_ATTEMPTS, 1)
                    attempt = (task.attempt + 1) % most
                    if not attempt:
                        self._end(Outcome(str(left.pop(0).source), error=error))
                    if left:
                        reason = error if is_lost else error.__cause__ or error
                        logger.warning('the work failed: %s; it is tried again', flatten_message(reason))
                    again += [make_task(some, attempt) for some in share_jobs(left[:suspects], 1)]
                    again += [make_task(some) for some in share_jobs(left[suspects:], size)]
                del error  # or the memory of all its frames would stay
            tasks = again

    def _on_note(self, _task: PictureTask, note: Any) -> None:
        """Pass on what a worker reports; a task that is tried again may report a picture a second time."""
        if isinstance(note, (Examined, Outcome)) and note.source in self._ended:
            return
        if not isinstance(note, Outcome):
            self._run.emit(note)
            return
        self._ended.add(note.source)
        if note.target is not None:
            self._taken.add(os.path.realpath(note.target))
        self._end(note)


def _leave_out_results(files: Sequence[InputFile], jobs: Sequence[Job]) -> list[InputFile]:
    """Return the files without those that an earlier run has made of others, where -o is the folder of the inputs.

    A file that was named is an input, whatever it is called.
    """
    results = {os.path.abspath(path): job.source for job in jobs for path in _list_paths(job)}
    inputs = []
    for file in files:
        source = results.get(os.path.abspath(file.path)) if file.found else None
        if source is None or source == file.path:
            inputs.append(file)
        else:
            logger.warning('%s: skipped, the result of %s', file.path, source)
    return inputs


def share_jobs(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Cut pictures into tasks of about `size`; those whose results may clash stay together."""
    if len(jobs) <= size:
        return [[*jobs]] if jobs else []
    by_result: dict[str, list[Job]] = {}
    for job in jobs:
        by_result.setdefault(str(job.target_stem).casefold(), []).append(job)
    tasks: list[list[Job]] = []
    for clashing in by_result.values():
        if not tasks or len(tasks[-1]) >= size:
            tasks.append([])
        tasks[-1] += clashing
    return tasks


def _list_paths(job: Job) -> list[Path]:
    """Return all paths that a result, and a picture that compares it with its input, may get."""
    return [path for target in job.possible_targets for path in (target, name_comparison(target, 'jpg'))]
