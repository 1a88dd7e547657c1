"""Room on the disk, and what a run would do."""
from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan.videos import disk
from tests.support.clips import EXACT, files, make, picture
from tests.support.numbered_frames import LOSSLESS, counted, counts, parts


def test_a_disk_that_fills_up(run, tmp_path, monkeypatch):
    """The disk says what it has left; a real small one was tried by hand."""
    make(tmp_path / 'a.mp4', *counted('25', '4'), *EXACT)
    usage = shutil.disk_usage

    def shrinks(folder):
        there = len(parts()) if Path('results/a_out_parts').exists() else 0
        return usage(folder)._replace(free=1 << 40 if there < 2 else 63 << 20)
    monkeypatch.setattr(disk, 'SECONDS_BETWEEN_LOOKS', 0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, 'disk_usage', shrinks)
        status, _, err = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert status == 1
    assert err.splitlines()[-2:] == [
        'warning: a.mp4: 0 frames lost, 2 parts kept; the same command goes on from there',
        'error: results/a_out_parts: the disk has 63 MiB left, too little for the next frames (64 MiB stay free). '
        'Make room and run the same command again: it resumes from the finished parts']
    status, out, _ = run('-i', 'a.mp4', *LOSSLESS, '--chunk', '1', network='plain')
    assert (status, '(50 of them from an earlier run)' in out) == (0, True)
    assert counts('results/a_out.mp4') == list(range(100))


def test_too_little_room_is_said_before(run, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    usage = shutil.disk_usage('.')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=100 << 20))
    monkeypatch.setattr('realesrgan.videos.job.estimate_result_size', lambda encoding, frames: 200 << 20)
    assert 'warning: a.mp4: about 400 MiB of disk will be needed, 100 MiB are free' in run('-i', 'a.mp4', '-s', '1')[2]


def test_dry_run(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='25'), *EXACT)
    status, out, _ = run('-i', 'a.mp4', '-s', '2', '--dry_run', '--num_process_per_gpu', '2')
    assert status == 0
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines['result'] == 'results/a_out.mp4'
    assert lines['frames'] == '600, 64x48 to 128x96, 24 frames/s, libx264 yuv420p'
    assert lines['chunks'] == '3'
    assert lines['workers'] == '2 on the CPU or the first GPU'
    assert re.fullmatch(r'[\d.e+-]+ frames/s, timed on 3 frames', lines['speed'])
    assert re.fullmatch(r'about \d+:\d\d:\d\d', lines['time'])
    assert re.fullmatch(r'about \d+ MiB, twice that before the parts are removed; \d+ [GM]iB are free', lines['disk'])
    assert re.fullmatch(r'\d+ MiB per worker, not counting that of a GPU', lines['memory'])
    assert ', 3 MiB of extracted frames; ' in run('-i', 'a.mp4', '--dry_run', '--extract_frame_first')[1]
    assert files(tmp_path) == ['a.mp4']


def test_a_dry_run_counts_the_parts_that_a_run_would_find(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='4'), *EXACT)
    common = '-i', 'a.mp4', '--chunk', '1', '-s', '2'
    assert run(*common, '--keep_parts')[0] == 0
    (tmp_path / 'results/a_out.mp4').unlink()
    assert 'chunks   4; 4 parts with 96 frames there from an earlier run\n' in run(*common, '--dry_run')[1]
    for other in (['--crf', '30'], ['--restart']):
        assert 'chunks   4\n' in run(*common, '--dry_run', *other)[1]
    Path('results/a_out_parts', parts()[0]).unlink()
    assert 'chunks   4; 3 parts with 72 frames there from an earlier run\n' in run(*common, '--dry_run')[1]


def test_parts_beside_a_finished_video_are_told_of(run, tmp_path):
    """As a kill leaves them between renaming the result and removing them."""
    make(tmp_path / 'a.mp4', *picture(seconds='0.5'), *EXACT)
    assert run('-i', 'a.mp4', '-s', '1', '--keep_parts')[0] == 0
    warning = 'results/a_out.mp4: results/a_out_parts is left over from it, and may be deleted'
    assert warning in run('-i', 'a.mp4', '-s', '1', '--skip_existing')[2]
    assert warning not in run('-i', 'a.mp4', '-s', '1', '--skip_existing', '--keep_parts')[2]


def test_a_disk_that_fills_up_while_frames_are_extracted(run, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *picture('512x512', seconds='20'), *EXACT)  # seconds of work for ffmpeg
    usage = shutil.disk_usage

    def shrinks(folder):
        return usage(folder)._replace(free=63 << 20 if list(Path('results').rglob('*.png')) else 1 << 40)
    monkeypatch.setattr(disk, 'SECONDS_BETWEEN_LOOKS', 0)
    monkeypatch.setattr(shutil, 'disk_usage', shrinks)
    status, _, err = run('-i', 'a.mp4', '--extract_frame_first')
    assert (status, err.splitlines()[-1][:52]) == (1, 'error: results/a_out_parts: the disk has 63 MiB left')
    assert 'upscaled' not in err
    assert files(tmp_path) == ['a.mp4']


@pytest.mark.parametrize(('network', 'size'), [('x1', '64x48'), ('x3', '192x144'), ('x8', '512x384')])
def test_dry_run_at_the_networks_own_scale(run, tmp_path, network, size):
    make(tmp_path / 'a.mp4', *picture(), *EXACT)
    assert f'frames   24, 64x48 to {size}, ' in run('-i', 'a.mp4', '--dry_run', network=network)[1]


def test_dry_run_of_a_picture_and_of_a_pipe(run, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    assert run('-i', 'a.png', '--dry_run')[:2] == (0, 'result   results/a_out.png, a single picture\n')
    os.mkfifo(tmp_path / 'b.pipe')
    status, _, err = run('-i', 'b.pipe', '--dry_run')
    assert (status, err) == (2, 'error: b.pipe: --dry_run would use up what can be read once only; give a file\n')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.png', 'b.pipe']
