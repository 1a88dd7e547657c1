"""Decide how a video is read, and how the result is encoded.

That is which frames are decoded, at which rate, which part of the other tracks goes with them; and codec, pixel format,
size and colour.
"""
from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from ..errors import ImageError, MediaError, VideoError
from ..ffmpeg.colour import (
    HDR_ENCODERS,
    PixelFormat,
    choose_alpha_format,
    find_size_multiples,
    has_alpha,
    infer_colour,
    is_deep,
    is_rgb,
    parse_pixel_format,
)
from ..ffmpeg.containers import CONTAINERS
from ..ffmpeg.decoder import Decoding
from ..ffmpeg.encoder import Encoding, choose_codec, choose_output_pixel_format, choose_part_container, list_formats
from ..ffmpeg.families import find_family
from ..ffmpeg.mux import Cut
from ..ffmpeg.probe import MediaInfo, VideoStream, read_hdr, read_time_stamps
from ..ffmpeg.programs import Check, FFmpeg
from ..ffmpeg.timing import Timeline, TimeStamps, choose_timeline, format_clock
from ..options import VideoOptions
from ..pictures.formats import require_few_pixels
from ..upscaling.size import Size, scale_size
from .frames import FrameShape

logger = logging.getLogger(__name__)

_DEFAULT_RATE = Fraction(24)  # of a folder of frames
_LONG_HOLD = 600  # seconds; slides are rarely shown longer
_DOLBY_VISION_ALONE = ('5.0', '10.0', '20.0')  # without a base layer that other decoders understand
_MOST_CHUNKS = 100_000  # eleven days in chunks of ten seconds
_MOST_UNSEEKABLE = 20  # chunks of a video of which each is decoded from the start: ten times the work of decoding

Ranges = Sequence[tuple[int, int | None]]


@dataclass(frozen=True)
class VideoPlan:
    """How a video is read.

    Frames are numbered as they come out: those between --start and --end, after resampling.

    Attributes:
        info: The input, with a video stream.
        decoding: All frames that are wanted.
        total: The number of frames that come out, as far as it is known in advance.
        is_total_exact: Whether fewer mean that something was lost.
        begin: Time of the first frame, in seconds after the start of the file.
        cut: The part of the tracks that goes with it.
        video_start: When the video begins, in seconds after the start of `cut`.
        stamps: The time stamps of the frames that are wanted; None where they can't be relied on.
    """

    info: MediaInfo
    decoding: Decoding
    total: int | None
    is_total_exact: bool
    begin: Fraction
    cut: Cut
    video_start: Fraction
    stamps: TimeStamps | None = None

    @property
    def video(self) -> VideoStream:
        """The stream to upscale."""
        assert self.info.video is not None
        return self.info.video

    @property
    def is_divisible(self) -> bool:
        """Whether it can be decoded in chunks: a file of known length."""
        return self.total is not None and not self.info.is_stream

    def last_start(self) -> int:
        """Return the largest number at which a chunk may begin and still hold a frame.

        A resampled video ends with repeats of its last frame. No chunk may begin there: it would decode nothing.
        """
        assert self.total is not None
        if self.stamps is None or not self.decoding.resample:
            return self.total - 1
        shown = (self.stamps.pts[-1] - self.stamps.pts[0]) * self.stamps.time_base
        return min(int(shown * self.decoding.rate), self.total - 1)

    def list_chunks(self, length: int) -> Ranges:
        """Return the chunks of about `length` frames (0: one chunk) as ranges, the last one open."""
        if self.total is None or not self.is_divisible:
            return [(0, None)]
        if length:  # the total may be what a damaged file claims
            most = _MOST_CHUNKS if self.stamps is not None else _MOST_UNSEEKABLE
            length = max(length, math.ceil(self.total / most))
        return cut_into_chunks(length, self.last_start())

    def decode_chunk(self, first: int, stop: int | None, *, seek: bool = True) -> Decoding:
        """Return how the frames from number `first` up to `stop`, or to the end, are decoded on their own.

        Args:
            first, stop: Numbers of frames.
            seek: Whether to begin at a key frame; else all frames before are decoded and dropped, which takes longer.
        """
        stamps, decoding = self.stamps, self.decoding
        last = decoding.stop if stop is None else stop
        if stamps is None:  # they can't be relied on (AVI, MPEG-PS): frames are counted as they leave the decoder
            return replace(decoding, start=first or None, stop=last, unit='frame')
        if decoding.resample:  # a tick of the new rate is the same frame wherever decoding began
            kept, time = replace(decoding, start=first, stop=last, unit='pts'), first / decoding.rate
        else:  # cut half-way between two frames, so that no rounding in ffmpeg moves a frame to the other side
            zero = stamps.get_time(0)
            kept = replace(decoding, start=stamps.get_time_before(first) - zero if first else decoding.start,
                           stop=decoding.stop if stop is None else stamps.get_time_before(stop) - zero, unit='time')
            time = stamps.get_time(first) - zero
        return replace(kept, seek=find_key_frame(stamps, time) if seek else None)


def find_key_frame(stamps: TimeStamps, start: Fraction) -> Fraction | None:
    """Return the time, on the clock of the file, at which decoding begins for a frame `start` seconds into the video.

    That is the second-to-last key frame at or before it, not the last one: some containers seek past the time asked
    for, and where the picture is refreshed little by little (intra refresh) or frames refer across a key frame
    (open GOPs), not everything after the last key frame can be decoded from it. None: from the start of the file.
    """
    shown = bisect_right(stamps.pts, stamps.pts[0] + start / stamps.time_base) - 1
    keys_before = bisect_right(stamps.keys, stamps.pts[shown])
    return stamps.keys[keys_before - 2] * stamps.time_base if keys_before >= 3 else None


def cut_into_chunks(length: int, last_start: int) -> Ranges:
    """Cut frames into chunks of `length` (0: one chunk), each from a number up to another, the last to the end (None).

    Args:
        length: Of a chunk, in frames.
        last_start: No chunk begins after it.
    """
    starts = list(range(0, max(last_start, 0) + 1, length)) if length else [0]
    return list(zip(starts, [*starts[1:], None], strict=True))


# ---- planning ----

def plan_video(ffmpeg: FFmpeg, info: MediaInfo, options: VideoOptions, check: Check | None = None) -> VideoPlan:
    """Look at a video's time stamps and decide how it is read.

    Raises:
        VideoError: there is no video, or none between --start and --end.
        MediaError: ffprobe failed, or the pixel format can't be read.
    """
    video = info.video
    if video is None:
        raise VideoError(f'{info.source}: has no video')
    try:
        require_few_pixels(video.height, video.width, options.max_pixels)
    except ImageError as error:
        raise VideoError(f'{info.source}: {error}') from None
    if video.dolby_vision:
        _check_dolby_vision(info.source, video.dolby_vision)
    stamps = read_time_stamps(ffmpeg, info, check)
    timeline = choose_timeline(stamps, video.real_rate, video.average_rate, video.duration or info.duration)
    reliable = stamps if stamps and stamps.complete and stamps.in_order and not timeline.crowded else None
    _describe_timeline(timeline, stamps, options.fps)
    rate = options.fps or timeline.rate
    resample = not timeline.constant or rate != timeline.rate
    decoding = Decoding(rate, resample, push=resample and options.fps is None and bool(stamps and stamps.is_timed),
                        deinterlace=_needs_bwdif(video, options))
    total = _count_frames(info, stamps, decoding, drop=options.fps is not None)
    if reliable:
        decoding = replace(decoding, origin=reliable.pts[0])
    if decoding.resample and stamps and stamps.is_timed and not stamps.derived:
        decoding = replace(decoding, pad=True, stop=total, unit='pts' if reliable else 'frame')
    plan = VideoPlan(info, decoding, total,
                     is_total_exact=bool(stamps and stamps.complete and not decoding.resample),
                     begin=video.start - info.start, cut=Cut(), video_start=video.start - info.start, stamps=reliable)
    if info.is_stream and info.duration is None:
        # A live stream starts anew each time it is opened, so only what ffmpeg sees while it decodes counts.
        plan = replace(plan, decoding=replace(decoding, resample=True, from_zero=True), video_start=Fraction(0))
    if options.start is not None or options.end is not None:
        plan = _cut(plan, options)
    _describe(plan)
    return plan


def _check_dolby_vision(source: str, profile: str) -> None:
    """Log that only the base layer is read; `profile` is that of `VideoStream.dolby_vision`.

    Raises:
        VideoError: it has colours that only a decoder of Dolby Vision knows.
    """
    if profile in _DOLBY_VISION_ALONE:
        raise VideoError(f'{source}: is Dolby Vision of profile {profile}, whose colours only its own decoders read; '
                         'convert it to HDR10 or SDR first, for example with the filter libplacebo of a newer ffmpeg')
    logger.info('Dolby Vision of profile %s: its base layer is upscaled, its own metadata are left out', profile)


def _describe_timeline(timeline: Timeline, stamps: TimeStamps | None, fps: Fraction | None) -> None:
    """Log how a variable rate becomes constant, or that the rate is only what the file claims."""
    if stamps and stamps.in_order and not stamps.is_timed:
        logger.warning('the time stamps are incomplete: %s frames/s is what the file claims, or ffmpeg\'s guess',
                       timeline.rate)
    if timeline.constant:
        return
    if stamps and stamps.derived:
        logger.warning('the time stamps are incomplete: the times of the frames are derived from decoding times')
    if stamps and stamps.is_timed:
        hold, index = max(((after - before, index) for index, (before, after) in enumerate(pairwise(stamps.pts))),
                          default=(0, 0))
        if hold * stamps.time_base > _LONG_HOLD:
            logger.warning('the frame at %s is shown for %s; if the recording was interrupted there, cut it in two '
                           'with --start and --end', format_clock(stamps.get_time(index) - stamps.get_time(0)),
                           format_clock(hold * stamps.time_base))
    how = 'frames are repeated and dropped' if fps else (
        'simultaneous frames are moved apart, others are repeated, none is dropped' if timeline.crowded else
        'frames are repeated, none is dropped' if stamps and stamps.is_timed else 'frames may be repeated and dropped')
    logger.info('variable frame rate: made constant at %s frames/s; %s', fps or timeline.rate, how)


def _needs_bwdif(video: VideoStream, options: VideoOptions) -> bool:
    """Decide whether the video is deinterlaced, and log it."""
    wanted = options.deinterlace == 'on' or (options.deinterlace == 'auto' and video.is_interlaced)
    if video.is_interlaced:
        logger.info('interlaced: %s', 'made progressive by bwdif' if wanted else 'left so (--deinterlace off)')
    return wanted


def _count_frames(info: MediaInfo, stamps: TimeStamps | None, decoding: Decoding, *, drop: bool) -> int | None:
    """Return the number of frames that will come out, by the time stamps or by the length in the container."""
    assert info.video is not None
    if not decoding.resample and stamps is not None:
        return len(stamps.pts) if stamps.complete else info.video.promised_frames or stamps.packets
    if stamps is not None and stamps.is_timed:
        return stamps.count_ticks(decoding.rate, drop=drop)
    duration = info.video.duration or info.duration
    return max(round(duration * decoding.rate), 1) if duration else None


def _cut(plan: VideoPlan, options: VideoOptions) -> VideoPlan:
    """Restrict a plan to what lies between --start and --end.

    Raises:
        VideoError: nothing does.
    """
    start, end = options.start or Fraction(0), options.end
    if end is not None and end <= start:
        raise VideoError(f'--end {format_clock(end)} is not after --start {format_clock(start)}')
    stamps, zero, decoding = plan.stamps, plan.info.start, plan.decoding
    if stamps is None:
        return _cut_without_stamps(plan, start, end)
    first = stamps.find_first_from(start + zero)
    last = len(stamps.pts) if end is None else stamps.find_first_from(end + zero)
    if first >= last:
        shown = format_clock(stamps.get_time(max(last - 1, 0)) - zero)
        raise VideoError(f'no frame begins between --start and --end; one that is shown from {shown} on comes nearest')
    shown_until = stamps.pts[last] if last < len(stamps.pts) else stamps.end
    if end is not None and shown_until is not None:
        shown_until = min(shown_until, round((end + zero) / stamps.time_base))
    part = replace(stamps, pts=stamps.pts[first:last], end=shown_until)
    if decoding.resample and options.fps is None:  # the ticks begin at another frame now
        timeline = choose_timeline(part, plan.video.real_rate, plan.video.average_rate)
        if not timeline.crowded:
            decoding = replace(decoding, rate=timeline.rate, resample=not timeline.constant, pad=not timeline.constant)
    if decoding.resample:
        frames = part.count_ticks(decoding.rate, drop=options.fps is not None)
        decoding = replace(decoding, start=0, stop=frames, unit='pts')
    else:
        frames = last - first
        lower, upper = (stamps.get_time_before(index) - stamps.get_time(first) if 0 < index < len(stamps.pts) else None
                        for index in (first, last))
        decoding = replace(decoding, start=lower, stop=upper, unit='time')
    begin = stamps.get_time(first) - zero
    cut_start = begin if options.start is not None else Fraction(0)
    plan = replace(
        plan, decoding=replace(decoding, origin=stamps.pts[first]), total=frames, begin=begin,
        video_start=begin - cut_start, stamps=part,
        cut=Cut(cut_start, frames / decoding.rate if end is not None else None))
    return replace(plan, decoding=plan.decode_chunk(0, None))


def _cut_without_stamps(plan: VideoPlan, start: Fraction, end: Fraction | None) -> VideoPlan:
    """Let ffmpeg seek by itself, where no time stamps are known in advance."""
    duration = None if end is None else end - start
    whole = plan.video.duration or plan.info.duration
    shown = duration if duration is not None else whole - start if whole is not None else None
    resample, rate = plan.decoding.resample, plan.decoding.rate
    total = max(round(shown * rate), 1) if shown is not None and shown > 0 else None
    # The tracks begin at `start` too, so the first frame must not come before its time.
    decoding = replace(plan.decoding, seek=start, duration=duration, from_zero=resample, pad=False,
                       start=None, stop=total if resample and end is not None else None, unit='frame')
    return replace(plan, decoding=decoding, total=total, is_total_exact=False, begin=start,
                   cut=Cut() if plan.info.is_stream else Cut(start, duration), video_start=Fraction(0))


def _describe(plan: VideoPlan) -> None:
    """Log how a video is read.

    Raises:
        MediaError: the pixels have more than 16 bits.
    """
    video = plan.video
    logger.info('%s %s, %dx%d, %s frames/s, %s', video.codec, video.pixel_format, video.width, video.height,
                plan.decoding.rate, 'length unknown' if plan.total is None else f'{plan.total} frames')
    if parse_pixel_format(video.pixel_format).bits > 16:
        raise MediaError(f'pixels of {video.pixel_format} can\'t be read exactly')


# ---- how the result is encoded ----

def encode_like_video(ffmpeg: FFmpeg, plan: VideoPlan, options: VideoOptions, check: Check | None = None) -> Encoding:
    """Return how the parts of a video are encoded: rate, shape of pixels, colour, chroma and depth of the input.

    Args:
        ffmpeg: The programs.
        plan: How the video is read.
        options: The caller's.
        check: Called several times a second while ffprobe works; what it raises ends ffprobe.

    Raises:
        MediaError: the encoder is not there, or does not go with the container or the pixel format.
    """
    video = plan.video
    codec, pixel_format, alpha = _choose_encoder(ffmpeg, options, video.pixel_format, alpha=video.alpha)
    colour = video.colour
    if is_rgb(video.pixel_format):
        colour = replace(colour, range='tv')  # it becomes Y'CbCr, which players expect in limited range
    hdr = read_hdr(ffmpeg, plan.info, check)
    if hdr is not None and codec not in HDR_ENCODERS:
        logger.warning('%s does not take HDR metadata (mastering display, light level); %s do', codec,
                       ', '.join(HDR_ENCODERS))
    size = _find_size(video.width, video.height, pixel_format, options)
    return Encoding(
        *size, dtype_is_deep=is_deep(video.pixel_format),
        rate=plan.decoding.rate, sample_aspect=video.sample_aspect, colour=colour, codec=codec,
        pixel_format=pixel_format, container=choose_part_container(codec, options.container, alpha=alpha), alpha=alpha,
        crf=options.crf, preset=options.preset, hdr=hdr)


def _choose_encoder(ffmpeg: FFmpeg, options: VideoOptions, source: str | PixelFormat, *,
                    alpha: bool) -> tuple[str, str, bool]:
    """Return the encoder, its pixel format, and whether that holds the transparency of the input, if it has some.

    Args:
        ffmpeg: The programs.
        options: The caller's.
        source: ffmpeg's name of the input's pixel format, or what pictures are encoded as.
        alpha: Whether the input has transparency.
    """
    row = CONTAINERS[options.container]
    if row.is_animation:
        codec = choose_codec(options.vcodec, options.container)
        for option in ('pix_fmt', 'crf', 'preset'):
            if getattr(options, option) is not None:
                logger.warning('--%s has no effect on %s', option, options.container)
        return codec, 'bgra' if alpha else 'bgr0', alpha
    if alpha and row.holds_alpha:
        codec = choose_codec(options.vcodec, options.container, alpha=True)
        asked, name = options.pix_fmt, source.name if isinstance(source, PixelFormat) else source
        held = choose_alpha_format(name, list_formats(ffmpeg, codec)) if asked is None else (
            asked if has_alpha(asked) and find_family(codec) is None else None)
        if held is not None:
            return codec, choose_output_pixel_format(ffmpeg, codec, held, parse_pixel_format(name)), True
    codec = choose_codec(options.vcodec, options.container)
    if alpha:
        reason = f'{codec} does not encode it' if row.holds_alpha else f'{options.container} does not hold it'
        ways = [key for key, other in CONTAINERS.items()
                if other.holds_alpha and (other.alpha_encoder or other.is_animation or key == 'webm')]
        logger.warning('the transparency is left out: %s; --ext %s keep it', reason, ', '.join(ways))
    if isinstance(source, PixelFormat):
        return codec, choose_output_pixel_format(ffmpeg, codec, options.pix_fmt, source), False
    return codec, _choose_pixel_format(ffmpeg, codec, source, options), False


def _choose_pixel_format(ffmpeg: FFmpeg, codec: str, source: str, options: VideoOptions) -> str:
    """Return the pixel format of the result, and log where it is not that of the source."""
    given, chroma = parse_pixel_format(source), CONTAINERS[options.container].chroma
    nearest = choose_output_pixel_format(ffmpeg, codec, options.pix_fmt, given)
    if options.pix_fmt is not None:
        return nearest
    chosen = nearest
    if chroma and parse_pixel_format(nearest).chroma != chroma:
        plain = choose_output_pixel_format(ffmpeg, codec, None, replace(given, chroma=chroma))
        chosen = plain if parse_pixel_format(plain).chroma == chroma else nearest
    if parse_pixel_format(nearest) != given:
        logger.warning('%s does not take the %s of the input: encoded as %s', codec, given.name, chosen)
    elif chosen != nearest and given.chroma != 'gray':
        logger.info('the input is %s: encoded as %s, because players expect that of %s; --pix_fmt %s keeps all of its '
                    'chroma', 'RGB' if is_rgb(source) else ':'.join(given.chroma), chosen, options.container, nearest)
    return chosen


def encode_frames(ffmpeg: FFmpeg, shape: FrameShape, options: VideoOptions, rate: Fraction | None = None) -> Encoding:
    """Return how the parts of a folder of frames are encoded, or those of an animated picture, at its rate.

    Raises:
        MediaError: see `encode_like_video`.
    """
    codec, pixel_format, alpha = _choose_encoder(ffmpeg, options, PixelFormat('420', 10 if shape.deep else 8),
                                                 alpha=shape.alpha)
    size = _find_size(shape.width, shape.height, pixel_format, options)
    return Encoding(
        *size, dtype_is_deep=shape.deep, rate=rate or options.fps or _DEFAULT_RATE, sample_aspect=Fraction(1),
        colour=infer_colour(size.height, {}), codec=codec, pixel_format=pixel_format,
        container=choose_part_container(codec, options.container, alpha=alpha), alpha=alpha, crf=options.crf,
        preset=options.preset)


def _find_size(width: int, height: int, pixel_format: str, options: VideoOptions) -> Size:
    """Return the size of upscaled frames; one that --width, --height or --fit asks for is one that the format holds.

    Raises:
        MediaError: the container has no room for it.
    """
    size = options.find_size(width, height, find_size_multiples(pixel_format))
    for name, side in size._asdict().items() if size else ():
        if getattr(options, name) not in (None, side):
            logger.warning('--%s %d: %s holds even sides only, so it becomes %d', name, getattr(options, name),
                           pixel_format, side)
    if size is None:
        assert options.outscale is not None, 'upscale_videos has put the model\'s in its place'
        size = scale_size(width, height, options.outscale)
    longest = CONTAINERS[options.container].longest_side
    if longest is not None and max(size) > longest:
        raise MediaError(f'its result would be {size}, but {options.container} is limited to {longest} pixels a side; '
                         'choose another --ext, or a smaller size')
    return size
