"""Shared by the benchmarks: interleaved timing, whole commands, tables, the machine's name."""
from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PHOTO = PROJECT / 'inputs' / 'astronaut.jpg'
_LAUNCHER = Path(__file__).resolve().with_name('launch.py')
sys.path.insert(0, str(PROJECT))  # the benchmarks run from a checkout

#: Features of processors that decide how fast an engine is, under Linux's names.
_TELLING_FEATURES = ('amx_bf16', 'avx512_bf16', 'avx512_vnni', 'avx512f', 'avx_vnni', 'avx2', 'fma', 'sve', 'i8mm',
                     'bf16', 'asimd')
_LIBRARIES = ('numpy', 'torch', 'openvino')


def create_parser(description: str | None, runs: int) -> argparse.ArgumentParser:
    """Return a parser with --runs and --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--runs', type=int, default=runs, help='counted runs of each (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    return parser


def add_other(parser: argparse.ArgumentParser) -> None:
    """Add --other, another checkout whose scripts are run in turn with ours."""
    parser.add_argument('--other', type=check_checkout, metavar='CHECKOUT',
                        help='also run the scripts of this checkout, in turn with ours')


def check_checkout(text: str) -> Path:
    """Return the folder of a checkout; `argparse` shows what is wrong with another one."""
    folder = Path(text).resolve()
    if not (folder / 'inference_realesrgan.py').exists():
        raise argparse.ArgumentTypeError(f'{text} holds no inference_realesrgan.py')
    return folder


def take_turns(functions: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Time functions in turn, A B C A B C ..., after one uncounted round, so that a drifting machine is fair to all.

    Returns:
        The seconds of each round, for each function.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for counted in range(-1, runs):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if counted >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_seconds(functions: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Return the medians of `take_turns`."""
    return {name: statistics.median(values) for name, values in take_turns(functions, runs).items()}


def times_faster(seconds: Sequence[float], baseline: Sequence[float]) -> float:
    """Return how many times as fast as a baseline something is: the median over rounds that both were run in."""
    return statistics.median(slow / fast for fast, slow in zip(seconds, baseline, strict=True))


@dataclass(frozen=True)
class Finished:
    """A process that has ended: its wall time, its peak memory, and its output."""

    seconds: float
    peak_mib: float
    output: str

    @property
    def engine(self) -> str:
        """The engine that one of our scripts names with `-v`; '' if it names none."""
        found = re.search(r'engine: (.+)', self.output)
        return found[1].strip() if found else ''


def run_process(command: Sequence[str | Path]) -> Finished:
    """Run a command. The peak is that of the largest of its processes.

    Raises:
        SystemExit: it failed.
    """
    result = subprocess.run([sys.executable, '-S', _LAUNCHER, *command], stdout=subprocess.PIPE, text=True, check=True)
    output, _, line = result.stdout.rstrip('\n').rpartition('\n')
    ended = json.loads(line)
    if ended['status']:
        raise SystemExit(f'{" ".join(map(str, command))} failed:\n{output}')
    return Finished(ended['seconds'], ended['peak_mib'], output)


def machine() -> str:
    """Name the processor, its cores, its features and cache, and the libraries."""
    from realesrgan.engines.cpu import list_cpu_features, measure_l2_cache, processor_name
    features = list_cpu_features()
    return (f'{processor_name()}, {os.cpu_count()} cores, {" ".join(f for f in _TELLING_FEATURES if f in features)}, '
            f'{measure_l2_cache() >> 10} KiB of L2 a core; Python {platform.python_version()}, '
            + ', '.join(f'{name} {_find_version(name)}' for name in _LIBRARIES))


def _find_version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return '(none)'


class Table:
    """Prints rows as a Markdown table when they come, the machine above it, and keeps a JSON file of all of them.

    Rows with other columns begin another table.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: list[Mapping[str, Any]] = []
        self._columns: list[str] = []

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print rows and write the file, if one is named."""
        columns = list(rows[0])
        if columns != self._columns:
            above = '' if self._rows else f'{machine()}\n'
            print(f'{above}\n| {" | ".join(columns)} |\n|{"---|" * len(columns)}')
            self._columns = columns
        for row in rows:
            cells = [f'{row[name]:.3g}' if isinstance(row[name], float) else str(row[name]) for name in columns]
            print(f'| {" | ".join(cells)} |', flush=True)
        self._rows += rows
        if self._path:
            self._path.write_text(json.dumps({'machine': machine(), 'rows': self._rows}, indent=1))


def report(rows: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """Print all rows of a table, and write them to a JSON file if one is named."""
    Table(path).add(rows)
