"""The engines: what `--engine` and `RealESRGANer(engine=...)` accept.

'auto' tries them in this order, but for processors with AMX (see `choice`).

To add one, write its module (see `engine.EngineModule`) and add a row. `tests/engines/test_conformance.py` then runs it
too.
"""
from __future__ import annotations

from dataclasses import dataclass

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
    """

    name: str
    devices: tuple[str, ...]
    precisions: tuple[str, ...]
    module: str


ENGINES: tuple[EngineRow, ...] = (
    EngineRow('winograd', ('cpu',), ('float32',), 'winograd'),
    EngineRow('openvino', ('cpu',), ('float32', 'bfloat16'), 'openvino'),
    EngineRow('vulkan', (VULKAN,), ('float32', 'float16'), 'vulkan'),
    EngineRow('torch', ('cpu', *BACKENDS), ('float32', 'bfloat16', 'float16'), 'torch'),
)


def list_engine_choices() -> tuple[str, ...]:
    """Return the names that are accepted: 'auto' and those of the table."""
    return (AUTO, *(row.name for row in ENGINES))
