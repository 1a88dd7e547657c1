"""Which device and which precision a network runs on."""
from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from ..errors import DeviceError

#: GPU backends in order of preference, with a count of their devices.
_BACKENDS: dict[str, Callable[[], int]] = {
    'cuda': lambda: torch.cuda.device_count() if torch.cuda.is_available() else 0,
    'xpu': lambda: torch.xpu.device_count() if torch.xpu.is_available() else 0,
    'mps': lambda: int(torch.backends.mps.is_available()),
}


def available_gpus() -> list[torch.device]:
    """Return the GPUs of this machine, those of the preferred backend (CUDA, XPU, MPS) first."""
    return [torch.device(kind, index) for kind, count in _BACKENDS.items() for index in range(count())]


def pick_device(device: str | torch.device | None = None, gpu_id: int | None = None) -> torch.device:
    """Choose a device: the one given, else GPU number `gpu_id` of the best backend, else its first GPU, else the CPU.

    Raises:
        DeviceError: the device asked for is not there; the message names those that are.
    """
    gpus = available_gpus()
    if device is not None:
        wanted = torch.device(device)
        indexed = torch.device(wanted.type, wanted.index or 0)
        if wanted.type in _BACKENDS and indexed not in gpus:
            raise DeviceError(f'there is no device {wanted}; {_those_here(gpus)}')
        return wanted
    if gpu_id is not None:
        same_backend = [gpu for gpu in gpus if gpu.type == gpus[0].type]
        if not 0 <= gpu_id < len(same_backend):
            raise DeviceError(f'there is no GPU {gpu_id}; {_those_here(same_backend)}')
        return same_backend[gpu_id]
    return gpus[0] if gpus else torch.device('cpu')


def _those_here(gpus: list[torch.device]) -> str:
    if not gpus:
        return 'this machine has no GPU that PyTorch can use (leave the GPU out to run on the CPU)'
    return 'available: ' + ', '.join(f'{gpu.index} ({gpu})' for gpu in gpus)


def pick_dtype(device: torch.device, half: bool) -> torch.dtype:
    """Choose the precision of a network: float32, or with `half` what the device computes faster.

    That is float16 on a GPU, bfloat16 on a CPU with native instructions for it, and float32 on any other CPU, where
    half precision is slower than single.
    """
    if not half:
        return torch.float32
    if device.type == 'cpu':
        return torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    return torch.float16


def cpu_has_bfloat16() -> bool:
    """Tell whether this CPU multiplies bfloat16 natively (AMX, AVX512-BF16, or the ARM extension)."""
    # Newer than the oldest PyTorch that we run on.
    capabilities: Mapping[str, object] = getattr(torch.cpu, 'get_capabilities', dict)()
    return any(capabilities.get(name) for name in ('amx_bf16', 'avx512_bf16', 'bf16'))
