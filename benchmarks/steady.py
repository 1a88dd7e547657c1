#!/usr/bin/env python3
"""Measure what `--steady` does to films whose truth is known: flicker, edges, likeness, the worst places, seconds.

Each film is 512x384, made of scikit-image's pictures or taken from a file; its quarter, degraded, is the input. Flicker
is the mean change of luma from frame to frame where the truth stands still. Edges kept are the mean gradient against
that of the results as they are; true edges are the part of it that the truth has too. Beside `--steady` stands the mean
of three frames, weighted 0.15, 0.7, 0.15, that other programs take.
"""
from __future__ import annotations

import itertools
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from measure import Table, create_parser
from skimage import data

from realesrgan.enhancers import build_enhancer
from realesrgan.ffmpeg.programs import find_ffmpeg
from realesrgan.options import UpsamplerOptions
from realesrgan.pool.pool import list_places
from realesrgan.videos.steady import Steadier

WIDTH, HEIGHT, FRAMES = 512, 384, 16
Film = list[np.ndarray]
Degrade = Callable[[Film], Film]


# ---- films ----

def pan(name: str, right: float, down: float, *, zoom: float = 1.0, jitter: float = 0.0) -> Film:
    """Move over a picture of scikit-image, by some pixels each frame."""
    picture = np.ascontiguousarray(getattr(data, name)()[..., 2::-1])
    scale, rng, film = 1.4 * WIDTH / picture.shape[1], np.random.default_rng(3), []
    picture = cv2.resize(picture, None, fx=scale, fy=scale,
                         interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    for number in range(FRAMES):
        x, y = -(np.array([40 + right * number, 30 + down * number]) + rng.normal(0, jitter, 2))
        moved = np.array([[zoom ** number, 0, x], [0, zoom ** number, y]])
        film.append(cv2.warpAffine(picture, moved, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC,
                                   borderMode=cv2.BORDER_REFLECT))
    return film


def pass_over(film: Film, right: float, down: float) -> Film:
    """Let a round piece of another picture pass over a film."""
    side, made = 120, []
    piece = np.ascontiguousarray(data.chelsea()[60:60 + side, 120:120 + side, ::-1])
    rows, columns = np.mgrid[:side, :side] - side / 2
    mask = cv2.GaussianBlur((np.hypot(rows, columns) < side / 2 - 2).astype(np.float32), (0, 0), 1)[..., np.newaxis]
    for number, frame in enumerate(film):
        made.append(frame.copy())
        place = made[-1][int(120 + down * number):, int(30 + right * number):][:side, :side]
        height, width = place.shape[:2]
        place[:] = place * (1 - mask[:height, :width]) + (piece * mask)[:height, :width]
    return made


def draw() -> Film:
    """Draw a face that moves in every other frame over shapes that do not."""
    rng, film = np.random.default_rng(5), []
    ground = np.full((HEIGHT, WIDTH, 3), (220, 190, 150), np.uint8)
    for _ in range(14):
        centre, axes = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))), tuple(rng.integers(10, 90, 2).tolist())
        turn, colour = float(rng.integers(180)), tuple(rng.integers(40, 255, 3).tolist())
        cv2.ellipse(ground, centre, axes, turn, 0, 360, colour, -1, cv2.LINE_AA)
        cv2.ellipse(ground, centre, axes, turn, 0, 360, (20, 20, 30), 3, cv2.LINE_AA)
    for number in range(FRAMES):
        step = number // 2 * 2
        film.append(ground.copy())
        x, y = 60 + 14 * step, 200 + int(30 * np.sin(step / 3))
        cv2.circle(film[-1], (x, y), 60, (120, 180, 240), -1, cv2.LINE_AA)
        cv2.circle(film[-1], (x, y), 60, (10, 10, 20), 4, cv2.LINE_AA)
        for eye in (x - 20, x + 20):
            cv2.circle(film[-1], (eye, y - 15), 9, (20, 20, 20), -1, cv2.LINE_AA)
    return film


def scroll() -> Film:
    """Let text go up."""
    film = []
    for number in range(FRAMES):
        film.append(np.full((HEIGHT, WIDTH, 3), 30, np.uint8))
        for line in range(12):
            cv2.putText(film[-1], f'Line {line}: the quick brown fox', (20, 60 * line + 40 - 9 * number),
                        cv2.FONT_HERSHEY_SIMPLEX, 1.1, (230, 230, 200), 2, cv2.LINE_AA)
    return film


def read(path: Path) -> Film:
    """Read frames of a file, a second into it."""
    fit = f'scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=increase:flags=lanczos,crop={WIDTH}:{HEIGHT}'
    raw = run('-ss', '1', '-i', str(path), '-vf', fit, '-frames:v', str(FRAMES), '-f', 'rawvideo', '-pix_fmt', 'bgr24',
              '-')
    return list(np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3))


def run(*arguments: str, given: bytes = b'') -> bytes:
    """Run ffmpeg and return what it writes to stdout."""
    return subprocess.run([find_ffmpeg().ffmpeg, '-v', 'error', *arguments], input=given, check=True,
                          stdout=subprocess.PIPE).stdout


# ---- degradations, of inputs ----

def add_noise(film: Film) -> Film:
    """Add noise of 6 levels."""
    rng = np.random.default_rng(0)
    return [np.clip(np.rint(frame + rng.normal(0, 6, frame.shape)), 0, 255).astype(np.uint8) for frame in film]


def compress(film: Film, crf: int = 32) -> Film:
    """Encode a film with x264."""
    height, width = film[0].shape[:2]
    raw = ['-f', 'rawvideo', '-pix_fmt', 'bgr24']
    coded = run(*raw, '-s', f'{width}x{height}', '-r', '24', '-i', '-', '-c:v', 'libx264', '-crf', str(crf), '-pix_fmt',
                'yuv420p', '-f', 'h264', '-', given=b''.join(frame.tobytes() for frame in film))
    decoded = run('-f', 'h264', '-i', '-', *raw, '-', given=coded)
    return list(np.frombuffer(decoded, np.uint8).reshape(-1, height, width, 3))


def add_grain(film: Film) -> Film:
    """Add grain of 8 levels, and encode with x264 at crf 30."""
    rng, grainy = np.random.default_rng(1), []
    for frame in film:
        grain = cv2.GaussianBlur(rng.normal(0, 1, frame.shape[:2]), (0, 0), 0.7)
        grainy.append(np.clip(np.rint(frame + 8 / grain.std() * grain[..., np.newaxis]), 0, 255).astype(np.uint8))
    return compress(grainy, 30)


def list_films(files: Sequence[Path]) -> Iterator[tuple[str, Film, Degrade]]:
    """Yield the name, the truth and the degradation of each film."""
    still, cup = pan('astronaut', 0, 0), pan('coffee', 0, 0)
    yield 'still camera, noise', still, add_noise
    yield 'still camera, grain', cup, add_grain
    yield 'something passes, crf 32', pass_over(cup, 19, 3), compress
    yield 'something passes, noise', pass_over(pan('immunohistochemistry', 0, 0), 13, 3), add_noise
    yield 'pan with jitter, crf 32', pan('chelsea', 3.3, 1.1, jitter=1), compress
    yield 'pan, noise', pan('astronaut', 5.7, 2.1), add_noise
    yield 'zoom, grain', pan('rocket', 2, 2, zoom=1.012), add_grain
    yield 'fade out and in, crf 32', [np.rint(frame * min(1, abs(number - 7) / 6 + 0.03)).astype(np.uint8) for
                                      number, frame in enumerate(pan('astronaut', 1.5, 0))], compress
    lit = [np.clip(frame * (1.0, 1.5)[number >= 8] + (90 if number in (4, 12) else 0), 0, 255).astype(np.uint8)
           for number, frame in enumerate(pan('coffee', 2.2, 0.5))]
    yield 'flashes and sudden light, crf 32', lit, compress
    yield 'cuts, crf 32', pan('astronaut', 2, 0)[:5] + pan('coffee', 0, 2)[:5] + pan('chelsea', 0, 0)[:6], compress
    yield 'a drawing, crf 32', draw(), compress
    yield 'text that scrolls, crf 32', scroll(), compress
    for path in files:
        yield f'{path.stem}, crf 32', read(path), compress
        yield f'{path.stem}, noise', read(path), add_noise


# ---- measures ----

def steady(inputs: Film, results: Film) -> Film:
    """Return steadied results."""
    steadier = Steadier()
    pairs = enumerate(zip(inputs, results, strict=True))
    made = [each for number, pair in pairs for each in steadier.add(number, *pair)]
    return [result for _, result in [*made, *steadier.finish()]]


def average_three(film: Film) -> Film:
    """Return the mean of three frames, but across cuts."""
    made = list(film)
    for number in range(1, len(film) - 1):
        around = [film[number - 1], film[number + 1]]
        if all(cv2.absdiff(film[number], other).mean() < 60 for other in around):
            made[number] = np.rint(0.15 * around[0] + 0.7 * film[number] + 0.15 * around[1]).astype(np.uint8)
    return made


def measure(film: Film, off: Film, truth: Film) -> dict[str, float]:
    """Compare a film with its truth and with what the network made."""
    ours, theirs, true = (np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in each]).astype(np.float32)
                          for each in (film, off, truth))
    still = np.stack([cv2.erode((cv2.blur(np.abs(after - before), (9, 9)) < 2).astype(np.uint8), np.ones((9, 9)))
                      for before, after in itertools.pairwise(true)]) > 0

    def find_edges(luma: np.ndarray) -> np.ndarray:
        return np.stack([[cv2.Sobel(frame, cv2.CV_32F, 1, 0), cv2.Sobel(frame, cv2.CV_32F, 0, 1)] for frame in luma])

    def measure_error(luma: np.ndarray) -> np.ndarray:
        return np.square(luma - true)

    def measure_blocks(luma: np.ndarray) -> np.ndarray:
        return np.sqrt(measure_error(luma).reshape(len(luma), HEIGHT // 8, 8, WIDTH // 8, 8).mean((2, 4)))
    edges, edges_off, edges_true = map(find_edges, (ours, theirs, true))
    psnr, psnr_off = (10 * np.log10(255 ** 2 / measure_error(luma).mean((1, 2))) for luma in (ours, theirs))
    return {'flicker': float(np.abs(np.diff(ours, axis=0))[still].mean()), 'edges': float(np.abs(edges).mean() /
            np.abs(edges_off).mean()), 'true_edges': float((edges * edges_true).sum() / (edges_off * edges_true).sum()),
            'psnr': float(psnr.mean()), 'frame': float((psnr - psnr_off).min()),
            'block': float((measure_blocks(ours) - measure_blocks(theirs)).max())}


def main() -> None:
    """Measure all films."""
    parser = create_parser(__doc__, 1)
    parser.add_argument('films', nargs='*', type=Path, help='films to take pieces of, beside those that are made')
    parser.add_argument('-n', '--model_name', default='realesr-animevideov3')
    parser.add_argument('--model_path', help='weights to use instead')
    options = parser.parse_args()
    enhancer = build_enhancer(UpsamplerOptions(model_name=options.model_name, model_path=options.model_path),
                              list_places((), 1)[0])
    rows, table = [], Table(options.json)
    for name, truth, degrade in list_films(options.films):
        inputs = degrade([cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for frame in truth])
        off = [enhancer.enhance(frame, outscale=4)[0] for frame in inputs]
        start = time.process_time()
        steadied = steady(inputs, off)
        seconds = (time.process_time() - start) / len(truth)
        enlarged = [cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST) for frame in inputs]
        bare, before, three, ours = (measure(film, off, truth)
                                     for film in (enlarged, off, average_three(off), steadied))
        rows.append({'film': name, 'flicker of the input': bare['flicker'], 'off': before['flicker'],
                     '3 frames': three['flicker'], 'steady': ours['flicker'],
                     'steady / off': ours['flicker'] / before['flicker'],
                     'edges kept, 3 frames': three['edges'], 'edges kept': ours['edges'],
                     'true edges, 3 frames': three['true_edges'], 'true edges': ours['true_edges'],
                     'PSNR off': before['psnr'], 'gain (dB), 3 frames': three['psnr'] - before['psnr'],
                     'gain (dB)': ours['psnr'] - before['psnr'],
                     'worst frame, 3 frames': three['frame'], 'worst frame': ours['frame'],
                     'worst block, 3 frames': three['block'], 'worst block': ours['block'],
                     'ms a frame': 1000 * seconds})
        table.add(rows[-1:])
    for title, choose in (('median', statistics.median), ('least', min), ('most', max)):
        table.add([{name: title if name == 'film' else choose(row[name] for row in rows) for name in rows[0]}])


if __name__ == '__main__':
    main()
