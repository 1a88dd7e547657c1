"""`upscale_pictures`: everything that the image script does, for programs."""
from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..events import Event, Examined, Found, Outcome, Run
from ..files import remove_leftovers, require_writable
from ..options import PictureOptions, drop_faces_of_anime
from ..workers.enhancers import EnhancerCache, build_enhancer, prefetch_weights, prepare_faces, require_gpus
from ..workers.options import list_places
from ..workers.pool import Pool, make_pool
from .inputs import InputFile, Inputs, find_pictures, list_inputs, read_bounded
from .names import Job, name_comparison, plan, require_folder_name

if TYPE_CHECKING:
    from .worker import PictureTask

logger = logging.getLogger(__name__)

#: As an input stdin, as the output folder stdout.
STREAM = '-'
_PICTURES_OF_A_TASK = 4  # where several workers share them


def upscale_pictures(inputs: Inputs, output: str | os.PathLike[str], options: PictureOptions | None = None, *,
                     on_event: Callable[[Event], None] | None = None,
                     cancel: threading.Event | None = None,
                     enhancers: EnhancerCache | None = None) -> list[Outcome]:
    """Upscale picture files. One that fails does not hold up the others.

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
        UsageError: several pictures are to go to stdout, or it is closed, or `output` looks like a picture file.
        InputError: the inputs hold no picture at all.
        RealESRGANError: no worker can be built, or else a `RunError`, which no other picture would survive.
        OSError: the output folder can't be written.
        Cancelled: `cancel` was set.
    """
    run = Run(on_event, cancel)
    with run.session():
        return _Pictures(run, os.fspath(output), options or PictureOptions(), enhancers).upscale(list_inputs(inputs))


class _Pictures:
    """One run over pictures."""

    def __init__(self, run: Run, output: str, options: PictureOptions, enhancers: EnhancerCache | None) -> None:
        self._run = run
        self._enhancers = enhancers
        self._output = output
        self._options = drop_faces_of_anime(options)
        self._outcomes: list[Outcome] = []
        self._ended: set[str] = set()
        self._suspects: set[str] = set()
        self._taken: set[str] = set()  # real paths of results

    def upscale(self, inputs: Sequence[str]) -> list[Outcome]:
        jobs = self._list_jobs(inputs)
        waiting = [job for job in jobs if not self._skip(job)]
        self._run.tell(Found(len(waiting)))
        if waiting:
            if self._output != STREAM:
                require_writable(Path(self._output))
                for folder in {job.target_stem.parent for job in waiting}:
                    remove_leftovers(folder)
            self._upscale_all(waiting, jobs)
        return self._outcomes

    def _list_jobs(self, inputs: Sequence[str | InputFile]) -> list[Job]:
        options, to_stdout = self._options, self._output == STREAM
        if options.cluster is not None and (to_stdout or list(inputs) == [STREAM]):
            raise UsageError('--cluster needs files that all its nodes see, not - for stdin or stdout')
        if to_stdout and options.compare:
            raise UsageError('--compare writes pictures beside the results, which -o - does not put into a folder')
        if to_stdout and sys.__stdout__ is None:
            raise UsageError('-o - writes to stdout, which is closed')
        require_folder_name(Path(self._output))
        if list(inputs) == [STREAM]:
            if sys.stdin is None:
                raise UsageError('-i - reads stdin, which is closed')
            data = read_bounded(sys.stdin.buffer, self._options.max_pixels)
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
            files = _leave_out_results(files, plan(files, *naming))
        return [replace(job, to_stdout=to_stdout) for job in plan(files, *naming)]

    def _skip(self, job: Job) -> bool:
        """Report a picture as skipped if its result exists and that matters."""
        if not self._options.skip_existing or job.to_stdout:
            return False
        existing = [target for target in job.possible_targets if os.path.exists(target)]
        if existing:
            self._end(Outcome(str(job.source), existing[0], skipped=True))
        return bool(existing)

    def _end(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._run.tell(outcome)

    def _upscale_all(self, jobs: Sequence[Job], all_jobs: Sequence[Job]) -> None:
        from .worker import PictureTask, PictureWorker
        options = self._options
        places = list_places(options.gpu_id)
        require_gpus(options.gpu_id, options.engine)
        sources = frozenset(os.path.realpath(job.source) for job in all_jobs if job.file.data is None)
        tasks = [PictureTask(jobs, sources, self._ended, self._suspects, self._taken)]
        prepare_faces(options)
        prefetch_weights(options)
        if (len(places) > 1 and len(jobs) > 1 and self._enhancers is None) or options.cluster is not None:
            tasks = [PictureTask(some, sources & _results_of(some), self._ended, self._suspects, self._taken)
                     for some in share_jobs(jobs)]
        else:
            places = places[:1]
        build = partial(PictureWorker.build, options,
                        build=self._enhancers.build if self._enhancers else build_enhancer)
        # What networks of other packages print must not get into a picture on stdout.
        silence = contextlib.redirect_stdout(sys.stderr) if self._output == STREAM else contextlib.nullcontext()
        with silence, contextlib.ExitStack() as stack:
            if options.cluster is None:
                pool = make_pool(build, places, self._run.check, isolate=False)
            else:
                from ..workers.cluster import open_cluster
                cluster = stack.enter_context(open_cluster(
                    options, [job.source for job in jobs], Path(self._output)))
                pool = cluster.make_pool(build, options, self._run.check)
            self._do(tasks, stack.enter_context(pool))

    def _do(self, tasks: Sequence[PictureTask], pool: Pool) -> None:
        """Let a pool do tasks. The pictures that one which fails leaves behind are tried again, each by itself."""
        from .worker import Suspected

        def hear(note: Any) -> None:
            if isinstance(note, Suspected):
                self._suspects.add(note.source)
            else:
                self._hear(note)

        def note_failure(task: PictureTask, error: Exception) -> None:
            left = [job for job in task.jobs if str(job.source) not in self._ended]
            if len(left) == 1:
                self._end(Outcome(str(left[0].source), error=error))
            else:
                again.extend(replace(task, jobs=[job]) for job in left)

        again: list[PictureTask] = []
        for _ in pool.map_unordered(tasks, hear, note_failure):
            pass
        for single in again:  # one after the other, because their results may clash
            self._do([single], pool)

    def _hear(self, note: Any) -> None:
        """Pass on what a worker reports; a task that is tried again reports pictures a second time."""
        if not isinstance(note, (Examined, Outcome)):
            self._run.tell(note)
        elif note.source in self._ended:
            return
        elif isinstance(note, Examined):
            self._run.tell(note)
        else:
            self._ended.add(note.source)
            if note.target is not None:
                self._taken.add(os.path.realpath(note.target))
            self._end(note)


def _leave_out_results(files: Sequence[InputFile], jobs: Sequence[Job]) -> list[InputFile]:
    """Return the files without those that an earlier run has made of others, where -o is the folder of the inputs.

    A file that was named is an input, whatever it is called.
    """
    results = {os.path.abspath(path): job.source for job in jobs for target in job.possible_targets
               for path in (target, name_comparison(target, 'jpg'))}
    inputs = []
    for file in files:
        source = results.get(os.path.abspath(file.path)) if file.found else None
        if source is None or source == file.path:
            inputs.append(file)
        else:
            logger.warning('%s: skipped, the result of %s', file.path, source)
    return inputs


def share_jobs(jobs: Sequence[Job]) -> list[list[Job]]:
    """Cut pictures into small tasks for several workers; those whose results may clash stay together."""
    by_result: dict[str, list[Job]] = {}
    for job in jobs:
        by_result.setdefault(str(job.target_stem).casefold(), []).append(job)
    tasks: list[list[Job]] = [[]]
    for clashing in by_result.values():
        if len(tasks[-1]) >= _PICTURES_OF_A_TASK:
            tasks.append([])
        tasks[-1] += clashing
    return tasks


def _results_of(jobs: Sequence[Job]) -> set[str]:
    return {os.path.realpath(path) for job in jobs for target in job.possible_targets
            for path in (target, name_comparison(target, 'jpg'))}
