"""Let several pieces of work share a pool, so that no worker is idle while one begins and another ends."""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

from ..log import create_thread
from .remote_pool import RemotePool

_MOST_ENDING = 2  # pieces of work that no worker works for any more
_PATIENCE_SECONDS = 3.0  # with each that was told to stop


def run_sharing(pieces: Iterable[Callable[[], None]], pool: RemotePool, stop: Callable[[], None]) -> None:
    """Do pieces of work in threads that share a pool, in order; the next begins when the pool has few tasks left.

    Args:
        pieces: The work, which calls `map_unordered` of the pool for some of it.
        pool: The workers.
        stop: Called if the work ends early: lets the pieces end soon that are not waiting for the pool.

    Raises:
        BaseException: the first that a piece of work has raised, or this thread. The others have ended then, but for
            what waits for a file that does not come; it ends with the process.
    """
    waiting = deque(pieces)
    failures: list[BaseException] = []
    threads: list[threading.Thread] = []

    def guard(piece: Callable[[], None]) -> None:
        try:
            piece()
        except BaseException as error:
            failures.append(error)

    try:
        with pool.serve_threads():
            try:
                while waiting or threads:
                    ending = sum(pool.has_called(thread) and not pool.is_calling(thread) for thread in threads)
                    if waiting and pool.is_hungry and all(map(pool.has_called, threads)) and ending < _MOST_ENDING:
                        threads.append(create_thread(partial(guard, waiting.popleft()), 'sharing'))
                        threads[-1].start()
                    pool.step()
                    threads = [thread for thread in threads if thread.is_alive()]
                    if failures:
                        raise failures[0]
            except BaseException:
                stop()
                raise
    finally:
        for thread in threads:
            thread.join(_PATIENCE_SECONDS)
