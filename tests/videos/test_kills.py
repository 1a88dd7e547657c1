"""Processes that are killed at any moment: nothing survives, nothing is lost, the next run finishes."""
from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from realesrgan.videos.parts import Parts
from tests.support import clips
from tests.support.clips import LOSSLESS, OPEN_GOPS, files, hashes, make, parts, picture, sound

SCRIPT = Path(__file__).parents[2] / 'inference_realesrgan_video.py'


@pytest.fixture(scope='module')
def command(networks, quick_engine):
    """The script on the clip of a folder, which takes some seconds."""
    return [sys.executable, SCRIPT, '-i', 'a.mp4', '--model_path', networks['tiny'], '--engine', quick_engine, '--fp32',
            *LOSSLESS, '--chunk', '0.5', '-v']


@pytest.fixture
def start(command, start_program):
    """Start it in a process."""
    return lambda folder, workers: start_program(
        [*command, '--num_process_per_gpu', str(workers)], cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)


def family(process):
    """The workers and the programs of ffmpeg."""
    found = {'worker': [], 'ffmpeg': []}
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = ' '.join(child.cmdline())
            if 'spawn_main' in command:
                found['worker'].append(child)
            elif 'pipe:' in command:
                found['ffmpeg'].append(child)
    return found


def wait_for_parts(process, tmp_path, count, pause):
    folder = tmp_path / 'results/a_out_parts'
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if folder.exists() and len(parts(folder)) >= count:
            time.sleep(pause)
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[0])


def strike(process, name, number):
    """Send a signal to the main process, a worker or an ffmpeg, and return all children that were there.

    The victim is stopped first, so that it is known to have been alive: between two chunks there is no ffmpeg.
    """
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        children = family(process)
        victims = {'main': [psutil.Process(process.pid)], **children}[name]
        with contextlib.suppress(psutil.NoSuchProcess):
            if victims:
                victim = random.choice(victims)
                victim.suspend()
                while victim.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                    time.sleep(0.001)
                if victim.status() == psutil.STATUS_STOPPED:
                    victim.send_signal(number)
                    with contextlib.suppress(psutil.NoSuchProcess):  # it is gone already
                        victim.resume()
                    return [child for found in children.values() for child in found]
        time.sleep(0.005)
    raise AssertionError(f'no {name} to strike: {process.communicate()[0]}')


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, command):
    folder = tmp_path_factory.mktemp('undisturbed')
    make(folder / 'a.mp4', *picture('160x120', seconds='4'), *sound('4'), *OPEN_GOPS)
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return folder


@pytest.mark.parametrize(('who', 'workers'), [
    ('main -9', 2), ('main INT', 2), ('main TERM', 2), ('worker -9', 2), ('ffmpeg -9', 2), ('ffmpeg -9', 1)])
def test_killed_at_any_moment(tmp_path, start, undisturbed, who, workers):
    shutil.copy2(undisturbed / 'a.mp4', tmp_path / 'a.mp4')
    process = start(tmp_path, workers)
    wait_for_parts(process, tmp_path, 2, random.uniform(0, 0.2))
    name, number = who.split()
    children = strike(process, name, {'-9': signal.SIGKILL, 'INT': signal.SIGINT, 'TERM': signal.SIGTERM}[number])
    text = process.communicate(timeout=60)[0]
    assert 'Traceback' not in text or name == 'ffmpeg'  # -v shows that of the error
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    expected = {'main -9': -9, 'main INT': 130, 'main TERM': 143, 'worker -9': 0, 'ffmpeg -9': 1}
    assert process.returncode == expected[who], text
    if process.returncode == 0:
        assert 'was killed' in text
    else:
        whole = len(parts(tmp_path / 'results/a_out_parts'))
        again = start(tmp_path, 1)
        text = again.communicate(timeout=120)[0]
        assert again.returncode == 0, text
        assert f'reusing {whole} parts of an earlier run' in text
    result = tmp_path / 'results/a_out.mp4'
    assert hashes(result) == hashes(undisturbed / 'results/a_out.mp4')
    assert clips.packets(result, 'a:0') == clips.packets(undisturbed / 'a.mp4', 'a:0')
    assert files(tmp_path) == ['a.mp4', 'results/a_out.mp4']


# Every frame takes longer than a part may.
SLOW = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
import inference_realesrgan_video
from realesrgan.videos import worker
worker.PART_SECONDS = 0
sys.exit(inference_realesrgan_video.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_frames_of_a_part_in_progress_outlive_the_end(tmp_path, command, start_program, undisturbed, number, status):
    shutil.copy2(undisturbed / 'a.mp4', tmp_path / 'a.mp4')
    arguments = [word for word in command[2:] if word not in ('--chunk', '0.5')]
    start = [sys.executable, '-c', SLOW, *arguments]
    process = start_program(start, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for_parts(process, tmp_path, 2, random.uniform(0, 0.2))
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    text = process.communicate(timeout=60)[0]
    assert (process.returncode, 'Traceback' in text) == (status, False), text
    _, alive = psutil.wait_procs(children, timeout=20)
    assert (len(children) > 0, alive) == (True, [])
    kept = Parts(tmp_path / 'results/a_out_parts', 'mp4')
    numbers = {number for part in kept.find() for number in range(part.first, part.stop)} | set(kept.list_frames())
    assert 48 <= len(numbers) < 96
    assert status == -9 or f'0 frames lost, {kept.describe()} kept; the same command resumes' in text
    again = subprocess.run(start, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f': 96 frames ({len(numbers)} of them from an earlier run), ' in again.stdout
    result = tmp_path / 'results/a_out.mp4'
    assert hashes(result) == hashes(undisturbed / 'results/a_out.mp4')
    assert clips.packets(result, 'a:0') == clips.packets(undisturbed / 'a.mp4', 'a:0')
    assert files(tmp_path) == ['a.mp4', 'results/a_out.mp4']
