"""Room on the disk, and what a run would do."""
from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from realesrgan.videos import job
from tests.support.clips import EXACT, LOSSLESS, counted, counts, files, make, parts, picture


@pytest.fixture
def shrink(monkeypatch):
    """Let the disk say that it is full once something is there; a real small one was tried by hand."""
    usage = shutil.disk_usage

    def arrange(is_there):
        monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage(folder)._replace(
            free=63 << 20 if is_there() else 1 << 40))
    monkeypatch.setattr(job, 'SECONDS_BETWEEN_LOOKS', 0)
    return arrange


def test_a_disk_that_fills_up(upscale, fail, shrink, tmp_path):
    make(tmp_path / 'a.mp4', *counted('25', '4'), *EXACT)
    shrink(lambda: len(parts()) == 2)
    assert fail('-i', 'a.mp4', *LOSSLESS, '--chunk', '1').splitlines()[-2:] == [
        'warning: a.mp4: 0 frames lost, 2 parts kept; the same command resumes',
        'error: results/a_out_parts: the disk has 63 MiB left, too little for the next frames (64 MiB stay free). '
        'Make room and run the same command again: it resumes from the finished parts']
    shrink(lambda: False)
    assert '(50 of them from an earlier run)' in upscale('-i', 'a.mp4', *LOSSLESS, '--chunk', '1')
    assert counts('results/a_out.mp4') == list(range(100))


def test_a_disk_that_fills_up_while_frames_are_extracted(fail, shrink, tmp_path):
    make(tmp_path / 'a.mp4', *picture('512x512', seconds='20'), *EXACT)  # seconds of work for ffmpeg
    shrink(lambda: next(Path('results').rglob('*.png'), False))
    text = fail('-i', 'a.mp4', '--extract_frame_first')
    assert text.splitlines()[-1].startswith('error: results/a_out_parts: the disk has 63 MiB left')
    assert 'upscaled' not in text
    assert files(tmp_path) == ['a.mp4']


def test_too_little_room_is_said_before(upscale, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT)
    usage = shutil.disk_usage('.')
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=100 << 20))
    monkeypatch.setattr('realesrgan.videos.job.estimate_result_size', lambda encoding, frames: 200 << 20)
    assert 'warning: a.mp4: about 400 MiB of disk will be needed, 100 MiB are free' in upscale('-i', 'a.mp4', '-s', '1')


def test_dry_run(upscale, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='25'), *EXACT)
    text = upscale('-i', 'a.mp4', '-s', '2', '--dry_run', '--num_process_per_gpu', '2')
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert lines.items() >= {
        'result': 'results/a_out.mp4', 'frames': '600, 64x48 to 128x96, 24 frames/s, libx264 yuv420p', 'chunks': '3',
        'workers': '2 on the CPU or the first GPU'}.items()
    assert re.fullmatch(r'[\d.e+-]+ frames/s, timed on 3 frames', lines['speed'])
    assert re.fullmatch(r'about \d+:\d\d:\d\d', lines['time'])
    assert re.fullmatch(r'about \d+ MiB, twice that before the parts are removed; \d+ [GM]iB are free', lines['disk'])
    assert re.fullmatch(r'\d+ MiB per worker, not counting that of a GPU', lines['memory'])
    assert ', 3 MiB of extracted frames; ' in upscale('-i', 'a.mp4', '--dry_run', '--extract_frame_first')
    assert files(tmp_path) == ['a.mp4']


def test_a_dry_run_counts_steadying(upscale, tmp_path, monkeypatch):
    make(tmp_path / 'a.mp4', *picture(seconds='25'), *EXACT)
    given = []
    monkeypatch.setattr('realesrgan.videos.dry_run.time_steadying', lambda frames: given.append(frames) or 1e5)
    text = upscale('-i', 'a.mp4', '-s', '2', '--dry_run', '--steady')
    assert [(source.shape, result.shape) for source, result in given[0]] == [((48, 64, 3), (96, 128, 3))] * 3
    assert re.search(r'\ntime     about \d+ days, ', text)  # no worker is faster than the core that steadies
    assert 'days' not in upscale('-i', 'a.mp4', '-s', '2', '--dry_run')


def test_a_dry_run_counts_the_parts_that_a_run_would_find(upscale, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='4'), *EXACT)
    common = '-i', 'a.mp4', '--chunk', '1', '-s', '2'
    upscale(*common, '--keep_parts')
    (tmp_path / 'results/a_out.mp4').unlink()
    assert 'chunks   4; 4 parts with 96 frames there from an earlier run\n' in upscale(*common, '--dry_run')
    for other in (['--crf', '30'], ['--restart']):
        assert 'chunks   4\n' in upscale(*common, '--dry_run', *other)
    Path('results/a_out_parts', parts()[0]).unlink()
    assert 'chunks   4; 3 parts with 72 frames there from an earlier run\n' in upscale(*common, '--dry_run')


def test_parts_beside_a_finished_video_are_told_of(upscale, tmp_path):
    """As a kill leaves them between renaming the result and removing them."""
    make(tmp_path / 'a.mp4', *picture(seconds='0.5'), *EXACT)
    upscale('-i', 'a.mp4', '-s', '1', '--keep_parts')
    warning = 'results/a_out.mp4: results/a_out_parts is left over from it, and may be deleted'
    assert warning in upscale('-i', 'a.mp4', '-s', '1', '--skip_existing')
    assert warning not in upscale('-i', 'a.mp4', '-s', '1', '--skip_existing', '--keep_parts')


def test_dry_run_of_a_pipe(run, tmp_path):
    os.mkfifo(tmp_path / 'b.pipe')
    status, _, err = run('-i', 'b.pipe', '--dry_run')
    assert (status, err) == (2, 'error: b.pipe: --dry_run would use up what can be read once only; give a file\n')
    assert [path.name for path in tmp_path.iterdir()] == ['b.pipe']
