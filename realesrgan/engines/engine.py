"""What every engine offers: a network, ready to run on one device at one precision."""
from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


#: What `--engine` and `RealESRGANer(engine=...)` take.
ENGINES = ('auto', 'torch', 'openvino')


class Engine(Protocol):
    """A network ready to run on one device at one precision."""

    #: Pixels out for one pixel in, along a side.
    scale: int
    #: 'torch' or 'openvino'.
    kind: str
    #: Whether it computes in half precision.
    half: bool
    #: What it is, for a log line: engine, device and precision.
    description: str

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Upscale a batch.

        Args:
            batch: N x H x W x 3, BGR; uint8, or float32 in 0..1. H and W are multiples of what the network folds.

        Returns:
            N x sH x sW x 3, BGR, clamped to the range, in the batch's dtype; uint8 is rounded half to even.

        Raises:
            NonFiniteError: the network's result holds NaN or infinity.
            MemoryError: the device has not enough memory for the batch.
        """
        ...

    def release(self) -> None:
        """Give back the memory that is kept for the next batch."""
        ...
