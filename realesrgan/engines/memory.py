"""The memory that a picture needs on its way through a network, and the memory that there is."""
from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..archs.architecture import NetworkTraits
from .devices import Device, measure_vulkan_memory
from .engine import BACKENDS, ENGINES, VULKAN

logger = logging.getLogger(__name__)

#: What a result in floating point takes on its way to one of integers.
FLOAT_RESULT_BYTES = 48  # per pixel of output: RGB in float32, four times over
_SHARE_OF_FREE = 0.8
_SHARE_OF_CARD = 0.9  # the rest is for CUDA itself, several hundred MiB a process
_MOST_ON_VULKAN = 3 << 30  # the largest buffer takes up to 30 % of it, and some drivers bind no more than 1 GiB
_CGROUP = Path('/sys/fs/cgroup')
_MEMINFO = Path('/proc/meminfo')  # of Linux
_SECONDS_BETWEEN_LOGS = 5.0


def estimate_bytes_per_pixel(traits: NetworkTraits, engine: str, *, half: bool) -> int | None:
    """Estimate the memory for one pixel of input while a network runs, its result in floating point included.

    Args:
        traits: The network's.
        engine: The engine's name.
        half: Whether it computes in half precision.

    Returns:
        Bytes; None where they must be measured.
    """
    values = traits.values_per_pixel
    if values is None:
        return None
    measured = {row.name: row.memory[half] for row in ENGINES if half in row.memory}
    figures = [measured[engine]] if engine in measured else measured.values()
    return max(int(for_value * values + (for_pixel + FLOAT_RESULT_BYTES) * traits.scale ** 2)
               for for_value, for_pixel in figures)


def estimate_result_memory(values: int, scale: int, more: float, *, alpha: bool) -> int:
    """Return the bytes of the host's memory that the results of a picture take.

    These are the network's own, the one of the final size, and the input of that size, which may be mixed with it.

    Args:
        values: Size of the picture in bytes, in the result's dtype.
        scale: The network's.
        more: Pixels of those that are not the network's own, as a multiple of the picture's.
        alpha: Whether it has alpha, which is upscaled into an array of its own.
    """
    return int(values * (scale ** 2 * (1 + alpha) + more))


def measure_usable_memory(device: Device, for_results: int = 0) -> int:
    """Return how many bytes a network may take on a device: four fifths of the free memory, for Vulkan half of it.

    Args:
        device: Where it runs.
        for_results: Bytes of the host's memory that are allocated for results but not yet written to.
    """
    free = measure_free_memory(device) - (for_results if device.type == 'cpu' else 0)
    if device.type == VULKAN:  # where the weights, and blocks that ncnn keeps, count as free
        return min(free // 2, _MOST_ON_VULKAN)
    return max(int(free * _SHARE_OF_FREE), 0)


def take_share(device: Device, workers: int) -> int:
    """Return how many bytes a network may take on a device that several workers share, each in a process of its own.

    A CUDA card is shared as if nobody had taken anything yet, so that the shares of workers that start later are no
    smaller; and PyTorch keeps to the share, so that no worker takes what it does not need from the others.
    """
    usable = measure_usable_memory(device)
    if device.type != 'cuda':
        return usable // workers
    import torch
    card = torch.device(str(device))
    torch.cuda.set_per_process_memory_fraction(_SHARE_OF_CARD / workers, card)
    return min(usable, int(torch.cuda.mem_get_info(card)[1] * _SHARE_OF_FREE) // workers)


def require_memory(for_results: int, width: int, height: int) -> None:
    """Check, before the network runs for hours, that a result of this size has room in the host's memory.

    Allocating them would not find out: systems hand out memory that they don't have.

    Args:
        for_results: Bytes that the result takes, with those before it is scaled to its size.
        width, height: Its size.

    Raises:
        MemoryError: that is more than the free memory and swap space.
    """
    free = min(sum(measure_system_memory()), measure_container_memory())
    if for_results > free:
        raise MemoryError(f'a result of {width}x{height} takes {for_results / 2 ** 30:.1f} GiB of memory, '
                          f'{free / 2 ** 30:.1f} are free. Close other programs, choose a smaller size (-s, --width, '
                          '--height, --fit), or split the picture')


def measure_free_memory(device: Device) -> int:
    """Return how many bytes are free on a device."""
    if device.type in BACKENDS:
        import torch
        if device.type == 'mps':
            return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        free: int = getattr(torch, device.type).mem_get_info(torch.device(str(device)))[0]
        return free
    if device.type == VULKAN:
        return measure_vulkan_memory(device)
    return min(measure_system_memory()[0], measure_container_memory())


def measure_system_memory() -> tuple[int, int]:
    """Return how many bytes of memory and of swap space are free in the system."""
    try:
        lines = dict(line.split(':') for line in _MEMINFO.read_text().splitlines())
        memory, swap = (int(lines[name].removesuffix('kB')) << 10 for name in ('MemAvailable', 'SwapFree'))
    except (OSError, ValueError, KeyError):
        import psutil  # only here, because importing it takes a twentieth of a start
        return psutil.virtual_memory().available, psutil.swap_memory().free
    return memory, swap


def measure_peaks(device_type: str) -> tuple[int, int]:
    """Return the most bytes that this process has taken since it started, of the host and by PyTorch on a GPU.

    Args:
        device_type: The GPU's kind, as PyTorch names it, or another device's.

    Returns:
        Both; 0 where unknown.
    """
    gpu = 0
    if device_type in BACKENDS:
        import torch
        measure = getattr(getattr(torch, device_type), 'max_memory_allocated', None)
        gpu = measure() if measure else 0
    if sys.platform == 'win32':
        import psutil
        return int(psutil.Process().memory_info().peak_wset), gpu
    import resource
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, gpu


class MemoryUse(NamedTuple):
    """Memory in use at a moment, in bytes.

    Attributes:
        host: That of this process.
        allocated, reserved: What PyTorch and the Vulkan engine of this process use on GPUs, and what they hold.
        system: How much of the system's memory all programs use, 0..1.
    """

    host: int
    allocated: int
    reserved: int
    system: float

    def __str__(self) -> str:
        text = f'memory: {_write_gib(self.host)} in this process, {self.system:.0%} of the system\'s in use'
        return text + (f'; of GPUs {_write_gib(self.allocated)} allocated, {_write_gib(self.reserved)} reserved'
                       if self.reserved else '')


def _write_gib(count: int) -> str:
    return f'{count / 2 ** 30:.2f} GiB'


def measure_memory_use() -> MemoryUse:
    """Return the memory in use now; packages that are not imported are not asked."""
    import psutil
    allocated = reserved = 0
    torch: Any = sys.modules.get('torch')
    vulkan = sys.modules.get(f'{__package__}.vulkan')
    for kind in BACKENDS if torch is not None else ():
        module = getattr(torch, kind, None)
        if kind == 'mps' and torch.backends.mps.is_available():
            allocated += torch.mps.current_allocated_memory()
            reserved += torch.mps.driver_allocated_memory()
        elif kind != 'mps' and module is not None and module.is_initialized():
            for number in range(module.device_count()):
                allocated += module.memory_allocated(number)
                reserved += module.memory_reserved(number)
    if vulkan is not None:
        used, held = vulkan.measure_held_memory()
        allocated, reserved = allocated + used, reserved + held
    return MemoryUse(psutil.Process().memory_info().rss, allocated, reserved, psutil.virtual_memory().percent / 100)


class MemoryLog:
    """Logs, as a detail, the memory in use every few seconds.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock() + _SECONDS_BETWEEN_LOGS

    def update(self, *, at_once: bool = False) -> None:
        """Log it if it is time for that, or `at_once`."""
        if logger.isEnabledFor(logging.DEBUG) and (at_once or self._clock() >= self._next):
            self._next = self._clock() + _SECONDS_BETWEEN_LOGS
            logger.debug('%s', measure_memory_use())


def measure_container_memory(cgroup: Path = _CGROUP) -> int:
    """Return the bytes that this process's container may still take; `sys.maxsize` if it has no limit.

    Args:
        cgroup: The folder of the container's control group (Linux, cgroup v2).
    """
    try:
        limit = int((cgroup / 'memory.max').read_text())  # "max" if there is none
        statistics = dict(line.split() for line in (cgroup / 'memory.stat').read_text().splitlines())
        # Cached files count as used, but the kernel drops them when memory gets short.
        return limit - int((cgroup / 'memory.current').read_text()) + int(statistics['inactive_file'])
    except (OSError, ValueError, KeyError):
        return sys.maxsize
