"""Ask ffprobe about an input: its tracks, its video, the time stamps of its frames, its HDR metadata."""
from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import MediaError, flatten_message
from ..log import about
from .colour import Colour, HdrMetadata, has_alpha, infer_colour
from .containers import Track
from .cropping import Crop, read_crop
from .programs import Check, FFmpeg, build_source_argument, is_url, run
from .timing import TimeStamps, collect_time_stamps, parse_fraction

logger = logging.getLogger(__name__)

_PICTURE_FORMATS = ('image2', 'ico')
_PICTURE_BRANDS = ('avif', 'mif1', 'heic')
_MAYBE_ANIMATED = ('gif', 'apng', 'webp')
#: Options of an input by which ffmpeg looks at all of it, or its first half hour, before it begins.
LOOK_AT_ALL = ('-probesize', '2147483647', '-analyzeduration', '2147483647')
_LONGEST_SIDE = 1 << 20
_CLOCK = r'\d+:\d+:\d+(\.\d+)?'
# Plausible values, from least to most; a file with others is damaged.
_SECONDS = Fraction(0), Fraction(366 * 86400)
_RATES = Fraction(1, 86400), Fraction(1 << 31)  # the clock of a container may pass for a rate
_FRAMES = Fraction(0), 1000 * _SECONDS[1]
_PIXEL_SHAPES = Fraction(1, 100), Fraction(100)
_INTERLACED = ('tt', 'bb', 'tb', 'bt')
_HDR_TRANSFERS = ('smpte2084', 'arib-std-b67')


@dataclass(frozen=True)
class VideoStream:
    """The stream that is upscaled.

    Attributes:
        index: Its number in the file.
        codec: ffmpeg's name of its codec.
        width, height: Of the picture as shown, after cropping and rotation, in its own pixels.
        sample_aspect: Width of a pixel divided by its height, after rotation.
        pixel_format: ffmpeg's name of the coded format.
        colour: Its tags, completed with what players assume.
        real_rate, average_rate: ffprobe's r_frame_rate and avg_frame_rate, or None.
        start: Seconds on the file's clock.
        duration: Seconds, or None.
        promised_frames: Number of frames that the container states, or None.
        is_interlaced: Whether it is flagged as interlaced.
        turns: Clockwise quarter turns by which it is turned when it is shown; None if it is mirrored, or turned by
            another angle, which is left to ffmpeg.
        crop: Borders of the decoded picture that the container says to cut off, after rotation.
        alpha: Whether it has transparency, as far as the file says.
        dolby_vision: Its Dolby Vision profile and the compatibility id of its base layer, such as '8.1', or ''.
        tags: Title, language and so on, and the time code, which may be the container's.
    """

    index: int
    codec: str
    width: int
    height: int
    sample_aspect: Fraction
    pixel_format: str
    colour: Colour
    real_rate: Fraction | None
    average_rate: Fraction | None
    start: Fraction
    duration: Fraction | None
    promised_frames: int | None
    is_interlaced: bool
    turns: int | None = 0
    crop: Crop = (0, 0, 0, 0)
    alpha: bool = False
    dolby_vision: str = ''
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def decoded_size(self) -> tuple[int, int]:
        """Width and height after rotation, before cropping."""
        left, top, right, bottom = self.crop
        return self.width + left + right, self.height + top + bottom


@dataclass(frozen=True)
class MediaInfo:
    """An input.

    Attributes:
        source: Path or URL.
        format_name: ffmpeg's name of the container.
        start: Seconds on the file's clock: the earliest start of any stream, which ffmpeg takes as its zero.
        duration: Seconds, or None.
        video: The stream to upscale, or None.
        tracks: All other streams.
        brand: Major brand of an MP4, or ''.
        has_long_keys: Whether its metadata have keys such as com.apple.quicktime.make.
        has_late_tracks: Whether some tracks, such as those that begin half-way through a recording, are described only
            if ffmpeg looks at the whole file first.
        is_stream: Whether it may be readable only once, from start to end. A file that vanishes does not become so.
    """

    source: str
    format_name: str
    start: Fraction
    duration: Fraction | None
    video: VideoStream | None
    tracks: tuple[Track, ...]
    brand: str = ''
    has_long_keys: bool = False
    has_late_tracks: bool = False
    is_stream: bool = False


def probe(programs: FFmpeg, source: str, check: Check | None = None) -> MediaInfo:
    """Ask ffprobe what an input is, a path or a URL.

    Raises:
        MediaError: ffmpeg can't open it.
    """
    def ask(*options: str) -> MediaInfo:
        try:
            output, _ = run([programs.ffprobe, '-v', 'error', *options, '-print_format', 'json', '-show_format',
                             '-show_streams', build_source_argument(source)], check=check)
        except MediaError as error:
            if os.path.isfile(source) and not Path(source).stat().st_size:
                raise MediaError(f'{source}: the file is empty') from None
            reason = str(error).replace(f'{build_source_argument(source)}: ', '')
            what = 'can\'t be opened' if is_url(source) else 'not a video, or a damaged one'
            raise MediaError(f'{source}: {what}: {reason}') from None
        return parse_probe(source, output)

    info = ask()
    if info.has_late_tracks and not info.is_stream:
        info = replace(ask(*LOOK_AT_ALL), has_late_tracks=True)
    video = info.video
    if video is not None and not info.is_stream and not any(video.crop):  # before 7.1, ffprobe does not report a crop
        number = sum(track.kind == 'video' and track.index < video.index for track in info.tracks)
        if found := read_crop(Path(source), info.format_name, number):
            info = replace(info, video=_crop(video, *found))
    return info


def _crop(video: VideoStream, crop: Crop, sample_aspect: Fraction | None = None) -> VideoStream:
    """Return a video that is cropped, with other pixels where `sample_aspect`, before rotation, is given."""
    turns = video.turns or 0
    left, top, right, bottom = crop[-turns:] + crop[:-turns]
    width, height = video.width - left - right, video.height - top - bottom
    if min(crop) < 0 or min(width, height) < 1 or video.turns is None:
        logger.warning('the container says to crop the video by %d, %d, %d and %d pixels, which is ignored', *crop)
        return video
    if sample_aspect is not None and turns in (1, 3):
        sample_aspect = 1 / sample_aspect
    return replace(video, width=width, height=height, crop=(left, top, right, bottom),
                   sample_aspect=sample_aspect or video.sample_aspect)


def parse_probe(source: str, output: bytes) -> MediaInfo:
    """Read what ffprobe has printed about an input as JSON.

    Raises:
        MediaError: it makes no sense, or the video can't be decoded.
    """
    try:
        parsed = json.loads(output.decode(errors='replace'))
        streams, container = parsed.get('streams', []), parsed.get('format', {})
        tags = container.get('tags', {})
        # Of several videos the one marked as default, else the first. Covers don't count.
        videos = [stream for stream in streams if stream.get('codec_type') == 'video' and not _is_cover(stream)]
        video = next((stream for stream in videos if stream.get('disposition', {}).get('default')),
                     videos[0] if videos else None)
        with about(source):
            return MediaInfo(
                source=source,
                format_name=str(container.get('format_name', '')),
                start=Fraction(container.get('start_time', 0)),
                duration=_parse_bounded(container, 'duration', _SECONDS),
                video=_parse_video(video, container) if video else None,
                tracks=tuple(_parse_track(stream) for stream in streams if stream is not video),
                brand=tags.get('major_brand', '').strip(),
                has_long_keys=any(name.startswith('com.') for name in tags),
                has_late_tracks=any(stream.get('codec_type') == 'audio' and stream.get('sample_rate') == '0'
                                    for stream in streams),
                is_stream=is_url(source) or not Path(source).is_file())
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise MediaError(f'{source}: ffprobe\'s answer makes no sense: {flatten_message(error)}') from None


def is_picture(programs: FFmpeg, info: MediaInfo, check: Check | None = None) -> bool:
    """Return whether an input is a single still picture."""
    name = info.format_name
    if name in _PICTURE_FORMATS or name.endswith('_pipe') or info.brand in _PICTURE_BRANDS:
        return True
    if name not in _MAYBE_ANIMATED or info.is_stream:
        return False
    stamps = read_time_stamps(programs, info, check)
    return stamps is not None and len(stamps.pts) == 1


def read_hdr(programs: FFmpeg, info: MediaInfo, check: Check | None = None) -> HdrMetadata | None:
    """Read the metadata off the first frame of an HDR video, or its container; None if there is none.

    Also None for streams, which can be read only once.
    """
    if info.is_stream or info.video is None or info.video.colour.transfer not in _HDR_TRANSFERS:
        return None
    try:
        output, _ = run([programs.ffprobe, '-v', 'fatal', '-select_streams', str(info.video.index), '-read_intervals',
                         '%+#1', '-show_frames', '-show_entries', 'frame=side_data_list:stream=side_data_list',
                         '-of', 'json', build_source_argument(info.source)], check=check)
        parsed = json.loads(output.decode(errors='replace'))
    except (MediaError, ValueError):  # a damaged video, which the decoder will report
        return None
    entries = [*parsed.get('streams', []), *parsed.get('frames', [])]  # the last one counts: that of a frame
    return HdrMetadata.parse([data for entry in entries for data in entry.get('side_data_list', [])])


def read_time_stamps(programs: FFmpeg, info: MediaInfo, check: Check | None = None) -> TimeStamps | None:
    """Read the time stamps of a file's video without decoding it.

    Returns:
        None if there is no video packet, or if the input is a stream, which can be read only once.
    """
    if info.is_stream or info.video is None:
        return None
    output, errors = run([programs.ffprobe, '-v', 'error', '-select_streams', str(info.video.index), '-show_entries',
                          'packet=pts,dts,duration,flags:stream=time_base', '-of', 'compact=p=0',
                          build_source_argument(info.source)], check=check)
    pts: list[int | None] = []
    dts: list[int | None] = []
    durations: list[int | None] = []
    keys: list[int] = []
    time_base, hides_packets = Fraction(1), False
    for line in output.decode(errors='replace').splitlines():
        entries = dict(part.partition('=')[::2] for part in line.split('|'))
        if 'time_base' in entries:
            time_base = Fraction(entries['time_base'])
        elif 'D' not in entries.get('flags', 'D'):  # D: decoded, but cut off by the container's edit list
            for values, name in ((pts, 'pts'), (dts, 'dts'), (durations, 'duration')):
                values.append(int(entries[name]) if entries.get(name, 'N/A') != 'N/A' else None)
            if 'K' in entries['flags'] and pts[-1] is not None:
                keys.append(pts[-1])
        else:
            hides_packets = True
    if not pts:
        return None
    end = None if _is_cut_off(info, errors) else _read_end(info)
    return replace(collect_time_stamps(pts, time_base, keys, dts=dts, durations=durations, end=end),
                   hides_packets=hides_packets)


def _is_cut_off(info: MediaInfo, errors: Sequence[str]) -> bool:
    """Return whether a file is truncated, so that its last frame is not the last one that its container knew of.

    ffprobe reports that in `errors`, but not for AVI; there this warns.
    """
    if info.format_name == 'avi':
        with Path(info.source).open('rb') as file:
            promised = int.from_bytes(file.read(8)[4:], 'little')  # without these 8, which some programs count too
            size = file.seek(0, os.SEEK_END)
        if size < promised:
            logger.warning('is truncated: %d of %d bytes are there', size, promised + 8)
        return size < promised
    return any('ended prematurely' in line for line in errors)


def _read_end(info: MediaInfo) -> Fraction | None:
    """Return when the video ends according to a container whose packets don't say it.

    These are Matroska, where programs note the duration of a track in a tag, and AVI with its empty chunks.
    """
    assert info.video is not None
    if info.format_name == 'avi' and info.video.duration is not None:
        return info.video.start + info.video.duration
    noted = dict(info.video.tags).get('duration', '')
    if info.format_name.startswith('matroska') and info.duration is not None and re.fullmatch(_CLOCK, noted):
        hours, minutes, seconds = map(Fraction, noted.split(':'))
        return min(3600 * hours + 60 * minutes + seconds, info.start + info.duration)
    return None


def _is_cover(stream: dict[str, Any]) -> bool:
    return bool(stream.get('disposition', {}).get('attached_pic'))


def _parse_track(stream: dict[str, Any]) -> Track:
    tags = _lower_names(stream)
    kind, codec = str(stream.get('codec_type', 'data')), str(stream.get('codec_name', 'unknown'))
    if kind == 'data' and codec in ('unknown', 'bin_data') and stream.get('codec_tag_string', '').isalnum():
        codec = stream['codec_tag_string']
    return Track(int(stream['index']), kind, codec, is_cover=_is_cover(stream),
                 language=tags.get('language', '').replace('und', ''), file_name=tags.get('filename', ''),
                 start=_parse_start(stream), channel_layout=str(stream.get('channel_layout', '')))


def _parse_video(stream: dict[str, Any], container: dict[str, Any]) -> VideoStream:
    width, height, pixel_format = int(stream.get('width', 0)), int(stream.get('height', 0)), stream.get('pix_fmt', '')
    if not (0 < width <= _LONGEST_SIDE and 0 < height <= _LONGEST_SIDE and pixel_format):
        raise MediaError(f'video track {stream["index"]} ({stream.get("codec_name", "unknown codec")}) is damaged from '
                         'the start, or this ffmpeg can\'t decode it')
    sample_aspect = _parse_bounded(stream, 'sample_aspect_ratio', _PIXEL_SHAPES) or Fraction(1)
    frames = _parse_bounded(stream, 'nb_frames', _FRAMES)
    colour = infer_colour(height, stream, pixel_format)
    side_data = stream.get('side_data_list', [])
    tags = {name: value for name, value in _lower_names(container).items() if name == 'timecode'}
    tags |= _lower_names(stream)
    turns = _parse_turns(stream)
    if turns in (1, 3):
        width, height, sample_aspect = height, width, 1 / sample_aspect
    video = VideoStream(
        index=int(stream['index']),
        codec=str(stream.get('codec_name', '')),
        width=width,
        height=height,
        sample_aspect=sample_aspect,
        pixel_format=pixel_format,
        colour=colour,
        real_rate=_parse_bounded(stream, 'r_frame_rate', _RATES),
        average_rate=_parse_bounded(stream, 'avg_frame_rate', _RATES),
        start=_parse_start(stream) or Fraction(0),
        duration=_parse_bounded(stream, 'duration', _SECONDS),
        promised_frames=int(frames) if frames is not None else None,
        is_interlaced=stream.get('field_order') in _INTERLACED,
        turns=turns,
        alpha=has_alpha(pixel_format, str(stream.get('codec_name', ''))) or tags.get('alpha_mode') == '1',
        dolby_vision=next((f'{data["dv_profile"]}.{data.get("dv_bl_signal_compatibility_id", 0)}'
                           for data in side_data if 'dv_profile' in data), ''),
        tags=tuple(tags.items()))
    cropping = next((data for data in side_data if 'crop_left' in data), None)
    if cropping is None:
        return video
    return _crop(video, (cropping['crop_left'], cropping['crop_top'], cropping['crop_right'], cropping['crop_bottom']))


def _lower_names(entry: dict[str, Any]) -> dict[str, str]:
    """Return the tags of a stream or container with their names in lower case, in which containers differ."""
    return {name.lower(): str(value) for name, value in entry.get('tags', {}).items()}


def _parse_bounded(entry: dict[str, Any], name: str, bounds: tuple[Fraction, Fraction]) -> Fraction | None:
    """Return a value; None, with a warning, for one that no video has."""
    value = parse_fraction(entry.get(name))
    if value is None or bounds[0] <= value <= bounds[1]:
        return value
    logger.warning('its %s of %s makes no sense and is ignored', name.replace('_', ' '), entry[name])
    return None


def _parse_start(stream: dict[str, Any]) -> Fraction | None:
    return Fraction(stream['start_pts']) * Fraction(stream['time_base']) if 'start_pts' in stream else None


def _parse_turns(stream: Mapping[str, Any]) -> int | None:
    """Return the clockwise quarter turns of a stream's display matrix, or of the tag that older versions write.

    None if it is mirrored, or turned by another angle.
    """
    for side_data in stream.get('side_data_list', []):
        if 'rotation' in side_data:
            rows = [[int(number) for number in re.findall(r'-?\d+', line.partition(':')[2])]
                    for line in str(side_data.get('displaymatrix', '')).splitlines() if ':' in line]
            if len(rows) >= 2 and min(map(len, rows[:2])) >= 2:
                (a, b, *_), (c, d, *_) = rows[:2]
                if a * d - b * c < 0:  # mirrored
                    return None
            degrees = -float(side_data['rotation'])
            break
    else:
        degrees = float(stream.get('tags', {}).get('rotate', 0))
    return None if round(degrees) % 90 else round(degrees) // 90 % 4
