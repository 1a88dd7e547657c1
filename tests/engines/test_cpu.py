"""What the processor can do, with faked processors and containers."""
from __future__ import annotations

import os

import numpy as np
import psutil
import pytest

from realesrgan.engines import cpu

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


@pytest.mark.parametrize(('flags', 'bfloat16', 'amx'), [
    ('avx2 amx_tile amx_bf16', True, True), ('avx2 avx512_bf16', True, False), ('asimd bf16', True, False),
    ('avx512f avx512_vnni amx_tile', False, False), ('avx2', False, False)])
def test_which_processors_have_bfloat16(cpuinfo, flags, bfloat16, amx):
    cpuinfo(flags)
    assert (cpu.has_cpu_bfloat16(), cpu.has_amx()) == (bfloat16, amx)


@pytest.mark.parametrize(('limit', 'expected'), [
    ('AVX2', 'fma avx2'), ('sse41', ''), ('AVX', ''), ('AVX2_VNNI_2', 'fma avx2'),
    ('avx512_core_vnni', 'fma avx2 avx512f avx512dq avx512bw avx512vl avx512_vnni'),
    ('AVX512_CORE_BF16', XEON), ('AVX512_CORE_AMX', XEON), ('ALL', XEON), ('', XEON)])
def test_a_processor_may_be_held_to_fewer_instructions_than_it_has(cpuinfo, monkeypatch, limit, expected):
    cpuinfo(XEON)
    monkeypatch.setenv('ONEDNN_MAX_CPU_ISA', limit)
    assert cpu.list_cpu_features() == set(expected.split())
    assert cpu.has_cpu_bfloat16() == cpu.has_amx() == (expected == XEON)


def test_without_the_file_numpy_says_what_it_found(monkeypatch, tmp_path):
    assert set(cpu._ask_numpy()) <= cpu.list_cpu_features() or 'ONEDNN_MAX_CPU_ISA' in os.environ
    umath = np._core._multiarray_umath if hasattr(np, '_core') else np.core._multiarray_umath
    monkeypatch.setattr(cpu, '_CPUINFO', tmp_path / 'nothing')
    monkeypatch.delenv('ONEDNN_MAX_CPU_ISA', raising=False)
    monkeypatch.setattr(umath, '__cpu_features__', {
        'SSE': True, 'AVX2': True, 'FMA3': True, 'AVX512F': True, 'AVX512_SKX': True, 'AVX512BF16': False,
        'ASIMD': False})
    assert cpu.list_cpu_features() == {'avx2', 'fma', 'avx512f', 'avx512vl', 'avx512bw', 'avx512dq'}
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


