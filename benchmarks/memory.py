#!/usr/bin/env python3
"""Measure what a network needs to run, in bytes per pixel of input: `memory` in `realesrgan/engines/engine.py`.

Each figure is the growth of a fresh process's peak memory between a small and a large picture; for Vulkan, that of what
the engine's allocator gave out.
"""
from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

MODELS = {'realesr-animevideov3': (256, 1024), 'RealESRGAN_x4plus': (64, 256)}
# Not winograd, which counts its own.
ENGINES = (('openvino', True), ('openvino', False), ('torch', True), ('torch', False), ('vulkan', True),
           ('vulkan', False))


def peak_bytes(model: str, engine: str, half: bool, side: int) -> int:
    """Return the peak memory of a fresh process that upscales one picture of side x side pixels."""
    command = [sys.executable, __file__, '--child', model, engine, str(int(half)), str(side)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def child(model: str, engine: str, half: str, side: str) -> None:
    """Run one network once, without the picture's own arrays, and print the peak memory."""
    from realesrgan.engines.choice import make_engine
    from realesrgan.weights import load_model
    network = load_model(model)
    run = make_engine(network, 'vulkan' if engine == 'vulkan' else 'cpu', half=half == '1', name=engine)
    picture = np.random.default_rng(0).integers(0, 256, (1, int(side), int(side), 3), np.uint8)
    run(picture)
    print(run._allocator.peak if engine == 'vulkan' else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--json', type=Path, help='also write the figures to this file')
    parser.add_argument('--child', nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    figures = {}
    for model, (small, large) in MODELS.items():
        for engine, half in ENGINES:
            growth = peak_bytes(model, engine, half, large) - peak_bytes(model, engine, half, small)
            figures[f'{model} {engine} {"half" if half else "fp32"}'] = growth / (large ** 2 - small ** 2)
    for name, value in figures.items():
        print(f'{name:<40}{value:>8.0f} bytes a pixel')
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == '__main__':
    main()
