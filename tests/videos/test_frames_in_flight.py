"""Videos of which several frames are in work at once, as on a CUDA device, played on the CPU."""
from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from realesrgan.engines import torch as torch_engine
from realesrgan.engines.torch import TorchEngine
from tests.support import clips
from tests.support.clips import EXACT, files, hashes, make

ARGUMENTS = '-i', 'a.mp4', '--engine', 'torch', '--crf', '0', '--preset', 'ultrafast'


@pytest.fixture
def film(tmp_path):
    """Twenty frames; one comes three times."""
    return make(tmp_path / 'a.mp4', *clips.numbered(seconds='0.8'), '-vf',
                'setpts=N/25/TB,loop=2:1:6,setpts=N/25/TB', '-frames:v', '20', *EXACT)


@pytest.fixture
def pipelined(monkeypatch):
    """Let something happen at calls of the engine, which are returned with the number of their frames."""
    monkeypatch.setattr(torch_engine, 'PIPELINED', ('cpu',))
    run, calls = TorchEngine._run, []

    def arrange(happen):
        def run_noted(engine, pixels, *more):
            calls.append(len(pixels))
            return happen(len(calls), run(engine, pixels, *more))
        monkeypatch.setattr(TorchEngine, '_run', run_noted)
        return calls
    arrange(lambda number, finished: finished)
    return arrange


@pytest.mark.parametrize(('size', 'network'), [('4', 'plain'), ('2', 'tiny')])
def test_the_frames_are_those_of_one_after_the_other(upscale, film, pipelined, monkeypatch, size, network):
    calls = pipelined(lambda number, finished: finished)
    upscale(*ARGUMENTS, '-s', size, '-o', 'tested', network=network)
    assert calls == [4, 4, 4, 4, 2]  # of 18 frames that differ
    monkeypatch.setattr(torch_engine, 'PIPELINED', ())
    upscale(*ARGUMENTS, '-s', size, '-o', 'plain', network=network)
    if network == 'plain':
        assert hashes('tested/a_out.mp4') == hashes('plain/a_out.mp4')
    tested, plain = clips.frames('tested/a_out.mp4'), clips.frames('plain/a_out.mp4')
    assert tested.shape == plain.shape == (20, 48 * int(size), 64 * int(size), 3)
    assert np.abs(tested.astype(int) - plain).max() <= 4  # a level, turned into YUV and back
    assert len({frame.tobytes() for frame in tested}) == 18


def test_no_frame_is_lost_where_memory_runs_out_in_the_middle(upscale, film, pipelined):
    def run_out(number, finished):
        if number > 2 and finished[0].shape[2] > 60 * 4:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return finished
    calls = pipelined(run_out)
    out = upscale(*ARGUMENTS, '-s', '4')
    assert calls[:4] == [4, 4, 4, 1]
    assert 'not enough memory on cpu; trying smaller tiles' in out
    assert clips.numbers('results/a_out.mp4') == clips.numbers('a.mp4')


def test_a_frame_that_is_not_finite_is_not_written(fail, film, pipelined, tmp_path):
    """It is one of four that are computed at once, and fails by itself, too."""
    def spoil(number, finished):
        light = 16 + finished[0].float().mean((1, 2, 3)) * 219 / 255
        return finished[0], ((light - 20) / 8).round() != 9
    calls = pipelined(spoil)
    assert 'error: a.mp4: frame 12: the network gave values that are not finite' in fail(*ARGUMENTS, '-s', '4')
    assert calls[:3] == [4, 4, 4]
    assert files(tmp_path) == ['a.mp4']


def test_an_interrupted_run_goes_on_where_it_was(run, upscale, film, pipelined, monkeypatch):
    from realesrgan.videos import worker
    upscale(*ARGUMENTS, '-s', '4', '-o', 'whole')
    monkeypatch.setattr(worker, 'PART_SECONDS', 0.0)  # so that each frame is kept

    def interrupt(number, finished):
        if number == 9:
            raise KeyboardInterrupt
        return finished
    pipelined(interrupt)
    assert run(*ARGUMENTS, '-s', '4')[0] == 130
    pipelined(lambda number, finished: finished)
    assert re.search(r'\d+ of them from an earlier run', upscale(*ARGUMENTS, '-s', '4'))
    assert hashes('results/a_out.mp4') == hashes('whole/a_out.mp4')
