"""Choose the engine that runs a network, and make it."""
from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, cast

from ..archs.loaded import LoadedNetwork
from ..errors import DeviceError, KernelError, RealESRGANError
from . import table
from .cpu import has_amx
from .devices import Device, pick_precision
from .engine import Engine, EngineModule
from .table import AUTO, EngineRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

logger = logging.getLogger(__name__)


def make_engine(network: LoadedNetwork | nn.Module, device: Device | torch.device | str, *, half: bool,
                name: str = AUTO, threads: int | None = None) -> Engine:
    """Return an engine for a network.

    Args:
        network: The network, or its PyTorch module, which must then have an attribute `scale` unless its architecture
            is known. The torch engine moves the module to the device and precision; others take the weights.
        device: Where it runs.
        half: Half precision where the device is faster with it (see `devices.pick_precision`).
        name: A name from `table.ENGINES`, or 'auto': the fastest engine that runs the network on the device. One that
            would have been faster and is not built logs a warning.
        threads: The number of threads that a CPU computes with, None for the engine's own choice. That of the torch
            engine holds for PyTorch in the whole process.

    Raises:
        ValueError: another name, or the scale is not known.
        DeviceError: the engine does not run on this kind of device.
        EngineError: it is not installed, or does not know the network.
    """
    if name not in table.list_engine_choices():
        raise ValueError(f'engine is {name!r}; allowed are {", ".join(table.list_engine_choices())}')
    if not isinstance(network, LoadedNetwork):
        network = LoadedNetwork.from_module(network)
    device = Device.parse(device)
    rows = _order_rows(device, half) if name == AUTO else [row for row in table.ENGINES if row.name == name]
    row = _choose_row(rows, network, device)
    precision = pick_precision(device, half)
    if precision not in row.precisions:
        precision = row.precisions[0]
    return load_module(row).make(network, device, precision, threads)


def explain_refusal(row: EngineRow, network: LoadedNetwork, device: Device) -> RealESRGANError | None:
    """Return why an engine can't run a network on a device of this machine; None if it can."""
    if row.devices is not None and device.type not in row.devices:
        places = ' or '.join('the CPU' if kind == 'cpu' else kind for kind in row.devices)
        return DeviceError(f'the engine {row.name} runs on {places}, not on {device}')
    return load_module(row).explain_refusal(network)


def load_module(row: EngineRow) -> EngineModule:
    """Import the module of an engine."""
    return cast('EngineModule', importlib.import_module(f'.{row.module}', __package__))


def _order_rows(device: Device, half: bool) -> list[EngineRow]:
    """Return the engines in the order in which 'auto' tries them, the fastest first.

    A processor with AMX multiplies bfloat16 some six times as fast as float32, which OpenVINO makes use of. One with
    AVX512-BF16 alone gains a factor of 1.7 to 2 from bfloat16, and 2.9 to 3.4 from Winograd's algorithm in float32
    (benchmarks/README.md). So there, and on all other processors, the order is the table's.
    """
    if half and device.type == 'cpu' and has_amx():
        return sorted(table.ENGINES, key=lambda row: 'bfloat16' not in row.precisions)
    return list(table.ENGINES)


def _choose_row(rows: Sequence[EngineRow], network: LoadedNetwork, device: Device) -> EngineRow:
    """Return the first row that fits; if none does, raise the refusal of the last."""
    refusal: RealESRGANError | None = None
    broken: KernelError | None = None
    for row in rows:
        refusal = explain_refusal(row, network, device)
        if refusal is None:
            if broken is not None:
                logger.warning('%s; %s runs instead, which is slower', broken, row.name)
            return row
        if broken is None and isinstance(refusal, KernelError):
            broken = refusal
    assert refusal is not None  # there is at least one row
    raise refusal
