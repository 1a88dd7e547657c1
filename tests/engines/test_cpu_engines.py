"""The errors, threads and memory of the engines torch and OpenVINO; their results are tested by test_conformance."""
from __future__ import annotations

import numpy as np
import psutil
import pytest
import torch
from torch import nn

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import torch as torch_engine
from realesrgan.engines.choice import make_engine
from realesrgan.engines.devices import CPU
from realesrgan.engines.torch import TorchEngine
from realesrgan.errors import BrokenDeviceError


def make_torch(function):
    module = nn.Identity()
    module.forward = function
    return TorchEngine(LoadedNetwork.from_module(module, 1), CPU, 'float32')


@pytest.mark.parametrize(('error', 'device', 'kind'), [
    (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'), 'cuda', MemoryError),
    (RuntimeError('MPS backend out of memory (MPS allocated: 5 GB)'), 'mps', MemoryError),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:75] err == 0. DefaultCPUAllocator: can't allocate memory"), 'cpu',
     MemoryError),
    (RuntimeError('device-side assert'), 'cuda', BrokenDeviceError),
    (RuntimeError('device-side assert'), 'cpu', RuntimeError), (KeyError('of a network'), 'cuda', KeyError),
    (NotImplementedError('no such operator'), 'mps', NotImplementedError)])
def test_errors_of_pytorch(monkeypatch, error, device, kind):
    """After one of a GPU, that is no lack of memory, it may not compute again in this process."""
    def fail(x):
        raise error
    failing = make_torch(fail)
    failing._device, failing.release = torch.device(device), lambda: None
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, 'to', lambda self, target: self if target == failing._device else to(
        self, target))
    with pytest.raises(kind) as caught:
        failing(np.zeros((1, 2, 2, 3), np.uint8))
    assert type(caught.value) is kind
    if kind is BrokenDeviceError:
        assert str(caught.value) == 'torch, cpu, float32: device-side assert'


def test_a_result_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r'for 5x4 pixels the network gave .*\[1, 3, 8, 5\].*, not \(1, 3, 4, 5\)'):
        make_torch(lambda x: x.repeat_interleave(2, 2))(np.zeros((1, 4, 5, 3), np.uint8))


def test_pytorch_reports_its_layers_with_weights(monkeypatch):
    monkeypatch.setattr(torch_engine, '_SECONDS_BETWEEN_REPORTS', 0)
    module = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
    engine, shares = TorchEngine(LoadedNetwork.from_module(module, 1), CPU, 'float32'), []
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    engine(pixels)
    engine.on_progress = shares.append
    for _ in range(2):
        engine(pixels)
    assert shares == [0.5, 1, 0.5, 1]
    assert not any(layer._forward_hooks for layer in module.modules())


# ---- OpenVINO ----

@pytest.fixture
def ov():
    return pytest.importorskip('openvino')


def make_openvino(num_feat=8):
    torch.manual_seed(0)
    return make_engine(SRVGGNetCompactConfig(4, num_feat, 2).build(), CPU, half=False, name='openvino')


def test_memory_is_kept_for_one_dtype_until_it_is_released(ov):
    """One tensor of this picture in float32 takes 67 MB, and the network has several."""
    run = make_openvino(64)
    process = psutil.Process()
    run(np.zeros((1, 512, 512, 3), np.uint8))
    with_bytes = process.memory_info().rss
    run(np.zeros((1, 8, 8, 3), np.float32))
    assert process.memory_info().rss < with_bytes - 50e6
    result = run(np.full((1, 512, 512, 3), 7, np.uint8))
    before = process.memory_info().rss
    run.release()
    assert process.memory_info().rss < before - 50e6
    assert np.array_equal(run(np.full((1, 512, 512, 3), 7, np.uint8)), result)


@pytest.mark.parametrize(('owner', 'call'), [('Core', 'compile_model'), ('InferRequest', 'wait_for')])
@pytest.mark.parametrize(('message', 'kind', 'expected'), [
    ('std::bad_alloc\n\n', MemoryError, 'openvino, cpu, float32: Exception from src/core.cpp: std::bad_alloc'),
    ('Check failed', RuntimeError, 'Exception from src/core.cpp:\nCheck failed')])
def test_out_of_memory_is_a_memory_error_in_one_line(ov, monkeypatch, owner, call, message, kind, expected):
    def fail(*_, **__):
        raise RuntimeError(f'Exception from src/core.cpp:\n{message}')
    run = make_openvino()
    monkeypatch.setattr(getattr(ov, owner), call, fail)
    with pytest.raises(kind) as caught:
        run(np.zeros((1, 4, 4, 3), np.uint8))
    assert str(caught.value) == expected


def test_what_interrupts_openvino_ends_the_picture_and_the_next_is_right(ov, monkeypatch):
    run, large, small = make_openvino(64), np.zeros((1, 512, 512, 3), np.uint8), np.full((1, 8, 8, 3), 7, np.uint8)
    expected, wait_for, cancel, cancelled = run(small), ov.InferRequest.wait_for, ov.InferRequest.cancel, []

    def interrupt(self, milliseconds):
        assert not wait_for(self, 0)  # it has just begun
        raise KeyboardInterrupt
    monkeypatch.setattr(ov.InferRequest, 'wait_for', interrupt)
    monkeypatch.setattr(ov.InferRequest, 'cancel', lambda self: cancelled.append(cancel(self)))
    with pytest.raises(KeyboardInterrupt):
        run(large)
    monkeypatch.undo()
    assert len(cancelled) == 1
    assert np.array_equal(run(small), expected)


def test_threads_reach_the_compiled_model(ov, monkeypatch):
    seen = []
    compile_model = ov.Core.compile_model
    monkeypatch.setattr(ov.Core, 'compile_model',
                        lambda self, model, device, settings: seen.append(settings) or compile_model(
                            self, model, device, settings))
    for threads in (1, None):
        network = SRVGGNetCompactConfig(4, 8, 2).build()
        make_engine(network, CPU, half=False, name='openvino', threads=threads)(np.zeros((1, 4, 4, 3), np.uint8))
    assert [settings.get('INFERENCE_NUM_THREADS') for settings in seen] == [1, None]
