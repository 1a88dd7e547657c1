"""Small clips made by ffmpeg's own sources, and what ffprobe says about results."""
from __future__ import annotations

import json
import os
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from realesrgan.errors import MediaError
from realesrgan.ffmpeg.programs import find_ffmpeg

DATA = Path(__file__).parents[1] / 'data' / 'videos'
FFMPEG = find_ffmpeg()
ENVIRONMENT = os.environ | {'GCONV_PATH': '/nonexistent'}  # for static builds, see realesrgan.ffmpeg.programs
ALL_FRAMES = [part for name, value in FFMPEG.passthrough.items() for part in (f'-{name}', value)]
EXACT = ['-c:v', 'libx264', '-crf', '0', '-preset', 'ultrafast', '-pix_fmt', 'yuv420p']
LOSSLESS = ['-s', '1', '--crf', '0', '--preset', 'ultrafast']
OPEN_GOPS = ['-c:v', 'libx264', '-crf', '5', '-bf', '3', '-x264-params', 'open-gop=1:keyint=20:scenecut=0', '-pix_fmt',
             'yuv420p']


def picture(size='64x48', rate='24', seconds='1', kind='testsrc2'):
    """Arguments of a moving picture."""
    return ['-f', 'lavfi', '-i', f'{kind}=size={size}:rate={rate}:duration={seconds}']


def numbered(rate='25', seconds='1', size='64x48'):
    """Arguments of frames that are each 8 levels lighter than the one before."""
    return ['-f', 'lavfi', '-i', f'color=black:size={size}:rate={rate}:duration={seconds},'
            'geq=lum=20+8*mod(N\\,27):cb=128:cr=128']


def numbers(path):
    """The numbers of the frames of such a video, by their light."""
    stream = video(path)
    data = np.frombuffer(ffmpeg('-i', f'file:{path}', '-map', '0:v:0', *ALL_FRAMES, '-f', 'rawvideo', '-pix_fmt',
                                'yuv420p', '-'), np.uint8).reshape(stream['frames'], -1)
    light = data[:, :stream['width'] * stream['height']].mean(1)
    found = np.rint((light - 20) / 8)
    assert np.abs(light - 20 - 8 * found).max() < 3
    return found.astype(int).tolist()


def counted(rate='30000/1001', seconds='8', size='64x32'):
    """Arguments of frames that hold their number, in ten fields of black or white."""
    return ['-f', 'lavfi', '-i', f'color=gray:size={size}:rate={rate}:duration={seconds},'
            'geq=lum=16+219*mod(floor(N/pow(2\\,floor(X/6)))\\,2):cb=128:cr=128']


def counts(path):
    """The numbers in the frames of such a video."""
    light = frames(path, 'rgb24')[..., 0][:, 8:24, :60].reshape(-1, 16, 10, 6)[..., 1:5].mean((1, 3))
    assert (np.abs(light - 127.5) > 60).all()
    return ((light > 127.5) @ (1 << np.arange(10))).tolist()


def sound(seconds='1', frequency=440):
    """Arguments of a tone."""
    return ['-f', 'lavfi', '-i', f'sine=frequency={frequency}:duration={seconds}']


def make(path, *arguments):
    """Run ffmpeg and return the path of what it wrote."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg('-y', *arguments, f'file:{path}')
    return path


def rotate(source, target, degrees):
    """Copy a clip with a display matrix that turns it counterclockwise, whichever way this ffmpeg writes it."""
    if FFMPEG.version >= (6, 0):
        return make(target, '-display_rotation', degrees, '-i', source, '-c', 'copy')
    return make(target, '-i', source, '-c', 'copy', '-metadata:s:v:0', f'rotate={degrees}')


def require_encoder(name):
    """Skip the test where ffmpeg lacks an encoder."""
    try:
        FFMPEG.list_pixel_formats(name)
    except MediaError as error:
        pytest.skip(str(error))


def ffmpeg(*arguments):
    """Run ffmpeg and return its stdout."""
    return subprocess.run([FFMPEG.ffmpeg, '-nostdin', '-v', 'error', *map(str, arguments)], check=True,
                          stdout=subprocess.PIPE, env=ENVIRONMENT).stdout


def facts(path):
    """Return ffprobe's description of a file, with its frames counted by decoding."""
    command = [FFMPEG.ffprobe, '-v', 'error', '-count_frames', '-show_streams', '-show_format', '-show_chapters', '-of',
               'json', f'file:{path}']
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=ENVIRONMENT).stdout)


def streams(path, kind):
    return [stream for stream in facts(path)['streams'] if stream['codec_type'] == kind]


def video(path):
    """The first video stream, with `frames`, `rate`, `size` and the tags of colour as a tuple."""
    stream = streams(path, 'video')[0]
    stream |= {'frames': int(stream['nb_read_frames']), 'size': (stream['width'], stream['height']),
               'rate': (stream['r_frame_rate'], stream['avg_frame_rate']),
               'colour': tuple(stream.get(f'color_{name}') for name in ('range', 'space', 'primaries', 'transfer'))}
    return stream


def packets(path, which):
    """A hash of the packets of a stream, as `a:0`."""
    return re.search(rb'=(\w+)', ffmpeg('-i', f'file:{path}', '-map', f'0:{which}', '-c', 'copy', '-f', 'streamhash',
                                        '-'))[1]


def duration(path, kind='video'):
    """Seconds from the first to the end of the last packet of the first stream of a kind."""
    output = subprocess.run([FFMPEG.ffprobe, '-v', 'error', '-select_streams', f'{kind[0]}:0', '-show_entries',
                             'packet=pts_time,duration_time', '-of', 'csv=p=0', f'file:{path}'], check=True,
                            stdout=subprocess.PIPE, text=True, env=ENVIRONMENT).stdout
    times = [[Fraction(part) for part in line.split(',')[:2]] for line in output.split()]
    return float(max(start + length for start, length in times) - min(start for start, _ in times))


def frames(path, pixel_format='bgr24', filters='null'):
    """All frames as N x H x W x 3, converted by ffmpeg."""
    stream = video(path)
    data = ffmpeg('-i', f'file:{path}', '-map', '0:v:0', '-vf', filters, *ALL_FRAMES, '-f', 'rawvideo', '-pix_fmt',
                  pixel_format, '-')
    pixels = np.frombuffer(data, np.uint16 if '48' in pixel_format else np.uint8)
    return pixels.reshape(-1, stream['height'], stream['width'], 3)


def write_frames(folder, count, *, size=(12, 16), dtype=np.uint8, first=1):
    """Write pictures that are called by their numbers, each lighter than the one before."""
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        cv2.imwrite(str(folder / f'{number}.png'), np.full((*size, 3), number * np.iinfo(dtype).max // 20, dtype))


def save_network(path, *, plain=False, scale=4):
    """Save a small network; a plain one only repeats every pixel, sixteen times at a scale of 4."""
    import torch

    from realesrgan.archs.srvgg_arch import SRVGGNetCompact
    torch.manual_seed(0)
    weights = SRVGGNetCompact(3, 3, 8, 2, scale).state_dict()
    if plain:
        weights = {name: torch.zeros_like(value) for name, value in weights.items()}
    torch.save({'params': weights}, path)
    return str(path)


def program(folder, name, script):
    """A shell script that stands in for ffmpeg or ffprobe; its path as text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    return str(path)


def belongings():
    """The number of child processes and of open files of this process."""
    process = psutil.Process()
    return len(process.children(recursive=True)), process.num_fds()


def times(path, which='v:0'):
    """The times of the packets of a stream, by default the frames of the video, in seconds and in order."""
    output = subprocess.run([FFMPEG.ffprobe, '-v', 'error', '-select_streams', which, '-show_entries',
                             'packet=pts_time', '-of', 'csv=p=0', f'file:{path}'], check=True,
                            stdout=subprocess.PIPE, text=True, env=ENVIRONMENT).stdout
    return sorted(float(line.split(',')[0]) for line in output.split())


def files(folder):
    """The paths of all files below a folder, relative to it and sorted."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob('*') if path.is_file())


def hashes(path):
    """A hash of each decoded frame, in order, with its time."""
    lines = ffmpeg('-i', f'file:{path}', '-map', '0:v:0', *ALL_FRAMES, '-f', 'framemd5', '-').decode()
    return [line.split(',')[2].strip() + line.split(',')[5] for line in lines.splitlines() if line[0] != '#']


def parts(folder='results/a_out_parts'):
    return sorted(path.name for path in Path(folder).glob('[0-9]*.mp4'))
