"""Which device a network runs on, and in which precision."""
from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from ..errors import DeviceError

#: Kinds of GPUs, in order of preference.
BACKENDS = ('cuda', 'xpu', 'mps')

_INSTRUCTION_SETS_WITHOUT_BFLOAT16 = ('SSE41', 'AVX', 'AVX2', 'AVX2_VNNI', 'AVX2_VNNI_2', 'AVX512_CORE',
                                      'AVX512_CORE_VNNI')


def count_devices(backend: str) -> int:
    """Return how many GPUs of a kind PyTorch can use on this machine."""
    if backend == 'mps':
        return int(torch.backends.mps.is_available())
    module = getattr(torch, backend)
    return module.device_count() if module.is_available() else 0


def list_gpus() -> list[torch.device]:
    """Return the GPUs of this machine; those of the preferred backend come first."""
    return [torch.device(backend, index) for backend in BACKENDS for index in range(count_devices(backend))]


def pick_device(device: str | torch.device | None = None, gpu_id: int | None = None) -> torch.device:
    """Return the device given, else GPU number `gpu_id` of the best backend, else its first GPU, else the CPU.

    Raises:
        DeviceError: the device asked for is not there; the message names those that are.
    """
    gpus = list_gpus()
    if device is not None:
        wanted = torch.device(device)
        indexed = torch.device(wanted.type, wanted.index or 0)
        if wanted.type in BACKENDS and indexed not in gpus:
            raise DeviceError(f'there is no device {wanted}; {_list_gpus(gpus)}')
        return wanted
    if gpu_id is not None:
        same_backend = [gpu for gpu in gpus if gpu.type == gpus[0].type]
        if not 0 <= gpu_id < len(same_backend):
            raise DeviceError(f'there is no GPU {gpu_id}; {_list_gpus(same_backend)}')
        return same_backend[gpu_id]
    return gpus[0] if gpus else torch.device('cpu')


def _list_gpus(gpus: list[torch.device]) -> str:
    if not gpus:
        return 'this machine has no GPU that PyTorch can use (leave the GPU out to run on the CPU)'
    return 'available: ' + ', '.join(f'{gpu.index} ({gpu})' for gpu in gpus)


def pick_precision(device: torch.device, half: bool) -> str:
    """Return the precision to compute in: 'float32', or with `half` whatever the device computes faster.

    With `half` that is 'float16' on a GPU, 'bfloat16' on a CPU with native instructions for it, and 'float32' on any
    other CPU, where half precision is slower than single.
    """
    if not half:
        return 'float32'
    if device.type == 'cpu':
        return 'bfloat16' if has_cpu_bfloat16() else 'float32'
    return 'float16'


def has_cpu_bfloat16() -> bool:
    """Return whether this CPU multiplies bfloat16 natively (AMX, AVX512-BF16, or the Arm extension), and may do so."""
    # Both CPU engines compute with oneDNN, which can be held to fewer instructions than the processor has:
    # https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html. OpenVINO's bfloat16 then crashes.
    if os.environ.get('ONEDNN_MAX_CPU_ISA', '').upper() in _INSTRUCTION_SETS_WITHOUT_BFLOAT16:
        return False
    # torch.cpu.get_capabilities is newer than the oldest PyTorch that we support.
    capabilities: Mapping[str, object] = getattr(torch.cpu, 'get_capabilities', dict)()
    return any(capabilities.get(name) for name in ('amx_bf16', 'avx512_bf16', 'bf16'))
