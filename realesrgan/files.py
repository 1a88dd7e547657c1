"""Write files whole or not at all, clean up after interrupted runs, and read files back."""
from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

logger = logging.getLogger(__name__)

#: How the names of unfinished files begin.
TEMPORARY_PREFIX = '.realesrgan-'
_NAME = re.compile(rf'{re.escape(TEMPORARY_PREFIX)}(?P<machine>[0-9a-f]{{8}})-(?P<process>[0-9]{{1,9}})-.*')


def find_user_folder(kind: Literal['config', 'data', 'cache']) -> Path:
    """Return this program's folder of the user's configuration, data or cache, where the system has it.

    A variable that is empty or relative does not count, as the XDG specification demands.
    """
    usual = {'config': '~/.config', 'data': '~/.local/share', 'cache': '~/.cache'}[kind]
    variable, name = f'XDG_{kind.upper()}_HOME', 'realesrgan'
    if sys.platform == 'darwin':
        usual = '~/Library/Caches' if kind == 'cache' else '~/Library/Application Support'
    elif sys.platform == 'win32':
        usual, variable, name = '~/AppData/Local', 'LOCALAPPDATA', 'realesrgan/Cache' if kind == 'cache' else name
    moved = os.environ.get(variable, '')
    return Path(moved if Path(moved).is_absolute() else os.path.expanduser(usual), name)  # noqa: PTH111 # Path's can fail


def require_writable(folder: Path) -> None:
    """Find out before hours of work that results can't be written into a folder, which may not exist yet.

    Raises:
        OSError: the folder, or the nearest parent that exists, is no folder, can't be written, or is on a disk that
            can only be read.
    """
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK):
        code = errno.EROFS if _is_read_only(folder) else errno.EACCES
        raise OSError(code, os.strerror(code), str(folder))


def _is_read_only(folder: Path) -> bool:
    """Return whether a folder is on a disk that can only be read, as far as the system tells."""
    return sys.platform != 'win32' and bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def measure_free_disk(folder: Path) -> int:
    """Return the free room on the disk of a folder, or of its nearest parent that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def format_size(count: int) -> str:
    """Write a size for people."""
    return f'{count / 2 ** 20:.0f} MiB' if count < 10 * 2 ** 30 else f'{count / 2 ** 30:.0f} GiB'


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of runs on this machine that were killed. Those of runs that live stay."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f'{TEMPORARY_PREFIX}*'):
            name = _NAME.fullmatch(path.name)
            if not name or name['machine'] != _identify_machine():
                continue
            import psutil  # here, because importing it takes a tenth of a start
            if not psutil.pid_exists(int(name['process'])):
                logger.info('%s: removed, left behind by an interrupted run', path)
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


@functools.cache
def _identify_machine() -> str:
    """Return an identifier of this machine, or container, among those that may share a folder with it."""
    known = [platform.node()]
    with contextlib.suppress(OSError):
        known.append(Path('/etc/machine-id').read_text())
    with contextlib.suppress(OSError):
        known.append(str(Path('/proc/self/ns/pid').readlink()))  # containers number their processes anew
    return hashlib.sha256('\n'.join(known).encode()).hexdigest()[:8]


def _name_temporary(suffix: str) -> str:
    return f'{TEMPORARY_PREFIX}{_identify_machine()}-{os.getpid()}-{os.urandom(4).hex()}{suffix}'


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; a clean exit renames it to `target`, any other removes it.

    The temporary name is short, starts with a dot and keeps the extension, which encoders go by. Missing folders on
    the way to `target` are made.

    Raises:
        OSError: the folder can't be made or written, or the block wrote no file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(_name_temporary(target.suffix))
    try:
        with errors_naming(target, temporary):
            yield temporary
            temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def errors_naming(target: Path, temporary: Path) -> Iterator[None]:
    """Let an OSError of the block name `target` where it names none or `temporary`, which the user has never seen."""
    try:
        yield
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(target), None
        raise


def keep_dates(sources: Iterable[Path], target: Path) -> None:
    """Give a file the times of the newest of its sources; a warning says why it can't have them."""
    try:
        statuses = [path.stat() for path in sources if path.is_file()]
        if not statuses:
            logger.warning('the input is no file, so the result has the date of today')
            return
        newest = max(statuses, key=lambda status: status.st_mtime_ns)
        os.utime(target, ns=(newest.st_atime_ns, newest.st_mtime_ns))
    except OSError as error:
        logger.warning('the date of the input can\'t be kept: %s', error.strerror)


def write_through(file: Path) -> None:
    """Return when the content of a file is on the disk.

    Raises:
        OSError: it does not get there, which many file systems notice only now.
    """
    with file.open('rb+') as written:
        os.fsync(written.fileno())


def hash_file(file: Path) -> str:
    """Return the SHA-256 of a file as lower-case hex."""
    with file.open('rb') as opened:
        return hashlib.file_digest(opened, 'sha256').hexdigest()


def hash_samples(path: Path, length: int) -> str:
    """Return a hash of a file's size, and of up to `length` bytes each at its begin, in its middle and at its end.

    Raises:
        OSError: it can't be read.
    """
    with path.open('rb') as file:
        size = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size).encode())
        for position in sorted({0, size // 2, max(size - length, 0)}):
            file.seek(position)
            digest.update(file.read(length))
    return digest.hexdigest()


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file, or an empty one if the file is missing or damaged."""
    import json  # here, like psutil above
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target` for what is needed on the way to it, and remove it in the end.

    Missing folders on the way to `target` are made.

    Raises:
        OSError: it can't be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(_name_temporary(''))
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
