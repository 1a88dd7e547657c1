#!/usr/bin/env python3
"""Measure a GPU in six minutes: how exact it is, the networks step by step, whole scripts, memory.

Each section has a share of `--seconds`, and ends with the row in which it is used up. A row that fails holds its error,
and the others are measured. One JSON file holds all rows.
"""
from __future__ import annotations

import argparse
import contextlib
import copy
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import measure
import numpy as np
import torch
from cpu_engines import compare

from realesrgan import profile
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.engines.choice import explain_refusal, make_engine, pick_device
from realesrgan.engines.devices import Device, get_name, is_software, list_gpus_of
from realesrgan.engines.engine import ENGINES, VULKAN
from realesrgan.engines.memory import estimate_bytes_per_pixel
from realesrgan.engines.torch import TorchEngine
from realesrgan.errors import MediaError
from realesrgan.ffmpeg.programs import find_ffmpeg
from realesrgan.weights.loading import load_network
from realesrgan.weights.sources import resolve

DRAWINGS, PHOTOS = 'realesr-animevideov3', 'RealESRGAN_x4plus'
#: Model, width and height, and how large the result is: as a film's frames at -s 2, and pictures.
NETWORKS = ((DRAWINGS, 1920, 1080, 2), (DRAWINGS, 1280, 720, 2), (DRAWINGS, 320, 240, 4), (PHOTOS, 512, 512, 4),
            (PHOTOS, 128, 128, 4))
SMALL_NETWORKS = ((DRAWINGS, 32, 24, 2), (PHOTOS, 16, 12, 4))
CLIPS, SMALL_CLIPS = ((1920, 1080), (1280, 720)), ((64, 48),)
#: The share of the time that is over when each section ends.
SECTIONS = {'exactness': 0.06, 'networks': 0.35, 'videos': 0.8, 'pictures': 0.92, 'golden': 1.0}

Row = dict[str, Any]
Call = Callable[[np.ndarray], Callable[[], object]]  # begins a frame; returns what waits for it


def load(model: str) -> LoadedNetwork:
    return load_network(resolve(model, None, None), log=False)


def make_frames(width: int, height: int, count: int) -> list[np.ndarray]:
    """Return photos, no two of them alike, HxWx3, BGR, uint8."""
    photo = cv2.resize(cv2.imread(str(measure.PHOTO)), (width, height))
    return [np.ascontiguousarray(np.roll(photo, 3 * index, axis=1)) for index in range(count)]


def synchronise(device: Device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(str(device))


def measure_rate(begin: Call, device: Device, frames: Sequence[np.ndarray], depth: int, seconds: float) -> float:
    """Return the frames a second with so many in work, after a warm-up in which graphs are captured too."""
    waits: deque[Callable[[], object]] = deque()
    count, start, warm = 0, 0.0, (4 * (depth + 1) if depth else 3) if seconds > 0.1 else 1
    while not start or time.perf_counter() - start < seconds or count < 2:
        if count == warm and not start:
            synchronise(device)
            count, start = 0, time.perf_counter()
        waits.append(begin(frames[count % len(frames)]))
        while len(waits) > depth:
            waits.popleft()()
        count += 1
    while waits:
        waits.popleft()()
    synchronise(device)
    return count / (time.perf_counter() - start)


# ---- the networks ----

def list_ways(network: LoadedNetwork, device: Device, size: tuple[int, int],
              height: int, width: int) -> Iterator[tuple[str, Callable[[], Call], int]]:
    """Yield the steps from the original's way to ours: their names, what makes them, and how many are in work."""
    kind, half = torch.device(str(device)), device.type != 'cpu'
    dtype = torch.float16 if half else torch.float32

    def only_network(layout: torch.memory_format) -> Call:
        module = copy.deepcopy(network).module.to(kind, dtype).to(memory_format=layout).eval()
        batch = torch.rand(1, 3, height, width, device=kind, dtype=dtype).contiguous(memory_format=layout)

        def run(_: np.ndarray) -> Callable[[], None]:
            with torch.inference_mode():
                module(batch)
            return lambda: None
        return run

    def original() -> Call:
        module = copy.deepcopy(network).module.to(kind, dtype).eval()

        def run(frame: np.ndarray) -> Callable[[], None]:
            with torch.no_grad():
                unit = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_BGR2RGB)
                output = module(torch.from_numpy(unit.transpose(2, 0, 1)).unsqueeze(0).to(kind).to(dtype))
                planes = output.squeeze().float().cpu().clamp_(0, 1).numpy()
            result = (planes[[2, 1, 0]].transpose(1, 2, 0) * 255.0).round().astype(np.uint8)
            cv2.resize(result, size, interpolation=cv2.INTER_LANCZOS4)
            return lambda: None
        return run

    def ours(together: int = 1, graphs: bool = True, final: tuple[int, int] | None = size) -> Call:
        engine = make_engine(copy.deepcopy(network), device, half=half, name='torch')
        assert isinstance(engine, TorchEngine)
        engine._graphs_allowed &= graphs
        return lambda frame: engine.submit(frame[None], final, together)

    def by_vulkan(gpu: Device) -> Call:
        engine = make_engine(copy.deepcopy(network), gpu, half=half, name=VULKAN)
        return lambda frame: engine.submit(frame[None])

    yield "the original's network alone, NCHW", lambda: only_network(torch.contiguous_format), 0
    yield 'the network alone, channels last', lambda: only_network(torch.channels_last), 0
    yield "the original's way, with pixels and the final size", original, 0
    yield 'ours, one frame at a time, no graph', lambda: ours(graphs=False), 0
    yield 'ours, two more in work, no graph', lambda: ours(graphs=False), 2
    yield 'ours, two more in work, the size of the network', lambda: ours(final=None), 2
    yield 'ours, two more in work', ours, 2
    yield 'ours, batches of two', lambda: ours(2), 4
    yield 'ours, batches of four', lambda: ours(4), 8
    row = next(row for row in ENGINES if row.name == VULKAN)
    for gpu in list_gpus_of(VULKAN)[:1]:
        if not is_software(gpu) and explain_refusal(row, network, gpu) is None:
            yield f'vulkan: {get_name(gpu)}', lambda gpu=gpu: by_vulkan(gpu), 1


def time_network(device: Device, case: tuple[str, int, int, int], seconds: float) -> Iterator[Row]:
    """Yield a row for each way to run a network."""
    model, width, height, outscale = case
    network, frames, first = load(model), make_frames(width, height, 8), 0.0
    size = width * outscale, height * outscale
    per_pixel = estimate_bytes_per_pixel(network.traits, 'torch', half=device.type != 'cpu') or 0
    for name, make, depth in list_ways(network, device, size, height, width):
        row: Row = {'model': model, 'size': f'{width}x{height}', 'way': name, 'frames/s': '', 'times the original': '',
                    'GiB reserved': '', 'GiB estimated': per_pixel * width * height / 2 ** 30, 'error': ''}
        with keep_error(row):
            if device.type == 'cuda':
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            row['frames/s'] = rate = measure_rate(make(), device, frames, depth, seconds)
            first = rate if name.startswith("the original's way") else first
            row['times the original'] = rate / first if first else ''
            if device.type == 'cuda':
                row['GiB reserved'] = torch.cuda.max_memory_reserved() / 2 ** 30
        yield row


@contextlib.contextmanager
def keep_error(row: Row) -> Iterator[None]:
    """Note an error in a row, so that the next one is measured."""
    try:
        yield
    except (Exception, SystemExit) as error:
        row['error'] = f'{type(error).__name__}: {" ".join(str(error).split())[-300:]}'


# ---- exactness ----

def judge_precisions(device: Device, models: Sequence[str], *, small: bool) -> Iterator[Row]:
    """Yield how far each precision is from single precision on the CPU, of a photo."""
    for model in models:
        side = 16 if small else 160
        photo, network = make_frames(side, side, 1)[0][None].astype(np.float32) / 255, load(model)
        with torch.no_grad():
            batch = torch.from_numpy(np.ascontiguousarray(photo[..., ::-1])).permute(0, 3, 1, 2)
            exact = network.module(batch).clamp(0, 1).permute(0, 2, 3, 1).numpy()[..., ::-1]
        for precision, half, tf32 in (('float32', False, False), ('float32, TF32', False, True), ('half', True, False)):
            row: Row = {'model': model, 'precision': precision, 'largest difference (of 255)': '', 'PSNR (dB)': '',
                        'error': ''}
            with keep_error(row), torch.backends.cudnn.flags(
                    enabled=torch.backends.cudnn.enabled, allow_tf32=tf32):
                engine = make_engine(copy.deepcopy(network), device, half=half, name='torch')
                row['largest difference (of 255)'], row['PSNR (dB)'] = compare(engine(photo), exact)
            yield row


def run_golden(device: Device, *, small: bool) -> Iterator[Row]:
    """Yield how many of the original's cases come out the same, and the largest difference."""
    from tests.upscaling import test_golden as golden
    golden.DEVICES['torch'] = str(device)
    cases = [case for case in golden.CASES if case['id'] not in golden.ALPHA_EXCEPTIONS][:3 if small else None]
    for half in (False, True):
        row: Row = {'precision': 'half' if half else 'float32', 'cases': len(cases), 'the same': 0, 'differ': [],
                    'largest difference, share of the range': 0.0, 'error': ''}
        with keep_error(row), torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False):
            for case in cases:
                upsampler, expected = golden.upsampler_of(case, 'torch'), golden.OUTPUTS[str(case['id'])]
                upsampler.half = half
                actual = upsampler.enhance(golden.INPUTS[case['input']], outscale=case['outscale'])[0]
                largest = int(np.abs(actual.astype(int) - expected).max())
                same = largest <= golden.LARGEST[actual.dtype]
                row['the same'] += same
                row['differ'] += [] if same else [case['id']]
                row['largest difference, share of the range'] = max(
                    row['largest difference, share of the range'], largest / np.iinfo(actual.dtype).max)
        yield row


# ---- whole scripts ----

def run_script(script: str, folder: Path, arguments: Sequence[str | Path], row: Row, count: int) -> Row:
    """Run one of the scripts as its users do; return the row with what it took."""
    report = folder / 'report.json'
    with keep_error(row):
        ended = measure.run_process([sys.executable, measure.PROJECT / script, '-v', '-o', folder / 'results',
                                     '--report', report, *arguments])
        files = json.loads(report.read_text())['files']
        own = sum(file['seconds'] or 0 for file in files)
        row |= {'engine': ended.engine, 'seconds': ended.seconds, 'per second, start included': count / ended.seconds,
                'per second, without': count / own if own else '', 'stages': files[0]['stages'],
                'peak MiB': ended.peak_mib}
    return row


def blank(what: str) -> Row:
    return {'what': what, 'engine': '', 'seconds': '', 'per second, start included': '', 'per second, without': '',
            'stages': '', 'peak MiB': '', 'error': ''}


def time_videos(folder: Path, device: Sequence[str], *, small: bool) -> Iterator[Row]:
    """Yield a row for each clip, size and encoder."""
    ffmpeg = find_ffmpeg()
    encoders = {'libx264, its default': [], 'libx264, ultrafast': ['--preset', 'ultrafast']}
    with contextlib.suppress(MediaError):
        if ffmpeg.list_pixel_formats('hevc_nvenc'):
            encoders['hevc_nvenc'] = ['--vcodec', 'hevc_nvenc', '--hwaccel', 'auto']
    for width, height in SMALL_CLIPS if small else CLIPS:
        for outscale, seconds in (('2', 4), ('4', 1))[:1 if small else None]:
            clip, frames = folder / f'{height}p_{seconds}.mp4', 6 if small else 24 * seconds
            subprocess.run([*ffmpeg.base_command, '-y', '-f', 'lavfi', '-i', f'testsrc2=size={width}x{height}:rate=24',
                            '-frames:v', str(frames), '-vf', 'noise=alls=8:allf=t', '-c:v', 'libx264', '-preset',
                            'veryfast', '-pix_fmt', 'yuv420p', str(clip)], check=True)
            for name, options in list(encoders.items())[-1 if small else 0:]:
                for workers in ('1', '2') if outscale == '2' and options and not small else ('1',):
                    yield run_script('inference_realesrgan_video.py', folder, [
                        '-i', clip, '-n', DRAWINGS, '-s', outscale, '--chunk', '1', *options, *device,
                        '--num_process_per_gpu', workers],
                        blank(f'{height}p at -s {outscale}, {name}, workers: {workers}'), frames)


def time_pictures(folder: Path, device: Sequence[str], models: Sequence[str], *, small: bool) -> Iterator[Row]:
    """Yield a row for a folder of small pictures, and one for a photo of 12 megapixels."""
    side, count = (16, 2) if small else (512, 40)
    (folder / 'in').mkdir()
    for index, picture in enumerate(make_frames(side, side, count)):
        cv2.imwrite(str(folder / 'in' / f'{index}.png'), picture)
    photo = folder / 'photo.jpg'
    cv2.imwrite(str(photo), make_frames(*((20, 16) if small else (4000, 3000)), 1)[0])
    for model in reversed(models):
        for source, what, number in ((folder / 'in', f'{count} pictures of {side}x{side}', count),
                                     (photo, 'a photo of 12 megapixels', 1)):
            yield run_script('inference_realesrgan.py', folder, ['-i', source, '-n', model, *device],
                             blank(f'{what}, {model}'), number)


def describe(device: Device) -> Row:
    """Return what is measured."""
    versions = profile.list_versions(device)
    return {'device': profile.name_device(device), **versions, 'CUDA': torch.version.cuda or torch.version.hip or '',
            'cuDNN': torch.backends.cudnn.version() or '', 'ffmpeg': '.'.join(map(str, find_ffmpeg().version))}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what there is time for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--device', help='(default: the first GPU that PyTorch can use, else the CPU)')
    parser.add_argument('--only', choices=SECTIONS, nargs='+', default=list(SECTIONS), metavar='SECTION',
                        help=f'(default: all, {" ".join(SECTIONS)})')
    parser.add_argument('--models', choices=(DRAWINGS, PHOTOS), nargs='+', default=[DRAWINGS, PHOTOS], metavar='MODEL',
                        help='(default: %(default)s)')
    parser.add_argument('--seconds', type=float, default=340.0, help='about how long (default: %(default)g)')
    parser.add_argument('--small', action='store_true', help='sizes for a try on a CPU')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures to this file')
    args = parser.parse_args(argv)
    device, start = pick_device(args.device, engine='torch'), time.monotonic()
    table, each = measure.Table(args.json), 0.01 if args.small else 0.6
    options = ['--engine', 'torch'] + (['-g', str(device.index or 0)] if device.type != 'cpu' else [])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sections: Mapping[str, Callable[[], Iterator[Row]]] = {
            'exactness': lambda: judge_precisions(device, args.models, small=args.small),
            'networks': lambda: (row for case in (SMALL_NETWORKS if args.small else NETWORKS)
                                 if case[0] in args.models for row in time_network(device, case, each)),
            'videos': lambda: time_videos(folder, options, small=args.small),
            'pictures': lambda: time_pictures(folder, options, args.models, small=args.small),
            'golden': lambda: run_golden(device, small=args.small)}
        table.add([describe(device)])
        for name in (name for name in sections if name in args.only):
            failed: Row = {'section': name, 'error': ''}
            with keep_error(failed):
                for row in sections[name]():
                    table.add([row])
                    if time.monotonic() > start + SECTIONS[name] * args.seconds:
                        failed['error'] = 'no time left'
                        break
            if failed['error']:
                table.add([failed])


if __name__ == '__main__':
    main()
