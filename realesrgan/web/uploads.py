"""What a client sends: the fields of its form, which are options of the library, and a file that is looked at first."""
from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import ImageError, MediaError
from ..ffmpeg.containers import CONTAINERS
from ..ffmpeg.probe import probe
from ..ffmpeg.programs import find_ffmpeg
from ..options import PictureOptions, RunOptions, VideoOptions, check_number, list_options
from ..pictures import formats, pillow
from ..pictures.metadata import measure_upright
from ..tuning import list_installed
from ..upscaling.size import Size
from .errors import FieldError, RequestError, TooLargeError, UnknownFileError
from .settings import Settings

#: What `format` takes.
PICTURE_FORMATS = formats.list_choices()
VIDEO_FORMATS = ['auto', *CONTAINERS]
MOST_SCALE = 8
_SCALE = check_number(float, 0.1, MOST_SCALE)
_MOST_CHARACTERS = 80
_YES, _NO = ('1', 'true', 'on', 'yes'), ('0', 'false', 'off', 'no')
#: The options that a client may set, by the names of their fields; those of pictures and of videos are alike.
FIELDS = {option.form: name for kind in (PictureOptions, VideoOptions) for name, option in list_options(kind).items()
          if option.form}
#: Containers of videos by the bytes that they begin with, and where. Playlists and descriptions of streams, which make
#: ffmpeg open other files and addresses, are text and not among them.
_CONTAINERS = {
    b'ftyp': 4, b'moov': 4, b'mdat': 4, b'free': 4, b'skip': 4, b'wide': 4,  # MP4, QuickTime
    b'\x1aE\xdf\xa3': 0,  # Matroska, WebM
    b'RIFF': 0, b'FLV\x01': 0, b'\x00\x00\x01\xba': 0, b'\x00\x00\x01\xb3': 0,  # MPEG program streams and video
    b'0&\xb2u\x8ef\xcf\x11': 0, b'OggS': 0}  # ASF
_PICTURE_BRANDS = b'avif', b'avis', b'mif1', b'msf1', b'heic', b'heix'  # of files that begin as an MP4 does
# How XML and playlists begin. Behind a comment of XML, `<!--free-->`, a DASH manifest would look like a QuickTime file,
# and ffmpeg would open the files of this machine that it names.
_TEXTS = b'<', b'#', b'ffconcat'
_TRANSPORT_PACKETS = 188, 192  # bytes; those of 192 begin with a time stamp
_MOST_RATE = 240  # frames a second
_NETWORK_SCALE = 4  # the largest of the models


# ---- the form ----

def read_form(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that a form gives, by name; empty fields are not given.

    Raises:
        RequestError: a field is unknown, or not allowed; the message names it and what is.
    """
    unknown = set(fields) - set(FIELDS) - {'token'}
    if unknown:
        raise RequestError(f'unknown field {min(unknown)!r}; known are image, {", ".join(FIELDS)}', 'usage')
    given = {}
    for field, name in FIELDS.items():
        text, option = fields.get(field, ''), list_options(VideoOptions)[name]
        if not text:
            continue
        if len(text) > _MOST_CHARACTERS:
            raise FieldError(field, f'{text[:_MOST_CHARACTERS]!r}... is too long')
        if option.is_switch and text.lower() not in (*_YES, *_NO):
            raise FieldError(field, f'{text!r} is neither 1 nor 0')
        try:
            given[name] = text.lower() in _YES if option.is_switch else _SCALE(text) if name == 'outscale' else (
                option.convert(text.lower() if option.choices else text))
        except ValueError as error:
            raise FieldError(field, str(error)) from None
    return given


def make_options(given: Mapping[str, Any], settings: Settings, *, video: bool) -> PictureOptions | VideoOptions:
    """Return the options for a picture or a video, of what `read_form` returned and the service's settings.

    Raises:
        FieldError: the format is of the other kind.
        UsageError: the options contradict each other.
    """
    allowed = VIDEO_FORMATS if video else PICTURE_FORMATS
    if given.get('ext', 'auto') not in allowed:
        raise FieldError('format', f'{given["ext"]!r} is none of {", ".join(allowed)}, which '
                                   f'{"videos" if video else "pictures"} have')
    kind = VideoOptions if video else PictureOptions
    if given.get('preview') and 'model_name' not in given:
        given = {**given, 'models': tuple(list_installed())}
    return kind(**given, engine=settings.engine, fp32=settings.fp32, max_pixels=settings.max_pixels)


def clean_name(name: str | None) -> str:
    """Return the name of a download: that of the upload without its extension and all that a path could hold."""
    last = re.split(r'[/\\]', name or '')[-1]
    return re.sub(r'[^\w.() -]+', '_', last.rpartition('.')[0] or last).strip('. _')[:80] or 'picture'


# ---- the file ----

def measure(upload: Path, settings: Settings, scale: float | None = None) -> tuple[bool, Size]:
    """Return whether an upload is a video, or else a picture; and its size.

    Args:
        upload: The file.
        settings: What is allowed.
        scale: Final size that is asked for, as a multiple of the upload's; one that is larger than the networks' leaves
            room for fewer pixels.

    Raises:
        UnknownFileError: it is neither, or too damaged to tell.
        TooLargeError: it is larger or longer than the settings allow.
    """
    video = _is_container(upload)
    size = Size(*(_measure_video(upload, settings) if video else _measure_picture(upload)))
    most = int(settings.max_pixels * min((_NETWORK_SCALE / (scale or 1)) ** 2, 1))
    if math.prod(size) > most:
        raise TooLargeError(f'it has {size} pixels; allowed are {most}', 'pixels', size=size, allowed=most)
    return video, size


def require_few_pixels(size: Size, options: RunOptions, settings: Settings) -> None:
    """Check the final size that `options` ask for, of an upload of a size.

    Raises:
        TooLargeError: it has more pixels than a result of the networks' may have.
    """
    final, most = options.find_size(*size), settings.max_pixels * _NETWORK_SCALE ** 2
    if final is not None and math.prod(final) > most:
        raise TooLargeError(f'its result would have {final} pixels; allowed are {most}', 'result_pixels',
                            size=final, allowed=most)


def _is_container(upload: Path) -> bool:
    with upload.open('rb') as file:
        beginning = file.read(2 * max(_TRANSPORT_PACKETS))
    text = beginning.removeprefix(b'\xef\xbb\xbf').lstrip()
    if text.startswith(_TEXTS) or (beginning[4:8] == b'ftyp' and beginning[8:12] in _PICTURE_BRANDS) or (
            beginning.startswith(b'RIFF') and beginning[8:12] != b'AVI '):
        return False
    return any(beginning[start:].startswith(magic) for magic, start in _CONTAINERS.items()) or any(
        beginning[size - 188:size - 187] == beginning[2 * size - 188:2 * size - 187] == b'G'
        for size in _TRANSPORT_PACKETS)


def _measure_video(upload: Path, settings: Settings) -> tuple[int, int]:
    try:
        info = probe(find_ffmpeg('ffmpeg'), str(upload))
    except MediaError:
        raise UnknownFileError from None
    if info.video is None:
        raise UnknownFileError('this file has no video', 'no_video')
    seconds = max(info.video.duration or Fraction(0), info.duration or Fraction(0))
    frames = info.video.promised_frames or 0
    if seconds > settings.max_seconds:
        raise TooLargeError(f'it lasts {float(seconds):.0f} seconds; allowed are {settings.max_seconds:g}', 'length',
                            seconds=float(seconds), allowed=settings.max_seconds)
    if frames > settings.max_seconds * _MOST_RATE:
        raise TooLargeError(f'it has {frames} frames; allowed are {settings.max_seconds:g} seconds', 'frames',
                            frames=frames, allowed=settings.max_seconds)
    return info.video.width, info.video.height


def _measure_picture(upload: Path) -> tuple[int, int]:
    try:
        image = pillow.open_image(upload)
    except ImageError as error:
        row = formats.find_by_content(None, pillow.read_head(upload))
        raise UnknownFileError(*(str(error), 'refused') if row is not None and row.refused else ()) from None
    if image is None:
        raise UnknownFileError
    with image:
        return measure_upright(image)
