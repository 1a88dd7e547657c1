"""Devices and precisions, with faked hardware."""
from __future__ import annotations

import pytest
import torch

from realesrgan.engines import devices
from realesrgan.engines.devices import pick_device, pick_precision
from realesrgan.errors import DeviceError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the machine has GPUs: a dict of backend to count."""
    def set_counts(**counts):
        monkeypatch.setattr(devices, 'count_devices', lambda backend: counts.get(backend, 0))
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


@pytest.mark.parametrize(('device', 'native', 'precision'), [
    ('cuda', True, 'float16'), ('mps', False, 'float16'), ('xpu', False, 'float16'),
    ('cpu', True, 'bfloat16'), ('cpu', False, 'float32')])
def test_half_precision_is_what_the_device_is_fast_with(monkeypatch, device, native, precision):
    monkeypatch.setattr(devices, 'has_cpu_bfloat16', lambda: native)
    assert pick_precision(torch.device(device), half=True) == precision
    assert pick_precision(torch.device(device), half=False) == 'float32'


@pytest.mark.parametrize(('capabilities', 'native'), [
    ({'amx_bf16': True}, True), ({'avx512_bf16': True}, True), ({'bf16': True}, True),
    ({'avx512_f': True, 'avx512_vnni': True, 'amx_bf16': False}, False), ({}, False)])
def test_which_processors_have_bfloat16(monkeypatch, capabilities, native):
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: capabilities, raising=False)
    assert devices.has_cpu_bfloat16() == native


@pytest.mark.parametrize(('limit', 'native'), [
    ('AVX2', False), ('avx512_core_vnni', False), ('AVX512_CORE_BF16', True), ('AVX512_CORE_AMX', True), ('ALL', True)])
def test_a_processor_may_be_held_to_fewer_instructions_than_it_has(monkeypatch, limit, native):
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: {'amx_bf16': True}, raising=False)
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', limit)
    assert devices.has_cpu_bfloat16() == native


def test_a_pytorch_that_knows_no_capabilities_computes_in_single_precision(monkeypatch):
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    assert not devices.has_cpu_bfloat16()


@pytest.mark.parametrize('backend', devices.BACKENDS)
def test_devices_are_counted(backend):
    assert devices.count_devices(backend) >= 0
