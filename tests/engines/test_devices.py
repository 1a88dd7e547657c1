"""Devices: names, precisions, GPUs that are found, the one that is picked, the table of all; with faked hardware."""
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
from torch import nn

from realesrgan import RealESRGANer
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.engines import choice, devices
from realesrgan.engines.choice import choose_row, describe_devices, list_gpus, pick_device, settle_device
from realesrgan.engines.devices import Device, explain_absence, get_name, list_gpus_of, pick_precision
from realesrgan.engines.engine import BACKENDS, VULKAN
from realesrgan.errors import DeviceError, EngineError, KernelError, NoSuchDeviceError

#: The kinds of devices with a Vulkan driver, by the first word of their names; all others are cards.
KINDS = {'Iris': 1, 'Virtio': 2, 'llvmpipe': 3}


@pytest.fixture
def hardware(monkeypatch):
    """Pretend that the machine has GPUs: how many of each of PyTorch's backends, and the names of Vulkan's devices."""
    def set_up(vulkan=(), **counts):
        monkeypatch.setattr(devices, 'may_have_torch_gpus', lambda: True)
        monkeypatch.setattr(devices, 'count_torch_gpus', lambda backend: counts.get(backend, 0))
        monkeypatch.setattr(devices, '_count_vulkan_devices', lambda: len(vulkan))
        monkeypatch.setattr(devices, 'get_vulkan_kind', lambda gpu: KINDS.get(vulkan[gpu.index], 0))
        monkeypatch.setattr(choice, 'may_have_vulkan_gpus', lambda: True)
        monkeypatch.setattr(choice, 'get_name', lambda gpu: (
            vulkan[gpu.index] if gpu.type == 'vulkan' else f'card {gpu.index}'))
    return set_up


# ---- names and precisions ----

PROJECT = Path(__file__).parents[2]


def run_python(code, **environment):
    """Run code in a process of its own, because ncnn asks for devices once; return its stdout and stderr."""
    result = subprocess.run([sys.executable, '-c', code], env=os.environ | environment, cwd=PROJECT,
                            capture_output=True, text=True, check=True)
    return result.stdout, result.stderr


@pytest.mark.parametrize(('device', 'bfloat16', 'int16', 'precision'), [
    ('cuda', True, True, 'float16'), ('mps', False, False, 'float16'), ('xpu', False, False, 'float16'),
    ('vulkan', False, False, 'float16'), ('cpu', True, True, 'int16'), ('cpu', False, True, 'int16'),
    ('cpu', True, False, 'bfloat16'), ('cpu', False, False, 'float32')])
def test_half_precision_is_what_the_device_is_fast_with(monkeypatch, device, bfloat16, int16, precision):
    monkeypatch.setattr(devices, 'has_cpu_bfloat16', lambda: bfloat16)
    monkeypatch.setattr(devices, 'has_vnni', lambda: int16)
    known = 'float32', 'bfloat16', 'float16', 'int16'
    assert pick_precision(Device(device), half=True, precisions=known) == precision
    assert pick_precision(Device(device), half=False, precisions=known) == 'float32'
    for precisions in (('float32',), ('float32', 'float64')):
        assert pick_precision(Device(device), half=True, precisions=precisions) == 'float32'


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


@pytest.mark.parametrize('has_driver', [True, False])
def test_that_pytorch_is_missing_is_said_where_it_would_compute(monkeypatch, caplog, hardware, has_driver):
    hardware(vulkan=['Radeon'])
    monkeypatch.setattr('sys.platform', 'linux')
    monkeypatch.setattr(devices, '_find_any', lambda files: has_driver)
    monkeypatch.setattr(devices, '_loads_nvidia_driver', lambda: False)
    with caplog.at_level('INFO', 'realesrgan'):
        pick_device()
        monkeypatch.setitem(sys.modules, 'torch', None)
        assert pick_device() == Device('vulkan', 0)
        pick_device(engine='vulkan')
    lines = [record.getMessage() for record in caplog.records]
    assert lines.count('PyTorch, which runs GPUs faster than Vulkan, is not installed: pip install torch') == has_driver
    assert lines.count('GPU: vulkan:0, Radeon') == 3


ASK = 'from realesrgan.engines import devices as d; print(d.list_gpus_of("vulkan"), d.explain_absence("vulkan"))'


def test_without_a_driver_or_with_an_ncnn_that_can_not_be_loaded_there_is_none(tmp_path):
    assert run_python(ASK, VK_ICD_FILENAMES='/nowhere', VK_DRIVER_FILES='/nowhere') == (
        '[] no GPU with a Vulkan driver was found (Debian: apt-get install mesa-vulkan-drivers)\n', '')
    (tmp_path / 'ncnn').mkdir()
    (tmp_path / 'ncnn/__init__.py').write_text("raise ImportError('libstdc++.so.6: missing')")
    assert run_python(ASK, PYTHONPATH=f'{tmp_path}{os.pathsep}{PROJECT}')[0] == (
        "[] ncnn can't be loaded: libstdc++.so.6: missing\n")


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


# ---- which is picked ----

SOFTWARE, IRIS, VIRTIO, RADEON = 'llvmpipe', 'Iris', 'Virtio', 'Radeon'


@pytest.mark.parametrize(('found', 'expected'), [
    ({}, 'cpu'),
    ({'cuda': 2, 'xpu': 1, 'mps': 1, 'vulkan': [RADEON]}, 'cuda:0'),
    ({'xpu': 1, 'mps': 1, 'vulkan': [RADEON]}, 'xpu:0'),
    ({'mps': 1, 'vulkan': [RADEON]}, 'mps:0'),
    ({'vulkan': [SOFTWARE, RADEON]}, 'vulkan:1'),
    ({'vulkan': [IRIS, SOFTWARE, RADEON]}, 'vulkan:2'),
    ({'vulkan': [SOFTWARE, VIRTIO, IRIS]}, 'vulkan:2'),
    ({'vulkan': [SOFTWARE]}, 'cpu')])
def test_auto_takes_the_best_kind_and_no_software(hardware, found, expected):
    hardware(**found)
    assert str(pick_device()) == expected
    assert bool(list_gpus()) == (expected != 'cpu')


def test_a_gpu_that_is_taken_is_named_and_software_only_where_vulkan_is_asked_for(hardware, caplog):
    with caplog.at_level(logging.INFO):
        hardware(vulkan=[SOFTWARE, RADEON])
        pick_device()
        hardware(cuda=2)
        pick_device(gpu_id=1)
        hardware()
        pick_device()
    assert caplog.messages == ['GPU: vulkan:1, Radeon', 'GPU: cuda:1, card 1']
    caplog.clear()
    hardware(vulkan=[SOFTWARE, IRIS, RADEON], cuda=1)
    assert str(pick_device(engine='vulkan')) == 'vulkan:2'
    assert str(pick_device(engine='vulkan', gpu_id=1)) == 'vulkan:1'
    assert str(pick_device(engine='vulkan', gpu_id=0)) == 'vulkan:0'
    assert caplog.messages == [
        'llvmpipe computes on the CPU, more slowly than the engines for CPUs']
    hardware(vulkan=[SOFTWARE])
    assert str(pick_device(engine='vulkan')) == 'vulkan:0'


def test_an_engine_without_a_gpu_of_its_own_runs_on_the_cpu_or_not_at_all(hardware, monkeypatch):
    hardware(cuda=1, vulkan=[RADEON])
    for engine, device in (('torch', 'cuda:0'), ('openvino', 'cpu'), ('winograd', 'cpu'), ('vulkan', 'vulkan:0')):
        assert str(pick_device(engine=engine)) == device
    hardware(vulkan=[RADEON])
    assert str(pick_device(engine='torch')) == 'cpu'
    hardware(cuda=1)
    monkeypatch.setattr(choice, 'explain_absence', lambda kind: f'no {kind}')
    with pytest.raises(DeviceError, match='the engine vulkan has nothing to run on; no vulkan') as no:
        pick_device(engine='vulkan')
    assert not isinstance(no.value, NoSuchDeviceError)  # for which the scripts print the table
    with pytest.raises(ValueError, match="engine is 'fast'; allowed are auto, "):
        pick_device(engine='fast')


def test_gpu_0_is_a_gpu_and_the_device_given_wins(hardware):
    hardware(cuda=2, vulkan=[SOFTWARE])
    assert str(pick_device(gpu_id=0)) == 'cuda:0'
    assert str(pick_device(gpu_id=1)) == 'cuda:1'
    assert str(pick_device('cpu', gpu_id=1)) == 'cpu'
    assert str(pick_device('cuda')) == 'cuda'
    assert str(pick_device('vulkan:0')) == 'vulkan:0'
    hardware(vulkan=[SOFTWARE, RADEON])
    assert str(pick_device(gpu_id=1)) == 'vulkan:1'


def test_a_gpu_that_is_not_there_names_those_that_are(hardware):
    hardware(cuda=2, mps=1, vulkan=[SOFTWARE])
    with pytest.raises(NoSuchDeviceError, match=r'no GPU 2; available: 0 \(cuda:0\), 1 \(cuda:1\)$'):
        pick_device(gpu_id=2)
    hardware(vulkan=[IRIS, RADEON])
    with pytest.raises(NoSuchDeviceError, match=r'no GPU 7; available: 0 \(vulkan:0\), 1 \(vulkan:1\)$'):
        pick_device(gpu_id=7)
    hardware(cuda=2, mps=1, vulkan=[SOFTWARE])
    with pytest.raises(NoSuchDeviceError, match='no device xpu; available'):
        pick_device('xpu')
    with pytest.raises(NoSuchDeviceError, match=r'no device vulkan:1; available: 0 \(vulkan:0\)$'):
        pick_device('vulkan:1')
    with pytest.raises(NoSuchDeviceError, match=r'no GPU 0; this engine runs on the CPU \(leave the GPU out\)$'):
        pick_device(gpu_id=0, engine='openvino')
    for found in ([], [SOFTWARE]):
        hardware(vulkan=found)
        with pytest.raises(NoSuchDeviceError, match='no GPU 0; this machine has no usable GPU') as caught:
            pick_device(gpu_id=0)
        assert ('; --engine vulkan -g 0 takes ' in str(caught.value)) == bool(found)


def test_a_network_that_vulkan_does_not_know_goes_to_the_cpu_unless_vulkan_was_asked_for(monkeypatch, caplog):
    known = LoadedNetwork.from_module(RRDBNetConfig(4, 8, 1, 4).build())
    unknown = LoadedNetwork.from_module(nn.Identity(), 1)
    gpu, refusal = Device('vulkan', 1), EngineError('vulkan does not know it')
    monkeypatch.setattr(choice, 'explain_refusal', lambda row, network, device: None if network is known else refusal)
    assert settle_device(known, gpu) == gpu
    assert settle_device(unknown, gpu, 'vulkan') == gpu
    assert settle_device(unknown, Device('cuda')) == Device('cuda')
    assert caplog.records == []
    assert settle_device(unknown, gpu) == Device('cpu')
    assert caplog.messages == ['vulkan does not know it; the CPU runs it instead']


def test_a_vulkan_gpu_that_was_named_is_not_exchanged_for_the_cpu(hardware):
    """Unlike one that was picked."""
    hardware(vulkan=[RADEON])
    assert RealESRGANer(1, None, model=nn.Conv2d(3, 3, 1)).device_type == 'cpu'
    with pytest.raises(EngineError, match='the engine vulkan does not know this network'):
        RealESRGANer(1, None, model=nn.Conv2d(3, 3, 1), device='vulkan:0')


def test_a_device_that_only_a_plugin_of_pytorch_knows_is_pytorch_s():
    network = LoadedNetwork.from_module(RRDBNetConfig(4, 8, 1, 4).build())
    for kind in ('npu', 'hpu', 'privateuseone'):
        assert pick_device(Device(kind)) == Device(kind)
        assert choose_row(network, Device(kind)).name == 'torch'
    with pytest.raises(DeviceError, match='the engine torch runs on the CPU or cuda or xpu or mps, not on vulkan'):
        choose_row(network, Device('vulkan'), 'torch')


# ---- the table ----

@pytest.fixture
def list_cells(hardware, monkeypatch):
    """The table's cells for a machine with GPUs; see `hardware`."""
    def set_up(vulkan=(), refusals=(), **counts):
        hardware(vulkan, **counts)
        monkeypatch.setattr(choice, 'explain_absence', lambda kind: f'why no {kind}')
        monkeypatch.setattr(choice, 'measure_free_memory', lambda device: 3 << 29)
        monkeypatch.setattr(choice, 'processor_name', lambda: 'Ryzen')
        monkeypatch.setattr(choice, 'count_cores', lambda: 8)
        monkeypatch.setattr(choice, 'explain_refusal', lambda row, network, device: dict(refusals).get(row.name))
        monkeypatch.setattr(devices, 'has_cpu_bfloat16', lambda: True)
        monkeypatch.setattr(devices, 'has_vnni', lambda: True)
        heading, *lines = describe_devices().splitlines()
        starts = [heading.index(word) for word in ('ENGINE', '-g', 'DEVICE', 'FREE', 'PRECISIONS')]
        remarks = heading.index('PRECISIONS') + len('float32, bfloat16  ')
        return [[line[start:stop].strip() for start, stop in zip([*starts, remarks], [*starts[1:], remarks, None],
                                                                 strict=True)] for line in lines]
    return set_up


def remarks_of(rows):
    return {(engine, number or device.split(':')[0]): remark for engine, number, device, _, _, remark in rows}


def test_a_machine_without_a_gpu(list_cells):
    rows = list_cells(vulkan=['llvmpipe'])
    assert rows == [
        ['winograd', '', 'cpu: Ryzen, 8 cores', '1.5 GiB', 'float32, int16', 'auto takes this'],
        ['openvino', '', 'cpu: Ryzen, 8 cores', '1.5 GiB', 'float32, bfloat16', 'auto takes winograd first'],
        ['torch', '', 'cpu: Ryzen, 8 cores', '1.5 GiB', 'float32, bfloat16', 'auto takes winograd first'],
        ['torch', '', 'no cuda', '', '', 'why no cuda'],
        ['torch', '', 'no xpu', '', '', 'why no xpu'],
        ['torch', '', 'no mps', '', '', 'why no mps'],
        ['vulkan', '0', 'vulkan:0: llvmpipe', '1.5 GiB', 'float32, float16',
         'software: only with --engine vulkan']]


def test_an_engine_that_can_not_run_says_why(list_cells):
    remarks = remarks_of(list_cells(refusals=[('winograd', KernelError('no kernel'))]))
    assert remarks['winograd', 'cpu'] == 'no kernel'
    assert remarks['openvino', 'cpu'] == 'auto takes this'
    assert remarks['vulkan', 'no vulkan'] == 'why no vulkan'


def test_a_machine_with_gpus_of_all_kinds(list_cells, monkeypatch):
    rows = list_cells(cuda=2, xpu=1, vulkan=['llvmpipe', 'Radeon'])
    remarks = remarks_of(rows)
    assert remarks['winograd', 'cpu'] == 'auto takes a GPU first'
    by_device = {row[2].split(': ')[0]: row for row in rows}
    assert by_device['cuda:0'] == ['torch', '0', 'cuda:0: card 0', '1.5 GiB', 'float32, float16', 'auto takes this']
    assert by_device['cuda:1'][-1] == 'auto takes cuda:0; -g 1 takes this'
    assert by_device['xpu:0'][-1] == 'auto takes cuda:0'
    assert by_device['vulkan:0'][-1] == 'software: only with --engine vulkan'
    assert by_device['vulkan:1'][-1] == 'auto takes cuda:0; --engine vulkan takes this'
    assert by_device['no mps'][-1] == 'why no mps'
    by_device = {row[2].split(': ')[0]: row for row in list_cells(vulkan=['llvmpipe', 'Radeon', 'Arc'])}
    assert by_device['vulkan:1'] == [
        'vulkan', '1', 'vulkan:1: Radeon', '1.5 GiB', 'float32, float16', 'auto takes this']
    assert by_device['vulkan:2'][-1] == 'auto takes vulkan:1; -g 2 takes this'
    monkeypatch.setattr(choice, 'list_gpus', list)  # as auto does where there is no device file
    assert list_cells(vulkan=['Radeon'])[-1][-1] == 'only with --engine vulkan'


def test_this_list_cells():
    """Whatever it has."""
    table = describe_devices()
    assert table.count('auto takes this') == 1
    for name in ('winograd', 'openvino', 'torch', 'vulkan', *BACKENDS, VULKAN, str(Device('cpu'))):
        assert name in table
