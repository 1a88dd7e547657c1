"""One input never ends the others: a bug of ours at any step is the failure of its input alone, in both scripts."""
from __future__ import annotations

import os
from pathlib import Path

import clips
import cv2
import numpy as np
import pytest
from broken_steps import (
    PICTURE_STEPS,
    VIDEO_STEPS,
    WORKER_STEPS,
    BrokenBuild,
    break_driver,
    break_pictures,
    break_videos,
    build_chunk_worker,
    build_mortal_picture_worker,
    build_picture_worker,
)
from clips import files

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.errors import DiskFullError

REPORT = 'please report it with the file and what -v shows'


@pytest.fixture(scope='session')
def network(tmp_path_factory):
    return clips.save_network(tmp_path_factory.mktemp('networks') / 'plain.pth', plain=True)


@pytest.fixture
def run(tmp_path, monkeypatch, network, capfd):
    """Run a script with -v; return its status, its stdout, its lines of errors and all of stderr."""
    monkeypatch.chdir(tmp_path)

    def run(script, *arguments):
        status = script.main(['--model_path', network, '-v', *arguments])
        out, err = capfd.readouterr()
        return status, out, [line for line in err.splitlines() if line.startswith('error: ')], err
    return run


@pytest.fixture
def pictures(tmp_path):
    """Thirty pictures, NUMBER.png as many pixels wide as its number says."""
    (tmp_path / 'in').mkdir()
    for width in range(1, 31):
        cv2.imwrite(str(tmp_path / f'in/{width}.png'), np.full((4, width, 3), width, np.uint8))


@pytest.fixture
def videos(tmp_path):
    """Five videos of eight frames, WIDTH.mp4."""
    names = [f'{width}.mp4' for width in (32, 48, 64, 80, 96)]
    for name in names:
        clips.make(tmp_path / name, *clips.numbered('8', '1', f'{name[:2]}x32'), *clips.EXACT)
    return names


def describe(error, *steps):
    """The lines about inputs that failed, by name."""
    name = type(error).__name__ if type(error).__module__ == 'builtins' else 'struct.error'
    return [f'error: {step}: {name}: {error}: a bug of this program; {REPORT}' for step in steps]


# ---- pictures ----

@pytest.mark.parametrize('step', PICTURE_STEPS)
def test_a_step_fails_for_one_picture_of_thirty(run, pictures, monkeypatch, step):
    break_pictures({step: 7}, monkeypatch.setattr)
    status, out, errors, err = run(inference_realesrgan, '-i', 'in')
    assert (status, out.startswith('29 done, 1 failed')) == (1, True)
    assert errors == describe(PICTURE_STEPS[step], 'in/7.png')
    assert 'in fail_at' in err[err.index('Traceback (most recent call last)'):]
    assert files('results') == sorted(f'{width}_out.png' for width in range(1, 31) if width != 7)
    assert all(int(cv2.imread(f'results/{width}_out.png').max()) == width for width in (6, 8, 30))
    assert err.count('it is tried again') == (step == 'upscaling')


def test_steps_fail_for_three_pictures_of_thirty_in_processes(run, pictures, monkeypatch):
    widths = dict(zip(PICTURE_STEPS, (7, 8, 9), strict=True))
    monkeypatch.setattr('realesrgan.pictures.worker.PictureWorker', BrokenBuild(build_picture_worker, widths=widths))
    monkeypatch.setattr('realesrgan.pictures.run.require_gpus', lambda gpu_ids, engine: None)
    status, out, errors, err = run(inference_realesrgan, '-i', 'in', '-g', '0,1')
    assert (status, out.startswith('27 done, 3 failed')) == (1, True), err
    assert sorted(errors) == sorted(line for step, width in widths.items()
                                    for line in describe(PICTURE_STEPS[step], f'in/{width}.png'))
    assert err.count('in fail_at') >= 3
    assert files('results') == sorted(f'{width}_out.png' for width in range(1, 31) if width not in (7, 8, 9))


@pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')
def test_a_picture_that_kills_every_worker_costs_no_other(run, pictures, monkeypatch):
    monkeypatch.setattr('realesrgan.pictures.worker.PictureWorker', BrokenBuild(build_mortal_picture_worker, width=6))
    monkeypatch.setattr('realesrgan.pictures.run.require_gpus', lambda gpu_ids, engine: None)
    status, out, errors, err = run(inference_realesrgan, '-i', *(f'in/{width}.png' for width in range(1, 11)),
                                   '-g', '0,1')
    assert (status, out.startswith('9 done, 1 failed')) == (1, True), err
    [error] = errors
    assert error.startswith('error: in/6.png: a worker on GPU ')
    assert files('results') == sorted(f'{width}_out.png' for width in range(1, 11) if width != 6)


def test_what_no_other_picture_would_survive_ends_the_run(run, pictures, monkeypatch):
    break_pictures({'upscaling': 7}, monkeypatch.setattr)
    monkeypatch.setitem(PICTURE_STEPS, 'upscaling', DiskFullError('full'))
    status, out, errors, _ = run(inference_realesrgan, '-i', 'in')
    assert (status, out.startswith('6 done, 0 failed'), errors) == (1, True, ['error: full'])


@pytest.mark.parametrize(('option', 'step', 'problem'), [
    ('--compare', 'compare', 'no comparison'), ('--report=r.json', 'examine', 'no check')])
def test_a_bug_in_what_judges_a_result_keeps_it(run, pictures, monkeypatch, option, step, problem):
    def fail(*_):
        raise IndexError('x')
    monkeypatch.setattr(f'realesrgan.pictures.worker.{step}', fail)
    status, _, errors, err = run(inference_realesrgan, '-i', 'in/20.png', option)
    assert (status, files('results')) == (1, ['20_out.png'])
    assert errors == [f'error: in/20.png: {problem}: IndexError: x: a bug of this program; {REPORT}']
    assert 'in fail' in err


# ---- videos ----

@pytest.mark.parametrize('step', VIDEO_STEPS)
def test_a_step_fails_for_one_video_of_five(run, videos, monkeypatch, step):
    break_driver({step: '64.mp4'}, monkeypatch.setattr)
    break_videos({step: 64}, monkeypatch.setattr)
    status, out, errors, err = run(inference_realesrgan_video, '-i', *videos, '-s', '1', '--chunk', '0.5')
    assert (status, '\n4 done, 1 failed' in out) == (1, True)
    assert errors == describe(VIDEO_STEPS[step], '64.mp4')
    assert 'Traceback (most recent call last)' in err
    assert [name for name in files('results') if '/' not in name] == [
        f'{width}_out.mp4' for width in (32, 48, 80, 96)]
    assert [clips.video(f'results/{width}_out.mp4')['frames'] for width in (32, 48, 80, 96)] == [8] * 4


def test_steps_fail_for_all_but_one_video_in_processes(run, videos, monkeypatch):
    widths = dict(zip(WORKER_STEPS, (48, 64), strict=True))
    command = '-i', *videos, '-s', '1', '--chunk', '0.5'
    with monkeypatch.context() as broken:
        break_driver({'planning': '32.mp4', 'joining': '96.mp4'}, broken.setattr)
        broken.setattr('realesrgan.videos.worker.ChunkWorker', BrokenBuild(build_chunk_worker, widths=widths))
        status, out, errors, err = run(inference_realesrgan_video, *command, '--num_process_per_gpu', '2')
    assert (status, '\n1 done, 4 failed' in out) == (1, True), err
    failed = {'planning': '32.mp4', 'joining': '96.mp4', **{step: f'{width}.mp4' for step, width in widths.items()}}
    assert sorted(errors) == sorted(line for step, name in failed.items()
                                    for line in describe(VIDEO_STEPS[step], name))
    assert clips.numbers('results/80_out.mp4') == list(range(8))
    assert len(list(Path('results/96_out_parts').glob('0*.mp4'))) == 2
    status, out, _, err = run(inference_realesrgan_video, *command)
    assert (status, '5 done, 0 failed' in out) == (0, True), err
    assert 'reusing 2 of 2 parts of an earlier run' in err
