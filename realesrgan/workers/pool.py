"""Run tasks in several processes, each with a device of its own.

`Pool` is what is used of `multiprocessing.Pool`, so that another one with its methods can stand in. Ours differs in
what a film of days needs: a worker that dies is replaced, its task tried again, and none outlives this process.
"""
from __future__ import annotations

import contextlib
import functools
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, Self, TypeVar

from ..errors import RealESRGANError, WorkerError, one_line
from ..log import with_subject

logger = logging.getLogger(__name__)

Task = TypeVar('Task')
Result = TypeVar('Result')
Initializer = Callable[..., None]

_PATIENCE_SECONDS = 10  # for a worker that was asked to end
_CONTEXT = multiprocessing.get_context('spawn')  # a fork would take the threads' locks along, and CUDA forbids it


class Pool(Protocol):
    """The methods that are used of `multiprocessing.Pool`; leaving the context ends all workers."""

    def imap_unordered(self, func: Callable[[Task], Result], iterable: Iterable[Task]) -> Iterator[Result]:
        """Yield the result of `func` for each item as they come; raise what the first that fails has raised."""
        ...

    def terminate(self) -> None:
        """Stop the workers at once, but in order."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...


# ---- within a worker ----

_report: Callable[[Any], None] | None = None


def report(note: Any) -> None:
    """Tell who runs the pool something from within a task, as how far it is; no pool but ours hears it."""
    if _report is not None:
        _report(note)


# ---- a pool of one: this process ----

class SerialPool:
    """Runs the tasks one after the other in this process.

    Args:
        initializer, initargs: Called before the first task.
        on_note: Called with what a task reports.
    """

    def __init__(self, initializer: Initializer, initargs: Sequence[Any],
                 on_note: Callable[[Any], None] | None = None) -> None:
        self._initialize: Callable[[], None] | None = lambda: initializer(*initargs)
        self._on_note = on_note

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.terminate()

    def imap_unordered(self, func: Callable[[Task], Result], iterable: Iterable[Task]) -> Iterator[Result]:
        """See `Pool`; what is neither a `RealESRGANError`, an `OSError` nor a `MemoryError` becomes a `WorkerError`."""
        global _report
        for task in iterable:
            if self._initialize is not None:
                self._initialize()
                self._initialize = None
            _report = self._on_note
            try:
                result = func(task)
            except (RealESRGANError, OSError, MemoryError):
                raise
            except Exception as error:
                raise WorkerError(f'the work failed: {one_line(error)}') from error
            finally:
                _report = None
            yield result

    def terminate(self) -> None:
        """See `Pool`: nothing runs now."""


# ---- a pool of processes ----

@dataclass
class _Order:
    """A task, and how often it was tried."""

    task: Any
    attempts: int = 0


class _Worker:
    """A process with a device, and the connection to it."""

    def __init__(self, initializer: Initializer, initargs: Sequence[Any], device: object) -> None:
        self.device = device
        self.order: _Order | None = None
        self.connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(daemon=True, target=_serve, args=(
            theirs, logging.getLogger('realesrgan').level, initializer, (*initargs, device)))
        with _interrupts_ignored():
            self._process.start()
        theirs.close()

    def give(self, func: Callable[[Any], Any], order: _Order) -> None:
        order.attempts += 1
        self.order = order
        with contextlib.suppress(OSError):  # it is dead, which its connection says in a moment
            self.connection.send((func, order.task))

    def ask_to_end(self) -> None:
        self._process.terminate()

    def end(self) -> str:
        """Make sure that it is gone, and say how it ended."""
        self._process.join(_PATIENCE_SECONDS)
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
    """Runs tasks in processes, one for each of the devices given; each takes the next task when it is free.

    Where a worker dies, or fails with what is neither a `RealESRGANError` nor an `OSError`, as a lack of memory or an
    error of CUDA, it is replaced and its task tried once more on the same device, then on another if there is one. Then
    the run ends with a `WorkerError`.

    Args:
        devices: What each worker gets as the last argument of `initializer`; one that stands there twice has two.
        initializer, initargs: Called in each worker before its first task. Pickled, as tasks and results are.
        on_note: Called in this process, while it waits for a result, with what tasks report.
    """

    def __init__(self, devices: Sequence[object], initializer: Initializer, initargs: Sequence[Any],
                 on_note: Callable[[Any], None] | None = None) -> None:
        self._devices = devices
        self._initializer, self._initargs = initializer, initargs
        self._on_note = on_note
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.terminate()

    def imap_unordered(self, func: Callable[[Task], Result], iterable: Iterable[Task]) -> Iterator[Result]:
        """See `Pool`."""
        waiting = deque(_Order(task) for task in iterable)
        for device in self._devices[:len(waiting)]:
            self._workers.append(self._start(device))
            self._workers[-1].give(func, waiting.popleft())
        while any(worker.order for worker in self._workers):
            by_connection: dict[Any, _Worker] = {worker.connection: worker for worker in self._workers}
            for connection in wait(by_connection):
                worker = by_connection[connection]
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    kind, content = 'death', None
                if kind == 'result':
                    worker.order = None
                    if waiting:
                        worker.give(func, waiting.popleft())
                    yield content
                elif kind in ('death', 'failure'):
                    self._replace(worker, func, content)
                else:
                    self._hear(kind, content)

    def _start(self, device: object) -> _Worker:
        return _Worker(self._initializer, self._initargs, device)

    def _hear(self, kind: str, content: Any) -> None:
        if kind == 'fault':
            raise content
        if kind == 'log':
            logging.getLogger(content.name).handle(content)
        elif self._on_note is not None:
            self._on_note(content)

    def _replace(self, worker: _Worker, func: Callable[[Task], Result], failure: BaseException | None) -> None:
        """Put another worker in the place of one that failed, on the same device for the second attempt at its task.

        Raises:
            WorkerError: its task has failed too often.
        """
        self._workers.remove(worker)
        if failure is not None:
            worker.ask_to_end()
        how = worker.end()
        if worker.order is None:
            return
        if failure is not None:
            how = f'failed: {one_line(failure)}'
        others = [device for device in self._devices if device != worker.device]
        devices = [worker.device, *others[:1]][worker.order.attempts - 1:]
        if not devices:
            raise WorkerError(f'a worker on {worker.device} {how}') from failure
        logger.warning('a worker on %s %s; its work is tried again on %s', worker.device, how, devices[0])
        self._workers.append(self._start(devices[0]))
        self._workers[-1].give(func, worker.order)

    def terminate(self) -> None:
        """See `Pool`."""
        with _interrupts_ignored():  # a second Ctrl-C would leave workers behind
            for worker in self._workers:
                worker.ask_to_end()
            for worker in self._workers:
                worker.end()
            self._workers.clear()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C; a process that is started meanwhile never hears it: it is this process's to end it."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(connection: Connection, level: int, initializer: Initializer, initargs: Sequence[Any]) -> None:
    """Be a worker: take tasks and send results, until the connection or the parent process ends."""
    global _report
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    send = _Sender(connection)
    root = logging.getLogger('realesrgan')
    root.handlers, root.propagate = [logging.handlers.QueueHandler(send)], False  # type: ignore[arg-type]
    root.setLevel(level)
    _report = functools.partial(send, 'note')
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        try:
            initializer(*initargs)
            while True:
                func, task = connection.recv()
                send('result', func(task))
        except (EOFError, BrokenPipeError):
            raise
        except (RealESRGANError, OSError) as error:
            send('fault', error)
        except Exception as error:
            send('failure', error)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends by itself


class _Sender:
    """Sends messages of any thread through a connection; a queue to a `logging.handlers.QueueHandler`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def __call__(self, kind: str, content: Any) -> None:
        if isinstance(content, Exception):
            content = _Portable(content)
        data = pickle.dumps((kind, content))
        with self._lock:
            self._connection.send_bytes(data)

    def put_nowait(self, record: logging.LogRecord) -> None:
        record.msg = with_subject(record.msg)  # the picture, which only this process knows; already formatted
        self('log', record)


class _RemoteTracebackError(Exception):
    """A traceback of another process, as text."""


class _Portable:
    """Becomes, pickled and unpickled, the error itself, with the place where it was raised as its cause."""

    def __init__(self, error: Exception) -> None:
        self._text = ''.join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
            self._error = error
        except Exception:  # its class asks for more than a message
            self._error = (RealESRGANError if isinstance(error, RealESRGANError) else RuntimeError)(str(error))

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[Exception, str]]:
        return _with_traceback, (self._error, self._text)


def _with_traceback(error: Exception, text: str) -> Exception:
    error.__cause__ = _RemoteTracebackError(f'\n{text}')
    return error


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise SystemExit(128 + signal.SIGTERM)


def _end_with(sentinel: int) -> None:
    """End this process with its parent, in order if that is possible."""
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_PATIENCE_SECONDS)
    os._exit(1)
