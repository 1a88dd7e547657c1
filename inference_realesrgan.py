#!/usr/bin/env python3
"""Upscale pictures with Real-ESRGAN."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from realesrgan.cli import options
from realesrgan.cli.display import Display
from realesrgan.cli.run import run
from realesrgan.cli.types import make_number_type
from realesrgan.pictures.formats import list_choices, list_choices_with_quality


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this script's options."""
    parser = options.create_parser(__doc__, '-n RealESRGAN_x4plus -i photo.jpg -o results')
    files = options.add_input_options(parser, 'pictures, folders or glob patterns, or - for stdin',
                                      'folder for the results, or - for stdout',
                                      '-i photos -r -o results --skip_existing')
    files.add_argument('-r', '--recursive', action='store_true', help='go into folders and keep their structure')
    options.add_upsampler_options(parser, 'RealESRGAN_x4plus', 'photo.jpg')
    result = options.add_result_options(parser, '-i scan.tif -s 2 --ext png')
    result.add_argument('--ext', choices=list_choices(), default='auto',
                        help='format of the results; auto is that of the input (default: %(default)s)')
    result.add_argument('--quality', type=make_number_type(int, 1, 100), default=95, metavar='1..100',
                        help=f'quality of {" and ".join(list_choices_with_quality())} (default: %(default)s)')
    options.add_face_options(parser, 'photo.jpg')
    options.add_cluster_options(parser, 'photo.jpg')
    options.add_judging_options(parser, 'a picture of input and result', 'photo.jpg')
    options.add_verbosity_options(parser, 'photo.jpg')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status: 0, 1 if any picture failed, 2 for usage, 130 after Ctrl-C."""
    return run(upscale, build_parser(), argv)


def upscale(args: argparse.Namespace) -> int:
    """Upscale what the arguments say and return the exit status."""
    from realesrgan.pictures import PictureOptions, upscale_pictures
    picture_options = PictureOptions(
        upsampler=options.read_upsampler_options(args), faces=options.read_face_options(args),
        gpu_ids=options.read_gpu_ids(args),
        outscale=args.outscale, suffix=args.suffix, extension=args.ext, quality=args.quality,
        alpha_upsampler=args.alpha_upsampler, recursive=args.recursive, skip_existing=args.skip_existing,
        max_pixels=args.max_pixels, check=args.report is not None, compare=args.compare,
        cluster=options.read_cluster_options(args))
    to = sys.stderr if args.output == '-' else sys.stdout
    with Display('megapixels', quiet=args.quiet, verbose=args.verbose, to=to) as display, \
            options.open_report(args, display) as hear:
        upscale_pictures(options.read_inputs(args), args.output, picture_options, on_event=hear)
    return display.summarise()


if __name__ == '__main__':
    sys.exit(main())
