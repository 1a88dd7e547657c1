"""Run tasks in processes, each with a place of its own: `multiprocessing.Pool`, but for days of work.

A worker that dies is replaced and its task tried again, and no worker outlives this process.
"""
from __future__ import annotations

import contextlib
import logging
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol, Self

from ..errors import WorkerError, flatten_message
from .options import Place
from .pool import BuildWorker, Report
from .worker_process import PATIENCE_SECONDS, serve

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_CHECKS = 0.2
_CONTEXT = multiprocessing.get_context('spawn')  # a fork would copy locks that threads hold, and CUDA forbids it


@dataclass
class Order:
    """A task, and how often it was tried."""

    task: Any
    attempts: int = 0


class RemoteWorker(Protocol):
    """A worker somewhere else.

    Attributes:
        place: Where it computes.
        order: What it is working on.
        connection: Its messages come out of it (see `worker_process`); it ends when the worker does.
    """

    place: Place
    order: Order | None
    connection: Any

    def give(self, order: Order) -> None:
        """Let it work on a task."""
        ...

    def terminate(self) -> None:
        """End it, without waiting for its end."""
        ...

    def join(self) -> str:
        """Wait for its end, and return how it ended."""
        ...


class _Process:
    """A worker's process, the connection to it, and the order it is working on."""

    def __init__(self, build: BuildWorker[Any, Any], place: Place) -> None:
        self.place = place
        self.order: Order | None = None
        self.connection, theirs = _CONTEXT.Pipe()
        level = logging.getLogger('realesrgan').level
        self._process = _CONTEXT.Process(daemon=True, target=serve, args=(theirs, level, build, place))
        with _ignore_interrupts():  # it inherits this: ending workers on Ctrl-C is our business, not theirs
            self._process.start()
        theirs.close()

    def give(self, order: Order) -> None:
        order.attempts += 1
        self.order = order
        with contextlib.suppress(OSError):  # it is dead, as its connection will say in a moment
            self.connection.send(order.task)

    def terminate(self) -> None:
        self._process.terminate()

    def join(self) -> str:
        """Wait until the process is gone, kill it if that takes too long, and return how it ended."""
        self._process.join(PATIENCE_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        status = self._process.exitcode or 0
        self._process.close()
        self.connection.close()
        if status == -9:  # SIGKILL, for which Windows has no name
            return 'was killed, as the system does when memory runs out'
        return f'was ended by signal {-status}' if status < 0 else f'ended with status {status}'


class ProcessPool:
    """Runs tasks in processes; see `Pool`.

    A worker that dies, or raises anything but a `RealESRGANError` or an `OSError` (lack of memory, an error of CUDA),
    is replaced. Its task is tried once more in the same place, then in another place if there is one, and then the
    run ends with a `WorkerError`.

    Args:
        build: Called in each process before its first task. Pickled, as tasks and results are.
        places: Where each worker computes; a place listed twice gets two workers.
        check: Called in the thread that waits for results, several times a second; what it raises ends the tasks.
    """

    def __init__(self, build: BuildWorker[Any, Any], places: Sequence[Place],
                 check: Callable[[], None] = lambda: None) -> None:
        self._build = build
        self._places = places
        self._check = check
        self._processes: list[RemoteWorker] = []
        self._waiting: deque[Order] = deque()
        self._said: set[str] = set()  # by workers while they were built

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(self._processes)

    def map_unordered(self, tasks: Iterable[Any], on_note: Report) -> Iterator[Any]:
        """See `Pool`."""
        self._waiting = deque(Order(task) for task in tasks)
        try:
            self._hand_out()
            yield from self._collect(on_note)
        finally:
            self._waiting.clear()
            self._end([process for process in self._processes if process.order])  # after an error

    def _hand_out(self) -> None:
        """Give what is waiting to workers that are idle, and start workers where there is none yet."""
        for process in self._processes:
            if self._waiting and process.order is None:
                process.give(self._waiting.popleft())
        taken = Counter(process.place for process in self._processes)
        for place in self._places:
            if taken[place]:
                taken[place] -= 1
            elif self._waiting:
                self._start(place, self._waiting.popleft())

    def _collect(self, on_note: Report) -> Iterator[Any]:
        """Yield results and hand out what is waiting, until every order is done."""
        while self._waiting or any(process.order for process in self._processes):
            self._check()
            by_connection: dict[Any, RemoteWorker] = {process.connection: process for process in self._processes}
            for connection in wait(by_connection, _SECONDS_BETWEEN_CHECKS):
                process = by_connection[connection]
                kind, content = _receive(process)
                if kind == 'result':
                    process.order = None
                    self._hand_out()
                    yield content
                elif kind == 'death':
                    self._replace(process, None)
                elif kind == 'failure':
                    self._replace(process, content)
                elif kind == 'fault':
                    raise content
                elif kind == 'log':
                    self._log(process, content)
                else:
                    on_note(content)

    def _log(self, process: RemoteWorker, record: logging.LogRecord) -> None:
        """Log a worker's record; what all of them say of how they are built is logged once."""
        if record.subject == '':  # type: ignore[attr-defined]  # set by `worker_process`
            if record.getMessage() in self._said:
                return
            self._said.add(record.getMessage())
        logging.getLogger(record.name).handle(record)

    def _open(self, place: Place) -> RemoteWorker:
        """Start a worker."""
        return _Process(self._build, place)

    def _start(self, place: Place, order: Order) -> None:
        self._processes.append(self._open(place))
        self._processes[-1].give(order)

    def _end(self, processes: Sequence[RemoteWorker]) -> None:
        with _ignore_interrupts():  # a second Ctrl-C would leave workers behind
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()
        self._processes = [process for process in self._processes if process not in processes]

    def _replace(self, process: RemoteWorker, failure: BaseException | None) -> None:
        """End a worker that died (no failure) or failed, and give its task to a new one.

        Raises:
            WorkerError: the task has been tried often enough.
        """
        self._processes.remove(process)
        if failure is not None:
            process.terminate()
        how = process.join()
        if failure is not None:
            how = f'failed: {flatten_message(failure)}'
        if process.order is not None:  # else it was idle, and those that are left do the rest
            self._retry(process, process.order, how, failure)

    def _retry(self, process: RemoteWorker, order: Order, how: str, failure: BaseException | None) -> None:
        """Give the task of a worker that ended to another.

        Raises:
            WorkerError: the task has been tried often enough.
        """
        place = self._place_for_retry(process.place, order.attempts)
        if place is None:
            raise WorkerError(f'a worker on {process.place} {how}') from failure
        logger.warning('a worker on %s %s; its work is tried again on %s', process.place, how, place)
        self._start(place, order)

    def _place_for_retry(self, failed: Place, attempts: int) -> Place | None:
        """Return where a task is tried next after so many attempts, the last of them at `failed`; None for nowhere."""
        if attempts == 1:  # it may have been chance: out of memory beside another program, say
            return failed
        others = [place for place in self._places if place != failed]
        if attempts == 2 and others:  # it may be the GPU
            return others[0]
        return None  # it is the task


def _receive(process: RemoteWorker) -> tuple[str, Any]:
    """Return a worker's message: its kind and content."""
    try:
        message: tuple[str, Any] = process.connection.recv()
    except (EOFError, OSError):
        return 'death', None
    return message


@contextlib.contextmanager
def _ignore_interrupts() -> Iterator[None]:
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
