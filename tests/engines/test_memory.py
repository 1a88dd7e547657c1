"""How much memory networks and results take, and how much there is."""
from __future__ import annotations

import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import memory
from realesrgan.engines.devices import Device
from realesrgan.engines.engine import ENGINES


def test_the_result_takes_its_part_of_what_is_free(monkeypatch):
    monkeypatch.setattr(memory, 'measure_free_memory', lambda device: 1000)
    assert memory.measure_usable_memory(Device('cpu'), 400) == 480
    assert memory.measure_usable_memory(Device('cuda'), 400) == 800
    assert memory.measure_usable_memory(Device('cpu'), 1001) == 0
    assert memory.measure_usable_memory(Device('vulkan'), 400) == 500
    monkeypatch.setattr(memory, 'measure_free_memory', lambda device: 24 << 30)
    assert memory.measure_usable_memory(Device('vulkan')) == 3 << 30  # see `memory`


def test_results_are_those_of_the_network_alpha_and_the_last_size():
    need = memory.estimate_result_memory
    assert need(300, 4, None, alpha=False) == need(300, 4, 4, alpha=False) == 4800
    assert need(300, 4, 2, alpha=False) == 4800 + 1200
    assert need(400, 2, 8, alpha=True) == 2 * 1600 + 25600


@pytest.mark.parametrize(('shape', 'engine', 'half', 'measured'), [
    (RRDBNetConfig(), 'winograd', False, 11900), (SRVGGNetCompactConfig(), 'winograd', False, 814),
    (RRDBNetConfig(), 'openvino', True, 6600), (SRVGGNetCompactConfig(), 'openvino', True, 677),
    (RRDBNetConfig(), 'torch', False, 10600), (SRVGGNetCompactConfig(), 'torch', False, 531),
    (RRDBNetConfig(), 'vulkan', True, 13300), (SRVGGNetCompactConfig(), 'vulkan', True, 880)])
def test_more_than_was_measured_is_needed_and_the_result_in_floating_point_comes_on_top(shape, engine, half, measured):
    """As `benchmarks/memory.py` measured it. Torch keeps less of a network without residuals than is counted."""
    running = memory.estimate_bytes_per_pixel(shape, engine, half=half) - 48 * 16
    assert 1.16 * measured < running < 1.6 * measured
    # An engine that was never measured counts as the hungriest.
    known = [memory.estimate_bytes_per_pixel(shape, row.name, half=half) for row in ENGINES]
    assert min(known) > 0
    assert memory.estimate_bytes_per_pixel(shape, 'brand new', half=half) == max(known)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    (tmp_path / 'memory.max').write_text('2000000\n')
    (tmp_path / 'memory.current').write_text('800000\n')
    (tmp_path / 'memory.stat').write_text('anon 500000\ninactive_file 300000\n')
    assert memory.measure_container_memory(tmp_path) == 1500000
    (tmp_path / 'memory.max').write_text('max\n')
    assert memory.measure_container_memory(tmp_path) == sys.maxsize
    assert memory.measure_container_memory(tmp_path / 'nothing') == sys.maxsize
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: SimpleNamespace(available=10 ** 9))
    for left, free in ((1500000, 1200000), (2 * 10 ** 9, 8 * 10 ** 8)):
        monkeypatch.setattr(memory, 'measure_container_memory', lambda left=left: left)
        assert memory.measure_usable_memory(Device('cpu')) == free


@pytest.mark.parametrize('name', ['cuda', 'cuda:1', 'xpu:0'])
def test_a_gpus_free_memory_is_what_pytorch_says_of_that_gpu(monkeypatch, name):
    asked = []
    backend = getattr(torch, name.split(':')[0])
    monkeypatch.setattr(backend, 'mem_get_info', lambda device: asked.append(device) or (700, 1000), raising=False)
    assert memory.measure_free_memory(Device.parse(name)) == 700
    assert asked == [torch.device(name)]


def test_results_may_use_swap_space_but_no_more_than_the_container_has(monkeypatch):
    monkeypatch.setattr(psutil, 'virtual_memory', lambda: SimpleNamespace(available=2 * 2 ** 30))
    monkeypatch.setattr(psutil, 'swap_memory', lambda: SimpleNamespace(free=2 ** 30))
    monkeypatch.setattr(memory, 'measure_container_memory', lambda: sys.maxsize)
    memory.require_memory(3 * 2 ** 30)
    with pytest.raises(MemoryError, match='the result alone takes 4.0 GiB of memory, 3.0 are free. Close other'):
        memory.require_memory(4 * 2 ** 30)
    monkeypatch.setattr(memory, 'measure_container_memory', lambda: 2 ** 30)
    with pytest.raises(MemoryError, match='takes 3.0 GiB of memory, 1.0 are free'):
        memory.require_memory(3 * 2 ** 30)
