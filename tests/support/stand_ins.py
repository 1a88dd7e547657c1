"""A folder in which the documents' commands run: the files that they name, small, and small weights."""
from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import torch

from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from tests.support import clips, face_stand_ins, moving_pictures
from tests.support.markdown_files import PROJECT

#: Width, height and frames of each clip.
CLIP = 32, 24, 6


def fill(folder: Path) -> None:
    """Put everything into an empty folder."""
    for name in ('inference_realesrgan.py', 'inference_realesrgan_video.py', 'realesrgan', 'examples'):
        (folder / name).symlink_to(PROJECT / name)
    for name in ('inputs', 'photos/trip', 'scans', 'frames', 'weights', 'path/to'):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ('inputs/astronaut.jpg', 'inputs/cat_16bit.png', 'photo.jpg', 'photos/a.jpg', 'photos/trip/b.png',
                 'scans/a.tif', 'scans/b.tif', 'transparent.png', *(f'frames/{number}.png' for number in (1, 2, 10))):
        pixels = rng.integers(0, 256, (18, 20, 4 if name == 'transparent.png' else 3), np.uint16)
        cv2.imwrite(str(folder / name), pixels * 257 if '16bit' in name else pixels.astype(np.uint8))
    width, height, frames = CLIP
    film = clips.make(folder / 'film.mkv', *clips.picture(f'{width}x{height}', seconds=str(frames / 24)),
                      *clips.sound(str(frames / 24)), *clips.EXACT)
    for name in ('a.mkv', 'b.mkv'):
        (folder / name).write_bytes(film.read_bytes())
    for name in ('film.mp4', 'clips/1.mp4'):
        clips.make(folder / name, '-i', film, '-c', 'copy')
    clips.make(folder / 'long/film.mkv', *clips.picture(f'{width}x{height}', rate='2', seconds='94'), *clips.EXACT)
    discs = [moving_pictures.disc(number, soft=False) for number in range(CLIP[2])]
    (folder / 'stickers').mkdir()
    for name in ('sticker.webp', 'loop.gif', 'stickers/a.gif', 'logo.png'):
        moving_pictures.write_by_pillow(folder / name, discs, [80] * len(discs))
    clips.make(folder / 'logo.mov', '-i', folder / 'logo.png', '-c:v', 'prores_ks', '-pix_fmt', 'yuva444p10le')
    (folder / 'logo.png').unlink()
    torch.manual_seed(0)
    large = {'params_ema': RRDBNet(3, 3, 4, 8, 1, 4).state_dict()}
    small = {'params': SRVGGNetCompact(3, 3, 8, 2, 4).state_dict()}
    for name in ('weights/RealESRGAN_x4plus', 'weights/RealESRGAN_x4plus_anime_6B', 'path/to/RealESRGAN_x4plus',
                 'path/to/custom_model'):
        torch.save(large, folder / f'{name}.pth')
    for name in ('realesr-general-x4v3', 'realesr-general-wdn-x4v3', 'realesr-animevideov3'):
        torch.save(small, folder / f'weights/{name}.pth')
    # Commands that are run by bash get the Python of the tests, and the command that pip installs.
    clips.program(folder / 'bin', 'python', f'exec {sys.executable} "$@"')
    program = 'import sys, inference_realesrgan as script; sys.argv[0] = \'inference_realesrgan\'; script.main()'
    clips.program(folder / 'bin', 'inference_realesrgan', f'exec {sys.executable} -c "{program}" "$@"')


def take_real_photo(folder: Path) -> None:
    """Put the photo with a face in place of the small one, and small face networks beside it."""
    (folder / 'inputs/astronaut.jpg').write_bytes((PROJECT / 'inputs/astronaut.jpg').read_bytes())
    face_stand_ins.save_small_networks(folder / 'weights')
