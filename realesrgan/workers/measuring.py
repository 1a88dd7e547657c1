"""Measure what a worker's results take."""
from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..engines.memory import measure_peaks
from ..measures import Effort
from .enhancers import Enhancer

Item = TypeVar('Item')


class Stages:
    """Adds up the seconds of each stage (`measures.STAGES`), each of which one thread measures.

    Attributes:
        seconds: So far.
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


def measure_effort(enhancer: Enhancer, stages: Stages) -> Effort:
    """Return what the results of a worker have taken."""
    engine, device, precision = enhancer.engine.description.split(', ')[:3]
    host, gpu = measure_peaks(enhancer.device_type)
    return Effort(engine, device, precision, max(len(enhancer.tiles), 1), dict(stages.seconds), host, gpu)
