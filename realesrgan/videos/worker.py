"""Upscale chunks of videos: what each worker does."""
from __future__ import annotations

from typing import Self

import numpy as np

from ..atomic_files import whole_file
from ..errors import MediaError, RealESRGANError, VideoError
from ..ffmpeg.decoder import FrameReader
from ..ffmpeg.encoder import FrameWriter
from ..ffmpeg.programs import FFmpeg, find_ffmpeg
from ..quality.checks import Borders, examine
from ..workers.enhancers import BuildEnhancer, Enhancer, build_enhancer
from ..workers.measuring import Stages, measure_effort
from ..workers.options import FaceOptions, Place, UpsamplerOptions
from ..workers.overlap import run_overlapped
from ..workers.pool import Report
from .checkpoint import seal
from .chunks import Chunk, ChunkProgress, FrameExamined, FrameFiles, Reader, Upscaled, VideoFrames

_READ_AHEAD = 4  # frames
_WRITTEN_BEHIND = 2


class ChunkWorker:
    """Upscales chunks with one upsampler. It reports a `ChunkProgress` for each frame.

    Args:
        enhancer: What it upscales with.
        ffmpeg: The programs of the machine that it is on, if that may be another one than the chunks come from.
    """

    def __init__(self, enhancer: Enhancer, ffmpeg: FFmpeg | None = None) -> None:
        self._enhancer = enhancer
        self._ffmpeg = ffmpeg

    @classmethod
    def build(cls, options: UpsamplerOptions, faces: FaceOptions | None, place: Place,
              build: BuildEnhancer = build_enhancer, ffmpeg: str | None = None) -> Self:
        """Build a worker from the options of its upsampler and its faces, and the place where it computes.

        `ffmpeg` is what `find_ffmpeg` takes, if the worker is to find it itself.
        """
        return cls(build(options, faces, place), find_ffmpeg(ffmpeg) if ffmpeg is not None else None)

    def __call__(self, chunk: Chunk, report: Report) -> Upscaled:
        """Upscale a chunk and write its part, whole or not at all.

        Raises:
            VideoError: a frame failed.
            MediaError: decoding or encoding failed.
            MemoryError: not enough memory for a frame.
            OSError: the part can't be written.
        """
        if self._ffmpeg is not None:
            chunk = chunk.run_by(self._ffmpeg)
        source: VideoFrames | FrameFiles | None = chunk.frames
        stages = Stages()
        with whole_file(chunk.part) as temporary:
            while source is not None:
                frames = FrameUpscaler(self._enhancer, chunk, report, stages)
                with source.open() as reader, FrameWriter(chunk.ffmpeg, temporary, chunk.encoding) as writer:
                    upscale_frames(reader, writer, frames, stages)
                damage = reader.damage if isinstance(reader, FrameReader) else None
                source = source.reread(frames.count)
            temporary.touch()  # encoders write no file when there are no frames
            result = Upscaled(chunk.index, frames.count, frames.computed, damage,
                              measure_effort(self._enhancer, stages))
            seal(chunk.part, temporary, result.to_note())
        return result


class FrameUpscaler:
    """Upscales one frame after the other; one that equals the one before is not computed again.

    Args:
        enhancer: Upscales pictures.
        chunk: What the frames are of.
        report: Hears of each frame (`ChunkProgress`), and of samples (`FrameExamined`).
        stages: Counts the seconds of the network.

    Attributes:
        count: The number of frames so far.
        computed: How many of them went through the network.
    """

    def __init__(self, enhancer: Enhancer, chunk: Chunk, report: Report, stages: Stages) -> None:
        self._enhancer = enhancer
        self._chunk = chunk
        self._report = report
        self._stages = stages
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self.count = 0
        self.computed = 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Upscale a frame, HxWx3, BGR, uint8 or uint16."""
        if self._last is None or not np.array_equal(frame, self._last[0]):
            number = self._chunk.first + self.count + 1
            try:
                with self._stages.measure('network'):
                    result, _ = self._enhancer.enhance(frame, outscale=self._chunk.outscale)
            except MemoryError as error:
                raise MemoryError(f'frame {number}: {error}') from error
            except RealESRGANError as error:
                raise VideoError(f'frame {number}: {error}') from error
            self._last = frame, result
            self.computed += 1
        if self.count in self._chunk.samples:
            self._report(FrameExamined(self._chunk.first + self.count, *examine(
                frame, self._last[1], Borders.of_tiles(self._enhancer.tiles))))
        self.count += 1
        self._report(ChunkProgress(self._chunk.index, self.count))
        return self._last[1]


def upscale_frames(reader: Reader, writer: FrameWriter, upscale: FrameUpscaler, stages: Stages) -> None:
    """Upscale all frames of a reader into a writer, with reading, computing and writing at the same time.

    `stages` counts the seconds of reading and writing.

    Raises:
        VideoError, MemoryError: a frame failed.
        MediaError: decoding or encoding failed.
    """
    def abort() -> None:
        reader.kill()
        writer.kill()

    def write(frame: np.ndarray) -> None:
        with stages.measure('write'):
            writer.write(frame)
    run_overlapped(stages.measure_each('read', reader), upscale, write, abort, ahead=_READ_AHEAD,
                   behind=_WRITTEN_BEHIND)
    if upscale.count:
        with stages.measure('write'):
            writer.finish()


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
