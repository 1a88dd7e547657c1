"""Run tasks on workers. A pool builds one worker for each place and gives every worker the next task when it is free.

A worker is any callable `worker(task, report) -> result`, made by `build(place)`: an object that holds an upsampler,
say. Nothing else is asked of it, so that tasks run alike in this process, in other processes, or elsewhere.

    with make_pool(build, places, check, isolate=False) as pool:
        for task, result in pool.map_unordered(tasks, on_note):
            ...

To add a pool, write a class with the methods of `Pool`, or a `RemotePool` of workers somewhere else, and add it to
tests/pool/test_pools.py.
"""
from __future__ import annotations

import contextlib
import logging
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, Self

from ..errors import EngineError, RealESRGANError, RunError, WorkerError, explain, flatten_message
from ..log import about

logger = logging.getLogger(__name__)

# A task may fail with these by itself. After any other error the worker may be broken, and another may do better.
TASK_ERRORS = (RealESRGANError, OSError)
#: How often a task is tried whose worker dies or breaks.
MOST_ATTEMPTS = 3
_END = object()
_MOST_AT_A_PLACE = 2  # by chance once (out of memory beside another program, say); twice may be the GPU


class Place:
    """Where a worker computes; equal to others of the same attributes.

    Attributes:
        gpu_id: Number of the GPU, or None for the first, or the CPU where there is none.
        workers: How many workers share it.
    """

    def __init__(self, gpu_id: int | None = None, workers: int = 1) -> None:
        self.gpu_id = gpu_id
        self.workers = workers

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.gpu_id, self.workers))

    def __str__(self) -> str:
        return 'the CPU or the first GPU' if self.gpu_id is None else f'GPU {self.gpu_id}'


def list_places(gpu_ids: Sequence[int], workers_per_gpu: int = 1) -> list[Place]:
    """Return the place of every worker, those of different GPUs in turn; without GPUs, the CPU or the first GPU."""
    return [Place(gpu, workers_per_gpu) for _ in range(workers_per_gpu) for gpu in gpu_ids or (None,)]


#: Tells the caller of the pool something from within a task, such as how far it is.
Report = Callable[[Any], None]
Worker = Callable[[Any, Report], Any]
#: Makes the worker of a place. Pools of processes pickle it: a class, a function or a partial of one.
Build = Callable[[Place], Worker]
#: Called with a task and a note of it.
OnNote = Callable[[Any, Any], None]
IsWanted = Callable[[Any], bool]


class Pool(Protocol):
    """Workers that do tasks, call after call; leaving the context ends all of them."""

    def map_unordered(self, tasks: Iterable[Any], on_note: OnNote,
                      is_wanted: IsWanted = lambda _: True) -> Iterator[tuple[Any, Any]]:
        """Yield each task with its result, or with the exception that it failed with, as they arrive.

        A worker that dies, or raises anything but a `RealESRGANError` or an `OSError` (lack of memory, an error of
        CUDA), is replaced and its task tried again, as often as the pool was told.

        Args:
            tasks: Taken one by one when a worker is free. If it is an iterator of `pipeline.read_ahead`, the pool does
                not wait for it while others work.
            on_note: Called in this thread. A `RunError`, or a `BaseException` that is no `Exception`, ends the tasks.
            is_wanted: Tells whether a task is to be done. One that is not is given up, even if it has begun, and
                nothing is yielded for it.

        Raises:
            RunError: no other task would fare better.
            EngineError: no worker can be built.
        """
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...


def make_pool(build: Build, places: Sequence[Place], check: Callable[[], None], *, isolate: bool,
              attempts: int = MOST_ATTEMPTS) -> Pool:
    """Return this process as the only worker if one is enough, else a process for each place.

    Args:
        build: Makes each worker.
        places: Where they compute.
        check: Called several times a second while processes work; what it raises ends the tasks.
        isolate: Whether even a single worker gets a process of its own, which can be replaced when a GPU fails.
        attempts: How often a task is tried whose worker dies or breaks.
    """
    if len(places) == 1 and not isolate:
        return SerialPool(build, places[0], attempts)
    from .processes import ProcessPool
    return ProcessPool(build, places, check, attempts)


class SerialPool:
    """Runs the tasks one after the other in this process.

    Args:
        build: Makes the worker, before the first task.
        place: Where it computes.
        attempts: See `make_pool`.
    """

    def __init__(self, build: Build, place: Place, attempts: int = MOST_ATTEMPTS) -> None:
        self._build = build
        self._place = place
        self._attempts = min(attempts, _MOST_AT_A_PLACE)
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker = None

    def map_unordered(self, tasks: Iterable[Any], on_note: OnNote,
                      is_wanted: IsWanted = lambda _: True) -> Iterator[tuple[Any, Any]]:
        """See `Pool`."""
        for task in tasks:
            if is_wanted(task):
                yield task, self._try(task, partial(on_note, task))

    def _try(self, task: Any, report: Report) -> Any:
        attempt = 1
        while True:
            try:
                if self._worker is None:
                    with about(''):  # not about the first file more than about the others
                        self._worker = self._build(self._place)
                return self._worker(task, report)
            except RunError:
                raise
            except Exception as error:
                is_built = self._worker is not None
                if isinstance(error, TASK_ERRORS):
                    if not is_built:
                        raise
                    return error
                if attempt >= (self._attempts if is_built else _MOST_AT_A_PLACE):
                    if not is_built:
                        raise EngineError(f'no worker can be built: {flatten_message(error)}') from error
                    self._worker = None
                    return explain(error)
                reason = flatten_message(error)  # not the error, which holds on to the memory of all its frames
            logger.warning('%s failed: %s; it is tried again', task, reason)
            self._worker, attempt = None, attempt + 1


class _Order:
    """A task, and the places where it was tried."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.places: list[Place] = []


class RemoteWorker:
    """A worker somewhere else.

    Args:
        place: Where it computes.

    Attributes:
        order: What it is working on.
        is_ready: Whether it may be given a task; else it sends ('ready', None) when it becomes so.
        is_built: Whether it has sent ('built', None): its network is loaded.
        name: Follows the warnings of a worker whose machine matters; '' elsewhere.
    """

    name = ''

    def __init__(self, place: Place) -> None:
        self.place = place
        self.order: _Order | None = None
        self.is_ready = True
        self.is_built = False

    @property
    def is_coming(self) -> bool:
        """Whether it is expected to be ready in a moment."""
        return False

    def submit(self, task: Any) -> None:
        """Let it work on a task."""
        raise NotImplementedError

    def terminate(self) -> None:
        """End it, without waiting for its end."""
        raise NotImplementedError

    def join(self) -> str:
        """Wait for its end, and return how it ended."""
        raise NotImplementedError


#: From a worker: a kind and a content. Kinds: 'ready', 'built', 'note', 'log' (a record), 'result', 'fault' (an error
#: of the task), 'failure' (an error that another worker may not have) and 'lost' (the worker has ended).
Message = tuple[RemoteWorker, str, Any]


class RemotePool:
    """Gives tasks to workers that are somewhere else, and takes their messages; see `Pool`.

    Args:
        places: Where each worker computes; a place listed twice gets two workers.
        check: Called several times a second while tasks are done; what it raises ends them.
        attempts: See `make_pool`.
    """

    def __init__(self, places: Sequence[Place], check: Callable[[], None], attempts: int) -> None:
        self._places = places
        self._check = check
        self._attempts = attempts
        self._workers: list[RemoteWorker] = []
        self._waiting: deque[_Order] = deque()  # taken for workers that are free, or will be in a moment
        self._logged: set[str] = set()  # by workers while they were built

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(self._workers)

    def map_unordered(self, tasks: Iterable[Any], on_note: OnNote,
                      is_wanted: IsWanted = lambda _: True) -> Iterator[tuple[Any, Any]]:
        """See `Pool`."""
        source: Iterator[Any] | None = iter(tasks)
        finished: list[tuple[Any, Any]] = []
        try:
            while True:
                self._check()
                self._find_places()
                yield from finished  # first: after a failure the caller may not want other tasks any more
                finished.clear()
                self._give_up(is_wanted)
                busy = sum(worker.order is not None for worker in self._workers)
                free = max(len(self._places), len(self._workers)) - busy
                while source and getattr(source, 'is_ready', True) and len(self._waiting) < free:
                    task = next(source, _END)
                    if task is _END:
                        source = None
                    elif is_wanted(task):  # else a worker would be ended for it at once
                        self._waiting.append(_Order(task))
                self._hand_out()
                if not source and not any(worker.order for worker in self._workers) and not self._waiting:
                    return
                for worker, kind, content in self._receive():
                    if worker in self._workers:  # else it was ended since
                        finished += self._take(worker, kind, content, on_note)
        finally:
            self._give_up(lambda _: False)

    # ---- each kind of pool has its own ----

    def _open(self, place: Place) -> RemoteWorker:
        """Start a worker."""
        raise NotImplementedError

    def _receive(self) -> Iterator[Message]:
        """Yield messages of the workers; wait for one, but not much longer than `check` may wait."""
        raise NotImplementedError

    def _find_places(self) -> None:
        """Update the places, where they change."""

    def _on_lost(self, worker: RemoteWorker, how: str) -> None:
        """Act on the death of a worker, before its task is tried again."""

    def _give_up(self, is_wanted: IsWanted) -> None:
        """Give up the tasks that are not wanted; their workers are ended."""
        self._waiting = deque(order for order in self._waiting if is_wanted(order.task))
        self._end([worker for worker in self._workers if worker.order and not is_wanted(worker.order.task)])

    def _hand_out(self) -> None:
        """Give waiting tasks to idle workers, and start workers where there is none yet."""
        for worker in self._workers:
            self._give(worker)
        coming = sum(worker.is_coming for worker in self._workers)
        taken = Counter(worker.place for worker in self._workers)
        for place in self._places:
            if taken[place]:
                taken[place] -= 1
            elif sum(self._may_try(order, place) for order in self._waiting) > coming:
                self._workers.append(self._open(place))
                self._give(self._workers[-1])
                coming += self._workers[-1].is_coming

    def _give(self, worker: RemoteWorker) -> None:
        """Give an idle worker the first waiting task that it may try."""
        if worker.order is None and worker.is_ready:
            order = next((order for order in self._waiting if self._may_try(order, worker.place)), None)
            if order is not None:
                self._waiting.remove(order)
                order.places.append(worker.place)
                worker.order = order
                worker.submit(order.task)

    def _may_try(self, order: _Order, place: Place) -> bool:
        return order.places.count(place) < _MOST_AT_A_PLACE or {*self._places} <= {place}

    def _take(self, worker: RemoteWorker, kind: str, content: Any, on_note: OnNote) -> list[tuple[Any, Any]]:
        """Act on a message; return the task and its result, or its error, if it is finished."""
        order = worker.order
        if kind == 'ready':
            worker.is_ready = True
        elif kind == 'built':
            worker.is_built = True
        elif kind in ('lost', 'failure'):
            return self._replace(worker, kind, content)
        elif order is None:
            pass  # its task was given up
        elif kind == 'log':
            self._log(worker, content)
        elif kind == 'note':
            on_note(order.task, content)
        else:
            worker.order = None
            if kind == 'fault':
                if worker.name:
                    logger.warning('%s failed%s', order.task, worker.name)
                if isinstance(content, RunError) or not worker.is_built:
                    raise content
            return [(order.task, content)]
        return []

    def _log(self, worker: RemoteWorker, record: logging.LogRecord) -> None:
        """Log a worker's record; messages that every worker logs while it is built are logged once."""
        if record.levelno >= logging.WARNING and worker.name:
            record.msg, record.args = f'{record.getMessage()}{worker.name}', ()
        if not worker.is_built:
            if record.getMessage() in self._logged:
                return
            self._logged.add(record.getMessage())
        logging.getLogger(record.name).handle(record)

    def _replace(self, worker: RemoteWorker, kind: str, content: Any) -> list[tuple[Any, Any]]:
        """End a worker that was lost, or failed; let its task be tried again, or return it with its error."""
        self._workers.remove(worker)
        if kind == 'failure':
            worker.terminate()
        how = worker.join()
        if kind == 'failure':
            how = f'failed: {flatten_message(content)}'
        else:
            self._on_lost(worker, how)
        order = worker.order
        if order is None:  # those that are left do the rest
            return []
        most = self._attempts if worker.is_built else MOST_ATTEMPTS
        if len(order.places) < (most if {*self._places} - {worker.place} else min(most, _MOST_AT_A_PLACE)):
            logger.warning('a worker on %s %s; %s is tried again', worker.place, how, order.task)
            self._waiting.appendleft(order)
            return []
        reason = f'a worker on {worker.place} {how}'
        if not worker.is_built:
            raise EngineError(f'no worker can be built: {reason}') from content
        if kind == 'failure' and not isinstance(content, MemoryError):
            return [(order.task, explain(content))]
        error = WorkerError(reason)
        error.__cause__ = content
        return [(order.task, error)]

    def _end(self, workers: Sequence[RemoteWorker]) -> None:
        if not workers:
            return
        with ignore_interrupts():  # a second Ctrl-C would leave workers behind
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join()
        self._workers = [worker for worker in self._workers if worker not in workers]


@contextlib.contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C inside the block, in processes started there too."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # only the main thread may, and only it is interrupted
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
