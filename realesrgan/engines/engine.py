"""The engines: the interface that they share, and the table of what `--engine` and `RealESRGANer(engine=...)` accept.

To add one, write a module of its name with a subclass of `Engine`, and add a row to `ENGINES`.
`tests/engines/test_conformance.py` then runs it too.
"""
from __future__ import annotations

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ..archs.loaded import LoadedNetwork
    from ..errors import RealESRGANError
    from .devices import Device

#: Takes the fastest engine that fits the device and the network.
AUTO = 'auto'
#: Kinds of GPUs that PyTorch knows, in order of preference.
BACKENDS = ('cuda', 'xpu', 'mps')
#: Any GPU, through its Vulkan driver.
VULKAN = 'vulkan'


class Engine(ABC):
    """A network, ready to run on one device at one precision.

    Args:
        network: A network that `explain_refusal` accepts, with layers if the engine's row asks for them. The engine may
            move its module, and must not write to its arrays.
        device: Where it runs.
        precision: One of the row's.
        threads: The number of threads that a CPU computes with, None for the engine's own choice.

    Attributes:
        name: The engine's name in `ENGINES`.
        scale: Output pixels per input pixel, along a side.
        half: Whether it computes in half precision, or in int16, which stands for it.
        description: Engine, device and precision, with commas between them, and perhaps more; for a log line.
        on_progress: Called now and then with the share of a picture that is done, by engines that know it; None at
            first. What it raises ends the call.
        in_flight: How many batches may be submitted beyond the one whose result is waited for, so that the device is
            never idle; 0: nothing is gained by that.
        together: The most batches of one shape that it computes at once, each of which then counts `in_flight`.
        most_pixels: The most pixels of a picture that it takes, H times W; None: as many as memory allows.
    """

    name: ClassVar[str]
    on_progress: Callable[[float], None] | None = None
    in_flight = 0
    together = 1
    most_pixels: int | None = None

    def __init__(self, network: LoadedNetwork, device: Device, precision: str,
                 threads: int | None = None) -> None:
        self.scale = network.scale
        self.half = precision != 'float32'
        self.description = f'{self.name}, {device}, {precision}'

    @classmethod
    def explain_refusal(cls, network: LoadedNetwork) -> RealESRGANError | None:  # noqa: ARG003
        """Return why the engine can't run a network on this machine; None if it can.

        What the row says of devices, packages and layers has been checked before.
        """
        return None

    @abstractmethod
    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Upscale a batch.

        Args:
            batch: N x H x W x 3, BGR; uint8, uint16, or float32 in 0..1. H and W are multiples of the network's
                `multiple`.

        Returns:
            N x sH x sW x 3, BGR, clamped to the range, in the batch's dtype; integers are rounded half to even. The
            array is the caller's own: no later call writes to it.

        Raises:
            NonFiniteError: the network's result holds NaN or infinity.
            MemoryError: the device has not enough memory for the batch. A smaller batch may follow.
            BrokenDeviceError: the device failed, and may not compute again in this process.
        """

    def submit(self, batch: np.ndarray, size: tuple[int, int] | None = None,
               together: int = 1) -> Callable[[], np.ndarray]:
        """Begin a batch; return what waits for its result, and raises what a call would raise.

        Results are waited for in the order of their batches, once or more often.

        Args:
            batch: As for a call.
            size: Final width and height. Results have these, by Lanczos's filter, where the engine resizes integers;
                else they have the network's.
            together: How many batches of one shape may be computed at once; at most the engine's `together`. The first
                of them wait for the others, or until a result is waited for.
        """
        return functools.partial(self, batch)

    def count_bytes(self, height: int, width: int) -> int | None:
        """Return the bytes that it takes for a picture of so many pixels, without the result.

        None where a figure a pixel is all that is known: that of the engine's row.
        """
        return None

    @abstractmethod
    def release(self) -> None:
        """Give back the memory that is kept for the next batch; the engine can still run."""


def upscale_in_float(engine: Engine, batch: np.ndarray) -> np.ndarray:
    """Upscale a batch of uint16 by an engine that computes uint8 and float32 itself."""
    import numpy as np
    top = np.float32(65535)
    return np.rint(engine(batch / top) * top).astype(np.uint16)


class EngineRow(NamedTuple):
    """An engine.

    Attributes:
        name: What `--engine` accepts, and the name of its module, beside this one.
        kind: The name of its class there. The module is imported only where `package` is installed.
        devices: The kinds of devices that it runs on ('cpu', 'cuda' ...).
        precisions: What it computes in; the first is its single precision.
        package: The Python package that it needs; '' for none.
        needs_layers: Whether it builds networks from their layers, and runs no others.
        memory: Bytes that it takes for each value that a network keeps (`NetworkTraits.values_per_pixel`), and for each
            pixel of the result, by whether it computes in half precision. What is not said counts as the hungriest,
            unless the engine counts it (`Engine.count_bytes`).
    """

    name: str
    kind: str
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    package: str = ''
    needs_layers: bool = True
    memory: Mapping[bool, tuple[float, float]] = {}  # nobody writes to it

    def load(self) -> type[Engine]:
        """Import the engine's class.

        Raises:
            ImportError, OSError: its package is not installed, or can't be loaded.
        """
        return getattr(importlib.import_module(f'.{self.name}', __package__), self.kind)


# 'auto' tries them in this order. On processors with AMX too, where OpenVINO's bfloat16 is faster on some, but at 52
# instead of 76 dB. Memory was measured on a CPU by `benchmarks/memory.py` and rounded up by a sixth. The figures of
# torch stand for GPUs too, where nothing was measured.
ENGINES: tuple[EngineRow, ...] = (
    EngineRow('winograd', 'WinogradEngine', ('cpu',), ('float32', 'int16')),
    EngineRow('openvino', 'OpenVINOEngine', ('cpu',), ('float32', 'bfloat16'), 'openvino',
              memory={False: (5.22, 1), True: (2.7, 20)}),
    EngineRow('vulkan', 'VulkanEngine', (VULKAN,), ('float32', 'float16'), 'ncnn',
              memory={False: (11.24, 3), True: (5.66, 2)}),
    EngineRow('torch', 'TorchEngine', ('cpu', *BACKENDS), ('float32', 'bfloat16', 'float16'), 'torch',
              needs_layers=False, memory={False: (4.53, 0), True: (2.15, 1)}),
)


def list_engine_choices() -> tuple[str, ...]:
    """Return the names that are accepted: 'auto' and those of the table."""
    return (AUTO, *(row.name for row in ENGINES))
