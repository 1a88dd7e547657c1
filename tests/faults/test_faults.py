"""Every write of a run fails once: an error, no part of a result under its name, and the next run is right.

`REALESRGAN_ALL_FAULTS=1` fails every single call; without it a few of a clip's, spread evenly, are enough.
"""
from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from tests.support import clips

PROJECT = Path(__file__).parents[2]
ALL = 'REALESRGAN_ALL_FAULTS' in os.environ
MOST_OF_A_CLIP = 9
SHORT = 0
#: The error, and whether all later calls fail too.
FAULTS = list(itertools.product([errno.ENOSPC, errno.EIO], [True, False])) if ALL else [
    (errno.ENOSPC, True), (errno.EIO, False)]

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='LD_PRELOAD is of Linux')


@pytest.fixture(scope='session')
def library(tmp_path_factory):
    compiler = shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')
    if compiler is None:
        pytest.skip('there is no C compiler')
    target = tmp_path_factory.mktemp('faults') / 'fail_writes.so'
    source = Path(__file__).with_name('fail_writes.c')
    subprocess.run([compiler, '-O1', '-fPIC', '-shared', '-o', target, source, '-ldl'], check=True)
    return target


# Forks a process for each line, with everything imported, which would take most of the time of a run; says its status.
FORKS = """
import contextlib, ctypes, importlib, json, os, sys, traceback
for name in ('cv2', 'PIL.Image', 'openvino', 'realesrgan.pictures.run', 'realesrgan.videos.run',
             'realesrgan.engines.winograd', 'realesrgan.upscaling.upsampler'):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
for line in sys.stdin:
    script, arguments, environment = json.loads(line)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for stream, name in enumerate((os.devnull, os.devnull, 'stderr')):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), stream)
            os.environ.update(environment)
            ctypes.CDLL(None).read_faults()
            status = importlib.import_module(script).main(arguments)
        except BaseException:
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Runs:
    """Runs of one command, in each of which a call below `results` fails."""

    def __init__(self, folder, library, run_script, start_program, script, *arguments):
        self.folder, self.run_script, self.script = folder, run_script, script
        self.arguments = '--model_path', clips.save_network(folder / 'net.pth'), '-s', '2', *arguments
        self.forks = start_program(
            [sys.executable, '-c', FORKS], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {'LD_PRELOAD': str(library), 'PYTHONPATH': str(PROJECT)})

    def __call__(self, at=0, how=errno.EIO, *, lasts=False):
        """Return status, stderr and the calls that were counted."""
        counter, log = self.folder / 'counter', self.folder / 'log'
        counter.write_bytes(bytes(8))
        log.write_bytes(b'')
        environment = {
            'FAULT_UNDER': str(self.folder / 'results'), 'FAULT_COUNTER': str(counter), 'FAULT_LOG': str(log),
            'FAULT_AT': str(at), 'FAULT_HOW': str(how), 'FAULT_LASTS': str(int(lasts))}
        self.forks.stdin.write(json.dumps([self.script.__name__, self.arguments, environment]) + '\n')
        self.forks.stdin.flush()
        status = int(self.forks.stdout.readline())
        err = (self.folder / 'stderr').read_text()
        assert 'Traceback' not in err, err
        return status, err, log.read_text().splitlines()

    def again(self):
        """Run once more, without any fault and in this process, which saves a start; return status and stderr."""
        return self.run_script(self.script, *self.arguments)[::2]

    def clear(self):
        shutil.rmtree(self.folder / 'results', ignore_errors=True)

    def change_nothing(self, read, most):
        """Assert that writes which are interrupted by a signal, or are short, leave what `read` returns as it is."""
        _, _, calls = self()
        whole = read()
        writes = [at for at, call in enumerate(calls, 1) if call.split()[1] == 'write']
        for index, how in itertools.product(spread(len(writes), most), (errno.EINTR, SHORT)):
            self.clear()
            status, err, _ = self(writes[index - 1], how)
            assert (status, read()) == (0, whole), (calls[writes[index - 1] - 1], how, err)


def spread(count, most):
    """Return numbers of calls: all from 1 to `count`, or `most` of them spread evenly."""
    return range(1, count + 1) if ALL or count <= most else sorted({round(number) for number in np.linspace(
        1, count, most)})


# ---- pictures ----

@pytest.fixture
def pictures(tmp_path, library, run_script, start_program):
    noise = np.random.default_rng(0)
    (tmp_path / 'in').mkdir()
    for name in ('a.png', 'b.tif', *(('c.jpg', 'd.webp') if ALL else ())):
        cv2.imwrite(str(tmp_path / 'in' / name), noise.integers(0, 256, (10, 12, 3), np.uint8))
    return Runs(tmp_path, library, run_script, start_program, inference_realesrgan, '-i', 'in')


def read_results(folder):
    return {path.name: path.read_bytes() for path in (folder / 'results').iterdir()} if (
        folder / 'results').exists() else {}


def test_each_write_of_pictures(pictures, tmp_path):
    status, _, calls = pictures()
    whole = read_results(tmp_path)
    assert (status, len(whole)) == (0, len(list((tmp_path / 'in').iterdir())))
    assert len(calls) >= 3 * len(whole) + 1  # open, write and rename, and the folder
    for at, (error, lasts) in itertools.product(range(1, len(calls) + 1), FAULTS):
        pictures.clear()
        status, err, _ = pictures(at, error, lasts=lasts)
        failed = calls[at - 1], err
        found = read_results(tmp_path)
        if 'mkdir' in calls[at - 1] and not lasts:  # that it is there already is all that matters
            assert (status, found) == (0, whole) or status == 1, failed
            continue
        assert status == 1, failed
        assert os.strerror(error) in err, failed
        assert found.items() <= whole.items(), failed  # whole, under their names, and nothing else
        errors = [line for line in err.splitlines() if line.startswith('error: ')]
        if error == errno.ENOSPC:  # which ends the run
            assert len(errors) == 1, failed
        else:
            assert len(errors) == len(whole) - len(found) or (len(errors) == 1 and not found), failed
        assert pictures.again()[0] == 0
        assert read_results(tmp_path) == whole, failed


def test_writes_that_are_interrupted_or_short_change_nothing(pictures, tmp_path):
    pictures.change_nothing(lambda: read_results(tmp_path), 99)


# ---- a clip ----

@pytest.fixture
def clip(tmp_path, library, run_script, start_program):
    clips.make(tmp_path / 'a.mkv', *clips.picture('16x16', rate='8', seconds='2'), *clips.sound('2'), *clips.EXACT,
               '-c:a', 'aac')
    return Runs(tmp_path, library, run_script, start_program, inference_realesrgan_video, '-i', 'a.mkv', '--chunk', '1',
                '--preset', 'ultrafast', '--ext', 'mkv')


def hash_tracks(file):
    """The hash of every packet of a result, whatever its container says of the time it was made."""
    return clips.ffmpeg('-i', f'file:{file}', '-map', '0', '-c', 'copy', '-f', 'framemd5', '-').decode()


def list_results(folder):
    return sorted(str(path.relative_to(folder / 'results')) for path in (folder / 'results').rglob('*')) if (
        folder / 'results').exists() else []


def test_writes_of_a_clip(clip, tmp_path):
    status, err, calls = clip()
    assert status == 0, err
    result = tmp_path / 'results/a_out.mkv'
    whole = hash_tracks(result)
    assert whole.count('\n0, ') == 16
    assert '\n1, ' in whole
    for at, (error, lasts) in itertools.product(spread(len(calls), MOST_OF_A_CLIP), FAULTS):
        clip.clear()
        status, err, _ = clip(at, error, lasts=lasts)
        failed = calls[at - 1], err
        if status == 0:  # a folder is there already, and joining with the other tracks is tried twice
            assert hash_tracks(result) == whole, failed
            assert calls[at - 1].split()[1] != 'write', failed
            continue
        assert status == 1, failed
        assert err.splitlines()[-1].startswith('error: '), failed
        left = list_results(tmp_path)
        assert 'a_out.mkv' not in left, failed
        assert not [name for name in left if '.realesrgan-' in name], failed
        status, err = clip.again()
        assert status == 0, (failed, err)
        assert hash_tracks(result) == whole, failed
        assert list_results(tmp_path) == ['a_out.mkv'], failed


def test_writes_of_a_clip_that_are_interrupted_or_short_change_nothing(clip, tmp_path):
    clip.change_nothing(lambda: (hash_tracks(tmp_path / 'results/a_out.mkv'), list_results(tmp_path)), 4)
