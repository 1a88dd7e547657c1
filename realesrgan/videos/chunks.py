"""Upscale one chunk of a video to a part of its own: what a worker does."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from ..atomic_files import whole_file
from ..errors import RealESRGANError, VideoError
from ..ffmpeg.decoder import Damage, Decoding, FrameReader, examine
from ..ffmpeg.encoder import Encoding, FrameWriter
from ..ffmpeg.probe import MediaInfo
from ..ffmpeg.programs import FFmpeg
from ..workers.overlap import run_overlapped
from ..workers.pool import report
from ..workers.worker import Enhancer, enhancer
from .checkpoint import seal
from .frame_folders import FolderReader, FrameShape


class Reader(Protocol):
    """Frames of one size and dtype, HxWx3, BGR; `kill` makes an iteration in another thread end."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exception: object) -> None: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class VideoFrames:
    """Frames that are decoded from a video.

    Attributes:
        ffmpeg: The programs.
        info: The video.
        decoding: Which frames.
        unseeked: The same frames, decoded from the start of the video; None where `decoding` does that already.
        expected: Their number by the time stamps, or None.
        also: See `FrameReader`.
    """

    ffmpeg: FFmpeg
    info: MediaInfo
    decoding: Decoding
    unseeked: Decoding | None = None
    expected: int | None = None
    also: tuple[str, ...] = ()

    def open(self) -> FrameReader:
        """Start decoding."""
        return FrameReader(self.ffmpeg, self.info, self.decoding, self.also)

    def missed(self, count: int) -> VideoFrames | None:
        """Return these frames as they are to be read instead, if `count` of them came and more are there.

        A seek that goes too far would lose frames. Where packets hold no frame, fewer come in any case.
        """
        if self.unseeked is None or self.expected in (None, count):
            return None
        there, _ = examine(self.ffmpeg, self.info, self.unseeked)
        return replace(self, decoding=self.unseeked, unseeked=None) if there != count else None


@dataclass(frozen=True)
class FileFrames:
    """Frames in picture files of one size."""

    files: tuple[Path, ...]
    shape: FrameShape

    def open(self) -> FolderReader:
        """Return their reader."""
        return FolderReader(self.files, self.shape)


@dataclass(frozen=True)
class Chunk:
    """A chunk of a video, and what becomes of it.

    Attributes:
        index: Its number.
        first: The number of its first frame in the video.
        frames: Where they come from.
        encoding: How they are encoded.
        ffmpeg: The programs.
        outscale: Final size as a multiple of the input's.
        target: The part to write.
    """

    index: int
    first: int
    frames: VideoFrames | FileFrames
    encoding: Encoding
    ffmpeg: FFmpeg
    outscale: float
    target: Path


@dataclass(frozen=True)
class Progress:
    """How many frames of a chunk are upscaled."""

    index: int
    frames: int


@dataclass(frozen=True)
class Upscaled:
    """What came of a chunk.

    Attributes:
        index: Its number.
        frames: How many were written.
        computed: How many went through the network.
        damage: What was heard of damage while it was decoded, by the number in the chunk.
    """

    index: int
    frames: int
    computed: int
    damage: Damage | None = None

    def note(self) -> dict[str, Any]:
        """Return it for the folder of parts."""
        damage = [self.damage.frame, self.damage.reason] if self.damage else None
        return {'frames': self.frames, 'computed': self.computed, 'damage': damage}

    @classmethod
    def from_note(cls, index: int, note: dict[str, Any]) -> Self:
        """Read it back."""
        damage = note['damage']
        return cls(index, note['frames'], note['computed'], Damage(*damage) if damage else None)


def upscale_chunk(chunk: Chunk) -> Upscaled:
    """Upscale a chunk with this process's upsampler and write its part, whole or not at all.

    Raises:
        VideoError: a frame failed.
        MediaError: decoding or encoding failed.
        MemoryError: not enough memory for a frame.
        OSError: the part can't be written.
    """
    source: VideoFrames | FileFrames | None = chunk.frames
    with whole_file(chunk.target) as temporary:
        while source is not None:
            upscaling = Upscaling(enhancer(), chunk)
            with source.open() as reader, FrameWriter(chunk.ffmpeg, temporary, chunk.encoding) as writer:
                upscale_frames(reader, writer, upscaling)
            damage = reader.damage if isinstance(reader, FrameReader) else None
            source = source.missed(upscaling.frames) if isinstance(source, VideoFrames) else None
        temporary.touch()  # of no frames no encoder makes a file
        result = Upscaled(chunk.index, upscaling.frames, upscaling.computed, damage)
        seal(chunk.target, temporary, result.note())
    return result


class Upscaling:
    """Upscales one frame after the other; one that is like the one before is not computed again.

    Args:
        enhancer: Does the work.
        chunk: What the frames are of.
    """

    def __init__(self, enhancer: Enhancer, chunk: Chunk) -> None:
        self._enhancer = enhancer
        self._chunk = chunk
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self.frames = 0
        self.computed = 0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        if self._last is None or not np.array_equal(frame, self._last[0]):
            number = self._chunk.first + self.frames + 1
            try:
                result, _ = self._enhancer.enhance(frame, outscale=self._chunk.outscale)
            except MemoryError as error:
                raise MemoryError(f'frame {number}: {error}') from error
            except RealESRGANError as error:
                raise VideoError(f'frame {number}: {error}') from error
            self._last = frame, result
            self.computed += 1
        self.frames += 1
        report(Progress(self._chunk.index, self.frames))
        return self._last[1]


def upscale_frames(reader: Reader, writer: FrameWriter, upscaling: Upscaling) -> None:
    """Upscale all frames of a reader into a writer, with reading, computing and writing at the same time.

    Raises:
        MediaError: decoding or encoding failed.
    """
    def abort() -> None:
        reader.kill()
        writer.kill()
    run_overlapped(reader, upscaling, writer.write, abort)
    if upscaling.frames:
        writer.finish()


def cut(total: int | None, length: int, last_start: int) -> Sequence[tuple[int, int | None]]:
    """Cut frames into chunks of `length` (0: one chunk), each from a number up to another, the last to the end (None).

    Args:
        total: The number of frames, or None if it is unknown.
        length: Of a chunk, in frames.
        last_start: No chunk begins after it.
    """
    starts = [0] if total is None or not length else list(range(0, max(last_start, 0) + 1, length))
    return list(zip(starts, [*starts[1:], None], strict=True))
