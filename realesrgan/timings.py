"""Measure the time and memory that a result takes."""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Self, TypeVar

#: The stages of a picture or a video, in order: weights are loaded for the first of each worker, only videos are
#: steadied, and reports compare results with their inputs.
STAGES = ('load', 'read', 'network', 'steady', 'write', 'check')

Item = TypeVar('Item')


class Timings(NamedTuple):
    """Time and memory that a result took.

    Attributes:
        model: The network's name.
        engine, device, precision: What ran it, where, and how exactly.
        tiles: Into how many tiles a picture, or a frame, was cut.
        seconds: Of each of `STAGES`. They overlap, and those of several workers add up.
        host_bytes: The most memory of the process that computed, since it started; 0 if unknown.
        gpu_bytes: The most memory that PyTorch took on the GPU; 0 if unknown.
    """

    model: str = ''
    engine: str = ''
    device: str = ''
    precision: str = ''
    tiles: int = 1
    seconds: Mapping[str, float] = {}
    host_bytes: int = 0
    gpu_bytes: int = 0

    def __add__(self, other: Self) -> Self:  # type: ignore[override]  # of tuples
        """Return the timings of both together: the sum of the seconds, the larger of all else."""
        return self._replace(
            seconds=dict(Counter(self.seconds) + Counter(other.seconds)), tiles=max(self.tiles, other.tiles),
            host_bytes=max(self.host_bytes, other.host_bytes), gpu_bytes=max(self.gpu_bytes, other.gpu_bytes))


class Stopwatch:
    """Adds up the seconds of each stage, each of which one thread measures.

    Attributes:
        seconds: So far, by stage.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the seconds of a block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - start  # type: ignore[assignment]  # seconds are no integers

    def measure_each(self, stage: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items, and add the seconds that they took to come."""
        iterator = iter(items)
        while True:
            with self.measure(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
            del item  # or it would stay in memory while the next one is read
