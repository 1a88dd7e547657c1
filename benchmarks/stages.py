#!/usr/bin/env python3
"""Where the processor's time of a film goes: milliseconds of all its cores a frame, stage by stage.

Clips made by ffmpeg are upscaled to twice their size with realesr-animevideov3, each stage by itself; of `--runs` runs
the least counts. Lanczos's filter is measured as OpenCV computes it, too.
"""
from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import measure
import numpy as np

from realesrgan.engines.cpu import count_cores
from realesrgan.engines.lanczos import resize
from realesrgan.ffmpeg.decoder import FrameReader, build_decode_command, require_video
from realesrgan.ffmpeg.encoder import Encoding, build_encode_command
from realesrgan.ffmpeg.probe import probe
from realesrgan.ffmpeg.programs import FFmpeg, find_ffmpeg
from realesrgan.upscaling.upsampler import RealESRGANer
from realesrgan.videos import VideoOptions
from realesrgan.videos.plan import plan_video
from realesrgan.weights import load_model

RATE, OUTSCALE = 24, 2
MODEL = 'realesr-animevideov3'
SIZES = ((640, 480), (1280, 720))


def make_clip(ffmpeg: FFmpeg, path: Path, width: int, height: int, frames: int) -> None:
    """Write a moving test picture with some noise, so that no two frames are equal."""
    subprocess.run([*ffmpeg.base_command, '-y', '-f', 'lavfi', '-i', f'testsrc2=size={width}x{height}:rate={RATE}',
                    '-frames:v', str(frames), '-vf', 'noise=alls=8:allf=t', '-c:v', 'libx264', '-pix_fmt', 'yuv420p',
                    str(path)], check=True)


def least(function: Callable[[], object], runs: int) -> float:
    """Return the least seconds of all cores, in this process and in those that it waits for, that a call takes."""
    taken = []
    for _ in range(runs):
        before = sum(os.times()[:4])
        function()
        taken.append(sum(os.times()[:4]) - before)
    return min(taken)


def run(command: Sequence[str], source: Path | None = None) -> None:
    """Run an ffmpeg that reads a file, and writes its output to nowhere."""
    with (source or Path(os.devnull)).open('rb') as file:
        subprocess.run(command, stdin=file, stdout=subprocess.DEVNULL, check=True)


def time_stages(ffmpeg: FFmpeg, folder: Path, size: tuple[int, int], frames: int, runs: int) -> dict[str, float]:
    """Return the seconds of all frames by stage; of ffmpeg, each stage is what it takes longer than those before."""
    width, height = size
    clip, raw, yuv = folder / 'clip.mp4', folder / 'bgr', folder / 'yuv'
    make_clip(ffmpeg, clip, width, height, frames)
    info = probe(ffmpeg, str(clip))
    decoding = plan_video(ffmpeg, info, VideoOptions()).decoding
    with FrameReader(ffmpeg, info, decoding) as reader:
        pictures = list(reader)
    upsampler = RealESRGANer(4, None, model=load_model(MODEL), pre_pad=0, half=True)
    some = pictures[:4]
    large = [upsampler.enhance(picture)[0] for picture in some]
    twice = OUTSCALE * width, OUTSCALE * height
    share = frames / len(some)
    seconds = {'network': share * least(lambda: [upsampler.engine(picture[None]) for picture in some], runs)}
    for name, function in (('OpenCV', lambda picture: cv2.resize(picture, twice, interpolation=cv2.INTER_LANCZOS4)),
                           ('ours', lambda picture: resize(picture, twice, count_cores()))):
        seconds[f'Lanczos, {name}'] = share * least(lambda: [function(picture) for picture in large], runs)  # noqa: B023
    with raw.open('wb') as file:
        for index in range(frames):
            file.write(np.ascontiguousarray(resize(np.roll(large[index % len(some)], 4 * index, 1), twice, 1)).data)
    read = build_decode_command(ffmpeg, info, decoding)
    encoding = Encoding(*twice, False, Fraction(RATE), Fraction(1), require_video(info).colour, 'libx264', 'yuv420p',
                        'mp4')
    write = build_encode_command(ffmpeg, folder / 'result.mp4', encoding)
    to_yuv = write[:write.index('-f', write.index('-map'))]
    decode = least(lambda: run([*ffmpeg.base_command, '-i', str(clip), '-f', 'null', '-']), runs)
    convert = least(lambda: run([*to_yuv, '-f', 'null', '-'], raw), runs)
    run([*to_yuv, '-f', 'rawvideo', '-pix_fmt', 'yuv420p', '-y', str(yuv)], raw)
    seconds['decode'] = decode
    seconds['YUV to BGR, pipe'] = least(lambda: run(read), runs) - decode
    seconds['pipe, BGR to YUV'] = convert
    seconds['x264'] = least(lambda: run(write, raw), runs) - convert
    return seconds


def main() -> None:
    """Print the table."""
    parser = measure.create_parser(__doc__, runs=5)
    parser.add_argument('--frames', type=int, default=24, help='of the clips (default: %(default)s)')
    args = parser.parse_args()
    rows: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for size in SIZES:
            seconds = time_stages(find_ffmpeg(), Path(temporary), size, args.frames, args.runs)
            cells = {stage: 1000 * value / args.frames for stage, value in seconds.items()}
            needed = cells['network'] + cells['x264']
            all_stages = {name: sum(cells.values()) - cells[f'Lanczos, {other}']
                          for name, other in (('OpenCV', 'ours'), ('ours', 'OpenCV'))}
            for name, whole in all_stages.items():
                cells |= {f'all, Lanczos: {name}': whole, f'of it network and x264 (%), {name}': 100 * needed / whole}
            for stage, value in cells.items():
                rows.setdefault(stage, {'stage (ms)': stage})['x'.join(map(str, size))] = value
    measure.report(list(rows.values()), args.json)


if __name__ == '__main__':
    main()
