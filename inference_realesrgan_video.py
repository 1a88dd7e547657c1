#!/usr/bin/env python3
"""Upscale videos with Real-ESRGAN."""
from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realesrgan import cli

if TYPE_CHECKING:
    from realesrgan.faces import FaceEnhancer
    from realesrgan.upsampler import RealESRGANer
    from realesrgan.video import Outcome
    from realesrgan.video_plan import VideoOptions

logger = logging.getLogger('realesrgan')

_CONTAINERS = ('mp4', 'mkv', 'mov', 'webm')
_PICTURES = ('jpg', 'png')
_QUALITY = 95  # of a single picture as jpg


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this script's options."""
    parser = cli.new_parser(__doc__)
    parser.add_argument('-i', '--input', default='inputs', metavar='PATH',
                        help='video, URL, folder of frames, or picture (default: %(default)s)')
    parser.add_argument('-o', '--output', default='results', metavar='FOLDER',
                        help='folder for the result (default: %(default)s)')
    cli.add_upsampler_options(parser, default_model='realesr-animevideov3', several_gpus=True)
    cli.add_result_options(parser)
    cli.add_face_options(parser)
    parser.add_argument('--ext', choices=('auto', *_CONTAINERS, *_PICTURES), default='auto',
                        help='container of the result, auto is mp4; jpg and png are for a single picture '
                             '(default: %(default)s)')
    _add_video_options(parser)
    cli.add_verbosity_options(parser)
    return parser


def _add_video_options(parser: argparse.ArgumentParser) -> None:
    from realesrgan.media.timing import parse_rate, parse_time
    group = parser.add_argument_group('video')
    group.add_argument('--fps', type=_argument(parse_rate), metavar='RATE',
                       help='frames a second of the result, as 25, 29.97 or 30000/1001; the duration stays '
                            '(default: that of the input; 24 for a folder)')
    group.add_argument('--start', type=_argument(parse_time), metavar='TIME', help='begin here: 90, 1:30 or 0:01:30.5')
    group.add_argument('--end', type=_argument(parse_time), metavar='TIME', help='end here')
    group.add_argument('--deinterlace', choices=('auto', 'on', 'off'), default='auto',
                       help='make frames of fields; auto: where the video is flagged so (default: %(default)s)')
    group.add_argument('--vcodec', metavar='ENCODER',
                       help='ffmpeg\'s name of the video encoder (default: libx264; libvpx-vp9 for webm)')
    group.add_argument('--crf', type=cli.number(float, 0, 63), metavar='N',
                       help='quality of the encoder, smaller is better (default: the encoder\'s own)')
    group.add_argument('--preset', metavar='NAME', help='speed of the encoder (default: the encoder\'s own)')
    group.add_argument('--pix_fmt', metavar='FORMAT',
                       help='pixel format (default: chroma and depth of the input, else yuv420p)')
    group.add_argument('--ffmpeg_bin', default='ffmpeg', metavar='PATH',
                       help='ffmpeg, or the folder of ffmpeg and ffprobe (default: in PATH, else of pip)')
    group.add_argument('--extract_frame_first', action='store_true',
                       help='decode the whole video to files before upscaling it')
    group.add_argument('--num_process_per_gpu', type=cli.number(int, 1), default=1, metavar='N',
                       help='processes on each GPU (default: %(default)s)')


def _argument(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return an argparse type that says the parser's own message."""
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return convert


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script and return its exit status: 0, 1 after an error or for a damaged input, 2 for usage."""
    return cli.run(_work, build_parser(), argv)


def _work(args: argparse.Namespace) -> int:
    if args.num_process_per_gpu > 1 or len(args.gpu_id or ()) > 1:
        logger.info('one process on one device is used; several are not built yet')
    target = _target(args)
    if args.skip_existing and target.exists():
        logger.info('%s: skipped, it exists', target)
        return 0
    if Path(args.input).is_dir():
        return _folder(args, target)
    return _file(args, target)


def _target(args: argparse.Namespace) -> Path:
    """Return the path of the result, NAME_SUFFIX.EXT, where NAME is that of the input without its extension."""
    from realesrgan.media.process import is_url
    name = Path(args.input).resolve().name if args.input in ('.', '..') else Path(args.input).name
    if is_url(args.input):
        name = re.sub(r'[^\w.-]+', '_', re.split(r'[?#]', args.input)[0].rstrip('/').rsplit('/', 1)[-1])
    stem = (name if Path(args.input).is_dir() else Path(name).stem) or 'stream'
    ending = f'_{args.suffix}' if args.suffix else ''
    return Path(args.output) / f'{stem}{ending}.{args.ext if args.ext in _CONTAINERS else "mp4"}'


def _file(args: argparse.Namespace, target: Path) -> int:
    from realesrgan.media.binaries import find_ffmpeg
    from realesrgan.media.probe import is_picture, probe
    from realesrgan.video import upscale_video
    from realesrgan.video_plan import VideoError, plan_video
    ffmpeg = find_ffmpeg(args.ffmpeg_bin)
    info = probe(ffmpeg, args.input)
    if is_picture(ffmpeg, info):
        return _picture(args)
    if target.exists() and Path(args.input).exists() and target.samefile(args.input):
        raise VideoError(f'{args.input}: its result would overwrite it; choose another --suffix or -o')
    options = _options(args)
    plan = plan_video(ffmpeg, info, options)
    return _upscale(args, target, plan.total, lambda upsampler, on_frame: upscale_video(
        ffmpeg, plan, target, options, upsampler, on_frame))


def _folder(args: argparse.Namespace, target: Path) -> int:
    from realesrgan.frame_folders import list_frames
    from realesrgan.media.binaries import find_ffmpeg
    from realesrgan.video import upscale_folder
    ffmpeg = find_ffmpeg(args.ffmpeg_bin)
    files = list_frames(Path(args.input))
    for name in ('start', 'end'):
        if getattr(args, name) is not None:
            logger.warning('--%s has no effect on a folder of frames', name)
    return _upscale(args, target, len(files), lambda upsampler, on_frame: upscale_folder(
        ffmpeg, files, target, _options(args), upsampler, on_frame))


def _upscale(args: argparse.Namespace, target: Path, total: int | None,
             work: Callable[[RealESRGANer | FaceEnhancer, Callable[[], None]], Outcome]) -> int:
    """Do the work under a bar, and say what came of it."""
    from tqdm import tqdm
    upsampler = _upsampler(args)
    start = time.perf_counter()
    with tqdm(total=total, unit='frame', disable=True if args.quiet else None) as bar:
        outcome = work(upsampler, lambda: _advance(bar))
    seconds = time.perf_counter() - start
    for problem in outcome.problems:
        logger.error('%s', problem)
    if not args.quiet:
        print(f'{target}: {outcome.frames} frames, {outcome.frames / max(seconds, 1e-9):.3g} frames/s, '
              f'{seconds:.1f} s')
    return int(bool(outcome.problems))


def _advance(bar: Any) -> None:
    bar.update()


def _upsampler(args: argparse.Namespace) -> RealESRGANer | FaceEnhancer:
    options = replace(cli.upsampler_options(args), gpu_id=args.gpu_id[0] if args.gpu_id else None)
    return cli.build_enhancer(options, cli.face_options(args))


def _options(args: argparse.Namespace) -> VideoOptions:
    from realesrgan.media.encoder import EncoderOptions
    from realesrgan.video_plan import VideoOptions
    return VideoOptions(
        outscale=args.outscale, fps=args.fps, start=args.start, end=args.end, deinterlace=args.deinterlace,
        extract_first=args.extract_frame_first, container=args.ext if args.ext in _CONTAINERS else 'mp4',
        encoder=EncoderOptions(args.vcodec, args.crf, args.preset, args.pix_fmt))


def _picture(args: argparse.Namespace) -> int:
    """Upscale a single picture as the image script does, to a picture of its name."""
    from realesrgan.image_batch import upscale_files
    from realesrgan.image_files import InputFile, plan
    from realesrgan.images import Picture
    source = Path(args.input)
    jobs = plan([InputFile(source)], Path(args.output), args.suffix, args.ext if args.ext in _PICTURES else 'auto')
    if args.skip_existing and any(target.exists() for target in jobs[0].possible_targets):
        logger.info('%s: skipped, its result exists', source)
        return 0
    upsampler = _upsampler(args)

    def upscale(picture: Picture) -> Picture:
        pixels, _ = upsampler.enhance(picture.pixels, args.outscale, args.alpha_upsampler)
        return Picture(pixels, picture.metadata)

    [outcome] = upscale_files(jobs, {os.path.realpath(source)}, upscale, _QUALITY)
    if outcome.error is not None:
        raise outcome.error
    logger.info('%s: a single picture, upscaled to %s', source, outcome.target)
    return 0


if __name__ == '__main__':
    sys.exit(main())
