"""Run tasks in processes, each with a place of its own: `multiprocessing.Pool`, but for days of work.

A worker that dies is replaced and its task tried again, and no worker outlives this process. Messages from a worker are
pairs of a kind and a content, see `pool.Message`.
"""
from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import Any

from ..errors import RealESRGANError
from ..log import get_subject
from .pool import MOST_ATTEMPTS, TASK_ERRORS, Build, Message, Place, RemotePool, RemoteWorker, Worker, ignore_interrupts

_CONTEXT = multiprocessing.get_context('spawn')  # a fork would copy locks that threads hold, and CUDA forbids it
_SECONDS_BETWEEN_CHECKS = 0.2
_PATIENCE_SECONDS = 10  # with a worker that was asked to end; then it is killed


class ProcessPool(RemotePool):
    """Runs tasks in processes; see `Pool` and `RemotePool`.

    Args:
        build: Called in each process before its first task. Pickled, as tasks and results are.
        places, check, attempts: See `RemotePool`.
    """

    def __init__(self, build: Build, places: Sequence[Place], check: Callable[[], None] = lambda: None,
                 attempts: int = MOST_ATTEMPTS) -> None:
        super().__init__(places, check, attempts)
        self._build = build

    def _open(self, place: Place) -> RemoteWorker:
        return _Process(self._build, place)

    def _receive(self) -> Iterator[Message]:
        workers = {worker.connection: worker for worker in self._workers if isinstance(worker, _Process)}
        if not workers:  # Windows would not wait for none
            time.sleep(_SECONDS_BETWEEN_CHECKS)
        for connection in wait(workers, _SECONDS_BETWEEN_CHECKS):
            worker = workers[connection]  # type: ignore[index]  # it is one of ours
            try:
                yield worker, *worker.connection.recv()
            except (EOFError, OSError):
                yield worker, 'lost', None


class _Process(RemoteWorker):
    """A worker's process, and the connection to it."""

    def __init__(self, build: Build, place: Place) -> None:
        super().__init__(place)
        self.connection, theirs = _CONTEXT.Pipe()
        level = logging.getLogger('realesrgan').level
        self._process = _CONTEXT.Process(daemon=True, target=_serve, args=(theirs, level, build, place))
        with ignore_interrupts():  # it inherits this: ending workers on Ctrl-C is our business, not theirs
            self._process.start()
        theirs.close()

    def submit(self, task: Any) -> None:
        with contextlib.suppress(OSError):  # it is dead, as its connection will say in a moment
            self.connection.send(task)

    def terminate(self) -> None:
        self._process.terminate()

    def join(self) -> str:
        """Wait until the process is gone, kill it if that takes too long, and return how it ended."""
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


# ---- the other end, in a worker's process ----

def _serve(connection: Connection, log_level: int, build: Build, place: Place) -> None:
    """Take tasks and send results until the connection, or the parent process, ends."""
    signal.signal(signal.SIGTERM, _exit)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()
    server = TaskServer(build, place, connection.send_bytes, log_level)
    try:
        with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
            while True:
                server.work(connection.recv())
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already


def _exit(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise SystemExit(128 + signal.SIGTERM)


def _exit_with_parent(sentinel: int) -> None:
    """Wait for the parent's end, then end this process too, cleaning up if that works in time."""
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_PATIENCE_SECONDS)
    os._exit(1)


class TaskServer:
    """Does tasks with one worker, and sends messages about them, its log lines included.

    Args:
        build: Makes the worker, for the first task.
        place: Where it computes.
        write: Takes each message, pickled; called by one thread at a time.
        log_level: Of the messages that are sent.
    """

    def __init__(self, build: Build, place: Place, write: Callable[[bytes], None], log_level: int) -> None:
        self._build = build
        self._place = place
        self._write = write
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        logger = logging.getLogger('realesrgan')
        logger.handlers, logger.propagate = [logging.handlers.QueueHandler(self)], False  # type: ignore[arg-type]
        logger.setLevel(log_level)

    def work(self, task: Any) -> None:
        """Do a task; the last message says how it ended."""
        try:
            if self._worker is None:
                self._worker = self._build(self._place)
                self._send('built', None)
            self._send('result', self._worker(task, partial(self._send, 'note')))
        except TASK_ERRORS as error:
            self._send('fault', error)
        except Exception as error:
            self._send('failure', error)

    def put_nowait(self, record: logging.LogRecord) -> None:
        """Send a log record; `logging.handlers.QueueHandler` takes this object for a queue."""
        # Only this process knows the file it is about, or else only the pool's. A worker is built for all files.
        record.subject = get_subject(record) or ('' if self._worker is None else None)
        with contextlib.suppress(BrokenPipeError):  # the parent is gone; `logging` would print a traceback
            self._send('log', record)

    def _send(self, kind: str, content: Any) -> None:
        buffer = io.BytesIO()
        _Pickler(buffer).dump((kind, content))
        with self._lock:
            self._write(buffer.getvalue())


class _RemoteTracebackError(Exception):
    """A traceback of another process, as text."""


class _Pickler(pickle.Pickler):
    """Pickles errors, wherever they are in a message, with their traceback, which becomes their cause over there."""

    def reducer_override(self, obj: object) -> Any:
        if not isinstance(obj, Exception):
            return NotImplemented
        try:
            data = pickle.dumps(obj)
            pickle.loads(data)  # noqa: S301  # our own
        except Exception:  # its class takes more than a message
            data = pickle.dumps((RealESRGANError if isinstance(obj, RealESRGANError) else RuntimeError)(str(obj)))
        return _restore_error, (data, ''.join(traceback.format_exception(obj)))


def _restore_error(data: bytes, text: str) -> Exception:
    error: Exception = pickle.loads(data)  # noqa: S301  # from our own worker's process
    error.__cause__ = _RemoteTracebackError(f'\n{text}')
    return error
