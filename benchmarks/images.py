#!/usr/bin/env python3
"""Time the whole image script, from the shell's view, against a bare script that runs the network as the original does.

The bare script imports what the original imports and does nothing but read, run (torch float32, NCHW) and write.
With --other, the script of another checkout runs in turn with ours; compile its kernel first. Peak memory is that of
the largest process. A second table says where the milliseconds of our script go.
"""
from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import measure
import numpy as np

BARE, OTHER, OURS = 'bare script', 'other', 'ours'
BARE_ENGINE = 'torch, float32, NCHW'


@dataclass(frozen=True)
class Case:
    """A benchmark case.

    Attributes:
        title: What the table calls it; `{size}` and `{count}` are filled in.
        model: The model.
        size: Width and height of the pictures.
        count: How many there are.
        each: Whether each picture gets a process of its own, as in the guide's loop.
    """

    title: str
    model: str
    size: tuple[int, int]
    count: int = 1
    each: bool = False

    def write_pictures(self, folder: Path) -> None:
        """Write the pictures into a new folder."""
        photo = cv2.resize(cv2.imread(str(measure.PHOTO)), self.size)
        folder.mkdir()
        for index in range(self.count):
            cv2.imwrite(str(folder / f'{index:03}.png'), np.roll(photo, index, axis=1))

    def __str__(self) -> str:
        return self.title.format(size='x'.join(map(str, self.size)), count=self.count)


def list_cases(args: argparse.Namespace) -> dict[str, Case]:
    """Return all cases by the name that --cases takes."""
    drawings, photos = 'realesr-animevideov3', 'RealESRGAN_x4plus'
    return {'photo': Case('one photo of {size}, x4plus', photos, (args.photo, args.photo)),
            'drawing': Case('one picture of {size}, animevideov3', drawings, tuple(args.drawing)),
            'folder': Case('a folder of {count}, {size}, x4plus', photos, (args.folder, args.folder), args.pictures),
            'tiny': Case('start-up: {size}, animevideov3', drawings, (64, 64)),
            'loop': Case("the guide's loop: {count} x {size}, a process each, animevideov3", drawings, (64, 64),
                         args.pictures, each=True)}


def bare(model: str, source: str, output: str) -> None:
    """Do what the original's script does with a picture or a folder, without its options."""
    import torch

    from realesrgan.weights import load_model
    network = load_model(model)
    import basicsr.archs.rrdbnet_arch
    import basicsr.utils.download_util  # noqa: F401
    Path(output).mkdir(exist_ok=True)
    for path in sorted(Path(source).iterdir()) if Path(source).is_dir() else [Path(source)]:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(np.float32) / 255
        batch = torch.from_numpy(np.transpose(picture[..., ::-1], (2, 0, 1)).copy())[None]
        with torch.no_grad():
            result = network(batch).squeeze().float().cpu().clamp_(0, 1).numpy()
        cv2.imwrite(f'{output}/{path.name}', (np.transpose(result[::-1], (1, 2, 0)) * 255).round().astype(np.uint8))


def list_commands(case: Case, folder: Path, output: Path, other: Path | None, *,
                  with_bare: bool) -> dict[str, list[str]]:
    """Return the commands that upscale the pictures in a folder, by who does it; our scripts name their engine."""
    commands = {}
    if with_bare:
        commands[BARE] = [sys.executable, __file__, '--bare', case.model, str(folder), str(output / 'bare')]
    for name, checkout in ((OTHER, other), (OURS, measure.PROJECT)):
        if checkout is not None:
            commands[name] = [sys.executable, str(checkout / 'inference_realesrgan.py'), '-v', '-n', case.model, '-i',
                              str(folder), '-o', str(output / name)]
    return {name: loop(command, folder) for name, command in commands.items()} if case.each else commands


def loop(command: Sequence[str], folder: Path) -> list[str]:
    """Return a shell's loop that runs a command on each picture of a folder instead of on the folder."""
    words = ['"$picture"' if word == str(folder) else shlex.quote(word) for word in command]
    return ['sh', '-c', f'for picture in {shlex.quote(str(folder))}/*; do {" ".join(words)} || exit 1; done']


def compared(title: str, commands: Mapping[str, Sequence[str]], runs: int) -> list[dict[str, Any]]:
    """Run commands in turn and return a row for each."""
    ended: dict[str, list[measure.Finished]] = {name: [] for name in commands}
    for counted in range(-1, runs):
        for name, command in commands.items():
            process = measure.run_process(command)
            if counted >= 0:
                ended[name].append(process)
    seconds = {name: [process.seconds for process in processes] for name, processes in ended.items()}
    return [{'case': title, 'what': name, 'engine': BARE_ENGINE if name == BARE else processes[0].engine,
             'seconds': statistics.median(seconds[name]),
             **{f'times {baseline}': measure.times_faster(seconds[name], seconds[baseline])
                for baseline in (BARE, OTHER) if baseline in seconds},
             'peak MiB': int(statistics.median(process.peak_mib for process in processes))}
            for name, processes in ended.items()]


def list_parts(case: Case, folder: Path, output: Path, other: Path | None, runs: int) -> list[dict[str, Any]]:
    """Return where the milliseconds of our script go, and of another checkout's, in turn: medians of each part."""
    script = Path(__file__).with_name('parts.py')
    commands = list_commands(case, folder, output, other, with_bare=False)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for counted in range(-1, runs):
        for name, (python, *command) in commands.items():
            start = time.perf_counter()
            output_lines = subprocess.run([python, script, *command, '--engine', 'winograd'], stdout=subprocess.PIPE,
                                          stderr=subprocess.DEVNULL, text=True, check=True).stdout.splitlines()
            end = time.perf_counter()
            found = json.loads(output_lines[-1])
            parts = {'interpreter': found['began'] - start, **found['parts'], 'exit': end - found['ended']}
            # Weights are hashed beside what is measured already.
            rest = end - start - sum(seconds for part, seconds in parts.items() if part != 'weights hashed')
            if counted >= 0:
                taken[name].append({**parts, 'rest': rest, 'all': end - start})
    names = dict.fromkeys(part for rounds in taken.values() for parts in rounds for part in parts)
    return [{'case': str(case), 'part (ms)': part, **{
        name: 1000 * statistics.median(parts.get(part, 0.0) for parts in rounds) for name, rounds in taken.items()}}
        for part in names]


def main() -> None:
    """Print the table."""
    parser = measure.create_parser(__doc__, runs=3)
    names = ('photo', 'drawing', 'folder', 'tiny', 'loop')
    parser.add_argument('--cases', nargs='+', choices=names, default=names, metavar='NAME',
                        help=f'(default: {" ".join(names)})')
    parser.add_argument('--pictures', type=int, default=20, help='in the folder and the loop (default: %(default)s)')
    for name, side in (('photo', 256), ('folder', 128)):
        parser.add_argument(f'--{name}', type=int, default=side, metavar='PIXELS',
                            help=f'side of the photo{"s" * (name == "folder")} (default: %(default)s)')
    parser.add_argument('--drawing', type=int, nargs=2, default=(640, 448), metavar=('WIDTH', 'HEIGHT'),
                        help='of the picture for animevideov3 (default: 640 448)')
    parser.add_argument('--no_bare', action='store_true', help='leave out the bare script')
    parser.add_argument('--bare', nargs=3, help=argparse.SUPPRESS)
    measure.add_other(parser)
    args = parser.parse_args()
    if args.bare:
        bare(*args.bare)
        return
    table = measure.Table(args.json)
    cases = list_cases(args)
    with tempfile.TemporaryDirectory() as temporary:
        for name in args.cases:
            case, folder, output = cases[name], Path(temporary) / name, Path(temporary) / f'{name}_results'
            case.write_pictures(folder)
            output.mkdir()
            commands = list_commands(case, folder, output, args.other, with_bare=not args.no_bare)
            table.add(compared(str(case), commands, args.runs))
            if not case.each:
                table.add(list_parts(case, folder, output, args.other, args.runs))


if __name__ == '__main__':
    main()
