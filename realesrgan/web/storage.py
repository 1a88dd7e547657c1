"""The folder of the service: everything temporary lies in it, and what a killed service left there is removed."""
from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = 'service-'


def choose_folder() -> Path:
    """Return the folder for services of this user: in the system's own for temporary files."""
    user = os.getuid() if hasattr(os, 'getuid') else os.environ.get('USERNAME', '')
    return Path(tempfile.gettempdir()) / f'realesrgan-web-{user}'


@contextlib.contextmanager
def open_storage(base: Path) -> Iterator[Path]:
    """Yield a new folder that nobody else can read, and remove it in the end. Python's temporary files go there too.

    Folders of services that were killed are removed first: the lock of one that lives is held.

    Args:
        base: The folder that services share.

    Raises:
        OSError: it can't be made, or belongs to somebody else.
    """
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, 'getuid') and base.stat().st_uid != os.getuid():
        raise PermissionError(f'{base} belongs to another user; name another folder with --folder')
    _remove_dead(base)
    folder = base / f'{_PREFIX}{secrets.token_hex(8)}'
    with FileLock(_lock_path(folder)):  # before the folder is there, or another service would take it for a dead one's
        folder.mkdir(mode=0o700)
        before, tempfile.tempdir = tempfile.tempdir, str(folder)  # which Flask and waitress use
        try:
            yield folder
        finally:
            tempfile.tempdir = before
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                _lock_path(folder).unlink(missing_ok=True)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f'{folder.name}.lock')


def _remove_dead(base: Path) -> None:
    for folder in base.glob(f'{_PREFIX}*'):
        if folder.is_dir() and not folder.is_symlink():
            with contextlib.suppress(Timeout, OSError), FileLock(_lock_path(folder), timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                _lock_path(folder).unlink(missing_ok=True)
