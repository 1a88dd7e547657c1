"""Write files whole or not at all, and leave nothing else behind."""
from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

#: How the names of unfinished files begin.
TEMPORARY_PREFIX = '.realesrgan-'


def require_writable(folder: Path) -> None:
    """Find out before hours of work that results can't be written into a folder, which may not exist yet.

    Raises:
        OSError: the folder, or the nearest parent that exists, is no folder or can't be written.
    """
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; a clean exit renames it to `target`, any other removes it.

    The temporary name is short, starts with a dot and keeps the extension, which encoders go by. Missing folders on
    the way to `target` are made.

    Raises:
        OSError: the folder can't be made or written, or the block wrote no file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f'{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}{target.suffix}')
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        if error.filename == str(temporary):  # a name the user has never seen
            error.filename, error.filename2 = str(target), None
        raise
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target` for what is needed on the way to it, and remove it in the end.

    Missing folders on the way to `target` are made.

    Raises:
        OSError: it can't be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
