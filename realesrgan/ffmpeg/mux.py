"""Put an upscaled video and the tracks of its source together."""
from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import MediaError
from .encoder import MUXERS
from .probe import MediaInfo, Track, VideoStream, absolute_argument
from .process import run, source_argument
from .programs import FFmpeg
from .timing import seconds
from .tracks import Plan, plan_tracks

logger = logging.getLogger(__name__)

_COVER_TYPES = {'mjpeg': ('image/jpeg', 'jpg'), 'png': ('image/png', 'png'), 'bmp': ('image/bmp', 'bmp'),
                'gif': ('image/gif', 'gif'), 'webp': ('image/webp', 'webp')}
_VIDEO_TAGS = ('title', 'language', 'handler_name')
# Containers whose zero ffmpeg moves from the start of the file to that of the first stream that it uses: always from
# version 6.0 on, before that only where the offset of the input was left alone.
_ZERO_IS_FIRST_USED = ('mpegts', 'mpeg', 'ogg', 'nsv')
_ALWAYS_SINCE = (6, 0)
_MICRO = 1000000
_HARDLY_ANYTHING = Fraction(1, _MICRO)


@dataclass(frozen=True)
class Cut:
    """The part of the source that the video shows: seconds from the source's start, and its length or None."""

    start: Fraction
    duration: Fraction | None


def write_list(target: Path, parts: Sequence[tuple[Path, int]], rate: Fraction) -> None:
    """Write the list from which ffmpeg's demuxer concat reads the parts of a video as one.

    Args:
        target: A file in the folder of the parts, whose names need no quoting.
        parts: The path of each and its number of frames.
        rate: Frames a second. A part takes its exact time, or the roundings of many would add up.
    """
    lines, frames = ['ffconcat version 1.0'], 0
    for path, count in parts:
        begin, frames = frames, frames + count
        length = round(frames / rate * _MICRO) - round(begin / rate * _MICRO)
        lines += [f'file {path.name}', f'duration {seconds(Fraction(length, _MICRO))}']
    target.write_text('\n'.join(lines) + '\n')


def join(ffmpeg: FFmpeg, video: Path, target: Path, container: str) -> None:
    """Write the parts of a list (see `write_list`) as one video to `target`.

    Raises:
        MediaError: ffmpeg failed.
    """
    _run([*ffmpeg.command(), '-y', *_parts(video), '-map', '0:v:0', '-c', 'copy', '-strict', '-2', '-f',
          MUXERS[container], source_argument(str(target.absolute()))], video)


def mux(ffmpeg: FFmpeg, video: Path, source: MediaInfo, target: Path, container: str, *, video_start: Fraction,
        cut: Cut | None, tags_of: VideoStream) -> None:
    """Write a video with the tracks, chapters and metadata of `source` to `target`.

    Args:
        ffmpeg: The programs.
        video: The list of the parts of the upscaled video, which begins at 0 (see `write_list`).
        source: Where the tracks come from; its video is not taken.
        target: The file to write.
        container: A key of `MUXERS`.
        video_start: When the video begins, in seconds after the start of the source or, where one is given, of `cut`.
        cut: The part of the source to take the tracks of, or None for all.
        tags_of: The stream whose title and language the video gets.

    Raises:
        MediaError: ffmpeg failed.
    """
    plan = plan_tracks(source.tracks, container)
    for line in plan.lines:
        logger.warning('%s', line)
    covers = _extracted(ffmpeg, source, plan.covers, target.parent) if container == 'mkv' else []
    command = [*ffmpeg.command(), '-y', *_inputs(ffmpeg, video, source, plan, video_start, cut), '-map', '0:v:0']
    command += _carried(plan, container, covers)
    command += ['-map_metadata', '1', '-map_chapters', '1', '-disposition:v:0', 'default']
    for name, value in tags_of.tags:
        if name in _VIDEO_TAGS:
            command += ['-metadata:s:v:0', f'{name}={value}']
    if cut is not None and cut.start:
        command += ['-copypriorss', '0']  # packets before the cut, which a seek to a key frame brings along
    if cut is not None and cut.duration is not None:
        command += ['-t', seconds(video_start + cut.duration)]
    _run([*command, '-strict', '-2', '-max_muxing_queue_size', '4096', '-f', MUXERS[container],
          source_argument(str(target.absolute()))], video)


def _run(command: Sequence[str], video: Path) -> None:
    """Run ffmpeg in the folder of the parts: it finds them beside their list only if that has a plain name."""
    _, errors = run(command, cwd=video.parent)
    if missing := [line for line in errors if 'Impossible to open' in line]:  # for ffmpeg that is the end, not an error
        raise MediaError(f'a part can\'t be read: {missing[0]}')
    for line in errors:
        logger.warning('ffmpeg: %s', line)


def _parts(video: Path) -> list[str]:
    return ['-f', 'concat', '-i', video.name]


def _inputs(ffmpeg: FFmpeg, video: Path, source: MediaInfo, plan: Plan, video_start: Fraction,
            cut: Cut | None) -> list[str]:
    """Return both inputs, the video first, moved so that they begin together as they did."""
    zero = source.start + (cut.start if cut else 0)
    used = [carried.track.start for carried in plan.carried if carried.track.start is not None]
    if used and source.format_name in _ZERO_IS_FIRST_USED and ffmpeg.version >= _ALWAYS_SINCE:
        video_start -= max(min(used) - zero, Fraction(0))
    command = ['-itsoffset', seconds(video_start)] if video_start > 0 else []
    command += _parts(video)
    if cut is not None and cut.start:  # with an -ss of 0, ffmpeg drops the first packet
        command += ['-ss', seconds(cut.start)]
    behind = max(-video_start, Fraction(0)) or -_HARDLY_ANYTHING
    return [*command, '-itsoffset', seconds(behind), '-i', absolute_argument(source)]


def _carried(plan: Plan, container: str, covers: Sequence[tuple[Track, Path]]) -> list[str]:
    """Return the options about every track but the video."""
    command, options = [], ['-c', 'copy']
    for position, carried in enumerate(plan.carried, 1):
        command += ['-map', f'1:{carried.track.index}']
        if carried.encoder != 'copy':
            options += [f'-c:{position}', carried.encoder]
    if container == 'mkv':
        position = sum(carried.track.kind == 'attachment' for carried in plan.carried)
        for number, (track, file) in enumerate(covers, position):
            command += ['-attach', str(file)]
            mime, extension = _COVER_TYPES[track.codec]
            options += [f'-metadata:s:t:{number}', f'mimetype={mime}', f'-metadata:s:t:{number}',
                        f'filename={track.file_name or f"cover.{extension}"}']
    else:
        for number, track in enumerate(plan.covers, 1):
            command += ['-map', f'1:{track.index}']
            options += [f'-disposition:v:{number}', 'attached_pic']
    return command + options


def _extracted(ffmpeg: FFmpeg, source: MediaInfo, covers: Sequence[Track], folder: Path) -> list[tuple[Track, Path]]:
    """Write cover pictures to files: Matroska holds them as attachments, which ffmpeg makes of files only."""
    files = []
    for track in covers:
        file = folder / f'cover{track.index}.{_COVER_TYPES[track.codec][1]}'
        run([*ffmpeg.command(), '-y', '-i', absolute_argument(source), '-map', f'0:{track.index}', '-c', 'copy',
             '-frames:v', '1', '-f', 'image2', '-update', '1', str(file.absolute())])
        files.append((track, file.absolute()))
    return files


def track_recording(tracks: Sequence[Track], target: Path) -> list[str]:
    """Return output options that write the tracks to a Matroska file while the video is decoded; none without tracks.

    For an input that can be read once only.
    """
    for track in tracks:
        if track.kind not in ('audio', 'subtitle'):
            logger.warning('%s is left out: of a stream only audio and subtitles are carried', track)
    plan = plan_tracks([track for track in tracks if track.kind in ('audio', 'subtitle')], 'mkv')
    if not plan.carried:
        return []
    command: list[str] = []
    for position, carried in enumerate(plan.carried):
        command += ['-map', f'0:{carried.track.index}', f'-c:{position}', carried.encoder]
    return [*command, '-f', 'matroska', '-y', f'file:{target}']
