#!/usr/bin/env python3
"""How many films a day does a cluster make, and what limits it? A simulation, and a check of it against real runs:

    python benchmarks/cluster_model.py --workers 1 10 100 1000 --seconds 8
    python benchmarks/cluster_model.py --check

Films are cut into chunks, which workers take one after the other; the machine that gave the command opens the next film
when few chunks are left, and joins those that are done meanwhile. What a chunk takes must be measured on the machine
that is meant (`--report` says it); all else has defaults measured here. The check runs tasks that sleep on Ray clusters
of this machine with 1 to 4 workers.
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
        films: Given to one command.
        chunks: Of a film.
        seconds: Of computing, for a chunk.
        size: Read and written for a chunk.
        storage: What the shared folder reads and writes together.
        joining: What the machine that joins reads and writes.
        start: Until the first worker works.
        opening: Of a film, until its chunks are known.
        overhead: Of a task on its way there and back.
        head: Tasks that one command hands out.
        failures: Of a worker, an hour; it loses the chunk it has, and is back after `start`.
    """

    workers: int = 1
    films: int = 20
    chunks: int = 600
    seconds: float = 8.0
    size: float = 40e6
    storage: float = 1e9
    joining: float = 300e6
    start: float = 6.0
    opening: float = 3.0
    overhead: float = 0.01
    head: float = 400.0
    failures: float = 0.01


def simulate(cluster: Cluster, seed: int = 0) -> float:
    """Return the seconds from the command to the last film."""
    random, free = Random(seed), [cluster.start] * cluster.workers
    busy = cluster.seconds + cluster.overhead
    # Alone, or with so many others that the shared folder is never idle.
    moving = max(cluster.size, cluster.size * min(cluster.workers, cluster.films * cluster.chunks)
                 - busy * cluster.storage)
    each = busy + moving / cluster.storage
    few_left = handed = cluster.start
    joined = [0.0] * 3
    for _ in range(cluster.films):
        opened = max(few_left, joined[-3]) + cluster.opening  # at most two films are being joined
        waiting, ended, few_left = cluster.chunks, 0.0, opened
        while waiting:
            begin = max(heapq.heappop(free), handed, opened)
            handed = max(handed, begin - 1 / cluster.head) + 1 / cluster.head
            if cluster.failures and random.random() < cluster.failures * each / 3600:
                heapq.heappush(free, begin + random.random() * each + cluster.start)
                continue
            waiting -= 1
            if waiting == cluster.workers:
                few_left = begin
            ended = max(ended, begin + each)
            heapq.heappush(free, begin + each)
        joined.append(max(ended, joined[-1]) + cluster.chunks * cluster.size / cluster.joining)
    return joined[-1]


#: What could be different, for finding the limit.
REMEDIES = {
    'more workers': lambda cluster: replace(cluster, workers=2 * cluster.workers),
    'faster storage': lambda cluster: replace(cluster, storage=4 * cluster.storage),
    'a faster disk where films are joined': lambda cluster: replace(cluster, joining=4 * cluster.joining),
    'a smaller --chunk': lambda cluster: replace(cluster, chunks=4 * cluster.chunks, seconds=cluster.seconds / 4,
                                                 size=cluster.size / 4),
    'several commands at once': lambda cluster: replace(
        cluster, joining=4 * cluster.joining, opening=cluster.opening / 4, head=4 * cluster.head)}


def find_limit(cluster: Cluster) -> str:
    """Return what would help most; of equals, what costs least is last."""
    now = simulate(cluster)
    gains = {name: now / simulate(change(cluster)) for name, change in REMEDIES.items()}
    best = max(gains, key=lambda name: round(gains[name], 2))
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


def run_for_real(workers: int, chunks: int, seconds: float, films: int = 1) -> float:
    """Return the seconds that sleeping tasks take on a cluster of this machine, in a process of its own."""
    program = f'import cluster_model; print(cluster_model.time_tasks({workers}, {chunks}, {seconds}, {films}))'
    result = subprocess.run([sys.executable, '-c', program], cwd=Path(__file__).parent, check=True,
                            stdout=subprocess.PIPE, text=True)
    return float(result.stdout.split()[-1])


def time_tasks(workers: int, chunks: int, seconds: float, films: int) -> float:
    """Do what `run_for_real` says in this process, which must end then."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    from realesrgan.workers.ray_pool import Node, RayPool
    from realesrgan.workers.sharing import run_sharing
    nodes = Nodes(initialize_head=True, head_node_args={'num_cpus': 1, 'include_dashboard': False})
    for _ in range(workers - 1):
        nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False, logging_level=logging.ERROR, runtime_env={
        'env_vars': {'PYTHONPATH': f'{PROJECT}:{Path(__file__).parent}'}})
    found = [Node(node['NodeID'], node['NodeID'], 1) for node in ray.nodes()]

    def make_film() -> None:
        assert len(list(pool.map_unordered([seconds] * chunks, lambda _: None))) == chunks
    start = time.perf_counter()
    with RayPool(Sleeper, lambda: found) as pool:
        run_sharing([make_film] * films, pool, lambda: None)
        return time.perf_counter() - start


def check(chunks: int = 11, seconds: float = 2.0) -> Iterator[tuple[int, int, float, float]]:
    """Yield the numbers of workers and films, the seconds of a real run and those that were simulated."""
    for workers in (1, 2, 3, 4):
        start = run_for_real(workers, workers, 0.1) - 0.1  # longer for several on one machine
        for films in (1, 2):
            model = Cluster(workers, films, chunks, seconds, 0, 1e12, 1e12, start, 0, 0.01, failures=0)
            yield workers, films, run_for_real(workers, chunks, seconds, films), simulate(model)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 10, 100, 1000])
    for name in ('films', 'chunks', 'seconds', 'size', 'storage', 'joining', 'start', 'opening', 'overhead', 'head',
                 'failures'):
        parser.add_argument(f'--{name}', type=type(getattr(Cluster, name)), default=getattr(Cluster, name))
    parser.add_argument('--check', action='store_true', help='compare with real runs, which takes five minutes')
    args = parser.parse_args()
    if args.check:
        print('| workers | films | measured s | simulated s | difference |\n|---|---|---|---|---|')
        for workers, films, measured, simulated in check():
            print(f'| {workers} | {films} | {measured:.1f} | {simulated:.1f} | {simulated / measured - 1:+.1%} |',
                  flush=True)
        return 0
    print('| workers | films a day | workers busy | what helps most |\n|---|---|---|---|')
    for workers in args.workers:
        given = {name: value for name, value in vars(args).items() if name != 'check'}
        cluster = Cluster(**given | {'workers': workers})
        seconds = simulate(cluster)
        work = cluster.films * cluster.chunks * cluster.seconds / workers
        print(f'| {workers} | {86400 * cluster.films / seconds:.1f} | {work / seconds:.0%} | {find_limit(cluster)} |')
    return 0


if __name__ == '__main__':
    sys.exit(main())
