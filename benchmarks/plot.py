#!/usr/bin/env python3
"""Draw what `cpu_engines.py --json` wrote as an SVG: a group of bars for each network and size, a row for each file.

Transparent, with text in a gray that both themes of GitHub show. It needs matplotlib, which comes with basicsr.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEXT, OURS, OTHERS = '#757d87', '#2f81f7', '#8b949e'
_BAR_INCHES, _HEAD_INCHES, _PANEL_INCHES, _NAME_INCHES = 0.27, 0.62, 2.3, 2.1

Bars = Mapping[str, float]


def read_groups(path: Path) -> dict[str, Bars]:
    """Return megapixels of input a second by engine, for each network and size in a file of `cpu_engines.py`."""
    groups: dict[str, dict[str, float]] = {}
    for row in json.loads(path.read_text())['rows']:
        if row['megapixels/s'] != '':  # matrix products have none
            groups.setdefault(f'{row["model"]}, {row["size"]}', {})[row['engine']] = row['megapixels/s']
    return groups


def shorten(engine: str) -> str:
    """Return an engine's description without what all of them have in common."""
    return engine.replace(', cpu', '').replace(', NCHW', '')


def draw_panel(axes: Axes, group: Bars, engines: Sequence[str]) -> None:
    """Draw a group as bars from top to bottom, each with its figure."""
    values = [group.get(engine, 0.0) for engine in engines]
    bars = axes.barh(range(len(engines)), values, 0.72,
                     color=[OURS if engine.startswith('winograd') else OTHERS for engine in engines])
    axes.bar_label(bars, [f'{value:.3g}' if value else '' for value in values], padding=3, color=TEXT, fontsize=8)
    axes.set_ylim(len(engines) - 0.4, -0.6)
    axes.set_xlim(0, max(values) * 1.25)  # room for the figures
    axes.set_yticks(range(len(engines)), map(shorten, engines))
    axes.set_xticks([])
    axes.tick_params(length=0, colors=TEXT, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side == 'left')
        spine.set_color(TEXT)


def draw(files: Mapping[str, Mapping[str, Bars]], output: Path) -> None:
    """Draw a row of panels for each file, by its label, which stands above the row ('' for none)."""
    import matplotlib
    matplotlib.use('agg')
    from matplotlib import pyplot
    matplotlib.rcParams.update({'svg.fonttype': 'path', 'svg.hashsalt': 'realesrgan', 'font.family': 'DejaVu Sans'})
    engines = {label: list(dict.fromkeys(engine for group in groups.values() for engine in group))
               for label, groups in files.items()}
    columns = max(map(len, files.values()))
    heights = [_HEAD_INCHES + _BAR_INCHES * len(names) for names in engines.values()]
    width, height = _NAME_INCHES + _PANEL_INCHES * columns, sum(heights) + 0.3
    figure = pyplot.figure(figsize=(width, height))
    top = height
    for (label, groups), row_height in zip(files.items(), heights, strict=True):
        if label:
            figure.text(0.1 / width, (top - 0.22) / height, label, color=TEXT, fontsize=9, weight='bold', va='top')
        for column, (title, group) in enumerate(groups.items()):
            left = _NAME_INCHES + _PANEL_INCHES * column
            axes = figure.add_axes((left / width, (top - row_height) / height, (_PANEL_INCHES - 0.15) / width,
                                    (row_height - _HEAD_INCHES) / height), facecolor='none')
            draw_panel(axes, group, engines[label])
            axes.set_title(title.replace(', ', '\n'), color=TEXT, fontsize=8.5, loc='left')
            if column:
                axes.set_yticklabels([])
        top -= row_height
    figure.text(_NAME_INCHES / width, 0.08 / height, 'megapixels of input a second; longer is faster', color=TEXT,
                fontsize=8)
    figure.savefig(output, format='svg', transparent=True, metadata={'Date': None})
    pyplot.close(figure)


def main() -> None:
    """Draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', type=Path, nargs='+', metavar='FILE', help='of cpu_engines.py --json')
    parser.add_argument('--labels', nargs='+', metavar='TEXT', help='of the rows, one for each file')
    parser.add_argument('--output', type=Path, default=Path(__file__).parent.parent / 'docs' / 'cpu_engines.svg',
                        help='(default: docs/cpu_engines.svg)')
    args = parser.parse_args()
    labels = args.labels or ([''] if len(args.files) == 1 else [path.stem for path in args.files])
    if len({*labels}) != len(args.files):
        parser.error('--labels: as many as there are files are needed, each another')
    try:
        draw({label: read_groups(path) for label, path in zip(labels, args.files, strict=True)}, args.output)
    except ImportError as error:
        raise SystemExit(f'{error}: pip install matplotlib') from error


if __name__ == '__main__':
    main()
