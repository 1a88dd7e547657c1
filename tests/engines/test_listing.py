"""The table that `--list_devices` prints, with faked hardware."""
from __future__ import annotations

import pytest

from realesrgan.engines import choice, listing, torch_gpus
from realesrgan.engines.devices import Device
from realesrgan.engines.listing import describe_devices
from realesrgan.engines.table import BACKENDS, VULKAN
from realesrgan.errors import KernelError


@pytest.fixture
def machine(hardware, monkeypatch):
    """The table's cells for a machine with GPUs; see `hardware`."""
    def set_up(vulkan=(), refusals=(), **counts):
        hardware(vulkan, **counts)
        monkeypatch.setattr(torch_gpus, 'explain_absence', lambda backend: f'why no {backend}')
        monkeypatch.setattr(listing, 'measure_free_memory', lambda device: 3 << 29)
        monkeypatch.setattr(listing, 'processor_name', lambda: 'Ryzen')
        monkeypatch.setattr(listing, 'count_cores', lambda: 8)
        for module in (choice, listing):
            monkeypatch.setattr(module, 'explain_refusal', lambda row, network, device: dict(refusals).get(row.name))
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
    monkeypatch.setattr(listing, 'pick_precision', lambda device, half: 'bfloat16')
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
    rows = machine(refusals=[('winograd', KernelError('no kernel'))])
    assert remarks_of(rows)['winograd', 'cpu'] == 'no kernel'
    assert remarks_of(rows)['openvino', 'cpu'] == 'auto takes this'
    assert remarks_of(rows)['vulkan', 'no vulkan'] == (
        'no GPU with a Vulkan driver was found (Debian: apt-get install mesa-vulkan-drivers)')


def test_a_machine_with_gpus_of_all_kinds(machine):
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


def test_a_machine_whose_only_gpu_has_only_vulkan(machine):
    by_device = {row[2].split(': ')[0]: row for row in machine(vulkan=['llvmpipe', 'Radeon', 'Arc'])}
    assert by_device['vulkan:1'] == [
        'vulkan', '1', 'vulkan:1: Radeon', '1.5 GiB', 'float32, float16', 'auto takes this']
    assert by_device['vulkan:2'][-1] == 'auto takes vulkan:1; -g 2 takes this'


def test_a_gpu_without_a_device_file(machine, monkeypatch):
    """Then auto does not look for it."""
    monkeypatch.setattr(listing, 'list_gpus', list)
    assert machine(vulkan=['Radeon'])[-1][-1] == 'only with --engine vulkan'


def test_this_machine():
    """Whatever it has."""
    table = describe_devices()
    assert table.count('auto takes this') == 1
    for name in ('winograd', 'openvino', 'torch', 'vulkan', *BACKENDS, VULKAN, str(Device('cpu'))):
        assert name in table
