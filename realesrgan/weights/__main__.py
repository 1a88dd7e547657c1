"""`python -m realesrgan.weights` lists the models and where their weights would come from, or downloads them."""
from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import RealESRGANError
from ..models import FACE_MODELS, MODELS, PackagedWeights, WeightFile
from .sources import DATA_PACKAGE, Source, locate, obtain


def main(argv: Sequence[str] | None = None) -> int:
    """List the models and where their weights would come from, or download those named; return the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m realesrgan.weights',
        description='List the models and where their weights would come from, or download those named.')
    parser.add_argument('names', nargs='*', metavar='NAME', help='models to download, or "all"')
    names = parser.parse_args(argv).names
    files = {name: [file for file in (spec.weights, spec.denoise_partner) if file] for name, spec in MODELS.items()}
    files |= {name: list(face_spec) for name, face_spec in FACE_MODELS.items()}
    if unknown := [name for name in names if name not in files and name != 'all']:
        parser.error(f'unknown model {unknown[0]!r}: choose from {", ".join(files)} or all')
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    logging.getLogger('urllib3').setLevel(logging.ERROR)  # or each attempt would be a line of its words
    if not names:
        rows = list(list_sources())
        width = max(len(label) for label, _ in rows) + 2
        for label, source in rows:
            print(f'{label:<{width}}{describe(source)}')
        return 0
    failed = False
    wanted: dict[WeightFile, str] = {}
    for name in files if 'all' in names else names:
        for file in files[name]:
            wanted.setdefault(file, name)
    for file, name in wanted.items():
        try:
            print(f'{name}: {obtain(file)}')
        except (RealESRGANError, OSError) as error:
            print(f'{name}: {error}', file=sys.stderr)
            failed = True
    return int(failed)


def list_sources() -> Iterator[tuple[str, Source]]:
    """Yield a label and where the file would come from, for every file of every model."""
    for spec in MODELS.values():
        yield spec.name, locate(spec.weights, spec.packaged)
        if spec.denoise_partner is not None:
            yield '  and for -dn', locate(spec.denoise_partner)
    for name, face_spec in FACE_MODELS.items():
        yield name, locate(face_spec.restorer)
    for file in dict.fromkeys(file for spec in FACE_MODELS.values() for file in (spec.detector, spec.parser)):
        yield '  and for faces', locate(file)


def describe(source: Source) -> str:
    """Say where a file would come from."""
    if isinstance(source, PackagedWeights):
        return f'package {DATA_PACKAGE} ({source.stem})'
    return str(source) if isinstance(source, Path) else f'download from {source.url}'


if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
