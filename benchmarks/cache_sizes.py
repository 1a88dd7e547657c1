#!/usr/bin/env python3
"""Time the winograd engine with work sized for second-level caches of other sizes than this processor's.

It shows what is lost where the system does not say how large the cache is, or where several cores share it.
"""
from __future__ import annotations

from typing import Any

import measure
from cpu_engines import Case

from realesrgan.engines.cpu import list_cpu_features, measure_l2_cache
from realesrgan.engines.kernel.library import Kernel, list_variants, load_variant
from realesrgan.engines.winograd import WinogradEngine

CASES = ('realesr-animevideov3:640x448', 'RealESRGAN_x4plus:128x128')
SIZES = (256, 512, 1024, 1280, 2048)


def time_case(case: Case, kernel: Kernel, sizes: list[int], threads: int | None, runs: int) -> list[dict[str, Any]]:
    """Return a row for each size of cache in KiB."""
    network, picture = case.load_network(), case.load_picture()
    engines = {size: WinogradEngine(network, kernel, threads=threads, l2_bytes=size << 10) for size in sizes}
    seconds = measure.median_seconds({str(size): lambda engine=engine: engine(picture[None])
                                      for size, engine in engines.items()}, runs)
    best = min(seconds.values())
    return [{'model': case.model, 'size': f'{case.width}x{case.height}', 'kernel': kernel.variant,
             'sized for (KiB)': int(size), 'megapixels/s': case.megapixels / value, 'of the best': best / value}
            for size, value in seconds.items()]


def main() -> None:
    """Print the table."""
    variants = list_variants(list_cpu_features())
    parser = measure.create_parser(__doc__, runs=5)
    parser.add_argument('--cases', type=Case.parse, nargs='+', metavar='MODEL:WIDTHxHEIGHT',
                        default=[Case.parse(case) for case in CASES], help=f'(default: {" ".join(CASES)})')
    parser.add_argument('--variants', nargs='+', choices=variants, default=variants[:1],
                        help='of the kernel (default: %(default)s)')
    parser.add_argument('--sizes', type=int, nargs='+', default=sorted({*SIZES, measure_l2_cache() >> 10}),
                        metavar='KIB', help='of the cache (default: %(default)s)')
    parser.add_argument('--threads', type=int, help='of the engine (default: one per core)')
    args = parser.parse_args()
    table = measure.Table(args.json)
    for case in args.cases:
        for variant in args.variants:
            table.add(time_case(case, load_variant(variant), args.sizes, args.threads, args.runs))


if __name__ == '__main__':
    main()
