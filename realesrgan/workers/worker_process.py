"""The other end of `process_pool`: what runs in a worker's process.

Messages to the pool are pairs: ('built', None), ('result', result), ('note', note), ('log', record), ('fault', an error
of the task) and ('failure', an error that another worker may not have).
"""
from __future__ import annotations

import contextlib
import functools
import io
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from multiprocessing.connection import Connection, wait
from typing import Any

from ..errors import RealESRGANError
from ..log import get_subject
from .options import Place
from .pool import TASK_ERRORS, BuildWorker

#: How long a worker that was asked to end may take; then it is killed.
PATIENCE_SECONDS = 10


def serve(connection: Connection, log_level: int, build: BuildWorker[Any, Any], place: Place) -> None:
    """Take tasks and send results until the connection, or the parent process, ends."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with_parent, args=(parent.sentinel,), daemon=True).start()
    send = Sender(connection)
    logger = logging.getLogger('realesrgan')
    logger.handlers, logger.propagate = [logging.handlers.QueueHandler(send)], False  # type: ignore[arg-type]
    logger.setLevel(log_level)
    worker = None
    try:
        with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
            while True:
                task = connection.recv()
                try:
                    if worker is None:
                        worker = build(place)
                        send.note_built()
                    send('result', worker(task, functools.partial(send, 'note')))
                except TASK_ERRORS as error:
                    send('fault', error)
                except Exception as error:
                    send('failure', error)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending already


class Sender:
    """Sends messages of any thread through a connection; `logging.handlers.QueueHandler` takes it for a queue."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self.building = True  # the worker

    def __call__(self, kind: str, content: Any) -> None:
        buffer = io.BytesIO()
        _Pickler(buffer).dump((kind, content))
        with self._lock:
            self._connection.send_bytes(buffer.getbuffer())

    def note_built(self) -> None:
        """Tell that the worker has been built."""
        self.building = False
        self('built', None)

    def put_nowait(self, record: logging.LogRecord) -> None:
        # Only this process knows the file it is about, or else only the pool's. A worker is built for all files.
        record.subject = get_subject(record) or ('' if self.building else None)
        with contextlib.suppress(BrokenPipeError):  # the parent is gone; `logging` would print a traceback
            self('log', record)


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


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
    raise SystemExit(128 + signal.SIGTERM)


def _end_with_parent(sentinel: int) -> None:
    """Wait for the parent's end, then end this process too, cleaning up if that works in time."""
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(PATIENCE_SECONDS)
    os._exit(1)
