"""Frame rates and times as exact fractions, and what the time stamps of a video say about its rate."""
from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

#: Rates that decimals and averages stand for.
_USUAL_RATES = tuple(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)) + tuple(
    Fraction(rate) for rate in (10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240))
_FARTHEST_REORDERING = 32  # frames; H.264 and HEVC allow 16
_ROUNDING = Fraction(1, 10 ** 6)
_HIGHEST_RATE = 240  # above it, r_frame_rate is the clock of the container and no rate


@dataclass(frozen=True)
class TimeStamps:
    """When the frames of a video are shown.

    Attributes:
        pts: In units of `time_base`, ascending, one for each frame.
        time_base: Seconds.
        complete: Whether each frame has one; where some lack it, nothing is known of the others either.
        packets: The number of packets, those without a time stamp too.
        keys: Those of the key frames, ascending.
        in_order: Whether the clock runs on: no jump in it, as where two recordings were put together.
    """

    pts: tuple[int, ...]
    time_base: Fraction
    complete: bool
    packets: int = 0
    keys: tuple[int, ...] = ()
    in_order: bool = True

    def time(self, index: int) -> Fraction:
        """Return the time of a frame in seconds."""
        return self.pts[index] * self.time_base

    def before(self, index: int) -> Fraction:
        """Return a time between a frame and the one before, so that no rounding decides which of them is the first."""
        return (self.time(index - 1) + self.time(index)) / 2

    def first_at_or_after(self, time: Fraction) -> int:
        """Return the index of the first frame shown at `time` or later; the number of frames if there is none."""
        return bisect_left(self.pts, time / self.time_base)

    def is_constant(self, rate: Fraction) -> bool:
        """Tell whether the frames, shown one on each tick of `rate`, are never more than a tick early or late.

        That much comes of clocks of milliseconds, of jitter, and of the frame that AVI files of ffmpeg leave out;
        repeating or dropping a frame for it would be seen, and the shift is not heard.
        """
        frame = self.time_base * rate
        double = 2 * frame.denominator
        return all(abs((2 * (pts - self.pts[0]) * frame.numerator + frame.denominator) // double - index) <= 1
                   for index, pts in enumerate(self.pts))


def frame_rate(stamps: TimeStamps | None, real: Fraction | None, average: Fraction | None) -> tuple[Fraction, bool]:
    """Return a video's rate, and whether it is constant.

    Args:
        stamps: Its time stamps, or None where they can't be read in advance.
        real: What ffprobe calls r_frame_rate: the lowest that all time stamps fit, a guess from the first frames.
        average: What ffprobe calls avg_frame_rate.
    """
    # Matroska's nanoseconds and ffmpeg's small denominators make 19001/317 of 60000/1001.
    guesses = [usual(rate, _ROUNDING) for rate in (real, average) if rate and rate <= _HIGHEST_RATE]
    guesses += [usual(rate) for rate in guesses]
    if not guesses:
        return Fraction(24), False
    if stamps is None:
        return guesses[0], real == average
    if not stamps.complete or len(stamps.pts) < 2:
        return guesses[0], True
    for rate in guesses:
        if stamps.is_constant(rate):
            return rate, True
    return guesses[0] if guesses[0] == real else usual(guesses[0]), False


def usual(rate: Fraction, tolerance: Fraction = Fraction(1, 5000)) -> Fraction:
    """Return the usual rate that is nearest to `rate` if they differ by less than `tolerance` of it, else `rate`."""
    nearest = min(_USUAL_RATES, key=lambda known: abs(known - rate))
    return nearest if abs(nearest / rate - 1) < tolerance else rate


def fraction(text: object) -> Fraction | None:
    """Parse a number of ffprobe, as '30000/1001', '4:3' or '1.25'; None if it is unknown or not above 0."""
    try:
        value = Fraction(str(text).replace(':', '/'))
    except (ValueError, ZeroDivisionError):
        return None
    return value if value > 0 else None


def parse_rate(text: str) -> Fraction:
    """Parse a frame rate that a user gives, where 23.976 is 24000/1001.

    Raises:
        ValueError: it is no rate.
    """
    rate = fraction(text)
    if rate is None or rate > 1000:
        raise ValueError(f'{text!r} is no frame rate; write it as 25, 29.97 or 30000/1001')
    return usual(rate)


def parse_time(text: str) -> Fraction:
    """Parse a time that a user gives: seconds, M:S or H:M:S, with decimals.

    Raises:
        ValueError: it is no time.
    """
    if not re.fullmatch(r'(\d+:){0,2}\d+(\.\d*)?|\.\d+', text):
        raise ValueError(f'{text!r} is no time; write it as 90, 1:30 or 0:01:30.5')
    seconds = Fraction(0)
    for part in text.split(':'):
        seconds = seconds * 60 + Fraction(part)
    return seconds


def clock(seconds: Fraction | float) -> str:
    """Write a time for people: 0:01:30.500."""
    thousandths = round(seconds * 1000)
    return f'{thousandths // 3600000}:{thousandths // 60000 % 60:02}:{thousandths // 1000 % 60:02}' \
           f'.{thousandths % 1000:03}'


def seconds(value: Fraction) -> str:
    """Write a time for ffmpeg, in microseconds as it reckons itself."""
    sign, millionths = '-' if value < 0 else '', abs(round(value * 1000000))
    return f'{sign}{millionths // 1000000}.{millionths % 1000000:06}'


def stamps_of(pts: Sequence[int | None], time_base: Fraction, keys: Sequence[int] = ()) -> TimeStamps:
    """Collect the time stamps of packets, which come in the order of decoding, and those of the key frames."""
    known = [value for value in pts if value is not None]
    shown = sorted(range(len(known)), key=known.__getitem__)
    return TimeStamps(tuple(known[index] for index in shown), time_base,
                      complete=len(known) == len(pts) == len(set(known)), packets=len(pts), keys=tuple(sorted(keys)),
                      in_order=all(abs(rank - index) <= _FARTHEST_REORDERING for rank, index in enumerate(shown)))
