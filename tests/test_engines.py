"""Devices and precisions with faked hardware, and what the torch engine gives back."""
import numpy as np
import pytest
import torch
from torch import nn

from realesrgan.engines import NonFiniteError, devices
from realesrgan.engines.devices import DeviceError, pick_device, pick_dtype
from realesrgan.engines.torch import TorchEngine


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the machine has GPUs: a dict of backend to count."""
    def set_counts(**counts):
        for backend in ('cuda', 'xpu', 'mps'):
            monkeypatch.setitem(devices._BACKENDS, backend, lambda count=counts.get(backend, 0): count)
    return set_counts


@pytest.mark.parametrize(('counts', 'expected'), [
    ({}, 'cpu'), ({'cuda': 2, 'mps': 1}, 'cuda:0'), ({'xpu': 1, 'mps': 1}, 'xpu:0'), ({'mps': 1}, 'mps:0')])
def test_the_default_device(gpus, counts, expected):
    gpus(**counts)
    assert str(pick_device()) == expected


def test_gpu_0_is_a_gpu_and_the_device_given_wins(gpus):
    gpus(cuda=2)
    assert str(pick_device(gpu_id=0)) == 'cuda:0'
    assert str(pick_device(gpu_id=1)) == 'cuda:1'
    assert str(pick_device('cpu', gpu_id=1)) == 'cpu'
    assert str(pick_device('cuda')) == 'cuda'


def test_a_gpu_that_is_not_there_names_those_that_are(gpus):
    gpus(cuda=2, mps=1)
    with pytest.raises(DeviceError, match=r'no GPU 2; available: 0 \(cuda:0\), 1 \(cuda:1\)$'):
        pick_device(gpu_id=2)
    with pytest.raises(DeviceError, match='no device xpu; available'):
        pick_device('xpu')


def test_a_gpu_where_there_is_none(gpus):
    gpus()
    with pytest.raises(DeviceError, match='no GPU 0; this machine has no GPU that PyTorch can use'):
        pick_device(gpu_id=0)


@pytest.mark.parametrize(('device', 'native', 'dtype'), [
    ('cuda', True, torch.float16), ('mps', False, torch.float16), ('xpu', False, torch.float16),
    ('cpu', True, torch.bfloat16), ('cpu', False, torch.float32)])
def test_half_precision_is_what_the_device_is_fast_with(monkeypatch, device, native, dtype):
    monkeypatch.setattr(devices, 'cpu_has_bfloat16', lambda: native)
    assert pick_dtype(torch.device(device), half=True) == dtype
    assert pick_dtype(torch.device(device), half=False) == torch.float32


class Function(nn.Module):
    """A network of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def engine(function):
    return TorchEngine(Function(function), 1, torch.device('cpu'), torch.float32)


def test_the_network_sees_rgb_in_0_to_1_and_the_caller_bgr():
    seen = []
    pixels = np.array([[[[255, 51, 0]]]], np.uint8)
    result = engine(lambda x: seen.append(x.flatten().tolist()) or x)(pixels)
    assert seen[0] == pytest.approx([0, 0.2, 1])
    assert np.array_equal(result, pixels)


def test_results_are_clamped_and_rounded_half_to_even():
    values = torch.tensor([-1, 0.5 / 255, 2.5 / 255, 2]).reshape(1, 1, 1, 4).repeat(1, 3, 1, 1)
    result = engine(lambda x: values)(np.zeros((1, 1, 4, 3), np.uint8))
    assert result[0, 0, :, 0].tolist() == [0, 0, 2, 255]


def test_floating_point_is_clamped_only():
    values = torch.tensor([-1, 0.3, 2]).reshape(1, 1, 1, 3).repeat(1, 3, 1, 1)
    result = engine(lambda x: values)(np.zeros((1, 1, 3, 3), np.float32))
    assert result[0, 0, :, 0].tolist() == pytest.approx([0, 0.3, 1])


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
def test_a_result_that_is_not_finite_is_an_error(value):
    with pytest.raises(NonFiniteError):
        engine(lambda x: x + value)(np.zeros((1, 2, 2, 3), np.uint8))


@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'),
    RuntimeError('MPS backend out of memory (MPS allocated: 5 GB)'),
    RuntimeError("[enforce fail at alloc_cpu.cpp:75] err == 0. DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_is_a_memory_error(error):
    def fail(x):
        raise error
    with pytest.raises(MemoryError):
        engine(fail)(np.zeros((1, 2, 2, 3), np.uint8))


def test_other_errors_pass():
    def fail(x):
        raise RuntimeError('device-side assert')
    with pytest.raises(RuntimeError, match='device-side assert'):
        engine(fail)(np.zeros((1, 2, 2, 3), np.uint8))
