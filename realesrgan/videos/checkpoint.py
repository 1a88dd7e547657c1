"""The folder beside a result in which its parts wait until all are there, so that an interrupted run can go on."""
from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..atomic_files import TEMPORARY_PREFIX, whole_file
from ..errors import PartsError

logger = logging.getLogger(__name__)

_SAMPLE_BYTES = 1 << 20
_MANIFEST, _LOCK = 'manifest.json', 'lock'
#: The other tracks of a source that can be read once only, and the list of the parts, for joining them.
TRACKS, LIST = 'tracks.mkv', 'parts.ffconcat'
_OURS = re.compile(rf'\d{{6}}\.\w+|{_MANIFEST}|{TRACKS}|{LIST}')


class Parts:
    """The parts of one result, and what is written down about each.

    Use `opened` to get one.

    Attributes:
        folder: Where they are.
    """

    def __init__(self, folder: Path, extension: str) -> None:
        self.folder = folder
        self._extension = extension

    def path(self, index: int) -> Path:
        """Return the path of a part; it exists when the part is whole."""
        return self.folder / f'{index:06}.{self._extension}'

    def note(self, index: int) -> dict[str, Any] | None:
        """Return what `seal` has written down about a part; None if the part is not whole."""
        path = self.path(index)
        note = _read(path.with_suffix('.json'))
        return note if path.exists() and path.stat().st_size == note.get('bytes') else None

    def whole(self) -> list[int]:
        """Return the numbers of the parts that are whole."""
        indices = sorted(int(path.stem) for path in self.folder.glob(f'{"[0-9]" * 6}.{self._extension}'))
        return [index for index in indices if self.note(index) is not None]


def seal(path: Path, temporary: Path, note: Mapping[str, Any]) -> None:
    """Make a finished part ready to be renamed from `temporary` to `path`, after which it counts as whole.

    What is written down about it goes into a file beside it; its content is on the disk when this returns.
    """
    with whole_file(path.with_suffix('.json')) as file:
        file.write_text(json.dumps({**note, 'bytes': temporary.stat().st_size}))
    with temporary.open('rb+') as written:
        os.fsync(written.fileno())


def parts_folder(target: Path) -> Path:
    """Return the folder for the parts of a result."""
    return target.with_name(f'{target.stem}_parts')


@contextlib.contextmanager
def opened(target: Path, extension: str, manifest: Mapping[str, Any], *, restart: bool = False,
           keep: bool = False) -> Iterator[Parts]:
    """Open the folder of parts of a result, for this run alone: `NAME_parts` beside it.

    It is removed after a clean exit, unless it is to be kept, and after any other if no part is whole.

    Args:
        target: The result.
        extension: Of the parts.
        manifest: All that parts depend on, by the names that a user knows; of simple values.
        restart: Whether parts of something else are thrown away.
        keep: Whether the folder stays.

    Raises:
        PartsError: another run has it open, or its parts are of something else; the message says what differs.
        OSError: it can't be made.
    """
    folder = parts_folder(target)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PartsError(f'{target}: another run is writing it; wait for that one, or choose another --suffix or '
                         '-o') from None
    parts = Parts(folder, extension)
    try:
        _prepare(parts, json.loads(json.dumps(manifest)), target, restart=restart)
        with _tidied(parts, keep=keep):
            yield parts
    finally:
        lock.release()
        if not (folder / _MANIFEST).exists():
            with contextlib.suppress(OSError):
                (folder / _LOCK).unlink(missing_ok=True)
                folder.rmdir()


@contextlib.contextmanager
def _tidied(parts: Parts, *, keep: bool) -> Iterator[None]:
    """Remove in the end what no other run needs."""
    finished = False
    try:
        yield
        finished = True
    finally:
        _clear_temporary(parts.folder)
        whole = len(parts.whole())
        if whole and not finished:
            logger.warning('%d finished parts stay in %s; the same command goes on from there', whole, parts.folder)
        if not whole or (finished and not keep):
            _empty(parts.folder)


def _prepare(parts: Parts, manifest: dict[str, Any], target: Path, *, restart: bool) -> None:
    """Make sure that what is in the folder belongs to this run."""
    folder, whole = parts.folder, parts.whole()
    _clear_temporary(folder)
    file = folder / _MANIFEST
    if not file.exists() and {path.name for path in folder.iterdir()} - {_LOCK}:
        raise PartsError(f'{folder}: is in the way: parts of {target.name} would go there, but it holds something '
                         'else; move it away, or choose another --suffix or -o')
    found = _read(file)
    if found != manifest or restart:
        if found and whole and not restart:
            raise PartsError(f'{folder}: holds parts of another run: {_difference(found, manifest)}. Repeat that run '
                             f'to finish {target.name}, or start anew with --restart')
        _empty(folder)
        with whole_file(file) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1))


def _read(file: Path) -> dict[str, Any]:
    """Return what a file of JSON holds, nothing if it is missing or damaged."""
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    names = [name for name in dict.fromkeys([*wanted, *found]) if found.get(name) != wanted.get(name)]
    return ', '.join(f'{name} was {_short(found.get(name))}, is {_short(wanted.get(name))}' for name in names)


def _short(value: object) -> str:
    text = 'not given' if value is None else str(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


def _clear_temporary(folder: Path) -> None:
    """Remove what runs that were killed have left."""
    for path in folder.glob(f'{TEMPORARY_PREFIX}*'):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _empty(folder: Path) -> None:
    # The manifest goes last: by it the folder is known as ours, should this be interrupted.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == _MANIFEST):
        if _OURS.fullmatch(path.name):
            path.unlink()


def identity(files: Sequence[Path]) -> dict[str, Any]:
    """Return what tells files from others of the same names, for a manifest: sizes, times and samples of the content.

    Raises:
        OSError: one can't be read.
    """
    digest = hashlib.sha256()
    size, newest = 0, 0.0
    for path in files:
        status = path.stat()
        size += status.st_size
        newest = max(newest, status.st_mtime)
        digest.update(f'{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0'.encode(errors='surrogateescape'))
        with path.open('rb') as file:
            for position in sorted({0, status.st_size // 2, max(status.st_size - _SAMPLE_BYTES, 0)}):
                file.seek(position)
                digest.update(file.read(_SAMPLE_BYTES if len(files) == 1 else _SAMPLE_BYTES // 64))
    return {'source': files[0].name if len(files) == 1 else f'{len(files)} pictures', 'bytes': size,
            'modified': datetime.fromtimestamp(newest).isoformat(' '), 'content': digest.hexdigest()[:16]}
