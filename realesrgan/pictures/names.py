"""Choose the names of results, so that no two results of a run share a path.

`choose_names` serves results of any kind; `list_jobs`, `Job` and `Targets` are about pictures.
"""
from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..errors import ImageError, UsageError
from ..files import require_writable
from . import formats

if TYPE_CHECKING:
    from .inputs import InputFile
    from .picture import Picture

logger = logging.getLogger(__name__)

_LONGEST_NAME = 255  # bytes, on nearly every file system


class Nameable(NamedTuple):
    """An input whose result needs a name.

    Attributes:
        stem: The name of the source without its extension; the result is called so if nothing else wants that.
        extension: The extension of the source, without the dot; it tells sources of one stem apart.
        list_targets: Returns all paths that the result may get under a given name, at least one. There may be several,
            because some things, such as transparency, are known only once the source has been read.
    """

    stem: str
    extension: str
    list_targets: Callable[[str], Iterable[Path]]


def choose_names(inputs: Sequence[Nameable]) -> list[str]:
    """Choose a name for the result of each input, so that no two results may get the same path.

    An input keeps its stem unless another might want one of its paths. Inputs in conflict all take the extension of
    their source into the name: if `a.mkv` and `a.mp4` both lead to `a_out.mp4`, they are called `a_mkv` and `a_mp4`,
    for `a_mkv_out.mp4` and `a_mp4_out.mp4`. Where that is not enough, as for `x/a.mkv` and `y/a.mkv`, the second and
    later ones of a name are numbered in the order of the inputs: `a_mkv`, `a_mkv_2`, `a_mkv_3`.

    Names do not depend on which files exist, so a repeated run finds the results of the first. Paths that differ in
    case only are in conflict, because some file systems do not tell them apart.

    Args:
        inputs: All inputs of a run; naming some of them apart could give a path twice.

    Returns:
        The names, in the order of the inputs.
    """
    wanted = [_fold_targets(source, source.stem) for source in inputs]
    counts = Counter(path for paths in wanted for path in paths)
    names = []
    taken: set[str] = set()
    numbers: Counter[tuple[str, str]] = Counter()
    for source, paths in zip(inputs, wanted, strict=True):
        unique = all(counts[path] == 1 for path in paths)
        name = base = source.stem if unique else f'{source.stem}_{source.extension}'
        # Numbers are counted for each name in each folder: trying all of them from 2 on would take very long where
        # hundreds of inputs are called the same.
        key = (str(next(iter(source.list_targets(base))).parent).casefold(), base.casefold())
        while not taken.isdisjoint(paths := _fold_targets(source, name)):
            numbers[key] += 1
            name = f'{base}_{numbers[key] + 1}'
        taken.update(paths)
        names.append(name)
    return names


def _fold_targets(source: Nameable, name: str) -> set[str]:
    """Return the paths that a result may get, with differences in case removed."""
    return {os.path.abspath(path).casefold() for path in source.list_targets(name)}


class Job(NamedTuple):
    """A picture to upscale and where its result goes.

    Attributes:
        file: The picture.
        target_stem: The path of the result without its extension, which may depend on the picture.
        extension: The extension of the result, without the dot, if that can hold the picture.
        to_stdout: Whether the result goes to stdout instead.
    """

    file: InputFile
    target_stem: Path
    extension: str
    to_stdout: bool = False

    @property
    def source(self) -> Path:
        """The path of the picture, or its name."""
        return self.file.path

    def target(self, *, alpha: bool) -> Path:
        """Return the path of the result, which depends on whether the picture has an alpha channel to hold."""
        extension = formats.FALLBACK if alpha and not formats.find_writable(self.extension).alpha else self.extension
        return self.target_stem.with_name(f'{self.target_stem.name}.{extension}')

    @property
    def possible_targets(self) -> list[Path]:
        """All paths that the result may get; which one it is shows once the picture is read."""
        row = formats.find_by_extension(self.source.suffix[1:])
        opaque = row is not None and row.always_opaque
        return list(dict.fromkeys(self.target(alpha=alpha) for alpha in ((False,) if opaque else (False, True))))


def name_comparison(target: Path, extension: str) -> Path:
    """Return the path of the file that shows a result beside its input."""
    return target.with_name(f'{target.stem}_compare.{extension}')


def name_preview(target: Path, extension: str) -> Path:
    """Return the path of the sheet that shows a part of a result, by several models, beside its input."""
    return target.with_name(f'{target.stem}_preview.{extension}')


def require_folder_name(output: Path, extensions: Collection[str] = ()) -> None:
    """Refuse an output folder with the name of a file, unless it exists.

    Args:
        output: The folder.
        extensions: Those of files, without the dot, besides the formats of pictures.

    Raises:
        UsageError: it looks like a file.
    """
    extension = output.suffix[1:].lower()
    if (extension in extensions or formats.find_by_extension(extension)) and not output.exists():
        raise UsageError(f'-o names a folder, and {output} looks like a file; make that folder first if you mean it, '
                         'or set the names of results with --suffix and --ext')


def require_output_folder(output: Path) -> None:
    """Find out before hours of work that results can't be written into a folder, which may not exist yet.

    Raises:
        UsageError: it, or the nearest parent that exists, is no folder or can't be written.
    """
    try:
        require_writable(output)
    except OSError as error:
        raise UsageError(f'{error.filename}: {error.strerror}; choose another folder with -o') from error


def list_jobs(files: Sequence[InputFile], output: Path, suffix: str, extension: str) -> list[Job]:
    """Name the results of pictures: `NAME_SUFFIX.EXT` in the output folder, by the rules of `choose_names`.

    Args:
        files: The pictures.
        output: The output folder.
        suffix: Follows the name after an underscore; empty for none.
        extension: The extension of results without the dot, or 'auto' for that of each source. A source whose extension
            can't be written becomes `formats.FALLBACK`.

    Returns:
        A job for each picture, in order.
    """
    def build_job(file: InputFile, name: str) -> Job:
        own = file.path.suffix[1:]
        auto = own if own.lower() in formats.list_writable_extensions() else formats.FALLBACK
        chosen = auto if extension == 'auto' else extension
        return Job(file, output / file.folder / (f'{name}_{suffix}' if suffix else name), chosen)

    def list_targets(file: InputFile, name: str) -> list[Path]:
        return build_job(file, name).possible_targets

    names = choose_names([
        Nameable(file.path.stem, file.path.suffix[1:], partial(list_targets, file)) for file in files])
    return [build_job(file, name) for file, name in zip(files, names, strict=True)]


class Targets:
    """Chooses where results go: never over an input, never over a result of the same task.

    Args:
        sources: Real paths of all inputs.
        taken: Real paths of results of the same task that are there already.
    """

    def __init__(self, sources: Set[str], taken: Set[str]) -> None:
        self._sources = sources
        self._owners = dict.fromkeys(taken, '')

    def choose(self, job: Job, picture: Picture) -> Path:
        """Return the path of a result, in a format that holds the picture's alpha.

        Raises:
            ImageError: the result would overwrite an input or another result, or its name is too long.
        """
        target = job.target(alpha=picture.has_alpha)
        if len(os.fsencode(target.name)) > _LONGEST_NAME and not job.to_stdout:
            raise ImageError(f'the name of its result would have more than {_LONGEST_NAME} bytes; use a shorter '
                             '--suffix')
        self.claim(target, str(job.source))
        if target.suffix[1:] != job.extension:
            logger.warning('has transparency, which %s does not hold; written as %s', job.extension, target.name)
        return target

    def claim(self, target: Path, owner: str, label: str = 'its result') -> None:
        """Take a path, which its owner may take again.

        Raises:
            ImageError: that would overwrite an input, or a result; the message begins with `label`.
        """
        real = os.path.realpath(target)
        if real in self._sources:
            raise ImageError(f'{label} would overwrite the input {target}; choose another --suffix or -o')
        if self._owners.setdefault(real, owner) != owner:
            raise ImageError(f'{label} would overwrite another result, {target}; give it another name')
