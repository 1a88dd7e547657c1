"""Whether a library passed its self-test on this machine: tested once, and kept in the user's cache folder."""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from ...atomic_files import whole_file
from ...errors import KernelError, flatten_message
from ...version import __version__
from ..cpu import processor_name
from .variants import hash_source

_TIMEOUT_SECONDS = 60
_MOST_KEPT = 50

#: The exit status of a self-test that a library failed. It can also end by a signal, or with Windows' own status.
FAILED = 3
# Statuses that say nothing about the library: an exception such as MemoryError, a bad command line, Ctrl-C on Windows,
# and the signals of somebody who ends it, or of a system that is out of memory.
_HINDERED = 1
_HINDERED_STATUSES = {_HINDERED, 2, 0xC000013A,
                      *(-getattr(signal, name, -1) for name in ('SIGHUP', 'SIGINT', 'SIGKILL', 'SIGTERM'))}


def require_passed(library: Path, content: bytes) -> None:
    """Test a library in a process of its own, unless the verdict is known.

    Args:
        library: The library.
        content: Its bytes.

    Raises:
        KernelError: it failed, now or earlier.
        OSError: the kernel's source can't be read.
    """
    file, key = find_verdicts(), _make_key(content)
    reason = _read(file).get(key)
    if reason is None:
        status, reason = _test(library)
        if status in _HINDERED_STATUSES:
            raise KernelError(f'the self-test of {library.name} was hindered ({reason}); it is tested again next time')
        _keep(file, key, reason)
    if reason:
        advice = f'; delete {file} to test it again' if file and key in _read(file) else ''
        raise KernelError(f'{library.name} failed its self-test on this machine ({reason}){advice}')


def find_verdicts() -> Path | None:
    """Return the file in which verdicts are kept; None if there is no place for it."""
    try:
        if sys.platform == 'win32':
            folder = Path(os.environ.get('LOCALAPPDATA') or Path.home() / 'AppData' / 'Local')
        elif sys.platform == 'darwin':
            folder = Path.home() / 'Library' / 'Caches'
        else:
            folder = Path(os.environ.get('XDG_CACHE_HOME', ''))
            if not folder.is_absolute():  # then it counts as not set: freedesktop.org's Base Directory Specification
                folder = Path.home() / '.cache'
    except RuntimeError:  # there is no home
        return None
    return folder / 'realesrgan' / 'kernel-self-tests.json'


def _make_key(content: bytes) -> str:
    """Return what a verdict depends on."""
    return ' | '.join((__version__, hash_source(), hashlib.sha256(content).hexdigest(), f'numpy {np.__version__}',
                       processor_name()))


def _read(file: Path | None) -> dict[str, str]:
    """Return the reasons of all failures by key, '' for what passed; nothing if the file can't be read."""
    try:
        kept = json.loads(file.read_text('utf-8')) if file else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(kept, dict):
        return {}
    return {key: reason for key, reason in kept.items() if isinstance(reason, str)}


def _keep(file: Path | None, key: str, reason: str) -> None:
    """Add a verdict. If another process adds one at the same time, one of the two is lost and tested again."""
    if file is None:
        return
    kept = {**_read(file), key: reason}
    text = json.dumps(dict(list(kept.items())[-_MOST_KEPT:]), indent=1)
    with contextlib.suppress(OSError), whole_file(file) as temporary:
        temporary.write_text(text, 'utf-8')


def _test(library: Path) -> tuple[int, str]:
    """Return the exit status of the self-test, and why it failed: '' if it passed."""
    if not sys.executable or getattr(sys, 'frozen', False):
        return _HINDERED, 'there is no Python to run it'
    try:
        result = subprocess.run(_command(library), stdin=subprocess.DEVNULL, capture_output=True,
                                text=True, errors='replace', timeout=_TIMEOUT_SECONDS,
                                creationflags=getattr(subprocess, 'CREATE_NO_WINDOW', 0))
    except subprocess.TimeoutExpired:
        return FAILED, f'it did not end within {_TIMEOUT_SECONDS} s'
    except OSError as error:
        return _HINDERED, flatten_message(error)
    if result.returncode == 0:
        return 0, ''
    lines = result.stderr.split('\n') if result.returncode > 0 else []
    said = [line.strip() for line in lines if line.strip()]
    return result.returncode, said[-1] if said else f'it ended with status {result.returncode}'


def _command(library: Path) -> list[str]:
    """Return the command of the self-test. Its Python looks for modules where this one does, in the same order."""
    parent = str(Path(__file__).resolve().parents[3])
    path = sys.path if parent in sys.path else [*sys.path, parent]
    start = ('import sys; library, *sys.path = sys.argv[1:]; '
             f'from {__package__}.self_test import main; sys.exit(main(library))')
    return [sys.executable, '-P', '-c', start, str(library), *path]
