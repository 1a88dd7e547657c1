"""Devices and precisions with faked hardware, and what the torch engine gives back."""
from pathlib import Path

import cv2
import numpy as np
import openvino as ov
import psutil
import pytest
import torch
from torch import nn

from realesrgan.engines import choice as factory
from realesrgan.engines import devices
from realesrgan.engines.choice import make_engine
from realesrgan.engines.devices import pick_device, pick_dtype
from realesrgan.engines.torch import TorchEngine
from realesrgan.errors import DeviceError, EngineError, NonFiniteError
from realesrgan.models import RRDBNetShape, SRVGGNetCompactShape
from realesrgan.weights.loading import load_model


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


def test_results_come_from_cuda_through_pinned_memory_but_for_the_largest(monkeypatch):
    pinned = []
    empty, to = torch.empty, torch.Tensor.to
    monkeypatch.setattr(torch, 'empty', lambda shape, *, dtype, pin_memory: pinned.append(tuple(shape)) or empty(
        shape, dtype=dtype))
    on_cuda = engine(lambda x: x.repeat_interleave(2, 2))
    on_cuda._device = torch.device('cuda')
    monkeypatch.setattr(torch.Tensor, 'to',
                        lambda self, target: self if target == on_cuda._device else to(self, target))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
    assert np.array_equal(on_cuda(pixels), pixels.repeat(2, 1))
    monkeypatch.setattr('realesrgan.engines.torch._MOST_PINNED_BYTES', 8 * 5 * 3 - 1)
    assert np.array_equal(on_cuda(pixels), pixels.repeat(2, 1))
    assert pinned == [(1, 8, 5, 3)]


def test_other_errors_pass():
    def fail(x):
        raise RuntimeError('device-side assert')
    with pytest.raises(RuntimeError, match='device-side assert'):
        engine(fail)(np.zeros((1, 2, 2, 3), np.uint8))


# ---- which engine, and OpenVINO's results ----

def small(scale=4):
    torch.manual_seed(scale)
    return RRDBNetShape(scale, 8, 1, 4).build()


CPU = torch.device('cpu')


@pytest.mark.parametrize('network', [small(4), small(2), small(1), SRVGGNetCompactShape(4, 8, 2).build(),
                                     SRVGGNetCompactShape(2, 8, 3).build()])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_the_engines_agree_in_single_precision(network, dtype):
    batch = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), np.uint8)
    batch = batch if dtype == np.uint8 else batch.astype(np.float32) / 255
    results = [make_engine(network, network.scale, CPU, half=False, name=name)(batch) for name in ('torch', 'openvino')]
    assert results[0].shape == results[1].shape == (2, 12 * network.scale, 16 * network.scale, 3)
    assert results[0].dtype == results[1].dtype == dtype
    assert np.abs(results[0].astype(float) - results[1]).max() <= (1 if dtype == np.uint8 else 1e-5)


def test_openvino_results_outlive_the_next_call():
    run = make_engine(small(), 4, CPU, half=False, name='openvino')
    first = run(np.zeros((1, 4, 4, 3), np.uint8))
    before = first.copy()
    run(np.full((1, 4, 4, 3), 255, np.uint8))
    assert np.array_equal(first, before)


def test_openvino_takes_another_shape_and_another_dtype_at_any_time():
    run = make_engine(small(), 4, CPU, half=False, name='openvino')
    for shape, dtype in (((1, 4, 6, 3), np.uint8), ((2, 8, 4, 3), np.float32), ((1, 5, 5, 3), np.uint8)):
        assert run(np.zeros(shape, dtype)).shape == (shape[0], 4 * shape[1], 4 * shape[2], 3)


def test_openvino_keeps_memory_for_one_dtype_until_it_is_released():
    run = make_engine(SRVGGNetCompactShape(4, 64, 2).build(), 4, CPU, half=False, name='openvino')
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


@pytest.mark.parametrize('call', ['compile_model', 'infer'])
def test_openvino_out_of_memory_is_a_memory_error(monkeypatch, call):
    class Failing:
        def fail(self, *_, **__):
            raise RuntimeError('Exception from src/core.cpp:117:\nstd::bad_alloc\n\n')
        compile_model = infer = fail
    run = make_engine(small(), 4, CPU, half=False, name='openvino')
    if call == 'infer':
        monkeypatch.setattr(run, '_compiled', lambda dtype: Failing())
    else:
        monkeypatch.setattr(ov, 'Core', Failing)
    with pytest.raises(MemoryError, match=r'^openvino, cpu, float32: Exception from .*: std::bad_alloc$'):
        run(np.zeros((1, 4, 4, 3), np.uint8))


def test_openvino_reports_what_is_not_finite():
    network = small()
    network.conv_last.bias.data[1] = float('nan')
    run = make_engine(network, 4, CPU, half=False, name='openvino')
    with pytest.raises(NonFiniteError):
        run(np.zeros((1, 4, 4, 3), np.uint8))


def test_auto_is_openvino_on_a_cpu_where_it_knows_the_network():
    assert make_engine(small(), 4, CPU, half=False).kind == 'openvino'
    assert make_engine(Function(lambda x: x), 1, CPU, half=False).kind == 'torch'


def test_auto_is_torch_without_openvino_and_asking_for_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(factory.importlib.util, 'find_spec', lambda name: None)
    assert make_engine(small(), 4, CPU, half=False).kind == 'torch'
    with pytest.raises(EngineError, match='not installed: pip install openvino'):
        make_engine(small(), 4, CPU, half=False, name='openvino')


def test_openvino_is_refused_where_it_can_not_run():
    with pytest.raises(DeviceError, match='runs on the CPU, not on cuda'):
        make_engine(small(), 4, torch.device('cuda'), half=False, name='openvino')
    with pytest.raises(EngineError, match='does not know this network'):
        make_engine(Function(lambda x: x), 1, CPU, half=False, name='openvino')
    with pytest.raises(ValueError, match="'ncnn'; allowed are auto, torch, openvino"):
        make_engine(small(), 4, CPU, half=False, name='ncnn')


@pytest.mark.parametrize(('name', 'psnr'), [('realesr-animevideov3', 52), ('RealESRGAN_x4plus', 46)])
@pytest.mark.parametrize('engine', ['torch', 'openvino'])
def test_half_precision_on_a_photo(name, psnr, engine):
    """bfloat16 where this CPU has it; on any other the results are equal."""
    photo = cv2.imread(str(Path(__file__).parent.parent / 'inputs/astronaut.jpg'))[40:104, 80:144]
    single, half = (make_engine(load_model(name), 4, CPU, half=half, name=engine)(photo[None]).astype(float)
                    for half in (False, True))
    assert 10 * np.log10(255 ** 2 / max(np.mean((single - half) ** 2), 1e-9)) >= psnr
