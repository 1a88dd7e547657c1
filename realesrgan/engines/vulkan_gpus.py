"""The devices that have a Vulkan driver, as the library ncnn finds them."""
from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import flatten_message
from .devices import Device
from .table import VULKAN
from .torch_gpus import NVIDIA_FILES, find_any

if TYPE_CHECKING:
    import ncnn

logger = logging.getLogger(__name__)

_starting = threading.Lock()
_SOFTWARE = 3


def may_have_gpus() -> bool:
    """Return whether this machine may have a GPU with a Vulkan driver; says yes where in doubt.

    Finding out loads drivers, which takes a fifth of a second. This looks only for the device files of Linux.
    """
    # NVIDIA's drivers may come without /dev/dri.
    return sys.platform != 'linux' or any(Path('/dev/dri').glob('renderD*')) or find_any(NVIDIA_FILES)


def list_gpus() -> list[Device]:
    """Return all devices with a Vulkan driver, software devices too, the best kind first; the numbers are ncnn's."""
    return sorted((Device(VULKAN, index) for index in range(_count())), key=get_kind)


def list_real_gpus() -> list[Device]:
    """Return those that are no software devices."""
    return [gpu for gpu in list_gpus() if not is_software(gpu)] if may_have_gpus() else []


def get_name(gpu: Device) -> str:
    """Return the name of one of `list_gpus`."""
    import ncnn
    return str(ncnn.get_gpu_info(gpu.index or 0).device_name())


def is_software(gpu: Device) -> bool:
    """Return whether one of `list_gpus` is a program that computes on the CPU."""
    return get_kind(gpu) == _SOFTWARE


def get_kind(gpu: Device) -> int:
    """Return 0 for a card of its own, 1 for a GPU in the processor, 2 for one of a virtual machine, 3 for software."""
    import ncnn
    return int(ncnn.get_gpu_info(gpu.index or 0).type())


def measure_memory(gpu: Device) -> int:
    """Return how many bytes of a device's memory this process may take in all, what it has taken included."""
    return int(open_gpu(gpu).get_heap_budget()) << 20


def open_gpu(gpu: Device) -> ncnn.VulkanDevice:
    """Return ncnn's object for one of `list_gpus`."""
    _count()  # which is silent, where the next line would not be
    import ncnn
    return ncnn.get_gpu_device(gpu.index or 0)


def explain_absence() -> str | None:
    """Return why there is no Vulkan device; None if there is one."""
    if importlib.util.find_spec('ncnn') is None:
        return 'ncnn is not installed: pip install ncnn'
    if not _count():
        if failure := _start()[1]:
            return f'ncnn can\'t be loaded: {failure}'
        return 'no GPU with a Vulkan driver was found (Debian: apt-get install mesa-vulkan-drivers)'
    return None


def _count() -> int:
    if importlib.util.find_spec('ncnn') is None:
        return 0
    with _starting:
        return _start()[0]


@functools.cache
def _start() -> tuple[int, str]:
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
