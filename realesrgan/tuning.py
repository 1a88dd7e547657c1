"""Measure this machine, and keep what runs each installed model fastest: `python -m realesrgan.tuning`.

`profile` has what becomes of it. A choice other than the usual one is kept only where it is clearly faster, and never
one that is less exact, so that two runs agree.

Importing this needs only the standard library.
"""
from __future__ import annotations

import argparse
import functools
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .models import MODELS
from .profile import (
    COMMAND,
    EXACTNESS,
    FORMAT,
    MARGIN,
    SIZES,
    Choice,
    describe_choice,
    find_choice,
    get_profile_path,
    list_versions,
    name_device,
    read_profile,
)

if TYPE_CHECKING:
    from .archs.architecture import NetworkTraits
    from .archs.loaded import LoadedNetwork
    from .engines.devices import Device
    from .engines.engine import Engine, EngineRow
    from .pool.pool import Place, Report

logger = logging.getLogger('realesrgan.tuning')  # which is __main__ otherwise

_MARGIN_OF_WORKERS = 1.15  # a further process takes as much memory as the first
_SECONDS = 90.0  # so that it ends within two minutes
_FIRST_SIDE, _SIDES = 64, (128, 256, 512, 1024)
_BATCH = 4
_ROUNDS = 20
_HOPELESS, _HOPELESS_AT_FIRST = 2.0, 8.0  # times as slow as the fastest: not timed again
_MARGIN_AT_FIRST_SIDE = 1.5  # where there was no time to compare more than small pictures
_SECONDS_OF_WORKERS = 1.0
_MOST_WORKERS, _LEAST_CORES = 8, 4  # cores of each worker on a CPU
_FRAMES = 60 * 24  # of a minute of film

Key = TypeVar('Key', bound=Hashable)
#: An engine's name, and what it computes in.
Variant = tuple[str, str]
#: Makes an engine, as `engines.choice.make_engine` does.
Make = Callable[..., 'Engine']


# ---- measuring ----

def choose(speeds: Mapping[Key, float], usual: Key, margin: float = MARGIN) -> Key:
    """Return the usual choice, or the fastest if that is clearly faster."""
    best = max(speeds, key=lambda key: speeds[key])
    return best if speeds[best] > margin * speeds[usual] else usual


def race(calls: Mapping[Key, Callable[[], object]], seconds: float, clock: Callable[[], float]) -> dict[Key, float]:
    """Return the least seconds that each call takes, in turns, so that other programs slow all of them alike.

    Args:
        calls: The calls; the first of each, which compiles and allocates, does not count.
        seconds: About how long all of it may take. Each is timed once in any case.
        clock: Returns seconds.
    """
    end, best = clock() + seconds, dict.fromkeys(calls, math.inf)
    first: dict[Key, float] = {}
    for key, call in calls.items():
        start = clock()
        call()
        first[key] = clock() - start
        if first[key] > seconds / 8 and first[key] > _HOPELESS_AT_FIRST * min(first.values()):
            best[key] = first[key]  # too slow for another call
    for number in range(_ROUNDS):
        least = min(best.values())
        for key, call in calls.items():
            if best[key] < math.inf and (not number or best[key] > _HOPELESS * least or clock() + best[key] > end):
                continue
            start = clock()
            call()
            best[key] = min(best[key], max(clock() - start, 1e-9))
    return best


def list_variants(network: LoadedNetwork, device: Device) -> dict[Variant, bool]:
    """Return the engines and precisions that run a network on a device, each with the `half` that asks for it.

    The usual one comes first. Less exact ones than that are left out.
    """
    from .engines.choice import choose_row, explain_refusal
    from .engines.devices import pick_precision
    from .engines.engine import ENGINES
    taken = choose_row(network, device)
    most = EXACTNESS[pick_precision(device, True, taken.precisions)]
    rows: list[EngineRow] = [taken, *(row for row in ENGINES if row is not taken)]
    found: dict[Variant, bool] = {}
    for row in rows:
        if row is taken or explain_refusal(row, network, device) is None:
            for half in (True, False):
                precision = pick_precision(device, half, row.precisions)
                if EXACTNESS[precision] <= most:
                    found.setdefault((row.name, precision), half)
    return found


def measure_network(network: LoadedNetwork, device: Device, seconds: float, before: Mapping[str, Choice], *,
                    make: Make, clock: Callable[[], float],
                    measure_workers: Callable[[Choice], Mapping[int, float]]) -> dict[str, Any]:
    """Measure a network on a device.

    Args:
        network: The network.
        device: The device.
        seconds: About how long that may take.
        before: The choices of an earlier profile, which only clearly faster ones replace.
        make: Makes engines.
        clock: Returns seconds.
        measure_workers: Returns the speed by the number of processes that share the device.

    Returns:
        A `Choice` for 'half' and one for 'float32', and all 'measures'.
    """
    variants = list_variants(network, device)
    measures: list[dict[str, Any]] = []
    engines: dict[Variant, Engine] = {}
    for key, half in variants.items():
        try:
            engines[key] = make(network, device, half=half, name=key[0])
        except (MemoryError, RuntimeError) as error:
            logger.info('%s in %s: left out, %s', *key, error)
    speeds, margin = _compare(engines, seconds * 0.5, clock, measures)
    result: dict[str, Any] = {}
    for mode in ('half', 'float32'):
        allowed = {key: speed for key, speed in speeds.items() if mode == 'half' or key[1] == 'float32'}
        old = before.get(mode)
        usual = next(key for key in variants if key in allowed)
        if old is not None and (old.engine, old.precision) in allowed:
            usual = old.engine, old.precision
        key = choose(allowed, usual, margin)
        window, speed, shares = 0, allowed[key], result.get('half')
        if shares is not None and (shares.engine, shares.precision) == key:
            window, speed = shares.window, shares.speed
        elif mode == 'half':
            by_side = _measure_sides(engines[key], key, speed, seconds * 0.25, clock, measures)
            window, speed = _choose_window(network.traits, by_side, old.window if old else 0), max(by_side.values())
        result[mode] = Choice(*key, variants[key], window, 1, speed, _estimate_memory(network, engines[key]))
    for engine in engines.values():
        engine.release()
    engines.clear()
    by_workers = {1: 1.0, **measure_workers(result['half'])}
    old_count = before['half'].workers if 'half' in before else 1
    count = choose(by_workers, old_count if old_count in by_workers else 1, _MARGIN_OF_WORKERS)
    for mode, choice in result.items():
        result[mode] = choice._replace(workers=count, speed=choice.speed * by_workers[count] / by_workers[1])
    return {**result, 'measures': measures, 'workers': {str(count): speed for count, speed in by_workers.items()}}


def _compare(engines: Mapping[Variant, Engine], seconds: float, clock: Callable[[], float],
             measures: list[dict[str, Any]]) -> tuple[dict[Variant, float], float]:
    """Return the speed of each engine, and the margin by which one must be faster.

    All are timed at a small side, those that are fast at a larger one if there is time.
    """
    taken = race({key: functools.partial(engine, make_batch(_FIRST_SIDE)) for key, engine in engines.items()},
                 seconds / 2, clock)
    speeds = {key: _note(measures, key, _FIRST_SIDE, 1, taken[key]) for key in engines}
    least = min(taken.values())
    fast = {key: engines[key] for key in engines if taken[key] < _HOPELESS * least}
    for side in reversed(_SIDES[:2]):
        if least * (side / _FIRST_SIDE) ** 2 * len(fast) * 3 < seconds / 2:
            taken = race({key: functools.partial(engine, make_batch(side)) for key, engine in fast.items()},
                         seconds / 2, clock)
            return speeds | {key: _note(measures, key, side, 1, taken[key]) for key in fast}, MARGIN
    return speeds, _MARGIN_AT_FIRST_SIDE


def _note(measures: list[dict[str, Any]], key: Variant, side: int, batch: int, taken: float) -> float:
    """Keep a measure; return the pixels a second."""
    speed = batch * side ** 2 / taken
    measures.append({'engine': key[0], 'precision': key[1], 'side': side, 'batch': batch, 'speed': speed})
    return speed


def _measure_sides(engine: Engine, key: Variant, speed: float, seconds: float, clock: Callable[[], float],
                   measures: list[dict[str, Any]]) -> dict[int, float]:
    """Return the speed by the side of a picture, as far as there is time and memory; time batches of small ones."""
    end, found = clock() + seconds, dict[int, float]()
    for side in _SIDES:
        if not found or clock() + 3 * side ** 2 / speed < end:
            try:
                taken = race({0: functools.partial(engine, make_batch(side))}, end - clock(), clock)
            except MemoryError:
                break
            found[side] = _note(measures, key, side, 1, taken[0])
    if 3 * _BATCH * _FIRST_SIDE ** 2 / speed < seconds:
        taken = race({0: functools.partial(engine, make_batch(_FIRST_SIDE, _BATCH))}, 0.0, clock)
        _note(measures, key, _FIRST_SIDE, _BATCH, taken[0])
    return found or {_FIRST_SIDE: speed}


def _choose_window(traits: NetworkTraits, by_side: Mapping[int, float], usual: int) -> int:
    """Return the side of the window that upscales a large picture fastest; 0 for no tiles.

    What tiles see around themselves is computed for each of them, which counts against them. The largest side that
    was measured stands for whole pictures.
    """
    border = 2 * max(10, traits.receptive_field) + traits.alignment + traits.blend
    useful = {side: speed * max(1 - border / side, 0) ** 2 for side, speed in by_side.items() if side < max(by_side)}
    speeds = {0: by_side[max(by_side)], **useful}
    return choose(speeds, usual if usual in speeds else 0)


def _estimate_memory(network: LoadedNetwork, engine: Engine) -> dict[str, int]:
    """Return the bytes for a picture of each size, if it is not cut into tiles, with the result."""
    from .engines.memory import estimate_bytes_per_pixel
    for_pixel = estimate_bytes_per_pixel(network.traits, engine.name, half=engine.half) or 0
    found = {}
    for name, (height, width) in SIZES.items():
        counted = engine.count_bytes(height, width)
        running = height * width * for_pixel if counted is None else counted
        found[name] = int(running + height * width * 3 * network.scale ** 2)
    return found


def make_batch(side: int, count: int = 1) -> Any:
    """Return pictures of noise on a gradient, N x H x W x 3, uint8."""
    import numpy as np
    gradient = np.linspace(0, 200, side, dtype=np.float32)[None, :, None, None]
    noise = np.random.default_rng(0).integers(0, 50, (count, side, side, 3))
    return (gradient + noise).astype(np.uint8)


# ---- workers ----

@dataclass(frozen=True)
class _Load:
    """What a worker process runs again and again; with `begin` 0 it only gets ready."""

    model: str
    device: str
    engine: str
    half: bool
    threads: int | None
    side: int
    begin: float = 0.0

    def __str__(self) -> str:
        return f'{self.model} on {self.device}'


class _Runner:
    """A worker that is as fast as one of the scripts' is, but for reading and writing."""

    def __init__(self, _place: Place) -> None:
        self._engines: dict[_Load, Engine] = {}

    def __call__(self, load: _Load, _report: Report) -> float:
        """Return how many pictures a second it upscales."""
        from .engines.choice import make_engine
        from .weights.loading import load_network
        from .weights.sources import resolve
        key, batch = replace(load, begin=0.0), make_batch(load.side)
        if key not in self._engines:
            self._engines.clear()
            network = load_network(resolve(load.model, None, 1), log=False)
            self._engines[key] = make_engine(network, load.device, half=load.half, name=load.engine,
                                             threads=load.threads)
            self._engines[key](batch)
        if not load.begin:
            return 0.0
        while time.time() < load.begin:
            time.sleep(0.001)
        count, start = 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < _SECONDS_OF_WORKERS or not count:
            self._engines[key](batch)
            count += 1
        return count / seconds


def measure_workers(model: str, device: Device, choice: Choice) -> dict[int, float]:
    """Return the pictures a second of one, two, four ... processes that share a device, as long as more are faster.

    A picture takes each about a fifth of a second.
    """
    from .engines.cpu import count_cores
    from .pool.pool import Place
    from .pool.processes import ProcessPool
    cores, found = count_cores(), dict[int, float]()
    side = min(max(2 ** round(math.log2(choice.speed * 0.2) / 2), 64), 512)
    # On a few cores one worker keeps all of them busy, and what others seem to gain is other programs' time.
    most = min(_MOST_WORKERS, cores // _LEAST_CORES if device.type == 'cpu' else cores)
    counts = [count for count in (1, 2, 4, 8) if count <= most]
    if len(counts) < 2:
        return found
    for count in counts:
        shares = max(cores // count, 1) if device.type in ('cpu', 'vulkan') and count > 1 else None
        load = _Load(model, str(device), choice.engine, choice.half, shares, side)
        with ProcessPool(_Runner, [Place(None, count)] * count) as pool:
            speeds: list[float] = []
            for begin in (0.0, 1.0, 2.0, 3.0):  # the best of three
                at = time.time() + 0.1 if begin else 0.0
                loads = [replace(load, begin=at)] * count
                results = [result for _, result in pool.map_unordered(loads, lambda *_: None)]
                if any(isinstance(result, Exception) for result in results):
                    return found
                speeds.append(sum(results))
        found[count] = max(speeds)
        if count > 1 and found[count] < _MARGIN_OF_WORKERS * found[count // 2]:
            break
    return found


# ---- the command ----

def list_installed() -> list[str]:
    """Return the models whose weights are at hand."""
    from .models import WeightFile
    from .weights.sources import locate
    return [name for name, spec in MODELS.items() if not isinstance(locate(spec.weights, spec.packaged), WeightFile)]


def tune(models: Sequence[str], seconds: float) -> Path:
    """Measure models on all devices that `auto` may take, and keep the profile.

    Args:
        models: Their names. Those of one network are measured once.
        seconds: About how long that may take.

    Returns:
        The path of the profile.

    Raises:
        OSError: it can't be written.
    """
    from .engines.choice import list_gpus, make_engine
    from .engines.devices import CPU
    from .files import whole_file
    from .weights.loading import load_network
    from .weights.sources import resolve
    path, end = get_profile_path(), time.monotonic() + seconds
    by_name = {name_device(device): device for device in (*reversed(list_gpus()), CPU)}
    groups: dict[str, list[str]] = {}
    for model in models:
        groups.setdefault(repr(MODELS[model].network), []).append(model)
    left = len(groups) * len(by_name)
    measured: dict[str, Any] = {}
    for name, device in by_name.items():
        networks = {}
        for network, names in groups.items():
            before = {mode: choice for mode in ('half', 'float32')
                      if (choice := find_choice(MODELS[names[0]].network, device, fp32=mode == 'float32'))}
            loaded = load_network(resolve(names[0], None, 1), log=False)
            found = measure_network(
                loaded, device, max(end - time.monotonic(), 1) / left, before, make=make_engine, clock=time.monotonic,
                measure_workers=functools.partial(measure_workers, names[0], device))
            left -= 1
            logger.info('%s on %s: %s', ', '.join(names), name, describe_choice(found['half']))
            networks[network] = {'models': names, **found, **{
                mode: found[mode]._asdict() for mode in ('half', 'float32')}}
        measured[name] = {'versions': list_versions(device), 'networks': networks}
    kept = _read_json(path).get('devices', {})
    for name, device_found in measured.items():
        old = kept.get(name, {})
        if old.get('versions') == device_found['versions']:  # models that were not measured now
            device_found['networks'] = {**old['networks'], **device_found['networks']}
    profile = {'format': FORMAT, 'measured': datetime.now().isoformat(' ', 'minutes'),
               'devices': {**kept, **measured}}
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(profile, indent=1))
    return path


def _read_json(path: Path) -> dict[str, Any]:
    """Return the profile as it is stored; an empty one where it is broken or missing."""
    if not path.exists() or not read_profile(path, path.stat().st_mtime_ns)['measured']:
        return {}
    return dict(json.loads(path.read_bytes()))


def describe_results(path: Path) -> str:
    """Return the table of a profile: for each model what is fastest, and the time and memory of usual work."""
    rows = [('MODEL', 'DEVICE', 'FASTEST', '12-MEGAPIXEL PHOTO', 'MINUTE OF 720p FILM', 'OF 1080p')]
    for name, device in _read_json(path)['devices'].items():
        for network in device['networks'].values():
            choice = Choice.read(network['half'])
            cells = [f'{timedelta(seconds=round(height * width * frames / choice.speed))}, '
                     f'{choice.memory[size] / 2 ** 30:.1f} GiB'
                     for (size, (height, width)), frames in zip(SIZES.items(), (1, _FRAMES, _FRAMES), strict=True)]
            rows += [(model, name.partition(',')[0], describe_choice(choice), *cells) for model in network['models']]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return '\n'.join('  '.join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description='Measure what runs each installed model fastest on this machine, and keep it for '
                                   'the auto choices of the scripts.')
    parser.add_argument('names', nargs='*', metavar='MODEL', help='models to measure (default: those installed)')
    parser.add_argument('--seconds', type=float, default=_SECONDS, metavar='N',
                        help='about how long it may take (default: %(default)g)')
    args = parser.parse_args(argv)
    installed = list_installed()
    for name in args.names:
        if name not in installed:
            parser.error(f'{name!r} is not installed: choose from {", ".join(installed) or "none"}; '
                         'python -m realesrgan.weights fetches models')
    args.names = args.names or installed
    if not args.names:
        parser.error('no model is installed; python -m realesrgan.weights fetches them')
    if not 1 <= args.seconds < math.inf:
        parser.error(f'--seconds {args.seconds:g} is out of range: allowed is 1 or more')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, keep and print the profile; return the exit status."""
    args, start = _parse(argv), time.monotonic()
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    try:
        path = tune(args.names, args.seconds)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f'error: {error.filename}: {error.strerror}', file=sys.stderr)
        return 1
    print(f'{describe_results(path)}\n{path}, {time.monotonic() - start:.0f} s')
    return 0


if __name__ == '__main__':
    sys.exit(main())
