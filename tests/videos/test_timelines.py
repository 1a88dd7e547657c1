"""Odd rates and time lines: every frame is shown, within 50 ms of its time, and sound stays in step."""
from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from realesrgan.ffmpeg.decoder import FrameReader
from realesrgan.ffmpeg.probe import probe
from realesrgan.videos import VideoOptions
from realesrgan.videos.plan import cut_into_chunks, plan_video
from tests.support import clips
from tests.support.clips import make

CASES = Path(__file__).parent.parent / 'data' / 'timelines'
TOLERANCE = 0.05
GRAIN = 'lum(X\\,Y)+6*sin(X*X+3.7*Y*Y+1.3*N)'
FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)

X264 = ['-c:v', 'libx264', '-preset', 'ultrafast', '-crf', '5', '-bf', '0', '-pix_fmt', 'yuv420p']
B_FRAMES = ['-c:v', 'libx264', '-crf', '5', '-bf', '2', '-pix_fmt', 'yuv420p']
MPEG2 = ['-c:v', 'mpeg2video', '-q:v', '2']
MPEG4 = ['-c:v', 'mpeg4', '-q:v', '2']


def steady(rate, count=20):
    """Times of a constant rate."""
    return [float(number / Fraction(rate)) for number in range(count)]


def jittered(rate, count, most):
    """Times that are up to `most` seconds early or late."""
    rng = np.random.default_rng(1)
    return sorted([0.0, *(time + rng.uniform(-most, most) for time in steady(rate, count)[1:])])


def beep(time):
    """Arguments of a short tone in silence."""
    return ['-f', 'lavfi', '-i', f'aevalsrc=sin(6283*t)*between(t\\,{time}\\,{time}+0.1):duration={time + 0.5}']


def timed(times, *arguments, clock=1000, sound=()):
    """Return how to write frames that hold their number, which are shown at these times (seconds)."""
    ticks = '+'.join(f'eq(N\\,{number})*{round(time * clock)}' for number, time in enumerate(times))
    return lambda path: make(
        path, '-f', 'lavfi', '-i', f'color=black:size=64x48:rate=25:duration={len(times) / 25},'
        f'geq=lum=20+8*mod(N\\,27):cb=128:cr=128,settb=1/{clock},setpts={ticks}', *sound, *clips.ALL_FRAMES,
        '-enc_time_base:v', f'1/{clock}', *arguments)


def moved(seconds, first, clock, *arguments, sound=(), streams='v'):
    """Return how to write 24 frames, 25 a second, of which those from number `first` on, with their sound, come later.

    A grain makes them so large that each begins in a packet of its own in a program stream.
    """
    later = ':'.join(f'{name}={name.upper()}+{seconds * clock}*gte({name.upper()}\\,{first * clock // 25})'
                     for name in ('pts', 'dts'))
    return lambda path: make(path, *clips.numbered(25, '0.96'), *sound, '-vf', f'geq=lum={GRAIN}:cb=128:cr=128',
                             *arguments, *(part for stream in streams for part in (f'-bsf:{stream}', f'setts={later}')))


def copied(name, *arguments):
    """Return how to copy a case to another container."""
    return lambda path: make(path, '-i', CASES / name, '-map', 'v', '-c', 'copy', *arguments)


def find_changes(frames):
    """The numbers of frames that differ from the one before."""
    return [place for place, frame in enumerate(frames) if not place or not np.array_equal(frame, frames[place - 1])]


def read(path, options=None):
    """Return the plan of a video, all frames that its decoding gives, and the times at which they change."""
    info = probe(clips.FFMPEG, str(path))
    plan = plan_video(clips.FFMPEG, info, options or VideoOptions())
    with FrameReader(clips.FFMPEG, info, plan.decoding) as reader:
        frames = np.stack(list(reader))
    assert reader.damage is None
    assert len(frames) == plan.total
    return plan, frames, [float(place / plan.decoding.rate) for place in find_changes(frames)]


def assert_near(found, expected):
    assert np.abs(np.subtract(found, expected)).max() <= TOLERANCE


def assert_chunks(plan, frames, ranges):
    """Chunks hold the frames that they hold in the whole."""
    for first, stop in ranges:
        with FrameReader(clips.FFMPEG, plan.info, plan.decode_chunk(first, stop)) as reader:
            assert np.array_equal(np.stack(list(reader)), frames[first:stop])


SLIDES = [0, 1, 3, 4, 4.5, 6]
HOLD = [0, 0.1, 0.2, 0.3, 4]
CLUMPS = [0, 0.001, 0.5, 0.501, 0.502, 3, 3.001, 3.4, 6]
TWINS = [0, 1, 3, 3, 4.5, 6]
JITTER = jittered(30, 27, 0.012)
HYBRID = [*steady(FILM, 12), *(float(12 / FILM + number / NTSC) for number in range(14))]
HELD_120 = [time for number, time in enumerate(steady(120, 60)) if number % 20 < 8]
UNEVEN = [0, 0.07, 0.2, 0.5, 0.55, 0.9, 1]

HOLE = [*steady(25, 12), *(time + 1 for time in steady(25, 24)[12:])]
SOFT = steady(FILM, 96)

#: Name of the file: times of its frames, when the last one ends, how it is written. MP4 says the end for each packet.
MADE = {
    'slides.mp4': (SLIDES, None, timed(SLIDES, *X264, clock=16000)), 'slides.mkv': (SLIDES, None, timed(SLIDES, *X264)),
    'slides.webm': (SLIDES, None, timed(SLIDES, '-c:v', 'libvpx', '-crf', '4', '-b:v', '1M')),
    'slides.flv': (SLIDES, None, timed(SLIDES, *X264)),
    'hold.mp4': (HOLD, None, timed(HOLD, *X264)), 'hold.mkv': (HOLD, None, timed(HOLD, *X264)),
    'hold.ts': (HOLD, None, timed(HOLD, *X264)),
    'clumps.mp4': (CLUMPS, None, timed(CLUMPS, *X264)), 'clumps.mkv': (CLUMPS, None, timed(CLUMPS, *X264)),
    'twins.mkv': (TWINS, None, timed(TWINS, *X264)), 'twins.flv': (TWINS, None, timed(TWINS, *X264)),
    'twins.webm': (TWINS, None, timed(TWINS, '-c:v', 'libvpx', '-crf', '4', '-b:v', '1M')),
    'jitter.mp4': (JITTER, None, timed(JITTER, *X264, clock=90000)), 'jitter.mkv': (JITTER, None, timed(JITTER, *X264)),
    'jitter.ts': (JITTER, None, timed(JITTER, *X264)), 'hybrid.mp4': (HYBRID, None, timed(HYBRID, *X264, clock=120000)),
    'held_120.mp4': (HELD_120, None, timed(HELD_120, *X264, clock=12000)),
    '1_fps.mp4': (steady(1, 6), None, timed(steady(1, 6), *X264)),
    '1_fps.avi': (steady(1, 6), 6, timed(steady(1, 6), *MPEG4, clock=1)),
    '1000_fps.mp4': (steady(1000, 25), None, timed(steady(1000, 25), *X264)),
    '1000_fps.mkv': (steady(1000, 25), None, timed(steady(1000, 25), *X264)),
    'odd.mkv': (steady(Fraction(149, 10), 25), None, timed(steady(Fraction(149, 10), 25), *X264)),
    'guesses.mkv': (steady(NTSC, 27), None, timed(steady(NTSC, 27), *B_FRAMES)),
    'guesses.flv': (steady(NTSC, 27), None, timed(steady(NTSC, 27), *B_FRAMES)),
    'uneven.gif': (UNEVEN, 1.1, timed(UNEVEN, '-pix_fmt', 'gray', clock=100)),
    'uneven.apng': (UNEVEN, None, timed(UNEVEN, '-pix_fmt', 'gray', clock=100)),
    'last.gif': (steady(10, 5), 2.4, timed(steady(10, 5), '-pix_fmt', 'gray', '-final_delay', '200', clock=100)),
    'hole.ts': (HOLE, None, moved(1, 12, 90000, *B_FRAMES)), 'hole.avi': (HOLE, None, moved(1, 12, 25, *MPEG4)),
    'hole.mpg': (HOLE, None, moved(1, 12, 90000, *MPEG2, '-g', '1', '-packetsize', '512')),
    'hole_b.mpg': (HOLE, None, moved(1, 12, 90000, *MPEG2, '-bf', '2', '-packetsize', '256')),
    'hole.flv': (HOLE, None, moved(1, 12, 1000, '-c:v', 'flv', '-q:v', '2')),
    'late.mpg': (steady(25, 24), None, moved(3, 0, 90000, *MPEG2)),
    'late.mkv': (steady(25, 24), None, moved(3, 0, 1000, *X264)),
    'copied.mp4': (SLIDES, 6.04, copied('slow_slides.mp4')),
    'soft.vob': (SOFT, 4.004, copied('soft_telecine.vob')),
    'soft.ts': (SOFT, 4.004, copied('soft_telecine.vob')),
}


@pytest.mark.parametrize('name', MADE)
def test_every_frame_at_its_time(tmp_path, name):
    times, end, write = MADE[name]
    plan, frames, shown = read(write(tmp_path / name))
    if name.endswith('.mp4'):
        end = clips.duration(tmp_path / name)
    assert len(shown) == len(times)
    assert_near(shown, times)
    assert end is None or abs(float(plan.total / plan.decoding.rate) - end) <= TOLERANCE
    if name not in ('copied.mp4', 'soft.vob', 'soft.ts'):
        light = frames[find_changes(frames)].mean((1, 2, 3)) * 219 / 255 + 16
        assert np.rint((light - 20) / 8).tolist() == [number % 27 for number in range(len(times))]


@pytest.mark.parametrize('name', ['slides.mkv', 'hold.ts', 'clumps.mp4', 'last.gif', 'hole.ts', 'hole_b.mpg',
                                  'jitter.mkv', 'twins.mkv'])
def test_chunks_hold_the_same_frames(tmp_path, name):
    """Also those that begin in a long hold, or at the repeats of the last frame."""
    plan, frames, _ = read(MADE[name][2](tmp_path / name))
    ranges = cut_into_chunks(max(plan.total // 5, 1), plan.last_start())
    assert len(ranges) > 1
    assert_chunks(plan, frames, ranges)


@pytest.mark.parametrize(('name', 'times'), [('hold.mp4', HOLD), ('slides.mkv', SLIDES), ('uneven.gif', UNEVEN)])
@pytest.mark.parametrize('rate', [Fraction(10), NTSC])
def test_a_rate_that_is_asked_for_loses_no_frame_that_has_a_tick(tmp_path, name, times, rate):
    """Nor a last one that ends before the middle of its tick."""
    plan, frames, shown = read(MADE[name][2](tmp_path / name), VideoOptions(fps=rate))
    assert plan.decoding.rate == rate
    assert_near(shown, times)
    assert_chunks(plan, frames, [(plan.last_start(), None)])


@pytest.mark.parametrize(('name', 'start', 'end', 'begin', 'times', 'seconds'), [
    ('copied.mp4', None, '4.2', 0, [0, 1, 3, 4], 4.2), ('copied.mp4', '0.5', None, 1, [0, 2, 3, 3.5, 5], 5.04),
    ('copied.mp4', '2.5', '4.5', 3, [0, 1], 1.5),
    ('clumps.mp4', '3', None, 3, [0, 0.001, 0.4, 3], None),
    ('clumps.mp4', None, '2', 0, [0, 0.001, 0.5, 0.501, 0.502], 2),
    ('clumps.mp4', '0.4', '3.2', Fraction('0.4'), [0, 0.101, 0.102, 2.6, 2.601], 2.8)])
def test_a_part(tmp_path, name, start, end, begin, times, seconds):
    """The last frame is shown up to --end. Frames that must be moved apart are in step with the other tracks."""
    path = MADE[name][2](tmp_path / name)
    options = VideoOptions(start=start and Fraction(start), end=end and Fraction(end))
    plan, frames, shown = read(path, options)
    assert (plan.begin if name == 'copied.mp4' else plan.cut.start) == begin
    assert_near(shown, times)
    expected = clips.duration(path) - 3 if seconds is None else seconds
    assert abs(float(len(frames) / plan.decoding.rate) - expected) <= TOLERANCE


@pytest.mark.parametrize('rate', ['25', '24000/1001', '14.985', '1'])
@pytest.mark.parametrize('extension', ['avi', 'y4m'])
def test_a_part_where_the_clock_ticks_once_a_frame(tmp_path, extension, rate):
    tick = 1 / Fraction(rate)
    path = make(tmp_path / f'a.{extension}', *clips.numbered(rate, str(float(20 * tick))),
                *(MPEG4 if extension == 'avi' else ()))
    plan, frames, _ = read(path, VideoOptions(start=Fraction('7.5') * tick, end=Fraction('15.5') * tick))
    assert plan.begin == 8 * tick
    assert np.rint((frames.mean((1, 2, 3)) * 219 / 255 - 4) / 8).tolist() == [*range(8, 16)]
    assert_chunks(plan, frames, [(0, 3), (3, 7), (7, None)])


def test_a_recording_that_was_interrupted_for_hours_is_named(tmp_path, caplog):
    path = moved(36000, 12, 90000, *B_FRAMES)(tmp_path / 'a.ts')
    assert plan_video(clips.FFMPEG, probe(clips.FFMPEG, str(path)), VideoOptions()).total == 36000 * 25 + 24
    assert 'the frame at 0:00:00.440 is shown for 10:00:00.040; if the recording was interrupted there' in caplog.text


def test_a_rate_that_nothing_confirms_is_named(tmp_path, caplog):
    plan, frames, _ = read(make(tmp_path / 'a.h264', *clips.numbered('30000/1001', '0.8'), *B_FRAMES))
    assert (plan.decoding.rate, len(frames)) == (NTSC, 24)
    assert "incomplete: 30000/1001 frames/s is what the file claims, or ffmpeg's guess" in caplog.text


# ---- through the script ----

@pytest.mark.parametrize(('name', 'write', 'frame', 'time', 'more'), [
    ('slides.mp4', CASES / 'slow_slides.mp4', 2, 3, ['--chunk', '2']),
    ('hole.avi', CASES / 'avi_dropb.avi', 26, 2.04, []),
    ('hold.mp4', timed(HOLD, *X264, sound=beep(4)), 4, 4, []),
    ('slides.mkv', timed(SLIDES, *X264, sound=beep(4.5)), 4, 4.5, ['--ext', 'mkv', '--chunk', '1']),
    ('late.mkv', moved(3, 0, 1000, *X264, sound=beep(3.4)), 10, 3.4, []),
    ('hole.ts', moved(1, 12, 90000, *B_FRAMES, sound=beep(1.6)), 15, 1.6, ['--chunk', '1']),
    ('jump.ts', moved(20, 12, 90000, *B_FRAMES, sound=beep(0.7), streams='va'), 17, 20.7, []),
    ('slides.flv', timed(SLIDES, *X264, sound=[*beep(1), '-ar', '44100']), 1, 1, [])],
    ids=lambda value: value if isinstance(value, str) else '')
def test_a_tone_is_heard_with_its_frame(upscale, tmp_path, name, write, frame, time, more):
    if isinstance(write, Path):
        shutil.copy(write, tmp_path / name)
    else:
        write(tmp_path / name)
    upscale('-i', name, '-s', '1', '--crf', '0', *more)
    [result] = (tmp_path / 'results').iterdir()
    start = float(clips.facts(result)['format']['start_time'])
    shown = clips.times(result)[find_changes(clips.frames(result))[frame]] - start
    heard = np.frombuffer(clips.ffmpeg('-i', result, '-map', 'a:0', '-af', 'aresample=8000:first_pts=0', '-ac', '1',
                                       '-f', 'f32le', '-'), np.float32)
    onset = np.flatnonzero(np.abs(heard) > 0.1)[0] / 8000
    assert abs(onset - time) < 0.03
    assert abs(shown - onset) <= TOLERANCE


def test_a_film_with_repeated_fields_keeps_its_rate_and_length(upscale):
    upscale('-i', CASES / 'soft_telecine.vob', '-s', '1')
    result = clips.video('results/soft_telecine_out.mp4')
    assert (result['rate'], result['frames']) == (('24000/1001', '24000/1001'), 96)
    lengths = [clips.duration('results/soft_telecine_out.mp4', kind) for kind in ('video', 'audio')]
    assert np.abs(np.subtract(lengths, 4.004)).max() < TOLERANCE


def test_incomplete_time_stamps_are_told(upscale):
    text = upscale('-i', CASES / 'avi_dropb.avi', '-s', '1')
    assert clips.duration('results/avi_dropb_out.mp4') == 3.44
    assert 'the time stamps are incomplete: the times of the frames are derived from decoding times' in text
    assert 'made constant at 25 frames/s; frames are repeated, none is dropped' in text
