"""Start ffmpeg and ffprobe, listen to what they report, and make sure that they are gone afterwards."""
from __future__ import annotations

import contextlib
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

from ..errors import MediaError, MediaWriteError

logger = logging.getLogger(__name__)

_KEPT_LINES = 100
_FIRST_LINES, _LAST_LINES = 2, 1  # of stderr, in an error message: the first complaints are nearest to the cause
_PIPE_BYTES = 1 << 20
_CHECK_SECONDS = 0.2
# libx265 and others greet past ffmpeg's log level.
_CHATTER = re.compile(r'\[info\]|\[warning\]|^Svt\[|^encoded \d+ frames|^\s*$')
# Other reasons are those of a track that the container does not take, or of a reader that has ended.
_WRITE_FAILURE = re.compile(
    r'(Error (writing|closing|submitting a packet to the muxer)|av_interleaved_write_frame).*'
    r'(Input/output error|Read-only file system|quota exceeded|File too large|Stale file handle|No such device)')
_ADDRESS = re.compile(r' @ 0x[0-9a-f]+')

_OWN_GROUP: dict[str, Any] = {'creationflags': 0x200} if os.name == 'nt' else {'process_group': 0}

#: Called again and again while a child runs. Whatever it raises ends the wait and the child.
Check = Callable[[], None]


class Child:
    """A running ffmpeg or ffprobe; as a context manager it kills and reaps the process and closes its pipes.

    The process gets a group of its own. Ctrl-C in the terminal therefore reaches only us, and killing the group also
    kills the real ffmpeg if the program is a wrapper script.

    Args:
        command: The program and its arguments.
        feed: Whether something will be written to its stdin, which is empty otherwise.
        collect: Whether to read its stdout in the background, into `collected`.
        cwd: Folder to run it in.
        on_error: Called from another thread when it writes its first line to stderr.

    Attributes:
        output: Its stdout, unbuffered; not for use with `collect`.
        collected: With `collect`, its whole stdout, once `finish` has returned.

    Raises:
        MediaError: It can't be started.
    """

    def __init__(self, command: Sequence[str], *, feed: bool = False, collect: bool = False, cwd: Path | None = None,
                 on_error: Callable[[], None] | None = None) -> None:
        logger.debug('run: %s', shlex.join(command))
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE if feed else subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, bufsize=0, cwd=cwd, env=_choose_environment(command[0]), **_OWN_GROUP)
        except (OSError, ValueError) as error:
            raise MediaError(f'{command[0]} can\'t be started: {error}') from None
        self.output = cast(io.RawIOBase, self._process.stdout)
        self.collected = b''
        self._name = Path(command[0]).stem
        self._on_error = on_error
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._readers = [threading.Thread(target=read, name=f'{self._name} {read.__name__}', daemon=True)
                         for read in (self._listen, self._collect)[:1 + collect]]
        for reader in self._readers:
            reader.start()
        for pipe in (self._process.stdin, self._process.stdout):
            _widen(pipe)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
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
                self._note_line(line)
        self._note_line(rest)

    def _note_line(self, line: bytes) -> None:
        text = _ADDRESS.sub('', line.decode(errors='replace')).strip()
        if _CHATTER.search(text):
            return
        logger.debug('%s: %s', self._name, text)
        if not self._lines and self._on_error is not None:
            self._on_error()
        self._lines.append(text)

    def _collect(self) -> None:
        self.collected = self.output.readall() or b''

    @property
    def errors(self) -> list[str]:
        """The last lines of its stderr; complete once `finish` has returned."""
        return list(self._lines)

    def write(self, data: memoryview) -> None:
        """Write all of `data` to its stdin.

        Raises:
            MediaError: It has ended; the message says why.
        """
        assert self._process.stdin is not None
        try:
            while data:
                data = data[self._process.stdin.write(data):]
        except OSError:
            self.finish()
            raise self.describe_failure() from None

    def finish(self, check: Check | None = None) -> int:
        """Close its stdin, wait for it to end, and return its exit status.

        Args:
            check: Called at least every 0.2 s meanwhile. If it raises, leave the child's context, which kills it.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        pause = None if check is None else _CHECK_SECONDS
        while True:
            if check is not None:
                check()
            # The pipes close when it ends; waiting for that first spares polling for its exit status.
            reader = next((reader for reader in self._readers if reader.is_alive()), None)
            if reader is not None:
                reader.join(pause)
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._process.wait(pause)

    def require_success(self, check: Check | None = None) -> None:
        """Wait for it to end, as `finish` does.

        Raises:
            MediaWriteError: It could not write its file, which it does not always count as a failure.
            MediaError: It failed.
        """
        status, failure = self.finish(check), self.describe_failure()
        if status != 0 or isinstance(failure, MediaWriteError):
            raise failure

    def describe_failure(self) -> MediaError:
        """Return an error that tells in one line how it ended and what it reported."""
        said = list(dict.fromkeys(self._lines))
        if any('No space left on device' in line for line in said):
            return MediaWriteError(f'the disk is full ({self._name}: No space left on device)')
        if unwritten := [line for line in said if _WRITE_FAILURE.search(line)]:
            return MediaWriteError(f'{self._name} could not write its file: {unwritten[0]}')
        lines = dict.fromkeys(said[:_FIRST_LINES] + said[-_LAST_LINES:])
        reason = '; '.join(lines) or 'no reason given'
        return MediaError(f'{self._name} failed ({_describe_status(self._process.returncode)}): {reason}')

    def kill(self) -> None:
        """Kill it and whatever it has started. Its pipes stay open for threads that are blocked on them."""
        if self._process.poll() is not None:
            return
        with contextlib.suppress(OSError):
            if sys.platform == 'win32':
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)


def run(command: Sequence[str], cwd: Path | None = None, check: Check | None = None) -> tuple[bytes, list[str]]:
    """Run a command to its end and return its stdout and the lines of its stderr.

    Args:
        command: The program and its arguments.
        cwd: Folder to run it in.
        check: Called at least every 0.2 s meanwhile. If it raises, the command is killed.

    Raises:
        MediaError: It can't be started or fails (see `Child.require_success`).
    """
    with Child(command, collect=True, cwd=cwd) as child:
        child.require_success(check)
        return child.collected, child.errors


def _choose_environment(program: str) -> dict[str, str] | None:
    """Return the environment for a program; None for our own.

    A static build with glibc, such as pip's, crashes on every MPEG transport stream: to decode the names of services,
    iconv loads this machine's character set modules into it, and those belong to another glibc. A GCONV_PATH that
    leads nowhere leaves it with the character sets it has built in
    (https://github.com/owncast/owncast/issues/4045).
    """
    return os.environ | {'GCONV_PATH': '/nonexistent'} if _is_static(program) else None


def _is_static(program: str) -> bool:
    """Tell whether a program is an ELF file that names no dynamic loader."""
    try:
        with Path(program).open('rb') as file:
            beginning = file.read(4096)
    except OSError:
        return False
    return beginning.startswith(b'\x7fELF') and b'/ld-' not in beginning


def _describe_status(status: int | None) -> str:
    return f'signal {-status}' if status is not None and status < 0 else f'exit status {status}'


def _widen(pipe: Any) -> None:
    """Let a pipe hold more than 64 KiB, because a frame has megabytes: the processes then wait less for each other."""
    if pipe is not None and sys.platform == 'linux':
        import fcntl
        with contextlib.suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def build_source_argument(source: str) -> str:
    """Return an input as ffmpeg takes it: a URL as it is, and a path so that no character in it is special."""
    return source if is_url(source) else f'file:{source}'


def is_url(source: str) -> bool:
    """Tell whether an input is a URL, or uses another of ffmpeg's protocols, and is not a path."""
    return re.match(r'[A-Za-z][\w+.-]+:', source) is not None and not Path(source).exists()
