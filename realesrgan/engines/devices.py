"""Which device a network runs on, and in which precision."""
from __future__ import annotations

import ctypes
import importlib.util
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DeviceError
from .cpu import has_cpu_bfloat16

if TYPE_CHECKING:
    import torch

#: Kinds of GPUs, in order of preference.
BACKENDS = ('cuda', 'xpu', 'mps')

# Files that Linux has where there is a driver of NVIDIA's, or of AMD's; the last is that of Windows's Linux, for both.
_NVIDIA_FILES = ('/dev/nvidiactl', '/dev/nvidia0', '/dev/nvhost-ctrl', '/dev/dxg')
_AMD_FILES = ('/dev/kfd', '/dev/dxg')


@dataclass(frozen=True)
class Device:
    """Where a network runs. Prints as PyTorch's device of the same name, but needs no PyTorch.

    Attributes:
        type: 'cpu', 'cuda' ...
        index: Number of the device among those of its type; None for the current one.
    """

    type: str
    index: int | None = None

    @classmethod
    def parse(cls, device: str | torch.device | Device) -> Device:
        """Return a device given in any form; all names but 'cpu' are read by PyTorch.

        Raises:
            RuntimeError: PyTorch knows no device of that name.
        """
        if isinstance(device, Device):
            return device
        if device == 'cpu':
            return cls('cpu')
        import torch
        read = torch.device(device)
        return cls(read.type, read.index)

    def __str__(self) -> str:
        return self.type if self.index is None else f'{self.type}:{self.index}'


def count_devices(backend: str) -> int:
    """Return how many GPUs of a kind PyTorch can use on this machine."""
    import torch
    if backend == 'mps':
        return int(torch.backends.mps.is_available())
    module = getattr(torch, backend)
    return module.device_count() if module.is_available() else 0


def may_have_gpu() -> bool:
    """Return whether PyTorch, as it is installed, could use a GPU of this machine.

    Importing PyTorch takes seconds. This looks only at how it was built and for a driver, and says yes where in doubt.
    """
    if sys.modules.get('torch') or sys.platform == 'darwin':  # every Mac with an Apple processor has a GPU
        return True
    found = importlib.util.find_spec('torch')
    if found is None:
        return False
    try:
        built = runpy.run_path(str(Path(found.origin or '').with_name('version.py')))
    except Exception:  # another layout than that of the versions known
        return True
    return bool((built.get('cuda', True) and (_find_any(_NVIDIA_FILES) or _loads_nvidia_driver()))
                or (built.get('hip', True) and (_find_any(_AMD_FILES) or sys.platform != 'linux'))
                or built.get('xpu', True))


def _find_any(files: tuple[str, ...]) -> bool:
    return any(Path(file).exists() for file in files)


def _loads_nvidia_driver() -> bool:
    try:
        ctypes.CDLL('nvcuda.dll' if sys.platform == 'win32' else 'libcuda.so.1')
    except OSError:
        return False
    return True


def list_gpus() -> list[Device]:
    """Return the GPUs of this machine; those of the preferred backend come first."""
    if not may_have_gpu():
        return []
    return [Device(backend, index) for backend in BACKENDS for index in range(count_devices(backend))]


def pick_device(device: str | torch.device | Device | None = None, gpu_id: int | None = None) -> Device:
    """Return the device given, else GPU number `gpu_id` of the best backend, else its first GPU, else the CPU.

    Raises:
        DeviceError: the device asked for is not there; the message names those that are.
    """
    if device is not None:
        wanted = Device.parse(device)
        if wanted.type in BACKENDS and Device(wanted.type, wanted.index or 0) not in (gpus := list_gpus()):
            raise DeviceError(f'there is no device {wanted}; {_list_gpus(gpus)}')
        return wanted
    gpus = list_gpus()
    if gpu_id is not None:
        same_backend = [gpu for gpu in gpus if gpu.type == gpus[0].type]
        if not 0 <= gpu_id < len(same_backend):
            raise DeviceError(f'there is no GPU {gpu_id}; {_list_gpus(same_backend)}')
        return same_backend[gpu_id]
    return gpus[0] if gpus else Device('cpu')


def _list_gpus(gpus: list[Device]) -> str:
    if not gpus:
        return 'this machine has no GPU that PyTorch can use (leave the GPU out to run on the CPU)'
    return 'available: ' + ', '.join(f'{gpu.index} ({gpu})' for gpu in gpus)


def pick_precision(device: Device, half: bool) -> str:
    """Return the precision to compute in: 'float32', or with `half` whatever the device computes faster.

    With `half` that is 'float16' on a GPU, 'bfloat16' on a CPU with native instructions for it, and 'float32' on any
    other CPU, where half precision is slower than single.
    """
    if not half:
        return 'float32'
    if device.type == 'cpu':
        return 'bfloat16' if has_cpu_bfloat16() else 'float32'
    return 'float16'
