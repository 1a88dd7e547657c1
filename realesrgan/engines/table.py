"""The engines: what `--engine` and `RealESRGANer(engine=...)` accept.

'auto' tries them in this order, but for processors with AMX (see `choice`).

To add one, write its module (see `engine.EngineModule`) and add a row. `tests/engines/test_conformance.py` then runs it
too.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Takes the fastest engine that fits the device and the network.
AUTO = 'auto'
#: Kinds of GPUs that PyTorch knows, in order of preference.
BACKENDS = ('cuda', 'xpu', 'mps')
#: Any GPU, through its Vulkan driver.
VULKAN = 'vulkan'


@dataclass(frozen=True)
class EngineRow:
    """An engine.

    Attributes:
        name: What `--engine` accepts.
        devices: The kinds of devices that it runs on ('cpu', 'cuda' ...).
        precisions: What it computes in; the first is its single precision.
        module: Its module, beside this one.
        memory: Bytes that it takes for each value that a network keeps (`NetworkTraits.values_per_pixel`), and for each
            pixel of the result, by whether it computes in half precision. What is not said counts as the hungriest.
    """

    name: str
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    module: str
    memory: Mapping[bool, tuple[float, float]] = field(default_factory=dict)


# Memory was measured on a CPU by `benchmarks/memory.py` and rounded up by a sixth. The figures of torch stand for GPUs
# too, where nothing was measured.
ENGINES: tuple[EngineRow, ...] = (
    EngineRow('winograd', ('cpu',), ('float32',), 'winograd', {False: (5.06, 3)}),
    EngineRow('openvino', ('cpu',), ('float32', 'bfloat16'), 'openvino', {False: (5.22, 1), True: (2.7, 20)}),
    EngineRow('vulkan', (VULKAN,), ('float32', 'float16'), 'vulkan', {False: (11.24, 3), True: (5.66, 2)}),
    EngineRow('torch', ('cpu', *BACKENDS), ('float32', 'bfloat16', 'float16'), 'torch',
              {False: (4.53, 0), True: (2.15, 1)}),
)


def list_engine_choices() -> tuple[str, ...]:
    """Return the names that are accepted: 'auto' and those of the table."""
    return (AUTO, *(row.name for row in ENGINES))
