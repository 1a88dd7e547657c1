"""The chunks of a video: the task of a worker, and its result."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..ffmpeg.decoder import Damage
from ..ffmpeg.encoder import Encoding
from ..ffmpeg.programs import FFmpeg
from ..timings import Timings
from .frames import Frames, VideoFrames
from .parts import Part, Parts


@dataclass(frozen=True)
class Chunk:
    """A chunk of a video, and where its parts go.

    Attributes:
        video: The input, as it was given.
        index: Its number.
        first: The number of its first frame in the video.
        stop: The number of the frame after its last; None: it goes on to the end.
        frames: Where they come from.
        encoding: How they are encoded.
        ffmpeg: The programs.
        outscale: Final size, as `Enhancer.enhance` takes it.
        parts: The folder of parts.
        step: Frames in a second, at multiples of which a part may end so that not too much work is in it; 0: the chunk
            is one part.
        samples: Which of its frames are compared with their source, counted from its own first.
    """

    video: str
    index: int
    first: int
    stop: int | None
    frames: Frames
    encoding: Encoding
    ffmpeg: FFmpeg
    outscale: float | None
    parts: Parts
    step: int = 0
    samples: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f'part {self.parts.path(self.first).name} of {self.video}'

    def run_by(self, ffmpeg: FFmpeg) -> Chunk:
        """Return the same chunk, with the programs of another machine."""
        frames = replace(self.frames, ffmpeg=ffmpeg) if isinstance(self.frames, VideoFrames) else self.frames
        return replace(self, ffmpeg=ffmpeg, frames=frames)

    def is_done(self, parts: Sequence[Part]) -> bool:
        """Tell whether parts, in order, hold all of its frames."""
        starts = [self.first, *(part.stop for part in parts)]
        return bool(parts) and parts[-1].is_last and [part.first for part in parts] == starts[:-1]


@dataclass(frozen=True)
class Upscaled:
    """The result of a worker for a chunk.

    Attributes:
        index: Its number.
        parts: Those that hold it, in order, also if an earlier run has made them; none if it has no frame.
        damage: The first sign of damage while it was decoded, by the number in the chunk.
        reused: How many frames of new parts an earlier run has upscaled.
        timings: Time and memory that took; None if an earlier run has done it.
    """

    index: int
    parts: tuple[Part, ...]
    damage: Damage | None = None
    reused: int = 0
    timings: Timings | None = None

    @property
    def frames(self) -> int:
        """How many there are."""
        return sum(part.frames for part in self.parts)

    @property
    def computed(self) -> int:
        """How many went through the network."""
        return sum(part.computed for part in self.parts)


def cut_into_chunks(total: int | None, length: int, last_start: int) -> Sequence[tuple[int, int | None]]:
    """Cut frames into chunks of `length` (0: one chunk), each from a number up to another, the last to the end (None).

    Args:
        total: The number of frames, or None if it is unknown.
        length: Of a chunk, in frames.
        last_start: No chunk begins after it.
    """
    starts = [0] if total is None or not length else list(range(0, max(last_start, 0) + 1, length))
    return list(zip(starts, [*starts[1:], None], strict=True))
