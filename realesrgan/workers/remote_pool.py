"""Give tasks to workers that are somewhere else, and pass on what they say: what pools of workers have in common."""
from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Self
from weakref import WeakSet

from ..errors import Cancelled, EngineError, WorkerError, explain, flatten_message
from .options import Place
from .orders import Call, Order, RemoteWorker
from .pool import OnError, Report

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_CHECKS = 0.2


class RemotePool:
    """The tasks of one or several threads, and the workers that do them. See `Pool`.

    A thread that calls `map_unordered` moves things on itself, unless another serves it: see `serve_threads`.

    Args:
        places: Where each worker computes; a place listed twice gets two workers.
        check: Called several times a second while tasks are done; what it raises ends them.
    """

    def __init__(self, places: Sequence[Place], check: Callable[[], None]) -> None:
        self._places = places
        self._check = check
        self._workers: list[RemoteWorker] = []
        self._calls: list[Call] = []
        self._callers: WeakSet[threading.Thread] = WeakSet()
        self._waiting: deque[Order] = deque()
        self._said: set[str] = set()  # logged by workers while they were built
        # All of the above belongs to one thread, that of the only caller or that which serves others; they ask it.
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._server: int | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end(self._workers)

    def map_unordered(self, tasks: Iterable[Any], on_note: Report, on_error: OnError | None = None) -> Iterator[Any]:
        """See `Pool`.

        Raises:
            Cancelled: this thread was served by another one, which has stopped.
        """
        call = Call(tasks, keeps_going=on_error is not None)
        left = len(call.orders)
        self._requests.put(partial(self._begin, call))
        try:
            while left:
                kind, content = self._wait_for(call)
                if kind == 'result':
                    left -= 1
                    yield content
                elif kind == 'fault':
                    raise content
                elif kind == 'error':
                    left -= 1
                    assert on_error is not None  # or it would have been a fault
                    on_error(*content)
                elif kind == 'log':
                    logging.getLogger(content.name).handle(content)
                elif kind == 'warning':
                    logger.warning('%s', content)
                else:
                    on_note(content)
        finally:
            call.given_up = True
            self._requests.put(partial(self._finish, call))
            while not self._closed and not call.is_over.wait(0 if self._is_mine else _SECONDS_BETWEEN_CHECKS):
                if self._is_mine:
                    self._do_requests()

    @contextlib.contextmanager
    def serve_threads(self) -> Iterator[None]:
        """Let other threads call `map_unordered` inside the block, in which this one calls `step` again and again."""
        self._server = threading.get_ident()
        try:
            yield
        finally:
            self._end([worker for worker in self._workers if worker.order])
            self._closed = True

    def step(self) -> None:
        """Start workers, hand out tasks and pass on what workers say; wait a moment for it if need be."""
        self._check()
        self._do_requests()
        by_connection: dict[Any, RemoteWorker] = {worker.connection: worker for worker in self._workers}
        if not by_connection:
            time.sleep(_SECONDS_BETWEEN_CHECKS)
        for connection in wait(by_connection, _SECONDS_BETWEEN_CHECKS):
            if by_connection[connection] in self._workers:  # else another's end was its end too
                self._receive(by_connection[connection])

    def has_called(self, thread: threading.Thread) -> bool:
        """Tell whether a thread has given tasks, done or not."""
        return thread in self._callers

    def is_calling(self, thread: threading.Thread) -> bool:
        """Tell whether a thread waits for its tasks to be done."""
        return any(call.thread is thread for call in self._calls)

    @property
    def is_hungry(self) -> bool:
        """Whether fewer tasks are waiting than there are workers."""
        return len(self._waiting) < max(len(self._places), 1)

    # ---- what callers ask for ----

    @property
    def _is_mine(self) -> bool:
        """Whether this thread is the one that moves things on."""
        return self._server in (None, threading.get_ident())

    def _wait_for(self, call: Call) -> tuple[str, Any]:
        """Return the next message to a call."""
        while True:
            if self._is_mine and call.inbox.empty():
                self.step()
                continue
            with contextlib.suppress(queue.Empty):
                return call.inbox.get(timeout=_SECONDS_BETWEEN_CHECKS)
            if self._closed:
                raise Cancelled

    def _do_requests(self) -> None:
        while not self._requests.empty():
            self._requests.get()()

    def _begin(self, call: Call) -> None:
        self._calls.append(call)
        self._callers.add(call.thread)
        if not call.given_up:
            self._prepare()
            self._waiting.extend(call.orders)
            self._hand_out()

    def _finish(self, call: Call) -> None:
        """Give up what is left of a call."""
        self._calls.remove(call)
        self._waiting = deque(order for order in self._waiting if order.call is not call)
        self._end([worker for worker in self._workers if worker.order and worker.order.call is call])
        call.is_over.set()
        self._hand_out()

    # ---- workers ----

    def _hand_out(self) -> None:
        """Give what is waiting to workers that are idle, and start workers where there is none yet."""
        for worker in self._workers:
            self._give_next(worker)
        coming = sum(worker.is_coming for worker in self._workers)
        taken = Counter(worker.place for worker in self._workers)
        for place in self._places:
            if taken[place]:
                taken[place] -= 1
            elif len(self._waiting) > coming:
                self._workers.append(self._open(place))
                self._give_next(self._workers[-1])
                coming += self._workers[-1].is_coming

    def _give_next(self, worker: RemoteWorker) -> None:
        if self._waiting and worker.order is None and worker.is_ready:
            worker.give(self._waiting.popleft())

    def _receive(self, worker: RemoteWorker) -> None:
        """Take a worker's next message, and pass on what is its caller's."""
        try:
            kind, content = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker, None)
            return
        order = worker.order
        if kind == 'ready':
            worker.is_ready = True
            self._hand_out()
        elif kind == 'built':
            worker.is_built = True
        elif kind == 'failure':
            self._replace(worker, content)
        elif order is None or (kind == 'log' and not self._pick_log(worker, content)):
            pass  # nobody's, or said already
        elif kind == 'fault':
            worker.order = None
            self._note_fault(worker, order)
            order.call.fail(order, content, others_too=not worker.is_built)
            if not order.call.given_up:
                self._hand_out()
        else:
            if kind == 'result':
                worker.order = None
                self._hand_out()
            order.call.inbox.put((kind, content))

    def _pick_log(self, worker: RemoteWorker, record: logging.LogRecord) -> bool:
        """Tell whether a worker's record is to be logged; what every worker logs while it is built is logged once."""
        if record.subject != '':  # type: ignore[attr-defined]  # set by `worker_process`
            return True
        is_new = record.getMessage() not in self._said
        self._said.add(record.getMessage())
        return is_new

    def _open(self, place: Place) -> RemoteWorker:
        """Start a worker."""
        raise NotImplementedError

    def _retry(self, worker: RemoteWorker, order: Order, how: str, failure: Exception | None) -> bool:
        """Give the task of a worker that ended to another, unless it has been tried often enough; return whether."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Do what is to be done before the tasks of a call are handed out."""

    def _note_fault(self, worker: RemoteWorker, order: Order) -> None:
        """Do what is to be done about a task that has failed, before its caller hears of it."""

    def _note_death(self, worker: RemoteWorker, how: str) -> None:
        """Do what is to be done about a worker that has died, before its task is tried again."""

    def _end(self, workers: Sequence[RemoteWorker]) -> None:
        with ignore_interrupts():  # a second Ctrl-C would leave workers behind
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.join()
        self._workers = [worker for worker in self._workers if worker not in workers]

    def _replace(self, worker: RemoteWorker, failure: Exception | None) -> None:
        """End a worker that died (no failure) or failed, and give its task to a new one."""
        self._workers.remove(worker)
        if failure is not None:
            worker.terminate()
        how = worker.join()
        if failure is not None:
            how = f'failed: {flatten_message(failure)}'
        else:
            self._note_death(worker, how)
        order = worker.order
        if order is None or order.call.given_up:  # those that are left do the rest
            return
        if self._retry(worker, order, how, failure):
            return
        if not worker.is_built:
            error: Exception = EngineError(f'no worker can be built: a worker on {worker.place} {how}')
            error.__cause__ = failure
        elif failure is None or isinstance(failure, MemoryError):
            error = WorkerError(f'a worker on {worker.place} {how}')
            error.__cause__ = failure
        else:
            error = explain(failure)
        order.call.fail(order, error, others_too=not worker.is_built)
        if not order.call.given_up:
            self._hand_out()


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
