"""A run reports to its caller by events, and the caller stops it; pictures and videos share both."""
from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from .errors import Cancelled
from .log import report_warnings
from .timings import Timings


class Found(NamedTuple):
    """The inputs have been listed.

    Attributes:
        count: How many files will be upscaled. Missing inputs, and videos whose result exists, are not among them.
    """

    count: int  # type: ignore[assignment]  # tuples have a method of this name


class Progress(NamedTuple):
    """Part of a file is done.

    Attributes:
        source: The input.
        done: Tiles of the current picture, with the share of the next that is done, or frames of the video.
        total: How many there will be, or None if that is unknown.
        reused: How many of those done are frames that an earlier run had upscaled.
    """

    source: str
    done: float
    total: int | None
    reused: int = 0


class Warned(NamedTuple):
    """Something did not go as requested. It has been logged too, as a warning, and logging must not suppress those.

    Attributes:
        source: The input that it concerns, or '' if it concerns all.
        message: One line.
    """

    source: str
    message: str


class Finding(NamedTuple):
    """Something that looks wrong about a result.

    Attributes:
        kind: A word or two: 'not finite', 'constant', 'black', 'clipped', 'colour', 'unlike', 'unnatural' or 'tiles'.
        message: One line.
        is_bad: Whether the result is certainly spoilt; else a person should look at it.
    """

    kind: str
    message: str
    is_bad: bool = False


class Verdict(NamedTuple):
    """The verdict on a result in a word: 'good', 'look', or 'bad'.

    Attributes:
        word: 'good' where nothing was found, 'bad' where the result is certainly spoilt.
        reasons: Kinds of findings (`Finding.kind`), the worst first.
        messages: Those of the findings, each of which has been a warning too.
    """

    word: str
    reasons: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f'{self.word} ({", ".join(self.reasons)})' if self.reasons else self.word


class Cell(NamedTuple):
    """An area of a result that looks wrong.

    Attributes:
        x, y, width, height: As shares of the result's width and height.
        weight: How wrong it looks; 1 is the bound.
        kind: What about it: 'black', 'constant', 'colour', 'unlike' or 'tiles'.
    """

    x: float
    y: float
    width: float
    height: float
    weight: float
    kind: str


class Quality(NamedTuple):
    """How a result compares with its input. Levels are those of 8 bits, shares are of 1.

    The first ones are measured of every result, at points spread over it; the rest with `--report`, of all pixels.

    Attributes:
        likeness: PSNR of a small copy of the result against one of the input, in dB.
        colour_shift: By how many levels the mean of blue, green and red has moved.
        not_finite: Share of values that are not finite.
        constant: Share of the area that is constant although the input's is not.
        black: Share of the area that is black although the input's is not.
        clipped: Share of values that are at the end of their range although the input's are not near it.
        tile_step: By how many levels neighbouring pixels differ more at borders of tiles than beside them; None
            without tiles.
        findings: Each thing that looks wrong.
        psnr: Of the result, scaled back to the input's size, against the input, in dB.
        ssim: Structural similarity of the same, up to 1; None of pictures below 7 pixels.
        niqe_before, niqe_after: Naturalness (NIQE) of the input enlarged by bicubic, and of the result; lower is
            better. None where it can't be had: of small or even pictures, or without basicsr.
        gained: How many times as sharp as the input enlarged by bicubic the result's edges are; None without edges.
        cells: Areas that look wrong, the worst first.
    """

    likeness: float
    colour_shift: tuple[float, float, float]
    not_finite: float
    constant: float
    black: float
    clipped: float
    tile_step: float | None
    findings: tuple[Finding, ...] = ()
    psnr: float | None = None
    ssim: float | None = None
    niqe_before: float | None = None
    niqe_after: float | None = None
    gained: float | None = None
    cells: tuple[Cell, ...] = ()


class Preview(NamedTuple):
    """Small pictures for a report, as JPEG files.

    Attributes:
        thumbnail: The whole result.
        before: The place where both differ most, of the input enlarged by bicubic.
        after: The same place of the result.
    """

    thumbnail: bytes
    before: bytes
    after: bytes


class Examined(NamedTuple):
    """A result, or a frame of one, has been compared with its input for a report.

    Attributes:
        source: The input.
        quality: How the result compares. What looks wrong has been reported as `Warned` too.
        preview: Small pictures of both.
        frame: The frame's number from 0 on; None of a picture.
    """

    source: str
    quality: Quality
    preview: Preview | None = None
    frame: int | None = None


class FilmFlicker(NamedTuple):
    """How much luma changes from frame to frame where the input stands still, on an average, in levels of 255.

    Attributes:
        source: Of the input.
        result: Of the frames as the network made them.
        steadied: Of the result, if it was steadied; else None.
        worst: The seconds of the result in which it flickers most, at most three, the worst first; none of a preview.
    """

    source: float
    result: float
    steadied: float | None
    worst: tuple[int, ...] = ()

    def __str__(self) -> str:
        places = ', '.join(str(timedelta(seconds=second)) for second in self.worst)
        return f'{self.summary}, the input {self.source:.2f}' + (places and f'; most at {places}')

    @property
    def summary(self) -> str:
        """The same without the input and the places."""
        steadied = '' if self.steadied is None else f', {self.steadied:.2f} steadied'
        return f'flicker {self.result:.2f} levels{steadied}'


class Tried(NamedTuple):
    """What a preview has found out about a model.

    Attributes:
        model: Its name.
        picture: What it makes of a part of the input, as a JPEG file; empty if it failed.
        speed: Seconds for each megapixel of the input.
        seconds: That the whole run would take; None where its length is unknown.
        size: Bytes of the results, about.
        flicker: Of the part of a video; None if nothing in it stands still.
        error: Why it failed, else None.
    """

    model: str
    picture: bytes
    speed: float
    seconds: float | None
    size: int
    flicker: FilmFlicker | None = None
    error: Exception | None = None


class Outlined(NamedTuple):
    """A dry run, or a preview, has found out about an input.

    Attributes:
        source: The input.
        lines: A line for each point.
        sheet: Path of the picture that a preview has made.
        part: The part of the input that a preview shows, enlarged by bicubic, as a JPEG file.
        tried: The models of a preview.
    """

    source: str
    lines: tuple[str, ...]
    sheet: Path | None = None
    part: bytes = b''
    tried: tuple[Tried, ...] = ()


class Outcome(NamedTuple):
    """How one input ended.

    Attributes:
        source: The input: a path, a URL, or 'stdin'.
        target: Path of the result; None if there is none, or if it went to stdout.
        error: Why it failed, else None.
        skipped: Whether it was left out because its result exists.
        problems: What the result lacks, a line each; a result with problems counts as failed but is kept.
        frames: Frames written; 1 for a picture.
        reused: How many of them an earlier run had upscaled.
        megapixels: Size of the picture that was read; 0 for a video.
        seconds: Wall time from opening the input to the finished result, without the wait for a worker; for pictures,
            the sum of their stages, without waits for other pictures.
        size, result_size: Width and height of the input and of the result.
        timings: Time and memory that the result took, without the frames of an earlier run; None if there is no result.
        comparison: Path of the picture or clip that shows both, if one was asked for.
        flicker: Of a video; None if nothing in it stands still.
        verdict: Whether the result looks right; None where nothing of it was looked at.
    """

    source: str
    target: Path | None = None
    error: BaseException | None = None
    skipped: bool = False
    problems: tuple[str, ...] = ()
    frames: int = 0
    reused: int = 0
    megapixels: float = 0.0
    seconds: float = 0.0
    size: tuple[int, int] = (0, 0)
    result_size: tuple[int, int] = (0, 0)
    timings: Timings | None = None
    comparison: Path | None = None
    flicker: FilmFlicker | None = None
    verdict: Verdict | None = None

    @property
    def failed(self) -> bool:
        """Whether the result is missing or incomplete."""
        return self.error is not None or bool(self.problems)


Event = Found | Progress | Warned | Examined | Outlined | Outcome


class _CallerError(BaseException):
    """Carries an error of `on_event` past everything that takes errors for those of a picture or a task."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Run:
    """Connects a run to its caller: events go out, cancellation comes in.

    Other threads of the run may use it too; their events are reported by the thread that made it, when that next
    emits or checks something.

    Args:
        on_event: Called with each event, in the thread that makes this object. What it raises ends the run.
        cancel: Ends the run when it is set, from any thread.
    """

    def __init__(self, on_event: Callable[[Event], None] | None, cancel: threading.Event | None) -> None:
        self._on_event = on_event
        self.cancel = cancel or threading.Event()
        self._thread = threading.get_ident()
        self._end: BaseException | None = None
        self._waiting: SimpleQueue[Event] = SimpleQueue()  # of other threads, and warnings

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Report warnings that are logged inside the block as events, and raise the error of `on_event`."""
        if self._on_event is None:  # or warnings would count as handled, and Python no longer print them
            yield
            return
        try:
            with report_warnings(lambda source, message: self._waiting.put(Warned(source, message))):
                try:
                    yield
                finally:
                    self._report_waiting()
        except _CallerError as wrapped:
            raise wrapped.error from None

    def stop(self, error: BaseException | None = None) -> None:
        """Let the next `check` of any thread raise an error; None is `Cancelled`."""
        self._end = self._end or error or Cancelled()

    def check(self) -> None:
        """Report waiting events, and end the run if the caller wants that.

        Raises:
            Cancelled: the caller has set `cancel`.
            BaseException: the run was stopped by it.
        """
        if threading.get_ident() == self._thread:
            self._report_waiting()
        if self.cancel.is_set():
            raise Cancelled
        if self._end is not None:
            raise self._end

    def emit(self, event: Event) -> None:
        """Report an event, and end the run if the caller wants that.

        Raises:
            Cancelled: see `check`.
        """
        if threading.get_ident() == self._thread:
            self._report_waiting()
            self._call(event)
        else:
            self._waiting.put(event)
        self.check()

    def _report_waiting(self) -> None:
        while not self._waiting.empty():
            self._call(self._waiting.get())

    def _call(self, event: Event) -> None:
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:
            self._on_event = None  # it has ended the run
            raise _CallerError(error) from None
