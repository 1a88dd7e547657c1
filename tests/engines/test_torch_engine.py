"""The torch engine's errors, and its way back from a GPU; its results are tested by test_conformance."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.engines import torch as torch_engine
from realesrgan.engines.devices import CPU
from realesrgan.engines.torch import TorchEngine
from realesrgan.errors import BrokenDeviceError


class Function(nn.Module):
    """A network of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def engine(function):
    return TorchEngine(LoadedNetwork.from_module(Function(function), 1), CPU, 'float32')


@pytest.mark.parametrize(('error', 'device', 'kind'), [
    (torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB'), 'cuda', MemoryError),
    (RuntimeError('MPS backend out of memory (MPS allocated: 5 GB)'), 'mps', MemoryError),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:75] err == 0. DefaultCPUAllocator: can't allocate memory"), 'cpu',
     MemoryError),
    (RuntimeError('device-side assert'), 'cuda', BrokenDeviceError),
    (RuntimeError('device-side assert'), 'cpu', RuntimeError), (KeyError('of a network'), 'cuda', KeyError)])
def test_errors_of_pytorch(error, device, kind):
    """After one of a GPU, that is no lack of memory, it may not compute again in this process."""
    def fail(x):
        raise error
    failing = engine(fail)
    failing._prepare = lambda batch: batch
    failing._device = torch.device(device)
    with pytest.raises(kind) as caught:
        failing(np.zeros((1, 2, 2, 3), np.uint8))
    assert type(caught.value) is kind
    if kind is BrokenDeviceError:
        assert str(caught.value) == 'torch, cpu, float32: device-side assert'


def test_results_come_from_cuda_through_pinned_memory_but_for_the_largest(monkeypatch):
    pinned = []
    empty, to = torch.empty, torch.Tensor.to
    monkeypatch.setattr(torch, 'empty', lambda shape, *, dtype, pin_memory: pinned.append(tuple(shape)) or empty(
        shape, dtype=dtype))
    cuda = torch.device('cuda')
    monkeypatch.setattr(torch.Tensor, 'to', lambda self, target: self if target == cuda else to(self, target))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
    on_cuda = engine(lambda x: x)
    on_cuda._device = cuda
    for limit, expected in ((4 * 5 * 3, [(1, 4, 5, 3)]), (4 * 5 * 3 - 1, [])):
        monkeypatch.setattr(torch_engine, '_MOST_PINNED_BYTES', limit)
        assert np.array_equal(on_cuda(pixels), pixels)
        assert pinned == expected
        pinned.clear()


def test_a_result_of_another_size_is_an_error():
    with pytest.raises(ValueError, match=r'for 5x4 pixels the network gave .*\[1, 3, 8, 5\].*, not \(1, 3, 4, 5\)'):
        engine(lambda x: x.repeat_interleave(2, 2))(np.zeros((1, 4, 5, 3), np.uint8))
