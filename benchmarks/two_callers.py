#!/usr/bin/env python3
"""Time callers that share one CPU: two threads of one upsampler, and two workers, each against one.

A service calls one upsampler from several threads, and `--num_process_per_gpu 2` starts two workers, which get half of
the cores each. Neither should be slower than one caller.
"""
from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import measure
import numpy as np
from cpu_engines import Case

from realesrgan.upscaling.upsampler import RealESRGANer
from realesrgan.workers.enhancers import build_enhancer
from realesrgan.workers.options import Place, UpsamplerOptions, list_places
from realesrgan.workers.pool import Report
from realesrgan.workers.process_pool import ProcessPool

CASES = ('realesr-animevideov3:640x448', 'RealESRGAN_x4plus:128x128')


class PictureUpscaler:
    """A worker that upscales the same picture again and again, and returns its engine."""

    def __init__(self, case: Case, engine: str, place: Place) -> None:
        self._picture = case.load_picture()
        upsampler = build_enhancer(UpsamplerOptions(case.model, engine=engine), None, place)
        assert isinstance(upsampler, RealESRGANer)  # there are no faces
        self.upsampler = upsampler

    def __call__(self, _: int, report: Report) -> str:
        self.upsampler.enhance(self._picture)
        return self.upsampler.engine.description


def call_in_threads(upsampler: RealESRGANer, picture: np.ndarray, pictures: int, threads: int) -> None:
    """Upscale a picture so many times, from several threads."""
    with ThreadPoolExecutor(threads) as executor:
        list(executor.map(upsampler.enhance, [picture] * pictures))


def run_workers(pool: ProcessPool, pictures: int) -> set[str]:
    """Upscale a picture so many times on all workers of a pool; return their engines."""
    return set(pool.map_unordered(range(pictures), print))


def time_case(case: Case, engine: str, pictures: int, runs: int) -> list[dict[str, Any]]:
    """Return a row for each kind of callers."""
    with ExitStack() as stack:
        upsampler = PictureUpscaler(case, engine, Place()).upsampler
        picture = case.load_picture()
        build = partial(PictureUpscaler, case, engine)
        pools = [stack.enter_context(ProcessPool(build, list_places((), count))) for count in (1, 2)]
        functions: dict[str, Callable[[], object]] = {
            'one thread': lambda: call_in_threads(upsampler, picture, pictures, 1),
            'two threads of one upsampler': lambda: call_in_threads(upsampler, picture, pictures, 2),
            'one worker': lambda: run_workers(pools[0], pictures),
            'two workers': lambda: run_workers(pools[1], pictures)}
        seconds = measure.take_turns(functions, runs)
        rates = {name: pictures * case.megapixels / np.median(values) for name, values in seconds.items()}
    baselines = {name: 'one worker' if 'worker' in name else 'one thread' for name in seconds}
    return [{'model': case.model, 'size': f'{case.width}x{case.height}', 'callers': name,
             'engine': upsampler.engine.description, 'megapixels/s': float(rates[name]),
             'times one': measure.times_faster(seconds[name], seconds[baselines[name]])} for name in seconds]


def main() -> None:
    """Print the table."""
    parser = measure.create_parser(__doc__, runs=3)
    parser.add_argument('--cases', type=Case.parse, nargs='+', metavar='MODEL:WIDTHxHEIGHT',
                        default=[Case.parse(case) for case in CASES], help=f'(default: {" ".join(CASES)})')
    parser.add_argument('--engine', default='auto', help='(default: %(default)s)')
    parser.add_argument('--pictures', type=int, default=8, help='that each run upscales (default: %(default)s)')
    args = parser.parse_args()
    table = measure.Table(args.json)
    for case in args.cases:
        table.add(time_case(case, args.engine, args.pictures, args.runs))


if __name__ == '__main__':
    main()
