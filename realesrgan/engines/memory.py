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


def usable_bytes(device: torch.device) -> int:
    """Return how much memory a network may take on a device: four fifths of what is free."""
    return int(_free_bytes(device) * _SHARE_OF_FREE)


def _free_bytes(device: torch.device) -> int:
    if device.type == 'cuda':
        return torch.cuda.mem_get_info(device)[0]
    if device.type == 'xpu':
        return torch.xpu.mem_get_info(device)[0]
    if device.type == 'mps':
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return min(psutil.virtual_memory().available, _left_in_container())


def _left_in_container() -> int:
    """Return what the container's limit leaves; very much without one (Linux, cgroup v2)."""
    try:
        limit = int((_CGROUP / 'memory.max').read_text())  # "max" without one
        return limit - int((_CGROUP / 'memory.current').read_text())
    except (OSError, ValueError):
        return sys.maxsize
