"""`python -m realesrgan.weights` lists the models and where their weights would come from, or downloads them."""
from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import RealESRGANError
from ..models import FACE_MODELS, MODELS, PackagedWeights, WeightFile
from .sources import DATA_PACKAGE, get_weights_folder, locate, obtain


def main(argv: Sequence[str] | None = None) -> int:
    """List the models and where their weights would come from, or download those named.

    Return the exit status: 0, 1 if a download failed, 130 after Ctrl-C.
    """
    parser = argparse.ArgumentParser(
        prog='python -m realesrgan.weights',
        description='List the models and where their weights would come from, or download those named.')
    parser.add_argument('names', nargs='*', metavar='NAME', help='models to download, or "all"')
    names = parser.parse_args(argv).names
    files: dict[str, Sequence[WeightFile]] = {
        name: [file for file in (spec.weights, spec.denoise_partner) if file] for name, spec in MODELS.items()}
    files |= FACE_MODELS
    if unknown := [name for name in names if name not in files and name != 'all']:
        parser.error(f'unknown model {unknown[0]!r}: choose from {", ".join(files)} or all')
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    logging.getLogger('urllib3').setLevel(logging.ERROR)  # or each attempt would be a line of its words
    wanted: dict[WeightFile, str] = {}
    for name in names if names and 'all' not in names else files:
        for file in files[name]:
            wanted.setdefault(file, name)
    failed = False
    for file, name in wanted.items():
        if not names:
            is_first = file is files[name][0]
            source = locate(file, MODELS[name].packaged if is_first and name in MODELS else None)
            origin = source if isinstance(source, Path) else f'download from {file.url}'
            if isinstance(source, PackagedWeights):
                origin = f'package {DATA_PACKAGE} ({source.stem})'
            print(f'{name if is_first else "  and":<28}{origin}')
            continue
        try:
            print(f'{name}: {obtain(file)}')
        except (RealESRGANError, OSError) as error:
            print(f'{name}: {error}', file=sys.stderr)
            failed = True
        except KeyboardInterrupt:
            return 130
    if not names:
        print(f'Downloads go to {get_weights_folder()}')
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
