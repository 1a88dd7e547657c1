"""Jobs: a bounded queue, and threads that run them in worker processes."""
from __future__ import annotations

import contextlib
import logging
import math
import secrets
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

from ..engines.cpu import count_cores
from ..engines.devices import may_have_torch_gpus, may_have_vulkan_gpus
from ..engines.memory import MemoryUse, measure_memory_use
from ..enhancers import EnhancerCache
from ..errors import Cancelled, explain, flatten_message
from ..events import Event, Outcome, Outlined, Progress, Warned
from ..models import MODELS
from ..options import PictureOptions, VideoOptions
from ..pictures.run import upscale_pictures
from ..pool.pool import Place, Report
from ..pool.processes import ProcessPool
from ..videos.run import upscale_videos
from .errors import JobTimeoutError, QueueFullError, StoreFullError, hide_paths
from .settings import Settings
from .uploads import Media, Upload

logger = logging.getLogger(__name__)

#: The states of a job, in order; the last three are ends.
STATES = QUEUED, RUNNING, DONE, FAILED, CANCELLED = 'queued', 'running', 'done', 'failed', 'cancelled'
SECONDS_BETWEEN_CLEANINGS = 2.0
SECONDS_BETWEEN_MEASURES = 1.0  # of a worker's memory
FIRST_GUESS = 5.0  # seconds of a job, before any has ended
_TELLING_SECONDS = 2.0  # shorter jobs spend them on other things than the network
_PRODUCTS_OF_A_CORE = 1e11  # a second, of convolutions written out, before any job has ended; AVX2 to AVX-512 with VNNI


@dataclass(frozen=True)
class JobTask:
    """A file to upscale, the folder for its result, and how."""

    source: Path
    output: Path
    options: PictureOptions | VideoOptions

    def __str__(self) -> str:
        return 'the job'


class JobWorker:
    """Upscales one file after the other in a process of its own, and reports the events of the library.

    Args:
        models_kept: How many models of earlier jobs stay loaded.
    """

    def __init__(self, models_kept: int, _place: Place) -> None:
        self._enhancers = EnhancerCache(models_kept)

    def __call__(self, task: JobTask, report: Report) -> None:
        """Upscale a file; its outcome is among what is reported."""
        upscale: Callable[..., object] = upscale_videos if isinstance(task.options, VideoOptions) else upscale_pictures
        due = time.monotonic() + SECONDS_BETWEEN_MEASURES

        def report_with_memory(event: Event) -> None:
            nonlocal due
            report(event)
            if time.monotonic() >= due:
                report(measure_memory_use())
                due = time.monotonic() + SECONDS_BETWEEN_MEASURES
        upscale(str(task.source), task.output, task.options, on_event=report_with_memory, enhancers=self._enhancers)
        report(measure_memory_use())


@dataclass
class Job:
    """A file that a client wants upscaled.

    Attributes:
        folder: Where its results lie, and nothing else but an upload that is not kept.
        upload: The file.
        options: How it is upscaled.
        identity: The name by which clients know it; nobody can guess it.
        state: One of `STATES`.
        done, total: Tiles or frames; the total is None where it is unknown.
        error: Why it failed.
        warnings: What did not go as asked, a line each.
        outcome: How it ended; None for a preview that did not fail.
        preview: The comparison of models that was asked for in place of the result.
        started, finished: Seconds on `time.monotonic`'s clock.
        cancel: Set to end it.
        ended: Set when it has ended.
    """

    folder: Path
    upload: Upload
    options: PictureOptions | VideoOptions
    identity: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    state: str = QUEUED
    done: float = 0
    total: int | None = None
    error: BaseException | None = None
    warnings: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    preview: Outlined | None = None
    started: float | None = None
    finished: float | None = None
    cancel: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def result(self) -> Path | None:
        """The result, or the sheet of a preview, if there is one."""
        if self.state != DONE:
            return None
        return self.preview.sheet if self.preview else self.outcome.target if self.outcome else None

    @property
    def result_name(self) -> str | None:
        """The name under which the result is downloaded."""
        kind = 'preview' if self.preview else 'out'
        return f'{self.upload.name}_{kind}{self.result.suffix}' if self.result else None

    @property
    def seconds(self) -> float:
        """How long it has run."""
        return 0.0 if self.started is None else (self.finished or time.monotonic()) - self.started

    def on_event(self, event: Any) -> None:
        """Take an event of the library."""
        if isinstance(event, Progress):
            self.done, self.total = event.done, event.total
        elif isinstance(event, Warned):
            self.warnings.append(self.describe(event.message))
        elif isinstance(event, Outcome):
            self.outcome = event
        elif isinstance(event, Outlined):
            for number, picture in enumerate((event.part, *(tried.picture for tried in event.tried))):
                self.find_panel(number).write_bytes(picture)
            self.preview = event._replace(part=b'', tried=tuple(tried._replace(picture=b'') for tried in event.tried))

    def find_panel(self, number: int) -> Path:
        """Return the path of a picture of a preview: 0 is the part of the input, the others are by each model."""
        return self.folder / f'panel-{number}.jpg'

    def describe(self, text: str) -> str:
        """Return a text about it for its client: in one line, without paths of this machine."""
        source, name = self.upload.source, self.upload.name
        for old, new in (f'{source}: ', ''), (str(source), name), (f'{source.stem}_out.', f'{name}_out.'):
            text = text.replace(old, new)
        return hide_paths(text, self.folder)


class JobQueue:
    """Runs jobs in the order in which they came, and keeps uploads for them; a context manager that ends all jobs.

    Args:
        settings: How many run and wait, and how long.
        on_end: Called with each job that has ended, in a thread of the queue.

    Attributes:
        memory: What the process of each worker used when that was last measured, by the worker's number.
    """

    def __init__(self, settings: Settings, on_end: Callable[[Job], None]) -> None:
        self._settings = settings
        self._on_end = on_end
        self._jobs: dict[str, Job] = {}
        self._uploads: dict[str, Upload] = {}
        self._speeds: dict[str, float] = {}  # seconds for a megapixel, by model, the last one that ran at the end
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._recent: deque[float] = deque(maxlen=10)  # seconds of the last jobs
        self.memory: dict[int, MemoryUse] = {}
        gpus = settings.gpu_id or (None,)
        self._threads = [threading.Thread(target=self._run_jobs, args=(number, Place(gpus[number % len(gpus)])),
                                          name=f'runner {number}') for number in range(settings.workers)]
        self._threads.append(threading.Thread(target=self._clean, name='cleaner'))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        with self._changed:
            for job in self._jobs.values():
                job.cancel.set()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            QueueFullError: too many wait.
        """
        with self._changed:
            self.require_room()
            self._jobs[job.identity] = job
            self._waiting.append(job)
            self._changed.notify()

    def require_room(self) -> None:
        """Check that a job may be submitted now.

        Raises:
            QueueFullError: too many wait; it says when to come back, more or less.
        """
        with self._changed:
            if len(self._waiting) >= self._settings.queue:
                each = sum(self._recent) / len(self._recent) if self._recent else FIRST_GUESS
                raise QueueFullError(max(round(each / self._settings.workers), 1))

    def get(self, identity: str) -> Job | None:
        """Return a job; None if there is none of that name."""
        return self._jobs.get(identity)

    def find_position(self, job: Job) -> int:
        """Return how many jobs are before one; 0 if it has its turn."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def remove(self, job: Job) -> None:
        """End a job if it has not ended, and remove all that is left of it."""
        job.cancel.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._end(job, CANCELLED)
            if job.state != RUNNING:  # else its runner does it
                self._forget(job)

    # ---- uploads ----

    def keep(self, upload: Upload) -> None:
        """Keep an upload for jobs, until it is removed, or neither clients nor jobs have needed it for `max_age`.

        Raises:
            StoreFullError: those that are kept are as large as the largest jobs that may wait and run.
        """
        with self._changed:
            room = (self._settings.queue + self._settings.workers) * self._settings.max_bytes
            if sum(other.bytes for other in self._uploads.values()) + upload.bytes > room:
                raise StoreFullError
            self._uploads[upload.identity] = upload

    def get_upload(self, identity: str) -> Upload | None:
        """Return an upload that is kept, which counts as a use; None if there is none of that name."""
        upload = self._uploads.get(identity)
        if upload is not None:
            upload.used = time.monotonic()
        return upload

    def remove_upload(self, upload: Upload) -> None:
        """Remove an upload as soon as no job needs it."""
        with self._changed:
            self._uploads.pop(upload.identity, None)
            if not any(job.upload is upload and job.finished is None for job in self._jobs.values()):
                shutil.rmtree(upload.folder, ignore_errors=True)

    def estimate(self, options: PictureOptions | VideoOptions, media: Media) -> float | None:
        """Return about how many seconds a file will take; None where the device or the number of frames is unknown.

        The last job of the model tells it, or else one of another model, whose network has more or fewer products.
        """
        if media.frames is None:
            return None
        model, speeds = options.model_name, self._speeds  # which a job that ends replaces
        if model in speeds:
            speed = speeds[model]
        elif speeds:
            other, known = next(reversed(speeds.items()))
            speed = known * _count_products(model) / _count_products(other)
        elif may_have_torch_gpus() or may_have_vulkan_gpus():
            return None
        else:
            speed = _count_products(model) * 1e6 / (_PRODUCTS_OF_A_CORE * count_cores())
        return speed * math.prod(media.size) / 1e6 * media.frames

    def _learn_speed(self, job: Job) -> None:
        """Remember how fast models were."""
        found = {each.model: each.speed for each in job.preview.tried if each.error is None} if job.preview else {}
        outcome = job.outcome
        if outcome is not None and job.state == DONE and outcome.seconds > _TELLING_SECONDS:
            found[job.options.model_name] = outcome.seconds / (math.prod(outcome.size) * outcome.frames / 1e6)
        self._speeds = {model: speed for model, speed in self._speeds.items() if model not in found} | found

    def list_jobs(self) -> list[Job]:
        """Return all jobs that are known."""
        with self._changed:
            return list(self._jobs.values())

    def count_states(self) -> Counter[str]:
        """Return how many jobs are in each state."""
        return Counter(job.state for job in self.list_jobs())

    # ---- threads ----

    def _run_jobs(self, number: int, place: Place) -> None:
        """Run one job after the other in a worker process until the service ends."""
        job: Job | None = None

        def check() -> None:
            if self._stopping.is_set() or (job is not None and job.cancel.is_set()):
                raise Cancelled
            if job is not None and job.seconds > self._settings.max_job_seconds:
                raise JobTimeoutError(self._settings.max_job_seconds)
        with ProcessPool(partial(JobWorker, self._settings.models_kept), [place], check) as pool:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
                    if self._stopping.is_set():
                        return
                    job = self._waiting.popleft()
                    job.state, job.started = RUNNING, time.monotonic()
                state = self._run(job, pool, number, place)
                with self._changed:
                    self._end(job, state)
                    self._recent.append(job.seconds)
                    if job.cancel.is_set():
                        self._forget(job)

    def _run(self, job: Job, pool: ProcessPool, number: int, place: Place) -> str:
        """Run a job; return how it ended."""
        def on_note(_task: JobTask, note: Event | MemoryUse) -> None:
            if isinstance(note, MemoryUse):
                self.memory[number] = note
            else:
                job.on_event(note)
        options = job.options if place.gpu_id is None else job.options.replace(gpu_id=(place.gpu_id,))
        try:
            task = JobTask(job.upload.source, job.folder, options)
            for _, error in pool.map_unordered([task], on_note):
                job.error = error
            if job.outcome is not None:
                job.error = job.outcome.error
        except Cancelled:
            self.memory.pop(number, None)  # the process is gone
            return CANCELLED
        except Exception as error:  # a bug must not end the thread, and with it the service
            job.error = explain(error)
            self.memory.pop(number, None)
        made = job.preview is not None or (job.outcome is not None and job.outcome.target is not None)
        if made and job.error is None:
            return DONE
        logger.error('job %s: %s', job.identity, flatten_message(job.error) if job.error else 'it made no result')
        if job.error is not None:
            logger.debug('job %s', job.identity, exc_info=job.error)
        return FAILED

    def _end(self, job: Job, state: str) -> None:
        job.state, job.finished = state, time.monotonic()
        self._learn_speed(job)
        if not job.upload.is_kept:
            with contextlib.suppress(OSError):  # it goes with its folder
                job.upload.source.unlink(missing_ok=True)
        elif job.upload.identity not in self._uploads:
            self.remove_upload(job.upload)
        self._on_end(job)
        job.ended.set()

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.identity, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _clean(self) -> None:
        """Remove jobs some time after their end, and uploads some time after their last use."""
        while not self._stopping.wait(SECONDS_BETWEEN_CLEANINGS):
            oldest = time.monotonic() - self._settings.max_age
            with self._changed:
                for job in self.list_jobs():
                    if job.finished is not None and job.finished < oldest:
                        self._forget(job)
                needed = {job.upload.identity for job in self._jobs.values()}
                for upload in [*self._uploads.values()]:
                    if upload.used < oldest and upload.identity not in needed:
                        self.remove_upload(upload)


def _count_products(model: str) -> float:
    """Return how many multiplications a model takes for each pixel."""
    layers = MODELS[model].network.layers()
    assert layers is not None  # all of ours are convolutions
    return layers.count_products()
