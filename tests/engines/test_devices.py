"""Names of devices, precisions, and the GPUs that are found, with faked hardware."""
from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from realesrgan.engines import devices
from realesrgan.engines.choice import list_gpus
from realesrgan.engines.devices import Device, explain_absence, get_name, list_gpus_of, pick_precision
from realesrgan.engines.engine import BACKENDS

PROJECT = Path(__file__).parents[2]


def run_python(code, **environment):
    """Run code in a process of its own, because ncnn asks for devices once; return its stdout and stderr."""
    result = subprocess.run([sys.executable, '-c', code], env=os.environ | environment, cwd=PROJECT,
                            capture_output=True, text=True, check=True)
    return result.stdout, result.stderr


@pytest.mark.parametrize(('device', 'native', 'precision'), [
    ('cuda', True, 'float16'), ('mps', False, 'float16'), ('xpu', False, 'float16'), ('vulkan', False, 'float16'),
    ('cpu', True, 'bfloat16'), ('cpu', False, 'float32')])
def test_half_precision_is_what_the_device_is_fast_with(monkeypatch, device, native, precision):
    monkeypatch.setattr(devices, 'has_cpu_bfloat16', lambda: native)
    assert pick_precision(Device(device), half=True) == precision
    assert pick_precision(Device(device), half=False) == 'float32'


@pytest.mark.parametrize('name', ['cpu', 'cpu:0', 'cuda', 'cuda:1', 'xpu:0', 'mps'])
def test_a_device_prints_as_pytorch_prints_it(name):
    device = Device.parse(name)
    assert str(device) == str(torch.device(name)) == name
    assert Device.parse(torch.device(name)) == device
    assert Device.parse(device) is device
    assert (device.type, device.index) == (torch.device(name).type, torch.device(name).index)


def test_other_names():
    assert Device.parse('vulkan') == Device('vulkan')
    assert Device.parse('vulkan:12') == Device('vulkan', 12)
    assert str(Device('vulkan', 12)) == 'vulkan:12'
    with pytest.raises(RuntimeError, match='nonsense'):
        Device.parse('nonsense')


# ---- PyTorch's GPUs ----

def test_gpus_are_listed_and_named(monkeypatch):
    for backend in BACKENDS:
        assert devices.count_torch_gpus(backend) >= 0
    monkeypatch.setattr(devices, 'count_torch_gpus', lambda backend: {'cuda': 2, 'mps': 1}.get(backend, 0))
    assert list(map(str, list_gpus('torch'))) == ['cuda:0', 'cuda:1', 'mps:0']
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: f'GeForce {index}')
    assert get_name(Device('cuda', 1)) == 'GeForce 1'
    assert get_name(Device('mps', 0)) == 'Apple GPU'


@pytest.mark.parametrize(('backend', 'version', 'built'), [
    ('cuda', {'cuda': '13.0', 'hip': None}, True), ('cuda', {'cuda': None, 'hip': '6.2'}, True),
    ('cuda', {'cuda': None, 'hip': None}, False), ('xpu', {'xpu': None}, False), ('xpu', {'xpu': '2026'}, True),
    ('mps', {}, True), ('mps', {}, False)])
def test_why_there_is_no_gpu(monkeypatch, backend, version, built):
    reason = 'no GPU, or no driver for it' if built else f'PyTorch {torch.__version__} is built without it'
    monkeypatch.setattr(torch, 'version', types.SimpleNamespace(**version))
    monkeypatch.setattr(torch.backends.mps, 'is_built', lambda: built)
    assert explain_absence(backend) == reason


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


NONE = 'cuda = None\nhip = None\nxpu = None'
CUDA = 'cuda: str | None = "13.0"\nhip = None\nxpu = None'
HIP = 'cuda = None\nhip = "6.2"\nxpu = None'


@pytest.mark.parametrize(('version', 'drivers', 'expected'), [
    (NONE, {'library': True, 'files': ['nvidiactl', 'kfd']}, False),
    (CUDA, {}, False), (CUDA, {'library': True}, True), (CUDA, {'files': ['nvidiactl']}, True),
    (CUDA, {'files': ['kfd']}, False),
    (HIP, {}, False), (HIP, {'files': ['kfd']}, True), (HIP, {'library': True}, False),
    ('cuda = None\nhip = None\nxpu = "20250000"', {}, True), ('cuda = None\nhip = None', {}, True),
    ('not Python', {}, True)])
def test_pytorch_is_asked_only_if_its_build_has_a_driver_here_or_is_not_understood(machine, version, drivers, expected):
    machine(version, **drivers)
    assert devices.may_have_torch_gpus() == expected
    if not expected:
        assert list_gpus_of('cuda') == []


def test_pytorch_is_asked_where_in_doubt_and_where_it_is_imported(machine, monkeypatch):
    assert devices.may_have_torch_gpus()
    version = machine(NONE) / 'torch' / 'version.py'
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert devices.may_have_torch_gpus()
    monkeypatch.setattr(sys, 'platform', 'linux')
    assert not devices.may_have_torch_gpus()
    version.unlink()
    assert devices.may_have_torch_gpus()


# ---- GPUs with a Vulkan driver ----

def test_a_machine_without_device_files_is_not_asked_unless_vulkan_is(hardware, monkeypatch):
    hardware(vulkan=['Radeon'])
    monkeypatch.setattr('realesrgan.engines.choice.may_have_vulkan_gpus', lambda: False)
    assert list_gpus() == []
    assert list_gpus('vulkan') == [Device('vulkan', 0)]


def test_a_card_comes_first_and_software_is_no_gpu_for_auto(hardware):
    hardware(vulkan=['Iris', 'llvmpipe', 'Radeon'])
    assert list_gpus_of('vulkan') == [Device('vulkan', 2), Device('vulkan', 0), Device('vulkan', 1)]
    assert list_gpus() == [Device('vulkan', 2), Device('vulkan', 0)]


@pytest.mark.parametrize(('package', 'kind', 'name'), [('ncnn', 'vulkan', 'ncnn'), ('torch', 'cuda', 'PyTorch')])
def test_without_its_package_there_is_none(monkeypatch, package, kind, name):
    monkeypatch.setitem(sys.modules, package, None)
    assert list_gpus_of(kind) == []
    assert explain_absence(kind) == f'{name} is not installed: pip install {package}'


ASK = 'from realesrgan.engines import devices as d; print(d.list_gpus_of("vulkan"), d.explain_absence("vulkan"))'


def test_without_a_driver_there_is_none():
    assert run_python(ASK, VK_ICD_FILENAMES='/nowhere', VK_DRIVER_FILES='/nowhere') == (
        '[] no GPU with a Vulkan driver was found (Debian: apt-get install mesa-vulkan-drivers)\n', '')


def test_an_ncnn_that_can_not_be_loaded_is_told_of(tmp_path):
    (tmp_path / 'ncnn').mkdir()
    (tmp_path / 'ncnn/__init__.py').write_text("raise ImportError('libstdc++.so.6: missing')")
    out, _ = run_python(ASK, PYTHONPATH=f'{tmp_path}{os.pathsep}{PROJECT}')
    assert out == "[] ncnn can't be loaded: libstdc++.so.6: missing\n"


def test_what_a_library_writes_to_stderr_goes_to_the_log(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    with devices._log_stderr():
        os.write(2, b'[0 Radeon]  queueC=1\n[0 Radeon]  fp16\n')
    os.write(2, b'after\n')
    assert capfd.readouterr().err == 'after\n'
    assert caplog.messages == ['ncnn: [0 Radeon]  queueC=1', 'ncnn: [0 Radeon]  fp16']


def test_a_closed_stderr_stays_closed():
    assert run_python('import os, sys; os.close(2); from realesrgan.engines import devices\n'
                      'with devices._log_stderr(): print("inside")')[0] == 'inside\n'


def test_where_no_folder_can_be_written_to_ncnn_starts_too(monkeypatch):
    def fail():
        raise FileNotFoundError('no usable temporary directory')
    monkeypatch.setattr(devices.tempfile, 'TemporaryFile', fail)
    with devices._log_stderr():
        pass
