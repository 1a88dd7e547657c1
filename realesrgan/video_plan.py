"""What is decoded of a video, at which rate, and which part of the other tracks goes with it."""
from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from fractions import Fraction

from .errors import RealESRGANError
from .media.binaries import FFmpeg
from .media.colour import is_rgb, parse_pixel_format
from .media.encoder import EncoderOptions
from .media.frames import Decoding
from .media.mux import Cut
from .media.probe import MediaInfo, VideoStream, time_stamps
from .media.process import MediaError
from .media.timing import TimeStamps, clock, first_at_or_after, frame_rate

logger = logging.getLogger(__name__)


class VideoError(RealESRGANError):
    """A video that can't be upscaled as asked."""


@dataclass(frozen=True)
class VideoOptions:
    """What the user may say about a video.

    Attributes:
        outscale: Final size as a multiple of the input's.
        fps: Frames a second of the result, or None for the input's.
        start, end: Seconds from the start of the file, or None.
        deinterlace: 'auto', 'on' or 'off'.
        extract_first: Whether all frames are written to files before the first is upscaled.
        container: A key of `media.encoder.MUXERS`.
        encoder: Codec, quality, pixel format.
    """

    outscale: float = 4
    fps: Fraction | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    deinterlace: str = 'auto'
    extract_first: bool = False
    container: str = 'mp4'
    encoder: EncoderOptions = field(default_factory=EncoderOptions)


@dataclass(frozen=True)
class VideoPlan:
    """How a video is read.

    Attributes:
        info: The input.
        video: Its stream to upscale.
        decoding: Which frames.
        total: The number of frames that come out, as far as it is known in advance.
        is_total_exact: Whether fewer mean that something was lost.
        begin: Time of the first frame, in seconds after the start of the file.
        cut: The part of the tracks that goes with it, or None for all.
        video_start: When the video begins after the start of the file, or of `cut`.
    """

    info: MediaInfo
    video: VideoStream
    decoding: Decoding
    total: int | None
    is_total_exact: bool
    begin: Fraction
    cut: Cut | None
    video_start: Fraction


def plan_video(ffmpeg: FFmpeg, info: MediaInfo, options: VideoOptions) -> VideoPlan:
    """Look at a video's time stamps and decide how it is read.

    Raises:
        VideoError: there is no video, or none between --start and --end.
        MediaError: ffprobe failed.
    """
    video = info.video
    if video is None:
        raise VideoError(f'{info.source}: has no video')
    stamps = time_stamps(ffmpeg, info)
    own_rate, constant = frame_rate(stamps, video.real_rate, video.average_rate)
    rate = options.fps or own_rate
    if not constant:
        logger.info('variable frame rate: made constant at %s frames/s, with repeats and drops', rate)
    decoding = Decoding(rate, resample=not constant or rate != own_rate, deinterlace=_deinterlaces(video, options))
    plan = VideoPlan(info, video, replace(decoding, lead=video.start - info.start), _total(info, stamps, decoding),
                     is_total_exact=bool(stamps and stamps.complete and not decoding.resample),
                     begin=video.start - info.start, cut=None, video_start=video.start - info.start)
    if info.is_stream and info.duration is None:
        # Live: it starts anew at every opening, so that only what ffmpeg sees when it decodes counts.
        plan = replace(plan, decoding=replace(decoding, resample=True, from_zero=True), video_start=Fraction(0))
    if options.start is not None or options.end is not None:
        plan = _cut(plan, stamps, options)
    _say(plan)
    return plan


def _deinterlaces(video: VideoStream, options: VideoOptions) -> bool:
    does = options.deinterlace == 'on' or (options.deinterlace == 'auto' and video.is_interlaced)
    if video.is_interlaced:
        logger.info('interlaced: %s', 'made progressive by bwdif' if does else 'left so (--deinterlace off)')
    return does


def _total(info: MediaInfo, stamps: TimeStamps | None, decoding: Decoding) -> int | None:
    """Return the number of frames that will come out, by the time stamps or the length that the container gives."""
    assert info.video is not None
    if not decoding.resample and stamps is not None:
        return len(stamps.pts) if stamps.complete else info.video.promised_frames
    duration = info.video.duration or info.duration
    return round(duration * decoding.rate) if duration else None


def _cut(plan: VideoPlan, stamps: TimeStamps | None, options: VideoOptions) -> VideoPlan:
    """Restrict a plan to what lies between --start and --end."""
    start, end = options.start or Fraction(0), options.end
    if end is not None and end <= start:
        raise VideoError(f'--end {clock(end)} is not after --start {clock(start)}')
    if stamps is None or not stamps.complete:
        return _cut_by_time(plan, start, end)
    zero, rate, decoding = plan.info.start, plan.decoding.rate, plan.decoding
    first = first_at_or_after(stamps, start + zero)
    last = len(stamps.pts) if end is None else first_at_or_after(stamps, end + zero)
    if first >= last:
        shown = clock(stamps.time(len(stamps.pts) - 1) - zero)
        raise VideoError(f'no frame between --start and --end: the last one is shown at {shown}')
    begin = stamps.time(first) - zero
    if decoding.resample:
        length = end - begin if end is not None else (plan.info.duration or stamps.time(-1) - zero + 1 / rate) - begin
        frames = max(round(length * rate), 1)
    else:
        frames = last - first
    # The seek goes between two frames, so that no rounding of times decides which is the first.
    gap = (stamps.time(first) - stamps.time(first - 1)) / 2 if first else Fraction(0)
    decoding = replace(decoding, seek=begin - gap if first else None, lead=gap if first else decoding.lead,
                       frames=frames if end is not None or not decoding.resample else None)
    cut_start = begin if options.start is not None else Fraction(0)
    return replace(plan, decoding=decoding, total=frames, begin=begin, video_start=begin - cut_start,
                   cut=Cut(cut_start, Fraction(frames) / rate if end is not None else None))


def _cut_by_time(plan: VideoPlan, start: Fraction, end: Fraction | None) -> VideoPlan:
    """Cut where no time stamps are known in advance."""
    duration = None if end is None else end - start
    decoding = replace(plan.decoding, seek=start, lead=Fraction(0), duration=duration)
    total = None if duration is None else round(duration * decoding.rate)
    return replace(plan, decoding=decoding, total=total, is_total_exact=False, begin=start,
                   cut=None if plan.info.is_stream else Cut(start, duration), video_start=Fraction(0))


def _say(plan: VideoPlan) -> None:
    video = plan.video
    logger.info('%s: %s %s, %dx%d, %s frames/s, %s', plan.info.source, video.codec, video.pixel_format, video.width,
                video.height, plan.decoding.rate,
                'length unknown' if plan.total is None else f'{plan.total} frames')
    if 'yuva' in video.pixel_format or (is_rgb(video.pixel_format) and 'a' in video.pixel_format):
        logger.warning('the transparency of the video is left out')
    if parse_pixel_format(video.pixel_format).bits > 16:
        raise MediaError(f'pixels of {video.pixel_format} can\'t be read truly')
