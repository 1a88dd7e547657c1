"""What `--list_devices` prints: every engine on every device, and which of them 'auto' takes."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass

from ..archs.loaded import LoadedNetwork
from ..archs.rrdbnet import RRDBNetConfig
from . import torch_gpus, vulkan_gpus
from .choice import choose_row, explain_refusal, list_gpus
from .cpu import count_cores, processor_name
from .devices import Device, pick_precision
from .memory import measure_free_memory
from .table import BACKENDS, ENGINES, VULKAN, EngineRow

_HEADINGS = ('ENGINE', '-g', 'DEVICE', 'FREE MEMORY', 'PRECISIONS', '')
_CPU = Device('cpu')
_TAKEN = 'auto takes this'


@dataclass(frozen=True)
class _Line:
    engine: str
    number: str
    device: str
    memory: str
    precisions: str
    remark: str


def describe_devices() -> str:
    """Return a table: the engines, the devices that each runs on, and why 'auto' takes one and not the others.

    This imports PyTorch and ncnn where they are installed.
    """
    lines = [_Line(*_HEADINGS), *_describe_cpu(), *_describe_torch_gpus(), *_describe_vulkan()]
    widths = [max(map(len, column)) for column in zip(*map(astuple, lines), strict=True)]
    return '\n'.join('  '.join(map(str.ljust, astuple(line), widths)).rstrip() for line in lines)


def _describe_cpu() -> Iterator[_Line]:
    network = LoadedNetwork.from_arrays(RRDBNetConfig(), {})
    taken = choose_row(network, _CPU, half=True)
    for row in ENGINES:
        if _CPU.type not in row.devices:
            continue
        refusal = explain_refusal(row, network, _CPU)
        if refusal is not None:
            remark = str(refusal)
        elif row is not taken:
            remark = f'slower than {taken.name}'
        else:
            remark = 'auto takes a GPU first' if list_gpus() else _TAKEN
        yield _make_line(row, _CPU, f'{processor_name()}, {count_cores()} cores', remark)


def _describe_torch_gpus() -> Iterator[_Line]:
    (row,) = (row for row in ENGINES if row.name == 'torch')
    gpus = torch_gpus.list_gpus()
    for backend in BACKENDS:
        found = [gpu for gpu in gpus if gpu.type == backend]
        for gpu in found:
            yield _make_line(row, gpu, torch_gpus.get_name(gpu), _compare_with_first(gpu))
        if not found:
            yield _Line(row.name, '', f'no {backend}', '', '', torch_gpus.explain_absence(backend))


def _describe_vulkan() -> Iterator[_Line]:
    (row,) = (row for row in ENGINES if row.name == VULKAN)
    if absence := vulkan_gpus.explain_absence():
        yield _Line(row.name, '', f'no {VULKAN}', '', '', absence)
    for gpu in vulkan_gpus.list_gpus():
        remark = 'software: only with --engine vulkan' if vulkan_gpus.is_software(gpu) else _compare_with_first(gpu)
        yield _make_line(row, gpu, vulkan_gpus.get_name(gpu), remark)


def _compare_with_first(gpu: Device) -> str:
    """Return what 'auto' makes of a GPU."""
    first = next(iter(list_gpus()), None)
    if first is None:
        return 'only with --engine vulkan'
    if gpu == first:
        return _TAKEN
    if gpu.type == first.type:
        return f'auto takes {first}; -g {gpu.index} takes this'
    return f'auto takes {first}' + ('; --engine vulkan takes this' if gpu.type == VULKAN else '')


def _make_line(row: EngineRow, device: Device, name: str, remark: str) -> _Line:
    fastest = pick_precision(device, half=True)
    precisions = [precision for precision in row.precisions if precision in ('float32', fastest)]
    return _Line(row.name, '' if device == _CPU else str(device.index), f'{device}: {name}',
                 f'{measure_free_memory(device) / 2 ** 30:.1f} GiB', ', '.join(precisions), remark)
