"""The two kinds of sources that are upscaled to a video: a file (or stream) and a folder of frames."""
from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MediaError
from ..ffmpeg.colour import is_deep
from ..ffmpeg.decoder import FORGETS, Damage, FrameReader, count_frames, extract_frames, is_of_a_cut
from ..ffmpeg.encoder import Encoding
from ..ffmpeg.mux import build_recording_options
from ..ffmpeg.probe import MediaInfo
from ..ffmpeg.programs import Check, FFmpeg
from ..ffmpeg.timing import format_clock
from ..files import temporary_folder
from ..options import VideoOptions
from .chunks import Chunk, Upscaled, cut_into_chunks
from .disk import DiskWatch, estimate_extracted_size
from .encoding import encode_frames, encode_like_video
from .frames import FrameFiles, Frames, FrameShape, VideoFrames, measure_frames
from .parts import TRACKS, Parts, identify_files
from .plan import VideoPlan, plan_video

logger = logging.getLogger(__name__)

#: The length of a chunk if the caller does not say it.
CHUNK_SECONDS = 10
_MOST_CHUNKS = 100_000  # eleven days in chunks of ten seconds
_MOST_UNSEEKABLE = 20  # chunks of a video of which each is decoded from the start: ten times the work of decoding

Ranges = Sequence[tuple[int, int | None]]


class FrameSource:
    """Picture files of one size.

    Args:
        ffmpeg: The programs.
        name: The folder.
        files: Its pictures, in order.
        options: The caller's.

    Attributes:
        encoding: How its parts are encoded.
        plan: How a video is read; None here.
        total: Its number of frames, or None if that is unknown.
        size: Width and height of its frames.
        step: Frames in a second if chunks may be cut further into parts, else 0.
        extracted_bytes: Room on the disk for its frames, if they are written to files first.

    Raises:
        FrameError: one is of another size, or the first can't be read.
        MediaError: the encoder is not there, or does not go with the container or the pixel format.
    """

    plan: VideoPlan | None = None
    extracted_bytes = 0

    def __init__(self, ffmpeg: FFmpeg, name: str, files: Sequence[Path], options: VideoOptions) -> None:
        for option in ('start', 'end'):
            if getattr(options, option) is not None:
                logger.warning('--%s has no effect on a folder of frames', option)
        self.ffmpeg, self.name = ffmpeg, name
        self._files, self._options = files, options
        self._shape = measure_frames(files, options.max_pixels)
        self.encoding: Encoding = encode_frames(ffmpeg, self._shape, options)
        self.total: int | None = len(files)
        self.size = self._shape.width, self._shape.height
        self.step = math.ceil(self.encoding.rate) if options.chunk is None else 0

    def identify(self) -> Mapping[str, Any]:
        """Return sizes and hashes that tell this source from another one of the same name."""
        return identify_files(self._files)

    def cut(self) -> Ranges:
        """Return the chunks as ranges of frames, the last one open."""
        return _cut_files(self._files, self._options, self.encoding)

    def make_chunks(self, parts: Parts, _stack: ExitStack) -> list[Chunk]:
        """Return the chunks; the files that they need stay until the stack ends."""
        return _chunks_of_files(self, self._files, self._shape, self._options, parts)

    def find_damage(self, _chunks: Sequence[Chunk], _done: Sequence[Upscaled]) -> list[str]:
        """Return a line for each damage.

        Raises:
            MediaError: no frame could be decoded.
        """
        return []

    def sample(self) -> Iterable[np.ndarray] | None:
        """Start reading frames, for a dry run; None where they could not be read again."""
        return FrameFiles(self._files, self._shape)


class VideoSource:
    """A video file or stream; methods and attributes are those of `FrameSource`.

    Args:
        ffmpeg: The programs.
        name: The input as it was given.
        info: The result of ffprobe for it, or for a copy of it.
        options: The caller's.
        check: Called several times a second while ffmpeg works; what it raises ends ffmpeg.

    Raises:
        VideoError: it has no video, or none between --start and --end.
        MediaError: ffprobe failed, or the encoder is not there or does not go with the container.
    """

    def __init__(self, ffmpeg: FFmpeg, name: str, info: MediaInfo, options: VideoOptions, check: Check) -> None:
        self.ffmpeg, self.name = ffmpeg, name
        self._extracts = options.extract_frame_first and not info.is_stream
        if options.extract_frame_first and info.is_stream:
            logger.warning('--extract_frame_first has no effect on a stream, which can be read once only')
        self._options, self._check = options, check
        self.plan: VideoPlan = plan_video(ffmpeg, info, options, check)
        self.encoding: Encoding = encode_like_video(ffmpeg, self.plan, options, check)
        self.total = self.plan.total
        video = self.plan.video
        self.size = video.width, video.height
        self.step = math.ceil(self.encoding.rate) if options.chunk is None and self.plan.is_divisible else 0
        self.extracted_bytes = estimate_extracted_size(
            *self.size, self.total or 0, deep=is_deep(video.pixel_format)) if self._extracts else 0
        self._extraction_damage: Damage | None = None

    def identify(self) -> Mapping[str, Any]:
        """See `FrameSource`."""
        info, decoding = self.plan.info, self.plan.decoding
        if info.is_stream:
            return {'source': info.source}
        identity = identify_files([Path(info.source)])
        if decoding.resample and self._options.fps is None:  # the rate is a choice then, which a version may change
            identity['frame_rate'] = str(decoding.rate)
        return identity

    def cut(self) -> Ranges:
        """See `FrameSource`."""
        plan = self.plan
        if not plan.is_divisible:
            return [(0, None)]
        length = _measure_chunk(self._options, plan.decoding.rate)
        if length and plan.total is not None:  # which may be what a damaged file claims
            length = max(length, math.ceil(plan.total / _MOST_CHUNKS))
        if length and plan.stamps is None and plan.total is not None:
            length = max(length, math.ceil(plan.total / _MOST_UNSEEKABLE))
        return cut_into_chunks(plan.total, length, plan.last_start())

    def make_chunks(self, parts: Parts, stack: ExitStack) -> list[Chunk]:
        """See `FrameSource`."""
        plan = self.plan
        if self._extracts:
            return self._extract(parts, stack)
        if not plan.is_divisible:
            logger.info('the length is unknown: one part, which can\'t be resumed')
            recording = build_recording_options(plan.info.tracks, parts.folder / TRACKS) if plan.info.is_stream else []
            frames = VideoFrames(self.ffmpeg, plan.info, plan.decoding, also=tuple(recording))
            return [_make_chunk(self, parts, self._options, 0, 0, None, frames)]
        chunks = []
        for index, (first, stop) in enumerate(self.cut()):
            decoding = plan.decode_chunk(first, stop)
            seeks = decoding.seek is not None and plan.stamps is not None
            frames = VideoFrames(self.ffmpeg, plan.info, decoding, expected=plan.count_expected(first, stop),
                                 unseeked=plan.decode_chunk(first, stop, seek=False) if seeks else None)
            chunks.append(_make_chunk(self, parts, self._options, index, first, stop, frames))
        return chunks

    def _extract(self, parts: Parts, stack: ExitStack) -> list[Chunk]:
        """Decode all frames into a folder and return the chunks of its files."""
        folder = stack.enter_context(temporary_folder(parts.folder / 'frames'))
        logger.info('extracting frames')
        watch = DiskWatch(parts.folder)

        def check() -> None:
            self._check()
            watch.look()
        self._extraction_damage = extract_frames(self.ffmpeg, self.plan.info, self.plan.decoding, folder, check)
        files = sorted(folder.iterdir())
        return _chunks_of_files(self, files, measure_frames(files[:1], self._options.max_pixels), self._options, parts)

    def find_damage(self, chunks: Sequence[Chunk], done: Sequence[Upscaled]) -> list[str]:
        """See `FrameSource`."""
        plan, frames = self.plan, sum(upscaled.frames for upscaled in done)
        damage = self._extraction_damage if self._extracts else self._find_first_damage(chunks, done)
        if damage is not None and self._is_of_a_cut(damage):
            damage = None
        if not frames:
            raise MediaError(f'no frame could be decoded: {damage.reason if damage else "no reason given"}')
        if damage is not None:
            broken, end = (format_clock(plan.begin + count / plan.decoding.rate) for count in (damage.frame, frames))
            return [f'{self.name}: damaged at about {broken}; {frames} frames could be decoded, up to {end}: '
                    f'{damage.reason}']
        if plan.is_total_exact and plan.total is not None and frames < plan.total:
            logger.warning('%d frames, fewer than the %d packets of the input; ffmpeg reports no damage', frames,
                           plan.total)
        return []

    def _find_first_damage(self, chunks: Sequence[Chunk], done: Sequence[Upscaled]) -> Damage | None:
        """Return the first damage that the workers met, counted from the first frame of all.

        After a seek ffmpeg may complain about frames that it can't decode but that nobody needs. If only chunks that
        were sought complain, the video is decoded once more from its start: if that passes, nothing is damaged.
        """
        found = [(chunk, upscaled.damage) for chunk, upscaled in zip(chunks, done, strict=True) if upscaled.damage]
        if not found:
            return None
        if all(isinstance(chunk.frames, VideoFrames) and chunk.frames.unseeked for chunk, _ in found):
            logger.info('looking for damage')
            whole = self.plan.decode_chunk(0, None, seek=False)
            if not count_frames(self.ffmpeg, self.plan.info, whole, self._check)[1]:
                return None
        chunk, damage = found[0]
        return replace(damage, frame=chunk.first + damage.frame)

    def _is_of_a_cut(self, damage: Damage) -> bool:
        """Tell whether only the edit list of a cut is behind what looks like damage."""
        stamps = self.plan.stamps
        if stamps is None or not stamps.hides_packets or FORGETS not in damage.reason:
            return False
        logger.info('looking for damage')
        return is_of_a_cut(self.ffmpeg, self.plan.info, self.plan.decode_chunk(0, None, seek=False), self._check)

    def sample(self) -> Iterable[np.ndarray] | None:
        """See `FrameSource`."""
        return None if self.plan.info.is_stream else self._decode()

    def _decode(self) -> Iterator[np.ndarray]:
        with FrameReader(self.ffmpeg, self.plan.info, self.plan.decoding) as reader:
            yield from reader


Source = FrameSource | VideoSource


def _cut_files(files: Sequence[Path], options: VideoOptions, encoding: Encoding) -> Ranges:
    return cut_into_chunks(len(files), _measure_chunk(options, encoding.rate), len(files) - 1)


def _measure_chunk(options: VideoOptions, rate: Fraction) -> int:
    """Return the number of frames in a chunk; 0 for one chunk."""
    return math.ceil((CHUNK_SECONDS if options.chunk is None else options.chunk) * rate)


def _chunks_of_files(source: Source, files: Sequence[Path], shape: FrameShape, options: VideoOptions,
                     parts: Parts) -> list[Chunk]:
    return [_make_chunk(source, parts, options, index, first, stop, FrameFiles(files[first:stop], shape))
            for index, (first, stop) in enumerate(_cut_files(files, options, source.encoding))]


def _make_chunk(source: Source, parts: Parts, options: VideoOptions, index: int, first: int, stop: int | None,
                frames: Frames) -> Chunk:
    return Chunk(source.name, index, first, stop, frames, source.encoding, source.ffmpeg, options.outscale, parts,
                 source.step)
