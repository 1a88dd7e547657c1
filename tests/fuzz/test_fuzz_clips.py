"""Damaged clips of every container through `upscale_videos`: a whole result or an error in one line, nothing else."""
from __future__ import annotations

import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings

from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.videos import VideoOptions, upscale_videos
from tests.support import clips
from tests.support.mutations import mutated

CONTAINERS = {
    'mp4': '-c:v libx264 -c:a aac', 'mkv': '-c:v libx264 -c:a libopus', 'avi': '-c:v mpeg4 -c:a mp2',
    'ts': '-c:v mpeg2video -c:a mp2', 'webm': '-c:v libvpx -c:a libopus', 'flv': '-c:v flv -c:a libmp3lame -ar 44100',
    'mov': '-c:v mjpeg -c:a pcm_s16le', 'ogv': '-c:v libtheora -c:a libvorbis', 'gif': '-c:v gif -an'}


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('network') / 'net.pth'
    torch.save(SRVGGNetCompactConfig(1, 4, 1).build().state_dict(), path)
    return str(path)


@pytest.mark.parametrize('container', CONTAINERS)
def test_a_damaged_clip_is_upscaled_or_refused(container, network, tmp_path, no_hang):
    clip = clips.make(tmp_path / f'a.{container}', *clips.picture('32x16', rate='8', seconds='1'), *clips.sound('1'),
                      *CONTAINERS[container].split())
    options = VideoOptions(model_path=network, outscale=1, ext='mkv',
                           chunk=Fraction(1, 2), max_pixels=1 << 20, preset='ultrafast')

    @settings(max_examples=max(settings.default.max_examples // 80, 2))
    @given(mutated([clip.read_bytes()]))
    def run(data):
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        (folder / clip.name).write_bytes(data)
        with no_hang():
            (outcome,) = upscale_videos([str(folder / clip.name)], folder / 'out', options)
        left = clips.files(folder / 'out') if (folder / 'out').exists() else []
        if outcome.error is not None:
            assert '\n' not in str(outcome.error)
            assert left == []
        else:
            assert left == [outcome.target.name]
            if outcome.target.suffix == '.mkv':
                assert clips.video(outcome.target)['frames'] == outcome.frames > 0
        shutil.rmtree(folder)
    run()
