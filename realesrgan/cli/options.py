"""Command-line options that both scripts share, and what they become.

Nothing here imports PyTorch, numpy or OpenCV, so that `--help` answers at once.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ..engines.engine import list_engine_choices
from ..errors import UsageError
from ..models import FACE_MODELS, MODELS
from ..pictures.formats import MOST_PIXELS
from ..version import __version__
from ..workers.options import ALPHA_UPSAMPLERS, ClusterOptions, FaceOptions, UpsamplerOptions
from .actions import Joined, ListDevices, PrintCompletion
from .types import (
    make_number_type,
    parse_file_name_part,
    parse_gpu_ids,
    parse_model_name,
    parse_outscale,
    parse_path,
    parse_report_path,
)

if TYPE_CHECKING:
    from ..events import Event
    from .display import Display


#: What 0.3.0 knew, in either script; but for --model_path, so that --model is --model_name as in its video script.
_OPTIONS_OF_0_3_0 = frozenset((
    '--input', '--model_name', '--output', '--denoise_strength', '--outscale', '--suffix', '--tile', '--tile_pad',
    '--pre_pad', '--face_enhance', '--fp32', '--alpha_upsampler', '--ext', '--gpu-id', '--fps', '--ffmpeg_bin',
    '--extract_frame_first', '--num_process_per_gpu'))


class _Parser(argparse.ArgumentParser):
    """A parser to which an option may be abbreviated; what was unambiguous in 0.3.0 means what it meant there."""

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Return the options that a beginning may stand for, each with its name as the second item."""
        found = super()._get_option_tuples(option_string)
        old = [option for option in found if option[1] in _OPTIONS_OF_0_3_0]
        return old if len(old) == 1 else found


def create_parser(description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser with --version and --print_completion; `example` is a command's arguments, shown first."""
    parser = _Parser(
        usage='%(prog)s [-i PATH ...] [-o FOLDER] [-n MODEL] [-s FACTOR] [option ...]',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.description = f'{description}\n\n  {_name_command(parser)} {example}'
    parser.add_argument('--version', action='version', version=f'Real-ESRGAN {__version__}')
    parser.add_argument('--print_completion', action=PrintCompletion,
                        help='print what makes bash, zsh or fish complete these options')
    return parser


def add_group(parser: argparse.ArgumentParser, title: str, example: str) -> argparse._ArgumentGroup:
    """Add a group of options, with the arguments of a command that uses it."""
    return parser.add_argument_group(title, f'{_name_command(parser)} {example}')


def _name_command(parser: argparse.ArgumentParser) -> str:
    """Return how the program is called."""
    return f'python {parser.prog}' if parser.prog.endswith('.py') else parser.prog


def add_input_options(parser: argparse.ArgumentParser, inputs: str, output: str,
                      example: str) -> argparse._ArgumentGroup:
    """Add -i, a list, and -o, with what each takes, and what else is about files; return their group."""
    group = add_group(parser, 'files', example)
    group.add_argument('-i', '--input', type=parse_path, nargs='+', action='extend', metavar='PATH',
                       default=argparse.SUPPRESS, help=f'{inputs} (default: inputs)')
    group.add_argument('-o', '--output', type=parse_path, default='results', metavar='FOLDER',
                       help=f'{output} (default: %(default)s)')
    group.add_argument('--suffix', type=parse_file_name_part, default='out', metavar='TEXT',
                       help='results are called NAME_SUFFIX; empty for NAME alone (default: %(default)s)')
    group.add_argument('--skip_existing', action='store_true', help='skip inputs whose result exists')
    group.add_argument('--max_pixels', type=make_number_type(int, 1), default=MOST_PIXELS, metavar='COUNT',
                       help='refuse pictures and frames of more pixels (default: %(default)s)')
    return group


def read_inputs(args: argparse.Namespace) -> list[str]:
    """Return what -i was given; `inputs` without one, which `extend` would add to."""
    return getattr(args, 'input', ['inputs'])


def add_upsampler_options(parser: argparse.ArgumentParser, default_model: str, sample: str) -> None:
    """Add the options that `read_upsampler_options` reads, and -g, a list or None.

    `sample` is the input of examples, here and in the functions below.
    """
    denoisable = ', '.join(spec.name for spec in MODELS.values() if spec.denoise_partner)
    group = add_group(parser, 'model', f'-i {sample} -n realesr-general-x4v3 -dn 0.8')
    group.add_argument('-n', '--model_name', type=parse_model_name, default=default_model, metavar='NAME',
                       help='one of ' + ', '.join(MODELS) + ' (default: %(default)s)')
    group.add_argument('-dn', '--denoise_strength', type=make_number_type(float, 0, 1), metavar='0..1',
                       help=f'0 keeps the noise, 1 removes it; {denoisable} only (default: 0.5)')
    group.add_argument('--model_path', metavar='PATH',
                       help='weights to use instead: a .pth or .safetensors file, or an https URL of one')
    add_device_options(parser, sample)
    group = add_group(parser, 'memory', f'-i {sample} --max_memory 2')
    group.add_argument('-t', '--tile', type=make_number_type(int, 0), default=0, metavar='PIXELS',
                       help='cut pictures into tiles of this side; 0 chooses by free memory (default: %(default)s)')
    group.add_argument('--tile_pad', type=make_number_type(int, 0), default=10, metavar='PIXELS',
                       help='how far a tile sees beyond its border (default: %(default)s)')
    group.add_argument('--max_memory', type=make_number_type(float, 0.1), metavar='GIB',
                       help='memory the network may use while it runs, on a CPU with the result; sets the tile size '
                            '(default: what is free)')
    group.add_argument('--pre_pad', type=make_number_type(int, 0), default=0, metavar='PIXELS',
                       help='added at the right and lower border first, and cut off afterwards (default: %(default)s)')


def add_device_options(parser: argparse.ArgumentParser, sample: str | None = None) -> None:
    """Add --fp32, --engine, --list_devices, and -g, a list or None."""
    example = None if sample is None else f'{_name_command(parser)} -i {sample} -g 0,1'
    group = parser.add_argument_group('device', example)
    group.add_argument('--fp32', action='store_true',
                       help='compute in single precision (default: half precision where it is faster)')
    group.add_argument('-g', '--gpu-id', type=parse_gpu_ids, nargs='+', action=Joined, metavar='N',
                       help='GPUs to use, as 0 1 or 0,1 (default: the first, or the CPU where there is none)')
    group.add_argument('--list_devices', action=ListDevices,
                       help='print the devices and engines of this machine, and which auto takes')
    group.add_argument('--engine', choices=list_engine_choices(), default='auto',
                       help='what runs the network; auto takes the fastest that runs here '
                            '(default: %(default)s)')


def add_result_options(parser: argparse.ArgumentParser, example: str) -> argparse._ArgumentGroup:
    """Add the options about results that pictures and videos have in common; return their group."""
    group = add_group(parser, 'result', example)
    group.add_argument('-s', '--outscale', type=parse_outscale, metavar='FACTOR',
                       help='final size as a multiple of the input size (default: 4; with weights of others, the scale '
                            'of their network)')
    group.add_argument('--alpha_upsampler', choices=ALPHA_UPSAMPLERS, default='realesrgan',
                       help='how transparency is enlarged (default: %(default)s)')
    return group


def add_face_options(parser: argparse.ArgumentParser, sample: str) -> None:
    """Add the options that `read_face_options` reads."""
    group = add_group(parser, 'faces', f'-i {sample} -n RealESRGAN_x4plus --face_enhance --face_weight 0.8')
    group.add_argument('--face_enhance', action='store_true',
                       help='restore faces with GFPGAN; not with models for anime')
    group.add_argument('--face_model', choices=tuple(FACE_MODELS), default='GFPGANv1.3',
                       help='the network that restores them (default: %(default)s)')
    group.add_argument('--face_weight', type=make_number_type(float, 0, 1), default=1.0, metavar='0..1',
                       help='1 is fully restored, 0 not at all (default: %(default)g)')
    group.add_argument('--only_center_face', action='store_true',
                       help='restore only the face nearest to the centre')
    group.add_argument('--face_min_size', type=make_number_type(int, 0), default=0, metavar='PIXELS',
                       help='leave smaller faces of the input as they are (default: %(default)s)')


def add_cluster_options(parser: argparse.ArgumentParser, sample: str) -> None:
    """Add the options that `read_cluster_options` reads."""
    group = add_group(parser, 'cluster', f'-i {sample} --cluster auto')
    group.add_argument('--cluster', type=parse_path, metavar='ADDRESS',
                       help='let a Ray cluster do the work: HOST:PORT of its head, auto for the one that this machine '
                            'belongs to, local for one of its own')
    group.add_argument('--cpus_per_worker', type=make_number_type(float, 0.01), metavar='N',
                       help='cores of each worker on nodes without a GPU (default: all of a node)')


def read_cluster_options(args: argparse.Namespace) -> ClusterOptions | None:
    """Collect the options of `add_cluster_options`; None without --cluster.

    Raises:
        UsageError: --cpus_per_worker is given without it.
    """
    if args.cluster is None:
        if args.cpus_per_worker is not None:
            raise UsageError('--cpus_per_worker needs --cluster')
        return None
    return ClusterOptions(args.cluster, args.cpus_per_worker, getattr(args, 'num_process_per_gpu', 1))


def add_judging_options(parser: argparse.ArgumentParser, comparison: str, sample: str) -> None:
    """Add --compare, which writes what `comparison` says, and --report."""
    group = add_group(parser, 'judging', f'-i {sample} --compare --report report.html')
    group.add_argument('--compare', action='store_true', help=f'write {comparison} beside each result')
    group.add_argument('--report', type=parse_report_path, metavar='FILE',
                       help='write figures, checks of the results and what looks wrong to FILE.json or FILE.html')


def open_report(args: argparse.Namespace, display: Display) -> AbstractContextManager[Callable[[Event], None]]:
    """Return what listens to a run: the display, and before it the reporter that --report asks for."""
    if args.report is None:
        return nullcontext(display)
    from ..reports.reporter import Reporter
    return Reporter(args.report, read_upsampler_options(args).label, display)


def add_verbosity_options(parser: argparse.ArgumentParser, sample: str) -> None:
    """Add -v and -q."""
    group = add_group(parser, 'messages', f'-i {sample} -q').add_mutually_exclusive_group()
    group.add_argument('-v', '--verbose', action='store_true', help='log details, and tracebacks of errors')
    group.add_argument('-q', '--quiet', action='store_true', help='log errors only')


def read_upsampler_options(args: argparse.Namespace) -> UpsamplerOptions:
    """Collect the options of `add_upsampler_options`."""
    return UpsamplerOptions(
        model_name=args.model_name,
        model_path=args.model_path,
        denoise_strength=args.denoise_strength,
        tile=args.tile,
        tile_pad=args.tile_pad,
        pre_pad=args.pre_pad,
        half=not args.fp32,
        engine=args.engine,
        max_memory=int(args.max_memory * 2 ** 30) if args.max_memory else None)


def read_face_options(args: argparse.Namespace) -> FaceOptions | None:
    """Collect the options of `add_face_options`; None without --face_enhance."""
    if not args.face_enhance:
        return None
    return FaceOptions(args.face_model, args.face_weight, args.only_center_face, args.face_min_size)


def read_gpu_ids(args: argparse.Namespace) -> tuple[int, ...]:
    """Return the numbers that -g was given; none without it."""
    return tuple(args.gpu_id or ())
