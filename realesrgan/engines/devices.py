"""The devices of this machine: the CPU, the GPUs that PyTorch can use, and those with a Vulkan driver, found by ncnn.

PyTorch and ncnn take long to import. So both are imported only where they may find a GPU.
"""
from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import flatten_message
from .cpu import has_cpu_bfloat16, has_vnni
from .engine import VULKAN

if TYPE_CHECKING:
    import ncnn
    import torch

logger = logging.getLogger(__name__)

# Files that Linux has where there is a driver of NVIDIA's, or AMD's; the last is that of Windows's Linux.
_NVIDIA_FILES = ('/dev/nvidiactl', '/dev/nvidia0', '/dev/nvhost-ctrl', '/dev/dxg')
_AMD_FILES = ('/dev/kfd', '/dev/dxg')
_SOFTWARE = 3
_starting = threading.Lock()


class Device(NamedTuple):
    """Where a network runs. Prints as PyTorch's device of the same name, but needs no PyTorch.

    Attributes:
        type: 'cpu', 'cuda' ...
        index: Number of the device among those of its type; None for the current one.
    """

    type: str
    index: int | None = None  # type: ignore[assignment]  # not the method of tuples

    @classmethod
    def parse(cls, device: str | torch.device | Device) -> Device:
        """Return a device given in any form; all names but 'cpu' and 'vulkan' are read by PyTorch.

        Raises:
            RuntimeError: PyTorch knows no device of that name.
        """
        if isinstance(device, Device):
            return device
        if ours := re.fullmatch(rf'(cpu|{VULKAN})(?::(\d+))?', str(device)):
            return cls(ours[1], int(ours[2]) if ours[2] else None)
        import torch
        read = torch.device(device)
        return cls(read.type, read.index)

    def __str__(self) -> str:
        return self.type if self.index is None else f'{self.type}:{self.index}'


CPU = Device('cpu')


def pick_precision(device: Device, half: bool, precisions: Sequence[str]) -> str:
    """Return the precision to compute in.

    Args:
        device: Where it is computed.
        half: Take what the device computes faster: 'float16' on a GPU; on a CPU 'int16' or 'bfloat16', each only where
            there are native instructions for it.
        precisions: Those of an engine. The first is taken without `half`, and where no other is faster.
    """
    on_cpu = {'int16': has_vnni(), 'bfloat16': has_cpu_bfloat16()}
    native = on_cpu if device.type == 'cpu' else {'float16': True}
    return next((precision for precision in native if half and native[precision] and precision in precisions),
                precisions[0])


# ---- GPUs of either kind ----

def list_gpus_of(*kinds: str) -> list[Device]:
    """Return the GPUs of Vulkan, the best first and software last, or of kinds that PyTorch knows."""
    if VULKAN in kinds:  # whose numbers are ncnn's
        return sorted((Device(VULKAN, index) for index in range(_count_vulkan_devices())), key=get_vulkan_kind)
    if not may_have_torch_gpus():
        return []
    return [Device(kind, index) for kind in kinds for index in range(count_torch_gpus(kind))]


def get_name(gpu: Device) -> str:
    """Return the name of one of `list_gpus_of`."""
    if gpu.type == VULKAN:
        import ncnn
        return str(ncnn.get_gpu_info(gpu.index or 0).device_name())
    import torch
    return 'Apple GPU' if gpu.type == 'mps' else str(getattr(torch, gpu.type).get_device_name(gpu.index))


def explain_absence(kind: str) -> str:
    """Return why there is no device of a kind; '' if there is a Vulkan device."""
    package, name = ('ncnn', 'ncnn') if kind == VULKAN else ('torch', 'PyTorch')
    if importlib.util.find_spec(package) is None:
        return f'{name} is not installed: pip install {package}'
    if kind == VULKAN:
        if _count_vulkan_devices():
            return ''
        if failure := _start_ncnn()[1]:
            return f'ncnn can\'t be loaded: {failure}'
        return 'no GPU with a Vulkan driver was found (Debian: apt-get install mesa-vulkan-drivers)'
    import torch
    built = torch.backends.mps.is_built() if kind == 'mps' else getattr(torch.version, kind, None) or (
        kind == 'cuda' and torch.version.hip)
    return 'no GPU, or no driver for it' if built else f'PyTorch {torch.__version__} is built without it'


# ---- PyTorch's ----

def may_have_torch_gpus() -> bool:
    """Return whether PyTorch, as it is installed, could use a GPU of this machine.

    This looks only at how PyTorch was built and for a driver, and says yes where in doubt.
    """
    if sys.modules.get('torch') or sys.platform == 'darwin':  # every Mac with an Apple processor has a GPU
        return True
    found = importlib.util.find_spec('torch')
    if found is None:
        return False
    built: dict[str, Any] = {}
    try:
        exec(Path(found.origin or '').with_name('version.py').read_text(), built)  # noqa: S102  # as to import it
    except Exception:  # another layout than that of the versions known
        return True
    return bool((built.get('cuda', True) and (_find_any(_NVIDIA_FILES) or _loads_nvidia_driver()))
                or (built.get('hip', True) and (_find_any(_AMD_FILES) or sys.platform != 'linux'))
                or built.get('xpu', True))


def lacks_torch() -> bool:
    """Return whether PyTorch is not installed, and this machine has a driver of GPUs that it computes on."""
    return importlib.util.find_spec('torch') is None and (
        sys.platform == 'darwin' or _find_any((*_NVIDIA_FILES, *_AMD_FILES)) or _loads_nvidia_driver())


def count_torch_gpus(backend: str) -> int:
    """Return how many GPUs of a kind PyTorch can use on this machine."""
    import torch
    if backend == 'mps':
        return int(torch.backends.mps.is_available())
    module = getattr(torch, backend)
    return module.device_count() if module.is_available() else 0


def _find_any(files: tuple[str, ...]) -> bool:
    return any(Path(file).exists() for file in files)


def _loads_nvidia_driver() -> bool:
    try:
        ctypes.CDLL('nvcuda.dll' if sys.platform == 'win32' else 'libcuda.so.1')
    except OSError:
        return False
    return True


# ---- those with a Vulkan driver ----

def may_have_vulkan_gpus() -> bool:
    """Return whether this machine may have a GPU with a Vulkan driver; says yes where in doubt.

    Finding out loads drivers, which takes a fifth of a second. This looks only for the device files of Linux.
    """
    # NVIDIA's drivers may come without /dev/dri.
    return sys.platform != 'linux' or any(Path('/dev/dri').glob('renderD*')) or _find_any(_NVIDIA_FILES)


def get_vulkan_kind(gpu: Device) -> int:
    """Return 0 for a card of its own, 1 for a GPU in the processor, 2 for one of a virtual machine, 3 for software."""
    import ncnn
    return int(ncnn.get_gpu_info(gpu.index or 0).type())


def is_software(gpu: Device) -> bool:
    """Return whether a GPU is a program that computes on the CPU."""
    return gpu.type == VULKAN and get_vulkan_kind(gpu) == _SOFTWARE


def open_vulkan_gpu(gpu: Device) -> ncnn.VulkanDevice:
    """Return ncnn's object for a device."""
    _count_vulkan_devices()  # which is silent, where the next line would not be
    import ncnn
    return ncnn.get_gpu_device(gpu.index or 0)


def measure_vulkan_memory(gpu: Device) -> int:
    """Return how many bytes of a device's memory this process may take in all, what it has taken included."""
    return int(open_vulkan_gpu(gpu).get_heap_budget()) << 20


def _count_vulkan_devices() -> int:
    if importlib.util.find_spec('ncnn') is None:
        return 0
    with _starting:
        return _start_ncnn()[0]


@functools.cache
def _start_ncnn() -> tuple[int, str]:
    """Load ncnn and the drivers, once in a process; return how many devices they have, and why ncnn can't be loaded."""
    try:
        import ncnn
    except (ImportError, OSError) as error:
        return 0, flatten_message(error)
    with _log_stderr():  # on which it describes each device
        return int(ncnn.get_gpu_count()), ''


@contextmanager
def _log_stderr() -> Iterator[None]:
    """Send to the log, as details, what a library writes to this process's stderr."""
    import tempfile
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115
        stderr = os.dup(2)
    except OSError:  # no folder can be written to, or stderr is closed
        yield
        return
    with file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            for line in file.read().decode(errors='replace').splitlines():
                logger.debug('ncnn: %s', line)
