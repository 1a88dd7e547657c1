"""Frame rates and times as exact fractions, and what a video's time stamps say about its frame rate."""
from __future__ import annotations

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


@dataclass(frozen=True)
class TimeStamps:
    """When the frames of a video are shown.

    Attributes:
        pts: One for each frame, ascending, in units of `time_base`.
        time_base: Seconds.
        complete: Whether every packet has a time stamp of its own. If some lack one, the others can't be trusted.
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

    def get_time(self, index: int) -> Fraction:
        """Return the time of a frame in seconds."""
        return self.pts[index] * self.time_base

    def get_time_before(self, index: int) -> Fraction:
        """Return the time halfway between a frame and its predecessor, in seconds.

        A cut there is safe: rounding the time to microseconds can't move it to the other side of a frame.
        """
        return (self.get_time(index - 1) + self.get_time(index)) / 2

    def find_first_from(self, time: Fraction) -> int:
        """Return the index of the first frame shown at `time` (seconds) or later; the number of frames if none is."""
        return bisect_left(self.pts, time / self.time_base)

    def is_constant(self, rate: Fraction) -> bool:
        """Tell whether frames shown on the ticks of `rate` would never be more than one tick early or late.

        Millisecond clocks, jitter and the frame missing from AVI files written by ffmpeg cause that much. Nobody hears
        the shift, but repeating or dropping a frame to correct it would be visible.
        """
        frame = self.time_base * rate
        double = 2 * frame.denominator
        # Integers only, because films have many frames: (2 * a + b) // (2 * b) rounds a / b to the nearest.
        return all(abs((2 * (pts - self.pts[0]) * frame.numerator + frame.denominator) // double - index) <= 1
                   for index, pts in enumerate(self.pts))


def choose_frame_rate(stamps: TimeStamps | None, real: Fraction | None,
                      average: Fraction | None) -> tuple[Fraction, bool]:
    """Return a video's frame rate, and whether it is constant.

    Args:
        stamps: Its time stamps, or None if they can't be read in advance.
        real: ffprobe's r_frame_rate, a guess from the first frames: the lowest rate that fits all time stamps.
        average: ffprobe's avg_frame_rate.
    """
    # Nanoseconds in Matroska and small denominators in ffmpeg turn 60000/1001 into 19001/317.
    guesses = [round_to_usual_rate(rate, _ROUNDING) for rate in (real, average)
               if rate and rate <= _MAX_PLAUSIBLE_RATE]
    guesses += [round_to_usual_rate(rate) for rate in guesses]
    if not guesses:
        return Fraction(24), False
    if stamps is None:
        return guesses[0], real == average
    if not stamps.complete or len(stamps.pts) < 2:
        return guesses[0], True
    for rate in guesses:
        if stamps.is_constant(rate):
            return rate, True
    return guesses[0] if guesses[0] == real else round_to_usual_rate(guesses[0]), False


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
        ValueError: It is not a frame rate.
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
        ValueError: It is not a time.
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


def collect_time_stamps(pts: Sequence[int | None], time_base: Fraction, keys: Sequence[int] = ()) -> TimeStamps:
    """Sort the time stamps of packets, which come in decoding order.

    Args:
        pts: One for each packet, in units of `time_base`; None for a packet without one.
        time_base: Seconds.
        keys: Those of the key frames.
    """
    known = [value for value in pts if value is not None]
    shown = sorted(range(len(known)), key=known.__getitem__)
    return TimeStamps(tuple(known[index] for index in shown), time_base,
                      complete=len(known) == len(pts) == len(set(known)), packets=len(pts), keys=tuple(sorted(keys)),
                      in_order=all(abs(rank - index) <= _MAX_REORDERING for rank, index in enumerate(shown)))
