"""The chunks of a video, and the work of each worker: upscaling them to parts."""
from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np

from ..engines.memory import MemoryLog
from ..enhancers import BuildEnhancer, build_enhancer, measure_timings
from ..errors import MediaError, RealESRGANError, VideoError
from ..events import Examined, FilmFlicker
from ..ffmpeg.decoder import Damage, FrameReader
from ..ffmpeg.encoder import Encoding, FrameWriter
from ..ffmpeg.programs import FFmpeg, find_ffmpeg
from ..files import measure_free_disk, whole_file
from ..log import about
from ..options import VideoOptions
from ..pipeline import read_ahead, write_behind
from ..pool.pool import Place, Report
from ..quality.checks import judge
from ..quality.comparisons import convert_to_bgr8
from ..timings import Stopwatch, Timings
from .animations import Animation
from .frames import FrameFiles, VideoFrames
from .parts import RESERVE_BYTES, Part, Parts
from .steady import RADIUS, Flicker, Steadier, is_measured, measure_flicker

#: How much work a part holds, and so how much a killed run loses, at most: about a minute.
PART_SECONDS = 60.0
_READ_AHEAD = 4  # frames
_STEADIED_BEHIND = _WRITTEN_BEHIND = 2


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
        outscale: Final size as a multiple of the input's; None is that of `encoding`.
        parts: The folder of parts.
        step: Frames in a second, at multiples of which a part may end so that not too much work is in it; 0: the chunk
            is one part.
        samples: Which of its frames are compared with their source, counted from its own first.
        before, after: The few frames before and after it, which steady its own and are measured with them, or None.
    """

    video: str
    index: int
    first: int
    stop: int | None
    frames: VideoFrames | FrameFiles | Animation
    encoding: Encoding
    ffmpeg: FFmpeg
    outscale: float | None
    parts: Parts
    step: int = 0
    samples: frozenset[int] = frozenset()
    before: VideoFrames | FrameFiles | Animation | None = None
    after: VideoFrames | FrameFiles | Animation | None = None

    def __str__(self) -> str:
        return f'part {self.parts.path(self.first).name} of {self.video}'

    def is_done(self, parts: Sequence[Part]) -> bool:
        """Tell whether parts, in order, hold all of its frames."""
        starts = [self.first, *(part.stop for part in parts)]
        return bool(parts) and parts[-1].is_last and [part.first for part in parts] == starts[:-1]


@dataclass(frozen=True)
class Upscaled:
    """The result of a worker for a chunk.

    Attributes:
        parts: Those that hold it, in order, also if an earlier run has made them; none if it has no frame.
        damage: The first sign of damage while it was decoded, by the number in the chunk.
        reused: How many frames of new parts an earlier run has upscaled.
        timings: Time and memory that took; None if an earlier run has done it.
    """

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


@dataclass
class Frame:
    """A frame on its way through the network.

    Attributes:
        number: In the chunk; those before it have numbers below 0.
        pixels: HxWx3, BGR, or HxWx4, BGRA; uint8 or uint16.
        is_last: Whether the chunk ends with it.
        is_wanted: Whether a new part is to hold it; others only steady those.
        result: The upscaled frame.
        steadied: The same as it is written.
        is_computed: Whether it went through the network now.
        is_reused: Whether an earlier run has upscaled it.
        begun, ended: When, in seconds.
    """

    number: int
    pixels: np.ndarray
    is_last: bool = False
    is_wanted: bool = True
    result: np.ndarray = field(default_factory=lambda: np.empty(0))
    steadied: np.ndarray = field(default_factory=lambda: np.empty(0))
    is_computed: bool = False
    is_reused: bool = False
    begun: float = 0.0
    ended: float = 0.0


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
        self._all_pixels = options.check
        self._model, self._stopwatch = options.label, Stopwatch()
        with self._stopwatch.measure('load'):
            self._enhancer = build(options, place)
        self._strength = options.strength
        self._steady = options.steady
        self._alpha_upsampler = options.alpha_upsampler
        self._ffmpeg: FFmpeg | None = find_ffmpeg(options.ffmpeg_bin) if finds_ffmpeg else None
        self._clock = clock
        self._memory = MemoryLog()

    def __call__(self, chunk: Chunk, report: Report) -> Upscaled:
        """Upscale the frames of a chunk that no part holds yet; one that equals the one before is not computed again.

        Where a single second of the video is more than about a minute's work, each frame is kept in a file until the
        part that holds it is whole.

        Raises:
            VideoError: a frame failed.
            MediaError: decoding or encoding failed.
            MemoryError: not enough memory for a frame.
            OSError: a part can't be written.
        """
        chunk, parts, stopwatch = replace(chunk, ffmpeg=self._ffmpeg or chunk.ffmpeg), chunk.parts, self._stopwatch
        self._stopwatch = Stopwatch()
        found = parts.find(chunk.first, chunk.stop)  # of an earlier run, or of a worker that has died
        done, reused = sum(part.frames for part in found), 0
        examined = deque[Examined]()  # by the thread that writes
        report(done)
        with about(chunk.video), chunk.frames.open(chunk.ffmpeg) as reader, PartWriter(
                chunk, {part.first - chunk.first for part in found}, reader, stopwatch) as writer:
            def write(frame: Frame) -> None:
                if frame.is_wanted and frame.number in chunk.samples:
                    examined.extend(self._judge(chunk, frame, stopwatch))
                writer.write(frame)

            frames = stopwatch.measure_each('read', read_frames(chunk, reader, found, RADIUS if self._steady else 0))
            with read_ahead(frames, _READ_AHEAD, reader.kill) as ahead, write_behind(
                    write, _WRITTEN_BEHIND, writer.kill) as behind, steady_behind(
                    behind.put, stopwatch, writer.kill) if self._steady else nullcontext(behind.put) as put:
                for frame in self._upscale(chunk, ahead, stopwatch):
                    reused += frame.is_reused and frame.is_wanted
                    _keep(chunk, frame)
                    done += frame.is_wanted
                    report(done)
                    self._memory.update()
                    put(frame)
                    for _ in range(len(examined)):
                        report(examined.popleft())
            self._memory.update(at_once=True)
        for each in examined:
            report(each)
        made = sorted([*found, *writer.made], key=lambda part: part.first)
        return Upscaled(tuple(made), reader.damage, reused, measure_timings(self._enhancer, stopwatch, self._model))

    def _judge(self, chunk: Chunk, frame: Frame, stopwatch: Stopwatch) -> Iterator[Examined]:
        number = chunk.first + frame.number
        with stopwatch.measure('check'):
            judged = judge(frame.pixels, frame.steadied, self._enhancer.tiles, all_pixels=self._all_pixels,
                           frame=number)
        if judged is not None:
            yield Examined(chunk.video, *judged, number)

    def _upscale(self, chunk: Chunk, frames: Iterable[Frame], stopwatch: Stopwatch) -> Iterator[Frame]:
        """Yield frames with their results, in order, each when as many after it are in work as the device may have."""
        waiting = deque[tuple[Frame, Callable[[], np.ndarray]]]()
        last, ended = None, 0.0

        def finish(frame: Frame, wait: Callable[[], np.ndarray]) -> Frame:
            nonlocal ended
            with self._name_frame(chunk, frame), stopwatch.measure('network'):
                frame.steadied = frame.result = wait()
            frame.begun, frame.ended = max(frame.begun, ended), self._clock()
            ended = frame.ended
            return frame

        for frame in frames:
            frame.begun = self._clock()
            if last is not None and np.array_equal(frame.pixels, last.pixels):
                waiting.append((frame, partial(getattr, last, 'result')))  # which is there by then
            else:
                kept, last = chunk.parts.load_frame(chunk.first + frame.number, frame.pixels, chunk.encoding), frame
                if kept is not None:
                    frame.is_reused, frame.result = True, kept
                    waiting.append((frame, partial(getattr, frame, 'result')))
                else:
                    frame.is_computed = True
                    with self._name_frame(chunk, frame), stopwatch.measure('network'):
                        waiting.append((frame, self._submit(chunk, frame)))
            while len(waiting) > self._enhancer.in_flight:
                yield finish(*waiting.popleft())
        while waiting:
            yield finish(*waiting.popleft())

    def _submit(self, chunk: Chunk, frame: Frame) -> Callable[[], np.ndarray]:
        """Begin a frame; return what waits for its result."""
        size = (chunk.encoding.width, chunk.encoding.height) if chunk.outscale is None else None
        more: dict[str, Any] = {'size': size, 'strength': self._strength}
        if chunk.encoding.alpha and frame.pixels[..., 3].min() < np.iinfo(frame.pixels.dtype).max:
            wait = self._enhancer.submit(frame.pixels, chunk.outscale, self._alpha_upsampler, **more)
            return lambda: wait()[0]
        wait = self._enhancer.submit(np.ascontiguousarray(frame.pixels[..., :3]), chunk.outscale, **more)
        return lambda: cv2.cvtColor(wait()[0], cv2.COLOR_BGR2BGRA) if chunk.encoding.alpha else wait()[0]

    @contextmanager
    def _name_frame(self, chunk: Chunk, frame: Frame) -> Iterator[None]:
        """Name a frame in errors that it raises."""
        number = chunk.first + frame.number + 1
        try:
            yield
        except MemoryError as error:
            raise MemoryError(f'frame {number}: {error}') from error
        except RealESRGANError as error:
            raise VideoError(f'frame {number}: {error}') from error


def read_frames(chunk: Chunk, reader: FrameReader | FrameFiles | Animation, found: Sequence[Part],
                radius: int) -> Iterator[Frame]:
    """Yield the frames of a chunk that no part holds yet, and those that steady them or that they are measured against.

    Args:
        chunk: The chunk.
        reader: Gives its frames.
        found: The parts of it that are there.
        radius: How many frames on either side steady one.
    """
    there = [range(part.first - chunk.first, part.stop - chunk.first) for part in found]
    end = there[-1].stop if found and found[-1].is_last else sys.maxsize

    def is_wanted(number: int) -> bool:
        return 0 <= number < end and not any(number in numbers for numbers in there)

    def is_needed(number: int) -> bool:
        following = number + radius + 1  # if measured, it needs the one before it steadied
        return any(map(is_wanted, range(number - radius, following))) or (
            is_wanted(following) and is_measured(chunk.first + following, chunk.encoding.rate))

    def read_around() -> Iterator[Frame]:
        nonlocal end
        before = _read_all(chunk, chunk.before) if is_needed(-1) else []
        yield from (Frame(number, pixels) for number, pixels in enumerate(before, -len(before)))
        count = 0
        for frame in number_frames(reader):
            count = frame.number + 1
            yield frame
        end = count
        after = _read_all(chunk, chunk.after) if is_needed(count) else []
        yield from (Frame(number, pixels) for number, pixels in enumerate(after, count))

    for frame in read_around():
        if is_needed(frame.number):
            yield replace(frame, is_wanted=is_wanted(frame.number))


def _read_all(chunk: Chunk, frames: VideoFrames | FrameFiles | Animation | None) -> list[np.ndarray]:
    """Return the frames before or after a chunk, at most `RADIUS` + 1."""
    if frames is None:
        return []
    with frames.open(chunk.ffmpeg) as reader:
        return list(itertools.islice(reader, RADIUS + 1))


def number_frames(frames: Iterable[np.ndarray]) -> Iterator[Frame]:
    """Yield frames with their numbers, each when the next has come, so that the last one is known as such."""
    iterator = enumerate(frames)
    current = next(iterator, None)
    while current is not None:
        following = next(iterator, None)
        yield Frame(*current, is_last=following is None)
        current = following


def _keep(chunk: Chunk, frame: Frame) -> None:
    """Keep a new result in a file if it took long, and the disk has room; else the run goes on without."""
    if not (frame.is_computed and frame.is_wanted and (frame.ended - frame.begun) * chunk.step > PART_SECONDS):
        return
    with contextlib.suppress(OSError):
        if measure_free_disk(chunk.parts.folder) > frame.result.nbytes + 2 * RESERVE_BYTES:
            chunk.parts.keep_frame(chunk.first + frame.number, frame.pixels, frame.result)


@contextmanager
def steady_behind(put: Callable[[Frame], None], stopwatch: Stopwatch,
                  stop: Callable[[], None]) -> Iterator[Callable[[Frame], None]]:
    """Steady frames in a thread; a context whose value takes one, in order. Their transparency stays as it is.

    Args:
        put: Called with each that is steadied.
        stopwatch: Measures the seconds of it.
        stop: See `write_behind`.
    """
    steadier, waiting = Steadier(), dict[int, Frame]()

    def steady(frame: Frame | None) -> None:
        with stopwatch.measure('steady'):
            if frame is None:  # that was the last
                ready = list(steadier.finish())
            else:
                waiting[frame.number] = frame
                colours = (np.ascontiguousarray(pixels[..., :3]) for pixels in (frame.pixels, frame.result))
                ready = list(steadier.add(frame.number, *colours))
        for number, result in ready:
            steadied = waiting.pop(number)
            if steadied.result.shape[2] == 4:
                result = np.dstack((result, steadied.result[..., 3]))
            steadied.steadied = result
            put(steadied)

    with write_behind(steady, _STEADIED_BEHIND, stop) as behind:
        yield behind.put
        behind.put(None)


def measure_pair(before: Frame, frame: Frame) -> Flicker:
    """Measure the flicker between a frame and the one before it; what is hidden does not flicker."""
    pairs = [(before.pixels, frame.pixels), (before.result, frame.result), (before.steadied, frame.steadied)]
    if frame.pixels.shape[2] == 4:
        pairs = [(convert_to_bgr8(one), convert_to_bgr8(other)) for one, other in pairs]
    return measure_flicker(*pairs)


def judge_frames(sources: Sequence[np.ndarray], results: Sequence[np.ndarray], *, shown: int, stop: int,
                 steady: bool) -> tuple[np.ndarray, FilmFlicker | None]:
    """Return how one of a few frames is written, and how much they flicker from it on.

    Args:
        sources: The frames, one after the other.
        results: What a network makes of them.
        shown: The index of that one, which is the first that is measured.
        stop: That after the last one that is measured.
        steady: Whether they are steadied.
    """
    frames = [Frame(number, pixels, result=result, steadied=result)
              for number, (pixels, result) in enumerate(zip(sources, results, strict=True))]
    if steady:
        with steady_behind(lambda _: None, Stopwatch(), lambda: None) as put:
            for frame in frames:
                put(frame)
    flicker = sum(itertools.starmap(measure_pair, itertools.pairwise(frames[shown:stop])), Flicker())
    return frames[shown].steadied, flicker.average(steadied=steady)


class PartWriter:
    """Encodes the frames of a chunk into parts, one after the other, each whole or not at all; a context manager.

    A part ends with its chunk, or at a whole second if another one would make it more than about a minute's work.

    Args:
        chunk: Holds the frames.
        starts: Numbers, in the chunk, of the frames that begin parts which are there already.
        reader: Gives the frames.
        stopwatch: Measures the seconds of writing.

    Attributes:
        made: The parts that are whole.
    """

    def __init__(self, chunk: Chunk, starts: set[int], reader: FrameReader | FrameFiles | Animation,
                 stopwatch: Stopwatch) -> None:
        self._chunk = chunk
        self._starts = starts
        self._reader = reader
        self._stopwatch = stopwatch
        self._encoder: FrameWriter | None = None
        self._part = ExitStack()  # open resources of the part in progress
        self._temporary = Path()
        self._first = self._frames = self._computed = 0
        self._begun = 0.0
        self._last: Frame | None = None
        self._flicker = defaultdict[int, Flicker](Flicker)  # by the second
        self.made: list[Part] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self._part.__exit__(*exception)

    def kill(self) -> None:
        """Stop encoding at once. A thread that is writing a frame gets an error."""
        if self._encoder is not None:
            self._encoder.kill()

    def write(self, frame: Frame) -> None:
        """Encode a frame, and finish the part if it ends there. Others that are not wanted are only measured against.

        Raises:
            MediaError: encoding failed.
            OSError: the part can't be written.
        """
        chunk, parts, following = self._chunk, self._chunk.parts, frame.number + 1
        before, self._last = self._last, frame
        if not frame.is_wanted:
            return
        with self._stopwatch.measure('write'):
            if self._encoder is None:
                self._first, self._begun = chunk.first + frame.number, frame.begun
                self._frames = self._computed = 0
                self._flicker.clear()
                self._temporary = self._part.enter_context(whole_file(parts.path(self._first)))
                self._encoder = self._part.enter_context(FrameWriter(chunk.ffmpeg, self._temporary, chunk.encoding))
            result = frame.steadied
            if chunk.encoding.clears_hidden:
                result = result * (result[..., 3:] > 0)
            self._encoder.write(result)
            self._frames += 1
            self._computed += frame.is_computed
            place, rate = chunk.first + frame.number, chunk.encoding.rate
            if before is not None and before.number + 1 == frame.number and is_measured(place, rate):
                self._flicker[int(place / rate)] += measure_pair(before, frame)
            if frame.is_last or following in self._starts or self._is_long_enough(frame):
                self._encoder.finish()
                part = Part(self._first, self._frames, self._computed, frame.is_last,
                            self._reader.damage if frame.is_last else None,
                            tuple((second, astuple(flicker)) for second, flicker in self._flicker.items()))
                parts.seal(part, self._temporary)
                self._encoder = None
                self._part.close()
                parts.drop_frames(part.first, part.stop)
                self.made.append(part)

    def _is_long_enough(self, frame: Frame) -> bool:
        """Tell whether a part may end here and another second would be too much work for it.

        Or too many frames in files of their own: where a second is a minute's work, no more than those of a second.
        """
        step = self._chunk.step
        if not step or (frame.number + 1) % step:
            return False
        return ((frame.ended - self._begun) * (1 + step / self._frames) > PART_SECONDS or any(
            self._first <= kept <= self._chunk.first + frame.number for kept in self._chunk.parts.list_frames()))


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
