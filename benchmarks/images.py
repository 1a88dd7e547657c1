#!/usr/bin/env python3
"""Time the whole image script, from the shell's view, against a bare script that runs the network as the original does.

The bare script imports what the original imports and does nothing but read, run (torch float32, NCHW) and write.
Peak memory is the process's own. The last table says what share of a folder's time is not the network.
"""
from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import measure
import numpy as np

if TYPE_CHECKING:
    from realesrgan.engines.engine import Engine

MODEL = 'RealESRGAN_x4plus'


def bare(model: str, folder: str, output: str) -> None:
    """Do what the original's script does, without its options."""
    import types

    import torch
    import torchvision.transforms.functional as functional
    moved = types.ModuleType('torchvision.transforms.functional_tensor')  # gone since torchvision 0.17
    moved.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[moved.__name__] = moved
    import basicsr.archs.rrdbnet_arch
    import basicsr.utils.download_util  # noqa: F401

    from realesrgan.weights import load_model
    network = load_model(model)
    Path(output).mkdir(exist_ok=True)
    for path in sorted(Path(folder).iterdir()):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / 255
        batch = torch.from_numpy(np.transpose(picture[..., ::-1], (2, 0, 1)).copy())[None]
        with torch.no_grad():
            result = network(batch).squeeze().float().cpu().clamp_(0, 1).numpy()
        cv2.imwrite(f'{output}/{path.name}', (np.transpose(result[::-1], (1, 2, 0)) * 255).round().astype(np.uint8))


def run(command: list[str]) -> tuple[float, float]:
    """Return a process's seconds and its peak memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f'{" ".join(command)} failed')
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def compared(name: str, first: list[str], second: list[str], runs: int) -> list[dict[str, Any]]:
    """Run two commands in turn and return a row for each; the first is the baseline."""
    figures: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    run(second)
    for _ in range(runs):
        for index, command in enumerate((first, second)):
            figures[index].append(run(command))
    medians = [[statistics.median(values) for values in zip(*figures[index], strict=True)] for index in (0, 1)]
    ratio = statistics.median(a[0] / b[0] for a, b in zip(figures[0], figures[1], strict=True))
    return [{'case': name, 'what': what, 'seconds': seconds, 'times faster': times, 'peak MiB': int(peak)}
            for what, times, (seconds, peak) in zip(('bare script', 'ours'), (1.0, ratio), medians, strict=True)]


class Timed:
    """An engine that adds up its seconds; all else is the engine's own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        try:
            return self._engine(batch)
        finally:
            self.seconds += time.perf_counter() - start


def share_beside_network(folder: Path, output: Path) -> float:
    """Return which part of a folder's wall time the network is not running, once it has run a picture of their size."""
    from realesrgan.engines.choice import make_engine
    from realesrgan.engines.devices import pick_device
    from realesrgan.events import Outcome
    from realesrgan.pictures.inputs import find_pictures
    from realesrgan.pictures.names import plan
    from realesrgan.pictures.worker import PictureTask, PictureWorker, ResultOptions
    from realesrgan.upscaling.upsampler import RealESRGANer
    from realesrgan.weights import load_model
    network = load_model(MODEL)
    engine = Timed(make_engine(network, pick_device(), half=True))
    upsampler = RealESRGANer(4, None, model=network, pre_pad=0, engine=engine)
    jobs = plan(find_pictures([str(folder)]), output, 'out', 'auto')
    upsampler.enhance(cv2.imread(str(jobs[0].source)))
    engine.seconds = 0.0
    start = time.perf_counter()
    notes: list[object] = []
    PictureWorker(upsampler, ResultOptions(4, 'realesrgan', 95))(PictureTask(jobs, set()), notes.append)
    seconds = time.perf_counter() - start
    for note in notes:
        if isinstance(note, Outcome) and note.error is not None:
            raise note.error
    return 1 - engine.seconds / seconds


def main() -> None:
    """Print the tables."""
    parser = measure.create_parser(__doc__, runs=3)
    parser.add_argument('--pictures', type=int, default=20, help='in the folder (default: %(default)s)')
    parser.add_argument('--sides', type=int, nargs=2, default=(512, 256), metavar='PIXELS',
                        help='of the single photo and of those in the folder (default: 512 256)')
    parser.add_argument('--bare', nargs=3, help='run the bare script: MODEL FOLDER OUTPUT')
    args = parser.parse_args()
    if args.bare:
        bare(*args.bare)
        return
    photo = cv2.imread(str(measure.PHOTO))
    table = measure.Table(args.json)
    with tempfile.TemporaryDirectory() as temporary:
        for name, count, side in zip(('one photo', 'a folder'), (1, args.pictures), args.sides, strict=True):
            folder = Path(temporary) / f'{count}x{side}'
            folder.mkdir()
            for index in range(count):
                cv2.imwrite(str(folder / f'{index:03}.png'), np.roll(cv2.resize(photo, (side, side)), index, axis=1))
            script = [sys.executable, str(measure.PROJECT / 'inference_realesrgan.py'), '-n', MODEL, '-i', str(folder),
                      '-o', f'{temporary}/ours']
            table.add(compared(f'{name} of {side}x{side}, {count}', [
                sys.executable, __file__, '--bare', MODEL, str(folder), f'{temporary}/bare'], script, args.runs))
        tiny = Path(temporary) / 'tiny.png'
        cv2.imwrite(str(tiny), cv2.resize(photo, (64, 64)))
        rows = compared('start-up: 64x64, animevideov3', [sys.executable, '-c', 'import torch, cv2'], [
            sys.executable, str(measure.PROJECT / 'inference_realesrgan.py'), '-n', 'realesr-animevideov3', '-i',
            str(tiny), '-o', f'{temporary}/ours'], args.runs)
        rows[0]['what'] = 'import torch, cv2'
        table.add(rows)
        share = share_beside_network(folder, Path(temporary) / 'share')
    print(f'\nReading, writing and pixels beside the network: {share:.1%} of the folder\'s wall time')


if __name__ == '__main__':
    main()
