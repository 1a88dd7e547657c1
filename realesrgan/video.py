"""Upscale a video: decode a range of frames, upscale them, encode a part, and put the tracks back.

A chunk is what `upscale_frames` makes of one reader and one writer; a whole video is one chunk here.
"""
from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from .errors import RealESRGANError
from .files import temporary_folder
from .frame_folders import FolderReader, list_frames
from .media.binaries import FFmpeg
from .media.colour import Colour, PixelFormat, colour_of, is_rgb, parse_pixel_format
from .media.encoder import Encoding, FrameWriter, choose_codec, pixel_format_for
from .media.frames import Damage, FrameReader, extract_frames, is_deep
from .media.mux import mux, track_recording
from .media.probe import probe
from .media.process import MediaError
from .media.timing import clock
from .pipeline import run_overlapped
from .video_plan import VideoError, VideoOptions, VideoPlan

logger = logging.getLogger(__name__)

DEFAULT_FOLDER_RATE = Fraction(24)


class Reader(Protocol):
    """Frames of one size and dtype, HxWx3, BGR; `kill` makes an iteration in another thread end."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...
    def kill(self) -> None: ...


class Enhancer(Protocol):
    """Upscales frames: a `RealESRGANer` or a `FaceEnhancer`."""

    def enhance(self, img: np.ndarray, outscale: float | None = None,
                alpha_upsampler: str = 'realesrgan') -> tuple[np.ndarray, str]: ...


@dataclass(frozen=True)
class Outcome:
    """What came of a video.

    Attributes:
        frames: The number written.
        problems: What the result lacks, a line each; none if it is whole.
    """

    frames: int
    problems: tuple[str, ...] = ()


class Upscaling:
    """Upscales one frame after the other; one that is like the one before is not computed again.

    Args:
        upsampler: Does the work.
        outscale: Final size as a multiple of the input's.
        on_frame: Called after each frame.
    """

    def __init__(self, upsampler: Enhancer, outscale: float, on_frame: Callable[[], None]) -> None:
        self._upsampler = upsampler
        self._outscale = outscale
        self._on_frame = on_frame
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self.frames = 0
        self.computed = 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        if self._last is None or not np.array_equal(frame, self._last[0]):
            try:
                result, _ = self._upsampler.enhance(frame, outscale=self._outscale)
            except (RealESRGANError, MemoryError) as error:
                raise VideoError(f'frame {self.frames + 1}: {error}') from error
            self._last = frame, result
            self.computed += 1
        self.frames += 1
        self._on_frame()
        return self._last[1]


def upscale_frames(reader: Reader, writer: FrameWriter, upscaling: Upscaling) -> None:
    """Upscale all frames of a reader into a writer, with reading, computing and writing at the same time.

    Raises:
        VideoError: a frame failed.
        MediaError: decoding or encoding failed.
    """
    def abort() -> None:
        reader.kill()
        writer.kill()
    run_overlapped(reader, upscaling, writer.write, abort)
    writer.finish()


def upscale_video(ffmpeg: FFmpeg, plan: VideoPlan, target: Path, options: VideoOptions, upsampler: Enhancer,
                  on_frame: Callable[[], None]) -> Outcome:
    """Upscale a video with its tracks to `target`, which is written whole or not at all.

    A damaged input gives what could be decoded of it, and a problem in the outcome.

    Raises:
        VideoError, MediaError: nothing came of it.
        OSError: the result can't be written.
    """
    upscaling = Upscaling(upsampler, options.outscale, on_frame)
    encoding = video_encoding(ffmpeg, plan, options)
    with temporary_folder(target) as folder:
        part, tracks = folder / f'video.{options.container}', folder / 'tracks.mkv'
        recording = track_recording(plan.info.tracks, tracks) if plan.info.is_stream else []
        with ExitStack() as stack:
            if options.extract_first:
                reader, damage = _extracted(ffmpeg, plan, folder)
            else:
                reader = stack.enter_context(FrameReader(ffmpeg, plan.info, plan.decoding, recording))
            writer = stack.enter_context(FrameWriter(ffmpeg, part, encoding))
            upscale_frames(reader, writer, upscaling)
        if isinstance(reader, FrameReader):
            damage = reader.damage
        problems = _damage_line(plan, damage, upscaling.frames)
        whole = folder / f'whole.{options.container}'
        problems += _with_tracks(ffmpeg, plan, part, tracks if recording else None, whole, options.container)
        whole.replace(target)
    logger.debug('%d frames, %d of them computed', upscaling.frames, upscaling.computed)
    return Outcome(upscaling.frames, tuple(problems))


def upscale_folder(ffmpeg: FFmpeg, files: Sequence[Path], target: Path, options: VideoOptions,
                   upsampler: Enhancer, on_frame: Callable[[], None]) -> Outcome:
    """Upscale pictures of one size to a video, which is written whole or not at all.

    Raises:
        FrameError: a picture of another size, or one that can't be read.
        VideoError, MediaError, OSError: see `upscale_video`.
    """
    upscaling = Upscaling(upsampler, options.outscale, on_frame)
    reader = FolderReader(files)
    deep = reader.dtype == np.uint16
    height = _scaled(reader.height, options.outscale)
    codec = choose_codec(options.encoder.codec, options.container)
    encoding = Encoding(
        width=_scaled(reader.width, options.outscale), height=height, dtype_is_deep=deep,
        rate=options.fps or DEFAULT_FOLDER_RATE, sample_aspect=Fraction(1), colour=colour_of(height, {}), codec=codec,
        pixel_format=pixel_format_for(ffmpeg, codec, options.encoder.pixel_format,
                                      PixelFormat('420', 10 if deep else 8)),
        container=options.container, crf=options.encoder.crf, preset=options.encoder.preset)
    with temporary_folder(target) as folder:
        part = folder / f'video.{options.container}'
        with FrameWriter(ffmpeg, part, encoding) as writer:
            upscale_frames(reader, writer, upscaling)
        part.replace(target)
    return Outcome(upscaling.frames)


def video_encoding(ffmpeg: FFmpeg, plan: VideoPlan, options: VideoOptions) -> Encoding:
    """Return how the upscaled frames are encoded: rate, shape of pixels, colour, chroma and depth of the input.

    Raises:
        MediaError: the encoder is not there, or does not go with the container or the pixel format.
    """
    video = plan.video
    codec = choose_codec(options.encoder.codec, options.container)
    wanted = parse_pixel_format(video.pixel_format)
    pixel_format = pixel_format_for(ffmpeg, codec, options.encoder.pixel_format, wanted)
    if options.encoder.pixel_format is None and parse_pixel_format(pixel_format) != wanted:
        logger.warning('%s does not take the %s of the input: encoded as %s', codec, wanted.name, pixel_format)
    colour: Colour = video.colour
    if is_rgb(video.pixel_format):
        colour = replace(colour, range='tv')  # as Y'CbCr, which every player expects in limited range
    return Encoding(
        width=_scaled(video.width, options.outscale), height=_scaled(video.height, options.outscale),
        dtype_is_deep=is_deep(video.pixel_format), rate=plan.decoding.rate, sample_aspect=video.sample_aspect,
        colour=colour, codec=codec, pixel_format=pixel_format, container=options.container,
        crf=options.encoder.crf, preset=options.encoder.preset)


def _scaled(side: int, outscale: float) -> int:
    return max(int(side * outscale), 1)  # as RealESRGANer.enhance does


def _extracted(ffmpeg: FFmpeg, plan: VideoPlan, folder: Path) -> tuple[Reader, Damage | None]:
    """Decode all frames to files and return their reader."""
    frames = folder / 'frames'
    frames.mkdir()
    logger.info('extracting frames')
    damage = extract_frames(ffmpeg, plan.info, plan.decoding, frames)
    return FolderReader(list_frames(frames)), damage


def _damage_line(plan: VideoPlan, damage: Damage | None, frames: int) -> list[str]:
    """Say when the input broke, if it did."""
    if damage is not None:
        broken, end = (clock(plan.begin + count / plan.decoding.rate) for count in (damage.frame, frames))
        return [f'{plan.info.source}: damaged at about {broken}; {frames} frames could be decoded, up to {end}: '
                f'{damage.reason}']
    if plan.is_total_exact and plan.total is not None and frames < plan.total:
        logger.warning('%d frames, fewer than the %d packets of the input; ffmpeg reports no damage', frames,
                       plan.total)
    return []


def _with_tracks(ffmpeg: FFmpeg, plan: VideoPlan, part: Path, recorded: Path | None, whole: Path,
                 container: str) -> list[str]:
    """Write the video with the tracks of its source; if that fails, hours of work are not lost: the video alone."""
    try:
        source, start = plan.info, plan.video_start
        if source.is_stream:
            if recorded is None:
                part.replace(whole)
                return []
            source = probe(ffmpeg, str(recorded))
            start -= source.start  # the recording keeps the clock of the pass that made it
        mux(ffmpeg, part, source, whole, container, video_start=start, cut=plan.cut, tags_of=plan.video)
    except MediaError as error:
        if 'disk is full' in str(error):
            raise
        with contextlib.suppress(FileNotFoundError):
            whole.unlink()
        part.replace(whole)
        return [f'{plan.info.source}: its other tracks could not be carried, the video alone is kept: {error}']
    return []
