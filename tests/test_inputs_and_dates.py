"""Lists of inputs by @FILE, frames by a pattern with their number, and results that keep the dates of their inputs."""
from __future__ import annotations

import codecs
import os

import cv2
import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.pictures import PictureOptions, upscale_pictures
from tests.support import clips
from tests.support.clips import files

SCRIPTS = [inference_realesrgan, inference_realesrgan_video]


def write(path, level=0):
    path.parent.mkdir(exist_ok=True)
    data = cv2.imencode('.png', np.full((6, 8, 3), level, np.uint8))[1].tobytes()
    path.write_bytes(data)  # imwrite knows no other names than text
    return path


# ---- lists ----

@pytest.mark.parametrize('script', SCRIPTS)
def test_a_list_is_its_lines(monkeypatch, tmp_path, script):
    monkeypatch.chdir(tmp_path)
    names = ['a b.png', ' c.png ', '한국어.png', 'd\x85e\u2028f.png', os.fsdecode(b'\xff.png')]
    lines = [*names[:2], '', '  ', *names[2:]]
    (tmp_path / 'list.txt').write_bytes(b'\n'.join(map(os.fsencode, lines)))
    parse = script.build_parser().parse_args
    assert parse(['-i', '@list.txt', 'x.png', '-s', '2']).input == [*names, 'x.png']
    for mark, encoding in ((codecs.BOM_UTF8, 'utf-8'), (codecs.BOM_UTF16_LE, 'utf-16-le')):
        (tmp_path / 'list.txt').write_bytes(mark + 'a b.png\r\n한.png\r\n'.encode(encoding))
        assert parse(['-i', '@list.txt']).input == ['a b.png', '한.png']
    (tmp_path / 'options.txt').write_text('-i\na b.png\n--outscale=2\n--suffix\n@2x\n')
    args = parse(['@options.txt'])
    assert (args.input, args.outscale, args.suffix) == (['a b.png'], 2, '@2x')


@pytest.mark.parametrize('script', SCRIPTS)
def test_what_is_called_so_or_means_no_file_stays(monkeypatch, tmp_path, script):
    monkeypatch.chdir(tmp_path)
    parse = script.build_parser().parse_args
    (tmp_path / 'a.png').write_text('b.png')
    assert parse(['-i', '@a.png']).input == ['b.png']
    assert parse(['--input=@a.png']).input == ['@a.png']
    (tmp_path / '@a.png').touch()
    assert parse(['-i', '@a.png', './@a.png', '@', '@none', '@.']).input == ['@a.png', './@a.png', '@', '@none', '@.']
    assert parse(['--suffix', '@2x']).suffix == '@2x'


@pytest.mark.parametrize('script', SCRIPTS)
def test_what_is_no_list_is_a_usage_error(run_script, tmp_path, script):
    write(tmp_path / 'a.png')
    status, _, err = run_script(script, '-i', '@a.png')
    assert (status, '@a.png: a.png is not a list of inputs but a binary file' in err) == (2, True)
    (tmp_path / 'empty.txt').touch()
    status, _, err = run_script(script, '-i', '@empty.txt')
    assert (status, 'expected at least one argument' in err) == (2, True)
    status, _, err = run_script(script, '-i', '@none.txt')
    assert (status, '@none.txt: no such file or folder' in err) == (1, True)


def test_pictures_of_a_list_are_upscaled(succeed, tiny, tmp_path):
    for name in ('a b.png', '@c.png'):
        write(tmp_path / name)
    (tmp_path / 'my list').write_text('a b.png\n@c.png\n')
    succeed(inference_realesrgan, '--model_path', tiny, '-i', '@my list')
    assert files(tmp_path / 'results') == ['@c_out.png', 'a b_out.png']


# ---- patterns ----

def upscale_frames(run, tiny, *arguments):
    status, out, err = run(inference_realesrgan_video, '--model_path', tiny, '-s', '1', '--preset', 'ultrafast',
                           *arguments)
    assert status == 0, err
    return out + err


@pytest.mark.parametrize(('pattern', 'expected', 'name'), [
    ('in/frame%03d.png', 4, 'frame'), ('in/frame%d.png', 2, 'frame'), ('in/%03d.png', 1, 'in'),
    ('in/f_%1d.png', 1, 'f')])
def test_frames_by_their_numbers(run_script, tiny, tmp_path, pattern, expected, name):
    names = ['frame001.png', 'frame002.png', 'frame003.png', 'frame1000.png', 'frame7.png', 'frame0007.png',
             '005.png', 'f_3.png', 'frame008.jpg', 'frame00x.png', 'frame²²².png']
    for file in names:
        write(tmp_path / 'in' / file)
    printed = upscale_frames(run_script, tiny, '-i', pattern)
    assert clips.video(tmp_path / f'results/{name}_out.mp4')['frames'] == expected
    assert ('warning: in/frame%03d.png: missing between 1 and 1000: 996 frames, the first is 4; the frames around a '
            'gap follow each other' in printed) == (expected == 4)


def test_a_file_called_like_a_pattern_and_one_without_frames(run_script, tiny, tmp_path):
    write(tmp_path / 'a%02d.png')
    write(tmp_path / 'a01.png')
    upscale_frames(run_script, tiny, '-i', 'a%02d.png')
    assert files(tmp_path / 'results') == ['a%02d_out.png']
    for name in 'b%02d.png', 'none/a%02d.png', 'a%02d%d.png':
        status, _, err = run_script(inference_realesrgan_video, '-i', name)
        assert (status, f'{name}: no such file or folder' in err) == (1, True)


def test_numbered_videos_are_videos(run_script, tiny, tmp_path):
    for number in 1, 2:
        clips.make(tmp_path / f'a{number}.mp4', *clips.picture(seconds='0.1'), *clips.EXACT)
    upscale_frames(run_script, tiny, '-i', 'a%d.mp4')
    assert files(tmp_path / 'results') == ['a1_out.mp4', 'a2_out.mp4']


# ---- dates ----

@pytest.mark.parametrize('dated', [True, False])
def test_results_keep_the_date_of_their_input(run_script, tiny, tmp_path, dated):
    made = {'p.png': write(tmp_path / 'p.png'), 'v.mp4': clips.make(
        tmp_path / 'v.mp4', *clips.picture(seconds='0.1'), *clips.EXACT)}
    for number in 1, 2:
        made[f'f{number}'] = write(tmp_path / f'f/{number}.png')
    for age, path in enumerate(made.values()):
        os.utime(path, ns=(0, 10 ** 18 + age * 10 ** 9 + 123_000_000))
    upscale_frames(run_script, tiny, '-i', 'p.png', 'v.mp4', 'f', *['--keep_dates'] * dated)
    for name, source in (('p_out.png', 'p.png'), ('v_out.mp4', 'v.mp4'), ('f_out.mp4', 'f2')):
        kept = (tmp_path / 'results' / name).stat().st_mtime_ns == made[source].stat().st_mtime_ns
        assert kept == dated


def test_dates_that_can_not_be_kept(run_script, tiny, tmp_path, monkeypatch, capfd):
    write(tmp_path / 'a.png')
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '-o', '-', '--keep_dates')
    assert (status, '--keep_dates dates the files of results, which -o - does not put into' in err) == (2, True)

    def fail(*_, **__):
        raise PermissionError(1, 'Operation not permitted')
    monkeypatch.setattr(os, 'utime', fail)
    options = PictureOptions(model_path=str(tiny), keep_dates=True)
    outcome, = upscale_pictures('a.png', 'results', options)
    assert outcome.error is None
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--model_path', tiny, '--keep_dates')
    assert (status, "warning: a.png: the date of the input can't be kept: Operation not permitted" in err) == (0, True)
