"""The profile of this machine, which `python -m realesrgan.tuning` writes: what runs each model fastest.

It is a JSON file in the user's configuration folder. The scripts' `auto` choices read it (`find_choice`); a program's
own `RealESRGANer` does not. Every start asks for it, so importing this takes little, and reading a profile imports the
rest.
"""
from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .files import find_user_folder
from .version import __version__

if TYPE_CHECKING:
    from .archs.architecture import NetworkTraits
    from .engines.devices import Device

logger = logging.getLogger(__name__)

#: The environment variable that names the folder of the profile.
FOLDER_VARIABLE = 'REALESRGAN_CONFIG'
#: The command that writes it.
COMMAND = 'python -m realesrgan.tuning'
FORMAT = 1
#: How much faster a choice must be to replace the usual one, or that of an earlier profile.
MARGIN = 1.05
#: What engines compute in, the most exact first.
EXACTNESS = {'float32': 0, 'int16': 1, 'float16': 2, 'bfloat16': 3}
#: Height and width of what memory and time are stated for.
SIZES = {'photo': (3000, 4000), '720p': (720, 1280), '1080p': (1080, 1920)}
_FREE_BYTES_OF_WORKER = 2 << 30  # where nothing is measured: a frame of 1080p, PyTorch and its kernels


class Choice(NamedTuple):
    """What runs a network fastest on a device.

    Attributes:
        engine: A name from `ENGINES`.
        precision: What it computes in.
        half: What asks the engine for that precision.
        window: Side of the largest automatic tile's window; 0 for as large as memory allows.
        workers: Processes that share the device.
        speed: Pixels of input a second, of all workers.
        memory: Bytes for each of `SIZES`, the result included.
    """

    engine: str
    precision: str
    half: bool
    window: int
    workers: int
    speed: float
    memory: Mapping[str, int]

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Choice:
        """Return a stored choice.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        choice = cls(**stored)
        from .engines.engine import ENGINES
        if choice.engine not in [row.name for row in ENGINES] or choice.precision not in EXACTNESS:
            raise ValueError(f'{choice.engine!r} in {choice.precision!r} is no engine')
        numbers = choice.window, choice.workers, *(choice.memory[size] for size in SIZES)
        if any(type(number) is not int or number < 0 for number in numbers) or not 1 <= choice.workers <= 64:
            raise ValueError('a count is none')
        if type(choice.half) is not bool or not 0 < float(choice.speed) < math.inf:
            raise ValueError('a speed is none')
        return choice


# ---- the file ----

def get_profile_path() -> Path:
    """Return where the profile is, or would be."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder) / 'profile.json'
    return find_user_folder('config') / 'profile.json'


def find_choice(traits: NetworkTraits, device: Device, *, fp32: bool = False) -> Choice | None:
    """Return what the profile says of a network on a device; None if it says nothing.

    A profile that can't be read, or that was measured with another driver or other versions, is told in a line, once
    in a process, and ignored.
    """
    path = get_profile_path()
    try:
        found = read_profile(path, path.stat().st_mtime_ns)['devices'].get(name_device(device))
    except OSError:
        return None
    if found is None:
        return None
    if found['versions'] != (now := list_versions(device)):
        changed = [f'{name} {found["versions"].get(name, "none")}, now {now.get(name, "none")}'
                   for name in {**found['versions'], **now} if found['versions'].get(name) != now.get(name)]
        _tell(f'{path}: ignored, measured with {"; ".join(changed)}. {COMMAND} measures anew')
        return None
    network = found['networks'].get(repr(traits))
    return None if network is None else network['float32' if fp32 else 'half']


@functools.lru_cache(maxsize=1)
def read_profile(path: Path, _modified: int) -> dict[str, Any]:
    """Return the profile, with `Choice` in it; an empty one, with a warning, if the file is broken."""
    import json
    from datetime import datetime
    try:
        profile = json.loads(path.read_bytes())
        if profile['format'] != FORMAT:
            raise ValueError(f'it has format {profile["format"]!r}, not {FORMAT}')
        datetime.fromisoformat(profile['measured'])
        for device in profile['devices'].values():
            if not isinstance(device['versions'], dict):
                raise TypeError('versions is no object')
            for network in device['networks'].values():
                list(map(str.lower, network['models']))
                network |= {mode: Choice.read(network[mode]) for mode in ('half', 'float32')}
    except Exception as error:  # whatever somebody has made of the file
        _tell(f'{path}: ignored, damaged ({type(error).__name__}: {" ".join(str(error).split())[:80]}). '
              f'{COMMAND} writes a new one')
        return {'format': FORMAT, 'measured': '', 'devices': {}}
    return profile


@functools.cache
def _tell(line: str) -> None:
    """Log a warning, once in a process."""
    logger.warning('%s', line)


def name_device(device: Device) -> str:
    """Return what a profile calls a device; two cards of one kind have one name."""
    from .engines import cpu, devices
    if device.type == 'cpu':
        return f'cpu: {cpu.processor_name()}, {cpu.count_cores()} cores'
    return f'{device.type}: {devices.get_name(device)}'


def list_versions(device: Device) -> dict[str, str]:
    """Return the versions of all that a device's speed depends on: packages, the kernel, and the driver if known."""
    from importlib.metadata import PackageNotFoundError, version

    from .engines.engine import ENGINES, VULKAN
    versions = {'realesrgan': __version__}
    for package in {row.package for row in ENGINES if row.package and device.type in row.devices}:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    if device.type == 'cpu':
        from .engines.kernel.library import hash_source
        versions['kernel'] = hash_source()
    elif device.type == VULKAN:
        import ncnn
        versions['driver'] = str(ncnn.get_gpu_info(device.index or 0).driver_version())
    elif (file := Path('/proc/driver/nvidia/version')).exists():  # of Linux; elsewhere it is not known
        versions['driver'] = file.read_text().splitlines()[0]
    return dict(sorted(versions.items()))


def describe_profile() -> str:
    """Return what the profile says, for `--list_devices`."""
    path = get_profile_path()
    if not path.exists():
        return f'no profile of this machine: {COMMAND} measures what is fastest'
    profile = read_profile(path, path.stat().st_mtime_ns)
    if not profile['measured']:
        return f'no profile: {path} is damaged'
    rows = [f'profile of {profile["measured"]}: {path}']
    for name, device in profile['devices'].items():
        for network in device['networks'].values():
            rows += [f'  {name}: {model}: {describe_choice(network["half"])}' for model in network['models']]
    return '\n'.join(rows)


def describe_choice(choice: Choice) -> str:
    """Return a choice in words."""
    tiles = f'tiles within {choice.window}' if choice.window else 'whole pictures'
    return (f'{choice.engine}, {choice.precision}, {tiles}, {choice.workers} worker{"s" * (choice.workers > 1)}, '
            f'{choice.speed / 1e6:.3g} megapixels/s')


# ---- auto choices ----

def settle_device(traits: NetworkTraits, device: Device, *, fp32: bool) -> Device:
    """Return a device that was picked by `auto`, or the CPU where the profile has that clearly faster."""
    from .engines.devices import CPU
    on_gpu = find_choice(traits, device, fp32=fp32) if device != CPU else None
    on_cpu = find_choice(traits, CPU, fp32=fp32) if on_gpu else None
    if on_gpu is None or on_cpu is None or on_cpu.speed < MARGIN * on_gpu.speed:
        return device
    logger.info('the profile has the CPU faster than %s', device)
    return CPU


def count_workers(traits: NetworkTraits | None, device: Device, *, fp32: bool) -> int:
    """Return how many workers should share a device: as the profile says, else as free memory allows.

    Without a profile it is one on a CPU, which a single worker keeps busy.

    Args:
        traits: The network's; None if it is not known yet.
        device: The device.
        fp32: Whether it is to compute in single precision.
    """
    choice = find_choice(traits, device, fp32=fp32) if traits else None
    if choice is not None:
        return choice.workers
    if device.type == 'cpu':
        return 1
    from .engines.cpu import count_cores
    from .engines.memory import measure_usable_memory
    fitting = measure_usable_memory(device) // _FREE_BYTES_OF_WORKER
    return max(min(fitting, count_cores() // 2, 4), 1)  # each also decodes and encodes, on the CPU
