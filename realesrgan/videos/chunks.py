"""The chunks of a video: what a worker gets to do, and what it gives back."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from ..ffmpeg.decoder import Damage, Decoding, FrameReader, examine
from ..ffmpeg.encoder import Encoding
from ..ffmpeg.probe import MediaInfo
from ..ffmpeg.programs import FFmpeg
from ..measures import Effort, Preview, Quality
from .frame_files import FrameFileReader, FrameShape


class Reader(Protocol):
    """Frames of one size and dtype, HxWx3, BGR; `kill` ends an iteration in another thread."""

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

    def reread(self, count: int) -> VideoFrames | None:
        """Return these frames decoded from the start, if only `count` of them came although there are more.

        A seek that goes too far loses frames. Where packets hold no frame, fewer come in any case.
        """
        if self.unseeked is None or self.expected in (None, count):
            return None
        there, _ = examine(self.ffmpeg, self.info, self.unseeked)
        return replace(self, decoding=self.unseeked, unseeked=None) if there != count else None


@dataclass(frozen=True)
class FrameFiles:
    """Frames in picture files of one size."""

    files: tuple[Path, ...]
    shape: FrameShape

    def open(self) -> FrameFileReader:
        """Return their reader."""
        return FrameFileReader(self.files, self.shape)

    def reread(self, _count: int) -> None:
        """Return None: no frame of a folder gets lost."""


@dataclass(frozen=True)
class Chunk:
    """A chunk of a video, and where its part goes.

    Attributes:
        index: Its number.
        first: The number of its first frame in the video.
        frames: Where they come from.
        encoding: How they are encoded.
        ffmpeg: The programs.
        outscale: Final size, as `Enhancer.enhance` takes it.
        part: The file to write.
        samples: Which of its frames are compared with their source, counted from its own first.
    """

    index: int
    first: int
    frames: VideoFrames | FrameFiles
    encoding: Encoding
    ffmpeg: FFmpeg
    outscale: float | None
    part: Path
    samples: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f'part {self.part.name}'

    def run_by(self, ffmpeg: FFmpeg) -> Chunk:
        """Return the same chunk, with the programs of another machine."""
        frames = replace(self.frames, ffmpeg=ffmpeg) if isinstance(self.frames, VideoFrames) else self.frames
        return replace(self, ffmpeg=ffmpeg, frames=frames)


@dataclass(frozen=True)
class ChunkProgress:
    """How many frames of a chunk are upscaled."""

    index: int
    frames: int


@dataclass(frozen=True)
class FrameExamined:
    """A frame has been compared with its source; `frame` is its number in the video."""

    frame: int
    quality: Quality
    preview: Preview


@dataclass(frozen=True)
class Upscaled:
    """What a worker made of a chunk.

    Attributes:
        index: Its number.
        frames: How many were written.
        computed: How many went through the network.
        damage: The first sign of damage while it was decoded, by the number in the chunk.
        effort: What that took; None if an earlier run has done it.
    """

    index: int
    frames: int
    computed: int
    damage: Damage | None = None
    effort: Effort | None = None

    def to_note(self) -> dict[str, Any]:
        """Return it as simple values, for the folder of parts."""
        damage = [self.damage.frame, self.damage.reason] if self.damage else None
        return {'frames': self.frames, 'computed': self.computed, 'damage': damage}

    @classmethod
    def from_note(cls, index: int, note: dict[str, Any]) -> Self:
        """Read it back."""
        damage = note['damage']
        return cls(index, note['frames'], note['computed'], Damage(*damage) if damage else None)


def cut_into_chunks(total: int | None, length: int, last_start: int) -> Sequence[tuple[int, int | None]]:
    """Cut frames into chunks of `length` (0: one chunk), each from a number up to another, the last to the end (None).

    Args:
        total: The number of frames, or None if it is unknown.
        length: Of a chunk, in frames.
        last_start: No chunk begins after it.
    """
    starts = [0] if total is None or not length else list(range(0, max(last_start, 0) + 1, length))
    return list(zip(starts, [*starts[1:], None], strict=True))
