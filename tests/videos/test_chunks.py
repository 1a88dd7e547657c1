"""However a video is cut into chunks and shared among workers, the frames are the same."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from realesrgan.videos.plan import cut_into_chunks
from tests.support import clips
from tests.support.clips import EXACT, LOSSLESS, OPEN_GOPS, counted, counts, files, hashes, make, sound, video


@pytest.fixture
def same(upscale, tmp_path):
    """Run with other numbers of workers and lengths of chunks, and compare what comes out with a run in one go."""
    def compare(name, ways, *more):
        upscale('-i', name, *LOSSLESS, '--chunk', '0', '-o', 'whole', *more)
        expected = hashes('whole/a_out.mp4')
        for workers, chunk in ways:
            assert 'parts kept' not in upscale(
                '-i', name, *LOSSLESS, '--num_process_per_gpu', workers, '--chunk', chunk, *more)
            assert hashes('results/a_out.mp4') == expected
            assert video('results/a_out.mp4')['rate'] == video('whole/a_out.mp4')['rate']
            if clips.streams('whole/a_out.mp4', 'audio'):
                assert clips.packets('results/a_out.mp4', 'a:0') == clips.packets('whole/a_out.mp4', 'a:0')
            assert files(Path('results')) == ['a_out.mp4']
        return expected
    return compare


def test_chunks_and_workers_do_not_change_a_frame(same, tmp_path):
    make(tmp_path / 'a.mp4', *counted(seconds='4'), *sound('4'), *OPEN_GOPS)
    expected = same('a.mp4', [(1, '1.5'), (2, '0.75')])
    assert clips.packets('whole/a_out.mp4', 'a:0') == clips.packets('a.mp4', 'a:0')
    assert counts('whole/a_out.mp4') == list(range(120))
    assert len(expected) == 120
    assert video('whole/a_out.mp4')['rate'] == ('30000/1001', '30000/1001')


@pytest.mark.parametrize(('name', 'arguments'), [
    ('a.ts', ['-output_ts_offset', '1234.5']),
    ('a.mkv', ['-c:a', 'libopus']),
    ('a.mov', ['-bf', '2', '-g', '15', '-c:a', 'pcm_s16be']),
    ('a.m2ts', ['-x264-params', 'intra-refresh=1:keyint=15']),
    ('a.avi', ['-c:v', 'mpeg4', '-bf', '2', '-q:v', '2', '-c:a', 'libmp3lame']),
    ('a.mpg', ['-c:v', 'mpeg2video', '-bf', '2', '-q:v', '2', '-c:a', 'mp2']),
    ('a.webm', ['-c:v', 'libvpx', '-b:v', '1M', '-auto-alt-ref', '1', '-lag-in-frames', '16', '-c:a', 'libopus']),
    ('a.flv', []),
    ('a.MP4', ['-bf', '2', '-f', 'mp4'])])
def test_containers(same, tmp_path, name, arguments):
    source = make(tmp_path / name, *counted('25', '2'), *sound('2'), *OPEN_GOPS, '-c:a', 'aac', *arguments)
    expected = same(name, [(1, '0.35')])
    assert len(expected) == 50
    assert counts('whole/a_out.mp4') == list(range(50))
    result = video('whole/a_out.mp4')
    assert (result['codec_name'], result['rate']) == ('h264', ('25/1', '25/1'))
    assert abs(clips.duration('whole/a_out.mp4', 'audio') - clips.duration(source, 'audio')) < 0.05


def test_without_time_stamps_there_are_twenty_parts_at_most(same, upscale, tmp_path):
    make(tmp_path / 'a.avi', *counted('25', '3.16'), '-c:v', 'mpeg4', '-bf', '2', '-q:v', '2')
    for more, frames, parts in ([], 79, 20), (['--start', '1'], 54, 18):
        lines = upscale('-i', 'a.avi', '-s', '1', '--dry_run', '--chunk', '0.1', *more).splitlines()
        assert (lines[1].startswith(f'frames   {frames}, '), lines[2]) == (True, f'chunks   {parts}')
    same('a.avi', [(1, '0.5')], '--start', '1')
    assert counts('whole/a_out.mp4') == list(range(24, 79))  # ffmpeg takes the first frame of such a file for late


@pytest.mark.parametrize('name', ['a.mkv', 'a.mp4', 'a.ts'])
def test_a_variable_rate(same, tmp_path, name):
    make(tmp_path / name, *counted('30', '2.5'), *sound('2.5'), '-vf', "select='not(between(mod(n,20),7,13))'",
         *clips.ALL_FRAMES, *OPEN_GOPS)
    assert len(same(name, [(1, '0.35')])) in (75, 76)


@pytest.mark.parametrize('more', [['--fps', '50'], ['--fps', '11'], ['--start', '0.75', '--end', '2.55'],
                                  ['--start', '1.02', '--fps', '29.97'], ['--deinterlace', 'on'],
                                  ['--extract_frame_first']])
def test_options_that_choose_frames(same, tmp_path, more):
    make(tmp_path / 'a.mp4', *counted('25', '3'), *OPEN_GOPS)
    same('a.mp4', [(1, '0.35')], *more)


@pytest.mark.parametrize(('container', 'codec'), [('mkv', 'ffv1'), ('mkv', 'libx264'), ('webm', 'libvpx'),
                                                  ('webm', 'libvpx-vp9'), ('mov', 'prores_ks')])
def test_results_of_every_container_are_joined_in_time(upscale, tmp_path, container, codec):
    make(tmp_path / 'a.mp4', *counted(seconds='2.5'), *OPEN_GOPS)
    for chunk in ('0', '0.35'):
        upscale('-i', 'a.mp4', '-s', '1', '--vcodec', codec, '--ext', container, '--chunk', chunk, '-o', f'x{chunk}')
    times = [clips.times(f'x{chunk}/a_out.{container}') for chunk in ('0', '0.35')]
    assert len(times[0]) == 75
    assert np.abs(np.subtract(*times)).max() <= 0.0011
    assert counts(f'x0.35/a_out.{container}') == list(range(75))


def test_a_folder_of_frames_in_chunks(upscale, tmp_path):
    make(tmp_path / 'a.mp4', *counted('24', '1.5'), *EXACT)
    (tmp_path / 'shots').mkdir()
    clips.ffmpeg('-i', 'a.mp4', 'shots/%d.png')
    for workers, chunk in ((1, 0), (1, '0.5'), (2, '0.25')):
        upscale('-i', 'shots', *LOSSLESS, '--num_process_per_gpu', workers, '--chunk', chunk)
        assert counts('results/shots_out.mp4') == list(range(36))
        assert video('results/shots_out.mp4')['rate'] == ('24/1', '24/1')
        assert files(Path('results')) == ['shots_out.mp4']


@pytest.mark.parametrize(('length', 'last', 'expected'), [
    (4, 9, [(0, 4), (4, 8), (8, None)]), (4, 7, [(0, 4), (4, None)]), (4, 3, [(0, None)]), (0, 7, [(0, None)]),
    (4, 0, [(0, None)])])
def test_cut(length, last, expected):
    assert cut_into_chunks(length, last) == expected
