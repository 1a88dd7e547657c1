"""The scripts' parsers, made of the fields of `realesrgan.options`, and the options that only a command line has.

Nothing here imports PyTorch, numpy or OpenCV, so that `--help` answers at once.
"""
from __future__ import annotations

import argparse
import codecs
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UsageError
from ..models import MODELS
from ..options import Check, CheckedOptions, Option, PictureOptions, RunOptions, VideoOptions, check_path, list_options
from ..version import __version__
from .run import name_program

if TYPE_CHECKING:
    from ..events import Event
    from .display import Display

# The groups of --help in order, each with the arguments of a command that uses it; scripts say those that are empty.
_GROUPS = {
    'files': '',
    'model': '-i {sample} -n realesr-general-x4v3 -dn 0.8',
    'device': '-i {sample} -g 0,1',
    'memory': '-i {sample} --max_memory 2',
    'result': '',
    'faces': '-i {sample} -n RealESRGAN_x4plus --face_enhance --face_weight 0.8',
    'video': '-i {sample} --start 1:30 --end 1:32.5 --vcodec libx265 --crf 18',
    'long videos': '-i {sample} --dry_run',
    'cluster': '-i {sample} --cluster auto',
    'judging': '-i {sample} --compare --report report.html',
    'messages': '-i {sample} -q',
}

#: What 0.3.0 knew, in either script; but for --model_path, so that --model is --model_name as in its video script.
_OPTIONS_OF_0_3_0 = frozenset((
    '--help', '--input', '--model_name', '--output', '--denoise_strength', '--outscale', '--suffix', '--tile',
    '--tile_pad', '--pre_pad', '--face_enhance', '--fp32', '--alpha_upsampler', '--ext', '--gpu-id', '--fps',
    '--ffmpeg_bin', '--extract_frame_first', '--num_process_per_gpu'))

Options = TypeVar('Options', bound=CheckedOptions)


class _Parser(argparse.ArgumentParser):
    """A parser that accepts abbreviated options; those that were unambiguous in 0.3.0 keep their meaning."""

    def parse_args(self, args: Sequence[str] | None = None,  # type: ignore[override] # argparse's has overloads
                   namespace: Any = None) -> Any:
        """Parse arguments as argparse does; an unknown one is an error that says what may have been meant."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f'unrecognized arguments: {" ".join(unknown)}{self._suggest(unknown)}')
        return parsed

    def _suggest(self, unknown: Sequence[str]) -> str:
        misspelt = [argument.split('=')[0] for argument in unknown if argument.startswith('-')]
        if not misspelt:
            return f'; inputs follow -i, as in -i {shlex.join(unknown)}'
        for kind, script in ((PictureOptions, 'inference_realesrgan'), (VideoOptions, 'inference_realesrgan_video')):
            flags = {flag for option in list_options(kind).values() for flag in option.flags}
            for name in flags.intersection(misspelt):
                return f'; {name} is an option of {script}.py'
        from difflib import get_close_matches
        nearest = [match for name in misspelt for match in get_close_matches(name, self._option_string_actions, n=1)]
        return f'; did you mean {" ".join(nearest)}?' if nearest else ''

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Return the options that a beginning may stand for, each with its name as the second item."""
        found = super()._get_option_tuples(option_string)
        old = [option for option in found if option[1] in _OPTIONS_OF_0_3_0]
        return old if len(old) == 1 else found

    def _read_args_from_files(self, arg_strings: list[str]) -> list[str]:
        """Replace @FILE by the lines of that file; what is called so itself, or means no file, is left as it is.

        Paths are bytes that need not be text, in lines that only a line feed ends. Windows adds marks of its own.
        """
        arguments = []
        for argument in arg_strings:
            if not argument.startswith('@') or os.path.lexists(argument) or not os.path.isfile(argument[1:]):
                arguments.append(argument)
                continue
            try:
                data = Path(argument[1:]).read_bytes()
            except OSError as error:
                self.error(f'{argument}: {error.strerror}')
            if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                data = data.decode('utf-16', 'replace').encode()
            if b'\0' in data:
                self.error(f'{argument}: {argument[1:]} is not a list of inputs but a binary file')
            lines = map(os.fsdecode, data.removeprefix(codecs.BOM_UTF8).splitlines())
            arguments += [line for line in lines if line.strip()]
        return arguments


def build_parser(kind: type[RunOptions], description: str, *, inputs: str, output: str, sample: str,
                 examples: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return a script's parser.

    Args:
        kind: The class of its options.
        description: What it does.
        inputs, output: What -i and -o take.
        sample: The input in most examples.
        examples: Arguments of commands, by the group that they belong to; '' for the first.
    """
    parser = _Parser(usage='%(prog)s [-i PATH ...] [-o FOLDER] [-n MODEL] [-s FACTOR] [option ...]',
                     formatter_class=argparse.RawDescriptionHelpFormatter, fromfile_prefix_chars='@')
    program = name_program(parser)
    parser.description = f'{description}\n\n  {program} {examples[""]}'
    parser.add_argument('--version', action='version', version=f'Real-ESRGAN {__version__}')
    parser.add_argument('--print_completion', action=_PrintCompletion,
                        help='print what makes bash, zsh or fish complete these options')
    titles = {option.group for option in list_options(kind).values()} | {'messages'}
    groups = {title: parser.add_argument_group(
        title, f'{program} {examples.get(title, arguments).format(sample=sample)}')
        for title, arguments in _GROUPS.items() if title in titles}
    path = make_type(check_path)
    groups['files'].add_argument('-i', '--input', type=path, nargs='+', action='extend', metavar='PATH',
                                 help=f'{inputs}; @FILE stands for the lines of a file, one path each, and ./@NAME for '
                                      'an input whose name begins with @ (default: inputs)')
    groups['files'].add_argument('-o', '--output', type=path, default='results', metavar='FOLDER',
                                 help=f'{output} (default: %(default)s)')
    add_verbosity_options(groups['messages'])
    add_options(parser, kind, groups)
    groups['judging'].add_argument(
        '--report', type=make_type(_check_report_path), metavar='FILE',
        help='write figures, checks of the results and what looks wrong to FILE.json or FILE.html')
    return parser


def add_options(parser: argparse.ArgumentParser, kind: type[CheckedOptions],
                groups: dict[str, argparse._ArgumentGroup]) -> None:
    """Add the options of a class to their groups, which are made where they are not there; and --list_devices."""
    for name, option in list_options(kind).items():
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        _add_option(groups[option.group], name, option)
    groups['device'].add_argument('--list_devices', action=_ListDevices,
                                  help='print the devices, engines and video codecs of this machine, and which auto '
                                       'takes')


def add_verbosity_options(parser: argparse._ActionsContainer) -> None:
    """Add -v and -q."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument('-v', '--verbose', action='store_true', help='log details, and tracebacks of errors')
    group.add_argument('-q', '--quiet', action='store_true', help='log errors only')


def _add_option(group: argparse._ActionsContainer, name: str, option: Option) -> None:
    default = option.default_text
    if not default and option.default is not None and not option.is_switch:
        default = f'{option.default:g}' if isinstance(option.default, float) else str(option.default)
    more: dict[str, Any] = {'dest': name, 'help': option.help + (f' (default: {default})' if default else '')}
    if option.is_switch:
        group.add_argument(*option.flags, action='store_true', **more)
        return
    more |= {'default': option.default, 'metavar': option.metavar}
    if option.choices is not None:
        more['choices'] = tuple(option.choices())
    if option.check is not None:
        more['type'] = make_type(option.check)
    if option.several:
        more |= {'nargs': '+', 'action': _FirstOfSeveral, 'several': option.several}
    if isinstance(option.default, tuple):
        more |= {'nargs': '+', 'action': _Joined}
    group.add_argument(*option.flags, **more)


def make_type(check: Check) -> Callable[[str], Any]:
    """Return an argparse type that shows the message of a check's ValueError."""
    def convert(text: str) -> Any:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return convert


def _check_report_path(text: str) -> str:
    if not text.lower().endswith(('.json', '.html')):
        raise ValueError(f'{text!r} must end in .json or .html')
    return text


class _Joined(argparse.Action):
    """Joins several values of several items each into one, each item once."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        setattr(namespace, self.dest, tuple(dict.fromkeys(item for value in values for item in value)))


class _FirstOfSeveral(argparse.Action):
    """Stores the first of several values, and all of them under another name."""

    def __init__(self, *args: Any, several: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self._several = several

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        setattr(namespace, self.dest, values[0])
        setattr(namespace, self._several, tuple(values))


class _ListDevices(argparse.Action):
    """Prints the table of devices and ends the program, as --version does."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        from ..engines.choice import describe_devices
        from ..errors import MediaError
        from ..ffmpeg.hardware import describe_codecs
        from ..ffmpeg.programs import find_ffmpeg
        from ..profile import describe_profile
        try:
            codecs_of_cards = describe_codecs(find_ffmpeg(getattr(namespace, 'ffmpeg_bin', 'ffmpeg')))
        except MediaError as error:
            codecs_of_cards = str(error)
        print(describe_devices(), codecs_of_cards, describe_profile(), sep='\n')
        parser.exit()


class _PrintCompletion(argparse.Action):
    """Prints what makes a shell complete the program's options, and ends the program."""

    _PATHS = 'PATH', 'FILE', 'FILE.py', 'FOLDER'  # metavars

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, choices=('bash', 'zsh', 'fish'), metavar='SHELL',
                         default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any,
                 option_string: str | None = None) -> None:
        try:
            import shtab
        except ImportError:
            parser.error('--print_completion needs shtab: pip install shtab')
        for action in parser._actions:
            if action.metavar in self._PATHS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it
            elif action.dest == 'model_name':
                action.choices = tuple(MODELS)
        print(shtab.complete(parser, values))
        parser.exit()


# ---- from the arguments ----

def read_options(kind: type[Options], args: argparse.Namespace, **more: Any) -> Options:
    """Return the options that a parser has read, which `add_options` has added, with `more` fields.

    Raises:
        UsageError: some of them contradict each other.
    """
    options = list_options(kind)
    more |= {option.several: getattr(args, option.several) for option in options.values()
             if option.several and hasattr(args, option.several)}
    return kind(**{name: getattr(args, name) for name in options}, **more)


def read_inputs(args: argparse.Namespace) -> list[str]:
    """Return the inputs of -i; without it the folder `inputs`, as a checkout has one.

    Raises:
        UsageError: there is neither.
    """
    if not args.input and not os.path.lexists('inputs'):
        raise UsageError('-i is missing: name a file or a folder, as in -i photo.jpg; --help shows all options')
    return args.input or ['inputs']


def open_report(args: argparse.Namespace, options: RunOptions,
                display: Display) -> AbstractContextManager[Callable[[Event], None]]:
    """Return the listener of a run: the display, or the reporter of --report, which passes events on to it.

    Raises:
        UsageError: the report's folder is not there, and the results won't make it.
        OSError: the report can't be written there.
    """
    if args.report is None:
        return nullcontext(display)
    folder = Path(args.report).parent
    if not folder.exists() and not Path(os.path.abspath(folder)).is_relative_to(os.path.abspath(args.output)):
        raise UsageError(f'--report {args.report}: there is no folder {folder}')
    from ..reports.reporter import Reporter
    return Reporter(args.report, options.label, display, args.command)
