"""The processor: its instructions, cores and caches. Importing this needs only the standard library."""
from __future__ import annotations

import importlib
import math
import os
import platform
from pathlib import Path

_CPUINFO = Path('/proc/cpuinfo')
_CGROUP = Path('/sys/fs/cgroup')
_CPUS = Path('/sys/devices/system/cpu')
_CACHES = _CPUS / 'cpu0' / 'cache'
_USUAL_L2 = 1 << 20

#: Linux's names of features, by numpy's.
_NAMES_OF_NUMPY = {
    'AVX2': ('avx2',), 'FMA3': ('fma',), 'AVX512F': ('avx512f',), 'AVX512VL': ('avx512vl',), 'AVX512BW': ('avx512bw',),
    'AVX512DQ': ('avx512dq',), 'AVX512BF16': ('avx512_bf16',),
    'AVX512_SKX': ('avx512f', 'avx512vl', 'avx512bw', 'avx512dq'), 'AVX512VNNI': ('avx512_vnni',),
    'AVX512_SPR': ('avx512_bf16',), 'ASIMD': ('asimd',)}

# The values of ONEDNN_MAX_CPU_ISA, and the beginnings of the features that each excludes:
# https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html. OpenVINO's bfloat16 crashes without
# them.
_BFLOAT16 = ('avx512_bf16', 'amx', 'bf16')
_EXCLUDED = (dict.fromkeys(('SSE41', 'AVX'), ('avx2', 'fma', 'avx_vnni', 'avx512', 'amx', 'bf16'))
             | dict.fromkeys(('AVX2_VNNI', 'AVX2_VNNI_2'), ('avx512', 'amx', 'bf16'))
             | {'AVX2': ('avx_vnni', 'avx512', 'amx', 'bf16'), 'AVX512_CORE': ('avx_vnni', 'avx512_vnni', *_BFLOAT16),
                'AVX512_CORE_VNNI': _BFLOAT16})


def list_cpu_features() -> frozenset[str]:
    """Return the instruction sets that may be used, under Linux's names ('avx2', 'avx512_bf16', 'asimd' ...).

    On Linux these are all that the processor has; elsewhere AVX2, FMA, the commonest parts of AVX-512, and Arm's asimd.
    oneDNN, which two engines compute with, can be held to fewer by ONEDNN_MAX_CPU_ISA; then all engines are.
    """
    features = (_read_cpuinfo('flags') or _read_cpuinfo('Features')).split() or _ask_numpy()
    excluded = _EXCLUDED.get(os.environ.get('ONEDNN_MAX_CPU_ISA', '').upper(), ())
    return frozenset(name for name in features if not name.startswith(excluded))


def has_cpu_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 natively (AMX, AVX512-BF16, or the Arm extension), and may do so."""
    return not list_cpu_features().isdisjoint(('amx_bf16', 'avx512_bf16', 'bf16'))


def has_vnni() -> bool:
    """Return whether this CPU multiplies pairs of int16 natively (VNNI), and may do so."""
    return not list_cpu_features().isdisjoint(('avx512_vnni', 'avx_vnni'))


def processor_name() -> str:
    """Return the processor's name, as far as the system knows it."""
    return _read_cpuinfo('model name') or platform.processor() or platform.machine()


def count_cores() -> int:
    """Return how many physical cores this process may use: at most what its affinity, container and OpenMP allow."""
    counts = [_count_physical_cores() or os.cpu_count() or 1]
    if hasattr(os, 'sched_getaffinity'):
        counts.append(len(os.sched_getaffinity(0)))
    counts.append(_read_quota())
    asked = os.environ.get('OMP_NUM_THREADS', '').split(',')[0].strip()  # one number for each level of nesting
    if asked.isdecimal() and int(asked) > 0:
        counts.append(int(asked))
    return max(min(count for count in counts if count), 1)


def _count_physical_cores() -> int | None:
    """Return how many cores the machine has, however many threads each runs; None if unknown."""
    try:  # each file names the threads of one core
        cores = {file.read_text() for file in _CPUS.glob('cpu[0-9]*/topology/core_cpus_list')}
    except OSError:
        cores = set()
    if cores:
        return len(cores)
    import psutil  # only here, because importing it takes a twentieth of a start
    return psutil.cpu_count(logical=False)


def measure_l2_cache() -> int:
    """Return the bytes of a core's second-level cache; 1 MiB where the system does not tell it (only Linux does)."""
    for cache in _CACHES.glob('index*'):
        try:
            if (cache / 'level').read_text().strip() == '2':
                return int((cache / 'size').read_text().strip().removesuffix('K')) << 10
        except (OSError, ValueError):
            continue
    return _USUAL_L2


def _read_cpuinfo(key: str) -> str:
    """Return the first value of a key; '' where there is none."""
    try:
        with _CPUINFO.open(errors='replace') as file:
            for line in file:
                name, _, value = line.partition(':')
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return ''


def _ask_numpy() -> list[str]:
    try:
        module = importlib.import_module('numpy._core._multiarray_umath')
    except ImportError:  # numpy 1
        module = importlib.import_module('numpy.core._multiarray_umath')
    found = getattr(module, '__cpu_features__', {})
    return [name for key, names in _NAMES_OF_NUMPY.items() if found.get(key) for name in names]


def _read_quota() -> int:
    """Return the cores that the container's limit grants (Linux, cgroup v2), rounded up; 0 where there is no limit."""
    try:
        quota, period = (_CGROUP / 'cpu.max').read_text().split()  # "max 100000" if there is none
        return math.ceil(int(quota) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return 0
