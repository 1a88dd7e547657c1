"""The GPUs that PyTorch can use."""
from __future__ import annotations

import ctypes
import importlib.util
import runpy
import sys
from pathlib import Path

from .devices import Device
from .table import BACKENDS

#: Files that Linux has where there is a driver of NVIDIA's; the last is that of Windows's Linux.
NVIDIA_FILES = ('/dev/nvidiactl', '/dev/nvidia0', '/dev/nvhost-ctrl', '/dev/dxg')
_AMD_FILES = ('/dev/kfd', '/dev/dxg')


def list_gpus() -> list[Device]:
    """Return the GPUs of this machine that PyTorch can use; those of the preferred backend come first."""
    if not may_have_gpus():
        return []
    return [Device(backend, index) for backend in BACKENDS for index in range(count_gpus(backend))]


def count_gpus(backend: str) -> int:
    """Return how many GPUs of a kind PyTorch can use on this machine."""
    import torch
    if backend == 'mps':
        return int(torch.backends.mps.is_available())
    module = getattr(torch, backend)
    return module.device_count() if module.is_available() else 0


def may_have_gpus() -> bool:
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
    return bool((built.get('cuda', True) and (find_any(NVIDIA_FILES) or _loads_nvidia_driver()))
                or (built.get('hip', True) and (find_any(_AMD_FILES) or sys.platform != 'linux'))
                or built.get('xpu', True))


def find_any(files: tuple[str, ...]) -> bool:
    """Return whether there is one of these files."""
    return any(Path(file).exists() for file in files)


def _loads_nvidia_driver() -> bool:
    try:
        ctypes.CDLL('nvcuda.dll' if sys.platform == 'win32' else 'libcuda.so.1')
    except OSError:
        return False
    return True


def get_name(gpu: Device) -> str:
    """Return the name of one of `list_gpus`."""
    import torch
    return 'Apple GPU' if gpu.type == 'mps' else str(getattr(torch, gpu.type).get_device_name(gpu.index))


def explain_absence(backend: str) -> str:
    """Return why PyTorch has no GPU of a kind here, given that it has none."""
    if importlib.util.find_spec('torch') is None:
        return 'PyTorch is not installed'
    import torch
    built = torch.backends.mps.is_built() if backend == 'mps' else getattr(torch.version, backend, None) or (
        backend == 'cuda' and torch.version.hip)
    return 'no GPU, or no driver for it' if built else f'PyTorch {torch.__version__} is built without it'
