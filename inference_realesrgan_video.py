#!/usr/bin/env python3
"""Upscale videos with Real-ESRGAN."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from realesrgan.cli import options
from realesrgan.cli.display import Display
from realesrgan.cli.run import run
from realesrgan.cli.types import make_number_type, make_type
from realesrgan.errors import UsageError
from realesrgan.ffmpeg.containers import CONTAINERS
from realesrgan.ffmpeg.timing import parse_rate, parse_time
from realesrgan.pictures.formats import list_choices
from realesrgan.videos.options import DEINTERLACE


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this script's options."""
    parser = options.create_parser(__doc__, '-n realesr-animevideov3 -i film.mkv -o results -s 2')
    options.add_input_options(parser, 'videos, URLs, pipes such as /dev/stdin, folders of frames or of videos, '
                              'pictures or glob patterns', 'folder for the results',
                              '-i a.mkv b.mkv \'clips/*.mp4\' -o results')
    options.add_upsampler_options(parser, 'realesr-animevideov3', 'film.mkv')
    result = options.add_result_options(parser, '-i film.mkv -s 2 --ext mkv')
    result.add_argument('--ext', choices=(*list_choices(), *CONTAINERS), default='auto',
                        help='container of the results, auto is mp4; picture formats are for single pictures '
                             '(default: %(default)s)')
    options.add_face_options(parser, 'film.mkv')
    _add_video_options(parser)
    _add_long_video_options(parser)
    options.add_cluster_options(parser, 'film.mkv')
    options.add_judging_options(parser, 'a short clip of input and result', 'film.mkv')
    options.add_verbosity_options(parser, 'film.mkv')
    return parser


def _add_video_options(parser: argparse.ArgumentParser) -> None:
    group = options.add_group(parser, 'video', '-i film.mkv --start 1:30 --end 1:32.5 --vcodec libx265 --crf 18')
    group.add_argument('--fps', type=make_type(parse_rate), metavar='RATE',
                       help='frames a second of the result, as 25, 29.97 or 30000/1001; the duration stays '
                            '(default: that of the input; 24 for a folder of frames)')
    group.add_argument('--start', type=make_type(parse_time), metavar='TIME',
                       help='begin here: 90, 1:30 or 0:01:30.5')
    group.add_argument('--end', type=make_type(parse_time), metavar='TIME', help='end here')
    group.add_argument('--deinterlace', choices=DEINTERLACE, default='auto',
                       help='turn fields into frames; auto: where the video is flagged so (default: %(default)s)')
    group.add_argument('--vcodec', metavar='ENCODER',
                       help='ffmpeg\'s name of the video encoder (default: libx264; libvpx-vp9 for webm)')
    group.add_argument('--crf', type=make_number_type(float, 0, 63), metavar='N',
                       help='quality of the encoder, smaller is better (default: the encoder\'s own)')
    group.add_argument('--preset', metavar='NAME', help='speed of the encoder (default: the encoder\'s own)')
    group.add_argument('--pix_fmt', metavar='FORMAT',
                       help='pixel format (default: depth and chroma of the input; in mp4 and mov 4:2:0, which players '
                            'expect)')
    group.add_argument('--ffmpeg_bin', default='ffmpeg', metavar='PATH',
                       help='ffmpeg, or the folder of ffmpeg and ffprobe (default: those in PATH, else pip\'s)')
    group.add_argument('--extract_frame_first', action='store_true',
                       help='decode the whole video to files before upscaling it')


def _add_long_video_options(parser: argparse.ArgumentParser) -> None:
    group = options.add_group(parser, 'long videos', '-i film.mkv --dry_run')
    group.add_argument('--num_process_per_gpu', type=make_number_type(int, 1), default=1, metavar='N',
                       help='processes on each GPU, or on the CPU, which they share (default: %(default)s)')
    group.add_argument('--chunk', type=make_type(parse_time), metavar='TIME',
                       help='length of the parts that workers take and an interrupted run keeps; 0 for one part '
                            '(default: about a minute of work, from 1 to 10 s)')
    group.add_argument('--restart', action='store_true',
                       help='throw away the parts of an earlier run that had other options')
    group.add_argument('--keep_parts', action='store_true', help='keep the parts when the video is done')
    group.add_argument('--dry_run', action='store_true',
                       help='print what would be done, how long it would take and what it would need; do nothing')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status: 0, 1 if any input failed, 2 for usage, 130 after Ctrl-C."""
    return run(upscale, build_parser(), argv)


def upscale(args: argparse.Namespace) -> int:
    """Upscale what the arguments say and return the exit status."""
    from realesrgan.videos import VideoOptions, upscale_videos
    if args.dry_run and (args.compare or args.report):
        raise UsageError('--dry_run makes no results that --compare or --report could show')
    video_options = VideoOptions(
        upsampler=options.read_upsampler_options(args), faces=options.read_face_options(args),
        gpu_ids=options.read_gpu_ids(args),
        workers_per_gpu=args.num_process_per_gpu, outscale=args.outscale, suffix=args.suffix, extension=args.ext,
        alpha_upsampler=args.alpha_upsampler, skip_existing=args.skip_existing, max_pixels=args.max_pixels,
        fps=args.fps, start=args.start, end=args.end, deinterlace=args.deinterlace,
        extract_first=args.extract_frame_first, codec=args.vcodec,
        crf=args.crf, preset=args.preset, pixel_format=args.pix_fmt, ffmpeg=args.ffmpeg_bin, chunk=args.chunk,
        restart=args.restart, keep_parts=args.keep_parts, dry_run=args.dry_run,
        check=args.report is not None, compare=args.compare,
        cluster=options.read_cluster_options(args))
    with Display('frames', quiet=args.quiet, verbose=args.verbose, to=sys.stdout) as display, \
            options.open_report(args, display) as hear:
        upscale_videos(options.read_inputs(args), args.output, video_options, on_event=hear)
    return display.summarise()


if __name__ == '__main__':
    sys.exit(main())
