"""Read, compute and write at the same time, in order."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

from ..log import create_thread

In = TypeVar('In')
Out = TypeVar('Out')
Item = TypeVar('Item')

_SECONDS_BETWEEN_LOOKS = 0.2  # at whether to stop
_PATIENCE_SECONDS = 3.0  # with a reader, when all else has ended


class _Stopped(Exception):  # noqa: N818  # not an error: the error is in another thread
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
                return self._items.put(entry, timeout=_SECONDS_BETWEEN_LOOKS)
            except Full:
                continue
        raise _Stopped

    def take(self, use: Callable[[Item], None]) -> bool:
        """Use the next item; return whether there was one before the end."""
        while not self._stop.is_set():
            try:
                entry = self._items.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except Empty:
                continue
            if entry is not None:
                use(entry[0])
            self._items.task_done()
            return entry is not None
        raise _Stopped

    def wait_until_used(self) -> None:
        """Wait until all items have been used."""
        with self._items.all_tasks_done:
            while self._items.unfinished_tasks:
                if self._stop.is_set():
                    raise _Stopped
                self._items.all_tasks_done.wait(_SECONDS_BETWEEN_LOOKS)


def run_overlapped(source: Iterable[In], work: Callable[[In], Out], write: Callable[[Out], None],
                   abort: Callable[[], None], *, ahead: int, behind: int,
                   is_large: Callable[[Out], bool] = lambda _: False) -> None:
    """Take items from `source` in one thread, `work` on them in this one, and `write` the results in a third.

    Args:
        source: Gives the items.
        work: Makes a result of an item.
        write: Takes the results, in the order of their items.
        abort: Called when one of the three failed or this thread was interrupted: must make `source` and `write`
            return soon.
        ahead: How many items may wait to be worked on.
        behind: How many results may wait to be written.
        is_large: Whether a result is written before the next item is worked on, so that no two fill the memory.

    Raises:
        BaseException: the first that any of the three raised. No thread is left then, but a reader that waits for a
            file that does not come; it ends with the process.
    """
    stop = threading.Event()
    items: _Belt[In] = _Belt(ahead, stop)
    results: _Belt[Out] = _Belt(behind, stop)
    failures: list[BaseException] = []

    def work_on(item: In) -> None:
        result = work(item)
        results.put(result)
        if is_large(result):
            results.wait_until_used()

    def work_on_all() -> None:
        _empty(items, work_on)
        results.end()

    reader = create_thread(_guarded(partial(_fill, items, source), failures, stop), 'reader')
    writer = create_thread(_guarded(partial(_empty, results, write), failures, stop), 'writer')
    finished = False
    try:
        reader.start()
        writer.start()
        _guarded(work_on_all, failures, stop)()
        writer.join()
        finished = True
    finally:
        if failures or not finished:
            stop.set()
            abort()
        _join(reader, writer, None if finished and not failures else _PATIENCE_SECONDS)
    if failures:
        raise failures[0]


def _join(reader: threading.Thread, writer: threading.Thread, patience: float | None) -> None:
    for thread, seconds in ((writer, None), (reader, patience)):
        if thread.ident is not None:  # else an interrupt came before it was started
            thread.join(seconds)


def _fill(belt: _Belt[Item], source: Iterable[Item]) -> None:
    for item in source:
        belt.put(item)
        del item  # or it would stay in memory while the next one is read
    belt.end()


def _empty(belt: _Belt[Item], use: Callable[[Item], None]) -> None:
    while belt.take(use):
        pass


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
