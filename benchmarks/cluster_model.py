#!/usr/bin/env python3
"""How many films a day does a cluster make, and what limits it? A simulation, and a check of it against real runs:

    python benchmarks/cluster_model.py --workers 1 10 100 1000 --seconds 8
    python benchmarks/cluster_model.py --check

A film is cut into chunks; workers take one after the other; the machine that gave the command joins them, and then
begins with the next film. What a chunk takes must be measured on the machine that is meant (`--report` says it); all
else has defaults measured here. The check runs tasks that sleep on Ray clusters of this machine with 1 to 4 workers.
"""
from __future__ import annotations

import argparse
import heapq
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

PROJECT = Path(__file__).parents[1]
sys.path[:0] = [str(PROJECT), str(Path(__file__).parent)]


@dataclass(frozen=True)
class Cluster:
    """What a run is made of. Times are seconds, sizes bytes, rates a second.

    Attributes:
        workers: How many there are.
        chunks: Of a film.
        seconds: Of computing, for a chunk.
        size: Read and written for a chunk.
        storage: What the shared folder reads and writes together.
        joining: What the machine that joins reads and writes.
        start: Until the first worker works.
        overhead: Of a task on its way there and back.
        head: Tasks that one command hands out.
        failures: Of a worker, an hour; it loses the chunk it has, and is back after `start`.
    """

    workers: int = 1
    chunks: int = 600
    seconds: float = 8.0
    size: float = 40e6
    storage: float = 1e9
    joining: float = 300e6
    start: float = 6.0
    overhead: float = 0.01
    head: float = 400.0
    failures: float = 0.01


def simulate(cluster: Cluster, seed: int = 0) -> float:
    """Return the seconds from the command to the last part of a film, without joining."""
    random, free = Random(seed), [cluster.start] * cluster.workers
    busy = cluster.seconds + cluster.overhead
    # Alone, or with so many others that the shared folder is never idle.
    moving = max(cluster.size, cluster.size * min(cluster.workers, cluster.chunks) - busy * cluster.storage)
    each = busy + moving / cluster.storage
    handed, ended = cluster.start, 0.0
    waiting = cluster.chunks
    while waiting:
        begin = max(heapq.heappop(free), handed)
        handed = max(handed, begin - 1 / cluster.head) + 1 / cluster.head
        end = begin + each
        if cluster.failures and random.random() < cluster.failures * each / 3600:
            heapq.heappush(free, begin + random.random() * each + cluster.start)
            continue
        waiting -= 1
        ended = max(ended, end)
        heapq.heappush(free, end)
    return ended


def make_film(cluster: Cluster) -> float:
    """Return the seconds of a film: its parts, and joining them, during which no worker works."""
    return simulate(cluster) + cluster.chunks * cluster.size / cluster.joining


#: What could be different, for finding the limit.
REMEDIES = {
    'more workers': lambda cluster: replace(cluster, workers=2 * cluster.workers),
    'faster storage': lambda cluster: replace(cluster, storage=4 * cluster.storage, joining=4 * cluster.joining),
    'a smaller --chunk': lambda cluster: replace(cluster, chunks=4 * cluster.chunks, seconds=cluster.seconds / 4,
                                                 size=cluster.size / 4),
    'several commands at once': lambda cluster: replace(cluster, joining=1e15, start=0, head=1e9)}


def find_limit(cluster: Cluster) -> str:
    """Return what would help most."""
    now = make_film(cluster)
    gains = {name: now / make_film(change(cluster)) for name, change in REMEDIES.items()}
    best = max(gains, key=gains.__getitem__)
    return f'{best} ({gains[best]:.2f} times as fast)'


# ---- the check ----

class Sleeper:
    """Sleeps for as long as its task says, and reports as often as a worker on a film would."""

    def __init__(self, place: Any) -> None:
        self.place = place

    def __call__(self, seconds: float, report: Any) -> float:
        for number in range(20):
            time.sleep(seconds / 20)
            report(number)
        return seconds


def run_for_real(workers: int, chunks: int, seconds: float) -> float:
    """Return the seconds that sleeping tasks take on a cluster of this machine, in a process of its own."""
    program = f'import cluster_model; print(cluster_model.time_tasks({workers}, {chunks}, {seconds}))'
    result = subprocess.run([sys.executable, '-c', program], cwd=Path(__file__).parent, check=True,
                            stdout=subprocess.PIPE, text=True)
    return float(result.stdout.split()[-1])


def time_tasks(workers: int, chunks: int, seconds: float) -> float:
    """Do what `run_for_real` says in this process, which must end then."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    from realesrgan.workers.ray_pool import Node, RayPool
    nodes = Nodes(initialize_head=True, head_node_args={'num_cpus': 1, 'include_dashboard': False})
    for _ in range(workers - 1):
        nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={
        'env_vars': {'PYTHONPATH': f'{PROJECT}:{Path(__file__).parent}'}})
    found = [Node(node['NodeID'], node['NodeID'], 1) for node in ray.nodes()]
    start = time.perf_counter()
    with RayPool(Sleeper, lambda: found) as pool:
        assert len(list(pool.map_unordered([seconds] * chunks, lambda _: None))) == chunks
        return time.perf_counter() - start


def check(chunks: int = 24, seconds: float = 2.0) -> Iterator[tuple[int, float, float]]:
    """Yield the number of workers, the seconds of a real run and those that were simulated."""
    for workers in (1, 2, 3, 4):
        start = run_for_real(workers, workers, 0.1) - 0.1  # longer for several on one machine
        model = Cluster(workers, chunks, seconds, 0, 1e12, 1e12, start, 0.01, failures=0)
        yield workers, run_for_real(workers, chunks, seconds), simulate(model)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 10, 100, 1000])
    for name in ('chunks', 'seconds', 'size', 'storage', 'joining', 'start', 'overhead', 'head', 'failures'):
        parser.add_argument(f'--{name}', type=type(getattr(Cluster, name)), default=getattr(Cluster, name))
    parser.add_argument('--check', action='store_true', help='compare with real runs, which takes two minutes')
    args = parser.parse_args()
    if args.check:
        print('| workers | measured s | simulated s | difference |\n|---|---|---|---|')
        for workers, measured, simulated in check():
            print(f'| {workers} | {measured:.1f} | {simulated:.1f} | {simulated / measured - 1:+.1%} |', flush=True)
        return 0
    print('| workers | films a day | hours a film | what helps most |\n|---|---|---|---|')
    for workers in args.workers:
        given = {name: value for name, value in vars(args).items() if name != 'check'}
        cluster = Cluster(**given | {'workers': workers})
        seconds = make_film(cluster)
        print(f'| {workers} | {86400 / seconds:.1f} | {seconds / 3600:.2f} | {find_limit(cluster)} |')
    return 0


if __name__ == '__main__':
    sys.exit(main())
