"""Every frame of every kind of video, at the right time: containers, rates, sizes, cuts, fields."""
from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest

from tests.support import clips
from tests.support.clips import DATA, EXACT, files, make, picture, sound, video

# ---- rates, shapes ----

@pytest.mark.parametrize('rate', ['30000/1001', '24000/1001', '50/1', '15/2'])
@pytest.mark.parametrize(('given', 'container'), [('mp4', 'mp4'), ('mp4', 'mkv'), ('mkv', 'mp4')])
def test_rates_stay_exact(upscale, tmp_path, rate, given, container):
    source = make(tmp_path / f'a.{given}', *picture(rate=rate), *EXACT)
    upscale('-i', source.name, '-s', '1', '--ext', container)
    result = video(f'results/a_out.{container}')
    assert (result['frames'], result['r_frame_rate']) == (video(source)['frames'], rate)
    # Matroska's clock ticks in milliseconds, so that its average is not exact.
    assert abs(Fraction(result['avg_frame_rate']) / Fraction(rate) - 1) <= {'mp4': 0, 'mkv': 0.001}[container]


@pytest.mark.parametrize(('size', 'outscale', 'expected'), [
    ('175x143', '1', (174, 142)), ('175x143', '2', (350, 286)), ('175x143', '3', (524, 428)), ('2x2', '0.5', (2, 2))])
def test_odd_sizes(upscale, tmp_path, size, outscale, expected):
    make(tmp_path / 'a.mkv', *picture(size, seconds='0.2', kind='testsrc'), '-c:v', 'ffv1', '-pix_fmt', 'yuv444p')
    upscale('-i', 'a.mkv', '-s', outscale, '--pix_fmt', 'yuv420p')
    assert video('results/a_out.mp4')['size'] == expected


def test_a_single_frame_and_the_shape_of_its_pixels(upscale, tmp_path):
    make(tmp_path / 'a.mp4', *picture(), '-vf', 'setsar=4/3', '-frames:v', '1', *EXACT)
    upscale('-i', 'a.mp4')
    result = video('results/a_out.mp4')
    assert (result['frames'], result['size'], result['sample_aspect_ratio']) == (1, (256, 192), '4:3')


# ---- variable rate, --fps, --start and --end, fields ----

@pytest.mark.parametrize('extension', ['mp4', 'mkv'])
def test_a_variable_rate_becomes_constant_and_4_seconds_stay_4_seconds(upscale, at_calls, tmp_path, extension):
    """A still second, 24 frames in the next, and two of 12; the frames that are repeated are computed once."""
    times = "'if(lt(N,1),0,if(lt(N,25),1+(N-1)/24,2+(N-25)/12))/TB'"
    source = make(tmp_path / f'a.{extension}', *picture(rate=24, seconds='2.041'), *sound('4'), '-vf',
                  f'settb=1/1000,setpts={times}', clips.ALL_FRAMES[0], 'vfr', '-enc_time_base', '1/1000', *EXACT,
                  '-c:a', 'aac')
    assert 3.9 < clips.duration(source) < 4.1
    computed = at_calls((), None)
    assert 'variable frame rate' in upscale('-i', source.name, '-s', '1')
    result = video('results/a_out.mp4')
    rate = Fraction(result['avg_frame_rate'])
    assert result['rate'][0] == result['rate'][1]
    assert abs(result['frames'] / rate - 4) <= 1 / rate
    assert (result['frames'] > 80, len(computed) <= 50) == (True, True)
    assert abs(clips.duration('results/a_out.mp4', 'audio') - clips.duration(source, 'audio')) < 0.03


@pytest.mark.parametrize('fps', ['12', '48', '30000/1001'])
def test_fps_changes_the_rate_and_keeps_the_duration(upscale, tmp_path, fps):
    make(tmp_path / 'a.mp4', *picture(seconds='2'), *sound('2'), *EXACT)
    upscale('-i', 'a.mp4', '-s', '1', '--fps', fps)
    result = video('results/a_out.mp4')
    assert Fraction(result['r_frame_rate']) == Fraction(fps)
    assert abs(result['frames'] / Fraction(fps) - 2) < 1 / Fraction(fps)


def test_start_and_end_cut_all_tracks_alike(upscale, tmp_path):
    make(tmp_path / 'a.mkv', *clips.numbered(seconds='4'), *sound('4'), *EXACT, '-g', '30', '-c:a', 'pcm_s16le')
    upscale('-i', 'a.mkv', '-s', '1', '--start', '1.2', '--end', '0:03', '--ext', 'mkv', '--crf', '0')
    assert clips.numbers('results/a_out.mkv') == [number % 27 for number in range(30, 75)]
    assert abs(clips.duration('results/a_out.mkv', 'audio') - 1.8) < 0.06
    starts = [float(stream['start_time']) for stream in clips.facts('results/a_out.mkv')['streams']]
    assert abs(starts[0] - starts[1]) < 0.05


def test_an_end_alone_keeps_the_first_sound(upscale, tmp_path):
    source = make(tmp_path / 'a.mkv', *picture(seconds='2'), *sound('2'), *EXACT, '-c:a', 'aac')
    upscale('-i', 'a.mkv', '-s', '1', '--end', '1')
    before, after = (clips.ffmpeg('-i', path, '-map', 'a:0', '-c', 'copy', '-f', 'adts', '-')
                     for path in (source, 'results/a_out.mp4'))
    assert len(after) > 2000
    assert before.startswith(after)


def test_a_range_without_frames_is_an_error(fail, tmp_path):
    make(tmp_path / 'a.mp4', *picture(), *EXACT)
    assert 'no frame begins between --start and --end; one that is shown from 0:00:00.958 on comes nearest' in fail(
        '-i', 'a.mp4', '--start', '9')
    assert '--end 0:00:01.000 is not after --start 0:00:02.000' in fail('-i', 'a.mp4', '--start', '2', '--end', '1')
    assert files(tmp_path) == ['a.mp4']


@pytest.mark.parametrize(('how', 'line'), [('auto', 'interlaced: made progressive by bwdif'),
                                           ('off', 'interlaced: left so (--deinterlace off)')])
def test_interlaced_video(upscale, tmp_path, how, line):
    make(tmp_path / 'a.mpg', *picture(rate=50), '-vf', 'interlace', '-c:v', 'mpeg2video', '-flags', '+ildct+ilme',
         '-q:v', '2')
    assert line in upscale('-i', 'a.mpg', '-s', '1', '--deinterlace', how)
    assert (video('results/a_out.mp4')['frames'], video('results/a_out.mp4')['rate'][0]) == (25, '25/1')


# ---- edit lists and apertures ----
@pytest.mark.parametrize(('extension', 'expected'), [
    ('mp4', '853:720'), ('mov', '853:720'), ('mkv', '853:720'), ('webm', '19:16')])
def test_odd_pixel_shapes_stay_exact(upscale, tmp_path, extension, expected):
    """WebM holds no shape of pixels but the width that is shown, in whole pixels: 152 for 151.6 here."""
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), '-vf', 'setsar=853/720:max=1000', *EXACT)
    upscale('-i', 'a.mp4', '-s', '2', '--ext', extension)
    assert video(f'results/a_out.{extension}')['sample_aspect_ratio'] == expected


@pytest.mark.parametrize('more', [[], ['--chunk', '0.5'], ['--extract_frame_first'], ['--start', '0.2', '--end', '1']])
def test_what_an_edit_list_hides_is_no_damage(upscale, more):
    source = DATA / 'open_gop_cut.mp4'
    assert 'error' not in upscale('-i', source, '-s', '1', '--crf', '0', *more)
    shown = clips.frames(source)[slice(5, 25) if '--start' in more else slice(None)].astype(int)
    result = clips.frames('results/open_gop_cut_out.mp4')
    assert len(result) == len(shown) == (20 if '--start' in more else 42)
    assert np.abs(result - shown).mean() < 2


@pytest.mark.parametrize('packet', [718, 12107])
def test_damage_behind_an_edit_list_is_found(fail, tmp_path, packet):
    """Noise in a packet of frames that are shown: the first, and a key frame."""
    data = bytearray((DATA / 'open_gop_cut.mp4').read_bytes())
    data[packet + 5:packet + 33] = np.random.default_rng(0).bytes(28)
    (tmp_path / 'a.mp4').write_bytes(data)
    assert 'error: a.mp4: damaged at about 0:00:0' in fail('-i', 'a.mp4', '-s', '1')


def add_clean_aperture(path, *numbers):
    """Write a 'clap' box of eight numbers into the first track of an MP4 whose 'moov' comes last."""
    data = bytearray(path.read_bytes())
    box = struct.pack('>I4s8i', 40, b'clap', *numbers)
    for name in (b'avc1', b'stsd', b'stbl', b'minf', b'mdia', b'trak', b'moov'):
        start = data.rindex(name) - 4
        size = int.from_bytes(data[start:start + 4])
        if name == b'avc1':
            data[start + 86:start + 86] = box  # before any that ffmpeg has written, as it does since version 7.1
        data[start:start + 4] = (size + len(box)).to_bytes(4)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(('aperture', 'size'), [
    (None, (192, 128)), ((48, 1, 32, 1, 0, 1, 0, 1), (192, 128)), ((45, 1, 61, 2, 1, 2, -1, 4), (180, 120))],
    ids=['mkv', 'mp4', 'odd'])
@pytest.mark.parametrize('turns', [0, 1])
def test_what_the_container_says_to_crop_is_cropped(upscale, tmp_path, aperture, size, turns):
    """A red border of 8 pixels around what is green on the left and white on the right."""
    source = DATA / 'container_crop.mkv'
    if aperture or turns:
        source = clips.rotate(source, tmp_path / 'a.mp4', 270 * turns)
        add_clean_aperture(source, *(aperture or (48, 1, 32, 1, 0, 1, 0, 1)))
    upscale('-i', source, '-s', '4', '--pix_fmt', 'yuv444p', '--crf', '0')
    result = next((tmp_path / 'results').iterdir())
    frame = np.rot90(clips.frames(result)[0], turns)
    assert (frame.shape[1::-1], video(result).get('sample_aspect_ratio')) == (size, '1:1')
    assert np.abs(frame[:, :size[0] // 2 - 8].astype(int) - (0, 255, 0)).max() < 16
    assert np.abs(frame[:, size[0] // 2 + 8:].astype(int) - 255).max() < 16
