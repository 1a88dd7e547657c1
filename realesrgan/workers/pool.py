"""Run tasks on workers. A pool builds one worker for each place and gives every worker the next task when it is free.

A worker is any callable `worker(task, report) -> result`, made once by `build(place)`: an object that holds an
upsampler, say. Nothing else is asked of it, so that tasks run alike in this process, in other processes, or elsewhere.
To add a pool, write a class with the methods of `Pool` and add it to tests/workers/test_pools.py.
"""
from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeVar

from ..errors import EngineError, RealESRGANError, RunError, explain, flatten_message
from ..log import about
from .options import Place

logger = logging.getLogger(__name__)

Task = TypeVar('Task')
Result = TypeVar('Result')
Task_contra = TypeVar('Task_contra', contravariant=True)
Result_co = TypeVar('Result_co', covariant=True)

#: Tells whoever runs the pool something from within a task, such as how far it is.
Report = Callable[[Any], None]


class Worker(Protocol[Task_contra, Result_co]):
    """Does one task after the other."""

    def __call__(self, task: Task_contra, report: Report, /) -> Result_co: ...


#: Makes the worker of a place. Pools of processes pickle it: a class, a function or a partial of one.
BuildWorker = Callable[[Place], Worker[Task, Result]]

#: Called with a task that has failed, and its error.
OnError = Callable[[Any, Exception], None]

# What a task may fail with by itself. After anything else the worker may be broken, and another may do better.
TASK_ERRORS = (RealESRGANError, OSError)


class Pool(Protocol):
    """Workers that share tasks, call after call; leaving the context ends all of them."""

    def map_unordered(self, tasks: Iterable[Any], on_note: Report, on_error: OnError | None = None) -> Iterator[Any]:
        """Yield the result of each task as it arrives.

        Args:
            tasks: What the workers do.
            on_note: Called in this thread with what tasks report. What it raises ends the tasks.
            on_error: Called in this thread for each task that fails; the others go on. None raises the error of the
                first one instead, and gives up the others; the pool can be used again.

        Raises:
            RunError: no other task would fare better, whatever `on_error` is.
            EngineError: no worker can be built.
            RealESRGANError, OSError, MemoryError: the error of a task (see `errors.explain`).
            WorkerError: workers died over a task, or ran out of memory.
        """
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...


class SerialPool:
    """Runs the tasks one after the other in this process.

    Args:
        build: Makes the worker, before the first task.
        place: Where it computes.
    """

    def __init__(self, build: BuildWorker[Any, Any], place: Place) -> None:
        self._build = build
        self._place = place
        self._worker: Worker[Any, Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker = None

    def map_unordered(self, tasks: Iterable[Any], on_note: Report, on_error: OnError | None = None) -> Iterator[Any]:
        """See `Pool`. A worker that is short of memory, or broken, is built anew and tries the task once more."""
        by_listener: list[BaseException] = []

        def report(note: Any) -> None:
            try:
                on_note(note)
            except BaseException as error:
                by_listener.append(error)
                raise

        for task in tasks:
            try:
                result = self._try_twice(task, report, by_listener)
            except Exception as error:
                if on_error is None or error in by_listener or self._worker is None or isinstance(error, RunError):
                    raise
                on_error(task, error)
            else:
                yield result

    def _try_twice(self, task: Any, report: Report, by_listener: Sequence[BaseException]) -> Any:
        is_last, ended = False, 0
        while True:
            try:
                return self._run(task, report)
            except TASK_ERRORS:
                raise
            except Exception as error:
                if len(getattr(task, 'ended', ())) > ended:  # it got on, so this is another failure
                    is_last, ended = False, len(task.ended)
                if error in by_listener:
                    raise
                if is_last and self._worker is None:
                    raise EngineError(f'no worker can be built: {flatten_message(error)}') from error
                if is_last:
                    raise explain(error)  # noqa: B904  # its cause is set
                reason = flatten_message(error)  # not the error, which holds on to the memory of all its frames
            logger.warning('the work failed: %s; it is tried again', reason)
            self._worker, is_last = None, True

    def _run(self, task: Any, report: Report) -> Any:
        if self._worker is None:
            with about(''):  # not about the first file more than about the others
                self._worker = self._build(self._place)
        return self._worker(task, report)


def make_pool(build: BuildWorker[Any, Any], places: Sequence[Place], check: Callable[[], None], *,
              isolate: bool) -> Pool:
    """Return this process as the only worker if one is enough, else a process for each place.

    Args:
        build: Makes each worker.
        places: Where they compute.
        check: Called several times a second while processes work; what it raises ends the tasks.
        isolate: Whether even a single worker gets a process of its own, which can be replaced when a GPU fails.
    """
    if len(places) == 1 and not isolate:
        return SerialPool(build, places[0])
    from .process_pool import ProcessPool
    return ProcessPool(build, places, check)
