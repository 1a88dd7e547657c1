"""Join the parts of an upscaled video and put the tracks of its source with them."""
from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ..errors import MediaError
from .containers import CONTAINERS, Track, plan_tracks
from .probe import LOOK_AT_ALL, MediaInfo, VideoStream
from .programs import Check, FFmpeg, build_source_argument, run
from .timing import format_seconds

logger = logging.getLogger(__name__)

_COVER_TYPES = {'mjpeg': ('image/jpeg', 'jpg'), 'png': ('image/png', 'png'), 'bmp': ('image/bmp', 'bmp'),
                'gif': ('image/gif', 'gif'), 'webp': ('image/webp', 'webp')}
_VIDEO_TAGS = ('title', 'language', 'handler_name', 'timecode')
# ffmpeg reads them as metadata, though they describe the source's file.
_NO_METADATA = ('major_brand', 'minor_version', 'compatible_brands', 'timecode')
# ffmpeg counts the times of an input from the earliest start of any of its streams. In these formats, whose clocks may
# jump (AVFMT_TS_DISCONT), it counts from the earliest of the streams that are *used* instead, and so shifts the tracks
# if the video, which we don't take, was the first. Version 6.0 and later always do so (`correct_input_start_times` in
# https://github.com/FFmpeg/FFmpeg/blob/n6.0/fftools/ffmpeg_opt.c), and `_build_inputs` compensates for it.
_ZERO_IS_FIRST_USED = ('mpegts', 'mpeg', 'ogg', 'nsv')
_ALWAYS_SINCE = (6, 0)
_MICRO = 1000000
# Earlier versions do so only if the offset of the input is exactly minus its start, that is, if -itsoffset is absent or
# zero ("Correcting starttime based on the enabled streams" in
# https://github.com/FFmpeg/FFmpeg/blob/n5.1/fftools/ffmpeg.c). An offset of one microsecond prevents it, and is the
# smallest step that ffmpeg counts in.
_HARDLY_ANYTHING = Fraction(1, _MICRO)
# In the same formats it closes gaps of more than 10 s in the times of the streams that are used, unless told otherwise.
_LEAVE_GAPS = ('-dts_delta_threshold', '1000000000')


@dataclass(frozen=True)
class Cut:
    """The part of the source that the video shows, in seconds after its start; None for all the rest."""

    start: Fraction = Fraction(0)
    duration: Fraction | None = None


def write_list(target: Path, parts: Sequence[tuple[Path, int]], rate: Fraction) -> None:
    """Write the list by which ffmpeg's concat demuxer reads the parts of a video as one.

    Args:
        target: A file in the folder of the parts, whose names need no quoting.
        parts: Path and number of frames of each.
        rate: Frames a second. The list states each part's exact duration; otherwise the rounding of many parts would
            add up.
    """
    lines, frames = ['ffconcat version 1.0'], 0
    for path, count in parts:
        begin, frames = frames, frames + count
        length = round(frames / rate * _MICRO) - round(begin / rate * _MICRO)
        lines += [f'file {path.name}', f'duration {format_seconds(Fraction(length, _MICRO))}']
    target.write_text('\n'.join(lines) + '\n')


def join(programs: FFmpeg, video: Path, target: Path, container: str, check: Check | None = None) -> None:
    """Write the parts of a list (see `write_list`) to one video, without other tracks.

    Raises:
        MediaError: ffmpeg failed.
    """
    command = [*programs.base_command, '-y', '-f', 'concat', '-i', video.name, '-map', '0:v:0', '-c', 'copy']
    _run_beside_parts([*command, *_build_target(target, container)], video, check)


def mux(programs: FFmpeg, video: Path, source: MediaInfo, target: Path, container: str, *, video_start: Fraction,
        cut: Cut, tags_of: VideoStream, leave_gaps: bool = False, check: Check | None = None) -> None:
    """Write a video with the tracks, chapters and metadata of its source.

    Args:
        video: The list of the parts of the upscaled video, which begins at 0 (see `write_list`).
        source: Where the tracks come from; its video is not taken.
        video_start: When the video begins, in seconds after the start of `cut`.
        cut: The part of the source to take the tracks from.
        tags_of: The stream that gives the video its title, language and other tags.
        leave_gaps: Whether the video holds a frame where the clock of the source leaps, so that the tracks must wait.

    Raises:
        MediaError: ffmpeg failed.
    """
    encoders = plan_tracks(source.tracks, container)
    covers = [track for track in encoders if track.is_cover]
    others = {track: encoder for track, encoder in encoders.items() if not track.is_cover}
    command = [*programs.base_command, '-y', *(_LEAVE_GAPS if leave_gaps else ()),
               *_build_inputs(programs, video, source, others, video_start, cut),
               '-map', '0:v:0', '-c', 'copy', *_build_track_options(others, container)]
    if CONTAINERS[container].attachments:
        attachments = sum(track.kind == 'attachment' for track in others)
        command += _attach_covers(programs, source, covers, attachments, target.parent, check)
    else:
        for number, track in enumerate(covers, 1):
            command += ['-map', f'1:{track.index}', f'-disposition:v:{number}', 'attached_pic']
    command += ['-map_metadata', '1', '-map_chapters', '1', '-disposition:v:0', 'default']
    for name in _NO_METADATA:
        command += ['-metadata', f'{name}=']
    if source.has_long_keys and CONTAINERS[container].has_key_option:
        command += ['-movflags', 'use_metadata_tags']  # without it, ffmpeg writes only the keys it has short names for
    for name, value in tags_of.tags:
        if name == 'timecode' and cut.start:
            logger.warning('the time code %s is left out: it is that of the uncut video', value)
        elif name in _VIDEO_TAGS:
            command += ['-metadata:s:v:0', f'{name}={value}']
    if cut.start:
        command += ['-copypriorss', '0']  # drops the packets before the cut, which seeking to a key frame brings along
    if cut.duration is not None:
        command += ['-t', format_seconds(video_start + cut.duration)]
    _run_beside_parts([*command, '-max_muxing_queue_size', '4096', *_build_target(target, container)], video, check)


def _run_beside_parts(command: Sequence[str], video: Path, check: Check | None) -> None:
    """Run ffmpeg in the folder of the parts, because it finds them only if their list has a plain file name."""
    _, errors = run(command, cwd=video.parent, check=check)
    # ffmpeg takes a missing part for the end of the video and succeeds.
    if missing := [line for line in errors if 'Impossible to open' in line]:
        raise MediaError(f'a part can\'t be read: {missing[0]}')
    for line in errors:
        logger.warning('ffmpeg: %s', line)


def _build_target(target: Path, container: str) -> list[str]:
    # Strictness -2 allows codecs that this ffmpeg calls experimental in this container, such as FLAC in MP4.
    return ['-strict', '-2', '-f', CONTAINERS[container].muxer, build_source_argument(str(target.absolute()))]


def _build_inputs(programs: FFmpeg, video: Path, source: MediaInfo, tracks: Iterable[Track],
                  video_start: Fraction, cut: Cut) -> list[str]:
    """Return both inputs, the video first, shifted so that they begin together as they did in the source."""
    zero = source.start + cut.start
    used = [track.start for track in tracks if track.start is not None]
    if used and source.format_name in _ZERO_IS_FIRST_USED and programs.version >= _ALWAYS_SINCE:
        video_start -= max(min(used) - zero, Fraction(0))
    command = ['-itsoffset', format_seconds(video_start)] if video_start > 0 else []
    command += ['-f', 'concat', '-i', video.name]
    # Without a cut there must be no -ss, not even of 0: that is a seek too, and in Matroska it leads to the first key
    # frame of the video and past audio packets that come before it.
    if cut.start:
        command += ['-ss', format_seconds(cut.start)]
    behind = max(-video_start, Fraction(0)) or -_HARDLY_ANYTHING
    look = LOOK_AT_ALL if source.has_late_tracks else ()
    return [*command, *look, '-itsoffset', format_seconds(behind), '-i', build_source_argument(source.source)]


def _build_track_options(encoders: Mapping[Track, str], container: str) -> list[str]:
    """Return the options for the tracks that follow the video."""
    options = []
    for position, (track, encoder) in enumerate(encoders.items(), 1):
        options += ['-map', f'1:{track.index}']
        if encoder == 'copy':
            continue
        options += [f'-c:{position}', encoder]
        layouts = CONTAINERS[container].audio_layouts
        if track.kind == 'audio' and layouts:  # others become the nearest of them
            # To ffmpeg 6.0 the nearest of 5.0(side) is 6.1, of quad(side) too.
            twin = track.channel_layout.removesuffix('(side)')
            layouts = (twin,) if twin in layouts else layouts
            options += [f'-filter:{position}', f'aformat=channel_layouts={"|".join(layouts)}']
    return options


def _attach_covers(programs: FFmpeg, source: MediaInfo, covers: Sequence[Track], attachments: int, folder: Path,
                   check: Check | None) -> list[str]:
    """Write covers to files in `folder`, because ffmpeg makes attachments only from files, and return their options.

    `attachments` is the number of those that come before them.
    """
    options = []
    for number, track in enumerate(covers, attachments):
        mime, extension = _COVER_TYPES[track.codec]
        file = (folder / f'cover{track.index}.{extension}').absolute()
        run([*programs.base_command, '-y', '-i', build_source_argument(source.source), '-map', f'0:{track.index}',
             '-c', 'copy', '-frames:v', '1', '-f', 'image2', '-update', '1', str(file)], check=check)
        options += ['-attach', str(file), f'-metadata:s:t:{number}', f'mimetype={mime}',
                    f'-metadata:s:t:{number}', f'filename={track.file_name or f"cover.{extension}"}']
    return options


def build_recording_options(tracks: Sequence[Track], target: Path) -> list[str]:
    """Return output options that write audio and subtitles to a Matroska file while the video is decoded.

    This serves inputs that can be read only once. There are no options if there is nothing to record.
    """
    for track in tracks:
        if track.kind not in ('audio', 'subtitle'):
            logger.warning('%s is left out: only audio and subtitles of a stream are carried', track)
    options = []
    recorded = plan_tracks([track for track in tracks if track.kind in ('audio', 'subtitle')], 'mkv')
    for position, (track, encoder) in enumerate(recorded.items()):
        options += ['-map', f'0:{track.index}', f'-c:{position}', encoder]
    return [*options, '-f', CONTAINERS['mkv'].muxer, '-y', f'file:{target}'] if options else []
