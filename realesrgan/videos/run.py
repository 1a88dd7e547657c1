"""Upscale a video: cut it into chunks, let workers upscale them, join the parts, and put the tracks back."""
from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic_files import temporary_folder
from ..errors import MediaError, NoSpaceError
from ..ffmpeg.colour import Colour, PixelFormat, infer_colour, is_deep, is_rgb, parse_pixel_format
from ..ffmpeg.decoder import Damage, FrameReader, examine, extract_frames
from ..ffmpeg.encoder import Encoding, choose_codec, choose_output_pixel_format, choose_part_container
from ..ffmpeg.mux import build_recording_options, join, mux, write_list
from ..ffmpeg.probe import probe
from ..ffmpeg.programs import FFmpeg
from ..ffmpeg.timing import format_clock
from ..version import __version__
from ..workers.pool import Pool
from .checkpoint import LIST, TRACKS, Parts, identity, opened
from .chunks import Chunk, FileFrames, Progress, Upscaled, VideoFrames, cut, upscale_chunk
from .disk import DiskWatch, check_room, estimated_bytes, extracted_bytes, free_bytes, mebibytes
from .dry_run import Outline
from .frame_folders import FolderReader, FrameShape, list_frames, measure
from .plan import VideoOptions, VideoPlan

logger = logging.getLogger(__name__)

DEFAULT_FOLDER_RATE = Fraction(24)
_MOST_UNSEEKABLE = 20  # chunks of a video of which each is decoded from the start: ten times the work of decoding


@dataclass(frozen=True)
class Work:
    """How a video is worked on, and what for.

    Attributes:
        target: The result.
        make_pool: Makes the workers, whose `worker.initialize` has been called; gets what hears their reports.
        settings: All that the pixels depend on beside `VideoOptions`, by name.
        on_frames: Called with the number of frames upscaled so far, by earlier runs too.
        restart: Whether parts of a run with other settings are thrown away.
        keep_parts: Whether the parts stay when the result is there.
    """

    target: Path
    make_pool: Callable[[Callable[[Any], None]], Pool]
    settings: Mapping[str, Any]
    on_frames: Callable[[int], None]
    restart: bool = False
    keep_parts: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a video.

    Attributes:
        frames: The number written.
        reused: How many of them an earlier run had upscaled.
        problems: What the result lacks, a line each; none if it is whole.
    """

    frames: int
    reused: int = 0
    problems: tuple[str, ...] = ()


def upscale_video(ffmpeg: FFmpeg, plan: VideoPlan, options: VideoOptions, work: Work) -> Outcome:
    """Upscale a video with its tracks to `work.target`, which is written whole or not at all.

    A damaged input gives what could be decoded of it, and a problem in the outcome. When it can't go on, parts that
    are whole stay, and the same call goes on from them.

    Raises:
        VideoError, MediaError, WorkerError, PartsError, DiskFullError: see the message.
        OSError: the result can't be written.
    """
    encoding = video_encoding(ffmpeg, plan, options)
    manifest = _manifest(ffmpeg, {'source': plan.info.source} if plan.info.is_stream else identity(
        [Path(plan.info.source)]), options, work)
    with opened(work.target, encoding.container, manifest, restart=work.restart, keep=work.keep_parts) as parts:
        _say_room(parts.folder, encoding, plan.total, _extracted_bytes(plan, options))
        with ExitStack() as stack:
            chunks, damage = _video_chunks(ffmpeg, plan, options, encoding, parts, stack)
            done, reused = _upscale_all(chunks, parts, work)
        if not options.extract_first:
            damage = _damage(ffmpeg, plan, chunks, done)
        frames = sum(upscaled.frames for upscaled in done)
        if not frames:
            raise MediaError(f'no frame could be decoded: {damage.reason if damage else "no reason given"}')
        problems = _damage_line(plan, damage, frames)
        recorded = parts.folder / TRACKS
        problems += _join(ffmpeg, plan, parts, done, encoding.rate, options.container,
                          recorded if recorded.exists() else None, work.target)
    logger.debug('%d frames, %d of them computed', frames, sum(upscaled.computed for upscaled in done))
    return Outcome(frames, reused, tuple(problems))


def upscale_folder(ffmpeg: FFmpeg, files: Sequence[Path], options: VideoOptions, work: Work) -> Outcome:
    """Upscale pictures of one size to a video, which is written whole or not at all.

    Raises:
        FrameError: a picture of another size, or one that can't be read.
        VideoError, MediaError, OSError, ...: see `upscale_video`.
    """
    shape = measure(files)
    encoding = folder_encoding(ffmpeg, shape, options)
    with opened(work.target, encoding.container, _manifest(ffmpeg, identity(files), options, work),
                restart=work.restart, keep=work.keep_parts) as parts:
        _say_room(parts.folder, encoding, len(files))
        chunks = _file_chunks(ffmpeg, files, shape, options, encoding, parts)
        done, reused = _upscale_all(chunks, parts, work)
        frames = sum(upscaled.frames for upscaled in done)
        _join(ffmpeg, None, parts, done, encoding.rate, options.container, None, work.target)
    return Outcome(frames, reused)


def outline_video(ffmpeg: FFmpeg, plan: VideoPlan, options: VideoOptions) -> Outline:
    """Return what `upscale_video` would do, for a dry run."""
    encoding = video_encoding(ffmpeg, plan, options)

    def sample() -> Iterator[np.ndarray]:
        with FrameReader(ffmpeg, plan.info, plan.decoding) as reader:
            yield from reader
    return Outline(plan.total, (plan.video.width, plan.video.height), options.outscale, encoding,
                   len(_video_ranges(plan, options)), None if plan.info.is_stream else sample,
                   _extracted_bytes(plan, options))


def outline_folder(ffmpeg: FFmpeg, files: Sequence[Path], options: VideoOptions) -> Outline:
    """Return what `upscale_folder` would do, for a dry run."""
    shape = measure(files)
    encoding = folder_encoding(ffmpeg, shape, options)
    return Outline(len(files), (shape.width, shape.height), options.outscale, encoding,
                   len(_file_ranges(files, options, encoding.rate)), partial(iter, FolderReader(files, shape)))


# ---- chunks ----

def _video_ranges(plan: VideoPlan, options: VideoOptions) -> Sequence[tuple[int, int | None]]:
    """Cut a video; without time stamps into a few chunks, since each is decoded from the start of the file."""
    if not plan.is_divisible:
        return [(0, None)]
    length = math.ceil(options.chunk * plan.decoding.rate)
    if length and plan.stamps is None and plan.total is not None:
        length = max(length, math.ceil(plan.total / _MOST_UNSEEKABLE))
    return cut(plan.total, length, plan.last_start())


def _file_ranges(files: Sequence[Path], options: VideoOptions, rate: Fraction) -> Sequence[tuple[int, int | None]]:
    return cut(len(files), math.ceil(options.chunk * rate), len(files) - 1)


def _video_chunks(ffmpeg: FFmpeg, plan: VideoPlan, options: VideoOptions, encoding: Encoding, parts: Parts,
                  stack: ExitStack) -> tuple[list[Chunk], Damage | None]:
    """Return the chunks, and with `extract_first`, for which files stay until `stack` ends, the damage found."""
    if options.extract_first:
        folder = stack.enter_context(temporary_folder(parts.folder / 'frames'))
        logger.info('extracting frames')
        damage = extract_frames(ffmpeg, plan.info, plan.decoding, folder)
        files = list_frames(folder)
        return _file_chunks(ffmpeg, files, measure(files[:1]), options, encoding, parts), damage
    if not plan.is_divisible:
        logger.info('the length is unknown: one part, which can\'t be resumed')
        recording = build_recording_options(plan.info.tracks, parts.folder / TRACKS) if plan.info.is_stream else []
        frames = VideoFrames(ffmpeg, plan.info, plan.decoding, also=tuple(recording))
        return [Chunk(0, 0, frames, encoding, ffmpeg, options.outscale, parts.path(0))], None
    chunks = []
    for index, (first, stop) in enumerate(_video_ranges(plan, options)):
        decoding = plan.chunk(first, stop)
        frames = VideoFrames(
            ffmpeg, plan.info, decoding, expected=plan.expected(first, stop),
            unseeked=plan.chunk(first, stop, seek=False) if decoding.seek is not None and plan.stamps else None)
        chunks.append(Chunk(index, first, frames, encoding, ffmpeg, options.outscale, parts.path(index)))
    return chunks, None


def _file_chunks(ffmpeg: FFmpeg, files: Sequence[Path], shape: FrameShape, options: VideoOptions, encoding: Encoding,
                 parts: Parts) -> list[Chunk]:
    ranges = _file_ranges(files, options, encoding.rate)
    return [Chunk(index, first, FileFrames(tuple(files[first:stop]), shape), encoding, ffmpeg, options.outscale,
                  parts.path(index)) for index, (first, stop) in enumerate(ranges)]


def _upscale_all(chunks: Sequence[Chunk], parts: Parts, work: Work) -> tuple[list[Upscaled], int]:
    """Upscale the chunks that have no part yet; return what came of all, and the number of frames that were there."""
    done = {chunk.index: Upscaled.from_note(chunk.index, note) for chunk in chunks
            if (note := parts.note(chunk.index)) is not None}
    frames = {index: upscaled.frames for index, upscaled in done.items()}
    reused = sum(frames.values())
    if done:
        logger.info('%d of %d parts are there from an earlier run', len(done), len(chunks))
    todo = [chunk for chunk in chunks if chunk.index not in done]
    disk = DiskWatch(parts.folder)

    def hear(progress: Progress) -> None:
        frames[progress.index] = progress.frames
        work.on_frames(sum(frames.values()))
        disk.look()

    work.on_frames(reused)
    if todo:
        disk.look()
        with work.make_pool(hear) as pool:
            for upscaled in pool.imap_unordered(upscale_chunk, todo):
                done[upscaled.index] = upscaled
                hear(Progress(upscaled.index, upscaled.frames))
    return [done[chunk.index] for chunk in chunks], reused


def _manifest(ffmpeg: FFmpeg, source: Mapping[str, Any], options: VideoOptions, work: Work) -> dict[str, Any]:
    """Return all that the parts depend on."""
    asked = asdict(options)
    asked |= asked.pop('encoder')
    return {'version': __version__, 'ffmpeg': '.'.join(map(str, ffmpeg.version)), **source, **work.settings,
            **{name: f'{value:g}' if isinstance(value, float) else value if value is None else str(value)
               for name, value in asked.items()}}


def _extracted_bytes(plan: VideoPlan, options: VideoOptions) -> int:
    """Return what the frames take that are written to files before the first is upscaled."""
    if not options.extract_first:
        return 0
    video = plan.video
    return extracted_bytes(video.width, video.height, plan.total or 0, deep=is_deep(video.pixel_format))


def _say_room(folder: Path, encoding: Encoding, frames: int | None, for_files: int = 0) -> None:
    """Warn if the disk seems too small for the parts and the result made of them, and for extracted frames."""
    if frames is not None:
        needed, free = 2 * estimated_bytes(encoding, frames) + for_files, free_bytes(folder)
        if needed > free:
            logger.warning('about %s of disk will be needed, %s are free', mebibytes(needed), mebibytes(free))


# ---- the result ----

def video_encoding(ffmpeg: FFmpeg, plan: VideoPlan, options: VideoOptions) -> Encoding:
    """Return how the parts are encoded: rate, shape of pixels, colour, chroma and depth of the input.

    Raises:
        MediaError: the encoder is not there, or does not go with the container or the pixel format.
    """
    video = plan.video
    codec = choose_codec(options.encoder.codec, options.container)
    wanted = parse_pixel_format(video.pixel_format)
    pixel_format = choose_output_pixel_format(ffmpeg, codec, options.encoder.pixel_format, wanted)
    if options.encoder.pixel_format is None and parse_pixel_format(pixel_format) != wanted:
        logger.warning('%s does not take the %s of the input: encoded as %s', codec, wanted.name, pixel_format)
    colour: Colour = video.colour
    if is_rgb(video.pixel_format):
        colour = replace(colour, range='tv')  # as Y'CbCr, which every player expects in limited range
    return Encoding(
        width=_scaled(video.width, options.outscale), height=_scaled(video.height, options.outscale),
        dtype_is_deep=is_deep(video.pixel_format), rate=plan.decoding.rate, sample_aspect=video.sample_aspect,
        colour=colour, codec=codec, pixel_format=pixel_format,
        container=choose_part_container(codec, options.container), crf=options.encoder.crf,
        preset=options.encoder.preset)


def folder_encoding(ffmpeg: FFmpeg, shape: FrameShape, options: VideoOptions) -> Encoding:
    """Return how the parts are encoded of a folder's frames.

    Raises:
        MediaError: see `video_encoding`.
    """
    codec = choose_codec(options.encoder.codec, options.container)
    height = _scaled(shape.height, options.outscale)
    return Encoding(
        width=_scaled(shape.width, options.outscale), height=height, dtype_is_deep=shape.deep,
        rate=options.fps or DEFAULT_FOLDER_RATE, sample_aspect=Fraction(1), colour=infer_colour(height, {}),
        codec=codec, pixel_format=choose_output_pixel_format(ffmpeg, codec, options.encoder.pixel_format,
                                                             PixelFormat('420', 10 if shape.deep else 8)),
        container=choose_part_container(codec, options.container), crf=options.encoder.crf,
        preset=options.encoder.preset)


def _scaled(side: int, outscale: float) -> int:
    return max(int(side * outscale), 1)  # as RealESRGANer.enhance does


def _damage(ffmpeg: FFmpeg, plan: VideoPlan, chunks: Sequence[Chunk], done: Sequence[Upscaled]) -> Damage | None:
    """Return the first damage that the workers heard of, counted from the first frame of all.

    After a seek ffmpeg may complain of frames that are not there but not needed either, so what it says then counts
    only if it complains of the video as a whole too.
    """
    heard = [(chunk, upscaled.damage) for chunk, upscaled in zip(chunks, done, strict=True) if upscaled.damage]
    if not heard:
        return None
    if all(isinstance(chunk.frames, VideoFrames) and chunk.frames.unseeked for chunk, _ in heard):
        logger.info('looking for damage')
        if not examine(ffmpeg, plan.info, plan.chunk(0, None, seek=False))[1]:
            return None
    chunk, damage = heard[0]
    return replace(damage, frame=chunk.first + damage.frame)


def _damage_line(plan: VideoPlan, damage: Damage | None, frames: int) -> list[str]:
    """Say when the input broke, if it did."""
    if damage is not None:
        broken, end = (format_clock(plan.begin + count / plan.decoding.rate) for count in (damage.frame, frames))
        return [f'{plan.info.source}: damaged at about {broken}; {frames} frames could be decoded, up to {end}: '
                f'{damage.reason}']
    if plan.is_total_exact and plan.total is not None and frames < plan.total:
        logger.warning('%d frames, fewer than the %d packets of the input; ffmpeg reports no damage', frames,
                       plan.total)
    return []


def _join(ffmpeg: FFmpeg, plan: VideoPlan | None, parts: Parts, done: Sequence[Upscaled], rate: Fraction,
          container: str, recorded: Path | None, target: Path) -> list[str]:
    """Join the parts, with the tracks of the source, to the result; return what it lacks."""
    files = [(parts.path(upscaled.index), upscaled.frames) for upscaled in done if upscaled.frames]
    check_room(parts.folder, sum(path.stat().st_size for path, _ in files), f'{target.name}, to which the parts are '
               'joined')
    video = parts.folder / LIST
    write_list(video, files, rate)
    with temporary_folder(parts.folder / 'whole') as folder:
        whole = folder / f'whole.{container}'
        problems = _with_tracks(ffmpeg, plan, video, recorded, whole, container)
        whole.replace(target)
    return problems


def _with_tracks(ffmpeg: FFmpeg, plan: VideoPlan | None, video: Path, recorded: Path | None, whole: Path,
                 container: str) -> list[str]:
    """Write the video with the tracks of its source; if that fails, hours of work are not lost: the video alone."""
    if plan is None or (plan.info.is_stream and recorded is None):
        join(ffmpeg, video, whole, container)
        return []
    try:
        source, start = plan.info, plan.video_start
        if recorded is not None:
            source = probe(ffmpeg, str(recorded))
            start -= source.start  # the recording keeps the clock of the pass that made it
        mux(ffmpeg, video, source, whole, container, video_start=start, cut=plan.cut, tags_of=plan.video)
    except NoSpaceError:
        raise
    except MediaError as error:
        with contextlib.suppress(FileNotFoundError):
            whole.unlink()
        join(ffmpeg, video, whole, container)
        return [f'{plan.info.source}: its other tracks could not be carried, the video alone is kept: {error}']
    return []
