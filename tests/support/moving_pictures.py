"""Animated pictures, written byte by byte, each with what viewers show of it."""
from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support import clips

SIZE = (24, 32)  # rows and columns
PALETTE = np.stack([np.arange(256), 255 - np.arange(256), np.arange(256) * 3 % 256], 1).astype(np.uint8)


@dataclass
class Shown:
    """A file as viewers show it: frames (N x H x W x 4, RGBA), the seconds of each, and its plays (0: endless)."""

    frames: np.ndarray
    seconds: list[Fraction]
    plays: int


def ramp(shift=0, size=SIZE):
    """Indices of a palette, from 1 to 255."""
    rows, columns = np.mgrid[:size[0], :size[1]]
    return ((rows * 3 + columns * 4 + shift) % 255 + 1).astype(np.uint8)


def disc(number, *, soft, size=SIZE, radius=7):
    """A disc on its way around, RGBA, with a hard or a soft edge."""
    rows, columns = np.mgrid[:size[0], :size[1]]
    centre = size[0] * (0.5 + 0.2 * np.sin(number)), size[1] * (0.5 + 0.2 * np.cos(number))
    distance = radius - np.hypot(rows - centre[0], columns - centre[1])
    alpha = np.clip(distance / 5, 0, 1) if soft else distance > 0
    return np.dstack([np.full(size, 230), columns * 6, np.full(size, 40), alpha * 255]).astype(np.uint8)


def write_gif(path, frames, loop=None, palette=PALETTE):
    """Write a GIF of frames: left, top, indices, hundredths of a second, disposal, transparent index, own palette."""
    data = b'GIF89a' + struct.pack('<HHBBB', *SIZE[::-1], 0xF7, 0, 0) + palette.tobytes()
    if loop is not None:
        data += b'\x21\xFF\x0BNETSCAPE2.0\x03\x01' + struct.pack('<H', loop) + b'\0'
    canvas, shown = np.zeros((*SIZE, 4), np.uint8), []
    for left, top, indices, delay, disposal, clear, own in frames:
        height, width = indices.shape
        data += b'\x21\xF9\x04' + struct.pack('<BHBB', disposal << 2 | (clear is not None), delay, clear or 0, 0)
        data += b'\x2C' + struct.pack('<HHHHB', left, top, width, height, 0 if own is None else 0x87)
        data += (b'' if own is None else own.tobytes()) + _pack(indices)
        before, region = canvas.copy(), canvas[top:top + height, left:left + width]
        seen = indices != (-1 if clear is None else clear)
        region[seen] = np.dstack([(palette if own is None else own)[indices], np.full_like(indices, 255)])[seen]
        shown.append(canvas.copy())
        if disposal == 2:
            region[:] = 0
        elif disposal == 3:
            canvas = before
    path.write_bytes(data + b'\x3B')
    return Shown(np.array(shown), [Fraction(frame[3], 100) for frame in frames],
                 1 if loop is None else loop + 1 if loop else 0)


def _pack(indices):
    """LZW with codes of 9 bits: the dictionary is cleared before it grows."""
    bits = ''.join(f'{code:09b}'[::-1] for number, index in enumerate(indices.ravel())
                   for code in ([256] if number % 250 == 0 else []) + [int(index)]) + f'{257:09b}'[::-1]
    data = bytes(int(bits[at:at + 8][::-1], 2) for at in range(0, len(bits), 8))
    return b'\x08' + b''.join(bytes([len(data[at:at + 255])]) + data[at:at + 255]
                              for at in range(0, len(data), 255)) + b'\0'


def write_apng(path, frames, plays=0, still=None):
    """Write an APNG of frames: left, top, RGBA, numerator, denominator, disposal, blending; `still` is no frame."""
    def chunk(name, content):
        return struct.pack('>I', len(content)) + name + content + struct.pack('>I', zlib.crc32(name + content))

    def deflate(pixels):
        return zlib.compress(b''.join(b'\0' + row.tobytes() for row in pixels))

    data = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', *SIZE[::-1], 8, 6, 0, 0, 0))
    data += chunk(b'acTL', struct.pack('>II', len(frames), plays))
    data += b'' if still is None else chunk(b'IDAT', deflate(still))
    canvas, shown, sequence = np.zeros((*SIZE, 4), np.uint8), [], 0
    for left, top, pixels, numerator, denominator, disposal, blending in frames:
        height, width = pixels.shape[:2]
        data += chunk(b'fcTL', struct.pack('>IIIIIHHBB', sequence, width, height, left, top, numerator, denominator,
                                           disposal, blending))
        is_first = sequence == 0 and still is None
        data += chunk(b'IDAT', deflate(pixels)) if is_first else chunk(
            b'fdAT', struct.pack('>I', sequence + 1) + deflate(pixels))
        sequence += 1 if is_first else 2
        before, region = canvas.copy(), canvas[top:top + height, left:left + width]
        region[:] = lay_over(pixels, region) if blending else pixels
        shown.append(canvas.copy())
        if disposal == 1:
            region[:] = 0
        elif disposal == 2:
            canvas = before
    path.write_bytes(data + chunk(b'IEND', b''))
    return Shown(np.array(shown), [Fraction(frame[3], frame[4] or 100) for frame in frames], plays)


def lay_over(above, below):
    over, under = above[..., 3:] / 255, below[..., 3:] / 255
    alpha = over + under * (1 - over)
    colours = (above[..., :3] * over + below[..., :3] * under * (1 - over)) / np.maximum(alpha, 1e-9)
    return np.rint(np.dstack([colours, alpha * 255])).astype(np.uint8)


def write_by_pillow(path, frames, milliseconds, plays=0, **options):
    """Write a WebP or an AVIF, by the extension."""
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=milliseconds, loop=plays, **options)
    return Shown(np.array(frames), [Fraction(each, 1000) for each in milliseconds], plays)


def read(path):
    """Return a result as viewers show it. ffmpeg lays soft frames of APNG over each other exactly, unlike Pillow."""
    with Image.open(path) as image:
        frames, seconds = [], []
        for number in range(image.n_frames):
            image.seek(number)
            frames.append(np.asarray(image.convert('RGBA')))
            seconds.append(Fraction(image.info.get('duration', 0)).limit_denominator(1 << 16) / 1000)
        loop, kind = image.info.get('loop'), image.format
    if kind == 'PNG':
        data = clips.ffmpeg('-i', f'file:{path}', *clips.ALL_FRAMES, '-f', 'rawvideo', '-pix_fmt', 'rgba', '-')
        frames = np.frombuffer(data, np.uint8).reshape(-1, *frames[0].shape)
    plays = (1 if loop is None else loop + 1 if loop else 0) if kind == 'GIF' else loop
    return Shown(np.array(frames), seconds, plays)


def enlarge(frames, factor=4):
    return frames.repeat(factor, 1).repeat(factor, 2)


def premultiply(frames):
    return frames[..., :3] * (frames[..., 3:] / 255)


def list_all(folder: Path):
    """Write animations of all kinds into a folder; return what each shows, by its name."""
    full = [(0, 0, ramp(20 * number), delay, 1, None, None) for number, delay in enumerate((3, 50, 7, 120, 2))]
    patch = ramp(9, (8, 10))
    patch[3:5, 3:6] = 0
    pieces = [(0, 0, np.where(ramp() > 90, ramp(), 0).astype(np.uint8), 10, 1, 0, None),
              *((3 * number, 2 * number, patch, 8 + number, disposal, 0, None)
                for number, disposal in enumerate((2, 3, 1, 2, 3, 0), 1))]
    random = np.random.default_rng(0)
    palettes = [random.integers(0, 256, (256, 3), np.uint8) for _ in range(3)]
    soft = [disc(number, soft=True) for number in range(5)]
    small = [(4, 3, disc(number, soft=True, size=(12, 16), radius=4), 7, 100, disposal, 1)
             for number, disposal in enumerate((0, 1, 2, 0))]
    return {
        'uneven.gif': write_gif(folder / 'uneven.gif', full, loop=0),
        'pieces.gif': write_gif(folder / 'pieces.gif', pieces, loop=2),
        'palettes.gif': write_gif(folder / 'palettes.gif', [(0, 0, ramp(number), 700, 1, None, palette)
                                                            for number, palette in enumerate(palettes)]),
        'soft.png': write_apng(folder / 'soft.png', [(0, 0, frame, 1 + number, 24, 0, 0)
                                                     for number, frame in enumerate(soft)], plays=3),
        'over.apng': write_apng(folder / 'over.apng', [(0, 0, soft[0], 30, 100, 0, 0), *small]),
        'still.apng': write_apng(
            folder / 'still.apng', [(0, 0, disc(number, soft=False), 1, 10, 1, 0) for number in range(3)], 1,
            np.full((*SIZE, 4), 255, np.uint8)),
        'exact.webp': write_by_pillow(folder / 'exact.webp', soft, [40, 1000, 17, 33, 250], 5, lossless=True,
                                      exact=True)}
