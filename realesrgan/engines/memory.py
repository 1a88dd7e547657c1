"""How much memory a network needs, and how much there is."""
from __future__ import annotations

import sys
from pathlib import Path

import psutil
import torch

from ..models import NetworkShape, RRDBNetShape

# Measured by benchmarks/memory.py on a CPU with 8-bit pictures, rounded up by a sixth; for networks of 64 features.
# The torch figures stand for GPUs too, where nothing was measured.
_BYTES_PER_PIXEL = {
    ('RRDBNetShape', 'openvino', True): 7700,
    ('RRDBNetShape', 'openvino', False): 14300,
    ('RRDBNetShape', 'torch', True): 5900,
    ('RRDBNetShape', 'torch', False): 12400,
    ('SRVGGNetCompactShape', 'openvino', True): 790,
    ('SRVGGNetCompactShape', 'openvino', False): 940,
    ('SRVGGNetCompactShape', 'torch', True): 400,
    ('SRVGGNetCompactShape', 'torch', False): 620,
}
_FLOAT_RESULT_BYTES = 48  # of a pixel of output: RGB in float32, four times over
_SHARE_OF_FREE = 0.8
_CGROUP = Path('/sys/fs/cgroup')


def bytes_per_pixel(shape: NetworkShape, engine: str, *, half: bool) -> int:
    """Estimate what one pixel of input needs while a network runs, the result's pixels in floating point included.

    Args:
        shape: The network's.
        engine: 'torch' or 'openvino'.
        half: Whether it runs in half precision.
    """
    figure = _BYTES_PER_PIXEL[type(shape).__name__, engine, half] * shape.num_feat / 64
    folded = shape.multiple ** 2 if isinstance(shape, RRDBNetShape) else 1
    return int(figure / folded) + _FLOAT_RESULT_BYTES * shape.scale ** 2


def result_bytes(values: int, scale: int, outscale: float | None, *, alpha: bool) -> int:
    """Return what the results of a picture take of the host's memory: the network's, and what is made of it.

    Args:
        values: Bytes of the picture in the result's dtype.
        scale: The network's.
        outscale: Final size as a multiple of the picture's; None is the network's.
        alpha: Whether it has alpha, which is a result of its own at first.
    """
    resized = 0 if outscale in (None, scale) else outscale ** 2
    return int(values * (scale ** 2 * (1 + alpha) + resized))


def usable_bytes(device: torch.device, for_results: int = 0) -> int:
    """Return how much memory a network may take on a device: four fifths of what is free.

    Args:
        device: Where it runs.
        for_results: What results, not yet written to, will take of the host's memory.
    """
    free = _free_bytes(device) - (for_results if device.type == 'cpu' else 0)
    return max(int(free * _SHARE_OF_FREE), 0)


def check_room(for_results: int) -> None:
    """Find out before the network runs that the results have no room; systems hand out memory that they don't have.

    Raises:
        MemoryError: they take more than the host's free memory and swap space.
    """
    free = min(psutil.virtual_memory().available + psutil.swap_memory().free, _left_in_container())
    if for_results > free:
        raise MemoryError(f'the result alone takes {for_results / 2 ** 30:.1f} GiB of memory, {free / 2 ** 30:.1f} '
                          'are free. Close other programs, use a smaller -s, or cut the picture')


def _free_bytes(device: torch.device) -> int:
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    if device.type == 'xpu':
        return torch.xpu.mem_get_info(device)[0]
    if device.type == 'mps':
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min(psutil.virtual_memory().available, _left_in_container())


def _left_in_container() -> int:
    """Return what the container's limit leaves, cached files included; very much without one (Linux, cgroup v2)."""
    try:
        limit = int((_CGROUP / 'memory.max').read_text())  # "max" without one
        statistics = dict(line.split() for line in (_CGROUP / 'memory.stat').read_text().splitlines())
        return limit - int((_CGROUP / 'memory.current').read_text()) + int(statistics['inactive_file'])
    except (OSError, ValueError, KeyError):
        return sys.maxsize
