"""Run the video script with small networks; what several files of tests share."""
from __future__ import annotations

import pytest

import inference_realesrgan_video
from realesrgan.engines.kernel.library import find_kernel
from realesrgan.errors import EngineError


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
