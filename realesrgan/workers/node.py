"""Check that a node of a cluster can take part, and give its workers the files that were sent along."""
from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import version
from ..files import hash_file, whole_file
from ..options import UpsamplerOptions
from ..weights.sources import FOLDER_VARIABLE
from .options import Place
from .pool import Worker

_SAMPLE_BYTES = 1 << 16
_CACHE = Path('~/.cache/realesrgan/cluster-weights')

#: Says why a node can't take part; None if it can.
Refuse = Callable[[], str | None]


def accept() -> None:
    """Refuse nothing."""


@dataclass(frozen=True)
class SharedFiles:
    """What a node must see as the machine does that gave the command.

    Attributes:
        folder: Which paths start from.
        output: A folder that has just been made where results go.
        samples: What `sample` says of inputs.
    """

    folder: str
    output: Path
    samples: Mapping[Path, str]


@dataclass(frozen=True)
class SentFiles:
    """Weights that are sent to each node.

    Attributes:
        contents: Hash and reference of each, by name.
        changes: The options that name them, and the names.
    """

    contents: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    changes: Mapping[str, str] = field(default_factory=dict)


def inspect(expected: str, shared: SharedFiles, refuse: Refuse) -> str | None:
    """Return why this node can't take part; None if it can.

    Args:
        expected: The version of the project.
        shared: What it must see.
        refuse: What else may be wrong.
    """
    if version.__version__ != expected:
        return f'it has Real-ESRGAN {version.__version__}, not {expected}'
    return _look_for(shared) or refuse()


def _look_for(shared: SharedFiles) -> str | None:
    try:
        os.chdir(shared.folder)
    except OSError:
        return f'it does not see the folder {shared.folder}'
    if not shared.output.is_dir():
        return f'it does not see the output folder {shared.output.parent.absolute()}'
    for path, expected in shared.samples.items():
        try:
            if sample(path) != expected:
                return f'its {path} is another file'
        except OSError:
            return f'it does not see {path}'
    return None


def sample(path: Path) -> str:
    """Return what tells a file from others of its name: its size and its ends.

    Raises:
        OSError: it can't be read.
    """
    with path.open('rb') as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for position in (0, max(size - _SAMPLE_BYTES, 0)):
            file.seek(position)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def build_on_node(sent: SentFiles, build: Any, place: Place) -> Worker[Any, Any]:
    """Build a worker with the files that were sent along, which a node writes to its disk once.

    Args:
        sent: The files.
        build: Makes the worker; a partial whose first argument is its `UpsamplerOptions`.
        place: Where it computes.
    """
    import ray
    together = hashlib.sha256(' '.join(sha for sha, _ in sent.contents.values()).encode()).hexdigest()[:16]
    folder = _CACHE.expanduser() / together
    for name, (sha, reference) in sent.contents.items():
        if not (folder / name).is_file() or hash_file(folder / name) != sha:
            with whole_file(folder / name) as temporary:
                temporary.write_bytes(ray.get(reference))
    os.environ[FOLDER_VARIABLE] = str(folder)
    options: UpsamplerOptions = replace(
        build.args[0], **{option: str(folder / name) for option, name in sent.changes.items()})
    worker: Worker[Any, Any] = build.func(options, *build.args[1:], **build.keywords, place=place)
    return worker
