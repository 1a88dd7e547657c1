"""What a `RemotePool` is asked to do, and what it asks of a worker."""
from __future__ import annotations

import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import RunError
from .options import Place


class Call:
    """One call of `map_unordered`. The thread that made it finds in `inbox` what came of its tasks so far.

    Attributes:
        orders: Its tasks.
        thread: The thread.
        keeps_going: Whether a task that fails leaves the others alone.
        inbox: Pairs of a kind and a content: those of `worker_process`, ('warning', a line), and ('error', a task that
            failed and its error).
        given_up: Whether no task of it matters any more.
        is_over: Set when no worker works for it any more.
    """

    def __init__(self, tasks: Iterable[Any], *, keeps_going: bool = False) -> None:
        self.orders = [Order(task, self) for task in tasks]
        self.keeps_going = keeps_going
        self.thread = threading.current_thread()
        self.inbox: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self.given_up = False
        self.is_over = threading.Event()

    def fail(self, order: Order, error: BaseException, *, others_too: bool) -> None:
        """Let the caller have the error of a task, or raise it if the other tasks can't go on.

        `others_too` tells whether they would fail like that.
        """
        if self.keeps_going and not others_too and not isinstance(error, RunError):
            self.inbox.put(('error', (order.task, error)))
        else:
            self.given_up = True
            self.inbox.put(('fault', error))


@dataclass
class Order:
    """A task, whose it is, and how often it was tried."""

    task: Any
    call: Call
    attempts: int = 0


class RemoteWorker(Protocol):
    """A worker somewhere else.

    Attributes:
        place: Where it computes.
        order: What it is working on.
        is_ready: Whether it may be given one; it says ('ready', None) when it becomes so.
        is_coming: Whether it is expected to be ready in a moment.
        is_built: Whether it has said ('built', None): what it works with has been made.
        connection: Its messages come out of it (see `worker_process`); it ends when the worker does.
    """

    place: Place
    order: Order | None
    is_ready: bool
    is_built: bool
    connection: Any

    @property
    def is_coming(self) -> bool: ...

    def give(self, order: Order) -> None:
        """Let it work on a task."""
        ...

    def terminate(self) -> None:
        """End it, without waiting for its end."""
        ...

    def join(self) -> str:
        """Wait for its end, and return how it ended."""
        ...
