"""The processor and the memory, with faked ones, and the memory that networks and results take."""
from __future__ import annotations

import logging
import os
import sys
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from realesrgan import RealESRGANer
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import cpu, memory
from realesrgan.engines.devices import Device
from realesrgan.engines.engine import ENGINES

XEON = 'fma avx2 avx512f avx512dq avx512bw avx512vl avx512_vnni avx512_bf16 amx_bf16 amx_tile amx_int8'


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """Replace the file by one that describes two processors; return what writes it."""
    monkeypatch.setattr(cpu, '_CPUINFO', tmp_path / 'cpuinfo')
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)

    def write(flags, key='flags', name='model name\t: A Processor @ 2.0GHz\n'):
        (tmp_path / 'cpuinfo').write_text(
            f'processor\t: 0\n{name}{key}\t\t: {flags}\n\nprocessor\t: 1\n{key}\t\t: fpu other\n')
    return write


@pytest.mark.parametrize(('key', 'flags'), [('flags', 'fpu fma avx2 avx512_bf16'), ('Features', 'fp asimd bf16')])
def test_features_are_those_of_the_first_processor(cpuinfo, key, flags):
    cpuinfo(flags, key)
    assert cpu.list_cpu_features() == set(flags.split())


@pytest.mark.parametrize(('flags', 'bfloat16', 'vnni'), [
    ('avx2 amx_tile amx_bf16', True, False), ('avx2 avx512_bf16', True, False), ('asimd bf16', True, False),
    ('avx512f avx512_vnni amx_tile', False, True), ('avx2 avx_vnni', False, True), ('avx2', False, False)])
def test_which_processors_have_bfloat16_and_int16(cpuinfo, flags, bfloat16, vnni):
    cpuinfo(flags)
    assert (cpu.has_cpu_bfloat16(), cpu.has_vnni()) == (bfloat16, vnni)


@pytest.mark.parametrize(('limit', 'expected'), [
    ('AVX2', 'fma avx2'), ('sse41', ''), ('AVX', ''), ('AVX2_VNNI_2', 'fma avx2'),
    ('avx512_core_vnni', 'fma avx2 avx512f avx512dq avx512bw avx512vl avx512_vnni'),
    ('AVX512_CORE_BF16', XEON), ('AVX512_CORE_AMX', XEON), ('ALL', XEON), ('', XEON)])
def test_a_processor_may_be_held_to_fewer_instructions_than_it_has(cpuinfo, monkeypatch, limit, expected):
    cpuinfo(XEON)
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', limit)
    assert cpu.list_cpu_features() == set(expected.split())
    assert cpu.has_cpu_bfloat16() == (expected == XEON)
    assert cpu.has_vnni() == ('vnni' in expected)


def test_without_the_file_numpy_says_what_it_found(monkeypatch, tmp_path):
    assert set(cpu._ask_numpy()) <= cpu.list_cpu_features() or 'ONEDNN_MAX_CPU_ISA' in os.environ
    umath = np._core._multiarray_umath if hasattr(np, '_core') else np.core._multiarray_umath
    monkeypatch.setattr(cpu, '_CPUINFO', tmp_path / 'nothing')
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
    monkeypatch.setattr(umath, '__cpu_features__', {
        'SSE': True, 'AVX2': True, 'FMA3': True, 'AVX512F': True, 'AVX512_SKX': True, 'AVX512BF16': False,
        'AVX512VNNI': True, 'ASIMD': False})
    assert cpu.list_cpu_features() == {
        'avx2', 'fma', 'avx512f', 'avx512vl', 'avx512bw', 'avx512dq', 'avx512_vnni'}
    monkeypatch.setattr(umath, '__cpu_features__', {'ASIMD': True, 'AVX2': False})
    assert cpu.list_cpu_features() == {'asimd'}


def test_the_name(cpuinfo, monkeypatch):
    cpuinfo('avx2')
    assert cpu.processor_name() == 'A Processor @ 2.0GHz'
    cpuinfo('asimd', name='')
    monkeypatch.setattr(cpu.platform, 'processor', lambda: '')
    monkeypatch.setattr(cpu.platform, 'machine', lambda: 'aarch64')
    assert cpu.processor_name() == 'aarch64'


# ---- cores ----

@pytest.fixture
def cores(tmp_path, monkeypatch):
    """Set the physical cores, the affinity, the container's `cpu.max` and OMP_NUM_THREADS; return what is counted."""
    monkeypatch.setattr(cpu, '_CGROUP', tmp_path)
    monkeypatch.setattr(cpu, '_CPUS', tmp_path)

    def count(physical, affinity=64, quota=None, threads=None):
        monkeypatch.setattr(psutil, 'cpu_count', lambda logical: physical)
        if affinity is not None:
            monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(affinity)), raising=False)
        if quota is not None:
            (tmp_path / 'cpu.max').write_text(f'{quota}\n')
        if threads is None:
            monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
        else:
            monkeypatch.setenv('OMP_NUM_THREADS', threads)
        return cpu.count_cores()
    return count


def test_cores_are_those_that_the_process_may_use(cores, monkeypatch):
    assert cores(8) == 8
    assert cores(8, affinity=3) == 3
    assert cores(8, quota='max 100000') == 8
    assert cores(8, quota='250000 100000') == 3
    assert cores(8, quota='1000 100000') == 1
    assert cores(8, quota='nonsense') == 8
    monkeypatch.delattr(os, 'sched_getaffinity')
    monkeypatch.setattr(os, 'cpu_count', lambda: None)
    assert cores(8, affinity=None) == 8
    assert cores(None, affinity=None) == 1


@pytest.mark.parametrize(('threads', 'expected'), [
    ('2', 2), ('3,2', 3), (' 1 ', 1), ('16', 8), ('0', 8), ('-1', 8), ('', 8), ('many', 8)])
def test_openmps_number_is_kept_to(cores, threads, expected):
    assert cores(8, threads=threads) == expected


# ---- memory ----

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
    assert need(300, 4, 0, alpha=False) == 4800
    assert need(300, 4, 4, alpha=False) == 4800 + 1200
    assert need(400, 2, 64, alpha=True) == 2 * 1600 + 25600


@pytest.mark.parametrize(('config', 'engine', 'half', 'measured'), [
    (RRDBNetConfig(), 'openvino', True, 6600), (SRVGGNetCompactConfig(), 'openvino', True, 677),
    (RRDBNetConfig(), 'torch', False, 10600), (SRVGGNetCompactConfig(), 'torch', False, 531),
    (RRDBNetConfig(), 'vulkan', True, 13300), (SRVGGNetCompactConfig(), 'vulkan', True, 880)])
def test_more_than_was_measured_is_needed_and_the_result_in_floating_point_comes_on_top(config, engine, half, measured):
    """As `benchmarks/memory.py` measured it. Torch keeps less of a network without residuals than is counted."""
    running = memory.estimate_bytes_per_pixel(config, engine, half=half) - 48 * 16
    assert 1.16 * measured < running < 1.6 * measured
    # An engine that was never measured counts as the hungriest.
    known = [memory.estimate_bytes_per_pixel(config, row.name, half=half) for row in ENGINES]
    assert min(known) > 0
    assert memory.estimate_bytes_per_pixel(config, 'brand new', half=half) == max(known)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    (tmp_path / 'memory.max').write_text('2000000\n')
    (tmp_path / 'memory.current').write_text('800000\n')
    (tmp_path / 'memory.stat').write_text('anon 500000\ninactive_file 300000\n')
    assert memory.measure_container_memory(tmp_path) == 1500000
    (tmp_path / 'memory.max').write_text('max\n')
    assert memory.measure_container_memory(tmp_path) == sys.maxsize
    assert memory.measure_container_memory(tmp_path / 'nothing') == sys.maxsize
    monkeypatch.setattr(memory, 'measure_system_memory', lambda: (10 ** 9, 0))
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


def test_workers_share_a_card_as_if_none_had_begun(monkeypatch):
    """Of a card of 1000 bytes the first of two gets 400, and so does one that finds only 600 left."""
    limits, free = [], [1000]
    monkeypatch.setattr(torch.cuda, 'mem_get_info', lambda device: (free[0], 1000))
    monkeypatch.setattr(torch.cuda, 'set_per_process_memory_fraction', lambda *given: limits.append(given))
    for left, expected in ((1000, 400), (600, 400), (250, 200)):
        free[0] = left
        assert memory.take_share(Device('cuda', 1), 2) == expected
    assert limits == [(0.45, torch.device('cuda:1'))] * 3
    monkeypatch.setattr(memory, 'measure_free_memory', lambda device: 1000)
    assert memory.take_share(Device('cpu'), 2) == 400
    assert len(limits) == 3


def test_results_may_use_swap_space_but_no_more_than_the_container_has(monkeypatch):
    monkeypatch.setattr(memory, 'measure_system_memory', lambda: (2 * 2 ** 30, 2 ** 30))
    monkeypatch.setattr(memory, 'measure_container_memory', lambda: sys.maxsize)
    memory.require_memory(3 * 2 ** 30, 5, 7)
    with pytest.raises(MemoryError, match='a result of 5x7 takes 4.0 GiB of memory, 3.0 are free. Close other'):
        memory.require_memory(4 * 2 ** 30, 5, 7)
    monkeypatch.setattr(memory, 'measure_container_memory', lambda: 2 ** 30)
    with pytest.raises(MemoryError, match='takes 3.0 GiB of memory, 1.0 are free'):
        memory.require_memory(3 * 2 ** 30, 5, 7)
    huge = np.broadcast_to(np.uint8(0), (2 ** 20, 2 ** 20, 3))
    upsampler = RealESRGANer(4, None, model=SRVGGNetCompactConfig(4, 8, 1).build(), device='cpu')
    for picture, outscale, side, needed in ((huge, None, 2 ** 22, '49152.0'),
                                            (np.zeros((16, 16, 3), np.uint8), 8192, 2 ** 17, '48.0')):
        with pytest.raises(MemoryError, match=f'a result of {side}x{side} takes {needed} GiB.*a smaller size'):
            upsampler.enhance(picture, outscale)


def test_memory_in_use_counts_all_gpus_of_the_process(monkeypatch):
    monkeypatch.setattr(torch, 'cuda', SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 2, memory_allocated=[3 << 30, 3 << 29].__getitem__,
        memory_reserved=[4 << 30, 4 << 30].__getitem__))
    monkeypatch.setitem(sys.modules, 'realesrgan.engines.vulkan', SimpleNamespace(
        measure_held_memory=lambda: (1 << 29, 1 << 30)))
    use = memory.measure_memory_use()
    assert (use.allocated, use.reserved) == (5 << 30, 9 << 30)
    assert use.host > 1 << 20
    assert 0 < use.system <= 1
    assert str(use._replace(host=1 << 30, system=0.314)) == (
        'memory: 1.00 GiB in this process, 31% of the system\'s in use; of GPUs 5.00 GiB allocated, 9.00 GiB reserved')
    assert str(memory.MemoryUse(1 << 28, 0, 0, 0.5)) == 'memory: 0.25 GiB in this process, 50% of the system\'s in use'


def test_memory_is_logged_every_few_seconds_and_only_as_a_detail(caplog):
    seconds = iter([0, 1, 5, 5, 6, 10, 10])
    log = memory.MemoryLog(lambda: next(seconds))
    for _ in range(3):
        log.update()  # nobody wants details, so nobody looks at the clock
    caplog.set_level(logging.DEBUG, 'realesrgan')
    counts = []
    for _ in range(4):
        log.update()
        counts.append(len(caplog.records))
    assert counts == [0, 1, 1, 2]
    assert all(record.getMessage().startswith('memory: ') for record in caplog.records)
