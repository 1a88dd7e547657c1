"""The device that is picked, and the table that `--list_devices` prints, with faked hardware."""
from __future__ import annotations

import logging

import pytest
from torch import nn

from realesrgan import RealESRGANer
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.engines import choice
from realesrgan.engines.choice import choose_row, describe_devices, list_gpus, pick_device, settle_device
from realesrgan.engines.devices import Device
from realesrgan.engines.engine import BACKENDS, VULKAN
from realesrgan.errors import DeviceError, EngineError, KernelError, NoSuchDeviceError

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


def test_a_gpu_that_is_taken_is_named(hardware, caplog):
    caplog.set_level(logging.INFO)
    hardware(vulkan=[SOFTWARE, RADEON])
    pick_device()
    hardware(cuda=2)
    pick_device(gpu_id=1)
    hardware()
    pick_device()
    assert caplog.messages == ['GPU: vulkan:1, Radeon', 'GPU: cuda:1, card 1']


def test_a_software_device_is_taken_if_vulkan_is_asked_for_and_there_is_no_other(hardware, caplog):
    hardware(vulkan=[SOFTWARE, IRIS, RADEON], cuda=1)
    assert str(pick_device(engine='vulkan')) == 'vulkan:2'
    assert str(pick_device(engine='vulkan', gpu_id=1)) == 'vulkan:1'
    assert str(pick_device(engine='vulkan', gpu_id=0)) == 'vulkan:0'
    assert caplog.messages == [
        'llvmpipe is a program that computes on the CPU, slower than the engines for CPUs do']
    hardware(vulkan=[SOFTWARE])
    assert str(pick_device(engine='vulkan')) == 'vulkan:0'


@pytest.mark.parametrize(('engine', 'expected'), [
    ('torch', 'cuda:0'), ('openvino', 'cpu'), ('winograd', 'cpu'), ('vulkan', 'vulkan:0')])
def test_an_engine_gets_a_device_that_it_runs_on(hardware, engine, expected):
    hardware(cuda=1, vulkan=[RADEON])
    assert str(pick_device(engine=engine)) == expected


def test_an_engine_without_a_gpu_of_its_own_runs_on_the_cpu_or_not_at_all(hardware, monkeypatch):
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
        with pytest.raises(NoSuchDeviceError, match='no GPU 0; this machine has no GPU that can be used'):
            pick_device(gpu_id=0)


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
        assert choose_row(network, Device(kind), half=True).name == 'torch'
    with pytest.raises(DeviceError, match='the engine torch runs on the CPU or cuda or xpu or mps, not on vulkan'):
        choose_row(network, Device('vulkan'), half=True, name='torch')


# ---- the table ----

@pytest.fixture
def machine(hardware, monkeypatch):
    """The table's cells for a machine with GPUs; see `hardware`."""
    def set_up(vulkan=(), refusals=(), **counts):
        hardware(vulkan, **counts)
        monkeypatch.setattr(choice, 'explain_absence', lambda kind: f'why no {kind}')
        monkeypatch.setattr(choice, 'measure_free_memory', lambda device: 3 << 29)
        monkeypatch.setattr(choice, 'processor_name', lambda: 'Ryzen')
        monkeypatch.setattr(choice, 'count_cores', lambda: 8)
        monkeypatch.setattr(choice, 'explain_refusal', lambda row, network, device: dict(refusals).get(row.name))
        monkeypatch.setattr(choice, 'has_amx', lambda: False)
        heading, *lines = describe_devices().splitlines()
        starts = [heading.index(word) for word in ('ENGINE', '-g', 'DEVICE', 'FREE', 'PRECISIONS')]
        remarks = heading.index('PRECISIONS') + len('float32, bfloat16  ')
        return [[line[start:stop].strip() for start, stop in zip([*starts, remarks], [*starts[1:], remarks, None],
                                                                 strict=True)] for line in lines]
    return set_up


def remarks_of(rows):
    return {(engine, number or device.split(':')[0]): remark for engine, number, device, _, _, remark in rows}


def test_a_machine_without_a_gpu(machine, monkeypatch):
    monkeypatch.setattr(choice, 'pick_precision', lambda device, half: 'bfloat16')
    rows = machine(vulkan=['llvmpipe'])
    assert rows == [
        ['winograd', '', 'cpu: Ryzen, 8 cores', '1.5 GiB', 'float32', 'auto takes this'],
        ['openvino', '', 'cpu: Ryzen, 8 cores', '1.5 GiB', 'float32, bfloat16', 'slower than winograd'],
        ['torch', '', 'cpu: Ryzen, 8 cores', '1.5 GiB', 'float32, bfloat16', 'slower than winograd'],
        ['torch', '', 'no cuda', '', '', 'why no cuda'],
        ['torch', '', 'no xpu', '', '', 'why no xpu'],
        ['torch', '', 'no mps', '', '', 'why no mps'],
        ['vulkan', '0', 'vulkan:0: llvmpipe', '1.5 GiB', 'float32', 'software: only with --engine vulkan']]


def test_an_engine_that_can_not_run_says_why(machine):
    remarks = remarks_of(machine(refusals=[('winograd', KernelError('no kernel'))]))
    assert remarks['winograd', 'cpu'] == 'no kernel'
    assert remarks['openvino', 'cpu'] == 'auto takes this'
    assert remarks['vulkan', 'no vulkan'] == 'why no vulkan'


def test_a_machine_with_gpus_of_all_kinds(machine, monkeypatch):
    rows = machine(cuda=2, xpu=1, vulkan=['llvmpipe', 'Radeon'])
    remarks = remarks_of(rows)
    assert remarks['winograd', 'cpu'] == 'auto takes a GPU first'
    by_device = {row[2].split(': ')[0]: row for row in rows}
    assert by_device['cuda:0'] == ['torch', '0', 'cuda:0: card 0', '1.5 GiB', 'float32, float16', 'auto takes this']
    assert by_device['cuda:1'][-1] == 'auto takes cuda:0; -g 1 takes this'
    assert by_device['xpu:0'][-1] == 'auto takes cuda:0'
    assert by_device['vulkan:0'][-1] == 'software: only with --engine vulkan'
    assert by_device['vulkan:1'][-1] == 'auto takes cuda:0; --engine vulkan takes this'
    assert by_device['no mps'][-1] == 'why no mps'
    by_device = {row[2].split(': ')[0]: row for row in machine(vulkan=['llvmpipe', 'Radeon', 'Arc'])}
    assert by_device['vulkan:1'] == [
        'vulkan', '1', 'vulkan:1: Radeon', '1.5 GiB', 'float32, float16', 'auto takes this']
    assert by_device['vulkan:2'][-1] == 'auto takes vulkan:1; -g 2 takes this'
    monkeypatch.setattr(choice, 'list_gpus', list)  # as auto does where there is no device file
    assert machine(vulkan=['Radeon'])[-1][-1] == 'only with --engine vulkan'


def test_this_machine():
    """Whatever it has."""
    table = describe_devices()
    assert table.count('auto takes this') == 1
    for name in ('winograd', 'openvino', 'torch', 'vulkan', *BACKENDS, VULKAN, str(Device('cpu'))):
        assert name in table
