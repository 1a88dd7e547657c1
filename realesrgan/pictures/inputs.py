"""Find the pictures among the inputs: files, folders, glob patterns, and bytes that are in memory already."""
from __future__ import annotations

import glob
import logging
import os
import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import ImageError, InputError
from ..files import TEMPORARY_PREFIX
from . import formats
from .reading import looks_like_picture

logger = logging.getLogger(__name__)

#: As an input stdin, as the output folder stdout.
STREAM = '-'
#: Extensions by which files are taken for videos without a look into them.
VIDEO_EXTENSIONS = frozenset((
    '3g2', '3gp', 'asf', 'avi', 'divx', 'dv', 'f4v', 'flv', 'm2ts', 'm2v', 'm4v', 'mkv', 'mov', 'mp4', 'mpeg', 'mpg',
    'mts', 'mxf', 'nut', 'ogm', 'ogv', 'rm', 'rmvb', 'ts', 'vob', 'webm', 'wmv', 'y4m'))

_MOST_BYTES_PER_PIXEL = 16  # RGB and alpha in float32
_MOST_METADATA_BYTES = 1 << 26
_PIECE_BYTES = 1 << 20
_A_VIDEO = 'a video (inference_realesrgan_video.py upscales videos)'

#: One path, URL or pattern, or several.
Inputs = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class InputFile(NamedTuple):
    """A picture to read.

    Attributes:
        path: Its path; with `data`, only its name.
        folder: The folder, relative to the output folder, that its result goes to.
        data: The bytes of the file, if they do not come from `path`, as those of stdin.
        found: Whether it was found in a folder or by a pattern, not named.
    """

    path: Path
    folder: Path = Path()
    data: bytes | None = None
    found: bool = False

    def __repr__(self) -> str:
        return f'InputFile({str(self.path)!r}, {str(self.folder)!r})'  # not the bytes

    def read(self, max_pixels: int = formats.MOST_PIXELS) -> bytes:
        """Return the bytes of the file.

        Args:
            max_pixels: How many pixels it may have.

        Raises:
            ImageError: it is larger than any file of so many pixels.
            OSError: it can't be read.
        """
        if self.data is not None:
            return self.data
        with self.path.open('rb') as file:
            return read_bounded(file, max_pixels, os.fstat(file.fileno()).st_size)


def read_bounded(file: BinaryIO, max_pixels: int, size: int = 0) -> bytes:
    """Read a picture file to its end.

    Args:
        file: The file, open for reading.
        max_pixels: How many pixels the picture may have.
        size: The size that the file claims; 0 for a pipe, which is read in pieces.

    Raises:
        ImageError: it is larger than any file of so many pixels.
    """
    most = max_pixels * _MOST_BYTES_PER_PIXEL + _MOST_METADATA_BYTES
    pieces: list[bytes] = []
    while size <= most and (piece := file.read(size or _PIECE_BYTES)):
        pieces.append(piece)
        size = max(size, sum(map(len, pieces)))
    if size > most:
        raise ImageError(f'is larger than {most >> 20} MiB, the limit for a picture of {max_pixels} pixels; a larger '
                         '--max_pixels allows it')
    return pieces[0] if len(pieces) == 1 else b''.join(pieces)


def find_pictures(inputs: Iterable[str | InputFile], *, recursive: bool = False, exclude: Path | None = None,
                  on_error: Callable[[str, InputError], None] | None = None) -> list[InputFile]:
    """List the pictures among inputs, each name once; links to one file are several names.

    A file or pipe is taken whatever it is called. A folder gives all its pictures in natural order. Other files in it
    are skipped with a warning, and so are its subfolders unless `recursive`, which keeps the structure of folders in
    `InputFile.folder`.

    Args:
        inputs: Files, folders and glob patterns, or pictures found before, which are taken as they are.
        recursive: Search subfolders too.
        exclude: A folder that is not searched: that of the results.
        on_error: Called with the name of each input that can't be read, and the error; the search then goes on. None
            raises the error instead.

    Raises:
        InputError: an input names no file, pipe, folder or match, or there is no picture at all.
    """
    inputs = list(inputs)
    found: dict[Hashable, InputFile] = {}
    search = _Search(recursive, {os.path.realpath(exclude)} if exclude else set(), on_error or _raise)
    failed = False
    for source in inputs:
        try:
            for file in search.expand(source):
                # Two names of one file in one folder are the same; those of links to it differ.
                key = Path(os.path.realpath(file.path.parent), file.path.name) if file.data is None else file
                if found.setdefault(key, file) is not file:
                    logger.info('%s: named twice, upscaled once', file.path)
        except (InputError, OSError) as error:
            reason = error if isinstance(error, InputError) else InputError(f'{source}: {error.strerror}')
            (on_error or _raise)(str(source), reason)
            failed = True
    if not found and not failed:
        raise InputError(f'no pictures in {", ".join(map(str, inputs))}')
    return list(found.values())


def list_folder(folder: Path) -> list[Path]:
    """List the pictures in one folder in natural order; other entries are skipped with a warning.

    Links to one file are all listed: frames of a video may repeat.

    Raises:
        InputError: the folder can't be read.
    """
    return [file.path for file in _Search(False, set(), _raise).expand(str(folder))]


def list_inputs(inputs: Inputs) -> list[str]:
    """Return one or several inputs as a list of names."""
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    return [os.fspath(name) for name in inputs]


def match_files(pattern: str) -> list[Path]:
    """List the files that a glob pattern matches, in natural order; folders are skipped with a warning.

    Brackets in the name of a folder that exists are no pattern, nor are others where nothing matches them as one.

    Raises:
        InputError: it matches nothing.
    """
    folder = next((folder for folder in Path(pattern).parents if folder.is_dir()), Path())
    below = str(Path(pattern).relative_to(folder))
    found = (glob.glob(below, root_dir=folder, recursive=True)
             or glob.glob(below.replace('[', '[[]'), root_dir=folder, recursive=True))
    matches = sorted((folder / name for name in found), key=make_natural_key)
    if not matches:
        reason = ('stdin can\'t be read beside other inputs' if pattern == STREAM else
                  'is a URL; download it first, and give the file' if '://' in pattern else 'no such file or folder')
        raise InputError(f'{pattern}: {reason}')
    for match in matches:
        if match.is_dir():
            logger.warning('%s: skipped, a folder', match)
    return [match for match in matches if not match.is_dir()]


def make_natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key under which 2.png comes before 10.png."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', path.name.casefold())]


def _raise(_name: str, error: InputError) -> None:
    raise error


def _may_be_read(path: Path) -> bool:
    """Tell whether a path is a file or a pipe, also by links; a device may never end."""
    return path.is_file() or path.is_fifo()


class _Search:
    """A search through inputs. It enters each folder once, so that links which lead in circles end."""

    def __init__(self, recursive: bool, visited: set[str], on_error: Callable[[str, InputError], None]) -> None:
        self._recursive = recursive
        self._visited = visited
        self._on_error = on_error

    def expand(self, source: str | InputFile) -> Iterator[InputFile]:
        if isinstance(source, InputFile):
            yield source
        elif Path(source).is_dir():
            yield from self._search_folder(Path(source), Path())
        elif Path(source).exists():
            if not _may_be_read(Path(source)):
                raise InputError(f'{source}: neither a file nor a pipe nor a folder')
            if _is_video(Path(source)):
                raise InputError(f'{source}: is a video; inference_realesrgan_video.py upscales videos')
            yield InputFile(Path(source))
        else:
            for match in match_files(source):
                if match.exists() and not _may_be_read(match):
                    logger.warning('%s: skipped, not a file', match)
                elif _is_video(match):
                    logger.warning('%s: skipped, %s', match, _A_VIDEO)
                else:
                    yield InputFile(match, found=True)

    def _search_folder(self, folder: Path, below: Path) -> Iterator[InputFile]:
        self._visited.add(os.path.realpath(folder))
        try:
            entries = sorted(folder.iterdir(), key=make_natural_key)
        except OSError as error:
            self._on_error(str(folder), InputError(f'{folder}: {error.strerror}'))
            return
        # A folder may be linked to from beside it: entered first under its own name, it keeps that name.
        for entry in sorted(entries, key=lambda entry: os.path.islink(entry) and os.path.isdir(entry)):
            if os.path.isdir(entry):
                if os.path.realpath(entry) in self._visited:
                    logger.warning('%s: skipped, a folder that was visited, or that of the results', entry)
                elif self._recursive:
                    yield from self._search_folder(entry, below / entry.name)
                else:
                    logger.warning('%s: skipped, a folder (-r goes into folders)', entry)
            elif reason := _find_reason_to_skip(entry):
                level = logging.DEBUG if entry.name == 'README.md' else logging.WARNING
                logger.log(level, '%s: skipped, %s', entry, reason)
            else:
                yield InputFile(entry, below, found=True)


def _find_reason_to_skip(path: Path) -> str | None:
    """Return why a file in a folder is no input; None for a picture."""
    if path.name.startswith(TEMPORARY_PREFIX):
        return 'left behind by an interrupted run'
    if path.name.startswith('._'):
        return 'a file that macOS adds on other disks'
    if os.path.exists(path) and not os.path.isfile(path):
        return 'not a file'
    try:  # by the extension, so that a damaged picture is reported and not skipped, or else by the content
        is_known = formats.find_by_extension(path.suffix[1:]) is not None or looks_like_picture(path)
    except Exception:  # a bug, which reading the file will report
        return None
    if is_known:
        return None
    return _A_VIDEO if _is_video(path) else 'not a picture'


def _is_video(path: Path) -> bool:
    """Return whether a file is called as videos are, and its content is no picture's."""
    try:
        return path.suffix[1:].lower() in VIDEO_EXTENSIONS and path.is_file() and not looks_like_picture(path)
    except Exception:  # as above
        return False
