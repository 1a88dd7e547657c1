#!/usr/bin/env python3
"""Measure what tiles cost in quality: PSNR to the untiled result against pad and blending, in single precision."""
from __future__ import annotations

from typing import Any

import cv2
import measure
import numpy as np

from realesrgan.engines.choice import make_engine
from realesrgan.engines.engine import Engine
from realesrgan.upscaling.blending import Stitcher
from realesrgan.upscaling.tiles import Tile, cut_into_even_tiles, cut_into_tiles
from realesrgan.weights import load_model

TILE = 128
PADS = {'RealESRGAN_x4plus': (10, 16, 24, 32, 48), 'realesr-animevideov3': (10, 18)}


def stitched(engine: Engine, picture: np.ndarray, tiles: list[Tile], blend: int) -> np.ndarray:
    """Return a picture upscaled tile by tile."""
    height, width = picture.shape[:2]
    result = np.empty((height * engine.scale, width * engine.scale, 3), np.uint8)
    stitcher = Stitcher(result, engine.scale, blend)
    for tile in tiles:
        stitcher.add(tile, engine(picture[None, tile.rows.window, tile.columns.window])[0])
    return result


def main() -> None:
    """Print the table."""
    args = measure.create_parser(__doc__, runs=1).parse_args()
    picture = cv2.resize(cv2.imread(str(measure.PHOTO)), (384, 384), interpolation=cv2.INTER_CUBIC)
    rows: list[dict[str, Any]] = []
    for model, pads in PADS.items():
        network = load_model(model)
        engine = make_engine(network, 'cpu', half=False)
        whole = engine(picture[None])[0].astype(float)
        for pad in pads:
            for blend in sorted({0, min(8, pad)}):
                tiles = (cut_into_even_tiles(384, 384, TILE + 2 * (pad + 1), pad) if blend else
                         cut_into_tiles(384, 384, TILE, pad))
                difference = stitched(engine, picture, tiles, blend) - whole
                rows.append({'model': model, 'tile': TILE, 'pad': pad, 'blend': blend,
                             'PSNR (dB)': 10 * np.log10(255 ** 2 / max(np.mean(difference ** 2), 1e-9)),
                             'worst (of 255)': int(np.abs(difference).max())})
    measure.report(rows, args.json)


if __name__ == '__main__':
    main()
