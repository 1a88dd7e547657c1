#!/usr/bin/env python3
"""Upscale pictures with Real-ESRGAN."""
from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realesrgan import cli
from realesrgan.errors import UsageError
from realesrgan.pictures import formats
from realesrgan.workers import worker

if TYPE_CHECKING:
    from realesrgan.pictures.batch import Batch, Outcome
    from realesrgan.pictures.names import Job

logger = logging.getLogger('realesrgan')

_STREAM = '-'


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this script's options."""
    parser = cli.new_parser(__doc__)
    parser.add_argument('-i', '--input', type=cli.path, nargs='+', action='extend', metavar='PATH',
                        default=argparse.SUPPRESS,
                        help='pictures, folders or glob patterns, or - for stdin (default: inputs)')
    parser.add_argument('-o', '--output', type=cli.path, default='results', metavar='FOLDER',
                        help='folder for the results, or - for stdout (default: %(default)s)')
    parser.add_argument('-r', '--recursive', action='store_true', help='go into folders and keep their structure')
    cli.add_upsampler_options(parser, default_model='RealESRGAN_x4plus')
    cli.add_result_options(parser)
    cli.add_face_options(parser)
    parser.add_argument('--ext', choices=formats.list_choices(), default='auto',
                        help='format of the results; auto is that of the input (default: %(default)s)')
    parser.add_argument('--quality', type=cli.number(int, 1, 100), default=95, metavar='1..100',
                        help=f'quality of {" and ".join(formats.list_choices_with_quality())} (default: %(default)s)')
    cli.add_verbosity_options(parser)
    return parser


@dataclass
class Tally:
    """What came of the pictures."""

    done: int = 0
    failed: int = 0
    skipped: int = 0
    megapixels: float = 0.0

    def summary(self, seconds: float) -> str:
        """Return the last line of a run."""
        parts = [f'{self.done} done', f'{self.failed} failed']
        if self.skipped:
            parts.append(f'{self.skipped} skipped')
        return f'{", ".join(parts)}, {seconds:.1f} s, {self.megapixels / max(seconds, 1e-9):.3g} megapixels/s'


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status: 0, 1 if any picture failed, 2 for usage, 130 after Ctrl-C."""
    return cli.run(_work, build_parser(), argv)


def _work(args: argparse.Namespace) -> int:
    from realesrgan.pictures.batch import Batch
    start = time.perf_counter()
    faces = cli.face_options(args)
    inputs = getattr(args, 'input', ['inputs'])
    tally = Tally()
    jobs = _jobs(args, inputs, tally)
    todo = _without_existing(jobs, tally) if args.skip_existing and args.output != _STREAM else jobs
    if todo:
        sources = {os.path.realpath(job.source) for job in jobs if job.file.data is None}
        batch = Batch(todo, sources, args.outscale, args.alpha_upsampler, args.quality)
        _follow(_outcomes(batch, faces, args), len(todo), args, tally)
    if not args.quiet:
        print(tally.summary(time.perf_counter() - start), file=sys.stderr if args.output == _STREAM else sys.stdout)
    return int(tally.failed > 0)


def _jobs(args: argparse.Namespace, inputs: Sequence[str], tally: Tally) -> list[Job]:
    from realesrgan.pictures.inputs import InputFile, find_pictures
    from realesrgan.pictures.names import plan
    output = Path(args.output)
    to_stdout = args.output == _STREAM
    if list(inputs) == [_STREAM]:
        job, = plan([InputFile(Path('stdin'), data=sys.stdin.buffer.read())], output, args.suffix, args.ext)
        return [replace(job, to_stdout=to_stdout)]

    def failed(error: Exception) -> None:
        cli.log_error(error, traceback=args.verbose)
        tally.failed += 1

    files = find_pictures(inputs, recursive=args.recursive, exclude=None if to_stdout else output, on_error=failed)
    if to_stdout and len(files) > 1:
        raise UsageError(f'{len(files)} pictures can\'t all go to stdout; name a folder with -o')
    return [replace(job, to_stdout=to_stdout) for job in plan(files, output, args.suffix, args.ext)]


def _without_existing(jobs: Sequence[Job], tally: Tally) -> list[Job]:
    missing = [job for job in jobs if not any(target.exists() for target in job.possible_targets)]
    tally.skipped = len(jobs) - len(missing)
    return missing


def _check_folder(output: str) -> None:
    """Find out before hours of work that the results can't be written."""
    if output == _STREAM:
        return
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _outcomes(batch: Batch, faces: worker.FaceOptions | None, args: argparse.Namespace) -> Iterator[Outcome]:
    """Upscale pictures in this process, in order, or in one for each of several GPUs, as they come."""
    from realesrgan.pictures.batch import cut_batch, upscale_batch, upscale_whole_batch
    from realesrgan.weights import loading as weights
    from realesrgan.workers.pool import ProcessPool
    options, places = cli.upsampler_options(args), [worker.Place(gpu, 1) for gpu in args.gpu_id or [None]]
    if len(places) == 1 or len(batch.jobs) == 1:
        worker.initialize(worker.build, options, faces, places[0])
        worker.enhancer().on_tile = _TileBar(quiet=args.quiet or not sys.stderr.isatty())
        _check_folder(args.output)
        yield from upscale_batch(batch)
        return
    if faces is not None:
        worker.prepare_faces(faces)
    weights.fingerprint(options.model_name, options.model_path, options.denoise_strength)  # fetched once, not by each
    _check_folder(args.output)
    with ProcessPool(places, worker.initialize, (worker.build, options, faces)) as pool:
        for outcomes in pool.imap_unordered(upscale_whole_batch, cut_batch(batch)):
            yield from outcomes


def _follow(outcomes: Iterator[Outcome], total: int, args: argparse.Namespace, tally: Tally) -> None:
    """Say and count what comes of the pictures."""
    from tqdm import tqdm

    from realesrgan.log import about
    with tqdm(total=total, unit='image', disable=True if args.quiet else None) as bar:
        for outcome in outcomes:
            with about(outcome.job.source):
                if outcome.error is not None:
                    cli.log_error(outcome.error, traceback=args.verbose)
                    tally.failed += 1
                else:
                    logger.info('%s -> %s', outcome.job.source, 'stdout' if outcome.job.to_stdout else outcome.target)
                    tally.done += 1
                    tally.megapixels += outcome.megapixels
            bar.update()


class _TileBar:
    """Shows the tiles of the current picture below the bar of pictures, if it takes long."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None

    def __call__(self, done: int, total: int) -> None:
        from tqdm import tqdm
        if self._quiet or total == 1:
            return
        if done == 1:
            self.close()
            self._bar = tqdm(total=total, unit='tile', leave=False, delay=3, position=1)
        self._bar.update()
        if done == total:
            self.close()

    def close(self) -> None:
        """Take the bar away, also that of a picture that failed half-way."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


if __name__ == '__main__':
    sys.exit(main())
