"""What is decoded of a video, at which rate, and which part of the other tracks goes with it."""
from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from fractions import Fraction

from ..errors import MediaError, VideoError
from ..ffmpeg.colour import is_rgb, parse_pixel_format
from ..ffmpeg.decoder import Decoding, Kept
from ..ffmpeg.encoder import EncoderOptions
from ..ffmpeg.mux import Cut
from ..ffmpeg.probe import MediaInfo, VideoStream, read_time_stamps
from ..ffmpeg.programs import FFmpeg
from ..ffmpeg.timing import TimeStamps, choose_frame_rate, format_clock

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoOptions:
    """What the user may say about a video.

    Attributes:
        outscale: Final size as a multiple of the input's.
        fps: Frames a second of the result, or None for the input's.
        start, end: Seconds from the start of the file, or None.
        deinterlace: 'auto', 'on' or 'off'.
        extract_first: Whether all frames are written to files before the first is upscaled; not for a stream.
        chunk: Seconds of the result in a chunk, 0 for one chunk.
        container: A key of `ffmpeg.containers.CONTAINERS`.
        encoder: Codec, quality, pixel format.
    """

    outscale: float = 4
    fps: Fraction | None = None
    start: Fraction | None = None
    end: Fraction | None = None
    deinterlace: str = 'auto'
    extract_first: bool = False
    chunk: Fraction = Fraction(10)
    container: str = 'mp4'
    encoder: EncoderOptions = field(default_factory=EncoderOptions)


@dataclass(frozen=True)
class VideoPlan:
    """How a video is read.

    Attributes:
        info: The input, with a video stream.
        decoding: All frames that are wanted.
        total: The number of frames that come out, as far as it is known in advance.
        is_total_exact: Whether fewer mean that something was lost.
        begin: Time of the first frame, in seconds after the start of the file.
        cut: The part of the tracks that goes with it, or None for all.
        video_start: When the video begins after the start of the file, or of `cut`.
        stamps: The time stamps of the frames that are wanted; None where they can't be relied on.
    """

    info: MediaInfo
    decoding: Decoding
    total: int | None
    is_total_exact: bool
    begin: Fraction
    cut: Cut | None
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
        """Return the largest number at which a chunk may begin and still hold a frame."""
        assert self.total is not None
        if self.stamps is None or not self.decoding.resample:
            return self.total - 1
        shown = (self.stamps.pts[-1] - self.stamps.pts[0]) * self.stamps.time_base
        return min(int(shown * self.decoding.rate), self.total - 1)

    def expected(self, first: int, stop: int | None) -> int | None:
        """Return how many frames come of the chunk from `first` up to `stop`, None where that is not known exactly."""
        if stop is None:
            return self.total - first if self.total is not None and self.is_total_exact else None
        return stop - first

    def chunk(self, first: int, stop: int | None, *, seek: bool = True) -> Decoding:
        """Return how the frames from number `first` up to `stop`, or to the end, are decoded on their own.

        Args:
            first, stop: Numbers among all frames that come out.
            seek: Whether to begin at a key frame; else all frames before are decoded and dropped, which takes longer.
        """
        whole = self.decoding.kept
        if self.stamps is None:
            return replace(self.decoding, kept=Kept(first, whole.stop if stop is None else stop))
        if self.decoding.resample:
            kept = Kept(first, whole.stop if stop is None else stop, 'pts')
            start = first / self.decoding.rate
        else:
            zero = self.stamps.get_time(0)
            kept = Kept(self.stamps.get_time_before(first) - zero if first else whole.start,
                        whole.stop if stop is None else self.stamps.get_time_before(stop) - zero, 'time')
            start = self.stamps.get_time(first) - zero
        return replace(self.decoding, kept=kept, seek=self._seek(start) if seek else None)

    def _seek(self, start: Fraction) -> Fraction | None:
        """Return the time of the key frame before the last one before a frame, on the clock of the file.

        From the last one itself on not all can be decoded where containers seek too far, or where the picture is
        refreshed little by little.
        """
        assert self.stamps is not None
        time_base = self.stamps.time_base
        shown = bisect_right(self.stamps.pts, self.stamps.pts[0] + start / time_base) - 1
        before = bisect_right(self.stamps.keys, self.stamps.pts[shown])
        return self.stamps.keys[before - 2] * time_base if before >= 3 else None


def plan_video(ffmpeg: FFmpeg, info: MediaInfo, options: VideoOptions) -> VideoPlan:
    """Look at a video's time stamps and decide how it is read.

    Raises:
        VideoError: there is no video, or none between --start and --end.
        MediaError: ffprobe failed.
    """
    video = info.video
    if video is None:
        raise VideoError(f'{info.source}: has no video')
    stamps = read_time_stamps(ffmpeg, info)
    own_rate, constant = choose_frame_rate(stamps, video.real_rate, video.average_rate)
    rate = options.fps or own_rate
    if not constant:
        logger.info('variable frame rate: made constant at %s frames/s, with repeats and drops', rate)
    decoding = Decoding(rate, resample=not constant or rate != own_rate, deinterlace=_deinterlaces(video, options))
    reliable = stamps if stamps and stamps.complete and stamps.in_order else None
    if reliable:
        decoding = replace(decoding, origin=reliable.pts[0])
    plan = VideoPlan(info, decoding, _total(info, stamps, decoding),
                     is_total_exact=bool(stamps and stamps.complete and not decoding.resample),
                     begin=video.start - info.start, cut=None, video_start=video.start - info.start, stamps=reliable)
    if info.is_stream and info.duration is None:
        # Live: it starts anew at every opening, so that only what ffmpeg sees when it decodes counts.
        plan = replace(plan, decoding=replace(decoding, resample=True, from_zero=True), video_start=Fraction(0))
    if options.start is not None or options.end is not None:
        plan = _cut(plan, options)
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
        return len(stamps.pts) if stamps.complete else info.video.promised_frames or stamps.packets
    duration = info.video.duration or info.duration
    return max(round(duration * decoding.rate), 1) if duration else None


def _cut(plan: VideoPlan, options: VideoOptions) -> VideoPlan:
    """Restrict a plan to what lies between --start and --end."""
    start, end = options.start or Fraction(0), options.end
    if end is not None and end <= start:
        raise VideoError(f'--end {format_clock(end)} is not after --start {format_clock(start)}')
    stamps = plan.stamps
    if stamps is None:
        return _cut_by_time(plan, start, end)
    zero, rate, decoding = plan.info.start, plan.decoding.rate, plan.decoding
    first = stamps.find_first_from(start + zero)
    last = len(stamps.pts) if end is None else stamps.find_first_from(end + zero)
    if first >= last:
        shown = format_clock(stamps.get_time(len(stamps.pts) - 1) - zero)
        raise VideoError(f'no frame between --start and --end: the last one is shown at {shown}')
    begin = stamps.get_time(first) - zero
    if decoding.resample:
        stop = end if end is not None else plan.info.duration or stamps.get_time(-1) - zero + 1 / rate
        length = stop - begin
        frames = max(round(length * rate), 1)
        kept = Kept(0, frames if end is not None else None, 'pts')
    else:
        frames = last - first
        lower, upper = (stamps.get_time_before(index) - stamps.get_time(first) if 0 < index < len(stamps.pts) else None
                        for index in (first, last))
        kept = Kept(lower, upper, 'time')
    cut_start = begin if options.start is not None else Fraction(0)
    plan = replace(plan, decoding=replace(decoding, origin=stamps.pts[first], kept=kept), total=frames, begin=begin,
                   video_start=begin - cut_start, stamps=replace(stamps, pts=stamps.pts[first:last]),
                   cut=Cut(cut_start, Fraction(frames) / rate if end is not None else None))
    return replace(plan, decoding=plan.chunk(0, None))


def _cut_by_time(plan: VideoPlan, start: Fraction, end: Fraction | None) -> VideoPlan:
    """Cut where no time stamps are known in advance."""
    duration = None if end is None else end - start
    decoding = replace(plan.decoding, seek=start, duration=duration)
    whole = plan.video.duration or plan.info.duration
    shown = duration if duration is not None else whole - start if whole is not None else None
    total = max(round(shown * decoding.rate), 1) if shown is not None and shown > 0 else None
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
