"""Command-line options that both scripts share, and what they become.

Nothing here imports PyTorch, numpy or OpenCV, so that `--help` answers at once.
"""
from __future__ import annotations

import argparse
import difflib
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from ..engines.table import list_engine_choices
from ..models import FACE_MODELS, MODELS
from ..pictures.formats import MOST_PIXELS
from ..version import __version__
from ..workers.options import ALPHA_UPSAMPLERS, FaceOptions, UpsamplerOptions

if TYPE_CHECKING:
    from ..events import Event
    from .display import Display

# ---- types of options ----

def make_number_type(kind: Callable[[str], Any], low: float, high: float = float('inf')) -> Callable[[str], Any]:
    """Return an argparse type: a number of `kind` from `low` to `high`."""
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f'{text!r} is not a {"whole " if kind is int else ""}number') from None
        if not (low <= value <= high and math.isfinite(value)):
            allowed = f'{low:g} or more' if high == float('inf') else f'{low:g} to {high:g}'
            raise argparse.ArgumentTypeError(f'{text} is out of range: allowed is {allowed}')
        return value
    return parse


def make_type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return an argparse type that shows the message of the parser's ValueError."""
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return convert


def parse_outscale(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number') from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f'{text} is out of range: it must be above 0')
    return value


def parse_file_name_part(text: str) -> str:
    """Parse a part of a file name, which must not hold a separator of folders."""
    if set(text) & {'/', os.sep, os.altsep}:
        raise argparse.ArgumentTypeError(f'{text!r} would leave the folder: it must not hold a separator')
    return text


def parse_path(text: str) -> str:
    """Parse a path. An empty one, which an unset variable of a shell script gives, is refused."""
    if not text:
        raise argparse.ArgumentTypeError('it is empty')
    return text


def parse_report_path(text: str) -> str:
    """Parse the path of a report, whose extension says what it is written as."""
    if not text.lower().endswith(('.json', '.html')):
        raise argparse.ArgumentTypeError(f'{text!r} must end in .json or .html')
    return text


def parse_model_name(text: str) -> str:
    """Parse a model's name; a trailing `.pth` is ignored, as the original does."""
    name = text.removesuffix('.pth')
    if name in MODELS:
        return name
    nearest = difflib.get_close_matches(name.lower(), [known.lower() for known in MODELS], n=1, cutoff=0)
    hint = next(known for known in MODELS if known.lower() in nearest)
    raise argparse.ArgumentTypeError(f'unknown model {text!r}: choose from {", ".join(MODELS)}; nearest is {hint}')


def parse_gpu_ids(text: str) -> list[int]:
    """Parse numbers of GPUs with commas between them."""
    return [make_number_type(int, 0)(part) for part in text.split(',')]


class _Joined(argparse.Action):
    """Joins the lists of several values into one, each item once."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        setattr(namespace, self.dest, list(dict.fromkeys(item for value in values for item in value)))


class _ListDevices(argparse.Action):
    """Prints the table of devices and ends the program, as --version does."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        from ..engines.listing import describe_devices
        print(describe_devices())
        parser.exit()


# ---- options of both scripts ----

def create_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with --version."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument('--version', action='version', version=f'Real-ESRGAN {__version__}')
    return parser


def add_input_options(parser: argparse.ArgumentParser, inputs: str, output: str) -> None:
    """Add -i, a list, and -o, with what each takes."""
    parser.add_argument('-i', '--input', type=parse_path, nargs='+', action='extend', metavar='PATH',
                        default=argparse.SUPPRESS, help=f'{inputs} (default: inputs)')
    parser.add_argument('-o', '--output', type=parse_path, default='results', metavar='FOLDER',
                        help=f'{output} (default: %(default)s)')
    parser.add_argument('--max_pixels', type=make_number_type(int, 1), default=MOST_PIXELS, metavar='COUNT',
                        help='refuse pictures and frames of more pixels (default: %(default)s)')


def read_inputs(args: argparse.Namespace) -> list[str]:
    """Return what -i was given; `inputs` without one, which `extend` would add to."""
    return getattr(args, 'input', ['inputs'])


def add_upsampler_options(parser: argparse.ArgumentParser, default_model: str) -> None:
    """Add the options that `read_upsampler_options` reads, and -g, a list or None."""
    denoisable = ', '.join(spec.name for spec in MODELS.values() if spec.denoise_partner)
    group = parser.add_argument_group('model')
    group.add_argument('-n', '--model_name', type=parse_model_name, default=default_model, metavar='NAME',
                       help='one of ' + ', '.join(MODELS) + ' (default: %(default)s)')
    group.add_argument('-dn', '--denoise_strength', type=make_number_type(float, 0, 1), metavar='0..1',
                       help=f'0 keeps the noise, 1 removes it; {denoisable} only (default: 0.5)')
    group.add_argument('--model_path', metavar='PATH',
                       help='weights to use instead: a .pth or .safetensors file, or an https URL of one')
    group.add_argument('--arch_module', type=parse_path, metavar='FILE.py',
                       help='Python file that defines architectures of your own for --model_path; it is run')
    group.add_argument('--fp32', action='store_true',
                       help='compute in single precision (default: half precision where it is faster)')
    group.add_argument('-g', '--gpu-id', type=parse_gpu_ids, nargs='+', action=_Joined, metavar='N',
                       help='GPUs to use, as 0 1 or 0,1 (default: the first, or the CPU where there is none)')
    group.add_argument('--list_devices', action=_ListDevices,
                       help='print the devices and engines of this machine, and which auto takes')
    group.add_argument('--engine', choices=list_engine_choices(), default='auto',
                       help='what runs the network; auto takes the fastest that runs here '
                            '(default: %(default)s)')
    group = parser.add_argument_group('memory')
    group.add_argument('-t', '--tile', type=make_number_type(int, 0), default=0, metavar='PIXELS',
                       help='cut pictures into tiles of this side; 0 chooses by free memory (default: %(default)s)')
    group.add_argument('--tile_pad', type=make_number_type(int, 0), default=10, metavar='PIXELS',
                       help='how far a tile sees beyond its border (default: %(default)s)')
    group.add_argument('--max_memory', type=make_number_type(float, 0.1), metavar='GIB',
                       help='memory the network may use while it runs, on a CPU with the result; sets the tile size '
                            '(default: what is free)')
    group.add_argument('--pre_pad', type=make_number_type(int, 0), default=0, metavar='PIXELS',
                       help='added at the right and lower border first, and cut off afterwards (default: %(default)s)')


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about results that pictures and videos have in common."""
    group = parser.add_argument_group('result')
    group.add_argument('-s', '--outscale', type=parse_outscale, metavar='FACTOR',
                       help='final size as a multiple of the input size (default: the network\'s own scale)')
    group.add_argument('--suffix', type=parse_file_name_part, default='out', metavar='TEXT',
                       help='results are called NAME_SUFFIX; empty for NAME alone (default: %(default)s)')
    group.add_argument('--alpha_upsampler', choices=ALPHA_UPSAMPLERS, default='realesrgan',
                       help='how transparency is enlarged (default: %(default)s)')
    group.add_argument('--skip_existing', action='store_true', help='skip inputs whose result exists')


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `read_face_options` reads."""
    group = parser.add_argument_group('faces')
    group.add_argument('--face_enhance', action='store_true',
                       help='restore faces with GFPGAN; not with models for drawings')
    group.add_argument('--face_model', choices=tuple(FACE_MODELS), default='GFPGANv1.3',
                       help='the network that restores them (default: %(default)s)')
    group.add_argument('--face_weight', type=make_number_type(float, 0, 1), default=1.0, metavar='0..1',
                       help='1 is fully restored, 0 not at all (default: %(default)g)')
    group.add_argument('--only_center_face', action='store_true',
                       help='restore only the face nearest to the centre')
    group.add_argument('--face_min_size', type=make_number_type(int, 0), default=0, metavar='PIXELS',
                       help='leave smaller faces of the input as they are (default: %(default)s)')


def add_judging_options(parser: argparse.ArgumentParser, comparison: str) -> None:
    """Add --compare, which writes what `comparison` says, and --report."""
    group = parser.add_argument_group('judging')
    group.add_argument('--compare', action='store_true', help=f'write {comparison} beside each result')
    group.add_argument('--report', type=parse_report_path, metavar='FILE',
                       help='write figures, checks of the results and what looks wrong to FILE.json or FILE.html')


def open_report(args: argparse.Namespace, display: Display) -> AbstractContextManager[Callable[[Event], None]]:
    """Return what listens to a run: the display, and before it the reporter that --report asks for."""
    if args.report is None:
        return nullcontext(display)
    from ..reports.reporter import Reporter
    return Reporter(args.report, read_upsampler_options(args).label, display)


def add_verbosity_options(parser: argparse.ArgumentParser) -> None:
    """Add -v and -q."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument('-v', '--verbose', action='store_true', help='log details, and tracebacks of errors')
    group.add_argument('-q', '--quiet', action='store_true', help='log errors only')


def read_upsampler_options(args: argparse.Namespace) -> UpsamplerOptions:
    """Collect the options of `add_upsampler_options`."""
    return UpsamplerOptions(
        model_name=args.model_name,
        model_path=args.model_path,
        arch_module=args.arch_module,
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
