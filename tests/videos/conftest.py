"""Run the video script with small networks; what several files of tests share."""
from __future__ import annotations

import pytest

import inference_realesrgan_video
from realesrgan.engines.kernel.library import find_kernel
from realesrgan.errors import EngineError
from tests.support import clips


@pytest.fixture(scope='session')
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('networks')
    return {'tiny': clips.save_network(folder / 'tiny.pth'),
            'plain': clips.save_network(folder / 'plain.pth', plain=True),
            **{f'x{scale}': clips.save_network(folder / f'x{scale}.pth', scale=scale) for scale in (1, 2, 3, 8)}}


@pytest.fixture(scope='session')
def quick_engine():
    """An engine for tests that start processes: PyTorch, which the others import, takes each more than a second."""
    try:
        find_kernel()
    except EngineError:
        return 'openvino'
    return 'winograd'


@pytest.fixture
def run(run_script, networks, quick_engine):
    """Run the script in a folder of its own with a small network; return its status, stdout and stderr."""
    return lambda *arguments, network='plain': run_script(
        inference_realesrgan_video, '--model_path', networks[network], '--engine', quick_engine, '--fp32', *arguments)


@pytest.fixture
def upscale(run):
    """Run the script, which succeeds; return all that it prints, stdout first."""
    def upscale(*arguments, network='plain'):
        status, out, err = run(*arguments, network=network)
        assert status == 0, err
        return out + err
    return upscale


@pytest.fixture
def fail(run):
    """Run the script, which fails; return all that it prints, stdout first."""
    def fail(*arguments):
        status, out, err = run(*arguments)
        assert status == 1, err
        return out + err
    return fail
