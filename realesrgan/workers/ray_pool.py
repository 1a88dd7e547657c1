"""Run tasks on the machines of a Ray cluster, in actors.

Ray starts and ends the actors, counts GPUs and cores, and notices when a node dies. A task whose worker is lost goes
to the next worker that is free. Ray could restart the actor itself (`max_restarts`), but it would wait for resources
that the other workers hold until the end, and its task with it.
"""
from __future__ import annotations

import contextlib
import logging
import logging.handlers
import multiprocessing
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import ClusterError
from .options import Place
from .orders import Order, RemoteWorker
from .pool import TASK_ERRORS, BuildWorker
from .remote_pool import RemotePool
from .worker_process import Sender

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 2.0  # at which nodes there are
_SECONDS_BETWEEN_MESSAGES = 0.1  # of one worker, so that a report of each frame costs little
_MOST_ATTEMPTS = 3
_SECONDS_OF_SUSPICION = 15.0  # after which Ray knows whether a node is dead that has lost a worker
_MOST_STARTS = 3  # of workers on a node that end before they have begun
_SECONDS_TO_START = 5.0  # for a worker that has room; one that takes longer is not waited for
_SECONDS_UNTIL_SAID = 20.0  # that a worker waits for room


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that takes part.

    Attributes:
        identity: Ray's.
        name: For people.
        workers: How many workers have room on it.
        cpus, gpus: What each of them takes; of GPUs also a fraction.
    """

    identity: str
    name: str
    workers: int
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True)
class NodePlace(Place):
    """A worker's place on a node; the node's workers share its cores, and each has what Ray gives it of the GPUs."""

    node: Node = Node('', '', 1)

    def __str__(self) -> str:
        return f'node {self.node.name}'


class Outlet:
    """Where an actor's messages go, as `Sender` takes it for a connection."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def send_bytes(self, data: memoryview) -> None:
        """Take a message."""
        self.messages.put(bytes(data))


class Actor:
    """Holds a worker on a node; Ray makes it an actor."""

    def __init__(self, build: BuildWorker[Any, Any], place: Place, folder: str | None, log_level: int) -> None:
        if folder is not None:
            os.chdir(folder)
        self._build = build
        self._place = place
        self._worker: Any = None
        self._outlet = Outlet()
        self._send = Sender(self._outlet)  # type: ignore[arg-type]
        root = logging.getLogger('realesrgan')
        root.handlers = [logging.handlers.QueueHandler(self._send)]  # type: ignore[arg-type]
        root.propagate = False
        root.setLevel(log_level)

    def begin(self) -> None:
        """Return; that it does so tells that the actor has got its room."""

    def work(self, task: Any) -> Iterator[list[bytes]]:
        """Do a task; yield messages, some at a time, the last of which tells how it ended."""
        thread = threading.Thread(target=self._work, args=(task,))
        thread.start()
        messages: list[bytes | None] = []
        while None not in messages:
            messages = [self._outlet.messages.get()]
            until = time.monotonic() + _SECONDS_BETWEEN_MESSAGES
            with contextlib.suppress(queue.Empty):
                while None not in messages:
                    messages.append(self._outlet.messages.get(timeout=max(until - time.monotonic(), 0)))
            yield [message for message in messages if message is not None]
        thread.join()

    def _work(self, task: Any) -> None:
        try:
            if self._worker is None:
                self._worker = self._build(self._place)
                self._send.note_built()
            self._send('result', self._worker(task, partial(self._send, 'note')))
        except TASK_ERRORS as error:
            self._send('fault', error)
        except Exception as error:
            self._send('failure', error)
        finally:
            self._outlet.messages.put(None)


class _RayWorker:
    """An actor, and a connection on this side that its messages come out of; see `RemoteWorker`."""

    def __init__(self, build: BuildWorker[Any, Any], place: NodePlace, folder: str | None) -> None:
        self.place: Place = place
        self.order: Order | None = None
        self.is_ready = self.is_built = False
        self.since = time.monotonic()
        self.connection, self._ours = multiprocessing.Pipe()
        self._how = 'was lost'
        remote: Any = ray.remote(Actor)
        self._actor: Any = remote.options(
            num_cpus=place.node.cpus, num_gpus=place.node.gpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.node.identity, soft=False)).remote(
                build, place, folder, logging.getLogger('realesrgan').level)
        threading.Thread(target=self._wait_for_room, daemon=True).start()

    def _wait_for_room(self) -> None:
        with self._closing_if_lost():
            ray.get(self._actor.begin.remote())
            self._ours.send(('ready', None))

    @property
    def is_coming(self) -> bool:
        return not self.is_ready and time.monotonic() - self.since < _SECONDS_TO_START

    def give(self, order: Order) -> None:
        order.attempts += 1
        self.order = order
        messages = self._actor.work.options(num_returns='streaming').remote(order.task)
        threading.Thread(target=self._pass_on, args=(messages,), daemon=True).start()

    def _pass_on(self, messages: Any) -> None:
        """Write what the actor yields into the connection."""
        with self._closing_if_lost():
            for reference in messages:
                for message in ray.get(reference):
                    self._ours.send_bytes(message)

    @contextlib.contextmanager
    def _closing_if_lost(self) -> Iterator[None]:
        """Close the connection when the actor is lost."""
        try:
            yield
        except Exception as error:  # Ray's, or the connection's
            logger.debug('%s', error)
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1:]
            self._how = f'was lost: {"".join(reason)[:200]}'
            with contextlib.suppress(OSError):
                self._ours.close()

    def terminate(self) -> None:
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(self._actor)

    def join(self) -> str:
        self.terminate()
        self.connection.close()
        return self._how


class RayPool(RemotePool):
    """Runs tasks on the nodes of a cluster, as many at once as have room; see `Pool` and `RemotePool`.

    Nodes that join take part. When a node dies, what it was working on is done again.

    Args:
        build: Called in each actor before its first task.
        find_nodes: Returns the nodes that may take part now.
        check: See `RemotePool`.
        folder: Which paths start from on the nodes; None for the one that they were started in.
    """

    def __init__(self, build: BuildWorker[Any, Any], find_nodes: Callable[[], Sequence[Node]],
                 check: Callable[[], None] = lambda: None, folder: str | None = None) -> None:
        super().__init__([], check)
        self._build = build
        self._folder = folder
        self._find_nodes = find_nodes
        self._last_look = 0.0
        self._suspects: dict[str, float] = {}  # nodes that lost a worker, and when
        self._lost_starts: Counter[str] = Counter()  # by node
        self._said_waiting: set[str] = set()

    def step(self) -> None:
        """See `RemotePool`; nodes that have joined get work."""
        super().step()
        if self._waiting and time.monotonic() - self._last_look > _SECONDS_BETWEEN_LOOKS:
            self._prepare()
            self._say_who_waits()
            if not self._places and not self._workers and not self._suspects:
                raise ClusterError('no node is left that can take part')
            self._hand_out()

    def _prepare(self) -> None:
        self._last_look = time.monotonic()
        self._suspects = {node: lost for node, lost in self._suspects.items()
                          if self._last_look - lost < _SECONDS_OF_SUSPICION}
        self._places = [NodePlace(None, node.workers, node) for node in self._find_nodes()
                        if node.identity not in self._suspects and self._lost_starts[node.identity] < _MOST_STARTS
                        for _ in range(node.workers)]

    def _say_who_waits(self) -> None:
        for worker in self._workers:
            assert isinstance(worker, _RayWorker)
            waits = not worker.is_ready and time.monotonic() - worker.since > _SECONDS_UNTIL_SAID
            if waits and str(worker.place) not in self._said_waiting:
                self._said_waiting.add(str(worker.place))
                logger.info('waiting for room on %s, which is busy with other work', worker.place)

    def _open(self, place: Place) -> RemoteWorker:
        assert isinstance(place, NodePlace)
        return _RayWorker(self._build, place, self._folder)

    def _pick_log(self, worker: RemoteWorker, record: logging.LogRecord) -> bool:
        """See `RemotePool`; a warning names the node."""
        if record.levelno >= logging.WARNING:
            record.msg, record.args = f'{record.getMessage()} (on {worker.place})', ()
        return super()._pick_log(worker, record)

    def _note_fault(self, worker: RemoteWorker, order: Order) -> None:
        order.call.inbox.put(('warning', f'{order.task} failed on {worker.place}'))

    def _note_death(self, worker: RemoteWorker, how: str) -> None:
        """See `RemotePool`; where a worker was lost, others may be too that have nothing to do and say nothing."""
        node = _find_node(worker)
        self._suspects[node] = time.monotonic()
        self._end([other for other in self._workers if other.order is None and _find_node(other) == node])
        if not worker.is_ready:
            self._lost_starts[node] += 1
            logger.warning('a worker on %s %s', worker.place, how)

    def _retry(self, worker: RemoteWorker, order: Order, how: str, failure: Exception | None) -> bool:
        if order.attempts >= _MOST_ATTEMPTS - (failure is not None):
            return False
        order.call.inbox.put(('warning', f'a worker on {worker.place} {how}; {order.task} is tried again'))
        self._waiting.appendleft(order)
        self._prepare()
        self._hand_out()
        return True


def _find_node(worker: RemoteWorker) -> str:
    assert isinstance(worker.place, NodePlace)
    return worker.place.node.identity
