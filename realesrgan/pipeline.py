"""Read, compute and write at the same time: `read_ahead` and `write_behind`, each a thread and a bounded queue.

    with read_ahead(reader, 4, stop=reader.kill) as frames, write_behind(writer.write, 2, stop=writer.kill) as behind:
        for frame in frames:
            behind.put(upscale(frame))
"""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from .log import create_thread

Item = TypeVar('Item')

_POLL_SECONDS = 0.2  # Windows does not interrupt a wait without an end
_PATIENCE_SECONDS = 3.0  # with a reader that is no longer needed


class _ClosedError(Exception):
    """Nobody takes or gives items any more."""


class _Queue(Generic[Item]):
    """A bounded queue between two threads. Either closes it: the giver after the last item, or both when one fails."""

    def __init__(self, length: int) -> None:
        self._items: deque[Item] = deque()
        self._length = length
        self._changed = threading.Condition()
        self._unfinished = 0
        self._closed = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> None:
        """Wait until there is room and add an item; raise what the other side failed with."""
        with self._changed:
            self._wait(lambda: len(self._items) < self._length)
            if self._closed:
                raise self._error or _ClosedError
            self._items.append(item)
            self._unfinished += 1
            self._changed.notify_all()

    def take(self) -> Item:
        """Wait for the next item; after the last, raise what the other side failed with, or _ClosedError."""
        with self._changed:
            self._wait(lambda: self._items)
            if not self._items:
                raise self._error or _ClosedError
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def finish(self) -> None:
        """Say that an item that was taken has been used."""
        with self._changed:
            self._unfinished -= 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all items have been used; raise what the other side failed with."""
        with self._changed:
            self._wait(lambda: not self._unfinished)
            if self._error:
                raise self._error

    def close(self, error: BaseException | None = None, *, discard: bool = False) -> None:
        """Take no more items. What waits can still be taken, unless it is to be discarded."""
        with self._changed:
            self._closed = True
            self._error = self._error or error
            if discard:
                self._items.clear()
            self._changed.notify_all()

    def _wait(self, ready: Callable[[], object]) -> None:
        while not self._closed and not ready():
            self._changed.wait(_POLL_SECONDS)


@contextmanager
def read_ahead(items: Iterable[Item], count: int, stop: Callable[[], None] = lambda: None) -> Iterator[Iterator[Item]]:
    """Take items in a thread before they are asked for; a context that gives an iterator of them.

    Args:
        items: An error in it is raised by the iterator, after the items before it.
        count: How many items may wait.
        stop: Called when the context is left before the last item: must make `items` return soon. A thread that
            waits in it nevertheless, for a file that does not come, is left behind and ends with the process.
    """
    queue: _Queue[Item] = _Queue(count)

    def fill() -> None:
        try:
            for item in items:
                queue.put(item)
                del item  # or it would stay in memory while the next one is read
        except BaseException as error:
            queue.close(error)
        else:
            queue.close()

    def empty() -> Iterator[Item]:
        try:
            while True:
                yield queue.take()
        except _ClosedError:
            return

    thread = create_thread(fill, 'reader')
    thread.start()
    try:
        yield empty()
    finally:
        queue.close(discard=True)
        if thread.is_alive():
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
        stop: Called when the context is left by an exception: must make `write` return soon. What waits is discarded.
    """
    queue: _Queue[Item] = _Queue(count)

    def empty() -> None:
        try:
            while True:
                write(queue.take())
                queue.finish()
        except _ClosedError:
            pass
        except BaseException as error:
            queue.close(error, discard=True)

    thread = create_thread(empty, 'writer')
    thread.start()
    try:
        yield queue
        queue.close()
        thread.join()
    except BaseException:
        queue.close(discard=stop is not None)
        if stop is not None:
            stop()
        thread.join()
        raise
    queue.flush()
