"""Run tasks in processes, each with a place of its own: `multiprocessing.Pool`, but for days of work.

A worker that dies is replaced and its task tried again, and no worker outlives this process.
"""
from __future__ import annotations

import contextlib
import logging
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

from .options import Place
from .orders import Order, RemoteWorker
from .pool import BuildWorker
from .remote_pool import RemotePool, ignore_interrupts
from .worker_process import PATIENCE_SECONDS, serve

_CONTEXT = multiprocessing.get_context('spawn')  # a fork would copy locks that threads hold, and CUDA forbids it


class _Process:
    """A worker's process, the connection to it, and the order it is working on."""

    def __init__(self, build: BuildWorker[Any, Any], place: Place) -> None:
        self.place = place
        self.order: Order | None = None
        self.is_ready, self.is_coming, self.is_built = True, False, False
        self.connection, theirs = _CONTEXT.Pipe()
        level = logging.getLogger('realesrgan').level
        self._process = _CONTEXT.Process(daemon=True, target=serve, args=(theirs, level, build, place))
        with ignore_interrupts():  # it inherits this: ending workers on Ctrl-C is our business, not theirs
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


class ProcessPool(RemotePool):
    """Runs tasks in processes; see `Pool` and `RemotePool`.

    A worker that dies, or raises anything but a `RealESRGANError` or an `OSError` (lack of memory, an error of CUDA),
    is replaced. Its task is tried once more in the same place, then in another place if there is one, and then it has
    failed.

    Args:
        build: Called in each process before its first task. Pickled, as tasks and results are.
        places, check: See `RemotePool`.
    """

    def __init__(self, build: BuildWorker[Any, Any], places: Sequence[Place],
                 check: Callable[[], None] = lambda: None) -> None:
        super().__init__(places, check)
        self._build = build

    def _open(self, place: Place) -> RemoteWorker:
        return _Process(self._build, place)

    def _retry(self, process: RemoteWorker, order: Order, how: str, failure: Exception | None) -> bool:
        place = self._place_for_retry(process.place, order.attempts)
        if place is None:
            return False
        order.call.inbox.put(('warning', f'a worker on {process.place} {how}; {order.task} is tried again on {place}'))
        self._workers.append(self._open(place))
        self._workers[-1].give(order)
        return True

    def _place_for_retry(self, failed: Place, attempts: int) -> Place | None:
        """Return where a task is tried next after so many attempts, the last of them at `failed`; None for nowhere."""
        if attempts == 1:  # it may have been chance: out of memory beside another program, say
            return failed
        others = [place for place in self._places if place != failed]
        if attempts == 2 and others:  # it may be the GPU
            return others[0]
        return None  # it is the task
