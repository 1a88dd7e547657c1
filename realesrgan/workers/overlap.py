"""Read, compute and write at the same time, in order."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

In = TypeVar('In')
Out = TypeVar('Out')
Item = TypeVar('Item')

_READ_AHEAD = 4
_WRITTEN_BEHIND = 2
_PATIENCE_SECONDS = 0.2  # between looks at whether to stop


class _Stopped(Exception):  # noqa: N818  # no error: another end of the pipeline has one
    """The run is over."""


class _Belt(Generic[Item]):
    """A bounded queue with an end; waiting on it ends when `stop` is set."""

    def __init__(self, length: int, stop: threading.Event) -> None:
        self._items: Queue[tuple[Item] | None] = Queue(length)
        self._stop = stop

    def put(self, item: Item) -> None:
        self._put((item,))

    def end(self) -> None:
        self._put(None)

    def _put(self, entry: tuple[Item] | None) -> None:
        while not self._stop.is_set():
            try:
                return self._items.put(entry, timeout=_PATIENCE_SECONDS)
            except Full:
                continue
        raise _Stopped

    def get(self) -> tuple[Item] | None:
        """Return an item in a tuple, or None at the end."""
        while not self._stop.is_set():
            try:
                return self._items.get(timeout=_PATIENCE_SECONDS)
            except Empty:
                continue
        raise _Stopped


def run_overlapped(source: Iterable[In], work: Callable[[In], Out], write: Callable[[Out], None],
                   abort: Callable[[], None]) -> None:
    """Take items from `source` in one thread, `work` on them in this one, and `write` the results in a third.

    Args:
        source: Gives the items.
        work: Makes a result of an item.
        write: Takes the results, in the order of their items.
        abort: Called when something failed or this thread was interrupted: must make `source` and `write` return.

    Raises:
        Exception: the first that any of the three raised. No thread is left then.
    """
    stop = threading.Event()
    before: _Belt[In] = _Belt(_READ_AHEAD, stop)
    behind: _Belt[Out] = _Belt(_WRITTEN_BEHIND, stop)
    failures: list[BaseException] = []

    def read_all() -> None:
        for item in source:
            before.put(item)
        before.end()

    def work_all() -> None:
        while (entry := before.get()) is not None:
            behind.put(work(entry[0]))
        behind.end()

    def write_all() -> None:
        while (entry := behind.get()) is not None:
            write(entry[0])

    reading, writing = (threading.Thread(target=_guarded(task, failures, stop), name=task.__name__)
                        for task in (read_all, write_all))
    try:
        reading.start()
        writing.start()
        _guarded(work_all, failures, stop)()
        writing.join()
    finally:
        if failures or writing.is_alive():
            stop.set()
            abort()
        _join(reading, writing)
    if failures:
        raise failures[0]


def _join(*threads: threading.Thread) -> None:
    for thread in threads:
        if thread.ident is not None:  # an interrupt may have come before it was started
            thread.join()


def _guarded(task: Callable[[], None], failures: list[BaseException], stop: threading.Event) -> Callable[[], None]:
    """Return the task such that what it raises is kept and stops the others."""
    def run() -> None:
        try:
            task()
        except _Stopped:
            pass
        except BaseException as error:
            failures.append(error)
            stop.set()
    return run
