"""Connect to a Ray cluster, find the nodes that can take part, and send them weights.

Nodes see the same files under the same paths, as those of every render farm do. Each is asked before it takes part.
"""
from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import version
from ..errors import ClusterError, flatten_message
from ..files import find_user_folder, hash_file, hash_samples, require_writable, temporary_folder, whole_file
from ..log import about
from ..options import RunOptions, UpsamplerOptions
from ..weights.sources import FOLDER_VARIABLE, PROJECT, find_url_prefix, prefetch
from .pool import MOST_ATTEMPTS, Build, Place, Pool, Worker

logger = logging.getLogger(__name__)

_AUTO, _LOCAL = 'auto', 'local'  # addresses: the cluster that this machine belongs to, and one of its own
_CURRENT = Path('/tmp/ray/ray_current_cluster')  # noqa: S108  # Ray's own; it stays when the cluster is gone
_TOKEN, _TOKENS = Path('~/.ray/auth_token'), ('RAY_AUTH_TOKEN', 'RAY_AUTH_TOKEN_PATH')
_SECONDS_TO_CONNECT = 10
# How a client of HTTP/2, which gRPC is based on, begins; and what kind of frame its server begins with.
_SETTINGS = b'\x04'
_GREETING = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + b'\x00\x00\x00' + _SETTINGS + bytes(5)
_MOST_FOLDERS, _MOST_SPREAD = 200, 20  # of which each node is asked about a file, and how many more
_PATIENCE_SECONDS = 60  # with nodes that do not answer
_SAMPLE_BYTES = 1 << 16

#: Returns why a node can't take part; None if it can.
Refuse = Callable[[], str | None]


@contextlib.contextmanager
def open_ray_pool(build: Build, options: RunOptions, files: Sequence[Path], output: Path, check: Callable[[], None],
                  refuse: Refuse = lambda: None, attempts: int = MOST_ATTEMPTS) -> Iterator[Pool]:
    """Connect to a cluster and return a pool of as many workers as have room; both end with the block.

    Args:
        build: Makes each worker; a partial whose first argument is `options`.
        options: The cluster, the share of a worker in it, and what it works with; weight files are sent to each node.
        files: Inputs of the workers.
        output: Folder for the results.
        check, attempts: See `RemotePool`.
        refuse: Called on each node.

    Raises:
        ClusterError: ray is not installed, the cluster is not there, or no node can take part.
        OSError: the output folder can't be written.
    """
    assert options.cluster is not None
    ray = import_ray(options.cluster)
    require_writable(output)
    is_ours, expected = not ray.is_initialized(), version.__version__
    if is_ours:
        connect(ray, options.cluster)
    try:
        with temporary_folder(output / 'seen') as seen:
            folder = str(Path.cwd())
            samples = {path: hash_samples(path, _SAMPLE_BYTES) for path in choose_samples(files)}
            cluster = Cluster(ray, lambda: inspect(expected, folder, seen, samples, refuse), options.cpus_per_worker,
                              getattr(options, 'num_process_per_gpu', 1))
            if not cluster.find_places():
                raise ClusterError('no node of the cluster can take part')
            from .ray_tasks import RayPool
            build_there = partial(build_on_node, *send_weights(ray, options), build)
            with RayPool(build_there, cluster.find_places, check, attempts, folder) as pool:
                yield pool
    finally:
        if is_ours:
            ray.shutdown()


# ---- connecting ----

def import_ray(address: str) -> ModuleType:
    """Import Ray, with the settings that it reads then.

    Raises:
        ClusterError: it is not installed.
    """
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    if address != _LOCAL:
        os.environ.setdefault('RAY_NUM_REDIS_GET_RETRIES', '3')  # times that it tries to connect
    if any(name in os.environ for name in _TOKENS) or _TOKEN.expanduser().is_file():
        os.environ.setdefault('RAY_AUTH_MODE', 'token')  # Ray itself does so for `auto` only
    try:
        import ray
    except ImportError:
        raise ClusterError('--cluster needs ray: pip install ray') from None
    return ray


def connect(ray: Any, address: str) -> None:
    """Connect this process to a cluster.

    Raises:
        ClusterError: it is not there, or does not let this process in.
    """
    before = signal.getsignal(signal.SIGTERM)
    own = os.environ.get('RAY_ADDRESS') or (_CURRENT.read_text().strip() if _CURRENT.is_file() else '')
    host, _, port = (own if address == _AUTO else address).rpartition(':')
    try:
        if host and port.isdecimal():  # ray itself would try for minutes
            _probe_head(host.strip('[]'), int(port))
        with _silence_stderr():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR,
                     runtime_env={'env_vars': {'PYTHONPATH': str(PROJECT)}})
        # Or it prints all that a node has logged before it died.
        ray._private.worker.print_to_stdstream = lambda data, **_: logger.debug('%s', data)
    except UnicodeEncodeError:
        raise ClusterError('Ray can\'t be told names that are not UTF-8; give the folder that holds them') from None
    except Exception as error:  # of many kinds
        logger.debug('%s', error)
        if 'token' in f'{error} {error.__cause__}':
            raise ClusterError(f'the cluster at {address} asks for a token: copy ~/.ray/auth_token of its head to '
                               'this machine') from None
        raise ClusterError(f'there is no cluster at {address}: {flatten_message(error)[:300]}; ray start --head '
                           'makes one') from None
    finally:
        with contextlib.suppress(ValueError, TypeError):  # not in the main thread, or not Python's
            signal.signal(signal.SIGTERM, before)  # Ray has put its own there, which prints a stack


def _probe_head(host: str, port: int) -> None:
    """Find out whether a server at an address speaks gRPC, as Ray's head does.

    Raises:
        OSError: there is none, or it does not.
    """
    with socket.create_connection((host, port), _SECONDS_TO_CONNECT) as connection:
        if 'RAY_USE_TLS' in os.environ:
            return
        connection.sendall(_GREETING)
        if connection.recv(4)[3:] != _SETTINGS:
            raise OSError('what answers there is no head of Ray')


@contextlib.contextmanager
def _silence_stderr() -> Iterator[None]:
    """Drop all writes to stderr: Ray's own library complains each second about a wrong token."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open('wb') as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


# ---- which nodes can take part ----

def choose_samples(files: Sequence[Path]) -> list[Path]:
    """Return the files that each node is asked about: one of each folder, and some that are spread evenly."""
    of_folders = {path.parent: path for path in reversed(files)}
    spread = files[::len(files) // _MOST_SPREAD + 1]
    return list(dict.fromkeys([*list(of_folders.values())[:_MOST_FOLDERS], *spread]))


def inspect(expected: str, folder: str, output: Path, samples: Mapping[Path, str], refuse: Refuse) -> str | None:
    """Return why the node that runs this can't take part; None if it can.

    Args:
        expected: The version of the project.
        folder: Which paths start from.
        output: A folder that has just been made where results go.
        samples: Hashes of inputs, which must be the same on the node.
        refuse: Asks for anything else.
    """
    if version.__version__ != expected:
        return f'it has Real-ESRGAN {version.__version__}, not {expected}'
    try:
        os.chdir(folder)
    except OSError:
        return f'it does not see the folder {folder}'
    if not output.is_dir():
        return f'it does not see the output folder {output.parent.absolute()}'
    for path, expected_sample in samples.items():
        try:
            if hash_samples(path, _SAMPLE_BYTES) != expected_sample:
                return f'its {path} is another file'
        except OSError:
            return f'it does not see {path}'
    return refuse()


class Cluster:
    """The nodes of a cluster.

    Args:
        ray: The module, connected.
        inspect_node: Runs on each node, and returns why that can't take part.
        cpus_per_worker: Cores of a worker on a node without a GPU; None for all of the node's.
        workers_per_gpu: Workers that share a GPU.
    """

    def __init__(self, ray: Any, inspect_node: Refuse, cpus_per_worker: float | None, workers_per_gpu: int) -> None:
        self._ray = ray
        self._inspect_node = inspect_node
        self._cpus = cpus_per_worker
        self._workers_per_gpu = workers_per_gpu
        self._asked: dict[str, Any] = {}  # nodes that have not answered yet
        self._accepted: dict[str, bool] = {}

    def find_places(self) -> list[Any]:
        """Return the places of workers on the nodes that can take part now; a warning names each node that can't."""
        from .ray_tasks import bind_to_node
        alive = self._list_alive()
        for identity in alive.keys() - self._asked.keys() - self._accepted.keys():
            self._asked[identity] = self._ray.remote(self._inspect_node).options(
                num_cpus=0, max_retries=0, scheduling_strategy=bind_to_node(identity)).remote()
        patience = 0 if self._accepted else _PATIENCE_SECONDS  # nodes that join later are not waited for
        answers = list(self._asked.values())
        answered = self._ray.wait(answers, num_returns=len(answers), timeout=patience)[0] if answers else []
        for identity in [identity for identity, answer in self._asked.items() if answer in answered]:
            reason = self._read_answer(self._asked.pop(identity))
            if identity not in alive or (reason and identity not in self._list_alive()):
                continue  # it has died
            reason = reason or self.explain_no_room(alive[identity])
            self._accepted[identity] = reason is None
            if reason is not None:
                with about(''):
                    logger.warning('node %s is left out: %s', _name_node(alive[identity]), reason)
        accepted = [node for identity, node in alive.items() if self._accepted.get(identity)]
        has_gpus = any(node['Resources'].get('GPU') for node in accepted)
        return [place for node in accepted for place in self.list_places(node, has_gpus=has_gpus)]

    def _list_alive(self) -> dict[str, Mapping[str, Any]]:
        return {node['NodeID']: node for node in self._ray.nodes() if node['Alive']}

    def _read_answer(self, answer: Any) -> str | None:
        try:
            reason: str | None = self._ray.get(answer)
        except Exception as error:  # whatever its Python, or Ray, fails with
            last = [line for line in str(error).splitlines() if line.strip()][-1:]
            return f'it can\'t run Real-ESRGAN: {last[0].strip() if last else type(error).__name__}'
        return reason

    def explain_no_room(self, node: Mapping[str, Any]) -> str | None:
        """Return why a node without GPUs would never have room for a worker."""
        cpus = node['Resources'].get('CPU', 0)
        if self._cpus is None or self._cpus <= cpus or node['Resources'].get('GPU'):
            return None
        return f'it has {cpus:g} of the {self._cpus:g} cores of --cpus_per_worker'

    def list_places(self, node: Mapping[str, Any], *, has_gpus: bool) -> list[Any]:
        """Return the place of each worker that has room on a node.

        Args:
            node: As Ray describes it.
            has_gpus: Whether any node has GPUs; one without would be the last to finish.
        """
        from .ray_tasks import NodePlace
        cpus, gpus = (node['Resources'].get(name, 0) for name in ('CPU', 'GPU'))
        if gpus:
            count = int(gpus * self._workers_per_gpu)
            cpus, gpus = min(1, cpus / max(count, 1)), 1 / self._workers_per_gpu
        else:
            each = 0 if has_gpus and self._cpus is None else self._cpus or cpus
            count, cpus = int(cpus // each) if each else 0, each
        return [NodePlace(node['NodeID'], _name_node(node), cpus, gpus, count)] * count


def _name_node(node: Mapping[str, Any]) -> str:
    return f'{node["NodeManagerHostname"]} ({node["NodeManagerAddress"]}, {node["NodeID"][:6]})'


# ---- weights ----

def send_weights(ray: Any, options: UpsamplerOptions) -> tuple[dict[str, tuple[str, Any]], str | None]:
    """Put the weight files that workers need into Ray's object store; return the arguments of `build_on_node`."""
    sources = prefetch(options.model_name, options.model_path, options.denoise_strength)
    files = [sources.main, sources.partner]
    if options.face_enhance:
        from ..faces import obtain_face_files
        files += obtain_face_files(options.face_model)
    prefix = find_url_prefix(options.model_path)  # without it a node knows the model by its name
    names = {file: file.name.removeprefix(prefix) for file in files if isinstance(file, Path)}
    sent = {}
    for file, name in names.items():
        content = file.read_bytes()
        sent[name] = hashlib.sha256(content).hexdigest(), ray.put(content)
    return sent, names[sources.main] if isinstance(sources.main, Path) else None


def build_on_node(files: Mapping[str, tuple[str, Any]], model: str | None, build: Any, place: Place) -> Worker:
    """Build a worker with the weights that were sent, which a node writes to its disk once.

    Args:
        files: Hash and Ray's reference of each weight file, by name.
        model: Name of the file that `model_path` stands for; None if nodes know the model by its name.
        build: Makes the worker; a partial whose first argument is its options.
        place: Where it computes.
    """
    import ray
    together = hashlib.sha256(' '.join(sha for sha, _ in files.values()).encode()).hexdigest()[:16]
    folder = find_user_folder('cache') / 'cluster-weights' / together
    for name, (sha, reference) in files.items():
        if not (folder / name).is_file() or hash_file(folder / name) != sha:
            with whole_file(folder / name) as temporary:
                temporary.write_bytes(ray.get(reference))
    os.environ[FOLDER_VARIABLE] = str(folder)
    options = build.args[0]
    if model is not None:
        options = options.replace(model_path=str(folder / model))
    worker: Worker = build.func(options, *build.args[1:], **build.keywords, place=place)
    return worker
