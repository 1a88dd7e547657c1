#!/usr/bin/env python3
"""Time what the processor's instructions allow, and what the kernel reaches: its matrix product and whole networks.

One thread. `--plot` draws `docs/cpu_peak.svg`.
"""
from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import measure
import numpy as np

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines.cpu import list_cpu_features
from realesrgan.engines.devices import CPU
from realesrgan.engines.kernel import build
from realesrgan.engines.kernel.library import FOLDER, VARIANTS, Variant, list_variants, load_variant
from realesrgan.engines.winograd import WinogradEngine, allocate

TILES_OF_PRODUCT = 28
ROUNDS_OF_REGISTERS, ROUNDS_OF_PRODUCT = 2_000_000, 100
CHANNELS = 64
HEIGHT, WIDTH = 256, 256
PLOT = measure.PROJECT / 'docs' / 'cpu_peak.svg'


def compile_loops(variant: Variant, folder: Path) -> ctypes.CDLL:
    """Compile `peak.c` as the kernel is compiled for an instruction set."""
    library = folder / f'{variant.name}.so'
    subprocess.run([*build.list_compilers()[0], *build.FLAGS, *variant.flags, '-w', f'-I{FOLDER}',
                    str(Path(__file__).with_suffix('.c')), '-o', str(library)], check=True)
    loops = ctypes.CDLL(str(library))
    loops.peak_registers.argtypes = ctypes.c_int64, ctypes.c_int
    loops.peak_registers.restype = ctypes.c_float
    loops.peak_products.argtypes = (ctypes.c_int64, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p,
                                    ctypes.c_int)
    loops.peak_products.restype = None
    return loops


def time_variant(variant: Variant, folder: Path, runs: int) -> list[dict[str, Any]]:
    """Return a row for float32 and, if there is such a product, one for int16."""
    loops, kernel = compile_loops(variant, folder), load_variant(variant.name)
    vector = 16 if variant.name.startswith('avx512') else 8
    blocks = TILES_OF_PRODUCT // kernel.block
    tiles = blocks * kernel.block
    v, u, m = (allocate(36 * count * CHANNELS) for count in (tiles, kernel.panel, tiles))
    config = SRVGGNetCompactConfig()
    layers = config.layers()
    rng = np.random.default_rng(0)
    arrays = {name: (rng.standard_normal(shape) * 0.05).astype(np.float32)
              for name, shape in layers.parameter_shapes().items()}
    picture = rng.integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    products = 36 * (HEIGHT // 4) * (WIDTH // 4) * sum(
        arrays[f'{layer.name}.weight'].shape[0] * arrays[f'{layer.name}.weight'].shape[1]
        for layer in layers.convolutions)
    rows = []
    for ints in (False, True) if kernel.has_ints else (False,):
        engine = WinogradEngine(LoadedNetwork(config, arrays), CPU, 'int16' if ints else 'float32', 1, kernel=kernel)

        def run_registers(ints: bool = ints) -> None:
            loops.peak_registers(ROUNDS_OF_REGISTERS, int(ints))

        def run_products(ints: bool = ints) -> None:
            loops.peak_products(ROUNDS_OF_PRODUCT, blocks, v.ctypes.data, u.ctypes.data, m.ctypes.data, int(ints))

        def run_network(engine: WinogradEngine = engine) -> None:
            engine(picture)

        functions: Mapping[str, Callable[[], object]] = {'registers': run_registers, 'product': run_products,
                                                         'network': run_network}
        seconds = {name: min(values) for name, values in measure.take_turns(functions, runs).items()}
        sums = kernel.block * kernel.panel // vector
        peak = ROUNDS_OF_REGISTERS * sums * vector * (2 if ints else 1) / seconds['registers'] / 1e9
        product = ROUNDS_OF_PRODUCT * 36 * tiles * CHANNELS * kernel.panel / seconds['product'] / 1e9
        network = products / seconds['network'] / 1e9
        rows.append({'kernel': variant.name, 'instruction': ('vpdpwssd' if ints else 'fma') + f' {32 * vector}',
                     'peak, 10^9 products/s': peak, 'matrix product': product, '% of the peak': 100 * product / peak,
                     'whole network': network, '% of its time not products': 100 * (1 - network / product)})
    return rows


def draw(rows: list[dict[str, Any]]) -> None:
    """Draw three bars for each row."""
    import matplotlib
    matplotlib.use('agg')
    from matplotlib import pyplot
    from plot import OTHERS, OURS, TEXT
    matplotlib.rcParams.update({'svg.fonttype': 'path', 'svg.hashsalt': 'realesrgan', 'font.family': 'DejaVu Sans'})
    figure, axes = pyplot.subplots(figsize=(6.4, 0.75 * len(rows) + 0.6))
    colours = {'peak, 10^9 products/s': OTHERS, 'matrix product': OURS, 'whole network': OURS}
    for index, (column, colour) in enumerate(colours.items()):
        bars = axes.barh([3.6 * row + index for row in range(len(rows))], [row[column] for row in rows], 0.85,
                         color=colour, alpha=0.6 if column == 'whole network' else 1)
        name = column.split(',')[0]
        axes.bar_label(bars, [f'{row[column]:.3g}  {name}' for row in rows], padding=3, color=TEXT, fontsize=8)
    axes.set_yticks([3.6 * row + 1 for row in range(len(rows))],
                    [f'{row["kernel"]}\n{row["instruction"]}' for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(row['peak, 10^9 products/s'] for row in rows))
    axes.set_xticks([])
    axes.tick_params(length=0, colors=TEXT, labelsize=8)
    axes.set_title('10⁹ products a second, one thread', color=TEXT, fontsize=8.5, loc='left')
    for side, spine in axes.spines.items():
        spine.set_visible(side == 'left')
        spine.set_color(TEXT)
    figure.savefig(PLOT, format='svg', transparent=True, bbox_inches='tight', metadata={'Date': None})


def main() -> None:
    """Time, print a table, draw."""
    parser = measure.create_parser(__doc__, runs=9)
    parser.add_argument('--plot', action='store_true', help=f'draw {PLOT.relative_to(measure.PROJECT)}')
    args = parser.parse_args()
    names = list_variants(list_cpu_features())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS:
            # What has int16 has the same float32, so that its sister would say the same again.
            if variant.name in names and variant.name != 'avx512':
                rows += time_variant(variant, Path(folder), args.runs)
    measure.report(rows, args.json)
    if args.plot:
        draw(rows)


if __name__ == '__main__':
    main()
