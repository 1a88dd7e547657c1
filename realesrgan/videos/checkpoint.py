"""The folder beside a result in which its parts wait until all are there, so that an interrupted run can be resumed."""
from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import PartsError
from ..files import TEMPORARY_PREFIX, read_json, whole_file
from ..options import VideoOptions, list_options
from ..version import __version__
from .parts import Part, Parts

logger = logging.getLogger(__name__)

_SAMPLE_BYTES = 1 << 20
_MANIFEST, _LOCK = 'manifest.json', 'lock'
#: The other tracks of a source that can be read once only, and the list of the parts, for joining them.
TRACKS, LIST = 'tracks.mkv', 'parts.ffconcat'
_PART_FILE = re.compile(r'\d{6,}\.\w+')
_OURS = re.compile(rf'{_PART_FILE.pattern}|{_MANIFEST}|{TRACKS}|{LIST}')


# ---- what parts depend on ----

# Options that parts don't depend on: the tiles of max_memory hardly show, of the weights the content counts, not the
# path, and of ext the container.
_NO_MATTER = frozenset((
    'model_path', 'max_memory', 'gpu_id', 'suffix', 'skip_existing', 'max_pixels', 'alpha_upsampler', 'cluster',
    'cpus_per_worker', 'compare', 'ext', 'ffmpeg_bin', 'num_process_per_gpu', 'restart', 'keep_parts', 'dry_run'))


def describe_run(ffmpeg_version: Sequence[int], source: Mapping[str, Any], weights: str,
                 options: VideoOptions) -> dict[str, Any]:
    """Return everything that parts depend on, by the names of the options: parts of an equal run may be reused.

    Args:
        ffmpeg_version: Of the encoder.
        source: What `identify_files` says about the input.
        weights: Their fingerprint.
        options: The caller's.
    """
    given = {name: getattr(options, name) for name, option in list_options(VideoOptions).items()
             if name not in _NO_MATTER and (option.group != 'faces' or options.face_enhance)}
    return {'version': __version__, 'ffmpeg': '.'.join(map(str, ffmpeg_version)), **source, 'weights': weights,
            'container': options.container,
            **{name: value if value is None or isinstance(value, (int, str)) else
               f'{value:g}' if isinstance(value, float) else str(value) for name, value in given.items()}}


def identify_files(files: Sequence[Path]) -> dict[str, Any]:
    """Return what tells files from others of the same names: sizes, the last time, and samples of the content.

    Raises:
        OSError: one can't be read.
    """
    digest = hashlib.sha256()
    size, newest = 0, 0.0
    for path in files:
        status = path.stat()
        size += status.st_size
        newest = max(newest, status.st_mtime)
        digest.update(f'{path.name}\0{status.st_size}\0'.encode(errors='surrogateescape'))
        with path.open('rb') as file:
            for position in sorted({0, status.st_size // 2, max(status.st_size - _SAMPLE_BYTES, 0)}):
                file.seek(position)
                digest.update(file.read(_SAMPLE_BYTES if len(files) == 1 else _SAMPLE_BYTES // 64))
    return {'source': files[0].name if len(files) == 1 else f'{len(files)} pictures', 'bytes': size,
            'modified': datetime.fromtimestamp(newest).isoformat(' '), 'content': digest.hexdigest()[:16]}


# ---- the folder ----

def get_parts_folder(target: Path) -> Path:
    """Return the folder for the parts of a result."""
    return target.with_name(f'{target.stem}_parts')


def find_reusable(target: Path, extension: str, manifest: Mapping[str, Any]) -> list[Part]:
    """Return the parts that a run would find; see `open_parts`."""
    parts = Parts(get_parts_folder(target), extension)
    found = read_json(parts.folder / _MANIFEST)
    return parts.find() if found and not _list_differences(found, _as_read(manifest)) else []


@contextlib.contextmanager
def open_parts(target: Path, extension: str, manifest: Mapping[str, Any], *, restart: bool = False,
               keep: bool = False) -> Iterator[Parts]:
    """Open the folder of parts of a result, `NAME_parts` beside it, for this run alone.

    A clean exit removes it unless `keep` is set; any other exit removes it only if it holds no part and no frame.

    Args:
        target: The result.
        extension: Of the parts.
        manifest: See `describe_run`.
        restart: Whether parts of a different run are thrown away.
        keep: Whether the folder stays.

    Raises:
        PartsError: another run has it open, or it holds parts of a different run; the message says what differs.
        OSError: it can't be made.
    """
    folder = get_parts_folder(target)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PartsError(f'{target}: another run is writing it; wait until it ends, or choose another --suffix or '
                         '-o') from None
    parts = Parts(folder, extension)
    try:
        _prepare_folder(parts, _as_read(manifest), target, restart=restart)
        with _tidy_afterwards(parts, keep=keep):
            yield parts
    finally:
        used_up = not (folder / _MANIFEST).exists()
        if used_up:  # while we hold the lock, or it could be another run's by now
            with contextlib.suppress(OSError):  # Windows does not delete an open file, but filelock does when it closes
                (folder / _LOCK).unlink(missing_ok=True)
        lock.release()
        if used_up:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _tidy_afterwards(parts: Parts, *, keep: bool) -> Iterator[None]:
    """Remove in the end what no other run needs."""
    finished = False
    try:
        yield
        finished = True
    finally:
        try:
            _remove_temporary_files(parts.folder)
            if (finished and not keep) or not parts.describe():
                _empty_folder(parts.folder)
        except OSError as error:  # the result is there, or another error is on its way
            logger.warning('%s can\'t be removed: %s', error.filename or parts.folder, error.strerror)


def _prepare_folder(parts: Parts, manifest: dict[str, Any], target: Path, *, restart: bool) -> None:
    """Check that the parts in the folder may be reused, or make room for new ones.

    Raises:
        PartsError: the folder holds something else.
    """
    folder = parts.folder
    _remove_temporary_files(folder)
    file = folder / _MANIFEST
    if not file.exists() and {path.name for path in folder.iterdir()} - {_LOCK}:
        raise PartsError(f'{folder}: can\'t be used for the parts of {target.name}: it contains other files; '
                         'move it away, or choose another --suffix or -o')
    found = read_json(file)
    if restart or not found or _list_differences(found, manifest):
        if found and not restart and any(_PART_FILE.fullmatch(path.name) and path.suffix != '.json'
                                         for path in folder.iterdir()):
            raise PartsError(f'{folder}: {_explain(found, manifest, target)}, or start anew with --restart')
        _empty_folder(folder)
        with whole_file(file) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1))


def _as_read(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as it comes back from its file, where tuples are lists."""
    read: dict[str, Any] = json.loads(json.dumps(manifest))
    return read


def _explain(found: Mapping[str, Any], manifest: Mapping[str, Any], target: Path) -> str:
    """Return why parts can't be reused, and what to do."""
    if found.get('version') != manifest.get('version'):
        return (f'holds parts that version {_shorten(found.get("version"))} has made, and this is '
                f'{_shorten(manifest.get("version"))}. Finish {target.name} with that version')
    return f'holds parts of another run: {_list_differences(found, manifest)}. Repeat that run to finish {target.name}'


def _list_differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return what differs, or ''; an option that only one of them knows differs unless it was not given."""
    names = [name for name in dict.fromkeys([*wanted, *found]) if found.get(name) != wanted.get(name)]
    return ', '.join(f'{name} was {_shorten(found.get(name))}, is {_shorten(wanted.get(name))}' for name in names)


def _shorten(value: object) -> str:
    text = 'not given' if value is None else str(value)
    return text if len(text) <= 60 else f'{text[:60]}...'


def _remove_temporary_files(folder: Path) -> None:
    """Remove what killed runs have left behind."""
    for path in folder.glob(f'{TEMPORARY_PREFIX}*'):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _empty_folder(folder: Path) -> None:
    # The manifest goes last: if this is interrupted, it still marks the folder as ours.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == _MANIFEST):
        if _OURS.fullmatch(path.name):
            path.unlink()
