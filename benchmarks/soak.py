#!/usr/bin/env python3
"""Run pictures and clips for some time with random options and engines, kill processes, and count what gets lost.

A round draws inputs and options and runs the script undisturbed. Then it runs the same command for another folder, and
meanwhile kills the process, a worker or an ffmpeg, at some moment, while parts are joined or while weights are
downloaded, and damages finished parts. The same command is run again until it succeeds. Its results must be those of
the undisturbed run, and nothing else may be left: files, folders, processes, tracebacks. Beside the rounds one process
calls the library over and over, whose memory must not grow. The exit status is 1 if anything was lost.
"""
from __future__ import annotations

import argparse
import contextlib
import logging
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import measure
import psutil
import soak_cases
from soak_cases import Server
from soak_rounds import Round, Tally

WARM_UP_CALLS = 6
MEMORY_MAY_GROW = 0.05


def call_library(folder: Path, seed: int, soak: Connection) -> None:
    """Upscale the same pictures and a clip over and over until the soak sends something, or is no more.

    Sends the number of calls and of mismatches, and the memory after warm-up and at the end.
    """
    from realesrgan.pictures import PictureOptions, upscale_pictures
    from realesrgan.videos import VideoOptions, upscale_videos
    logging.getLogger('realesrgan').setLevel(logging.ERROR)
    draw, sides = random.Random(seed), soak_cases.SIDES['realesr-animevideov3']
    pictures = {soak_cases.make_picture(folder / 'inputs', draw, sides) for _ in range(4)}
    clip = soak_cases.make_clip(folder / 'inputs', draw, sides)
    options = PictureOptions(model_name='realesr-animevideov3')
    first: dict[str, str] = {}
    calls = mismatches = warm = pause = 0
    process = psutil.Process()
    while not soak.poll(pause):
        start = time.perf_counter()
        upscale_pictures(sorted(map(str, pictures)), folder / 'library', options)
        upscale_videos([str(clip)], folder / 'library', VideoOptions(num_process_per_gpu=1 + calls % 2))
        found = soak_cases.hash_results(folder / 'library')
        shutil.rmtree(folder / 'library')
        mismatches += found != (first := first or found)
        calls += 1
        if calls == WARM_UP_CALLS:
            warm = process.memory_info().rss
        pause = 2 * (time.perf_counter() - start)  # leaves the processor to the rounds
    with contextlib.suppress(BrokenPipeError):
        soak.send((calls, mismatches, warm, process.memory_info().rss))


class Library:
    """A process that runs `call_library` until `finish`."""

    def __init__(self, folder: Path, seed: int) -> None:
        context = multiprocessing.get_context('spawn')
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=call_library, args=(folder, seed, theirs))
        self._process.start()
        theirs.close()

    def finish(self, tally: Tally) -> list[dict[str, Any]]:
        """End it, count what it lost, and return the rows of a table."""
        try:
            self._connection.send('stop')
            calls, mismatches, warm, end = self._connection.recv()
        except (EOFError, OSError):
            calls, mismatches, warm, end = 0, 1, 0, 0  # it has said why
        self._process.join()
        grown = bool(warm) and abs(end - warm) > MEMORY_MAY_GROW * warm
        tally.lost['failures of the library'] += mismatches + grown
        return [{'what': 'calls of the library', 'count': calls},
                {'what': 'its MiB after warm-up', 'count': warm / 2 ** 20 if warm else ''},
                {'what': 'its MiB at the end', 'count': end / 2 ** 20}]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=30, help='no round begins later (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=1, help='what is drawn (default: %(default)s)')
    parser.add_argument('--round', type=int, metavar='N', help='this round alone')
    parser.add_argument('--kills', type=int, default=3, metavar='N', help='at most, a round (default: %(default)s)')
    parser.add_argument('--damage', type=int, default=2, metavar='N',
                        help='parts that are damaged after a kill, at most (default: %(default)s)')
    parser.add_argument('--folder', type=Path, help='to work in, where what was lost can be seen (default: a new one)')
    parser.add_argument('--library', action=argparse.BooleanOptionalAction, default=True,
                        help='whether a process calls the library meanwhile')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run rounds, print tables and return the exit status."""
    args = parse(arguments)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs behind; children inherit that
        signal.signal(signal.SIGINT, signal.default_int_handler)
    args.folder = Path(args.folder or tempfile.mkdtemp(prefix='soak-')).resolve()
    (args.folder / 'inputs').mkdir(parents=True, exist_ok=True)
    tally, known, engines, process = Tally(), {}, soak_cases.list_engines(), psutil.Process()
    library = Library(args.folder, args.seed) if args.library else None
    start, number, memory = time.perf_counter(), args.round or 1, 0
    with Server() as server:
        while number == (args.round or 1) or (args.round is None and time.perf_counter() - start < 60 * args.minutes):
            Round(number, args, server, tally, engines, known).run()
            memory = memory or process.memory_info().rss
            number += 1
        tally.counts['downloads cut'] += server.cut
    rows = library.finish(tally) if library else []
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    table = measure.Table(args.json)
    table.add([*tally.list_rows(), {'what': 'seconds', 'count': round(time.perf_counter() - start)},
               {'what': 'own MiB after the first round', 'count': memory >> 20},
               {'what': 'own MiB at the end', 'count': process.memory_info().rss >> 20},
               {'what': 'peak MiB of the largest child', 'count': peak >> 20}, *rows])
    if tally.kills:
        table.add([{'signal': number, 'victim': victim, 'meanwhile': doing, 'kills': count}
                   for (number, victim, doing), count in sorted(tally.kills.items())])
    return int(tally.lost.total() > 0)


if __name__ == '__main__':
    sys.exit(main())
