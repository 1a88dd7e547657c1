"""Upscale chunks of videos: what each worker does."""
from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Self

import numpy as np

from ..errors import MediaError, RealESRGANError, VideoError
from ..ffmpeg.programs import FFmpeg, find_ffmpeg
from ..options import UpsamplerOptions
from ..pipeline import read_ahead, write_behind
from ..quality import Borders, examine
from ..workers.enhancers import BuildEnhancer, Enhancer, build_enhancer
from ..workers.measuring import Stages, measure_effort
from ..workers.options import Place
from ..workers.pool import Report
from .chunks import Chunk, ChunkProgress, FrameExamined, FrameFiles, Reader, Upscaled, VideoFrames
from .disk import RESERVE_BYTES, measure_free_disk
from .part_writer import PART_SECONDS, Frame, FramesLostError, PartWriter, Result
from .parts import Part

_READ_AHEAD = 4  # frames
_WRITTEN_BEHIND = 2

Clock = Callable[[], float]


class ChunkWorker:
    """Upscales chunks with one upsampler. It reports a `ChunkProgress` for each frame.

    Args:
        enhancer: What it upscales with.
        ffmpeg: The programs of the machine that it is on, if that may be another one than the chunks come from.
        clock: Tells the seconds by which parts are measured.
    """

    def __init__(self, enhancer: Enhancer, ffmpeg: FFmpeg | None = None, clock: Clock = time.monotonic) -> None:
        self._enhancer = enhancer
        self._ffmpeg = ffmpeg
        self._clock = clock

    @classmethod
    def build(cls, options: UpsamplerOptions, place: Place, build: BuildEnhancer = build_enhancer,
              ffmpeg: str | None = None) -> Self:
        """Build a worker from the options of its upsampler and the place where it computes.

        `ffmpeg` is what `find_ffmpeg` takes, if the worker is to find it itself.
        """
        return cls(build(options, place), find_ffmpeg(ffmpeg) if ffmpeg is not None else None)

    def __call__(self, chunk: Chunk, report: Report) -> Upscaled:
        """Upscale a chunk and write its parts, each whole or not at all; those that are there already stay.

        Raises:
            VideoError: a frame failed.
            MediaError: decoding or encoding failed.
            MemoryError: not enough memory for a frame.
            OSError: a part can't be written.
        """
        if self._ffmpeg is not None:
            chunk = chunk.run_by(self._ffmpeg)
        # Of an earlier run, or of a worker that has died.
        found = [part for part in chunk.parts.find(chunk.first, chunk.stop) if chunk.parts.is_intact(part.first)]
        # They were counted in frames of which none was lost.
        source: VideoFrames | FrameFiles = (chunk.frames.reread() if found else None) or chunk.frames
        stages = Stages()
        while True:
            upscale = FrameUpscaler(self._enhancer, chunk, found, report, stages, self._clock)
            try:
                with source.open() as reader, PartWriter(chunk, source, found, reader) as writer:
                    upscale_frames(chunk, found, reader, writer, upscale, stages)
            except FramesLostError as lost:
                source = lost.source
                continue
            break
        return Upscaled(chunk.index, tuple(sorted([*found, *writer.made], key=lambda part: part.first)), reader.damage,
                        upscale.reused, measure_effort(self._enhancer, stages))


class FrameUpscaler:
    """Upscales one frame after the other; one that equals the one before is not computed again.

    Where a single second of the video is more than about a minute's work, each frame is kept in a file until the part
    that holds it is whole.

    Args:
        enhancer: Upscales pictures.
        chunk: What the frames are of.
        found: The parts of the chunk that are there already.
        report: Hears of each frame (`ChunkProgress`), and of samples (`FrameExamined`).
        stages: Counts the seconds of the network.
        clock: Tells the seconds.

    Attributes:
        count: The number of frames so far.
        reused: How many of them had been upscaled before.
    """

    def __init__(self, enhancer: Enhancer, chunk: Chunk, found: Sequence[Part], report: Report, stages: Stages,
                 clock: Clock) -> None:
        self._enhancer = enhancer
        self._chunk = chunk
        self._there = sum(part.frames for part in found)
        self._report = report
        self._stages = stages
        self._clock = clock
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self.count = 0
        self.reused = 0

    def __call__(self, frame: Frame) -> Result:
        """Upscale a frame."""
        begun, computed = self._clock(), False
        if self._last is None or not np.array_equal(frame.pixels, self._last[0]):
            kept = self._load(frame)
            computed = kept is None
            self.reused += not computed
            self._last = frame.pixels, self._compute(frame) if kept is None else kept
        result, ended = self._last[1], self._clock()
        if computed and (ended - begun) * self._chunk.step > PART_SECONDS:
            self._keep(frame, result)
        if frame.number in self._chunk.samples:
            self._report(FrameExamined(self._chunk.first + frame.number, *examine(
                frame.pixels, result, Borders.of_tiles(self._enhancer.tiles))))
        self.count += 1
        self._report(ChunkProgress(self._chunk.index, self._there + self.count))
        return Result(frame, result, computed, begun, ended)

    def _load(self, frame: Frame) -> np.ndarray | None:
        """Return the result of a frame that a run which was ended early has kept."""
        encoding = self._chunk.encoding
        return self._chunk.parts.load_frame(self._chunk.first + frame.number, frame.pixels,
                                            (encoding.height, encoding.width, 3),
                                            np.dtype(np.uint16 if encoding.dtype_is_deep else np.uint8))

    def _keep(self, frame: Frame, result: np.ndarray) -> None:
        """Keep a frame by itself if the disk has room; if not, the run goes on without."""
        parts = self._chunk.parts
        with contextlib.suppress(OSError):
            if measure_free_disk(parts.folder) > result.nbytes + 2 * RESERVE_BYTES:
                parts.keep_frame(self._chunk.first + frame.number, frame.pixels, result)

    def _compute(self, frame: Frame) -> np.ndarray:
        number = self._chunk.first + frame.number + 1
        try:
            with self._stages.measure('network'):
                return self._enhancer.enhance(frame.pixels, outscale=self._chunk.outscale)[0]
        except MemoryError as error:
            raise MemoryError(f'frame {number}: {error}') from error
        except RealESRGANError as error:
            raise VideoError(f'frame {number}: {error}') from error


def upscale_frames(chunk: Chunk, found: Sequence[Part], reader: Reader, writer: PartWriter, upscale: FrameUpscaler,
                   stages: Stages) -> None:
    """Upscale the frames of a chunk that no part holds yet, with reading, computing and writing at the same time.

    Args:
        chunk: The chunk.
        found: The parts that are there.
        reader: Gives all frames of the chunk.
        writer: Takes the results.
        upscale: Makes them.
        stages: Counts the seconds of reading and writing.

    Raises:
        VideoError, MemoryError: a frame failed.
        MediaError: decoding or encoding failed.
    """
    def write(result: Result) -> None:
        with stages.measure('write'):
            writer.write(result)
    there = [range(part.first - chunk.first, part.stop - chunk.first) for part in found]
    frames = (frame for frame in number_frames(stages.measure_each('read', reader))
              if not any(frame.number in numbers for numbers in there))
    with read_ahead(frames, _READ_AHEAD, reader.kill) as ahead, write_behind(
            write, _WRITTEN_BEHIND, writer.kill) as behind:
        for frame in ahead:
            behind.put(upscale(frame))
    if not upscale.count:
        writer.require_all_frames(0)


def number_frames(frames: Iterable[np.ndarray]) -> Iterator[Frame]:
    """Yield frames with their numbers, each when the next has come, so that the last one is known as such."""
    iterator = enumerate(frames)
    current = next(iterator, None)
    while current is not None:
        following = next(iterator, None)
        yield Frame(*current, is_last=following is None)
        current = following


def explain_other_ffmpeg(given: str, version: tuple[int, int]) -> str | None:
    """Return why parts of this machine's ffmpeg would not go with those of another's; None if they do.

    Args:
        given: What `find_ffmpeg` takes.
        version: Of the other machine's ffmpeg.
    """
    try:
        own = find_ffmpeg(given).version
    except MediaError as error:
        return str(error)
    shown = '.'.join(map(str, own)), '.'.join(map(str, version))
    return f'it has ffmpeg {shown[0]}, not {shown[1]}' if own != version else None
