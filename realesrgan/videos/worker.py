"""Upscale chunks of videos: what each worker does."""
from __future__ import annotations

from collections.abc import Callable
from typing import Self

import numpy as np

from ..atomic_files import whole_file
from ..errors import RealESRGANError, VideoError
from ..ffmpeg.decoder import FrameReader
from ..ffmpeg.encoder import FrameWriter
from ..workers.enhancers import Enhancer, build_enhancer
from ..workers.options import FaceOptions, Place, UpsamplerOptions
from ..workers.overlap import run_overlapped
from ..workers.pool import Report
from .checkpoint import seal
from .chunks import Chunk, ChunkProgress, FrameFiles, Reader, Upscaled, VideoFrames

_READ_AHEAD = 4  # frames
_WRITTEN_BEHIND = 2


class ChunkWorker:
    """Upscales chunks with one upsampler. It reports a `ChunkProgress` for each frame.

    Args:
        enhancer: What it upscales with.
    """

    def __init__(self, enhancer: Enhancer) -> None:
        self._enhancer = enhancer

    @classmethod
    def build(cls, options: UpsamplerOptions, faces: FaceOptions | None, place: Place) -> Self:
        """Build a worker from the options of its upsampler and its faces, and the place where it computes."""
        return cls(build_enhancer(options, faces, place))

    def __call__(self, chunk: Chunk, report: Report) -> Upscaled:
        """Upscale a chunk and write its part, whole or not at all.

        Raises:
            VideoError: a frame failed.
            MediaError: decoding or encoding failed.
            MemoryError: not enough memory for a frame.
            OSError: the part can't be written.
        """
        source: VideoFrames | FrameFiles | None = chunk.frames
        with whole_file(chunk.part) as temporary:
            while source is not None:
                frames = FrameUpscaler(self._enhancer, chunk.outscale, chunk.first,
                                       lambda count: report(ChunkProgress(chunk.index, count)))
                with source.open() as reader, FrameWriter(chunk.ffmpeg, temporary, chunk.encoding) as writer:
                    upscale_frames(reader, writer, frames)
                damage = reader.damage if isinstance(reader, FrameReader) else None
                source = source.reread(frames.count)
            temporary.touch()  # encoders write no file when there are no frames
            result = Upscaled(chunk.index, frames.count, frames.computed, damage)
            seal(chunk.part, temporary, result.to_note())
        return result


class FrameUpscaler:
    """Upscales one frame after the other; one that equals the one before is not computed again.

    Args:
        enhancer: Upscales pictures.
        outscale: Final size, as `Enhancer.enhance` takes it.
        first: The number of the first frame, for errors.
        on_frame: Called after each frame with the number of frames so far.

    Attributes:
        count: The number of frames so far.
        computed: How many of them went through the network.
    """

    def __init__(self, enhancer: Enhancer, outscale: float | None, first: int,
                 on_frame: Callable[[int], None]) -> None:
        self._enhancer = enhancer
        self._outscale = outscale
        self._first = first
        self._on_frame = on_frame
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self.count = 0
        self.computed = 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Upscale a frame, HxWx3, BGR, uint8 or uint16."""
        if self._last is None or not np.array_equal(frame, self._last[0]):
            number = self._first + self.count + 1
            try:
                result, _ = self._enhancer.enhance(frame, outscale=self._outscale)
            except MemoryError as error:
                raise MemoryError(f'frame {number}: {error}') from error
            except RealESRGANError as error:
                raise VideoError(f'frame {number}: {error}') from error
            self._last = frame, result
            self.computed += 1
        self.count += 1
        self._on_frame(self.count)
        return self._last[1]


def upscale_frames(reader: Reader, writer: FrameWriter, upscale: FrameUpscaler) -> None:
    """Upscale all frames of a reader into a writer, with reading, computing and writing at the same time.

    Raises:
        VideoError, MemoryError: a frame failed.
        MediaError: decoding or encoding failed.
    """
    def abort() -> None:
        reader.kill()
        writer.kill()
    run_overlapped(reader, upscale, writer.write, abort, ahead=_READ_AHEAD, behind=_WRITTEN_BEHIND)
    if upscale.count:
        writer.finish()
