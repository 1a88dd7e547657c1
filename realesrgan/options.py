"""Every option of the two scripts, once: a field of a class says its names, default, check, help and group.

The scripts' parsers, the Python API, the web form, and the test that compares `--help` with the documents read the
fields, so a new option is one field here. A field's name is that of the option on the command line.

Nothing here imports PyTorch, numpy or OpenCV, so that `--help` answers at once.
"""
from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, TypeVar, dataclass_transform

from .engines.engine import list_engine_choices
from .errors import UsageError
from .models import FACE_MODELS, MODELS
from .pictures.formats import MOST_PIXELS, list_choices, list_choices_with_quality, list_writable_extensions
from .upscaling.size import Size, fit_size

if TYPE_CHECKING:
    from fractions import Fraction

logger = logging.getLogger(__name__)

#: Takes the text of a command line, or the value of a program; returns the value, or raises a ValueError that says what
#: is wrong with it.
Check = Callable[[Any], Any]


# ---- checks ----

def check_number(kind: type[int] | type[float], low: float, high: float = math.inf, *, above: bool = False) -> Check:
    """Return the check of a number of `kind` from `low` to `high`, with `above` without `low` itself."""
    def check(value: Any) -> Any:
        try:
            number = kind(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or (kind is int and not isinstance(value, str) and number != value):
            raise ValueError(f'{value!r} is not a {"whole " if kind is int else ""}number')
        if not (low <= number <= high and math.isfinite(number)) or (above and number == low):
            allowed = f'{low:g} to {high:g}' if high < math.inf else f'more than {low:g}' if above else (
                f'{low:g} or more')
            raise ValueError(f'{value} is out of range: allowed is {allowed}')
        return number
    return check


def check_path(value: Any) -> str:
    """Check a path or an address. An empty one, which an unset variable of a shell script gives, is refused."""
    text = os.fspath(value)
    if not text:
        raise ValueError('it is empty')
    return text


def _check_file_name_part(value: str) -> str:
    if set(value) & {'/', os.sep, os.altsep}:
        raise ValueError(f'{value!r} would leave the folder: it must not hold a separator')
    return value


def _check_model_name(value: str) -> str:
    """Check a model's name; a trailing `.pth` is ignored, as Real-ESRGAN 0.3.0 does."""
    name = value.removesuffix('.pth')
    if name in MODELS:
        return name
    from difflib import get_close_matches
    nearest = get_close_matches(name.lower(), [known.lower() for known in MODELS], n=1, cutoff=0)
    hint = next(known for known in MODELS if known.lower() in nearest)
    raise ValueError(f'unknown model {value!r}: choose from {", ".join(MODELS)}; nearest is {hint}')


def _check_gpu_ids(value: Any) -> tuple[int, ...]:
    """Check numbers of GPUs: a text with commas between them, a number, or several."""
    if value in ('cpu', '-1'):
        raise ValueError(f'{value!r} is not the number of a GPU; --engine winograd takes the CPU')
    numbers = value.split(',') if isinstance(value, str) else value if isinstance(value, Sequence) else (value,)
    return tuple(dict.fromkeys(map(check_number(int, 0), numbers)))


def _check_size(value: Any) -> Size:
    """Check a size: a text as 3840x2160, or width and height."""
    sides = value.lower().split('x') if isinstance(value, str) else value
    if not isinstance(sides, Sequence) or len(sides) != 2:
        raise ValueError(f'{value!r} is not a size; write it as 3840x2160')
    return Size(*map(check_number(int, 1), sides))


def _check_point(value: Any) -> tuple[int, int]:
    """Check a point: a text as 1200,800, or both numbers."""
    numbers = value.split(',') if isinstance(value, str) else value
    if not isinstance(numbers, Sequence) or len(numbers) != 2:
        raise ValueError(f'{value!r} is not a point; write it as 1200,800')
    across, down = map(check_number(int, 0), numbers)
    return across, down


def _check_workers(value: Any) -> int | str:
    """Check a number of workers, or 'auto'."""
    return value if value == 'auto' else check_number(int, 1)(value)


def _check_time(value: Any) -> Fraction:
    """Check a time: a text as `parse_time` takes it, or seconds."""
    from fractions import Fraction

    from .ffmpeg.timing import parse_time
    if isinstance(value, str):
        return parse_time(value)
    return Fraction(value if isinstance(value, Fraction) else check_number(float, 0)(value))


def _check_rate(value: Any) -> Fraction:
    from .ffmpeg.timing import parse_rate
    return parse_rate(str(value))


def _list_hwaccels() -> tuple[str, ...]:
    from .ffmpeg.families import list_hwaccel_choices
    return list_hwaccel_choices()


def _list_choices_of_videos() -> tuple[str, ...]:
    from .ffmpeg.containers import CONTAINERS
    return tuple(dict.fromkeys((*list_choices(), *CONTAINERS)))


# ---- fields ----

class Option(NamedTuple):
    """An option, the value of its field in a class.

    Attributes:
        flags: Its names on the command line.
        help: Its line in `--help`, which adds the default.
        group: The title under which `--help` shows it.
        default: The value if it is not given; False for a switch.
        check: Checks and converts it; None for a switch, a text, or one of `choices`.
        choices: Returns the words that it accepts; None if it accepts any.
        more_choices: Returns further words that only programs may use.
        metavar: The name of its value in `--help`.
        default_text: The default as `--help` shows it, if that differs from the value.
        several: The field that holds all values, if more than one may be given; else ''.
        form: Its field in the web service's form; '' if clients can't set it.
    """

    flags: tuple[str, ...]
    help: str
    group: str
    default: Any
    check: Check | None = None
    choices: Callable[[], Iterable[str]] | None = None
    more_choices: Callable[[], Iterable[str]] = tuple
    metavar: str | None = None
    default_text: str = ''
    several: str = ''
    form: str = ''

    @property
    def is_switch(self) -> bool:
        """Whether it is given without a value."""
        return self.default is False

    def convert(self, value: Any) -> Any:
        """Return the value of a text of a command line, or of a program's value.

        Raises:
            ValueError: it is none of those allowed.
        """
        if value is None and self.default is None:
            return None
        if self.choices is not None and value not in (*self.choices(), *self.more_choices()):
            raise ValueError(f'{value!r} is none of {", ".join(self.choices())}')
        return value if self.check is None else self.check(value)


def option(default: Any, *flags: str, **more: Any) -> Any:
    """Return the field of an option; `more` are the other attributes of `Option`."""
    return Option(flags, default=default, **more)


@dataclass_transform(eq_default=False, kw_only_default=True, frozen_default=True)
class CheckedOptions:
    """The base of classes of options, which are checked when they are made. Wrong values raise `UsageError`.

    They are like frozen dataclasses, with all that is annotated for fields, but need nothing compiled at each start.
    """

    _fields: ClassVar[dict[str, Any]] = {}  # of each an `Option`, or only its default

    def __init_subclass__(cls) -> None:
        own = {name: vars(cls)[name] for name in cls.__annotations__}
        cls._fields = cls._fields | own
        for name, field in own.items():
            setattr(cls, name, _get_default(field))

    def __init__(self, **given: Any) -> None:
        if unknown := given.keys() - self._fields:
            raise TypeError(f'{type(self).__name__} has no {", ".join(sorted(unknown))}')
        vars(self).update({name: _get_default(field) for name, field in self._fields.items()} | given)
        for name, option in list_options(type(self)).items():
            try:
                self._set(name, option.convert(getattr(self, name)))
            except (TypeError, ValueError, AttributeError) as error:
                raise UsageError(f'{name}: {error}') from None
        self._check_together()

    def _check_together(self) -> None:
        """Check what options that are right by themselves mean together; raise a `UsageError` if that is nothing."""

    def _set(self, name: str, value: Any) -> None:
        vars(self)[name] = value

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f'{name}: options do not change; replace() returns others')

    def replace(self, **changes: Any) -> Self:
        """Return these options with some changed."""
        return type(self)(**(vars(self) | changes))

    def __repr__(self) -> str:
        given = [f'{name}={getattr(self, name)!r}' for name, field in self._fields.items()
                 if getattr(self, name) != _get_default(field)]
        return f'{type(self).__name__}({", ".join(given)})'

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))


def _get_default(field: Any) -> Any:
    return field.default if isinstance(field, Option) else field


def list_options(kind: type[CheckedOptions]) -> dict[str, Option]:
    """Return the options of a class, by name."""
    return {name: field for name, field in kind._fields.items() if isinstance(field, Option)}


def same_option(kind: type[CheckedOptions], name: str, **changes: Any) -> Any:
    """Return a field like that of another class, with some attributes of `Option` changed."""
    return list_options(kind)[name]._replace(**changes)


class UpsamplerOptions(CheckedOptions):
    """Everything that makes one upsampler differ from another. Wrong values raise `UsageError`."""

    model_name: str = option(
        'RealESRGAN_x4plus', '-n', '--model_name', group='model', check=_check_model_name, metavar='NAME',
        several='models', form='model', help=f'one of {", ".join(MODELS)}')
    denoise_strength: float | None = option(
        None, '-dn', '--denoise_strength', group='model', check=check_number(float, 0, 1), metavar='0..1',
        form='denoise', default_text='0.5',
        help='0 keeps the noise, 1 removes it; '
             f'{", ".join(spec.name for spec in MODELS.values() if spec.denoise_partner)} only')
    model_path: str | None = option(
        None, '--model_path', group='model', check=check_path, metavar='PATH',
        help='weights to use instead: a .pth or .safetensors file, or an https URL of one')
    fp32: bool = option(
        False, '--fp32', group='device', default_text='half precision where it is faster',
        help='compute in single precision')
    engine: str = option(
        'auto', '--engine', group='device', choices=list_engine_choices,
        help='what runs the network; auto takes the fastest that runs here')
    tile: int = option(
        0, '-t', '--tile', group='memory', check=check_number(int, 0), metavar='PIXELS',
        help='cut pictures into tiles of this side; 0 chooses by free memory')
    tile_pad: int = option(
        10, '--tile_pad', group='memory', check=check_number(int, 0), metavar='PIXELS',
        help='padding of a tile beyond its border')
    max_memory: float | None = option(
        None, '--max_memory', group='memory', check=check_number(float, 0.1), metavar='GIB',
        default_text='what is free',
        help='memory that the network may use, on a CPU including the result; sets the tile size')
    pre_pad: int = option(
        0, '--pre_pad', group='memory', check=check_number(int, 0), metavar='PIXELS',
        help='padding of the right and lower border, cut off afterwards')
    face_enhance: bool = option(
        False, '--face_enhance', group='faces', form='face',
        help='restore faces with GFPGAN; not with models for anime')
    face_model: str = option(
        'GFPGANv1.3', '--face_model', group='faces', choices=lambda: FACE_MODELS, help='the network that restores them')
    face_weight: float = option(
        1.0, '--face_weight', group='faces', check=check_number(float, 0, 1), metavar='0..1',
        help='1 is fully restored, 0 not at all')
    only_center_face: bool = option(
        False, '--only_center_face', group='faces', help='restore only the face nearest to the centre')
    face_min_size: int = option(
        0, '--face_min_size', group='faces', check=check_number(int, 0), metavar='PIXELS',
        help='leave smaller faces of the input as they are')

    @property
    def label(self) -> str:
        """The network's name for people: that of the model, or of the file of `model_path`."""
        return self.model_name if self.model_path is None else Path(self.model_path).stem

    @property
    def default_outscale(self) -> float | None:
        """The final size if none is asked for: 4 for the models of the table, as in 0.3.0; else None, the network's."""
        return 4 if self.label in MODELS else None

    @property
    def upsampler(self) -> UpsamplerOptions:
        """Those of these options that affect an upsampler."""
        return convert_options(self, UpsamplerOptions)


class RunOptions(UpsamplerOptions):
    """Everything that both scripts let the user choose. Wrong values raise `UsageError`.

    Attributes:
        check: Whether results, or some frames of them, are compared with their inputs pixel by pixel, and reported as
            `Examined`, as `--report` needs it. Otherwise they are compared at some thousand points, unless `no_check`.
        models: The models that a preview compares; none for `model_name` alone.
    """

    gpu_id: tuple[int, ...] = option(
        (), '-g', '--gpu-id', group='device', check=_check_gpu_ids, metavar='N',
        default_text='the first, or the CPU where there is none', help='GPUs to use, as 0 1 or 0,1')
    num_process_per_gpu: int | str = option(
        1, '--num_process_per_gpu', group='device', check=_check_workers, metavar='N',
        help='processes that share each GPU, or the CPU; auto for as many as are fastest')
    suffix: str = option(
        'out', '--suffix', group='files', check=_check_file_name_part, metavar='TEXT',
        help='results are called NAME_SUFFIX; empty for NAME alone')
    skip_existing: bool = option(False, '--skip_existing', group='files', help='skip inputs whose result exists')
    keep_dates: bool = option(
        False, '--keep_dates', group='files', help='give results the modification time of their inputs')
    max_pixels: int = option(
        MOST_PIXELS, '--max_pixels', group='files', check=check_number(int, 1), metavar='COUNT',
        help='refuse pictures and frames with more pixels')
    outscale: float | None = option(
        None, '-s', '--outscale', group='result', check=check_number(float, 0, above=True), metavar='FACTOR',
        form='scale', default_text='4; with weights of others, the scale of their network',
        help='final size as a multiple of the input size')
    width: int | None = option(
        None, '--width', group='result', check=check_number(int, 1), metavar='PIXELS', form='width',
        help='final width instead of -s; the height follows')
    height: int | None = option(
        None, '--height', group='result', check=check_number(int, 1), metavar='PIXELS', form='height',
        help='final height instead of -s; the width follows')
    fit: Size | None = option(
        None, '--fit', group='result', check=_check_size, metavar='WxH', form='fit',
        help='largest final size that fits into this one, such as 3840x2160, instead of -s; nothing is cropped')
    strength: float = option(
        1.0, '--strength', group='result', check=check_number(float, 0, 1), metavar='0..1', form='strength',
        help='share of the network in the result; the rest is the input enlarged by bicubic')
    alpha_upsampler: str = option(
        'realesrgan', '--alpha_upsampler', group='result', choices=lambda: ('realesrgan', 'bicubic'),
        help='how transparency is enlarged')
    cluster: str | None = option(
        None, '--cluster', group='cluster', check=check_path, metavar='ADDRESS',
        help='let a Ray cluster do the work: HOST:PORT of its head, auto for the one that this machine belongs to, '
             'local for a new one on this machine')
    cpus_per_worker: float | None = option(
        None, '--cpus_per_worker', group='cluster', check=check_number(float, 0.01), metavar='N',
        default_text='all of a node', help='cores of each worker on nodes without a GPU')
    compare: bool = option(
        False, '--compare', group='judging',
        help='also save a picture or short clip of input and result side by side')
    no_check: bool = option(
        False, '--no_check', group='judging', help='don\'t check the results for faults')
    log: str | None = option(
        None, '--log', group='messages', check=check_path, metavar='FILE',
        help='append what -v shows to FILE, with times')
    preview: bool = option(
        False, '--preview', group='judging', form='preview',
        help='only show a small part by each model of -n, with the time and disk space that the whole would take')
    preview_at: tuple[int, int] | None = option(
        None, '--preview_at', group='judging', check=_check_point, metavar='X,Y', form='preview_at',
        default_text='the part with the most detail',
        help='pixel of the input in the middle of the part that --preview shows')
    check: bool = False
    models: tuple[str, ...] = ()

    def _check_together(self) -> None:
        if self.cpus_per_worker is not None and self.cluster is None:
            raise UsageError('--cpus_per_worker needs --cluster')
        try:
            self._set('models', tuple(dict.fromkeys(map(_check_model_name, self.models))))
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f'models: {error}') from None
        if len(self.models) > 1 and not self.preview:
            raise UsageError('-n takes several models only with --preview, which compares them')
        if len(self.models) > 1 and self.model_path is not None:
            raise UsageError('--model_path gives the weights of one model; name one with -n, or none')
        if self.preview_at is not None and not self.preview:
            raise UsageError('--preview_at needs --preview')
        if self.preview and (self.compare or self.check or self.cluster is not None):
            raise UsageError('--preview makes no results that --compare, --report or --cluster could go with')
        if self.num_process_per_gpu == 'auto' and self.cluster is not None:
            raise UsageError('--num_process_per_gpu auto is for this machine; with --cluster give a number')
        if self.no_check:
            self._set('check', False)
        sizes = [f'--{name}' for name in ('outscale', 'width', 'height', 'fit') if getattr(self, name) is not None]
        if len(sizes) > 1:
            raise UsageError(f'{" and ".join(sizes)} contradict each other: give one of them; --fit WxH takes both '
                             'sides')

    def find_size(self, width: int, height: int, multiples: tuple[int, int] = (1, 1)) -> Size | None:
        """Return the final size of a picture or a frame that --width, --height or --fit asks for; None without them.

        Args:
            width, height: Those of the picture.
            multiples: See `fit_size`.
        """
        box = self.fit or (self.width, self.height)
        return None if box == (None, None) else fit_size(width, height, *box, multiples)


class PictureOptions(RunOptions):
    """How pictures are upscaled, and where. Wrong values raise `UsageError`."""

    ext: str = option(
        'auto', '--ext', group='result', choices=list_choices, more_choices=list_writable_extensions, form='format',
        help='format of the results; auto is that of the input')
    quality: int = option(
        95, '--quality', group='result', check=check_number(int, 1, 100), metavar='1..100',
        help=f'quality of {" and ".join(list_choices_with_quality())}')
    recursive: bool = option(
        False, '-r', '--recursive', group='files', help='go into subfolders and keep their structure')


class VideoOptions(RunOptions):
    """How videos are upscaled, and where. Wrong values raise `UsageError`."""

    model_name: str = same_option(UpsamplerOptions, 'model_name', default='realesr-animevideov3')
    ext: str = option(
        'auto', '--ext', group='result', choices=_list_choices_of_videos,
        more_choices=list_writable_extensions, form='format',
        help='format of the results; auto keeps that of an animated picture, and is mp4 for other videos; jpg, png '
             'and tiff are for single pictures')
    fps: Fraction | None = option(
        None, '--fps', group='video', check=_check_rate, metavar='RATE',
        default_text='that of the input, and the times of an animated picture; 24 for a folder of frames',
        help='frames a second of the result, such as 25, 29.97 or 30000/1001; the duration stays')
    start: Fraction | None = option(
        None, '--start', group='video', check=_check_time, metavar='TIME', help='begin here: 90, 1:30 or 0:01:30.5')
    end: Fraction | None = option(
        None, '--end', group='video', check=_check_time, metavar='TIME', help='end here')
    steady: bool = option(
        False, '--steady', group='video', form='steady', help='average results along the motion, against flicker')
    hwaccel: str = option(
        'none', '--hwaccel', group='video', choices=_list_hwaccels,
        help='let the card decode the video if it gives the same frames; auto takes the first decoder that does')
    deinterlace: str = option(
        'auto', '--deinterlace', group='video', choices=lambda: ('auto', 'on', 'off'),
        help='turn fields into frames; auto: if the video is flagged as interlaced')
    vcodec: str | None = option(
        None, '--vcodec', group='video', metavar='ENCODER',
        default_text='libx264; libvpx-vp9 for webm; prores_ks for transparency in mov',
        help='ffmpeg\'s name of the video encoder')
    crf: float | None = option(
        None, '--crf', group='video', check=check_number(float, 0, 63), metavar='N',
        default_text='the encoder\'s own', help='quality of the encoder, smaller is better')
    preset: str | None = option(
        None, '--preset', group='video', metavar='NAME', default_text='the encoder\'s own',
        help='speed of the encoder')
    pix_fmt: str | None = option(
        None, '--pix_fmt', group='video', metavar='FORMAT',
        default_text='depth and chroma of the input; in mp4 and mov 4:2:0, which players expect', help='pixel format')
    ffmpeg_bin: str = option(
        'ffmpeg', '--ffmpeg_bin', group='video', check=os.fspath, metavar='PATH',
        default_text='those in PATH, else pip\'s', help='ffmpeg, or the folder of ffmpeg and ffprobe')
    extract_frame_first: bool = option(
        False, '--extract_frame_first', group='video', help='decode the whole video to files before upscaling it')
    chunk: Fraction | None = option(
        None, '--chunk', group='long videos', check=_check_time, metavar='TIME',
        default_text='about a minute of work, from 1 to 10 s',
        help='length of the parts that workers take and an interrupted run keeps; 0 for one part')
    restart: bool = option(
        False, '--restart', group='long videos', help='discard the parts of an earlier run that had other options')
    keep_parts: bool = option(
        False, '--keep_parts', group='long videos', help='keep the parts when the video is done')
    dry_run: bool = option(
        False, '--dry_run', group='long videos',
        help='only print what would be done, how long it would take and what it would need')

    def _check_together(self) -> None:
        super()._check_together()
        if self.dry_run and self.preview:
            raise UsageError('--dry_run and --preview both stand for the run; give one of them')
        if self.dry_run and (self.compare or self.check):
            raise UsageError('--dry_run makes no results that --compare or --report could show')

    @property
    def container(self) -> str:
        """The container of videos, a key of `CONTAINERS`."""
        from .ffmpeg.containers import CONTAINERS
        return self.ext if self.ext in CONTAINERS else 'mp4'


Options = TypeVar('Options', bound=UpsamplerOptions)


def convert_options(options: UpsamplerOptions, kind: type[Options]) -> Options:
    """Return options of another class: those that both have, and defaults for the rest."""
    return kind(**{name: value for name, value in vars(options).items() if name in kind._fields})


def drop_faces_of_anime(options: Options) -> Options:
    """Return the options without faces, with a warning, if the model is for anime: GFPGAN would make photos of them."""
    name = options.label if options.label in MODELS else options.model_name
    if not (options.face_enhance and MODELS[name].anime):
        return options
    logger.warning('face enhancement is turned off: %s is a model for anime', name)
    return options.replace(face_enhance=False)
