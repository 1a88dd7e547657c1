"""Devices and precisions, with faked hardware."""
from __future__ import annotations

import importlib
import sys

import pytest
import torch

from realesrgan.engines import devices
from realesrgan.engines.devices import Device, pick_device, pick_precision
from realesrgan.errors import DeviceError


@pytest.fixture
def gpus(monkeypatch):
    """Pretend that the machine has GPUs: a dict of backend to count."""
    def set_counts(**counts):
        monkeypatch.setattr(devices, 'count_devices', lambda backend: counts.get(backend, 0))
        monkeypatch.setattr(devices, 'may_have_gpu', lambda: True)
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
    assert pick_precision(Device(device), half=True) == precision
    assert pick_precision(Device(device), half=False) == 'float32'


@pytest.mark.parametrize('backend', devices.BACKENDS)
def test_devices_are_counted(backend):
    assert devices.count_devices(backend) >= 0


# ---- names of devices ----

@pytest.mark.parametrize('name', ['cpu', 'cpu:0', 'cuda', 'cuda:1', 'xpu:0', 'mps'])
def test_a_device_prints_as_pytorch_prints_it(name):
    device = Device.parse(name)
    assert str(device) == str(torch.device(name)) == name
    assert Device.parse(torch.device(name)) == device
    assert Device.parse(device) is device
    assert (device.type, device.index) == (torch.device(name).type, torch.device(name).index)


def test_a_device_that_pytorch_does_not_know():
    with pytest.raises(RuntimeError, match='nonsense'):
        Device.parse('nonsense')


# ---- whether to ask PyTorch ----

@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A Linux machine with a PyTorch that was not imported: say how it was built, and which drivers there are."""
    def build(version='', *, library=False, files=()):
        folder = tmp_path / 'torch'
        folder.mkdir(exist_ok=True)
        (folder / '__init__.py').write_text('raise AssertionError("was imported")')
        (folder / 'version.py').write_text(version)
        for file in files:
            (tmp_path / file).touch()
        monkeypatch.setattr(sys, 'platform', 'linux')
        monkeypatch.delitem(sys.modules, 'torch')
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        monkeypatch.setattr(devices, '_loads_nvidia_driver', lambda: library)
        monkeypatch.setattr(devices, '_NVIDIA_FILES', (tmp_path / 'nvidiactl',))
        monkeypatch.setattr(devices, '_AMD_FILES', (tmp_path / 'kfd',))
        return tmp_path
    return build


CUDA = 'cuda: str | None = "13.0"\nhip = None\nxpu = None'
HIP = 'cuda = None\nhip = "6.2"\nxpu = None'


@pytest.mark.parametrize(('version', 'drivers', 'expected'), [
    ('cuda = None\nhip = None\nxpu = None', {'library': True, 'files': ['nvidiactl', 'kfd']}, False),
    (CUDA, {}, False), (CUDA, {'library': True}, True), (CUDA, {'files': ['nvidiactl']}, True),
    (CUDA, {'files': ['kfd']}, False),
    (HIP, {}, False), (HIP, {'files': ['kfd']}, True), (HIP, {'library': True}, False),
    ('cuda = None\nhip = None\nxpu = "20250000"', {}, True)])
def test_pytorch_is_asked_only_if_its_build_has_a_driver_here(machine, version, drivers, expected):
    machine(version, **drivers)
    assert devices.may_have_gpu() == expected
    if not expected:
        assert devices.list_gpus() == []
        assert pick_device() == Device('cpu')
        with pytest.raises(DeviceError, match='no GPU 0; this machine has no GPU that PyTorch can use'):
            pick_device(gpu_id=0)


@pytest.mark.parametrize('version', ['cuda = None\nhip = None', 'not Python'], ids=['no xpu', 'unreadable'])
def test_pytorch_is_asked_where_its_build_is_not_understood(machine, version):
    machine(version)
    assert devices.may_have_gpu()


def test_pytorch_is_asked_where_version_py_is_missing(machine):
    (machine() / 'torch' / 'version.py').unlink()
    assert devices.may_have_gpu()


def test_pytorch_is_asked_on_a_mac(machine, monkeypatch):
    machine('cuda = None\nhip = None\nxpu = None')
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert devices.may_have_gpu()


def test_pytorch_is_asked_once_it_is_imported():
    assert devices.may_have_gpu()
