"""Decode a video to frames: in memory through a pipe, to picture files, or only to count them."""
from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from ..errors import MediaError, MediaWriteError
from .colour import is_deep, name_raw_format, parse_pixel_format
from .families import FAMILIES
from .probe import MediaInfo, VideoStream
from .programs import Check, Child, FFmpeg, build_source_argument
from .timing import format_seconds

_CROPS_SINCE = (7, 1)
# By quarter turns. ffmpeg itself takes the same filters, but begins them anew where frames change their size half-way.
_TURN_FILTERS: dict[int, list[tuple[str, ...]]] = {
    1: [('transpose', 'clock')], 2: [('hflip',), ('vflip',)], 3: [('transpose', 'cclock')]}
_ALPHA_DECODERS = {'vp8': 'libvpx', 'vp9': 'libvpx-vp9'}
_KILLED = (-signal.SIGTERM, -9)
#: ffmpeg's report of a reference picture that is to be forgotten and is not there.
FORGETS = 'mmco: unref short failure'
_LONGEST_REFERENCE = 32  # frames; 16 pictures of H.264 and what lies between them
_REASONS = 2  # messages of ffmpeg that describe damage
# The end counts as one more frame. Without this, a last frame that ends before the tick it is nearest to would be lost.
_OWN_TICK = 'if(isnan(PREV_OUTPTS),PTS,max(PTS,PREV_OUTPTS+1))'
# Of a file that has gone, or can't be reached any more: it may come back.
_GONE = re.compile('No such file or directory|Permission denied|Stale file handle|Input/output error|Host is down')


@dataclass(frozen=True)
class Decoding:
    """Which frames of a video are decoded, and how.

    Attributes:
        rate: Frames a second that come out.
        resample: Whether frames are repeated, or dropped, to reach `rate`; otherwise each comes out once.
        push: Whether each frame gets a tick of `rate` of its own, if need be the next free one, which then depends on
            where decoding began; otherwise frames that share a tick are dropped.
        pad: Whether the last frame is repeated until `stop`.
        from_zero: Whether resampling begins at the start of the file and repeats the first frame until its time.
        deinterlace: Whether bwdif makes one frame of two fields.
        alpha: Whether the frames come out with their transparency.
        hwaccel: Name of what decodes instead of the CPU, or 'none' (see `hardware.choose_hwaccel`).
        origin: Time stamp from which times and ticks count, in the stream's time base; None if time stamps can't be
            relied on.
        seek: Seconds to skip. With an origin it is a time on the file's clock, of a key frame from which everything
            kept can be decoded; otherwise it counts from the start of the file and leads to the first frame.
        duration: Seconds to decode, or None for all.
        start, stop: The first frame kept of those that leave the decoder, or the resampling, and the first one after
            those kept, or None.
        unit: That of `start` and `stop`: 'frame' (a number), 'time' (seconds) or 'pts' (ticks of the resampled rate).
            The latter two go by each frame's own time stamp, relative to `origin`.
    """

    rate: Fraction
    resample: bool = False
    push: bool = False
    pad: bool = False
    from_zero: bool = False
    deinterlace: bool = False
    alpha: bool = False
    origin: int | None = None
    seek: Fraction | None = None
    duration: Fraction | None = None
    start: int | Fraction | None = None
    stop: int | Fraction | None = None
    unit: str = 'frame'
    hwaccel: str = 'none'


@dataclass(frozen=True)
class Damage:
    """A place where decoding went wrong: how many frames came before it, and ffmpeg's report."""

    frame: int
    reason: str


class FrameReader(Child):
    """The frames of a video: a running ffmpeg to iterate over, which gives arrays.

    Each frame is HxWx3, BGR, or with alpha HxWx4, BGRA; full range: uint8, or uint16 if the video has more than 8 bits.
    Damage does not end the iteration: whatever can be decoded comes out, and `damage` is set to the first one after the
    last frame.

    Args:
        also: Output options and a file that the other tracks are written to in the same pass, for an input that can
            be read only once (see `build_recording_options`).

    Raises:
        MediaError: ffmpeg can't be started, or, while iterating, it was killed, as `kill` does; the file is not at
            fault then.
    """

    def __init__(self, programs: FFmpeg, info: MediaInfo, decoding: Decoding, also: Sequence[str] = ()) -> None:
        self._video = require_video(info)
        self._dtype = np.dtype(np.uint16 if is_deep(self._video.pixel_format) else np.uint8)
        self._channels = 3 + decoding.alpha
        self._alpha_scale = _find_alpha_scale(self._video, decoding)
        self.damage: Damage | None = None
        self._decoded = 0
        self._first_error: int | None = None  # frames decoded before it
        super().__init__(build_decode_command(programs, info, decoding, also))

    def __iter__(self) -> Iterator[np.ndarray]:
        filled = size = 0
        while filled == size:
            frame = np.empty((self._video.height, self._video.width, self._channels), self._dtype)
            view, filled, size = frame.data.cast('B'), 0, frame.nbytes
            while filled < size and (count := self.output.readinto(view[filled:])):
                filled += count
            if self._first_error is None and self.errors:
                self._first_error = self._decoded
            if filled == size:
                self._decoded += 1
                if self._alpha_scale != 1:
                    frame[..., 3] = np.rint(frame[..., 3] * float(self._alpha_scale))
                yield frame
        status = self.wait()
        is_gone = status != 0 and not self._decoded and any(_GONE.search(line) for line in self.errors)
        if status in _KILLED or is_gone:
            raise self.describe_failure()
        if status != 0 or filled or self.errors:  # of an incomplete frame too
            first = self._decoded if self._first_error is None else self._first_error
            self.damage = Damage(first, _describe_damage(self, status) or 'the last frame is incomplete')


def _find_alpha_scale(video: VideoStream, decoding: Decoding) -> Fraction:
    """Return what alpha is multiplied by: ffmpeg's scale filter shifts that of 10 bits, and makes 65472 of 1023."""
    bits = parse_pixel_format(video.pixel_format).bits
    return Fraction(65535, (1 << 16) - (1 << 16 - bits)) if decoding.alpha and 8 < bits < 16 else Fraction(1)


def build_decode_command(programs: FFmpeg, info: MediaInfo, decoding: Decoding,
                         also: Sequence[str] = ()) -> list[str]:
    """Return the command that writes raw frames to stdout, and the other tracks as `also` says."""
    pixel_format = name_raw_format(deep=is_deep(require_video(info).pixel_format), alpha=decoding.alpha)
    return [*_compile(programs, info, decoding, 'pipe:1', format='rawvideo', pix_fmt=pixel_format), *also]


def count_frames(programs: FFmpeg, info: MediaInfo, decoding: Decoding,
                 check: Check | None = None) -> tuple[int, list[str]]:
    """Decode frames without keeping them; return their number, and ffmpeg's reports of damage."""
    command = _compile(programs, info, decoding, '-', format='null', progress='pipe:1')
    with Child(command, collect=True) as child:
        status = child.wait(check)
        counts = re.findall(r'^frame=\s*(\d+)', child.collected.decode(errors='replace'), re.MULTILINE)
        errors = list(child.errors) or ([str(child.describe_failure())] if status else [])
        return int(counts[-1]) if counts else 0, errors


def is_of_a_cut(programs: FFmpeg, info: MediaInfo, decoding: Decoding, check: Check | None = None) -> bool:
    """Return whether all that ffmpeg reports comes from a cut within an open GOP, and no frame is at fault.

    After such a cut H.264 is told to forget reference pictures that were cut off. ffmpeg reports that as it would if
    they had been lost. No picture stays a reference for more than a few frames, so later reports are damage.
    `decoding` is that of all frames, from the start of the file.
    """
    beginning = Decoding(decoding.rate, duration=_LONGEST_REFERENCE / decoding.rate)
    at_the_cut, everywhere = (count_frames(programs, info, some, check)[1] for some in (beginning, decoding))
    return at_the_cut == everywhere and all(FORGETS in line for line in everywhere)


def extract_frames(programs: FFmpeg, info: MediaInfo, decoding: Decoding, folder: Path,
                   check: Check | None = None) -> Damage | None:
    """Decode frames to numbered png files in an empty folder, 8 or 16 bits per value, without loss.

    Returns:
        The first damage, or None; the frames that could be decoded are there in any case.

    Raises:
        MediaWriteError: the disk is full, or fails.
        MediaError: no frame could be decoded.
    """
    pixel_format = {(False, False): 'rgb24', (False, True): 'rgba', (True, False): 'rgb48be', (True, True): 'rgba64be'}[
        is_deep(require_video(info).pixel_format), decoding.alpha]
    command = _compile(programs, info, decoding, '%08d.png', format='image2', compression_level=1, pix_fmt=pixel_format)
    # ffmpeg runs in the folder because a % in the folder's own name would count as part of the pattern.
    with Child(command, cwd=folder) as child:
        status = child.wait(check)
        failure, reason = child.describe_failure(), _describe_damage(child, status)
    if isinstance(failure, MediaWriteError):
        raise failure
    count = sum(1 for _ in folder.iterdir())
    if count == 0:
        raise MediaError(f'no frame could be decoded: {failure}')
    return Damage(count, reason) if reason else None


def require_video(info: MediaInfo) -> VideoStream:
    """Return the video stream of an input.

    Raises:
        MediaError: it has none.
    """
    if info.video is None:
        raise MediaError(f'{info.source}: has no video')
    return info.video


def _describe_damage(child: Child, status: int) -> str:
    """Return what a finished ffmpeg reported about damage, or '' if nothing."""
    return str(child.describe_failure()) if status else '; '.join(list(dict.fromkeys(child.errors))[:_REASONS])


def _compile(programs: FFmpeg, info: MediaInfo, decoding: Decoding, target: str, **options: Any) -> list[str]:
    """Return the command that writes the frames, full-range RGB, each once, to a target with some output options."""
    video = require_video(info)
    width, height = video.decoded_size
    frames = ffmpeg.input('SOURCE', **_build_input_options(programs, info, decoding))[str(video.index)]
    if decoding.hwaccel != 'none':  # cards give nv12 and p010; all that follows is the same as for the CPU's frames
        frames = frames.filter('format', video.pixel_format)
    if decoding.origin is not None:
        frames = frames.filter('setpts', f'PTS-({decoding.origin})')
    if video.turns:  # frames of other sizes can't be turned by the same filter
        frames = frames.filter('scale', *((width, height) if video.turns == 2 else (height, width)))
        for arguments in _TURN_FILTERS[video.turns]:
            frames = frames.filter(*arguments)
    if decoding.deinterlace:
        # bwdif needs frames of one size; those that have it pass this unchanged.
        frames = frames.filter('scale', width, height)
        frames = frames.filter('bwdif', mode='send_frame', parity='auto', deint='all')
    if decoding.resample:
        frames = _resample(frames, decoding)
    ending = '' if decoding.unit == 'time' else f'_{decoding.unit}'
    trim = {f'{name}{ending}': value if isinstance(value, int) else format_seconds(value)
            for name, value in (('start', decoding.start), ('end', decoding.stop)) if value is not None}
    if trim:
        frames = frames.filter('trim', **trim)
    frames = frames.filter('scale', width, height, **video.colour.build_rgb_scale(video.pixel_format))
    if any(video.crop):  # of RGB, because of shared chroma only even borders can be cut off
        frames = frames.filter('crop', video.width, video.height, *video.crop[:2])
    if options.get('pix_fmt') == 'rgba64be' and (scale := _find_alpha_scale(video, decoding)) != 1:
        frames = frames.filter('format', 'rgba64le').filter('lutrgb', a=f'val*{scale}')
    # Numbers replace the time stamps. Some videos repeat theirs, and ffmpeg reports every repeated one as an error
    # of the raw video muxer (https://github.com/ffvvc/FFmpeg/issues/61), which would count as damage here.
    frames = frames.filter('settb', 1 / decoding.rate).filter('setpts', 'N')
    # The numbers are times in ticks of `rate`. The encoder would otherwise round them to ticks of the rate that the
    # container claims, which may be lower, and two frames would share one.
    output = frames.output(target, **options, **programs.passthrough, enc_time_base=str(1 / decoding.rate))
    return programs.compile(output, SOURCE=build_source_argument(info.source))


def _resample(frames: Any, decoding: Decoding) -> Any:
    """Return the frames repeated or dropped as `decoding.rate` demands."""
    if decoding.push:
        if decoding.origin is not None:
            frames = frames.filter('trim', start_pts=0)  # frames that a seek brings along take no tick away
        frames = frames.filter('settb', 1 / decoding.rate).filter('setpts', _OWN_TICK)
    start = {'start_time': 0} if decoding.from_zero else {}
    if not decoding.pad:
        return frames.filter('fps', decoding.rate, **start)
    # By default a last frame that ends before the middle of its tick would be lost, and the one before it padded.
    frames = frames.filter('fps', decoding.rate, eof_action='pass', **start)
    return frames.filter('tpad', stop=-1, stop_mode='clone')


def _build_input_options(programs: FFmpeg, info: MediaInfo, decoding: Decoding) -> dict[str, Any]:
    video = require_video(info)
    # Where the size or the format changes half-way, the scale filter follows. Made anew for that, all filters would
    # begin to count at 0 again, and drop frames. But those by which ffmpeg itself turns a video can't follow.
    options: dict[str, Any] = {} if video.turns is None else {'reinit_filter': 0}
    if video.turns:
        options['noautorotate'] = None
    if decoding.hwaccel != 'none':
        options['hwaccel'] = decoding.hwaccel
        decoders = next(family.decoders for family in FAMILIES if family.hwaccel == decoding.hwaccel)
        if decoders:
            options['c:v'] = video.codec + decoders
    if decoding.alpha and video.codec in _ALPHA_DECODERS:  # ffmpeg's own decoders leave out the transparency
        options['c:v'] = _ALPHA_DECODERS[video.codec]
    if programs.version >= _CROPS_SINCE and info.format_name.startswith(('mov', 'matroska')):
        options['apply_cropping'] = 'codec'  # the container's crop is done by a filter, as for older versions
    if decoding.origin is not None:
        # Frames keep the time stamps that `start` and `stop` count in. The seek may then land on any earlier key frame:
        # frames that come too early are trimmed by their time stamps.
        options |= {'copyts': None, 'noaccurate_seek': None, 'seek_timestamp': 1}
    if decoding.seek is not None:
        options['ss'] = format_seconds(decoding.seek)
    if decoding.duration is not None:
        options['t'] = format_seconds(decoding.duration)
    return options
