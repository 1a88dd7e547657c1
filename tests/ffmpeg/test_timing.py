"""Frame rates and times as exact fractions."""
from fractions import Fraction

import pytest

from realesrgan.ffmpeg.timing import (
    TimeStamps,
    choose_frame_rate,
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


@pytest.mark.parametrize('text', ['0', '-25', 'fast', '', '1/0', '1001', '24fps'])
def test_what_is_not_a_rate(text):
    with pytest.raises(ValueError, match=' is not a frame rate; write it as 25, 29.97 or 30000/1001') as caught:
        parse_rate(text)
    assert str(caught.value).startswith(repr(text))


@pytest.mark.parametrize(('text', 'expected'), [
    ('90', F(90)), ('1:30', F(90)), ('0:01:30.5', F(181, 2)), ('.25', F(1, 4)), ('10.', F(10)), ('0', F(0)),
    ('2:00:00.001', F(7200001, 1000)), ('1:75', F(135))])
def test_times_that_users_give(text, expected):
    assert parse_time(text) == expected


@pytest.mark.parametrize('text', ['', 'noon', '-1', '1:2:3:4', '1e3', '.', '1:', ' 1'])
def test_what_is_not_a_time(text):
    with pytest.raises(ValueError, match=' is not a time; write it as 90, 1:30 or 0:01:30.5'):
        parse_time(text)


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


@pytest.mark.parametrize(('rate', 'tolerance', 'expected'), [
    (F(19001, 317), F(1, 10 ** 6), F(60000, 1001)), (F(2997, 100), F(1, 10 ** 7), F(2997, 100)),
    (F(2997, 100), F(1, 10 ** 5), NTSC)])
def test_the_tolerance_of_usual_rates(rate, tolerance, expected):
    assert round_to_usual_rate(rate, tolerance) == expected


def test_times_of_frames():
    film = stamps([100, 140, 180, 230])
    assert film.get_time(0) == F(1, 10)
    assert film.get_time_before(3) == F(205, 1000)
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


@pytest.mark.parametrize(('pts', 'real', 'average', 'expected'), [
    (ticks(F(25), 100), F(25), F(25), (F(25), True)),
    (ticks(F(60000, 1001), 300), F(19001, 317), F(19001, 317), (F(60000, 1001), True)),
    (ticks(NTSC, 300), F(1000), F(2997, 100), (F(2997, 100), True)),  # r_frame_rate is the clock
    (ticks(F(24000, 1001), 20000), F(1000), F(2398, 100), (F(24000, 1001), True)),  # 23.98 would drift by 3 frames
    (ticks(F(24000, 1001), 300), F(24000, 1001), F(48), (F(24000, 1001), True)),
    (ticks(F(30), 100), F(60), F(30), (F(30), True)),  # the first rate does not fit, the second does
    ([0, 40, 400, 440, 900], F(25), F(18), (F(25), False)),
    ([0, 100, 900, 3000], F(1000), F(19001, 317), (F(60000, 1001), False)),
    ([0], F(25), F(12), (F(25), True)), ([0, 9, 70], None, None, (F(24), False)),
    ([0, 9, 70], F(90000), F(1000), (F(24), False))])
def test_the_rate_of_a_video(pts, real, average, expected):
    assert choose_frame_rate(stamps(pts), real, average) == expected


@pytest.mark.parametrize(('real', 'average', 'expected'), [
    (F(25), F(25), (F(25), True)), (F(25), F(20), (F(25), False)), (None, F(20), (F(20), False)),
    (None, None, (F(24), False))])
def test_the_rate_of_a_stream(real, average, expected):
    assert choose_frame_rate(None, real, average) == expected


def test_packets_come_in_the_order_of_decoding():
    collected = collect_time_stamps([0, 120, 40, 80], MS, keys=[80, 0])
    assert collected == TimeStamps((0, 40, 80, 120), MS, complete=True, packets=4, keys=(0, 80), in_order=True)


def test_packets_without_time_stamps():
    collected = collect_time_stamps([0, None, 40], MS)
    assert (collected.pts, collected.complete, collected.packets) == ((0, 40), False, 3)
    assert not collect_time_stamps([0, 40, 40], MS).complete


def test_a_clock_that_jumps_is_noticed():
    assert collect_time_stamps([0, 3, 1, 2, 4], MS).in_order
    assert collect_time_stamps([*range(16, 0, -1), *range(17, 40)], MS).in_order  # as far as codecs reorder
    assert not collect_time_stamps([*range(100), *range(50, 150)], MS).in_order
    assert not collect_time_stamps([*range(1000, 1100), *range(100)], MS).in_order
