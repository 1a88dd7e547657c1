"""Clips whose frames hold their number, and what results are compared by."""
from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.support import clips

LOSSLESS = ['-s', '1', '--crf', '0', '--preset', 'ultrafast']

OPEN_GOPS = ['-c:v', 'libx264', '-crf', '5', '-bf', '3', '-x264-params', 'open-gop=1:keyint=40:scenecut=0', '-pix_fmt',
             'yuv420p']


def counted(rate='30000/1001', seconds='8', size='64x32'):
    """Arguments of frames that hold their number, in ten fields of black or white."""
    return ['-f', 'lavfi', '-i', f'color=gray:size={size}:rate={rate}:duration={seconds},'
            'geq=lum=16+219*mod(floor(N/pow(2\\,floor(X/6)))\\,2):cb=128:cr=128']


def counts(path):
    """The numbers in the frames of such a video."""
    light = clips.frames(path, 'rgb24')[..., 0][:, 8:24, :60].reshape(-1, 16, 10, 6)[..., 1:5].mean((1, 3))
    assert (np.abs(light - 127.5) > 60).all()
    return ((light > 127.5) @ (1 << np.arange(10))).tolist()


def hashes(path):
    """A hash of each decoded frame, in order, with its time."""
    lines = clips.ffmpeg('-i', f'file:{path}', '-map', '0:v:0', *clips.ALL_FRAMES, '-f', 'framemd5', '-').decode()
    return [line.split(',')[2].strip() + line.split(',')[5] for line in lines.splitlines() if line[0] != '#']


def parts(folder='results/a_out_parts'):
    return sorted(path.name for path in Path(folder).glob('[0-9]*.mp4'))
