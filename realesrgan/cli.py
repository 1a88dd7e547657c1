"""What both scripts share: options, logging, and how a run ends.

Nothing here imports PyTorch or OpenCV before it is needed, so that `--help` answers at once.
"""
from __future__ import annotations

import argparse
import contextlib
import difflib
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .engines.table import engine_choices
from .errors import RealESRGANError, UsageError, one_line
from .log import with_subject
from .models import FACE_MODELS, MODELS
from .version import __version__
from .workers.worker import FaceOptions, UpsamplerOptions

logger = logging.getLogger(__name__)


# ---- types of options ----

def number(kind: Callable[[str], Any], low: float, high: float = float('inf')) -> Callable[[str], Any]:
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


def outscale(text: str) -> float:
    """Parse a finite number above 0."""
    value: float = number(float, 0)(text)
    if not value:
        raise argparse.ArgumentTypeError(f'{text} is out of range: it must be above 0')
    return value


def file_name_part(text: str) -> str:
    """Parse what goes into a file name: anything without separators of folders."""
    if set(text) & {'/', os.sep, os.altsep}:
        raise argparse.ArgumentTypeError(f'{text!r} would leave the folder: it must not hold a separator')
    return text


def path(text: str) -> str:
    """Parse a path: anything but nothing, which an unset variable of a shell script gives."""
    if not text:
        raise argparse.ArgumentTypeError('it is empty')
    return text


def model_name(text: str) -> str:
    """Parse a model's name; a trailing `.pth` is ignored, as the original does."""
    name = text.removesuffix('.pth')
    if name in MODELS:
        return name
    nearest = difflib.get_close_matches(name.lower(), [known.lower() for known in MODELS], n=1, cutoff=0)
    hint = next(known for known in MODELS if known.lower() in nearest)
    raise argparse.ArgumentTypeError(f'unknown model {text!r}: choose from {", ".join(MODELS)}; nearest is {hint}')


def gpu_ids(text: str) -> list[int]:
    """Parse numbers of GPUs with commas between them."""
    return [number(int, 0)(part) for part in text.split(',')]


class _Joined(argparse.Action):
    """Joins the lists of several values into one, each item once."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        setattr(namespace, self.dest, list(dict.fromkeys(item for value in values for item in value)))


class _DenoiseStrength(argparse.Action):
    """Stores the value and that it was given, for with most models it has no effect, and then that is said."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        namespace.denoise_strength = values
        namespace.denoise_strength_given = True


# ---- options of both scripts ----

def new_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with --version."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument('--version', action='version', version=f'Real-ESRGAN {__version__}')
    return parser


def add_upsampler_options(parser: argparse.ArgumentParser, default_model: str) -> None:
    """Add the options that `upsampler_options` reads, and -g, a list or None."""
    group = parser.add_argument_group('model')
    group.add_argument('-n', '--model_name', type=model_name, default=default_model, metavar='NAME',
                       help='one of ' + ', '.join(MODELS) + ' (default: %(default)s)')
    group.add_argument('-dn', '--denoise_strength', type=number(float, 0, 1), default=0.5, metavar='0..1',
                       action=_DenoiseStrength,
                       help='0 keeps the noise, 1 removes it; only with ' + ', '.join(
                           name for name, spec in MODELS.items() if spec.denoise_partner) + ' (default: %(default)s)')
    group.add_argument('--model_path', metavar='PATH',
                       help='weights to use instead: a .pth or .safetensors file, or an https URL of one')
    group.add_argument('--fp32', action='store_true',
                       help='compute in single precision; else half is used where it is faster')
    group.add_argument('-g', '--gpu-id', type=gpu_ids, nargs='+', action=_Joined, metavar='N',
                       help='GPUs to use, as 0 1 or 0,1 (default: the first, or the CPU where there is none)')
    group.add_argument('--engine', choices=engine_choices(), default='auto',
                       help='auto takes the first of the others that runs here (default: %(default)s)')
    group = parser.add_argument_group('memory')
    group.add_argument('-t', '--tile', type=number(int, 0), default=0, metavar='PIXELS',
                       help='cut into tiles of this side; 0 cuts by the memory there is (default: %(default)s)')
    group.add_argument('--tile_pad', type=number(int, 0), default=10, metavar='PIXELS',
                       help='what a tile sees around itself (default: %(default)s)')
    group.add_argument('--max_memory', type=number(float, 0.1), metavar='GIB',
                       help='what the network may take while it runs; tiles are chosen by it (default: what is free)')
    group.add_argument('--pre_pad', type=number(int, 0), default=0, metavar='PIXELS',
                       help='added at the right and lower border before, cut off after (default: %(default)s)')


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about the result that images and videos have in common."""
    group = parser.add_argument_group('result')
    group.add_argument('-s', '--outscale', type=outscale, default=4, metavar='FACTOR',
                       help='final size as a multiple of the input size (default: %(default)s)')
    group.add_argument('--suffix', type=file_name_part, default='out', metavar='TEXT',
                       help='results are called NAME_SUFFIX; empty for NAME alone (default: %(default)s)')
    group.add_argument('--alpha_upsampler', choices=('realesrgan', 'bicubic'), default='realesrgan',
                       help='how transparency is enlarged (default: %(default)s)')
    group.add_argument('--skip_existing', action='store_true', help='leave out what has a result already')


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `face_options` reads."""
    group = parser.add_argument_group('faces')
    group.add_argument('--face_enhance', action='store_true',
                       help='restore faces with GFPGAN; not with models for drawings')
    group.add_argument('--face_model', choices=tuple(FACE_MODELS), default='GFPGANv1.3',
                       help='the network that restores them (default: %(default)s)')
    group.add_argument('--face_weight', type=number(float, 0, 1), default=1.0, metavar='0..1',
                       help='1 is the restored face, 0 the upscaled one (default: %(default)g)')
    group.add_argument('--only_center_face', action='store_true',
                       help='restore the face nearest to the centre only')
    group.add_argument('--face_min_size', type=number(int, 0), default=0, metavar='PIXELS',
                       help='leave faces alone that are smaller in the input (default: %(default)s)')


def add_verbosity_options(parser: argparse.ArgumentParser) -> None:
    """Add -v and -q, which `configure_logging` reads."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument('-v', '--verbose', action='store_true', help='say more, with tracebacks of errors')
    group.add_argument('-q', '--quiet', action='store_true', help='say nothing but errors')


def upsampler_options(args: argparse.Namespace) -> UpsamplerOptions:
    """Collect the options of `add_upsampler_options`."""
    return UpsamplerOptions(
        model_name=args.model_name,
        model_path=args.model_path,
        denoise_strength=args.denoise_strength if getattr(args, 'denoise_strength_given', False) else None,
        tile=args.tile,
        tile_pad=args.tile_pad,
        pre_pad=args.pre_pad,
        half=not args.fp32,
        engine=args.engine,
        max_memory=int(args.max_memory * 2 ** 30) if args.max_memory else None)


def face_options(args: argparse.Namespace) -> FaceOptions | None:
    """Collect the options of `add_face_options`; None without --face_enhance, or, with a log line, for drawings."""
    if not args.face_enhance:
        return None
    name = args.model_name
    if args.model_path is not None and Path(args.model_path).stem in MODELS:
        name = Path(args.model_path).stem
    if MODELS[name].drawings:
        logger.warning('face enhancement is turned off: %s is a model for drawings', name)
        return None
    return FaceOptions(args.face_model, args.face_weight, args.only_center_face, args.face_min_size)


# ---- logging, and how a run ends ----

class _ToStderr(logging.Handler):
    """Writes log lines to stderr, above a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm
        prefix = f'{record.levelname.lower()}: ' if record.levelno >= logging.WARNING else ''
        tqdm.write(prefix + with_subject(self.format(record)), file=sys.stderr)


def configure_logging(args: argparse.Namespace) -> None:
    """Send the package's log to stderr; how much of it, -v and -q say."""
    root = logging.getLogger('realesrgan')
    root.handlers = [_ToStderr()]
    root.propagate = False
    root.setLevel(logging.DEBUG if args.verbose else logging.ERROR if args.quiet else logging.INFO)


def run(work: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse arguments, do the work and return the exit status.

    That is what the work returns, 1 after an error, 2 after one of usage, 130 after Ctrl-C.
    An error the user can act on becomes one line on stderr; -v shows its traceback. SIGTERM ends the run as tidily as
    Ctrl-C does, with status 143.
    """
    for stream in ('stdout', 'stderr'):
        if getattr(sys, stream) is None:  # closed by who started us
            setattr(sys, stream, open(os.devnull, 'w'))  # noqa: SIM115, PTH123
    args = parser.parse_args(argv)
    configure_logging(args)
    before = None
    with contextlib.suppress(ValueError):  # not in the main thread, as under a web server: signals are its business
        before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return work(args)
    except KeyboardInterrupt:
        logger.error('interrupted')
        return 130
    except ImportError as error:
        if 'libGL' not in str(error):
            raise
        logger.error('OpenCV can\'t be loaded: %s. Install it (Debian: apt-get install libgl1), or take the OpenCV '
                     'that needs none: pip uninstall opencv-python; pip install opencv-python-headless', error)
    except (RealESRGANError, OSError, MemoryError) as error:
        log_error(error, traceback=args.verbose)
        return 2 if isinstance(error, UsageError) else 1
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 1


def log_error(error: BaseException, *, traceback: bool) -> None:
    """Log an error in one line, with its traceback if asked for."""
    logger.error('%s', _describe(error), exc_info=error if traceback else None)


def _terminate(signal_number: int, _frame: object) -> None:
    raise SystemExit(128 + signal_number)


def _describe(error: BaseException) -> str:
    """Say an error in one line."""
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    return one_line(error)
