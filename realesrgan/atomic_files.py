"""Write files whole or not at all, and leave nothing else behind."""
from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

#: How the names of unfinished files begin.
TEMPORARY_PREFIX = '.realesrgan-'


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
