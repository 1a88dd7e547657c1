#!/usr/bin/env python3
"""Upscale videos with Real-ESRGAN."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial

from realesrgan.cli import parser
from realesrgan.cli.display import Display
from realesrgan.cli.run import run, run_and_exit
from realesrgan.options import VideoOptions


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this script's options."""
    return parser.build_parser(
        VideoOptions, __doc__,
        inputs='videos, URLs, pipes such as /dev/stdin, folders of frames or of videos, pictures, glob patterns or '
               'frame%%08d.png',
        output='folder for the results', sample='film.mkv', examples={
            '': '-n realesr-animevideov3 -i film.mkv -o results -s 2',
            'files': '-i a.mkv b.mkv \'clips/*.mp4\' -o results',
            'result': '-i film.mkv -s 2 --ext mkv'})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status: 0, 1 if any input failed, 2 for usage, 130 after Ctrl-C."""
    return run(upscale, build_parser(), argv)


def upscale(args: argparse.Namespace) -> int:
    """Upscale what the arguments say and return the exit status."""
    from realesrgan.videos import upscale_videos
    inputs, options = parser.read_inputs(args), parser.read_options(VideoOptions, args, check=args.report is not None)
    with Display('frames', quiet=args.quiet, verbose=args.verbose, to=sys.stdout) as display, \
            parser.open_report(args, options, display) as show:
        upscale_videos(inputs, args.output, options, on_event=show)
    return display.summarise()


#: What `pip install` makes a command of.
command = partial(run_and_exit, main)

if __name__ == '__main__':
    command()
