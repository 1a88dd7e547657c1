"""Frame rates and times as exact fractions."""
import math
import random
from fractions import Fraction

import pytest

from realesrgan.ffmpeg.timing import (
    Timeline,
    TimeStamps,
    choose_timeline,
    collect_time_stamps,
    format_clock,
    format_seconds,
    parse_fraction,
    parse_rate,
    parse_time,
    round_to_usual_rate,
)

F = Fraction
MS = F(1, 1000)
NTSC = F(30000, 1001)


def stamps(pts, time_base=MS, **more):
    return TimeStamps(tuple(pts), time_base, complete=True, packets=len(pts), **more)


def ticks(rate, count, time_base=MS):
    """The time stamps of a constant rate, rounded to a clock."""
    return [round(index / rate / time_base) for index in range(count)]


@pytest.mark.parametrize(('text', 'expected'), [
    ('25', F(25)), ('30000/1001', NTSC), ('29.97', NTSC), ('23.976', F(24000, 1001)), ('23.98', F(24000, 1001)),
    ('59.94', F(60000, 1001)), ('12.5', F(25, 2)), ('1000', F(1000)), ('0.5', F(1, 2))])
def test_rates_that_users_give(text, expected):
    assert parse_rate(text) == expected


@pytest.mark.parametrize(('text', 'expected'), [
    ('90', F(90)), ('1:30', F(90)), ('0:01:30.5', F(181, 2)), ('.25', F(1, 4)), ('10.', F(10)), ('0', F(0)),
    ('2:00:00.001', F(7200001, 1000)), ('1:75', F(135))])
def test_times_that_users_give(text, expected):
    assert parse_time(text) == expected


@pytest.mark.parametrize(('parse', 'text'), [
    *((parse_rate, text) for text in ('0', '-25', 'fast', '', '1/0', '1001', '24fps')),
    *((parse_time, text) for text in ('', 'noon', '-1', '1:2:3:4', '1e3', '.', '1:', ' 1'))])
def test_what_is_neither_a_rate_nor_a_time(parse, text):
    with pytest.raises(ValueError, match=' is not a (frame rate; write it as 25|time; write it as 90)') as caught:
        parse(text)
    assert str(caught.value).startswith(repr(text))


@pytest.mark.parametrize(('text', 'expected'), [
    ('30000/1001', NTSC), ('4:3', F(4, 3)), ('1.25', F(5, 4)), ('0/0', None), ('0:1', None), ('N/A', None),
    (None, None), ('-1', None), (2, F(2))])
def test_numbers_of_ffprobe(text, expected):
    assert parse_fraction(text) == expected


@pytest.mark.parametrize(('value', 'expected'), [
    (F(0), '0:00:00.000'), (F(181, 2), '0:01:30.500'), (3661.0004, '1:01:01.000'), (F(360000), '100:00:00.000')])
def test_times_for_people(value, expected):
    assert format_clock(value) == expected


@pytest.mark.parametrize(('value', 'expected'), [
    (F(0), '0.000000'), (F(1, 3), '0.333333'), (F(2, 3), '0.666667'), (F(-1, 1000000), '-0.000001'),
    (F(-3, 2), '-1.500000'), (F(10 ** 6), '1000000.000000')])
def test_times_for_ffmpeg(value, expected):
    assert format_seconds(value) == expected


@pytest.mark.parametrize(('rate', 'expected'), [
    (F(2997, 100), NTSC), (F(19001, 317), F(60000, 1001)), (F(25), F(25)), (F(26), F(26)), (F(2999, 100), F(2999, 100)),
    (F(239999, 10000), F(24))])
def test_usual_rates(rate, expected):
    assert round_to_usual_rate(rate) == expected


def test_times_of_frames():
    film = stamps([100, 140, 180, 230])
    assert film.get_time(0) == F(1, 10)
    assert film.get_time_before(3) == F(205001, 1000000)
    assert [film.find_first_from(F(time, 1000)) for time in (0, 100, 101, 140, 230, 231)] == [0, 0, 1, 1, 3, 4]


@pytest.mark.parametrize('rate', [F(24), NTSC, F(60000, 1001), F(25, 2)])
@pytest.mark.parametrize('time_base', [MS, F(1, 90000), F(1, 100)])
def test_rounded_ticks_are_constant(rate, time_base):
    assert stamps(ticks(rate, 300, time_base), time_base).is_constant(rate)


def test_a_tick_early_or_late_is_still_constant():
    steady = [40 * index for index in range(50)]
    assert stamps(steady[:20] + [pts + 40 for pts in steady[20:]]).is_constant(F(25))  # one frame missing
    assert stamps(steady[:20] + [pts - 20 for pts in steady[20:]]).is_constant(F(25))
    assert not stamps(steady[:20] + [pts + 80 for pts in steady[20:]]).is_constant(F(25))  # two missing
    assert not stamps(steady).is_constant(F(24))
    assert stamps([7000 + pts for pts in steady]).is_constant(F(25))  # only differences count


@pytest.mark.parametrize(('rate', 'pts', 'end', 'expected'), [
    (F(10), [0, 100, 200], 300, True), (F(10), [0, 100, 200], 350, True), (F(10), [0, 100, 200], 351, False),
    (F(10), [0, 100, 200], 200, True), (F(5), [0, 200, 400], 499, False), (F(1), [0, 1000, 2049], None, True),
    (F(1), [0, 1000, 2051], None, False)])
def test_a_constant_rate_is_50_ms_off_at_most_and_keeps_the_end(rate, pts, end, expected):
    assert stamps(pts, end=end).is_constant(rate) == expected


# Rates: r_frame_rate and avg_frame_rate of ffprobe.
@pytest.mark.parametrize(('pts', 'real', 'average', 'expected'), [
    (ticks(F(25), 100), F(25), F(25), F(25)),
    (ticks(F(60000, 1001), 300), F(19001, 317), F(19001, 317), F(60000, 1001)),
    (ticks(NTSC, 300), F(1000), F(2997, 100), F(2997, 100)),  # r_frame_rate is the clock
    (ticks(F(24000, 1001), 20000), F(1000), F(2398, 100), F(24000, 1001)),  # 23.98 would drift by 3 frames
    (ticks(F(24000, 1001), 300), F(24000, 1001), F(48), F(24000, 1001)),
    (ticks(F(30), 100), F(60), F(30), F(30)),  # the first rate does not fit, the second does
    ([67, 100, 134, 167, 200, 234, *(67 + tick for tick in ticks(NTSC, 30)[6:])], F(60), F(1000), NTSC),
    ([40, 100, 134, 167, 200, 234, *(67 + tick for tick in ticks(NTSC, 30)[6:])], F(60), F(1000), NTSC),  # a guess
    (ticks(NTSC, 30), F(1000, 33), F(1000, 33), NTSC),
    (ticks(F(30), 30), F(60), F(1000), F(30)), (ticks(F(1000), 50), F(1000), F(1000), F(1000)),
    (ticks(F(1, 3), 9), None, None, F(1, 3)), ([0], F(25), F(12), F(25))])
def test_a_constant_rate(pts, real, average, expected):
    assert choose_timeline(stamps(pts), real, average) == Timeline(expected, constant=True)


@pytest.mark.parametrize(('pts', 'end', 'real', 'expected'), [
    ([0, 1000, 3000, 4000, 4500, 6000], 6500, F(25), Timeline(F(2), constant=False)),
    ([0, 1000, 3000, 4000, 4500, 6000], 6040, F(2), Timeline(F(12), constant=False)),
    ([0, 100, 200, 300, 4000], 4040, F(10), Timeline(F(20), constant=False)),
    ([0, 100, 200, 300, 400], 2000, F(10), Timeline(F(10), constant=False)),  # the last one is shown long
    ([0, 40, 400, 440, 900], None, F(25), Timeline(F(25), constant=False)),
    ([0, 100, 900, 3000], None, F(1000), Timeline(F(10), constant=False)),
    ([tick for number, tick in enumerate(ticks(F(120), 60)) if number % 20 < 8], None, F(120),
     Timeline(F(120), constant=False)),
    ([0, 1, 500, 501, 502, 3000], None, F(1000), Timeline(F(48000, 1001), constant=False, crowded=True)),
    ([*range(0, 2000, 2), 5000], None, F(500), Timeline(F(1000), constant=False, crowded=True))])
def test_the_ticks_of_a_variable_rate(pts, end, real, expected):
    assert choose_timeline(stamps(pts, end=end), real, F(19001, 317)) == expected


@pytest.mark.parametrize('scale', [1, 7, 90])
@pytest.mark.parametrize('seed', range(5))
def test_no_frame_is_lost_or_more_than_50_ms_off(seed, scale):
    """Times of any kind: every frame has a tick of its own, near its time."""
    chance = random.Random(seed)
    pts = sorted(chance.sample(range(60 * 1000 // scale), 200))
    film = stamps(pts, end=pts[-1] + chance.randrange(1, 1000), time_base=F(scale, 1000))
    timeline = choose_timeline(film, None, None)
    taken, zero = -1, film.get_time(0)
    for index in range(200):
        time = (film.get_time(index) - zero) * timeline.rate
        nearest = math.floor(time + F(1, 2))
        assert timeline.crowded or nearest > taken
        taken = max(nearest, taken + 1)
        assert abs(taken - time) / timeline.rate <= F(1, 20)
    assert abs(film.count_ticks(timeline.rate) / timeline.rate - (film.end * film.time_base - zero)) <= F(1, 20)


@pytest.mark.parametrize(('end', 'drop', 'expected'), [
    (1000, False, 12), (1000, True, 12), (None, False, 12), (None, True, 12), (958, False, 12), (1500, True, 18)])
def test_how_many_ticks_show_a_video(end, drop, expected):
    assert stamps(ticks(F(24), 24)[::2], end=end).count_ticks(F(12), drop=drop) == expected


def test_of_two_frames_on_one_tick_one_is_dropped_or_moved():
    film = stamps([0, 40, 80, 120, 160], end=200)
    assert [film.count_ticks(F(12), drop=drop) for drop in (True, False)] == [2, 5]


@pytest.mark.parametrize(('real', 'average', 'expected'), [
    (F(25), F(25), (F(25), True)), (F(25), F(20), (F(25), False)), (None, F(20), (F(20), False)),
    (None, None, (F(24), False))])
def test_the_rate_of_a_stream(real, average, expected):
    assert choose_timeline(None, real, average) == Timeline(*expected)


def test_without_times_the_number_of_frames_and_the_duration_decide():
    untimed = collect_time_stamps([0, *[None] * 95], MS)
    guesses = F(60000, 1001), F(24000, 1001)
    assert choose_timeline(untimed, *guesses, F(4004, 1000)) == Timeline(F(24000, 1001), constant=True)
    assert choose_timeline(untimed, *guesses) == Timeline(F(60000, 1001), constant=True)


def test_a_clock_that_jumps_says_nothing_of_the_rate():
    jump = collect_time_stamps([*range(0, 4000, 40), *range(2000, 6000, 40)], MS)
    assert choose_timeline(jump, F(50), F(25)) == Timeline(F(50), constant=False)


def test_packets_come_in_the_order_of_decoding():
    collected = collect_time_stamps([0, 120, 40, 80], MS, keys=[80, 0])
    assert collected == TimeStamps((0, 40, 80, 120), MS, complete=True, packets=4, keys=(0, 80), in_order=True)


def test_packets_without_time_stamps():
    collected = collect_time_stamps([0, None, 40], MS)
    assert (collected.pts, collected.complete, collected.packets, collected.is_timed) == ((0, 40), False, 3, False)
    assert not collect_time_stamps([0, 40, 40], MS).complete


def test_times_of_decoding_stand_in_for_time_stamps():
    collected = collect_time_stamps([80, None, None, 200], MS, dts=[40, 80, 120, 160], durations=[40, 40, 40, 20])
    assert (collected.pts, collected.end) == ((40, 80, 120, 160), 180)
    assert (collected.complete, collected.derived, collected.is_timed) == (False, True, True)
    assert not collect_time_stamps([80, None], MS, dts=[40, None]).derived


@pytest.mark.parametrize(('durations', 'end', 'expected'), [
    ([40, 40, 70, 40], None, 150), ([40, 40, 0, 40], None, None), ([None] * 4, None, None), ([], F(2), 2000),
    ([40, 40, 10 ** 9, 40], None, None),
    ([40, 40, 40, 40], F(1, 10), 120), ([], F(1, 20), None)])
def test_when_the_last_frame_ends(durations, end, expected):
    assert collect_time_stamps([0, 40, 80, 60], MS, durations=durations, end=end).end == expected


def test_a_clock_that_jumps_is_noticed():
    assert collect_time_stamps([0, 3, 1, 2, 4], MS).in_order
    assert collect_time_stamps([*range(16, 0, -1), *range(17, 40)], MS).in_order  # as far as codecs reorder
    assert not collect_time_stamps([*range(100), *range(50, 150)], MS).in_order
    assert not collect_time_stamps([*range(1000, 1100), *range(100)], MS).in_order
