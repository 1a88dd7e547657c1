"""Run tasks on the machines of a Ray cluster, in actors.

Ray starts and ends the actors, counts GPUs and cores, and notices when a node dies. A task whose worker is lost goes
to the next worker that is free. Ray could restart the actor itself (`max_restarts`), but it would wait for resources
that the other workers hold until the end, and its task with it.
"""
from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import ClusterError
from .pool import MOST_ATTEMPTS, Build, Message, Place, RemotePool, RemoteWorker
from .processes import TaskServer

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_CHECKS = 0.2
_SECONDS_BETWEEN_LOOKS = 2.0  # at the nodes of the cluster
_SECONDS_OF_SUSPICION = 15.0  # after which Ray knows whether a node is dead that has lost a worker
_MOST_STARTS = 3  # of workers on a node that end before they have begun
_SECONDS_TO_START = 5.0  # for a worker that has room; one that takes longer is not waited for
_SECONDS_UNTIL_LOGGED = 20.0  # that a worker waits for room


class NodePlace(Place):
    """A worker's place on a node; the node's workers share its cores, and each has what Ray gives it of the GPUs.

    Attributes:
        node: Ray's identity of it.
        name: The node's, for people.
        cpus, gpus: Taken by the worker; of GPUs also a fraction.
    """

    def __init__(self, node: str, name: str, cpus: float = 1, gpus: float = 0, workers: int = 1) -> None:
        super().__init__(workers=workers)
        self.node = node
        self.name = name
        self.cpus = cpus
        self.gpus = gpus

    def __str__(self) -> str:
        return f'node {self.name}'


def bind_to_node(identity: str) -> Any:
    """Return the scheduling strategy of a task or an actor that runs on one node."""
    return NodeAffinitySchedulingStrategy(identity, soft=False)


class Actor:
    """Holds a worker on a node; Ray makes it an actor."""

    def __init__(self, build: Build, place: Place, folder: str | None, log_level: int) -> None:
        if folder is not None:
            os.chdir(folder)
        self._messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._server = TaskServer(build, place, self._messages.put, log_level)

    def begin(self) -> None:
        """Do nothing. Returning means that Ray has scheduled the actor."""

    def work(self, task: Any) -> Iterator[bytes]:
        """Do a task; yield its messages."""
        def run() -> None:
            try:
                self._server.work(task)
            finally:
                self._messages.put(None)
        threading.Thread(target=run).start()
        while (message := self._messages.get()) is not None:
            yield message


class _RayWorker(RemoteWorker):
    """An actor, and the reference that it is waited for by: of its start, or of the messages of its task."""

    def __init__(self, build: Build, place: NodePlace, folder: str | None) -> None:
        super().__init__(place)
        self.node = place.node
        self.name = f' (on {place})'
        self.is_ready = False
        self.how = 'was lost'
        self._since = time.monotonic()
        remote: Any = ray.remote(Actor)
        self._actor: Any = remote.options(
            num_cpus=place.cpus, num_gpus=place.gpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy=bind_to_node(place.node)).remote(
                build, place, folder, logging.getLogger('realesrgan').level)
        self.awaited: Any = self._actor.begin.remote()

    @property
    def waited(self) -> float:
        """Seconds that it waits for room; 0 if it has got it."""
        return 0.0 if self.is_ready else time.monotonic() - self._since

    @property
    def is_coming(self) -> bool:
        return 0 < self.waited < _SECONDS_TO_START

    def submit(self, task: Any) -> None:
        self.awaited = self._actor.work.options(num_returns='streaming').remote(task)

    def receive(self) -> Message:
        """Return the message that it was waited for.

        Raises:
            Exception: Ray's, if the actor is lost.
        """
        if self.is_ready:
            return self, *pickle.loads(ray.get(next(self.awaited)))  # noqa: S301  # from our own actor
        ray.get(self.awaited)
        return self, 'ready', None

    def terminate(self) -> None:
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(self._actor)

    def join(self) -> str:
        self.terminate()
        return self.how


class RayPool(RemotePool):
    """Runs tasks on the nodes of a cluster, as many at once as have room; see `Pool` and `RemotePool`.

    Nodes that join take part. When a node dies, its tasks are done again elsewhere.

    Args:
        build: Called in each actor before its first task.
        find_places: Returns the places that there are now; a node with room for several workers is several.
        check, attempts: See `RemotePool`.
        folder: Which paths start from on the nodes; None for the one that they were started in.
    """

    def __init__(self, build: Build, find_places: Callable[[], Sequence[NodePlace]],
                 check: Callable[[], None] = lambda: None, attempts: int = MOST_ATTEMPTS,
                 folder: str | None = None) -> None:
        super().__init__([], check, attempts)
        self._build = build
        self._folder = folder
        self._list_places = find_places
        self._next_look = 0.0
        self._suspects: dict[str, float] = {}  # nodes that lost a worker, and when
        self._lost_starts: Counter[str] = Counter()  # by node
        self._logged_waits: set[str] = set()

    def _open(self, place: Place) -> RemoteWorker:
        assert isinstance(place, NodePlace)
        return _RayWorker(self._build, place, self._folder)

    def _receive(self) -> Iterator[Message]:
        awaited = {worker.awaited: worker for worker in self._list_workers() if worker.order or not worker.is_ready}
        if not awaited and not self._places and not self._suspects:
            raise ClusterError('no node is left that can take part')
        if not awaited:
            time.sleep(_SECONDS_BETWEEN_CHECKS)
            return
        ready, _ = ray.wait(list(awaited), timeout=_SECONDS_BETWEEN_CHECKS)
        for worker in (awaited[reference] for reference in ready):
            try:
                yield worker.receive()
            except Exception as error:  # Ray's
                logger.debug('%s', error)
                reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1:]
                worker.how = f'was lost: {"".join(reason)[:200]}'
                yield worker, 'lost', None

    def _find_places(self) -> None:
        """Look for nodes that have joined or gone, now and then."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _SECONDS_BETWEEN_LOOKS
        self._suspects = {node: lost for node, lost in self._suspects.items() if now - lost < _SECONDS_OF_SUSPICION}
        self._places = [place for place in self._list_places()
                        if place.node not in self._suspects and self._lost_starts[place.node] < _MOST_STARTS]
        for worker in self._list_workers():
            if worker.waited > _SECONDS_UNTIL_LOGGED and worker.name not in self._logged_waits:
                self._logged_waits.add(worker.name)
                logger.info('waiting for room on %s, which is busy with other work', worker.place)

    def _on_lost(self, worker: RemoteWorker, how: str) -> None:
        """See `RemotePool`; where a worker was lost, idle ones may be lost too, and send nothing."""
        assert isinstance(worker, _RayWorker)
        node, self._next_look = worker.node, 0.0
        self._suspects[node] = time.monotonic()
        self._end([other for other in self._list_workers() if other.order is None and other.node == node])
        if not worker.is_ready:
            self._lost_starts[node] += 1
            logger.warning('a worker on %s %s', worker.place, how)

    def _list_workers(self) -> list[_RayWorker]:
        return [worker for worker in self._workers if isinstance(worker, _RayWorker)]
