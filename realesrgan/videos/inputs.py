"""The inputs of the video script: videos, streams, folders of frames, pictures; and the names of their results."""
from __future__ import annotations

import logging
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from ..errors import InputError, UsageError, explain
from ..ffmpeg.containers import CONTAINERS
from ..ffmpeg.probe import MediaInfo, is_picture, probe
from ..ffmpeg.programs import Check, FFmpeg, is_url
from ..files import TEMPORARY_PREFIX
from ..pictures.formats import list_writable_extensions
from ..pictures.inputs import VIDEO_EXTENSIONS, list_folder, make_natural_key, match_files
from ..pictures.names import Nameable, choose_names
from .animations import KINDS, find_kind
from .parts import count, get_parts_folder

logger = logging.getLogger(__name__)

_SHOWN_CHARACTERS = 200  # of the names of files that are left out
_NUMBER = re.compile(r'%([0-9]*)d')  # as ffmpeg and printf have it
_OWN_PIPES = ('/dev/stdin', '/dev/fd/')


@dataclass(frozen=True)
class VideoInput:
    """An input.

    Attributes:
        source: Path or URL.
        info: What ffprobe says about it; None for a pipe, which can be read once only, and for frames.
        frames: The pictures of a folder of frames, in order.
        picture: Whether it is a single picture.
        animation: Pillow's name of its format if it is an animated picture, or ''.
    """

    source: str
    info: MediaInfo | None = None
    frames: Sequence[Path] = ()
    picture: bool = False
    animation: str = ''

    @property
    def is_pipe(self) -> bool:
        """Whether it is to be copied to a file before anything else."""
        return self.info is None and not self.frames and not self.animation

    @property
    def stem(self) -> str:
        """The begin of the result's name: the input's name without its extension."""
        if is_url(self.source):
            last = re.split(r'[?#]', self.source)[0].rstrip('/').rsplit('/', 1)[-1]
            return Path(re.sub(r'[^\w.-]+', '_', last)).stem or 'stream'
        path = Path(self.source).resolve() if self.source in ('.', '..') else Path(self.source)
        if self.frames and not path.is_dir():  # frame%08d.png
            return _NUMBER.sub('', path.stem).strip(' _-.') or path.absolute().parent.name or 'frames'
        return (path.name if self.frames else path.stem) or 'stream'

    @property
    def extension(self) -> str:
        """The extension of its file, without a dot."""
        return '' if self.frames or is_url(self.source) else Path(self.source).suffix[1:]


def find_videos(ffmpeg: FFmpeg, inputs: Iterable[str], on_error: Callable[[str, Exception], None],
                check: Check) -> list[VideoInput]:
    """Return what input arguments mean: files, URLs, pipes, folders and glob patterns, each file once.

    A folder stands for the videos in it, or the animated pictures. If there are none, it is one video itself, with its
    pictures as frames. Other entries are left out with a warning.

    Args:
        ffmpeg: The programs.
        inputs: The arguments.
        on_error: Called with the name of what can't be opened, and the error; the others are returned.
        check: Called several times a second while ffprobe works; what it raises ends ffprobe.
    """
    found: dict[str, VideoInput] = {}
    for name in map(_strip_file_scheme, inputs):
        try:
            for source, frames in _expand(name):
                key = source if is_url(source) else os.path.abspath(source)
                found.setdefault(key, VideoInput(source, frames=frames))
        except Exception as error:
            on_error(name, explain(error))
    opened = []
    for video in found.values():
        try:
            if not video.frames and not is_pipe(video.source):  # or ffprobe would use it up
                info, kind = probe_animation(ffmpeg, video.source, check)
                video = replace(video, info=info, animation=kind, picture=bool(
                    info and not kind and is_picture(ffmpeg, info, check)))
            opened.append(video)
        except Exception as error:
            on_error(video.source, explain(error))
    return opened


def probe_animation(ffmpeg: FFmpeg, source: str | Path, check: Check) -> tuple[MediaInfo | None, str]:
    """Return what ffprobe says about an input, None if it is an animation that ffmpeg can't decode; and its kind.

    The latter is Pillow's name of the format of an animated picture, or ''.

    Raises:
        MediaError: ffmpeg can't open it.
    """
    kind = '' if is_url(str(source)) else find_kind(Path(source))
    return (probe(ffmpeg, str(source), check) if kind in ('', 'GIF', 'PNG') else None), kind


def _strip_file_scheme(name: str) -> str:
    """Return the path in a file URL, so that it counts as the file that it is."""
    return re.sub(r'^file:(//(localhost)?(?=/))?', '', name) if not os.path.exists(name) else name


def is_pipe(source: str) -> bool:
    """Tell whether an input is a pipe, or this process's own stdin, which ffmpeg does not share."""
    return source.startswith(_OWN_PIPES) or (Path(source).exists() and not Path(source).is_file())


def _expand(name: str) -> Iterator[tuple[str, Sequence[Path]]]:
    """Yield the sources that an argument means, with the frames of each that is a folder."""
    path = Path(name)
    if name == '-' and not path.exists():
        raise InputError('-: stdin is called /dev/stdin here')
    if is_url(name) or path.is_file() or (is_pipe(name) and not path.is_dir()):
        yield name, ()
    elif path.is_dir():
        yield from _expand_folder(path, name)
    elif numbered := _list_numbered(path):
        is_video = path.suffix[1:].lower() in VIDEO_EXTENSIONS or find_kind(numbered[0])
        yield from ((str(file), ()) for file in numbered) if is_video else [(name, numbered)]
    else:
        yield from ((str(match), ()) for match in match_files(name))


def _list_numbered(pattern: Path) -> list[Path]:
    """Return the files that a pattern such as frame%08d.png means, by their numbers; none if it is no such pattern."""
    parts = _NUMBER.split(pattern.name)
    if len(parts) != 3 or not pattern.parent.is_dir():
        return []
    wanted, least = re.compile(f'{re.escape(parts[0])}([0-9]+){re.escape(parts[2])}'), int(parts[1] or 1)
    found = {int(match[1]): entry for entry in pattern.parent.iterdir() if (match := wanted.fullmatch(entry.name))
             and len(match[1]) == max(len(str(int(match[1]))), least) and entry.is_file()}
    numbers = sorted(found)
    gaps = [(before, after) for before, after in pairwise(numbers) if after > before + 1]
    if gaps:
        logger.warning('%s: missing between %d and %d: %s, the first is %d; the frames around a gap follow each other',
                       pattern, numbers[0], numbers[-1], count(numbers[-1] - numbers[0] + 1 - len(numbers), 'frame'),
                       gaps[0][0] + 1)
    return [found[number] for number in numbers]


def _expand_folder(folder: Path, name: str) -> Iterator[tuple[str, Sequence[Path]]]:
    """Yield the videos of a folder, else its animated pictures, else the folder with its pictures as frames."""
    entries = sorted((entry for entry in folder.iterdir() if not entry.name.startswith(TEMPORARY_PREFIX)),
                     key=make_natural_key)
    files = [entry for entry in entries if entry.is_file()]
    videos = ([entry for entry in files if entry.suffix[1:].lower() in VIDEO_EXTENSIONS]
              or [entry for entry in files if find_kind(entry)])
    if videos:
        others = [entry.name for entry in entries if entry not in videos]
        if others:
            logger.warning('%s: skipped, because they are no videos: %s', name, textwrap.shorten(
                ', '.join(others), _SHOWN_CHARACTERS, placeholder=' ...'))
        yield from ((str(video), ()) for video in videos)
        return
    frames = list_folder(folder)
    if not frames:
        raise InputError(f'{folder}: contains no videos or pictures')
    yield name, frames


def choose_container(video: VideoInput, extension: str) -> str:
    """Return the container of a result, a key of `CONTAINERS`: 'auto' is that of an animated picture, or mp4."""
    if extension in CONTAINERS:
        return extension
    return KINDS[video.animation] if video.animation else 'mp4'


def name_results(videos: Sequence[VideoInput], output: Path, suffix: str, extension: str) -> list[Path]:
    """Return the path of each video's result, `NAME_SUFFIX.EXTENSION` in the output folder, no two alike.

    With 'auto', an animated PNG keeps its own extension.
    """
    ending = f'_{suffix}' if suffix else ''

    def list_targets(video: VideoInput, name: str) -> list[Path]:
        keeps = extension == 'auto' and video.animation == 'PNG' and video.extension.lower() == 'png'
        target = output / f'{name}{ending}.{"png" if keeps else choose_container(video, extension)}'
        return [target, get_parts_folder(target)]
    names = choose_names([Nameable(video.stem, video.extension, partial(list_targets, video)) for video in videos])
    return [list_targets(video, name)[0] for video, name in zip(videos, names, strict=True)]


def as_animation(video: VideoInput, extension: str) -> VideoInput:
    """Return a picture as an animation of one frame if it is to become one, as by --ext gif; else the same input."""
    if not video.picture or extension not in CONTAINERS or extension in list_writable_extensions() or not (
            CONTAINERS[extension].is_animation):
        return video
    kind = find_kind(Path(video.source), still=True)
    return replace(video, picture=False, animation=kind) if kind else video


def check_extension(extension: str, video: VideoInput) -> None:
    """Refuse to make a picture of a video, and a video of a picture.

    Raises:
        UsageError: that was asked for.
    """
    if video.picture and extension in CONTAINERS and extension not in list_writable_extensions():
        raise UsageError(f'{video.source}: is a picture, which --ext {extension} can\'t hold; leave --ext out')
    if not video.picture and extension in list_writable_extensions() and extension not in CONTAINERS:
        kind = 'an animation' if video.animation else 'a video'
        raise UsageError(f'{video.source}: is {kind}, which --ext {extension} can\'t hold; choose one of '
                         f'{", ".join(CONTAINERS)}')
