"""Choose the device and the engine that run a network, make the engine, and list all that there are."""
from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..archs.loaded import LoadedNetwork
from ..archs.rrdbnet import RRDBNetConfig
from ..errors import DeviceError, EngineError, KernelError, NoSuchDeviceError, RealESRGANError, flatten_message
from .cpu import count_cores, processor_name
from .devices import (
    CPU,
    Device,
    explain_absence,
    get_name,
    is_software,
    lacks_torch,
    list_gpus_of,
    may_have_vulkan_gpus,
    pick_precision,
)
from .engine import AUTO, BACKENDS, ENGINES, VULKAN, Engine, EngineRow, list_engine_choices
from .memory import measure_free_memory

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)


# ---- devices ----

def pick_device(device: str | torch.device | Device | None = None, gpu_id: int | None = None,
                engine: str = AUTO) -> Device:
    """Return the device given, else GPU number `gpu_id`, else the first GPU, else the CPU.

    GPUs that PyTorch can use come before those that have only a Vulkan driver, and of these a card of its own before
    one in the processor. Only kinds that the engine runs on count; software devices of Vulkan's do so only if the
    engine is 'vulkan'. A log line names a GPU picked by this.

    Args:
        device: A device in any form, or None.
        gpu_id: Number among the GPUs of the best kind, or None.
        engine: A name from `ENGINES`, or 'auto'.

    Raises:
        NoSuchDeviceError: the device asked for is not there; the message names those that are.
        DeviceError: there is none that the engine runs on.
    """
    if device is not None:
        device = Device.parse(device)
        if device.type in (*BACKENDS, VULKAN):
            gpus = list_gpus_of(*([VULKAN] if device.type == VULKAN else BACKENDS))
            if Device(device.type, device.index or 0) not in gpus:
                raise NoSuchDeviceError(f'there is no device {device}; {_describe(gpus, {device.type})}')
        return device
    if engine == AUTO and lacks_torch():
        logger.info('PyTorch, which runs GPUs faster than Vulkan, is not installed: pip install torch')
    if gpu_id is not None:
        picked = require_gpu(gpu_id, engine)
    elif gpus := list_gpus(engine):
        picked = gpus[0]
    elif CPU.type in (kinds := _list_kinds(engine)):
        return CPU
    else:
        raise DeviceError(f'the engine {engine} has nothing to run on; {_describe([], kinds)}')
    logger.info('GPU: %s, %s', picked, get_name(picked))
    if is_software(picked):
        logger.warning('%s computes on the CPU, more slowly than the engines for CPUs', get_name(picked))
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
        engine: A name from `ENGINES`, or 'auto'.
    """
    kinds = _list_kinds(engine)
    found = list_gpus_of(*(kind for kind in BACKENDS if kind in kinds))
    if found or VULKAN not in kinds or (engine == AUTO and not may_have_vulkan_gpus()):
        return found
    return [gpu for gpu in list_gpus_of(VULKAN) if engine != AUTO or not is_software(gpu)]


def settle_device(network: LoadedNetwork, device: Device, engine: str = AUTO) -> Device:
    """Return the device; with 'auto' the CPU and a warning instead of a Vulkan GPU on which no engine runs it."""
    if engine != AUTO or device.type != VULKAN:
        return device
    refusals = [explain_refusal(row, network, device) for row in ENGINES if VULKAN in row.devices]
    if None in refusals:
        return device
    logger.warning('%s; the CPU runs it instead', refusals[0])
    return CPU


def _find_rows(engine: str) -> list[EngineRow]:
    """Return the row of an engine; with 'auto', all rows."""
    if engine not in list_engine_choices():
        raise ValueError(f'engine is {engine!r}; allowed are {", ".join(list_engine_choices())}')
    return [row for row in ENGINES if engine in (AUTO, row.name)]


def _list_kinds(engine: str) -> set[str]:
    """Return the kinds of devices that an engine runs on; with 'auto', those of all engines."""
    return {kind for row in _find_rows(engine) for kind in row.devices}


def _describe(gpus: Sequence[Device], kinds: set[str]) -> str:
    """Say what GPUs there are, or why there are none of these kinds."""
    if gpus:
        best = sorted((gpu for gpu in gpus if gpu.type == gpus[0].type), key=lambda gpu: gpu.index or 0)
        return 'available: ' + ', '.join(f'{gpu.index} ({gpu})' for gpu in best)
    if kinds == {VULKAN}:
        return explain_absence(VULKAN)
    if kinds == {CPU.type}:
        return 'this engine runs on the CPU (leave the GPU out)'
    line = 'this machine has no usable GPU (leave the GPU out to run on the CPU)'
    if others := list_gpus_of(VULKAN):
        line += f'; --engine vulkan -g {others[0].index} takes {get_name(others[0])}'
    return line


# ---- engines ----

def make_engine(network: LoadedNetwork | nn.Module, device: Device | torch.device | str, *, half: bool,
                name: str = AUTO, threads: int | None = None) -> Engine:
    """Return an engine for a network.

    Args:
        network: The network, or its PyTorch module, which must then have an attribute `scale` unless its architecture
            is known. The torch engine moves the module to the device and precision; others take the weights.
        device: Where it runs.
        half: Half precision where the device is faster with it (see `devices.pick_precision`).
        name: A name from `ENGINES`, or 'auto': the fastest engine that runs the network on the device. One that would
            have been faster and is not built logs a warning.
        threads: The number of threads that a CPU computes with, None for the engine's own choice. That of the torch
            engine holds for PyTorch in the whole process.

    Raises:
        ValueError: another name, or the scale is not known.
        DeviceError: the engine does not run on this kind of device.
        EngineError: it is not installed, or does not know the network.
    """
    if not isinstance(network, LoadedNetwork):
        network = LoadedNetwork.from_module(network)
    device = Device.parse(device)
    row = choose_row(network, device, name)
    return row.load()(network, device, pick_precision(device, half, row.precisions), threads)


def choose_row(network: LoadedNetwork, device: Device, name: str = AUTO) -> EngineRow:
    """Return the row of the engine that `make_engine` makes; see there."""
    refusal: RealESRGANError | None = None
    broken: KernelError | None = None
    for row in _find_rows(name):
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
    if row.package and importlib.util.find_spec(row.package) is None:
        return EngineError(f'the engine {row.name} is not installed: pip install {row.package}')
    if row.needs_layers and network.layers() is None:
        reason = network.unknown if network.config is None else f'{network.config.architecture} has no layers'
        return EngineError(f'the engine {row.name} does not know this network: {reason}')
    try:
        return row.load().explain_refusal(network)
    except (ImportError, OSError) as error:
        return EngineError(f"the engine {row.name} can't be loaded: {flatten_message(error)}")


# ---- the table of `--list_devices` ----

def describe_devices() -> str:
    """Return a table: the engines, the devices that each runs on, and why 'auto' takes one and not the others.

    This imports PyTorch and ncnn where they are installed.
    """
    lines = [('ENGINE', '-g', 'DEVICE', 'FREE MEMORY', 'PRECISIONS', ''), *_list_lines()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _list_lines() -> Iterator[tuple[str, ...]]:
    network = LoadedNetwork(RRDBNetConfig(), {})
    taken = choose_row(network, CPU)
    first = next(iter(list_gpus()), None)
    for kind in (CPU.type, *BACKENDS, VULKAN):
        for row in (row for row in ENGINES if kind in row.devices):
            found = [CPU] if kind == CPU.type else list_gpus_of(kind)
            if not found:
                yield row.name, '', f'no {kind}', '', '', explain_absence(kind)
            for device in found:
                if device != CPU:
                    number, name, remark = str(device.index), get_name(device), _compare_with_first(device, first)
                else:
                    number, name = '', f'{processor_name()}, {count_cores()} cores'
                    if refusal := explain_refusal(row, network, CPU):
                        remark = str(refusal)
                    elif row is not taken:
                        remark = f'auto takes {taken.name} first'
                    else:
                        remark = 'auto takes a GPU first' if first else 'auto takes this'
                precisions = dict.fromkeys(pick_precision(device, half, row.precisions) for half in (False, True))
                yield (row.name, number, f'{device}: {name}', f'{measure_free_memory(device) / 2 ** 30:.1f} GiB',
                       ', '.join(precisions), remark)


def _compare_with_first(gpu: Device, first: Device | None) -> str:
    """Return whether 'auto' takes a GPU, and which option takes it if not."""
    if is_software(gpu):
        return 'software: only with --engine vulkan'
    if first is None:
        return 'only with --engine vulkan'
    if gpu == first:
        return 'auto takes this'
    if gpu.type == first.type:
        return f'auto takes {first}; -g {gpu.index} takes this'
    return f'auto takes {first}' + ('; --engine vulkan takes this' if gpu.type == VULKAN else '')
