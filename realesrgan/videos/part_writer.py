"""Encode the frames of a chunk into parts."""
from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..errors import MediaError
from ..ffmpeg.encoder import FrameWriter
from ..files import whole_file
from .chunks import Chunk, FrameFiles, Reader, VideoFrames
from .parts import Part, seal

#: How much work a part holds, and so how much a killed run loses, at most: about a minute.
PART_SECONDS = 60.0


@dataclass(frozen=True)
class Frame:
    """A frame on its way through the network.

    Attributes:
        number: In the chunk.
        pixels: HxWx3, BGR, uint8 or uint16.
        is_last: Whether the chunk ends with it.
    """

    number: int
    pixels: np.ndarray
    is_last: bool


@dataclass(frozen=True)
class Result:
    """What became of a frame.

    Attributes:
        frame: The frame.
        pixels: What was made of it.
        computed: Whether it went through the network now.
        begun, ended: When, in seconds.
    """

    frame: Frame
    pixels: np.ndarray
    computed: bool
    begun: float
    ended: float


class FramesLostError(Exception):
    """A seek has lost frames: the chunk is to be decoded from `source` instead."""

    def __init__(self, source: VideoFrames) -> None:
        super().__init__()
        self.source = source


class PartWriter:
    """Encodes the frames of a chunk into parts, one after the other; a context manager.

    A part ends with its chunk, or at a whole second if another one would make it more than about a minute's work.

    Args:
        chunk: What the frames are of.
        source: How they are decoded.
        found: The parts of the chunk that are there already.
        reader: Gives the frames.

    Attributes:
        made: The parts that are whole.
    """

    def __init__(self, chunk: Chunk, source: VideoFrames | FrameFiles, found: Sequence[Part], reader: Reader) -> None:
        self._chunk = chunk
        self._source = source
        self._is_complete = bool(found)  # whether it is known that no frame is lost
        self._starts = {part.first - chunk.first for part in found}
        self._reader = reader
        self._killed = False
        self._encoder: FrameWriter | None = None
        self._part = ExitStack()  # what is open for the part in progress
        self._temporary = chunk.parts.folder
        self._first = self._frames = self._computed = 0
        self._begun = 0.0
        self.made: list[Part] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._part.__exit__(*exception)

    def _check(self) -> None:
        if self._killed:
            raise MediaError('stopped')

    def kill(self) -> None:
        """Stop encoding at once. A thread that is writing a frame gets an error."""
        self._killed = True
        if self._encoder is not None:
            self._encoder.kill()

    def write(self, result: Result) -> None:
        """Encode a frame, and finish the part if it ends there.

        Raises:
            MediaError: encoding failed.
            OSError: the part can't be written.
        """
        chunk, number = self._chunk, result.frame.number
        if self._encoder is None:
            self._first, self._begun = chunk.first + number, result.begun
            self._frames = self._computed = 0
            self._temporary = self._part.enter_context(whole_file(chunk.parts.path(self._first)))
            self._encoder = self._part.enter_context(FrameWriter(chunk.ffmpeg, self._temporary, chunk.encoding))
        self._encoder.write(result.pixels)
        self._frames += 1
        self._computed += result.computed
        if result.frame.is_last or number + 1 in self._starts or self._is_long_enough(result):
            self._finish_part(result.frame)

    def _is_long_enough(self, result: Result) -> bool:
        """Tell whether a part may end here and another second would be too much work for it.

        Or too many frames in files of their own: where a second is a minute's work, no more than those of a second.
        """
        step, number = self._chunk.step, result.frame.number
        if not step or (number + 1) % step:
            return False
        return ((result.ended - self._begun) * (1 + step / self._frames) > PART_SECONDS
                or any(self._first <= kept <= self._chunk.first + number for kept in self._chunk.parts.list_frames()))

    def _finish_part(self, frame: Frame) -> None:
        assert self._encoder is not None
        self._encoder.finish()
        self._encoder = None
        self.require_all_frames(frame.number + 1 if frame.is_last else None)
        part = Part(self._first, self._frames, self._computed, frame.is_last,
                    self._reader.damage if frame.is_last else None)
        parts = self._chunk.parts
        seal(parts.path(part.first), self._temporary, part.to_note())
        self._part.close()
        parts.drop_frames(part.first, part.stop)
        self.made.append(part)

    def require_all_frames(self, count: int | None) -> None:
        """Check that no frame of the chunk is lost, before a part of it counts as whole.

        Args:
            count: How many came, or None if they are still coming.

        Raises:
            FramesLostError: some are.
        """
        if not self._is_complete:
            source = self._source.reread(count, self._check)
            if source is not None:
                raise FramesLostError(source)
            self._is_complete = True
