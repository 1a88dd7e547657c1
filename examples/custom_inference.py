#!/usr/bin/env python3
"""Upscale a folder with several models, each into a folder of its own, in one process:

    python examples/custom_inference.py photos
    python examples/custom_inference.py photos RealESRGAN_x4plus realesr-animevideov3
"""
from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # not needed where the package is installed

from realesrgan.errors import RealESRGANError, flatten_message
from realesrgan.pictures import PictureOptions, upscale_pictures


def main() -> int:
    if len(sys.argv) < 2:
        print('usage: custom_inference.py FOLDER [MODEL ...]', file=sys.stderr)
        return 2
    folder, *models = sys.argv[1:]
    failed = False
    for model in models or ['RealESRGAN_x4plus', 'RealESRGAN_x4plus_anime_6B', 'realesr-animevideov3']:
        try:
            outcomes = upscale_pictures(folder, f'results_{model}', PictureOptions(model_name=model, tile=400))
        except (RealESRGANError, OSError) as error:
            print(f'{model}: {flatten_message(error)}', file=sys.stderr)
            failed = True
            continue
        for outcome in outcomes:
            if outcome.error is not None:
                print(f'{model}: {outcome.source}: {flatten_message(outcome.error)}', file=sys.stderr)
        failed = failed or any(outcome.failed for outcome in outcomes)
        print(f'{model}: {sum(not outcome.failed for outcome in outcomes)} of {len(outcomes)} pictures')
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
