"""What the inputs of the video script are: videos, streams, folders of frames, pictures; and what to call results."""
from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..atomic_files import TEMPORARY_PREFIX
from ..errors import InputError, RealESRGANError
from ..ffmpeg.probe import MediaInfo, is_picture, probe
from ..ffmpeg.process import is_url
from ..ffmpeg.programs import FFmpeg
from ..pictures.inputs import list_folder, match_files, natural_key
from ..pictures.names import Nameable, choose_names

logger = logging.getLogger(__name__)

_OWN_PIPES = ('/dev/stdin', '/dev/fd/')
#: Extensions by which the files of a folder are taken for videos.
_VIDEO_EXTENSIONS = frozenset((
    '3g2', '3gp', 'asf', 'avi', 'divx', 'dv', 'f4v', 'flv', 'm2ts', 'm2v', 'm4v', 'mkv', 'mov', 'mp4', 'mpeg', 'mpg',
    'mts', 'mxf', 'nut', 'ogm', 'ogv', 'rm', 'rmvb', 'ts', 'vob', 'webm', 'wmv', 'y4m'))


@dataclass(frozen=True)
class VideoInput:
    """An input.

    Attributes:
        source: Path or URL.
        info: What ffprobe says about it; None for a pipe, which can be read once only, and for frames.
        frames: The pictures of a folder of frames, in order.
        picture: Whether it is a single picture.
    """

    source: str
    info: MediaInfo | None = None
    frames: Sequence[Path] = ()
    picture: bool = False

    @property
    def is_pipe(self) -> bool:
        """Whether it is to be copied to a file before anything else."""
        return self.info is None and not self.frames

    @property
    def stem(self) -> str:
        """What the result's name begins with: the input's name without its extension."""
        if is_url(self.source):
            last = re.split(r'[?#]', self.source)[0].rstrip('/').rsplit('/', 1)[-1]
            return Path(re.sub(r'[^\w.-]+', '_', last)).stem or 'stream'
        path = Path(self.source).resolve() if self.source in ('.', '..') else Path(self.source)
        return (path.name if self.frames else path.stem) or 'stream'

    @property
    def extension(self) -> str:
        """The extension of its file, without a dot."""
        return '' if self.frames or is_url(self.source) else Path(self.source).suffix[1:]


def find_videos(ffmpeg: FFmpeg, inputs: Iterable[str], on_error: Callable[[str, Exception], None]) -> list[VideoInput]:
    """Return what input arguments mean: files, URLs, pipes, folders and glob patterns, each file once.

    A folder is one video, of its pictures as frames, unless at least as many of its files are videos; then each of
    those is an input. Subfolders are left out with a warning.

    Args:
        ffmpeg: The programs.
        inputs: The arguments.
        on_error: Called with the name of what can't be opened, and the error; the others are returned.
    """
    found: dict[str, VideoInput] = {}
    for name in inputs:
        try:
            for source, frames in _expand(name):
                key = source if is_url(source) else os.path.abspath(source)
                found.setdefault(key, VideoInput(source, frames=frames))
        except (RealESRGANError, OSError) as error:
            on_error(name, error)
    opened = []
    for video in found.values():
        try:
            opened.append(_open(ffmpeg, video))
        except (RealESRGANError, OSError) as error:
            on_error(video.source, error)
    return opened


def _open(ffmpeg: FFmpeg, video: VideoInput) -> VideoInput:
    """Ask ffprobe about an input, unless that would use it up."""
    if video.frames or is_pipe(video.source):
        return video
    info = probe(ffmpeg, video.source)
    return replace(video, info=info, picture=is_picture(ffmpeg, info))


def is_pipe(source: str) -> bool:
    """Tell whether an input is a pipe, or this process's own stdin, which ffmpeg does not share."""
    return source.startswith(_OWN_PIPES) or (Path(source).exists() and not Path(source).is_file())


def _expand(name: str) -> Iterator[tuple[str, Sequence[Path]]]:
    """Yield the sources that an argument means, with the frames of each that is a folder."""
    path = Path(name)
    if is_url(name) or path.is_file() or (is_pipe(name) and not path.is_dir()):
        yield name, ()
    elif path.is_dir():
        yield from _expand_folder(path, name)
    else:
        yield from ((str(match), ()) for match in match_files(name))


def _expand_folder(folder: Path, name: str) -> Iterator[tuple[str, Sequence[Path]]]:
    files = sorted((entry for entry in folder.iterdir() if entry.is_file()), key=natural_key)
    videos = [file for file in files if file.suffix[1:].lower() in _VIDEO_EXTENSIONS
              and not file.name.startswith(TEMPORARY_PREFIX)]
    if not videos or len(files) - len(videos) > len(videos):
        frames = list_folder(folder)
        if len(frames) > len(videos):
            yield name, frames
            return
        if not videos:
            raise InputError(f'{folder}: neither videos nor pictures in it')
    for file in sorted(set(folder.iterdir()) - set(videos), key=natural_key):
        logger.warning('%s: skipped, %s', file, 'a folder' if file.is_dir() else 'not a video')
    yield from ((str(file), ()) for file in videos)


def name_results(videos: Sequence[VideoInput], output: Path, suffix: str, container: str) -> list[Path]:
    """Return the path of each video's result, `NAME_SUFFIX.CONTAINER` in the output folder, no two alike."""
    ending = f'_{suffix}' if suffix else ''

    def targets(name: str) -> list[Path]:
        return [output / f'{name}{ending}.{container}']
    names = choose_names([Nameable(video.stem, video.extension, targets) for video in videos])
    return [targets(name)[0] for name in names]
