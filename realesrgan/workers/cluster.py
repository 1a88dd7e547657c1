"""A Ray cluster: how to reach it, which of its nodes can take part, and how weights get there."""
from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import version
from ..atomic_files import require_writable, temporary_folder, whole_file
from ..errors import ClusterError, flatten_message
from ..weights.download import hash_file
from ..weights.sources import PROJECT, prefetch
from .options import ClusterOptions, Place, UpsamplerOptions
from .pool import BuildWorker, Pool, Worker

logger = logging.getLogger(__name__)

_AUTO = 'auto'  # the address that stands for the cluster that this machine belongs to
_CURRENT = Path('/tmp/ray/ray_current_cluster')  # noqa: S108  # Ray's own; it stays when the cluster is gone
_MOST_FILES = 20  # that each node is asked about
_SAMPLE_BYTES = 1 << 16
_SECONDS_TO_CONNECT = 10
_PATIENCE_SECONDS = 60  # with a node that does not answer
_CACHE = Path('~/.cache/realesrgan/cluster-weights')

#: Says why a node can't take part; None if it can.
Refuse = Callable[[], str | None]


def accept() -> None:
    """Refuse nothing."""


@contextlib.contextmanager
def open_cluster(options: ClusterOptions, files: Sequence[Path], output: Path,
                 refuse: Refuse = accept) -> Iterator[Cluster]:
    """Connect to a cluster; the connection ends with the block, and with it all actors.

    Args:
        options: Which cluster, and what a worker takes of it.
        files: What the workers will read.
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
        with temporary_folder(output / 'seen') as token:  # which every node must see
            yield Cluster(ray, options, {path: _sample(path) for path in files[:_MOST_FILES]}, token, refuse)
    finally:
        if is_ours:
            ray.shutdown()


def _import_ray() -> ModuleType:
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
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
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR,
                 runtime_env={'env_vars': {'PYTHONPATH': str(PROJECT)}})
    except Exception as error:  # of many kinds
        logger.debug('%s', error)
        raise ClusterError(f'there is no cluster at {address}: {flatten_message(error)[:300]}; ray start --head '
                           'makes one') from None


def _read_own_address() -> str:
    """Return where Ray will look for the cluster of this machine; '' if it has none."""
    with contextlib.suppress(OSError):
        return os.environ.get('RAY_ADDRESS') or _CURRENT.read_text().strip()
    return ''


class Cluster:
    """A cluster that workers can be put on. `open_cluster` returns one."""

    def __init__(self, ray: Any, options: ClusterOptions, samples: Mapping[Path, str], token: Path,
                 refuse: Refuse) -> None:
        self._ray = ray
        self._options = options
        self._inspect = partial(_inspect, version.__version__, str(Path.cwd()), samples, token, refuse)
        self._accepted: dict[str, bool] = {}

    def make_pool(self, build: BuildWorker[Any, Any], options: UpsamplerOptions,
                  check: Callable[[], None]) -> Pool:
        """Return a pool of as many workers as have room.

        Args:
            build: Makes each worker; a partial whose first argument is `options`.
            options: Of the upsampler; weight files that it needs are sent along.
            check: See `ProcessPool`.

        Raises:
            ClusterError: no node can take part.
        """
        from .ray_pool import RayPool
        if not self.find_nodes():
            raise ClusterError('no node of the cluster can take part')
        shipped = self._ship_weights(options)
        return RayPool(partial(_build_on_node, shipped, build), self.find_nodes, check)

    def find_nodes(self) -> list[Any]:
        """Return the nodes that can take part now; a warning tells of each that can't."""
        alive = [node for node in self._ray.nodes() if node['Alive']]
        new = [node for node in alive if node['NodeID'] not in self._accepted]
        asked = [(node, self._ask(node)) for node in new]
        for node, answer in asked:
            reason = self._hear(answer)
            self._accepted[node['NodeID']] = reason is None
            if reason is not None:
                logger.warning('node %s is left out: %s', _name(node), reason)
        accepted = [node for node in alive if self._accepted[node['NodeID']]]
        has_gpus = any(node['Resources'].get('GPU') for node in accepted)
        found = [self._measure(node, has_gpus=has_gpus) for node in accepted]
        return [node for node in found if node.workers]

    def _ask(self, node: Mapping[str, Any]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        task = self._ray.remote(self._inspect.func).options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node['NodeID'], soft=False))
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

    def _ship_weights(self, options: UpsamplerOptions) -> Mapping[str, tuple[str, Any]]:
        """Put the weight files of an upsampler into the object store; return hash and reference by name."""
        sources = prefetch(options.model_name, options.model_path, options.denoise_strength)
        files = [file for file in (sources.main, sources.partner) if isinstance(file, Path)]
        return {file.name: (hash_file(file), self._ray.put(file.read_bytes())) for file in files}


def _name(node: Mapping[str, Any]) -> str:
    return f'{node["NodeManagerHostname"]} ({node["NodeManagerAddress"]}, {node["NodeID"][:6]})'


# ---- what runs on the nodes ----

def _inspect(expected: str, folder: str, samples: Mapping[Path, str], token: Path, refuse: Refuse) -> str | None:
    """Return why this node can't take part; None if it can."""
    if version.__version__ != expected:
        return f'it has Real-ESRGAN {version.__version__}, not {expected}'
    try:
        os.chdir(folder)
    except OSError:
        return f'it does not see the folder {folder}'
    if not token.is_dir():
        return f'it does not see the output folder {token.parent.absolute()}'
    for path, sample in samples.items():
        try:
            if _sample(path) != sample:
                return f'its {path} is another file'
        except OSError:
            return f'it does not see {path}'
    return refuse()


def _sample(path: Path) -> str:
    """Return what tells a file from others of its name: its size and its ends."""
    with path.open('rb') as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for position in (0, max(size - _SAMPLE_BYTES, 0)):
            file.seek(position)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _build_on_node(shipped: Mapping[str, tuple[str, Any]], build: Any, place: Place) -> Worker[Any, Any]:
    """Build a worker from the weights that were sent along, which a node writes to its disk once."""
    if not shipped:
        worker: Worker[Any, Any] = build(place)
        return worker
    import ray
    together = hashlib.sha256(' '.join(sha for sha, _ in shipped.values()).encode()).hexdigest()[:16]
    folder = _CACHE.expanduser() / together
    for name, (sha, reference) in shipped.items():
        if not (folder / name).is_file() or hash_file(folder / name) != sha:
            with whole_file(folder / name) as temporary:
                temporary.write_bytes(ray.get(reference))
    options: UpsamplerOptions = build.args[0]
    options = replace(options, model_path=str(folder / next(iter(shipped))))
    made: Worker[Any, Any] = build.func(options, *build.args[1:], **build.keywords, place=place)
    return made
