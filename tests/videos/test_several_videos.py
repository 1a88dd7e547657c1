"""Several videos at once, in several processes: each result is as it is alone, whatever happens to the others."""
from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import pytest

from realesrgan.errors import Cancelled, WeightsError
from realesrgan.events import Outcome, Progress, Warned
from realesrgan.videos import VideoOptions, upscale_videos
from realesrgan.videos.job import VideoJob
from tests.support.clips import EXACT, LOSSLESS, counted, counts, files, hashes, make, parts

NAMES = ['a.mp4', 'b.mkv', 'c.mp4']
SCRIPT = Path(__file__).parents[2] / 'inference_realesrgan_video.py'


@pytest.fixture
def options(networks, quick_engine, tmp_path, monkeypatch):
    """Three clips in the current folder, and options that upscale them in two processes."""
    monkeypatch.chdir(tmp_path)
    for name, seconds in zip(NAMES, ('1.2', '2', '0.4'), strict=True):
        make(tmp_path / name, *counted('25', seconds), *EXACT)
    return VideoOptions(model_path=networks['plain'], engine=quick_engine, outscale=1, crf=0, num_process_per_gpu=2,
                        chunk=Fraction(2, 5))


def test_they_share_the_workers_and_nothing_else(options, networks):
    events = []
    outcomes = upscale_videos(NAMES, 'out', options, on_event=events.append)
    for name, frames in zip(NAMES, (30, 50, 10), strict=True):
        [outcome] = [outcome for outcome in outcomes if outcome.source == name]
        assert (outcome.error, outcome.frames) == (None, frames)
        assert counts(outcome.target) == list(range(frames))
        done = [event.done for event in events if isinstance(event, Progress) and event.source == name]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, frames)
    assert [event for event in events if isinstance(event, Outcome)] == outcomes
    end = {event.source: number for number, event in enumerate(events) if isinstance(event, Outcome)}
    begin = {event.source: number for number, event in reversed(list(enumerate(events)))
             if isinstance(event, Progress)}
    assert begin['a.mp4'] < begin['b.mkv'] < end['a.mp4']  # a worker that starts late may end after b
    assert files('out') == ['a_out.mp4', 'b_out.mp4', 'c_out.mp4']
    alone = options.replace(num_process_per_gpu=1)
    upscale_videos(NAMES, 'alone', alone)
    assert all(hashes(f'out/{name}') == hashes(f'alone/{name}') for name in files('alone'))


def test_the_seconds_of_a_video_are_without_those_of_the_one_before(options, at_calls):
    at_calls([1], lambda: time.sleep(0.5))
    start = time.monotonic()
    first, second = upscale_videos(['a.mp4', 'c.mp4'], 'out', options.replace(num_process_per_gpu=1, chunk=None))
    assert 0 < second.seconds < time.monotonic() - start - 0.5 and first.seconds > 0.5


def test_a_warning_names_its_video(options):
    make(Path('d.mkv'), '-f', 'lavfi', '-i', 'color=red@0.5:size=64x32:rate=25:duration=0.2,format=yuva420p',
         '-c:v', 'ffv1')
    heard = []
    upscale_videos([*NAMES, 'd.mkv'], 'out', options, on_event=heard.append)
    assert [event for event in heard if isinstance(event, Warned)] == [
        Warned('d.mkv', 'the transparency is left out: mp4 does not hold it; --ext mov, webm, gif, apng, webp keep it')]


def test_what_no_video_would_survive_ends_all(options, monkeypatch):
    begin = VideoJob.begin

    def fail(job):
        if job.name == 'b.mkv':
            raise WeightsError('gone')
        return begin(job)
    monkeypatch.setattr(VideoJob, 'begin', fail)
    with pytest.raises(WeightsError, match='^gone$'):
        upscale_videos(NAMES, 'out', options)
    assert [name for name in files('out') if '_parts/' not in name] in ([], ['a_out.mp4'])


@pytest.mark.parametrize('how', ['cancel', 'raise'])
def test_the_caller_ends_all_and_the_parts_stay(options, how):
    cancel, raised = threading.Event(), []

    def hear(event):
        assert not raised
        if isinstance(event, Progress) and event.source == 'b.mkv' and event.done > 20:
            if how == 'raise':
                raised.append(event)
                raise ZeroDivisionError('the caller\'s own')
            cancel.set()
    with pytest.raises(Cancelled if how == 'cancel' else ZeroDivisionError):
        upscale_videos(NAMES, 'out', options, on_event=hear, cancel=cancel)
    assert parts('out/b_out_parts')
    assert not Path('out/b_out.mp4').exists()
    outcomes = upscale_videos(NAMES, 'out', options)
    assert [outcome.failed for outcome in outcomes] == [False] * 3
    assert {outcome.source: outcome.reused > 0 for outcome in outcomes}['b.mkv']
    assert counts('out/b_out.mp4') == list(range(50))
    assert files('out') == ['a_out.mp4', 'b_out.mp4', 'c_out.mp4']


@pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')
def test_ctrl_c_while_one_waits_for_a_pipe_that_never_comes(options, quick_engine, networks, start_program):
    os.mkfifo('pipe.mp4')
    process = start_program(
        [sys.executable, SCRIPT, '--model_path', networks['plain'], '--engine', quick_engine, *LOSSLESS,
         '--chunk', '0.4', '--num_process_per_gpu', '2', '-i', 'c.mp4', 'pipe.mp4', 'a.mp4'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while 'c_out.mp4: 10 frames' not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert rest.splitlines()[-1] == 'error: interrupted'
    assert [path.name for path in Path('results').iterdir()] == ['c_out.mp4']
