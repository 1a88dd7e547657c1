"""Frame rates and times as exact fractions, and how a frame rate is chosen by the time stamps of a video."""
from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

#: The rates that rounded decimals and measured averages stand for.
_USUAL_RATES = tuple(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)) + tuple(
    Fraction(rate) for rate in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240))
_MAX_REORDERING = 32  # frames; H.264 and HEVC allow 16
_ROUNDING = Fraction(1, 10 ** 6)
_MAX_PLAUSIBLE_RATE = 240  # above it, r_frame_rate is the container's clock and not a frame rate
_MAX_GIVEN_RATE = 1000
#: How far a frame may be moved in time: less than anyone notices between picture and sound.
_TOLERANCE = Fraction(1, 20)
_LENGTHENED = Fraction(1, 10)  # by how much a constant rate may prolong the last frame, whose duration is often a guess
_MAX_REPEATING_RATE = 60  # to place repeated frames a little better, no more are encoded
_MAX_CLOCK_ERROR = Fraction(1, 200)
_MAX_HOLD = 12 * 3600  # seconds; a last frame that is shown longer has a duration that makes no sense
_MAX_MULTIPLES = 600
_NEAR = Fraction(1, 100)
_MAX_DENOMINATOR = 1001


@dataclass(frozen=True)
class TimeStamps:
    """When the frames of a video are shown.

    Attributes:
        pts: One for each frame, ascending, in units of `time_base`.
        time_base: Seconds.
        complete: Whether every packet has a time stamp of its own. If some lack one, the others can't be trusted.
        derived: Whether `pts` are times of decoding, because the time stamps are incomplete. They lie as far apart as
            the times at which the frames are shown.
        repeats: Whether every packet has a time stamp, but some have the same, as Matroska's milliseconds may be.
        end: When the last frame ends, or None if that is unknown.
        packets: Number of packets, including those without a time stamp.
        keys: Time stamps of the key frames, ascending.
        in_order: Whether the clock runs steadily, without a jump such as two joined recordings have.
        hides_packets: Whether the container cuts off frames that are decoded all the same, as an edit list does.
    """

    pts: tuple[int, ...]
    time_base: Fraction
    complete: bool
    packets: int = 0
    keys: tuple[int, ...] = ()
    in_order: bool = True
    hides_packets: bool = False
    derived: bool = False
    repeats: bool = False
    end: int | None = None

    def get_time(self, index: int) -> Fraction:
        """Return the time of a frame in seconds."""
        return self.pts[index] * self.time_base

    def get_time_before(self, index: int) -> Fraction:
        """Return the time halfway between a frame and its predecessor, in seconds, and a little later.

        A cut there is safe: rounding the time to microseconds and then to `time_base`, which may be as long as a frame,
        can't move it to the other side of a frame.
        """
        return (self.get_time(index - 1) + self.get_time(index)) / 2 + _ROUNDING

    def find_first_from(self, time: Fraction) -> int:
        """Return the index of the first frame shown at `time` (seconds) or later; the number of frames if none is."""
        return bisect_left(self.pts, time / self.time_base)

    def is_constant(self, rate: Fraction) -> bool:
        """Return whether frames shown one by one on the ticks of `rate` are at most a tick early or late, and 50 ms.

        Millisecond clocks, jitter and the frame missing from AVI files written by ffmpeg cause that much. Nobody
        notices the shift, but a repeated or dropped frame would be visible. The last frame must end in time too.
        """
        frame, zero = self.time_base * rate, self.pts[0]
        if self.end is not None:
            late = (self.end - zero) * frame - len(self.pts)
            if not -_LENGTHENED * rate <= late <= _TOLERANCE * rate:
                return False
        # Integers only, because films have many frames.
        ticks, units = frame.numerator, frame.denominator
        allowed = math.floor(min(Fraction(3, 2), _TOLERANCE * rate) * units)
        return all(abs((pts - zero) * ticks - index * units) <= allowed for index, pts in enumerate(self.pts))

    @property
    def is_timed(self) -> bool:
        """Whether the frames' distances in time are known."""
        return self.in_order and (self.complete or self.derived or self.repeats)

    def count_ticks(self, rate: Fraction, *, drop: bool = False) -> int:
        """Return how many frames show the video at `rate`, the last one up to its end.

        Args:
            rate: Ticks a second.
            drop: Whether frames that share a tick are dropped, and the last one if it would lengthen the video;
                otherwise each has a tick of its own, if need be the next free one.
        """
        frame, zero = self.time_base * rate, self.pts[0]
        ticks, units = frame.numerator, frame.denominator
        if drop:
            last = (self.pts[-1] - zero) * ticks // units
        else:
            after = len(self.pts) - 1
            last = max((2 * (pts - zero) * ticks + units) // (2 * units) + after - index
                       for index, pts in enumerate(self.pts))
        return max(last + 1, _round_half_up(((self.end or 0) - zero) * frame))

    def fits(self, rate: Fraction, tolerance: Fraction, *, push: bool) -> bool:
        """Return whether each frame has a tick of `rate` of its own within `tolerance` (seconds) of its time.

        The end must be within 50 ms of a tick too. With `push`, frames that share a tick are moved to the next free
        ones.
        """
        frame, zero = self.time_base * rate, self.pts[0]
        ticks, units = frame.numerator, frame.denominator
        allowed = math.floor(tolerance * rate * units)
        last = -1
        for pts in self.pts:
            time = (pts - zero) * ticks
            tick = (2 * time + units) // (2 * units)
            if tick <= last:
                if not push:
                    return False
                tick = last + 1
            if abs(time - tick * units) > allowed:
                return False
            last = tick
        if self.end is None:
            return True
        end = (self.end - zero) * frame
        return abs(end - max(last + 1, _round_half_up(end))) <= _TOLERANCE * rate

    def measure_spread(self, rate: Fraction) -> Fraction:
        """Return by how many seconds frames are early or late in all, if they are shown on the ticks of `rate`.

        The first quarter does not count: the first time stamps may be guesses, where frames are reordered.
        """
        frame = self.time_base * rate
        ticks, units = frame.numerator, frame.denominator
        errors = [pts * ticks - index * units for index, pts in enumerate(self.pts[len(self.pts) // 4:])]
        return Fraction(max(errors) - min(errors), units) / rate

    def fit_rates(self) -> list[Fraction]:
        """Return the constant rates that come nearest to the time stamps, the best first."""
        pts = self.pts[len(self.pts) // 4:]
        if len(pts) < 2:
            return []
        mean = (len(pts) - 1) / ((pts[-1] - pts[0]) * self.time_base)
        near = [rate for rate in _USUAL_RATES if abs(rate / mean - 1) < _NEAR]
        return [*sorted(near, key=self.measure_spread), mean.limit_denominator(_MAX_DENOMINATOR)]


@dataclass(frozen=True)
class Timeline:
    """The constant rate at which a video is shown.

    Attributes:
        rate: Frames a second.
        constant: Whether each frame is shown for one tick of it. Otherwise frames are repeated, so that all are shown
            at their times.
        crowded: Whether frames come so close that some share their nearest tick and must be moved to the next free one.
    """

    rate: Fraction
    constant: bool
    crowded: bool = False


def choose_timeline(stamps: TimeStamps | None, real: Fraction | None, average: Fraction | None,
                    duration: Fraction | None = None) -> Timeline:
    """Choose the constant rate at which a video is shown, without losing a frame.

    The times of its frames decide: their time stamps or, where these are incomplete, the times of decoding, in which
    repeated fields and empty packets count. Nominal rates are guesses to try first. In this order:

    1. A constant rate: one of the guesses or, if the time stamps contradict them, what fits the time stamps best; first
       those that explain them but for the rounding of the clock.
    2. The lowest rate, up to 60, of which all frames are on ticks, as exactly as the clock of the file; before any
       higher ones ffprobe's r_frame_rate, if it shows every frame within 50 ms.
    3. The lowest usual rate that shows every frame within 50 ms; if none has a tick for each, with frames that come at
       once moved apart.

    Each frame has a tick of its own, and the last one ends within 50 ms of its time.

    Without times the guess that best explains the number of frames and the duration is taken.

    Args:
        stamps: The times of its frames, or None if they can't be read in advance.
        real: ffprobe's r_frame_rate, a guess from the first frames: the lowest rate that fits all time stamps.
        average: ffprobe's avg_frame_rate.
        duration: Seconds, or None.
    """
    # Nanoseconds in Matroska and small denominators in ffmpeg turn 60000/1001 into 19001/317.
    guesses = [round_to_usual_rate(rate, _ROUNDING) for rate in (real, average)
               if rate and rate <= _MAX_PLAUSIBLE_RATE]
    guesses += [round_to_usual_rate(rate) for rate in guesses]
    first = guesses[0] if guesses else Fraction(24)
    if stamps is None:
        return Timeline(first, bool(guesses) and real == average)
    if not stamps.in_order:
        return Timeline(first, constant=False)
    if not stamps.is_timed:
        if guesses and duration:
            first = min(guesses, key=lambda rate: abs(stamps.packets / rate - duration))
        return Timeline(first, bool(guesses))
    constant = [rate for rate in dict.fromkeys([*guesses, *stamps.fit_rates()]) if stamps.is_constant(rate)]
    if constant:
        rounding = 2 * min(stamps.time_base, _MAX_CLOCK_ERROR)
        exact = (rate for rate in constant if stamps.measure_spread(rate) <= rounding)
        return Timeline(next(exact, constant[0]), constant=True)
    return _choose_ticks(stamps, first if guesses and real else None)


def _choose_ticks(stamps: TimeStamps, real: Fraction | None) -> Timeline:
    """Choose the ticks for frames that no constant rate fits; see `choose_timeline`, from 2. on."""
    step = math.gcd(*(pts - stamps.pts[0] for pts in stamps.pts)) * stamps.time_base or Fraction(1)
    count = min(math.floor(_MAX_REPEATING_RATE * step), _MAX_MULTIPLES)
    multiples = (factor / step for factor in range(1, count + 1))
    exact = sorted({*multiples, *(rate for rate in _USUAL_RATES if rate <= _MAX_REPEATING_RATE)})
    exactly = min(stamps.time_base, _MAX_CLOCK_ERROR)
    tries = [(rate, exactly, False) for rate in exact]
    if real is not None and real <= _MAX_REPEATING_RATE:
        tries.insert(bisect_left(exact, real), (real, _TOLERANCE, False))
    tries += [(rate, _TOLERANCE, push) for push in (False, True) for rate in sorted(_USUAL_RATES)]
    for rate, tolerance, push in tries:
        if stamps.fits(rate, tolerance, push=push):
            if real is not None and abs(real / rate - 1) < _NEAR and stamps.fits(real, tolerance, push=push):
                rate = real  # 120, not 120000/1001
            return Timeline(rate, constant=False, crowded=push)
    return Timeline(Fraction(_MAX_GIVEN_RATE), constant=False, crowded=True)


def _round_half_up(value: Fraction) -> int:
    """Return the nearest whole number; of two the higher one, as ffmpeg's fps filter does."""
    return math.floor(value + Fraction(1, 2))


def round_to_usual_rate(rate: Fraction, tolerance: Fraction = Fraction(1, 5000)) -> Fraction:
    """Return the nearest usual rate if it differs from `rate` by less than `tolerance` of it, else `rate`."""
    nearest = min(_USUAL_RATES, key=lambda known: abs(known - rate))
    return nearest if abs(nearest / rate - 1) < tolerance else rate


def parse_fraction(text: object) -> Fraction | None:
    """Parse a number from ffprobe, such as '30000/1001', '4:3' or '1.25'; None if it is unknown or not above 0."""
    try:
        value = Fraction(str(text).replace(':', '/'))
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


def parse_rate(text: str) -> Fraction:
    """Parse a frame rate given by the user; 23.976 means 24000/1001.

    Raises:
        ValueError: it is not a frame rate.
    """
    rate = parse_fraction(text)
    if rate is None or rate > _MAX_GIVEN_RATE:
        raise ValueError(f'{text!r} is not a frame rate; write it as 25, 29.97 or 30000/1001')
    return round_to_usual_rate(rate)


def parse_time(text: str) -> Fraction:
    """Parse a time given by the user, as seconds, M:S or H:M:S, with or without decimals.

    Returns:
        Seconds.

    Raises:
        ValueError: it is not a time.
    """
    if not re.fullmatch(r'(\d+:){0,2}\d+(\.\d*)?|\.\d+', text):
        raise ValueError(f'{text!r} is not a time; write it as 90, 1:30 or 0:01:30.5')
    total = Fraction(0)
    for part in text.split(':'):
        total = total * 60 + Fraction(part)
    return total


def format_clock(seconds: Fraction | float) -> str:
    """Format a time for people: 0:01:30.500."""
    thousandths = round(seconds * 1000)
    return f'{thousandths // 3600000}:{thousandths // 60000 % 60:02}:{thousandths // 1000 % 60:02}' \
           f'.{thousandths % 1000:03}'


def format_seconds(value: Fraction) -> str:
    """Format a time for ffmpeg, which counts in microseconds itself."""
    sign, millionths = '-' if value < 0 else '', abs(round(value * 1000000))
    return f'{sign}{millionths // 1000000}.{millionths % 1000000:06}'


def collect_time_stamps(pts: Sequence[int | None], time_base: Fraction, keys: Sequence[int] = (), *,
                        dts: Sequence[int | None] = (), durations: Sequence[int | None] = (),
                        end: Fraction | None = None) -> TimeStamps:
    """Sort the time stamps of packets, which come in decoding order.

    Args:
        pts: One for each packet, in units of `time_base`; None for a packet without one.
        time_base: Seconds.
        keys: Those of the key frames.
        dts: Times of decoding, which stand in for incomplete time stamps if they are complete themselves.
        durations: Of the packets, in units of `time_base`.
        end: When the container says that the video ends, in seconds, or None.
    """
    def is_complete(values: Sequence[int | None]) -> bool:
        return len(values) == len(pts) == len(set(values)) and None not in values

    complete = is_complete(pts)
    derived = not complete and is_complete(dts)
    repeats = not (complete or derived or None in pts) and len(pts) < 2 * len(set(pts))  # few: most are true
    known = [value for value in (dts if derived else pts) if value is not None]
    shown = sorted(range(len(known)), key=known.__getitem__)
    stop = None
    if known and (complete or derived or repeats):
        length = durations[shown[-1]] if durations else None
        stops = [known[shown[-1]] + length if length and length > 0 else 0, round(end / time_base) if end else 0]
        hold = (max(stops) - known[shown[-1]]) * time_base
        stop = max(stops) if 0 < hold <= _MAX_HOLD else None
    return TimeStamps(tuple(known[index] for index in shown), time_base, complete=complete, packets=len(pts),
                      keys=tuple(sorted(keys)), derived=derived, repeats=repeats, end=stop,
                      in_order=all(abs(rank - index) <= _MAX_REORDERING for rank, index in enumerate(shown)))
