"""Read, compute and write at the same time: `read_ahead` and `write_behind`, each a thread and a bounded queue.

    with read_ahead(reader, 4, stop=reader.kill) as frames, write_behind(writer.write, 2, stop=writer.kill) as behind:
        for frame in frames:
            behind.put(upscale(frame))

`run_in_thread` is for a single piece of work.
"""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Generic, Self, TypeVar

from .log import create_thread

Item = TypeVar('Item')

_POLL_SECONDS = 0.2  # Windows does not interrupt a wait without an end
_PATIENCE_SECONDS = 3.0  # with a reader that is no longer needed


class _ClosedError(Exception):
    """Nobody takes or gives items any more."""


class _Queue(Generic[Item]):
    """A bounded queue between two threads. Either closes it: the giver after the last item, or both when one fails.

    It is an iterator for the thread that takes the items.

    Attributes:
        is_closed: Whether no more items come.
    """

    def __init__(self, length: int, check: Callable[[], None] = lambda: None) -> None:
        self._items: deque[Item] = deque()
        self._length = length
        self._check = check
        self._changed = threading.Condition()
        self._unfinished = 0
        self.is_closed = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> None:
        """Wait until there is room and add an item; raise the error of the other side."""
        with self._changed:
            self._wait(lambda: len(self._items) < self._length)
            if self.is_closed:
                raise self._error or _ClosedError
            self._items.append(item)
            self._unfinished += 1
            self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        """Wait for the next item; after the last, raise the error of the other side."""
        with self._changed:
            self._wait(lambda: self._items)
            if not self._items:
                raise self._error or StopIteration
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    @property
    def is_ready(self) -> bool:
        """Whether `next` returns, or raises, without waiting."""
        return bool(self._items) or self.is_closed

    def finish(self) -> None:
        """Note that an item that was taken has been used."""
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all items have been used; raise the error of the other side."""
        with self._changed:
            self._wait(lambda: not self._unfinished)
            if self._error:
                raise self._error

    def close(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        """Take no more items. Waiting ones can still be taken, unless they are to be discarded."""
        with self._changed:
            self.is_closed = True
            self._error = self._error or error
            if discard:
                self._items.clear()
            self._changed.notify_all()

    def _wait(self, ready: Callable[[], object]) -> None:
        while not self.is_closed and not ready():
            self._changed.wait(_POLL_SECONDS)
            self._check()


@contextmanager
def read_ahead(items: Iterable[Item], count: int, stop: Callable[[], None] = lambda: None,
               check: Callable[[], None] = lambda: None) -> Iterator[_Queue[Item]]:
    """Take items in a thread before they are asked for; a context whose value is an iterator of them.

    Args:
        items: An error in it is raised by the iterator, after the items before it.
        count: How many items may wait.
        stop: Called when the context is left before the last item: must make `items` return soon. A thread that
            waits in it nevertheless, for a file that does not come, is left behind and ends with the process.
        check: Called several times a second while a thread waits for the other; what it raises ends the wait.
    """
    queue: _Queue[Item] = _Queue(count, check)

    def fill() -> None:
        try:
            for item in items:
                queue.put(item)
                del item  # or it would stay in memory while the next one is read
        except BaseException as error:
            queue.close(error)
        else:
            queue.close()

    thread = create_thread(fill, 'reader')
    thread.start()
    try:
        yield queue
    finally:
        is_read = queue.is_closed  # by the other side
        queue.close(discard=True)
        if not is_read:
            stop()
        thread.join(_PATIENCE_SECONDS)


@contextmanager
def write_behind(write: Callable[[Item], None], count: int,
                 stop: Callable[[], None] | None = None) -> Iterator[_Queue[Item]]:
    """Write items in a thread; a context whose `put` adds one, and whose `flush` waits until all are written.

    All are written when the context is left, also by an exception, unless there is `stop`.

    Args:
        write: Called with each item, in order. An error in it is raised by the next `put` or `flush`, or in the end.
        count: How many items may wait.
        stop: Called when the context is left by an exception: must make `write` return soon. Waiting items are
            discarded.
    """
    queue: _Queue[Item] = _Queue(count)

    def empty() -> None:
        try:
            for item in queue:
                write(item)
                del item  # or it would stay in memory until the next one comes
                queue.finish()
        except BaseException as error:
            queue.close(error, discard=True)
        finally:
            ended.set()

    def join() -> None:
        while not ended.wait(_POLL_SECONDS):
            pass  # until Python 3.13 a `Thread.join` that Ctrl-C interrupts takes the thread for ended
        thread.join()

    ended, thread = threading.Event(), create_thread(empty, 'writer')
    thread.start()
    try:
        yield queue
        queue.close()
        join()
    except BaseException:
        queue.close(discard=stop is not None)
        if stop is not None:
            stop()
        join()
        raise
    queue.flush()


def run_in_thread(work: Callable[[], Item], name: str) -> Future[Item]:
    """Start work in a thread of this name, which does not keep the process alive."""
    future: Future[Item] = Future()
    create_thread(partial(_fulfil, future, work), name).start()
    return future


def _fulfil(future: Future[Item], work: Callable[[], Item]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
        del future, work  # or the error, whose traceback holds this frame, would hold itself, and all that failed
