"""Upscale chunks of videos to parts: the work of each worker."""
from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from ..enhancers import BuildEnhancer, build_enhancer, measure_timings
from ..errors import MediaError, RealESRGANError, VideoError
from ..events import Examined
from ..ffmpeg.decoder import FrameReader
from ..ffmpeg.encoder import FrameWriter
from ..ffmpeg.programs import FFmpeg, find_ffmpeg
from ..files import whole_file
from ..log import about
from ..options import VideoOptions
from ..pipeline import read_ahead, write_behind
from ..pool.pool import Place, Report
from ..quality import examine
from ..timings import Stopwatch
from .chunks import Chunk, Upscaled
from .disk import RESERVE_BYTES, measure_free_disk
from .frames import FrameFiles, Frames, VideoFrames
from .parts import Part

logger = logging.getLogger(__name__)

#: How much work a part holds, and so how much a killed run loses, at most: about a minute.
PART_SECONDS = 60.0
_READ_AHEAD = 4  # frames
_WRITTEN_BEHIND = 2


class ChunkWorker:
    """Upscales chunks with one enhancer. It reports how many frames are done, a number, also as it begins; and samples
    (`Examined`).

    Args:
        options: How videos are upscaled.
        place: Where it computes.
        build: Makes the enhancer.
        finds_ffmpeg: Whether it is on a machine that may have its ffmpeg elsewhere.
        clock: Returns the seconds by which parts are measured.
    """

    def __init__(self, options: VideoOptions, place: Place, build: BuildEnhancer = build_enhancer, *,
                 finds_ffmpeg: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._enhancer = build(options, place)
        self._ffmpeg: FFmpeg | None = find_ffmpeg(options.ffmpeg_bin) if finds_ffmpeg else None
        self._clock = clock

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
        source: Frames = (chunk.frames.reread() if found else None) or chunk.frames
        stopwatch = Stopwatch()
        with about(chunk.video):
            while True:
                try:
                    return self._upscale(chunk, source, found, stopwatch, report)
                except _FramesLostError as lost:
                    source = lost.source

    def _upscale(self, chunk: Chunk, source: Frames, found: Sequence[Part], stopwatch: Stopwatch,
                 report: Report) -> Upscaled:
        """Upscale the frames that no part holds yet; one that equals the one before is not computed again."""
        done, reused, last, last_result = sum(part.frames for part in found), 0, None, np.empty(0)
        there = [range(part.first - chunk.first, part.stop - chunk.first) for part in found]
        report(done)
        with source.open() as reader, PartWriter(chunk, source, found, reader, stopwatch) as writer:
            frames = (frame for frame in number_frames(stopwatch.measure_each('read', reader))
                      if not any(frame.number in numbers for numbers in there))
            with read_ahead(frames, _READ_AHEAD, reader.kill) as ahead, write_behind(
                    writer.write, _WRITTEN_BEHIND, writer.kill) as behind:
                for frame in ahead:
                    begun, is_computed = self._clock(), False
                    if last is None or not np.array_equal(frame.pixels, last):
                        kept = _load(chunk, frame)
                        is_computed, last = kept is None, frame.pixels
                        reused += kept is not None
                        last_result = self._compute(chunk, frame, stopwatch) if kept is None else kept
                    ended = self._clock()
                    if is_computed and (ended - begun) * chunk.step > PART_SECONDS:
                        _keep(chunk, frame, last_result)
                    if frame.number in chunk.samples:
                        self._examine(chunk, frame, last_result, report)
                    done += 1
                    report(done)
                    behind.put(Result(frame, last_result, is_computed, begun, ended))
            if last is None:
                writer.require_all_frames(0)
        parts = sorted([*found, *writer.made], key=lambda part: part.first)
        return Upscaled(chunk.index, tuple(parts), reader.damage, reused, measure_timings(self._enhancer, stopwatch))

    def _compute(self, chunk: Chunk, frame: Frame, stopwatch: Stopwatch) -> np.ndarray:
        number = chunk.first + frame.number + 1
        try:
            with stopwatch.measure('network'):
                return self._enhancer.enhance(frame.pixels, outscale=chunk.outscale)[0]
        except MemoryError as error:
            raise MemoryError(f'frame {number}: {error}') from error
        except RealESRGANError as error:
            raise VideoError(f'frame {number}: {error}') from error

    def _examine(self, chunk: Chunk, frame: Frame, result: np.ndarray, report: Report) -> None:
        """Compare a frame with its source, and warn of what looks wrong."""
        number = chunk.first + frame.number
        quality, preview = examine(frame.pixels, result, self._enhancer.tiles)
        for finding in quality.findings:
            logger.warning('frame %d: %s', number + 1, finding)
        report(Examined(chunk.video, quality, preview, number))


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
    """A frame with its result.

    Attributes:
        frame: The frame.
        pixels: The upscaled frame.
        is_computed: Whether it went through the network now.
        begun, ended: When, in seconds.
    """

    frame: Frame
    pixels: np.ndarray
    is_computed: bool
    begun: float
    ended: float


def number_frames(frames: Iterable[np.ndarray]) -> Iterator[Frame]:
    """Yield frames with their numbers, each when the next has come, so that the last one is known as such."""
    iterator = enumerate(frames)
    current = next(iterator, None)
    while current is not None:
        following = next(iterator, None)
        yield Frame(*current, is_last=following is None)
        current = following


# Where a single second of the video is more than about a minute's work, each frame is kept in a file until the part
# that holds it is whole.

def _load(chunk: Chunk, frame: Frame) -> np.ndarray | None:
    """Return the result of a frame that a run which was ended early has kept."""
    encoding = chunk.encoding
    return chunk.parts.load_frame(chunk.first + frame.number, frame.pixels, (encoding.height, encoding.width, 3),
                                  np.dtype(np.uint16 if encoding.dtype_is_deep else np.uint8))


def _keep(chunk: Chunk, frame: Frame, result: np.ndarray) -> None:
    """Keep a frame by itself if the disk has room; if not, the run goes on without."""
    with contextlib.suppress(OSError):
        if measure_free_disk(chunk.parts.folder) > result.nbytes + 2 * RESERVE_BYTES:
            chunk.parts.keep_frame(chunk.first + frame.number, frame.pixels, result)


class _FramesLostError(Exception):
    """A seek has lost frames: the chunk is to be decoded from `source` instead."""

    def __init__(self, source: VideoFrames) -> None:
        super().__init__()
        self.source = source


class PartWriter:
    """Encodes the frames of a chunk into parts, one after the other; a context manager.

    A part ends with its chunk, or at a whole second if another one would make it more than about a minute's work.

    Args:
        chunk: Holds the frames.
        source: How they are decoded.
        found: The parts of the chunk that are there already.
        reader: Gives the frames.
        stopwatch: Measures the seconds of writing.

    Attributes:
        made: The parts that are whole.
    """

    def __init__(self, chunk: Chunk, source: Frames, found: Sequence[Part], reader: FrameReader | FrameFiles,
                 stopwatch: Stopwatch) -> None:
        self._chunk = chunk
        self._source = source
        self._is_complete = bool(found)  # whether it is known that no frame is lost
        self._starts = {part.first - chunk.first for part in found}
        self._reader = reader
        self._stopwatch = stopwatch
        self._killed = False
        self._encoder: FrameWriter | None = None
        self._part = ExitStack()  # open resources of the part in progress
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
        with self._stopwatch.measure('write'):
            if self._encoder is None:
                self._first, self._begun = chunk.first + number, result.begun
                self._frames = self._computed = 0
                self._temporary = self._part.enter_context(whole_file(chunk.parts.path(self._first)))
                self._encoder = self._part.enter_context(FrameWriter(chunk.ffmpeg, self._temporary, chunk.encoding))
            self._encoder.write(result.pixels)
            self._frames += 1
            self._computed += result.is_computed
            if result.frame.is_last or number + 1 in self._starts or self._is_long_enough(result):
                self._finish_part(self._encoder, result.frame)

    def _is_long_enough(self, result: Result) -> bool:
        """Tell whether a part may end here and another second would be too much work for it.

        Or too many frames in files of their own: where a second is a minute's work, no more than those of a second.
        """
        step, number = self._chunk.step, result.frame.number
        if not step or (number + 1) % step:
            return False
        return ((result.ended - self._begun) * (1 + step / self._frames) > PART_SECONDS
                or any(self._first <= kept <= self._chunk.first + number for kept in self._chunk.parts.list_frames()))

    def _finish_part(self, encoder: FrameWriter, frame: Frame) -> None:
        encoder.finish()
        self._encoder = None
        self.require_all_frames(frame.number + 1 if frame.is_last else None)
        part = Part(self._first, self._frames, self._computed, frame.is_last,
                    self._reader.damage if frame.is_last else None)
        self._chunk.parts.seal(part, self._temporary)
        self._part.close()
        self._chunk.parts.drop_frames(part.first, part.stop)
        self.made.append(part)

    def require_all_frames(self, count: int | None) -> None:
        """Check that no frame of the chunk is lost, before a part of it counts as whole.

        Args:
            count: How many came, or None if they are still coming.

        Raises:
            _FramesLostError: some are.
        """
        if not self._is_complete:
            source = self._source.reread(count, self._check)
            if source is not None:
                raise _FramesLostError(source)
            self._is_complete = True


def explain_other_ffmpeg(given: str, version: tuple[int, int]) -> str | None:
    """Return why parts of this machine's ffmpeg would not go with those of another's; None if they do.

    Args:
        given: As `find_ffmpeg` takes it.
        version: Of the other machine's ffmpeg.
    """
    try:
        own = find_ffmpeg(given).version
    except MediaError as error:
        return str(error)
    shown = '.'.join(map(str, own)), '.'.join(map(str, version))
    return f'it has ffmpeg {shown[0]}, not {shown[1]}' if own != version else None
