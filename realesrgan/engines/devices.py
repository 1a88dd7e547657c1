"""What a network runs on, and in which precision."""
from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cpu import has_cpu_bfloat16
from .table import VULKAN

if TYPE_CHECKING:
    import torch


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
