#!/usr/bin/env python3
"""Upscale pictures with Real-ESRGAN."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from realesrgan.cli import parser
from realesrgan.cli.display import Display
from realesrgan.cli.run import run, run_and_exit
from realesrgan.options import PictureOptions


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this script's options."""
    return parser.build_parser(
        PictureOptions, __doc__,
        inputs='pictures, folders or glob patterns, or - for stdin', output='folder for the results, or - for stdout',
        sample='photo.jpg', examples={
            '': '-n RealESRGAN_x4plus -i photo.jpg -o results',
            'files': '-i photos -r -o results --skip_existing',
            'result': '-i scan.tif -s 2 --ext png'})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status: 0, 1 if any picture failed, 2 for usage, 130 after Ctrl-C."""
    return run(upscale, build_parser(), argv)


def upscale(args: argparse.Namespace) -> int:
    """Upscale what the arguments say and return the exit status."""
    from realesrgan.pictures import upscale_pictures
    inputs, options = parser.read_inputs(args), parser.read_options(PictureOptions, args, check=args.report is not None)
    to = sys.stderr if args.output == '-' else sys.stdout
    with Display('megapixels', quiet=args.quiet, verbose=args.verbose, to=to) as display, \
            parser.open_report(args, options, display) as show:
        upscale_pictures(inputs, args.output, options, on_event=show)
    return display.summarise()


#: What `pip install` makes a command of.
command = partial(run_and_exit, main)

if __name__ == '__main__':
    command()
