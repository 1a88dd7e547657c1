"""Which pictures a command line means, and what each result is called."""
from __future__ import annotations

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..atomic_files import TEMPORARY_PREFIX
from ..errors import InputError
from .codecs import WRITABLE_EXTENSIONS, holds_alpha, is_picture

logger = logging.getLogger(__name__)

#: Files of these extensions are taken for pictures, even damaged ones; others only if their first bytes are.
_EXTENSIONS = frozenset(WRITABLE_EXTENSIONS) | frozenset((
    'dib', 'jfif', 'gif', 'avif', 'jp2', 'j2k', 'jpx', 'apng', 'ppm', 'pgm', 'pbm', 'pnm', 'pfm', 'tga', 'ico', 'psd',
    'qoi', 'hdr', 'exr', 'ras', 'pcx', 'dds', 'sgi'))


@dataclass(frozen=True)
class InputFile:
    """A picture to read, and the folder below the output folder that its result goes to."""

    path: Path
    folder: Path = Path()


@dataclass(frozen=True)
class Job:
    """A picture to read and the path of its result without the extension, which may depend on the picture."""

    source: Path
    target_stem: Path
    extension: str
    from_stdin: bool = False
    to_stdout: bool = False

    def target(self, *, alpha: bool) -> Path:
        """Return the path of the result; with alpha in a format that holds it."""
        extension = self.extension if not alpha or holds_alpha(self.extension) else 'png'
        return self.target_stem.with_name(f'{self.target_stem.name}.{extension}')

    @property
    def possible_targets(self) -> list[Path]:
        """The paths that the result may have; which one is known once the picture is read. A JPEG has no alpha."""
        jpeg = self.source.suffix.lower() in ('.jpg', '.jpeg', '.jpe', '.jfif')
        return list(dict.fromkeys(self.target(alpha=alpha) for alpha in ((False,) if jpeg else (False, True))))


def find_pictures(inputs: Iterable[str], *, recursive: bool = False, exclude: Path | None = None,
                  on_error: Callable[[InputError], None] | None = None) -> list[InputFile]:
    """List the pictures that input arguments mean: files, folders and glob patterns, each file once.

    Of a folder every picture is taken, in natural order; what is not a picture is logged and left out, and so are
    subfolders unless `recursive`, which keeps their structure in `InputFile.folder`.

    Args:
        inputs: The arguments.
        recursive: Go into folders.
        exclude: A folder not to go into, that of the results.
        on_error: Called with what can't be read, to go on with the rest; None raises it.

    Raises:
        InputError: an input names no file, folder or match, or no picture is found at all.
    """
    found: dict[str, InputFile] = {}
    search = _Search(recursive, {os.path.realpath(exclude)} if exclude else set(), on_error or _raise)
    failed = False
    for name in inputs:
        try:
            for file in search.expand(Path(name), name):
                found.setdefault(os.path.realpath(file.path), file)
        except InputError as error:
            if on_error is None:
                raise
            on_error(error)
            failed = True
    if not found and not failed:
        raise InputError(f'no pictures in {", ".join(inputs)}')
    return list(found.values())


def _raise(error: InputError) -> None:
    raise error


def list_folder(folder: Path) -> list[Path]:
    """List the pictures of one folder in natural order, linked ones as often as they are linked; say what is none."""
    return [file.path for file in _Search(False, set(), _raise).expand(folder, str(folder))]


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Return a sort key under which 2.png comes before 10.png."""
    return [(int(part), '') if part.isdecimal() else (-1, part) for part in re.split(r'(\d+)', path.name.casefold())]


class _Search:
    """Goes through inputs; every folder is entered once, so that links that lead in circles end."""

    def __init__(self, recursive: bool, visited: set[str], on_error: Callable[[InputError], None]) -> None:
        self._recursive = recursive
        self._visited = visited
        self._on_error = on_error

    def expand(self, path: Path, name: str) -> Iterator[InputFile]:
        if path.is_dir():
            yield from self._folder(path, Path())
        elif path.exists():
            yield InputFile(path)
        else:
            matches = sorted(map(Path, glob.glob(name, recursive=True)), key=natural_key)
            if not matches:
                raise InputError(f'{name}: no such file or folder')
            for match in matches:
                if match.is_dir():
                    logger.warning('%s: skipped, a folder', match)
                else:
                    yield InputFile(match)

    def _folder(self, folder: Path, below: Path) -> Iterator[InputFile]:
        self._visited.add(os.path.realpath(folder))
        try:
            entries = sorted(folder.iterdir(), key=natural_key)
        except OSError as error:
            self._on_error(InputError(f'{folder}: {error.strerror}'))
            return
        for entry in sorted(entries, key=lambda entry: entry.is_symlink() and entry.is_dir()):  # real folders first
            if entry.is_dir():
                yield from self._subfolder(entry, below / entry.name)
            elif entry.name.startswith(TEMPORARY_PREFIX):
                logger.warning('%s: skipped, left behind by an interrupted run', entry)
            elif not entry.is_file() and not entry.is_symlink():
                logger.warning('%s: skipped, not a file', entry)
            elif _looks_like_picture(entry):
                yield InputFile(entry, below)
            else:
                logger.warning('%s: skipped, not a picture', entry)

    def _subfolder(self, folder: Path, below: Path) -> Iterator[InputFile]:
        if os.path.realpath(folder) in self._visited:
            logger.warning('%s: skipped, a folder that was visited, or that of the results', folder)
        elif self._recursive:
            yield from self._folder(folder, below)
        else:
            logger.warning('%s: skipped, a folder (-r goes into folders)', folder)


def _looks_like_picture(path: Path) -> bool:
    return path.suffix[1:].lower() in _EXTENSIONS or is_picture(path)


def plan(files: Sequence[InputFile], output: Path, suffix: str, extension: str) -> list[Job]:
    """Name the result of every picture: `NAME_SUFFIX.EXT` in the output folder.

    Where two results could get the same name, as those of a.jpg and a.png with one extension, the extension of the
    source goes into the name too (`a_jpg_SUFFIX`), and a number where that is not enough.

    Args:
        files: The pictures.
        output: The output folder.
        suffix: Goes behind the name after an underscore; empty for none.
        extension: Extension of the results without a dot, or 'auto' for that of each source (png if it can't be
            written).
    """
    names = [file.path.stem for file in files]
    jobs = [_job(file, file.path.stem, output, suffix, extension) for file in files]
    for index in _colliding(jobs):
        names[index] += '_' + files[index].path.suffix[1:]
    taken: set[str] = set()
    numbers: Counter[str] = Counter()
    jobs = []
    for file, name in zip(files, names, strict=True):
        job = _job(file, name, output, suffix, extension)
        key = str(output / file.folder / name).casefold()
        while not taken.isdisjoint(_keys(job)):
            numbers[key] += 1
            job = _job(file, f'{name}_{numbers[key] + 1}', output, suffix, extension)
        taken.update(_keys(job))
        jobs.append(job)
    return jobs


def _job(file: InputFile, name: str, output: Path, suffix: str, extension: str) -> Job:
    ending = f'_{suffix}' if suffix else ''
    return Job(file.path, output / file.folder / (name + ending), _extension(file.path, extension))


def _extension(source: Path, extension: str) -> str:
    if extension != 'auto':
        return extension
    own = source.suffix[1:]
    return own if own.lower() in WRITABLE_EXTENSIONS else 'png'


def _colliding(jobs: Sequence[Job]) -> list[int]:
    """Return the positions of jobs whose result may get the name of another's."""
    counts = Counter(key for job in jobs for key in _keys(job))
    return [index for index, job in enumerate(jobs) if any(counts[key] > 1 for key in _keys(job))]


def _keys(job: Job) -> list[str]:
    """Return the names that the job's result may get; case is not told apart, as some file systems don't."""
    return [os.path.abspath(path).casefold() for path in job.possible_targets]
