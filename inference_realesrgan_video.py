#!/usr/bin/env python3
"""Upscale videos with Real-ESRGAN."""
from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from realesrgan import cli
from realesrgan.errors import UsageError
from realesrgan.ffmpeg.containers import CONTAINERS
from realesrgan.workers import worker

if TYPE_CHECKING:
    from realesrgan.videos.dry_run import Outline
    from realesrgan.videos.plan import VideoOptions
    from realesrgan.videos.run import Outcome, Work
    from realesrgan.workers.pool import Pool

logger = logging.getLogger('realesrgan')

_PICTURES = ('jpg', 'png')
_OWN_FILES = ('/dev/stdin', '/dev/fd/')
_QUALITY = 95  # of a single picture as jpg


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this script's options."""
    parser = cli.new_parser(__doc__)
    parser.add_argument('-i', '--input', type=cli.path, default='inputs', metavar='PATH',
                        help='video, URL, folder of frames, or picture (default: %(default)s)')
    parser.add_argument('-o', '--output', type=cli.path, default='results', metavar='FOLDER',
                        help='folder for the result (default: %(default)s)')
    cli.add_upsampler_options(parser, default_model='realesr-animevideov3')
    cli.add_result_options(parser)
    cli.add_face_options(parser)
    parser.add_argument('--ext', choices=('auto', *CONTAINERS, *_PICTURES), default='auto',
                        help='container of the result, auto is mp4; jpg and png are for a single picture '
                             '(default: %(default)s)')
    _add_video_options(parser)
    cli.add_verbosity_options(parser)
    return parser


def _add_video_options(parser: argparse.ArgumentParser) -> None:
    from realesrgan.ffmpeg.timing import parse_rate, parse_time
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
    group = parser.add_argument_group('long videos')
    group.add_argument('--num_process_per_gpu', type=cli.number(int, 1), default=1, metavar='N',
                       help='processes on each GPU, or on the CPU, which they share (default: %(default)s)')
    group.add_argument('--chunk', type=_argument(parse_time), default='10', metavar='TIME',
                       help='length of the parts that workers take and an interrupted run keeps; 0 for one part '
                            '(default: %(default)s s)')
    group.add_argument('--restart', action='store_true',
                       help='throw away the parts of an earlier run that had other options')
    group.add_argument('--keep_parts', action='store_true', help='leave the parts when the video is done')
    group.add_argument('--dry_run', action='store_true',
                       help='say what would be done, how long it would take and what it would need; do nothing')


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
    target = _target(args)
    if args.skip_existing and target.exists():
        logger.info('%s: skipped, it exists', target)
        return 0
    if Path(args.input).is_dir():
        return _folder(args, target)
    return _piped(args, target) if _is_pipe(args.input) else _file(args, target)


def _target(args: argparse.Namespace) -> Path:
    """Return the path of the result, NAME_SUFFIX.EXT, where NAME is that of the input without its extension."""
    from realesrgan.ffmpeg.process import is_url
    name = Path(args.input).resolve().name if args.input in ('.', '..') else Path(args.input).name
    if is_url(args.input):
        name = re.sub(r'[^\w.-]+', '_', re.split(r'[?#]', args.input)[0].rstrip('/').rsplit('/', 1)[-1])
    stem = (name if Path(args.input).is_dir() else Path(name).stem) or 'stream'
    ending = f'_{args.suffix}' if args.suffix else ''
    return Path(args.output) / f'{stem}{ending}.{args.ext if args.ext in CONTAINERS else "mp4"}'


def _is_pipe(source: str) -> bool:
    """Tell whether an input is a pipe, or this process's own stdin, which ffmpeg does not share."""
    return source.startswith(_OWN_FILES) or (Path(source).exists() and not Path(source).is_file())


def _piped(args: argparse.Namespace, target: Path) -> int:
    """Upscale what can be read once only from a copy, for it is looked at before it is decoded."""
    from realesrgan.atomic_files import temporary_folder
    if args.dry_run:
        raise UsageError(f'{args.input}: --dry_run would use up what can be read once only; give a file')
    logger.info('%s: copied to a file first; the run can\'t be resumed', args.input)
    with temporary_folder(target) as folder:
        copy = folder / Path(args.input).name
        with Path(args.input).open('rb') as pipe, copy.open('wb') as file:
            shutil.copyfileobj(pipe, file)
        return _file(argparse.Namespace(**vars(args) | {'input': str(copy), 'chunk': 0, 'restart': True}), target)


def _file(args: argparse.Namespace, target: Path) -> int:
    from realesrgan.errors import VideoError
    from realesrgan.ffmpeg.probe import is_picture, probe
    from realesrgan.ffmpeg.programs import find_ffmpeg
    from realesrgan.videos.plan import plan_video
    from realesrgan.videos.run import outline_video, upscale_video
    ffmpeg = find_ffmpeg(args.ffmpeg_bin)
    info = probe(ffmpeg, args.input)
    if is_picture(ffmpeg, info):
        return _picture(args)
    if target.exists() and Path(args.input).exists() and target.samefile(args.input):
        raise VideoError(f'{args.input}: its result would overwrite it; choose another --suffix or -o')
    options = _options(args)
    if options.extract_first and info.is_stream:
        logger.warning('--extract_frame_first has no effect on a stream, which can be read once only')
        options = replace(options, extract_first=False)
    plan = plan_video(ffmpeg, info, options)
    if args.dry_run:
        return _describe(args, target, outline_video(ffmpeg, plan, options))
    return _upscale(args, target, plan.total, lambda work: upscale_video(ffmpeg, plan, options, work))


def _folder(args: argparse.Namespace, target: Path) -> int:
    from realesrgan.ffmpeg.programs import find_ffmpeg
    from realesrgan.videos.frame_folders import list_frames
    from realesrgan.videos.run import outline_folder, upscale_folder
    ffmpeg = find_ffmpeg(args.ffmpeg_bin)
    files = list_frames(Path(args.input))
    for name in ('start', 'end'):
        if getattr(args, name) is not None:
            logger.warning('--%s has no effect on a folder of frames', name)
    options = _options(args)
    if args.dry_run:
        return _describe(args, target, outline_folder(ffmpeg, files, options))
    return _upscale(args, target, len(files), lambda work: upscale_folder(ffmpeg, files, options, work))


def _upscale(args: argparse.Namespace, target: Path, total: int | None, upscale: Callable[[Work], Outcome]) -> int:
    """Do the work under a bar, and say what came of it."""
    from tqdm import tqdm

    from realesrgan.videos.run import Work
    from realesrgan.weights import loading as weights
    upsampler, faces = cli.upsampler_options(args), cli.face_options(args)
    if faces is not None:
        worker.prepare_faces(faces)
    settings = {'weights': weights.fingerprint(upsampler.model_name, upsampler.model_path, upsampler.denoise_strength),
                **asdict(upsampler), 'faces': asdict(faces) if faces else None}
    del settings['model_path'], settings['max_memory']  # the weights count, and memory changes what is hardly visible
    start = time.perf_counter()
    with tqdm(total=total, unit='frame', disable=True if args.quiet else None) as bar:
        outcome = upscale(Work(target, partial(_pool, args, upsampler, faces), settings, partial(_advance, bar),
                               restart=args.restart, keep_parts=args.keep_parts))
    seconds = time.perf_counter() - start
    for problem in outcome.problems:
        logger.error('%s', problem)
    if not args.quiet:
        reused = f' ({outcome.reused} of them from an earlier run)' if outcome.reused else ''
        print(f'{target}: {outcome.frames} frames{reused}, '
              f'{(outcome.frames - outcome.reused) / max(seconds, 1e-9):.3g} frames/s, {seconds:.1f} s')
    return int(bool(outcome.problems))


def _describe(args: argparse.Namespace, target: Path, outline: Outline) -> int:
    """Print what would be done."""
    from realesrgan.videos.dry_run import describe
    places = _places(args)
    enhancer = worker.build(cli.upsampler_options(args), cli.face_options(args), places[0])
    parallel = len(places) if enhancer.device.type == 'cpu' else len(set(places))
    for line in describe(outline, target, places, enhancer, parallel=parallel):
        print(line)
    return 0


def _advance(bar: Any, frames: int) -> None:
    """Show how many frames are done; those of an earlier run count for nothing in the rate."""
    if bar.n == 0 and frames > 1:
        bar.initial = bar.n = frames
        bar.refresh()
    bar.update(frames - bar.n)


def _pool(args: argparse.Namespace, upsampler: worker.UpsamplerOptions, faces: worker.FaceOptions | None,
          on_note: Callable[[Any], None]) -> Pool:
    """Return the workers: this process alone if there is one and no GPU, else a process for each."""
    from realesrgan.engines.devices import available_gpus
    from realesrgan.workers.pool import ProcessPool, SerialPool
    places = _places(args)
    if len(places) == 1 and not available_gpus():
        return SerialPool(worker.initialize, (worker.build, upsampler, faces, *places), on_note)
    return ProcessPool(places, worker.initialize, (worker.build, upsampler, faces), on_note)


def _places(args: argparse.Namespace) -> list[worker.Place]:
    return [worker.Place(gpu, args.num_process_per_gpu) for _ in range(args.num_process_per_gpu)
            for gpu in args.gpu_id or [None]]


def _options(args: argparse.Namespace) -> VideoOptions:
    from realesrgan.ffmpeg.encoder import EncoderOptions
    from realesrgan.videos.plan import VideoOptions
    return VideoOptions(
        outscale=args.outscale, fps=args.fps, start=args.start, end=args.end, deinterlace=args.deinterlace,
        extract_first=args.extract_frame_first, chunk=args.chunk,
        container=args.ext if args.ext in CONTAINERS else 'mp4',
        encoder=EncoderOptions(args.vcodec, args.crf, args.preset, args.pix_fmt))


def _picture(args: argparse.Namespace) -> int:
    """Upscale a single picture as the image script does, to a picture of its name."""
    from realesrgan.pictures.batch import Batch, upscale_batch
    from realesrgan.pictures.inputs import InputFile, plan
    source = Path(args.input)
    jobs = plan([InputFile(source)], Path(args.output), args.suffix, args.ext if args.ext in _PICTURES else 'auto')
    if args.skip_existing and any(target.exists() for target in jobs[0].possible_targets):
        logger.info('%s: skipped, its result exists', source)
        return 0
    if args.dry_run:
        print(f'result   {jobs[0].target(alpha=False)}, a single picture')
        return 0
    worker.initialize(worker.build, cli.upsampler_options(args), cli.face_options(args), _places(args)[0])
    [outcome] = upscale_batch(Batch(jobs, {os.path.realpath(source)}, args.outscale, args.alpha_upsampler, _QUALITY))
    if outcome.error is not None:
        raise outcome.error
    logger.info('%s: a single picture, upscaled to %s', source, outcome.target)
    return 0


if __name__ == '__main__':
    sys.exit(main())
