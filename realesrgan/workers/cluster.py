"""A Ray cluster: how to reach it, which of its nodes can take part, and what is sent there."""
from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import version
from ..atomic_files import require_writable, temporary_folder
from ..errors import ClusterError, flatten_message
from ..log import about
from ..weights.download import hash_file
from ..weights.sources import PROJECT, prefetch
from .depot import Depot, DepotClient
from .node import Refuse, SentFiles, SharedFiles, accept, build_on_node, inspect, sample
from .options import ClusterOptions, FaceOptions, UpsamplerOptions
from .pool import BuildWorker, Pool, Worker

logger = logging.getLogger(__name__)

_AUTO = 'auto'  # the address that stands for the cluster that this machine belongs to
_CURRENT = Path('/tmp/ray/ray_current_cluster')  # noqa: S108  # Ray's own; it stays when the cluster is gone
_TOKEN, _TOKENS = Path('~/.ray/auth_token'), ('RAY_AUTH_TOKEN', 'RAY_AUTH_TOKEN_PATH')
_MOST_FILES = 20  # that each node is asked about
_SECONDS_TO_CONNECT = 10
_PATIENCE_SECONDS = 60  # with a node that does not answer
_DEPOT_THREADS = 16

#: Makes a worker whose files are in a depot of one whose files are here.
Ship = Callable[[DepotClient, Worker[Any, Any]], Worker[Any, Any]]


@contextlib.contextmanager
def open_cluster(options: ClusterOptions, inputs: Set[str], output: Path,
                 refuse: Refuse = accept) -> Iterator[Cluster]:
    """Connect to a cluster; the connection ends with the block, and with it all actors.

    Args:
        options: Which cluster, and what a worker takes of it.
        inputs: Real paths of what the workers will read.
        output: Where they will write.
        refuse: Called on each node.

    Raises:
        ClusterError: ray is not installed, or the cluster is not there.
        OSError: the output folder can't be written.
    """
    ray = _import_ray()
    require_writable(output)
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, options.address)
    try:
        with temporary_folder(output / 'seen') as token:
            samples = {path: sample(path) for path in map(Path, sorted(inputs)[:_MOST_FILES]) if path.is_file()}
            shared = SharedFiles(str(Path.cwd()), token, samples)
            yield Cluster(ray, options, inputs, None if options.ship_data else shared, refuse)
    finally:
        if is_ours:
            ray.shutdown()


def _import_ray() -> ModuleType:
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    if any(name in os.environ for name in _TOKENS) or _TOKEN.expanduser().is_file():
        os.environ.setdefault('RAY_AUTH_MODE', 'token')  # Ray itself does so for `auto` only
    try:
        import ray
    except ImportError:
        raise ClusterError('--cluster needs ray: pip install \'realesrgan[cluster]\', or ray') from None
    return ray


def _connect(ray: Any, address: str) -> None:
    host, _, port = (_read_own_address() if address == _AUTO else address).rpartition(':')
    try:
        if host and port.isdecimal():  # ray itself would try for a quarter of an hour
            socket.create_connection((host.strip('[]'), int(port)), _SECONDS_TO_CONNECT).close()
        with _silenced():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR,
                     runtime_env={'env_vars': {'PYTHONPATH': str(PROJECT)}})
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # without Ray's, which prints a stack
    except Exception as error:  # of many kinds
        logger.debug('%s', error)
        if 'token' in f'{error} {error.__cause__}':
            raise ClusterError(f'the cluster at {address} asks for a token: copy ~/.ray/auth_token of its head to '
                               'this machine') from None
        raise ClusterError(f'there is no cluster at {address}: {flatten_message(error)[:300]}; ray start --head '
                           'makes one') from None


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Drop what is written to stderr: Ray's own library tells each second that a token is wrong."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open('wb') as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _read_own_address() -> str:
    """Return where Ray will look for the cluster of this machine; '' if it has none."""
    with contextlib.suppress(OSError):
        return os.environ.get('RAY_ADDRESS') or _CURRENT.read_text().strip()
    return ''


class Cluster:
    """A cluster that workers can be put on. `open_cluster` returns one."""

    def __init__(self, ray: Any, options: ClusterOptions, inputs: Set[str], shared: SharedFiles | None,
                 refuse: Refuse) -> None:
        self._ray = ray
        self._options = options
        self._inputs = inputs
        self._shared = shared
        self._inspect = partial(inspect, version.__version__, shared, refuse)
        self._accepted: dict[str, bool] = {}

    def make_pool(self, build: BuildWorker[Any, Any], options: UpsamplerOptions, faces: FaceOptions | None,
                  ship: Ship, check: Callable[[], None]) -> Pool:
        """Return a pool of as many workers as have room.

        Args:
            build: Makes each worker; a partial whose first argument is `options`.
            options, faces: What it works with; the weight files of both are sent along.
            ship: Makes it a worker that sees no files but through a depot, if that is wanted.
            check: See `RemotePool`.

        Raises:
            ClusterError: no node can take part.
        """
        from .ray_pool import RayPool
        if not self.find_nodes():
            raise ClusterError('no node of the cluster can take part')
        wrap = partial(ship, self._open_depot()) if self._shared is None else _as_it_is
        return RayPool(partial(build_on_node, self._send_files(options, faces), build, wrap), self.find_nodes, check,
                       folder=self._shared.folder if self._shared is not None else None)

    def find_nodes(self) -> list[Any]:
        """Return the nodes that can take part now; a warning tells of each that can't."""
        alive = [node for node in self._ray.nodes() if node['Alive']]
        new = [node for node in alive if node['NodeID'] not in self._accepted]
        asked = [(node, self._ask(node)) for node in new]
        for node, answer in asked:
            reason = self._hear(answer)
            self._accepted[node['NodeID']] = reason is None
            if reason is not None:
                with about(''):
                    logger.warning('node %s is left out: %s', _name(node), reason)
        accepted = [node for node in alive if self._accepted[node['NodeID']]]
        has_gpus = any(node['Resources'].get('GPU') for node in accepted)
        found = [self._measure(node, has_gpus=has_gpus) for node in accepted]
        return [node for node in found if node.workers]

    def _ask(self, node: Mapping[str, Any]) -> Any:
        task = self._ray.remote(self._inspect.func).options(num_cpus=0, max_retries=0, **_bind(node['NodeID']))
        return task.remote(*self._inspect.args)

    def _hear(self, answer: Any) -> str | None:
        try:
            reason: str | None = self._ray.get(answer, timeout=_PATIENCE_SECONDS)
        except Exception as error:  # whatever its Python, or Ray, fails with
            last = [line for line in str(error).splitlines() if line.strip()][-1:]
            return f'it can\'t run Real-ESRGAN: {last[0].strip() if last else type(error).__name__}'
        return reason

    def _measure(self, node: Mapping[str, Any], *, has_gpus: bool) -> Any:
        """Return a node with as many workers as have room."""
        from .ray_pool import Node
        cpus, gpus = (node['Resources'].get(name, 0) for name in ('CPU', 'GPU'))
        asked = self._options.cpus_per_worker
        if gpus:
            share = self._options.workers_per_gpu
            return Node(node['NodeID'], _name(node), int(gpus * share), cpus=min(1, cpus), gpus=1 / share)
        if has_gpus and asked is None:
            return Node(node['NodeID'], _name(node), 0)  # a CPU would be the last to finish
        each = asked or cpus
        return Node(node['NodeID'], _name(node), int(cpus // each) if each else 0, cpus=each)

    def _open_depot(self) -> DepotClient:
        actor = self._ray.remote(Depot).options(
            num_cpus=0, max_concurrency=_DEPOT_THREADS, **_bind(self._ray.get_runtime_context().get_node_id()))
        return DepotClient(actor.remote(str(Path.cwd()), self._inputs))

    def _send_files(self, options: UpsamplerOptions, faces: FaceOptions | None) -> SentFiles:
        """Put what workers need into the object store."""
        sources = prefetch(options.model_name, options.model_path, options.denoise_strength)
        named = {'model_path': sources.main, 'arch_module': options.arch_module and Path(options.arch_module)}
        files = [*named.values(), sources.partner]
        if faces is not None:
            from ..faces.networks import obtain_face_files
            found = obtain_face_files(faces.model)
            files += [found.restorer, found.detector, found.parser]
        return SentFiles({file.name: (hash_file(file), self._ray.put(file.read_bytes()))
                          for file in files if isinstance(file, Path)},
                         {option: file.name for option, file in named.items() if isinstance(file, Path)})


def _as_it_is(worker: Worker[Any, Any]) -> Worker[Any, Any]:
    return worker


def _bind(node: str) -> dict[str, Any]:
    """Return the options of a task or an actor on one node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    return {'scheduling_strategy': NodeAffinitySchedulingStrategy(node, soft=False)}


def _name(node: Mapping[str, Any]) -> str:
    return f'{node["NodeManagerHostname"]} ({node["NodeManagerAddress"]}, {node["NodeID"][:6]})'
