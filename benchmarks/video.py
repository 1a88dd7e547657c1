#!/usr/bin/env python3
"""Frames a second of the video script, of its network alone, and of a loop that works as the original does.

The clip is made by ffmpeg: 640x480, 24 frames/s. All upscale it to twice its size with realesr-animevideov3:

- the script, end to end, without the time that it takes to load the network;
- the network alone: `RealESRGANer.enhance` on the same frames, in memory, at the same precision;
- the original's loop: read a frame from ffmpeg, PyTorch in float32 with NCHW memory, resize, write it to ffmpeg.

Then the same script as a process: with one worker, with two, and when all parts are there and have only to be joined.
With --other, the script of another checkout runs in turn with them; compile its kernel first.
"""
from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import measure
import numpy as np
import torch

from realesrgan.enhancers import EnhancerCache
from realesrgan.ffmpeg.decoder import FrameReader
from realesrgan.ffmpeg.probe import probe
from realesrgan.ffmpeg.programs import FFmpeg, find_ffmpeg
from realesrgan.upscaling.upsampler import RealESRGANer
from realesrgan.videos import VideoOptions, upscale_videos
from realesrgan.videos.plan import plan_video
from realesrgan.weights import load_model

WIDTH, HEIGHT, RATE, OUTSCALE = 640, 480, 24, 2
MODEL = 'realesr-animevideov3'


def make_clip(ffmpeg: FFmpeg, path: Path, frames: int) -> None:
    """Write a moving test picture with some noise, so that no two frames are equal."""
    subprocess.run([*ffmpeg.base_command, '-y', '-f', 'lavfi', '-i', f'testsrc2=size={WIDTH}x{HEIGHT}:rate={RATE}',
                    '-frames:v', str(frames), '-vf', 'noise=alls=8:allf=t', '-c:v', 'libx264', '-pix_fmt', 'yuv420p',
                    str(path)], check=True)


def run_script(clip: Path, enhancers: EnhancerCache, output: Path) -> None:
    """Read, upscale and write at once."""
    upscale_videos([str(clip)], output, VideoOptions(model_name=MODEL, outscale=OUTSCALE), enhancers=enhancers)


def read(ffmpeg: FFmpeg, clip: Path) -> list[np.ndarray]:
    """Return all frames."""
    info = probe(ffmpeg, str(clip))
    with FrameReader(ffmpeg, info, plan_video(ffmpeg, info, VideoOptions()).decoding) as reader:
        return list(reader)


@torch.no_grad()
def run_original(ffmpeg: FFmpeg, clip: Path, network: torch.nn.Module, target: Path, frames: int) -> None:
    """Upscale the first frames in the order and precision of the original."""
    size = WIDTH * OUTSCALE, HEIGHT * OUTSCALE
    reading = subprocess.Popen([*ffmpeg.base_command, '-i', str(clip), '-frames:v', str(frames), '-f', 'rawvideo',
                                '-pix_fmt', 'bgr24', 'pipe:1'], stdout=subprocess.PIPE)
    writing = subprocess.Popen([*ffmpeg.base_command, '-y', '-f', 'rawvideo', '-pix_fmt', 'bgr24', '-s',
                                f'{size[0]}x{size[1]}', '-r', str(RATE), '-i', 'pipe:0', '-c:v', 'libx264', '-pix_fmt',
                                'yuv420p', str(target)], stdin=subprocess.PIPE)
    assert reading.stdout is not None and writing.stdin is not None
    while len(data := reading.stdout.read(WIDTH * HEIGHT * 3)) == WIDTH * HEIGHT * 3:
        frame = np.frombuffer(data, np.uint8).reshape(HEIGHT, WIDTH, 3).astype(np.float32) / 255
        tensor = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1)))[None]
        output = network(tensor)[0].clamp_(0, 1).numpy()
        result = (output[[2, 1, 0]].transpose(1, 2, 0) * 255.0).round().astype(np.uint8)
        writing.stdin.write(cv2.resize(result, size, interpolation=cv2.INTER_LANCZOS4).tobytes())
    writing.stdin.close()
    writing.wait()
    reading.stdout.close()
    reading.wait()


def time_whole_script(clip: Path, folder: Path, other: Path | None, runs: int,
                      frames: int) -> list[dict[str, Any]]:
    """Return a row for each way to run the script as a process."""
    engines: dict[str, str] = {}

    def add(name: str, results: str, *more: str, checkout: Path = measure.PROJECT) -> None:
        def call() -> None:
            engines[name] = measure.run_process([
                sys.executable, checkout / 'inference_realesrgan_video.py', '-v', '-i', clip, '-o', folder / results,
                '-s', str(OUTSCALE), '--chunk', '1', *more]).engine
        functions[name] = call

    functions: dict[str, Callable[[], None]] = {}
    if other is not None:
        add('other, one worker', 'other', checkout=other)
    add('one worker', 'one', '--keep_parts')
    add('joining alone', 'one')
    add('two workers', 'two', '--num_process_per_gpu', '2')
    seconds = measure.take_turns(functions, runs)
    baseline = seconds.get('other, one worker')
    rows = []
    for name, values in seconds.items():
        row = {'what': f'whole process, {name}', 'engine': engines[name], 'seconds': statistics.median(values)}
        row |= {'frames/s': frames / row['seconds'],
                'times one worker': measure.times_faster(values, seconds['one worker'])}
        rows.append(row | ({'times other': measure.times_faster(values, baseline)} if baseline else {}))
    return rows


def compared(ffmpeg: FFmpeg, clip: Path, folder: Path, original_frames: int, runs: int) -> list[dict[str, Any]]:
    """Return a row each for the original's loop, the network alone and the script."""
    upsampler = RealESRGANer(4, None, model=load_model(MODEL), pre_pad=0, half=True)
    enhancers = EnhancerCache()
    original = load_model(MODEL).float().eval()
    frames = read(ffmpeg, clip)
    seconds = measure.median_seconds({
        'original\'s loop': lambda: run_original(ffmpeg, clip, original, folder / 'a.mp4', original_frames),
        'network alone': lambda: [upsampler.enhance(frame, outscale=OUTSCALE) for frame in frames],
        'script': lambda: run_script(clip, enhancers, folder / 'b')}, runs)
    counts = (min(original_frames, len(frames)), len(frames), len(frames))
    rates = [count / value for count, value in zip(counts, seconds.values(), strict=True)]
    engines = ('torch, float32, NCHW', *[upsampler.engine.description] * 2)
    return [{'what': name, 'engine': engine, 'seconds': value, 'frames/s': rate, 'times the loop': rate / rates[0],
             'of the network': rate / rates[1]}
            for (name, value), engine, rate in zip(seconds.items(), engines, rates, strict=True)]


def main() -> None:
    """Print the tables."""
    parser = measure.create_parser(__doc__, runs=3)
    parser.add_argument('--frames', type=int, default=48, help='of the clip (default: %(default)s)')
    parser.add_argument('--original_frames', type=int, default=5,
                        help='of them for the slow loop (default: %(default)s)')
    parser.add_argument('--only_processes', action='store_true', help='time only whole processes')
    measure.add_other(parser)
    args = parser.parse_args()
    ffmpeg = find_ffmpeg()
    with tempfile.TemporaryDirectory() as temporary:
        folder, clip = Path(temporary), Path(temporary) / 'clip.mp4'
        make_clip(ffmpeg, clip, args.frames)
        table = measure.Table(args.json)
        if not args.only_processes:
            table.add(compared(ffmpeg, clip, folder, args.original_frames, args.runs))
        table.add(time_whole_script(clip, folder, args.other, args.runs, args.frames))


if __name__ == '__main__':
    main()
