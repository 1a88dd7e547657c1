"""One input never ends the others: a bug of ours at any step is the failure of its input alone, in both scripts."""
from __future__ import annotations

import errno
import os
import sys
import types
from functools import partial
from pathlib import Path

import cv2
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.errors import DiskFullError
from tests.support import broken_steps, clips
from tests.support.broken_steps import PICTURE_STEPS, REPORT, VIDEO_STEPS, VIDEO_WIDTHS, WIDTHS, describe
from tests.support.clips import files


@pytest.fixture(scope='session')
def network(tmp_path_factory):
    return clips.save_network(tmp_path_factory.mktemp('networks') / 'plain.pth', plain=True)


@pytest.fixture
def run(tmp_path, monkeypatch, network, capfd):
    """Run a script with -v; return its status, its stdout, the lines of its errors, sorted, and all of stderr."""
    monkeypatch.chdir(tmp_path)

    def run(script, *arguments):
        status = script.main(['--model_path', network, '-v', *arguments])
        out, err = capfd.readouterr()
        return status, out, sorted(line for line in err.splitlines() if line.startswith('error: ')), err
    return run


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """The names of thirty pictures, which two processes may share."""
    broken_steps.make_pictures(tmp_path)
    monkeypatch.setattr('realesrgan.engines.choice.require_gpu', lambda gpu_id, engine: None)
    return [f'{width}.png' for width in WIDTHS]


def results_but(widths, but, ending):
    return sorted(f'{width}_out.{ending}' for width in widths if width not in but)


# ---- pictures ----

@pytest.mark.parametrize('step', PICTURE_STEPS)
def test_a_step_fails_for_one_picture_of_thirty(run, pictures, monkeypatch, step):
    broken_steps.break_pictures({step: 7}, monkeypatch.setattr)
    status, out, errors, err = run(inference_realesrgan, '-i', *pictures)
    assert (status, out.startswith('29 done, 1 failed')) == (1, True)
    assert errors == describe(PICTURE_STEPS, {step: 7}, 'png')
    assert 'in fail_at' in err[err.index('Traceback (most recent call last)'):]
    assert files('results') == results_but(WIDTHS, [7], 'png')
    assert all(int(cv2.imread(f'results/{width}_out.png').max()) == width for width in (6, 8, 30))
    assert err.count('it is tried again') == (step == 'upscaling')


def test_steps_fail_for_three_pictures_of_thirty_in_processes(run, pictures, monkeypatch):
    widths = dict(zip(PICTURE_STEPS, (7, 8, 9), strict=True))
    monkeypatch.setattr('realesrgan.pictures.worker.PictureWorker',
                        partial(broken_steps.build_picture_worker, widths=widths))
    status, out, errors, err = run(inference_realesrgan, '-i', *pictures, '-g', '0,1')
    assert (status, out.startswith('27 done, 3 failed')) == (1, True), err
    assert errors == describe(PICTURE_STEPS, widths, 'png')
    assert err.count('in fail_at') >= 3
    assert files('results') == results_but(WIDTHS, [7, 8, 9], 'png')


@pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')
def test_a_picture_that_kills_every_worker_costs_no_other(run, pictures, monkeypatch):
    monkeypatch.setattr('realesrgan.pictures.worker.PictureWorker',
                        partial(broken_steps.build_mortal_picture_worker, width=6))
    status, out, [error], err = run(inference_realesrgan, '-i', *pictures[:10], '-g', '0,1')
    assert (status, out.startswith('9 done, 1 failed')) == (1, True), err
    assert error.startswith('error: 6.png: a worker on GPU ')
    assert files('results') == results_but(range(1, 11), [6], 'png')


def test_what_no_other_picture_would_survive_ends_the_run(run, pictures, monkeypatch):
    broken_steps.break_pictures({'upscaling': 7}, monkeypatch.setattr)
    monkeypatch.setitem(PICTURE_STEPS, 'upscaling', DiskFullError('full'))
    status, out, errors, _ = run(inference_realesrgan, '-i', *pictures)
    assert (status, out.startswith('6 done, 0 failed'), errors) == (1, True, ['error: full'])


def test_a_full_disk_ends_the_run(run, pictures, monkeypatch):
    monkeypatch.setitem(PICTURE_STEPS, 'writing', OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    broken_steps.break_pictures({'writing': 7}, monkeypatch.setattr)
    status, out, errors, err = run(inference_realesrgan, '-i', *pictures)
    assert (status, out.startswith('6 done, 0 failed')) == (1, True)
    assert errors == ['error: results/7_out.png: No space left on device']
    assert 'warning: 6 of 30 done; the same command with --skip_existing resumes' in err
    assert files('results') == results_but(range(1, 7), [], 'png')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='this system has no device that is always full')
def test_a_full_disk_under_stdout_is_named(run, pictures, monkeypatch):
    with Path('/dev/full').open('wb', buffering=0) as full:
        monkeypatch.setattr(sys, '__stdout__', types.SimpleNamespace(buffer=full))
        assert run(inference_realesrgan, '-i', '7.png', '-o', '-')[::2] == (
            1, ['error: stdout: No space left on device'])


def test_a_bug_in_what_compares_a_result_keeps_it(run, pictures, monkeypatch):
    def fail(*_):
        raise IndexError('x')
    monkeypatch.setattr('realesrgan.quality.comparisons.compare', fail)
    status, _, errors, err = run(inference_realesrgan, '-i', '20.png', '--compare')
    assert (status, files('results')) == (1, ['20_out.png'])
    assert errors == [f'error: 20.png: no comparison: IndexError: x: {REPORT}']
    assert 'in fail' in err


@pytest.mark.parametrize(('option', 'step'), [
    ('', 'checks.check'), ('--report=r.json', 'measures.examine')])
def test_a_bug_in_what_checks_a_result_is_no_fault_of_it(run, pictures, monkeypatch, option, step):
    def fail(*_):
        raise IndexError('x')
    monkeypatch.setattr(f'realesrgan.quality.{step}', fail)
    status, _, errors, err = run(inference_realesrgan, '-i', '20.png', *option.split())
    assert (status, errors, files('results')) == (0, [], ['20_out.png'])
    assert f'warning: 20.png: no check: IndexError: x: {REPORT}' in err
    assert 'in fail' in err


# ---- videos ----

@pytest.mark.parametrize('step', VIDEO_STEPS)
def test_a_step_fails_for_one_video_of_five(run, tmp_path, monkeypatch, step):
    videos = broken_steps.make_videos(tmp_path)
    broken_steps.break_videos({step: 64}, monkeypatch.setattr)
    status, out, errors, err = run(inference_realesrgan_video, '-i', *videos, '-s', '1', '--chunk', '0.5')
    assert (status, '\n4 done, 1 failed' in out) == (1, True)
    assert errors == describe(VIDEO_STEPS, {step: 64}, 'mp4')
    assert 'in fail_at' in err[err.index('Traceback (most recent call last)'):]
    assert [name for name in files('results') if '/' not in name] == results_but(VIDEO_WIDTHS, [64], 'mp4')
    assert clips.numbers('results/96_out.mp4') == list(range(12))


def test_steps_fail_for_four_videos_of_five_in_processes(run, tmp_path, monkeypatch):
    videos = broken_steps.make_videos(tmp_path)
    command = '-i', *videos, '-s', '1', '--chunk', '0.5'
    here, there = {'planning': 32, 'joining': 96}, {'decoding': 48, 'encoding': 64}
    with monkeypatch.context() as broken:
        broken_steps.break_videos(here, broken.setattr)
        broken.setattr('realesrgan.videos.worker.ChunkWorker',
                       partial(broken_steps.build_chunk_worker, widths=there))
        status, out, errors, err = run(inference_realesrgan_video, *command, '--num_process_per_gpu', '2')
    assert (status, '\n1 done, 4 failed' in out) == (1, True), err
    assert errors == describe(VIDEO_STEPS, here | there, 'mp4')
    assert err.count('in fail_at') >= 4
    assert clips.numbers('results/80_out.mp4') == list(range(10))
    status, out, _, err = run(inference_realesrgan_video, *command)
    assert (status, '5 done, 0 failed' in out) == (0, True), err
    assert 'reusing 3 parts of an earlier run' in err
