"""Start ffmpeg or ffprobe, hear what it says, and be sure that it is gone afterwards."""
from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

from ..errors import MediaError, NoSpaceError

logger = logging.getLogger(__name__)

_KEPT_LINES = 100
_FIRST_LINES, _LAST_LINES = 2, 1  # what it complains of at first is nearest to the cause
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
# libx265 and others write their greeting past ffmpeg's log level.
_CHATTER = re.compile(r'\[info\]|\[warning\]|^Svt\[|^encoded \d+ frames|^\s*$')
_ADDRESS = re.compile(r' @ 0x[0-9a-f]+')

_OWN_GROUP: dict[str, Any] = {'creationflags': 0x200} if os.name == 'nt' else {'process_group': 0}


class Child:
    """A running ffmpeg or ffprobe; a context manager that kills and reaps it, if need be, and closes its pipes.

    It is started in a process group of its own: Ctrl-C in the terminal reaches only us, and its own children, where
    it is a wrapper, are killed with it.

    Args:
        command: The program and its arguments.
        feed: Whether something is written into its stdin; else that is empty.
        cwd: The folder it runs in.
        on_error: Called, in another thread, at the first line it writes to stderr.

    Attributes:
        output: Its stdout, unbuffered.

    Raises:
        MediaError: it can't be started.
    """

    def __init__(self, command: Sequence[str], *, feed: bool = False, cwd: Path | None = None,
                 on_error: Callable[[], None] | None = None) -> None:
        logger.debug('run: %s', shlex.join(command))
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE if feed else subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, bufsize=0, cwd=cwd,
                env=_environment(command[0]), **_OWN_GROUP)
        except (OSError, ValueError) as error:
            raise MediaError(f'{command[0]} can\'t be started: {error}') from None
        self.output = cast(io.RawIOBase, self._process.stdout)
        self._name = Path(command[0]).stem
        self._on_error = on_error
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._listener = threading.Thread(target=self._listen, name=f'{self._name} stderr', daemon=True)
        self._listener.start()
        for pipe in (self._process.stdin, self._process.stdout):
            _widen(pipe)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        rest = b''
        while block := self._process.stderr.read(4096):
            *lines, rest = (rest + block).replace(b'\r', b'\n').split(b'\n')
            for line in lines:
                self._hear(line)
        self._hear(rest)

    def _hear(self, line: bytes) -> None:
        text = _ADDRESS.sub('', line.decode(errors='replace')).strip()
        if _CHATTER.search(text):
            return
        logger.debug('%s: %s', self._name, text)
        if not self._lines and self._on_error is not None:
            self._on_error()
        self._lines.append(text)

    @property
    def errors(self) -> list[str]:
        """What it has written to stderr, the last lines; whole only after `finish`."""
        return list(self._lines)

    def write(self, data: memoryview) -> None:
        """Write all of `data` into its stdin.

        Raises:
            MediaError: it has ended; the message says why.
        """
        assert self._process.stdin is not None
        try:
            while data:
                data = data[self._process.stdin.write(data):]
        except OSError:
            self.finish()
            raise self.failure() from None

    def finish(self) -> int:
        """Close its stdin, wait for its end, and return its exit status."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        status = self._process.wait()
        self._listener.join()
        return status

    def check(self) -> None:
        """Wait for its end, as `finish` does.

        Raises:
            NoSpaceError: the disk is full, which ffmpeg does not always take for a failure.
            MediaError: it failed.
        """
        if self.finish() != 0 or isinstance(self.failure(), NoSpaceError):
            raise self.failure()

    def failure(self) -> MediaError:
        """Return the error that says in one line how it ended and what it said last."""
        said = list(dict.fromkeys(self._lines))
        if any('No space left on device' in line for line in said):
            return NoSpaceError(f'the disk is full ({self._name}: No space left on device)')
        lines = dict.fromkeys(said[:_FIRST_LINES] + said[-_LAST_LINES:])
        reason = '; '.join(lines) or 'no reason given'
        return MediaError(f'{self._name} failed ({_end(self._process.returncode)}): {reason}')

    def kill(self) -> None:
        """Kill it, and what it has started, if it is still there; the pipes stay open for who is blocked on them."""
        if self._process.poll() is not None:
            return
        with contextlib.suppress(OSError):
            if os.name == 'nt':
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)


@functools.cache
def _is_static(program: str) -> bool:
    """Tell whether a program is an ELF file that names no dynamic loader."""
    try:
        with Path(program).open('rb') as file:
            beginning = file.read(4096)
    except OSError:
        return False
    return beginning.startswith(b'\x7fELF') and b'/ld-' not in beginning


def _environment(program: str) -> dict[str, str] | None:
    """Return the environment for a program, None for our own.

    A static build with glibc, as pip's, crashes at every MPEG transport stream: to decode the names of services it
    loads this machine's character sets, which belong to another glibc
    (https://github.com/owncast/owncast/issues/4045).
    """
    return os.environ | {'GCONV_PATH': '/nonexistent'} if _is_static(program) else None


def _end(status: int | None) -> str:
    return f'signal {-status}' if status is not None and status < 0 else f'exit status {status}'


def _widen(pipe: Any) -> None:
    """Let a pipe hold more than 64 KiB, a frame being some megabytes: fewer switches between the processes."""
    if pipe is not None and sys.platform == 'linux':
        import fcntl
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)


def run(command: Sequence[str], cwd: Path | None = None) -> tuple[bytes, list[str]]:
    """Run a command to its end and return its stdout and the lines of its stderr.

    Raises:
        MediaError: it can't be started, or failed, see `Child.check`.
    """
    with Child(command, cwd=cwd) as child:
        output = child.output.readall()
        child.check()
        return output or b'', child.errors


def source_argument(source: str) -> str:
    """Return an input as ffmpeg takes it: a URL as it is, a path so that nothing in it is special."""
    return source if is_url(source) else f'file:{source}'


def is_url(source: str) -> bool:
    """Tell whether an input is a URL, or another of ffmpeg's protocols, and not a path."""
    return re.match(r'[A-Za-z][\w+.-]+:', source) is not None and not Path(source).exists()
