#!/usr/bin/env python3
"""Frames a second of the video script, of its network alone, and of a loop that works as the original does.

Then the same script as a process, with one and with two workers, and what joining the parts takes.

The clip is made by ffmpeg: 640x480, 24 frames/s. All three upscale it to twice its size with realesr-animevideov3:

- the script, end to end, without the time that it takes to load the network;
- the network alone: `RealESRGANer.enhance` on the same frames, in memory, at the same precision;
- the original's loop: read a frame from ffmpeg, PyTorch in float32 with NCHW memory, resize, write it to ffmpeg.

    python benchmarks/video.py --seconds 2 --json video.json
"""
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from realesrgan.media.binaries import FFmpeg, find_ffmpeg
from realesrgan.media.frames import FrameReader
from realesrgan.media.probe import probe
from realesrgan.pool import SerialPool
from realesrgan.upsampler import RealESRGANer
from realesrgan.video import Work, upscale_video
from realesrgan.video_plan import VideoOptions, plan_video
from realesrgan.weights import load_model
from realesrgan.worker import initialize

WIDTH, HEIGHT, RATE, OUTSCALE = 640, 480, 24, 2
MODEL = 'realesr-animevideov3'
SCRIPT = Path(__file__).resolve().parent.parent / 'inference_realesrgan_video.py'


def make_clip(ffmpeg: FFmpeg, path: Path, seconds: float) -> None:
    """Write a moving test picture with some noise, so that no two frames are equal."""
    subprocess.run([*ffmpeg.command(), '-y', '-f', 'lavfi', '-i', f'testsrc2=size={WIDTH}x{HEIGHT}:rate={RATE}',
                    '-t', str(seconds), '-vf', 'noise=alls=8:allf=t', '-c:v', 'libx264', '-pix_fmt', 'yuv420p',
                    str(path)], check=True)


def script_rate(ffmpeg: FFmpeg, clip: Path, upsampler: RealESRGANer, target: Path) -> float:
    """Frames a second of reading, upscaling and writing at once."""
    options = VideoOptions(outscale=OUTSCALE)
    start = time.perf_counter()
    plan = plan_video(ffmpeg, probe(ffmpeg, str(clip)), options)
    work = Work(target, lambda hear: SerialPool(initialize, (lambda: upsampler,), hear), {}, lambda _: None)
    outcome = upscale_video(ffmpeg, plan, options, work)
    return outcome.frames / (time.perf_counter() - start)


def seconds_of_workers(clip: Path, folder: Path, repeat: int) -> tuple[list[float], float]:
    """Return the seconds of the whole script with one and two workers, in turn, and of one that only joins."""
    def seconds(name: str, *more: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, SCRIPT, '-i', str(clip), '-o', str(folder / name), '-s', str(OUTSCALE), '-q',
                        '--chunk', '3', *more], check=True)
        return time.perf_counter() - start
    counted = [(seconds('one', '--keep_parts'), seconds('two', '--num_process_per_gpu', '2'), seconds('one'))
               for _ in range(repeat)]
    one, two, join = (statistics.median(column) for column in zip(*counted, strict=True))
    return [one, two], join


def network_rate(ffmpeg: FFmpeg, clip: Path, upsampler: RealESRGANer) -> float:
    """Frames a second of the network on frames that lie in memory."""
    info = probe(ffmpeg, str(clip))
    with FrameReader(ffmpeg, info, plan_video(ffmpeg, info, VideoOptions()).decoding) as reader:
        frames = list(reader)
    start = time.perf_counter()
    for frame in frames:
        upsampler.enhance(frame, outscale=OUTSCALE)
    return len(frames) / (time.perf_counter() - start)


@torch.no_grad()
def original_rate(ffmpeg: FFmpeg, clip: Path, target: Path, most: int) -> float:
    """Frames a second of a loop in the order and precision of the original, on the first `most` frames."""
    network = load_model(MODEL, None, None).float().eval()
    size = WIDTH * OUTSCALE, HEIGHT * OUTSCALE
    reading = subprocess.Popen([*ffmpeg.command(), '-i', str(clip), '-frames:v', str(most), '-f', 'rawvideo',
                                '-pix_fmt', 'bgr24', 'pipe:1'], stdout=subprocess.PIPE)
    writing = subprocess.Popen([*ffmpeg.command(), '-y', '-f', 'rawvideo', '-pix_fmt', 'bgr24', '-s',
                                f'{size[0]}x{size[1]}', '-r', str(RATE), '-i', 'pipe:0', '-c:v', 'libx264', '-pix_fmt',
                                'yuv420p', str(target)], stdin=subprocess.PIPE)
    assert reading.stdout is not None and writing.stdin is not None
    count, start = 0, time.perf_counter()
    while len(data := reading.stdout.read(WIDTH * HEIGHT * 3)) == WIDTH * HEIGHT * 3:
        frame = np.frombuffer(data, np.uint8).reshape(HEIGHT, WIDTH, 3).astype(np.float32) / 255
        tensor = torch.from_numpy(np.ascontiguousarray(frame[..., ::-1].transpose(2, 0, 1)))[None]
        output = network(tensor)[0].clamp_(0, 1).numpy()
        result = (output[[2, 1, 0]].transpose(1, 2, 0) * 255.0).round().astype(np.uint8)
        writing.stdin.write(cv2.resize(result, size, interpolation=cv2.INTER_LANCZOS4).tobytes())
        count += 1
    writing.stdin.close()
    writing.wait()
    reading.stdout.close()
    reading.wait()
    return count / (time.perf_counter() - start)


def main() -> int:
    """Measure, print a table, and write it to a file if asked."""
    parser = argparse.ArgumentParser(description='frames a second of the video script')
    parser.add_argument('--seconds', type=float, default=5, help='length of the clip (default: %(default)s)')
    parser.add_argument('--original_frames', type=int, default=5,
                        help='frames for the slow loop (default: %(default)s)')
    parser.add_argument('--repeat', type=int, default=3, help='the best of so many counts (default: %(default)s)')
    parser.add_argument('--json', type=Path, metavar='FILE')
    args = parser.parse_args()
    ffmpeg = find_ffmpeg()
    upsampler = RealESRGANer(4, None, model=load_model(MODEL, None, None), pre_pad=0, half=True)
    upsampler.enhance(np.zeros((HEIGHT, WIDTH, 3), np.uint8))  # what is compiled at the first frame
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / 'clip.mp4'
        make_clip(ffmpeg, clip, args.seconds)
        rates = {
            'script': max(script_rate(ffmpeg, clip, upsampler, Path(folder) / 'a.mp4') for _ in range(args.repeat)),
            'network alone': max(network_rate(ffmpeg, clip, upsampler) for _ in range(args.repeat)),
            'loop of the original': original_rate(ffmpeg, clip, Path(folder) / 'b.mp4', args.original_frames)}
        workers, join = seconds_of_workers(clip, Path(folder), args.repeat)
    for name, rate in rates.items():
        print(f'{name:20} {rate:7.3f} frames/s')
    script = rates['script']
    print(f'the script has {100 * script / rates["network alone"]:.0f} % of the network\'s rate and '
          f'{script / rates["loop of the original"]:.1f} times that of the loop')
    print(f'one worker takes {workers[0]:.1f} s with start-up, two {workers[1]:.1f} s ({workers[1] / workers[0]:.2f} '
          f'times); a run that finds all parts, to join them, {join:.1f} s with start-up')
    if args.json:
        args.json.write_text(json.dumps({name: round(rate, 4) for name, rate in rates.items()} | {
            'seconds of one and two workers': workers, 'seconds of joining': join}, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
