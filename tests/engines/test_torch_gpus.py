"""Finding out, without PyTorch, whether it could use a GPU; with faked hardware."""
from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch

from realesrgan.engines import torch_gpus
from realesrgan.engines.devices import Device
from realesrgan.engines.table import BACKENDS


@pytest.mark.parametrize('backend', BACKENDS)
def test_gpus_are_counted(backend):
    assert torch_gpus.count_gpus(backend) >= 0


def test_gpus_are_listed_and_named(monkeypatch):
    monkeypatch.setattr(torch_gpus, 'count_gpus', lambda backend: {'cuda': 2, 'mps': 1}.get(backend, 0))
    assert list(map(str, torch_gpus.list_gpus())) == ['cuda:0', 'cuda:1', 'mps:0']
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda index: f'GeForce {index}')
    assert torch_gpus.get_name(Device('cuda', 1)) == 'GeForce 1'
    assert torch_gpus.get_name(Device('mps', 0)) == 'Apple GPU'


@pytest.mark.parametrize(('backend', 'version', 'reason'), [
    ('cuda', {'cuda': '13.0', 'hip': None}, 'no GPU, or no driver for it'),
    ('cuda', {'cuda': None, 'hip': '6.2'}, 'no GPU, or no driver for it'),
    ('cuda', {'cuda': None, 'hip': None}, f'PyTorch {torch.__version__} is built without it'),
    ('xpu', {'xpu': None}, f'PyTorch {torch.__version__} is built without it'),
    ('xpu', {'xpu': '2026'}, 'no GPU, or no driver for it')])
def test_why_there_is_no_gpu(monkeypatch, backend, version, reason):
    monkeypatch.setattr(torch, 'version', types.SimpleNamespace(**version))
    assert torch_gpus.explain_absence(backend) == reason


@pytest.mark.parametrize(('built', 'reason'), [
    (True, 'no GPU, or no driver for it'), (False, f'PyTorch {torch.__version__} is built without it')])
def test_why_there_is_no_gpu_of_apple(monkeypatch, built, reason):
    monkeypatch.setattr(torch.backends.mps, 'is_built', lambda: built)
    assert torch_gpus.explain_absence('mps') == reason


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
        monkeypatch.setattr(torch_gpus, '_loads_nvidia_driver', lambda: library)
        monkeypatch.setattr(torch_gpus, 'NVIDIA_FILES', (tmp_path / 'nvidiactl',))
        monkeypatch.setattr(torch_gpus, '_AMD_FILES', (tmp_path / 'kfd',))
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
    assert torch_gpus.may_have_gpus() == expected
    if not expected:
        assert torch_gpus.list_gpus() == []


@pytest.mark.parametrize('version', ['cuda = None\nhip = None', 'not Python'], ids=['no xpu', 'unreadable'])
def test_pytorch_is_asked_where_its_build_is_not_understood(machine, version):
    machine(version)
    assert torch_gpus.may_have_gpus()


def test_pytorch_is_asked_where_version_py_is_missing(machine):
    (machine() / 'torch' / 'version.py').unlink()
    assert torch_gpus.may_have_gpus()


def test_pytorch_is_asked_on_a_mac(machine, monkeypatch):
    machine('cuda = None\nhip = None\nxpu = None')
    monkeypatch.setattr(sys, 'platform', 'darwin')
    assert torch_gpus.may_have_gpus()


def test_pytorch_is_asked_once_it_is_imported():
    assert torch_gpus.may_have_gpus()
