"""What the benchmarks share: interleaved timing, tables, the machine's name."""
from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
PHOTO = PROJECT / 'inputs' / 'astronaut.jpg'
sys.path.insert(0, str(PROJECT))  # the benchmarks run from a checkout


def create_parser(description: str | None, runs: int) -> argparse.ArgumentParser:
    """Return a parser with --runs and --json."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--runs', type=int, default=runs, help='counted runs of each (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    return parser


def median_seconds(functions: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Time functions in turn, A B C A B C ..., after one uncounted round, so that a drifting machine is fair to all."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for counted in range(-1, runs):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if counted >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> str:
    """Name the processor, its cores, and the libraries."""
    import openvino
    import torch

    from realesrgan.engines.cpu import list_cpu_features, processor_name
    units = [name for name in ('amx_bf16', 'avx512_bf16', 'avx512f', 'avx2', 'asimd') if name in list_cpu_features()]
    return (f'{processor_name()}, {os.cpu_count()} cores, {" ".join(units)}; Python {platform.python_version()}, '
            f'torch {torch.__version__}, OpenVINO {openvino.__version__.split("-")[0]}')


class Table:
    """Prints rows as a Markdown table when they come, the machine above it, and keeps a JSON file of all of them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: list[Mapping[str, Any]] = []

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print rows and write the file, if one is named."""
        columns = list(rows[0])
        if not self._rows:
            print(f'{machine()}\n\n| {" | ".join(columns)} |\n|{"---|" * len(columns)}')
        for row in rows:
            cells = [f'{row[name]:.3g}' if isinstance(row[name], float) else str(row[name]) for name in columns]
            print(f'| {" | ".join(cells)} |', flush=True)
        self._rows += rows
        if self._path:
            self._path.write_text(json.dumps({'machine': machine(), 'rows': self._rows}, indent=1))


def report(rows: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """Print all rows of a table, and write them to a JSON file if one is named."""
    Table(path).add(rows)
