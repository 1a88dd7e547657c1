"""Choose the device and the engine that run a network, and make the engine."""
from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, cast

from ..archs.loaded import LoadedNetwork
from ..errors import DeviceError, EngineError, KernelError, NoSuchDeviceError, RealESRGANError
from . import table, torch_gpus, vulkan_gpus
from .cpu import has_amx
from .devices import Device, pick_precision
from .engine import Engine, EngineModule
from .table import AUTO, BACKENDS, VULKAN, EngineRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

logger = logging.getLogger(__name__)

_CPU = Device('cpu')


def pick_device(device: str | torch.device | Device | None = None, gpu_id: int | None = None,
                engine: str = AUTO) -> Device:
    """Return the device given, else GPU number `gpu_id`, else the first GPU, else the CPU.

    GPUs that PyTorch can use come before those that have only a Vulkan driver, and of these a card of its own before
    one in the processor. Only kinds that the engine runs on count; software devices of Vulkan's do so only if the
    engine is 'vulkan'. A log line names a GPU picked by this.

    Args:
        device: A device in any form, or None.
        gpu_id: Number among the GPUs of the best kind, or None.
        engine: A name from `table.ENGINES`, or 'auto'.

    Raises:
        NoSuchDeviceError: the device asked for is not there; the message names those that are.
        DeviceError: there is none that the engine runs on.
    """
    if device is not None:
        return _require_device(Device.parse(device))
    if gpu_id is not None:
        picked = require_gpu(gpu_id, engine)
    elif gpus := list_gpus(engine):
        picked = gpus[0]
    elif _CPU.type in (kinds := _list_kinds(engine)):
        return _CPU
    else:
        raise DeviceError(f'the engine {engine} has nothing to run on; {_describe([], kinds)}')
    _log_gpu(picked)
    return picked


def require_gpu(gpu_id: int, engine: str = AUTO) -> Device:
    """Return the GPU that a number stands for.

    Raises:
        NoSuchDeviceError: it is not there; the message names those that are.
    """
    gpus = list_gpus(engine)
    for gpu in gpus:
        if gpu == Device(gpus[0].type, gpu_id):
            return gpu
    raise NoSuchDeviceError(f'there is no GPU {gpu_id}; {_describe(gpus, _list_kinds(engine))}')


def list_gpus(engine: str = AUTO) -> list[Device]:
    """Return the GPUs that an engine may be run on without being told to, the best first.

    Args:
        engine: A name from `table.ENGINES`, or 'auto'.
    """
    kinds = _list_kinds(engine)
    found = [gpu for gpu in torch_gpus.list_gpus() if gpu.type in kinds] if kinds.intersection(BACKENDS) else []
    if found or VULKAN not in kinds:
        return found
    if engine == AUTO:
        return vulkan_gpus.list_real_gpus()
    return vulkan_gpus.list_gpus()


def settle_device(network: LoadedNetwork, device: Device, engine: str = AUTO) -> Device:
    """Return the device; with 'auto' the CPU and a warning instead of a Vulkan GPU on which no engine runs it."""
    if engine != AUTO or device.type != VULKAN:
        return device
    refusals = [explain_refusal(row, network, device) for row in table.ENGINES if VULKAN in row.devices]
    if None in refusals:
        return device
    logger.warning('%s; the CPU runs it instead', refusals[0])
    return _CPU


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
    _require_name(name)
    if not isinstance(network, LoadedNetwork):
        network = LoadedNetwork.from_module(network)
    device = Device.parse(device)
    row = choose_row(network, device, half=half, name=name)
    precision = pick_precision(device, half)
    if precision not in row.precisions:
        precision = row.precisions[0]
    return load_module(row).make(network, device, precision, threads)


def choose_row(network: LoadedNetwork, device: Device, *, half: bool, name: str = AUTO) -> EngineRow:
    """Return the row of the engine that `make_engine` makes; see there."""
    rows = _order_rows(device, half) if name == AUTO else [row for row in table.ENGINES if row.name == name]
    refusal: RealESRGANError | None = None
    broken: KernelError | None = None
    for row in rows:
        reason = explain_refusal(row, network, device)
        if reason is None:
            if broken is not None:
                logger.warning('%s; %s runs instead, which is slower', broken, row.name)
            return row
        if broken is None and isinstance(reason, KernelError):
            broken = reason
        if refusal is None or not isinstance(reason, DeviceError):  # that of an engine for this device says more
            refusal = reason
    assert refusal is not None  # there is at least one row
    raise refusal


def explain_refusal(row: EngineRow, network: LoadedNetwork, device: Device) -> RealESRGANError | None:
    """Return why an engine can't run a network on a device of this machine; None if it can."""
    # PyTorch may know more kinds than the table does, by plugins.
    known = device.type in _list_kinds(AUTO) or row.name != 'torch'
    if known and device.type not in row.devices:
        places = ' or '.join('the CPU' if kind == 'cpu' else kind for kind in row.devices)
        return DeviceError(f'the engine {row.name} runs on {places}, not on {device}')
    try:
        return load_module(row).explain_refusal(network)
    except ModuleNotFoundError as error:
        return EngineError(f'the engine {row.name} is not installed: pip install {error.name}')


def load_module(row: EngineRow) -> EngineModule:
    """Import the module of an engine."""
    return cast('EngineModule', importlib.import_module(f'.{row.module}', __package__))


def _list_kinds(engine: str) -> set[str]:
    """Return the kinds of devices that an engine runs on; with 'auto', those of all engines."""
    _require_name(engine)
    return {kind for row in table.ENGINES if engine in (AUTO, row.name) for kind in row.devices}


def _require_name(engine: str) -> None:
    if engine not in table.list_engine_choices():
        raise ValueError(f'engine is {engine!r}; allowed are {", ".join(table.list_engine_choices())}')


def _require_device(device: Device) -> Device:
    if device.type in (*BACKENDS, VULKAN):
        gpus = (vulkan_gpus if device.type == VULKAN else torch_gpus).list_gpus()
        if Device(device.type, device.index or 0) not in gpus:
            raise NoSuchDeviceError(f'there is no device {device}; {_describe(gpus, {device.type})}')
    return device


def _describe(gpus: Sequence[Device], kinds: set[str]) -> str:
    """Say what GPUs there are, or why there are none of these kinds."""
    if gpus:
        best = sorted((gpu for gpu in gpus if gpu.type == gpus[0].type), key=lambda gpu: gpu.index or 0)
        return 'available: ' + ', '.join(f'{gpu.index} ({gpu})' for gpu in best)
    if kinds == {VULKAN}:
        return str(vulkan_gpus.explain_absence())
    if kinds == {'cpu'}:
        return 'this engine runs on the CPU (leave the GPU out)'
    return 'this machine has no GPU that can be used (leave the GPU out to run on the CPU)'


def _log_gpu(gpu: Device) -> None:
    name = (vulkan_gpus if gpu.type == VULKAN else torch_gpus).get_name(gpu)
    logger.info('GPU: %s, %s', gpu, name)
    if gpu.type == VULKAN and vulkan_gpus.is_software(gpu):
        logger.warning('%s is a program that computes on the CPU, slower than the engines for CPUs do', name)


def _order_rows(device: Device, half: bool) -> list[EngineRow]:
    """Return the engines in the order in which 'auto' tries them, the fastest first.

    A processor with AMX multiplies bfloat16 some six times as fast as float32, which OpenVINO makes use of. One with
    AVX512-BF16 alone gains a factor of 1.7 to 2 from bfloat16, and 2.9 to 3.4 from Winograd's algorithm in float32
    (benchmarks/README.md). So there, and on all other processors, the order is the table's.
    """
    if half and device.type == 'cpu' and has_amx():
        return sorted(table.ENGINES, key=lambda row: 'bfloat16' not in row.precisions)
    return list(table.ENGINES)
