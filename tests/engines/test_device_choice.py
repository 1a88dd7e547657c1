"""Which device is picked, with faked hardware."""
from __future__ import annotations

import logging

import pytest
from torch import nn

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetShape
from realesrgan.engines import choice, torch_gpus, vulkan_gpus
from realesrgan.engines.choice import list_gpus, pick_device, settle_device
from realesrgan.engines.devices import Device
from realesrgan.errors import EngineError, NoSuchDeviceError

SOFTWARE, RADEON = 'llvmpipe', 'Radeon'


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the machine has GPUs: how many of each of PyTorch's backends, and the names of Vulkan's devices."""
    def set_up(vulkan=(), **counts):
        monkeypatch.setattr(torch_gpus, 'may_have_gpus', lambda: True)
        monkeypatch.setattr(torch_gpus, 'count_gpus', lambda backend: counts.get(backend, 0))
        monkeypatch.setattr(torch_gpus, 'get_name', lambda gpu: f'card {gpu.index}')
        monkeypatch.setattr(vulkan_gpus, 'may_have_gpus', lambda: True)
        monkeypatch.setattr(vulkan_gpus, '_count', lambda: len(vulkan))
        monkeypatch.setattr(vulkan_gpus, 'get_name', lambda gpu: vulkan[gpu.index])
        monkeypatch.setattr(vulkan_gpus, 'is_software', lambda gpu: vulkan[gpu.index] == SOFTWARE)
    return set_up


@pytest.mark.parametrize(('found', 'expected'), [
    ({}, 'cpu'),
    ({'cuda': 2, 'xpu': 1, 'mps': 1, 'vulkan': [RADEON]}, 'cuda:0'),
    ({'xpu': 1, 'mps': 1, 'vulkan': [RADEON]}, 'xpu:0'),
    ({'mps': 1, 'vulkan': [RADEON]}, 'mps:0'),
    ({'vulkan': [SOFTWARE, RADEON]}, 'vulkan:1'),
    ({'vulkan': [SOFTWARE]}, 'cpu')])
def test_auto_takes_the_best_kind_and_no_software(gpus, found, expected):
    gpus(**found)
    assert str(pick_device()) == expected
    assert bool(list_gpus()) == (expected != 'cpu')


def test_a_gpu_that_is_taken_is_named(gpus, caplog):
    caplog.set_level(logging.INFO)
    gpus(vulkan=[SOFTWARE, RADEON])
    pick_device()
    gpus(cuda=2)
    pick_device(gpu_id=1)
    gpus()
    pick_device()
    assert caplog.messages == ['GPU: vulkan:1, Radeon', 'GPU: cuda:1, card 1']


def test_a_software_device_is_taken_if_vulkan_is_asked_for_and_there_is_no_other(gpus, caplog):
    gpus(vulkan=[SOFTWARE, RADEON], cuda=1)
    assert str(pick_device(engine='vulkan')) == 'vulkan:1'
    assert str(pick_device(engine='vulkan', gpu_id=0)) == 'vulkan:0'
    assert caplog.messages == [
        'llvmpipe is a program that computes on the CPU, slower than the engines for CPUs do']
    gpus(vulkan=[SOFTWARE])
    assert str(pick_device(engine='vulkan')) == 'vulkan:0'


@pytest.mark.parametrize(('engine', 'expected'), [
    ('torch', 'cuda:0'), ('openvino', 'cpu'), ('winograd', 'cpu'), ('vulkan', 'vulkan:0')])
def test_an_engine_gets_a_device_that_it_runs_on(gpus, engine, expected):
    gpus(cuda=1, vulkan=[RADEON])
    assert str(pick_device(engine=engine)) == expected


def test_an_engine_without_a_gpu_of_its_own_runs_on_the_cpu_or_not_at_all(gpus):
    gpus(vulkan=[RADEON])
    assert str(pick_device(engine='torch')) == 'cpu'
    gpus(cuda=1)
    with pytest.raises(NoSuchDeviceError, match='the engine vulkan has nothing to run on; no GPU with a Vulkan driver'):
        pick_device(engine='vulkan')


def test_gpu_0_is_a_gpu_and_the_device_given_wins(gpus):
    gpus(cuda=2, vulkan=[SOFTWARE])
    assert str(pick_device(gpu_id=0)) == 'cuda:0'
    assert str(pick_device(gpu_id=1)) == 'cuda:1'
    assert str(pick_device('cpu', gpu_id=1)) == 'cpu'
    assert str(pick_device('cuda')) == 'cuda'
    assert str(pick_device('vulkan:0')) == 'vulkan:0'
    gpus(vulkan=[SOFTWARE, RADEON])
    assert str(pick_device(gpu_id=1)) == 'vulkan:1'


def test_a_gpu_that_is_not_there_names_those_that_are(gpus):
    gpus(cuda=2, mps=1, vulkan=[SOFTWARE])
    with pytest.raises(NoSuchDeviceError, match=r'no GPU 2; available: 0 \(cuda:0\), 1 \(cuda:1\)$'):
        pick_device(gpu_id=2)
    with pytest.raises(NoSuchDeviceError, match='no device xpu; available'):
        pick_device('xpu')
    with pytest.raises(NoSuchDeviceError, match=r'no device vulkan:1; available: 0 \(vulkan:0\)$'):
        pick_device('vulkan:1')
    with pytest.raises(NoSuchDeviceError, match=r'no GPU 0; this engine runs on the CPU \(leave the GPU out\)$'):
        pick_device(gpu_id=0, engine='openvino')


def test_a_gpu_where_there_is_none(gpus):
    for found in ([], [SOFTWARE]):
        gpus(vulkan=found)
        with pytest.raises(NoSuchDeviceError, match='no GPU 0; this machine has no GPU that can be used'):
            pick_device(gpu_id=0)


def test_another_engine_is_refused_with_the_allowed_ones():
    with pytest.raises(ValueError, match="engine is 'fast'; allowed are auto, "):
        pick_device(engine='fast')


def test_a_network_that_vulkan_does_not_know_goes_to_the_cpu_unless_vulkan_was_asked_for(monkeypatch, caplog):
    known = LoadedNetwork.from_module(RRDBNetShape(4, 8, 1, 4).build())
    unknown = LoadedNetwork.from_module(nn.Identity(), 1)
    gpu, refusal = Device('vulkan', 1), EngineError('vulkan does not know it')
    monkeypatch.setattr(choice, 'explain_refusal', lambda row, network, device: None if network is known else refusal)
    assert settle_device(known, gpu) == gpu
    assert settle_device(unknown, gpu, 'vulkan') == gpu
    assert settle_device(unknown, Device('cuda')) == Device('cuda')
    assert caplog.records == []
    assert settle_device(unknown, gpu) == Device('cpu')
    assert caplog.messages == ['vulkan does not know it; the CPU runs it instead']
