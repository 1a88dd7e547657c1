"""What every engine offers: a network, ready to run on one device at one precision."""
from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..errors import EngineError, RealESRGANError

if TYPE_CHECKING:
    import numpy as np

    from ..archs.loaded import LoadedNetwork
    from .devices import Device


class Engine(Protocol):
    """A network, ready to run on one device at one precision.

    Attributes:
        scale: Output pixels per input pixel, along a side.
        name: The engine's name in `table.ENGINES`.
        half: Whether it computes in half precision.
        description: Engine, device and precision, with commas between them, and perhaps more; for a log line.
    """

    scale: int
    name: str
    half: bool
    description: str

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Upscale a batch.

        Args:
            batch: N x H x W x 3, BGR; uint8, or float32 in 0..1. H and W are multiples of the network's `multiple`.

        Returns:
            N x sH x sW x 3, BGR, clamped to the range, in the batch's dtype; uint8 is rounded half to even. The array
            is the caller's own: no later call writes to it.

        Raises:
            NonFiniteError: the network's result holds NaN or infinity.
            MemoryError: the device has not enough memory for the batch. A smaller batch may follow.
        """
        ...

    def release(self) -> None:
        """Give back the memory that is kept for the next batch; the engine can still run."""
        ...


class EngineModule(Protocol):
    """What the module of an engine offers.

    Importing it must work where the engine's library is not installed, and must import no large library that another
    engine could do without.
    """

    def explain_refusal(self, network: LoadedNetwork) -> RealESRGANError | None:
        """Return why the engine can't run a network on this machine; None if it can.

        Its device is one of the row's already.
        """
        ...

    def make(self, network: LoadedNetwork, device: Device, precision: str, threads: int | None) -> Engine:
        """Return an engine for a network that was not refused.

        Args:
            network: The network; the engine may move its module, and must not write to its arrays.
            device: Where it runs.
            precision: One of the row's.
            threads: The number of threads that a CPU computes with, None for the engine's own choice.
        """
        ...


def explain_missing_layers(network: LoadedNetwork, engine: str) -> EngineError | None:
    """Return why an engine that builds networks from their layers can't run one; None if it has layers.

    Args:
        network: The network.
        engine: The engine's name.
    """
    if network.layers() is not None:
        return None
    reason = network.unknown if network.config is None else f'{network.config.architecture} has no layers'
    return EngineError(f'the engine {engine} does not know this network: {reason}')
