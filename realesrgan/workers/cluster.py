"""A Ray cluster: which of its nodes can take part, and what is sent there."""
from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import version
from ..errors import ClusterError
from ..files import require_writable, temporary_folder
from ..log import about
from ..options import RunOptions, UpsamplerOptions
from ..weights.sources import find_url_prefix, prefetch
from .connection import connect, import_ray
from .node import Refuse, SentFiles, SharedFiles, accept, build_on_node, inspect, sample
from .pool import BuildWorker, Pool

logger = logging.getLogger(__name__)

_MOST_FOLDERS, _MOST_SPREAD = 200, 20  # of which each node is asked about a file, and how many more
_PATIENCE_SECONDS = 60  # with nodes that do not answer


@contextlib.contextmanager
def open_cluster(options: RunOptions, files: Sequence[Path], output: Path, refuse: Refuse = accept,
                 workers_per_gpu: int = 1) -> Iterator[Cluster]:
    """Connect to a cluster; the connection ends with the block, and with it all actors.

    Args:
        options: Say which cluster, and what a worker takes of it.
        files: What the workers will read.
        output: Where they will write.
        refuse: Called on each node.
        workers_per_gpu: Workers that share a GPU.

    Raises:
        ClusterError: ray is not installed, or the cluster is not there.
        OSError: the output folder can't be written.
    """
    assert options.cluster is not None
    ray = import_ray(options.cluster)
    require_writable(output)
    is_ours = not ray.is_initialized()
    if is_ours:
        connect(ray, options.cluster)
    try:
        with temporary_folder(output / 'seen') as seen:
            shared = SharedFiles(str(Path.cwd()), seen, {path: sample(path) for path in _choose_samples(files)})
            yield Cluster(ray, shared, refuse, options.cpus_per_worker, workers_per_gpu)
    finally:
        if is_ours:
            ray.shutdown()


def _choose_samples(files: Sequence[Path]) -> list[Path]:
    """Return the files that each node is asked about: one of each folder, and some that are spread evenly."""
    of_folders = {path.parent: path for path in reversed(files)}
    spread = files[::len(files) // _MOST_SPREAD + 1]
    return list(dict.fromkeys([*list(of_folders.values())[:_MOST_FOLDERS], *spread]))


class Cluster:
    """A cluster that workers can be put on. `open_cluster` returns one."""

    def __init__(self, ray: Any, shared: SharedFiles, refuse: Refuse, cpus_per_worker: float | None,
                 workers_per_gpu: int) -> None:
        self._ray = ray
        self._cpus_per_worker = cpus_per_worker
        self._workers_per_gpu = workers_per_gpu
        self._shared = shared
        self._refuse = refuse
        self._asked: dict[str, Any] = {}  # nodes that have not answered yet
        self._accepted: dict[str, bool] = {}

    def make_pool(self, build: BuildWorker[Any, Any], options: UpsamplerOptions, check: Callable[[], None]) -> Pool:
        """Return a pool of as many workers as have room.

        Args:
            build: Makes each worker; a partial whose first argument is `options`.
            options: What it works with; the weight files are sent along.
            check: See `RemotePool`.

        Raises:
            ClusterError: no node can take part.
        """
        from .ray_pool import RayPool
        if not self.find_nodes():
            raise ClusterError('no node of the cluster can take part')
        return RayPool(partial(build_on_node, self._send_files(options), build), self.find_nodes, check,
                       folder=self._shared.folder)

    def find_nodes(self) -> list[Any]:
        """Return the nodes that can take part now; a warning tells of each that can't."""
        alive = self._list_alive()
        for identity in alive.keys() - self._asked.keys() - self._accepted.keys():
            self._asked[identity] = self._run_on(identity, inspect, version.__version__, self._shared, self._refuse)
        for identity in self._wait_for_answers():
            reason = self._hear(self._asked.pop(identity))
            if identity not in alive or (reason and identity not in self._list_alive()):
                continue  # it has died
            reason = reason or self._explain_no_room(alive[identity])
            self._accepted[identity] = reason is None
            if reason is not None:
                with about(''):
                    logger.warning('node %s is left out: %s', _name(alive[identity]), reason)
        accepted = [node for identity, node in alive.items() if self._accepted.get(identity)]
        has_gpus = any(node['Resources'].get('GPU') for node in accepted)
        found = [self._measure(node, has_gpus=has_gpus) for node in accepted]
        return [node for node in found if node.workers]

    def _list_alive(self) -> dict[str, Mapping[str, Any]]:
        return {node['NodeID']: node for node in self._ray.nodes() if node['Alive']}

    def _wait_for_answers(self) -> list[str]:
        """Return the nodes that have answered; those that join later are not waited for."""
        if not self._asked:
            return []
        patience = 0 if self._accepted else _PATIENCE_SECONDS
        answers, _ = self._ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=patience)
        return [identity for identity, answer in self._asked.items() if answer in answers]

    def _run_on(self, node: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function on a node; return Ray's reference to what it returns."""
        return self._ray.remote(function).options(num_cpus=0, max_retries=0, **_bind(node)).remote(*arguments)

    def _hear(self, answer: Any) -> str | None:
        try:
            reason: str | None = self._ray.get(answer)
        except Exception as error:  # whatever its Python, or Ray, fails with
            last = [line for line in str(error).splitlines() if line.strip()][-1:]
            return f'it can\'t run Real-ESRGAN: {last[0].strip() if last else type(error).__name__}'
        return reason

    def _explain_no_room(self, node: Mapping[str, Any]) -> str | None:
        """Return why a node without GPUs would never have room for a worker."""
        cpus, asked = node['Resources'].get('CPU', 0), self._cpus_per_worker
        if asked is None or asked <= cpus or node['Resources'].get('GPU'):
            return None
        return f'it has {cpus:g} of the {asked:g} cores of --cpus_per_worker'

    def _measure(self, node: Mapping[str, Any], *, has_gpus: bool) -> Any:
        """Return a node with as many workers as have room."""
        from .ray_pool import Node
        cpus, gpus = (node['Resources'].get(name, 0) for name in ('CPU', 'GPU'))
        asked = self._cpus_per_worker
        if gpus:
            share = self._workers_per_gpu
            count = int(gpus * share)
            return Node(node['NodeID'], _name(node), count, cpus=min(1, cpus / max(count, 1)), gpus=1 / share)
        if has_gpus and asked is None:
            return Node(node['NodeID'], _name(node), 0)  # a CPU would be the last to finish
        each = asked or cpus
        return Node(node['NodeID'], _name(node), int(cpus // each) if each else 0, cpus=each)

    def _send_files(self, options: UpsamplerOptions) -> SentFiles:
        """Put what workers need into the object store."""
        sources = prefetch(options.model_name, options.model_path, options.denoise_strength)
        files = [sources.main, sources.partner]
        if options.face_enhance:
            from ..faces.networks import obtain_face_files
            files += obtain_face_files(options.face_model)
        prefix = find_url_prefix(options.model_path)  # without it a node knows the model by its name
        names = {file: file.name.removeprefix(prefix) for file in files if isinstance(file, Path)}
        contents = {}
        for file, name in names.items():
            content = file.read_bytes()
            contents[name] = hashlib.sha256(content).hexdigest(), self._ray.put(content)
        return SentFiles(contents, {'model_path': names[sources.main]} if isinstance(sources.main, Path) else {})


def _bind(node: str) -> dict[str, Any]:
    """Return the options of a task or an actor on one node."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    return {'scheduling_strategy': NodeAffinitySchedulingStrategy(node, soft=False)}


def _name(node: Mapping[str, Any]) -> str:
    return f'{node["NodeManagerHostname"]} ({node["NodeManagerAddress"]}, {node["NodeID"][:6]})'
