"""What a client sends: the fields of its form, which are options of the library, and a file that is looked at first."""
from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import ImageError, MediaError
from ..ffmpeg.containers import CONTAINERS
from ..ffmpeg.probe import probe
from ..ffmpeg.programs import find_ffmpeg
from ..options import PictureOptions, VideoOptions, check_number, list_options
from ..pictures import formats, pillow
from ..pictures.metadata import measure_upright
from ..tuning import list_installed
from ..upscaling.size import Size, scale_size
from ..videos.animations import EXTENSIONS, find_kind
from .errors import FieldError, RequestError, TooLargeError, UnknownFileError
from .settings import Settings

PICTURE, ANIMATION, VIDEO = 'picture', 'animation', 'video'
#: What `format` takes, by the kind of file.
FORMATS = {PICTURE: [*formats.list_choices()], VIDEO: ['auto', *CONTAINERS],
           ANIMATION: ['auto', *sorted(CONTAINERS, key=lambda name: not CONTAINERS[name].is_animation)]}
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


@dataclass(frozen=True)
class Media:
    """What an upload is.

    Attributes:
        kind: `PICTURE`, `ANIMATION` or `VIDEO`.
        size: Its width and height, as they are shown.
        frames: How many there are; None where that is unknown.
    """

    kind: str
    size: Size
    frames: int | None = 1


@dataclass(eq=False)
class Upload:
    """A file that a client has sent.

    Attributes:
        folder: Where it lies.
        source: Its path.
        name: The name under which its results are downloaded, without extension.
        media: What it is.
        is_kept: Whether it stays after a job, for others.
        identity: The name by which clients know it; nobody can guess it.
        used: When a client last asked for it, in seconds on `time.monotonic`'s clock.
    """

    folder: Path
    source: Path
    name: str
    media: Media
    is_kept: bool = False
    identity: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    used: float = field(default_factory=time.monotonic)

    @property
    def bytes(self) -> int:
        """Its size."""
        return self.source.stat().st_size if self.source.exists() else 0


def may_have(extension: str, media: Media) -> bool:
    """Tell whether a file may keep the extension that its client gave it."""
    if media.kind == ANIMATION:
        return extension in EXTENSIONS
    return extension in CONTAINERS or formats.find_by_extension(extension) is not None


# ---- the form ----

def read_form(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that a form gives, by name; empty fields are not given.

    Raises:
        RequestError: a field is unknown, or not allowed; the message names it and what is.
    """
    unknown = set(fields) - set(FIELDS) - {'file', 'token'}
    if unknown:
        raise RequestError(f'unknown field {min(unknown)!r}; known are image, file, {", ".join(FIELDS)}', 'usage')
    given = {}
    for key, name in FIELDS.items():
        text, option = fields.get(key, ''), list_options(VideoOptions)[name]
        if not text:
            continue
        if len(text) > _MOST_CHARACTERS:
            raise FieldError(key, f'{text[:_MOST_CHARACTERS]!r}... is too long')
        if option.is_switch and text.lower() not in (*_YES, *_NO):
            raise FieldError(key, f'{text!r} is neither 1 nor 0')
        try:
            given[name] = text.lower() in _YES if option.is_switch else _SCALE(text) if name == 'outscale' else (
                option.convert(text.lower() if option.choices else text))
        except ValueError as error:
            raise FieldError(key, str(error)) from None
    return given


def make_options(given: Mapping[str, Any], settings: Settings, media: Media) -> PictureOptions | VideoOptions:
    """Return the options for a file, of what `read_form` returned and the service's settings.

    An animation whose first frame is asked for, by a format of pictures, is upscaled as a picture.

    Raises:
        FieldError: a field or its value is for files of another kind.
        UsageError: the options contradict each other.
        TooLargeError: the file, or its result, has too many pixels for them.
    """
    asked = given.get('ext', 'auto')
    picture = media.kind == PICTURE or (media.kind == ANIMATION and asked not in FORMATS[ANIMATION])
    kind, allowed = (PictureOptions, FORMATS[PICTURE]) if picture else (VideoOptions, FORMATS[media.kind])
    if asked not in allowed:
        raise FieldError('format', f'{asked!r} is none of {", ".join(allowed)}, which {media.kind}s have')
    for name, option in list_options(VideoOptions).items():
        if name in given and name not in list_options(kind):
            raise FieldError(option.form, f'{media.kind}s have none')
    if given.get('preview') and 'model_name' not in given:
        given = {**given, 'models': tuple(list_installed())}
    options = kind(**given, engine=settings.engine, fp32=settings.fp32, max_pixels=settings.max_pixels)
    _require_few_pixels(media.size, settings, options.outscale)
    final, most = find_final_size(media, options), settings.max_pixels * _NETWORK_SCALE ** 2
    if math.prod(final) > most:
        raise TooLargeError(f'its result would have {final} pixels; the limit is {most}', 'result_pixels', size=final,
                            allowed=most)
    return options


def find_final_size(media: Media, options: PictureOptions | VideoOptions) -> Size:
    """Return the size of a result; of videos as most of them are encoded, with even sides."""
    even = isinstance(options, VideoOptions) and media.kind == VIDEO and not CONTAINERS[options.container].is_animation
    size = options.find_size(*media.size, (2, 2) if even else (1, 1))
    if size is None:
        size = scale_size(*media.size, options.outscale or options.default_outscale or _NETWORK_SCALE)
    return Size(*(max(side - side % 2, 2) for side in size)) if even else size


def clean_name(name: str | None) -> str:
    """Return the name of a download: that of the upload without its extension and all that a path could hold."""
    last = re.split(r'[/\\]', name or '')[-1]
    return re.sub(r'[^\w.() -]+', '_', last.rpartition('.')[0] or last).strip('. _')[:80] or 'picture'


# ---- the file ----

def measure(upload: Path, settings: Settings) -> Media:
    """Return what an upload is.

    Raises:
        UnknownFileError: it is neither picture nor video, or too damaged to tell.
        TooLargeError: it is larger or longer than the settings allow.
    """
    media = _measure_video(upload, settings) if _is_container(upload) else _measure_picture(upload, settings)
    _require_few_pixels(media.size, settings)
    return media


def _require_few_pixels(size: Size, settings: Settings, scale: float | None = None) -> None:
    """Check the size of an upload; a scale that is larger than the networks' leaves room for fewer pixels."""
    most = int(settings.max_pixels * min((_NETWORK_SCALE / (scale or 1)) ** 2, 1))
    if math.prod(size) > most:
        raise TooLargeError(f'it has {size} pixels; the limit is {most}', 'pixels', size=size, allowed=most)


def _require_few_frames(frames: int, settings: Settings) -> None:
    if frames > settings.max_seconds * _MOST_RATE:
        raise TooLargeError(f'it has {frames} frames; the limit is {settings.max_seconds:g} seconds', 'frames',
                            frames=frames, limit=settings.max_seconds)


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


def _measure_video(upload: Path, settings: Settings) -> Media:
    try:
        info = probe(find_ffmpeg('ffmpeg'), str(upload))
    except MediaError:
        raise UnknownFileError from None
    if info.video is None:
        raise UnknownFileError('this file has no video', 'no_video')
    seconds = max(info.video.duration or Fraction(0), info.duration or Fraction(0))
    if seconds > settings.max_seconds:
        raise TooLargeError(f'it lasts {float(seconds):.0f} seconds; the limit is {settings.max_seconds:g}', 'length',
                            seconds=float(seconds), limit=settings.max_seconds)
    _require_few_frames(info.video.promised_frames or 0, settings)
    frames = info.video.promised_frames or round(seconds * (info.video.average_rate or 0)) or None
    return Media(VIDEO, Size(info.video.width, info.video.height), frames)


def _measure_picture(upload: Path, settings: Settings) -> Media:
    try:
        image = pillow.open_image(upload)
    except ImageError as error:
        row = formats.find_by_content(None, pillow.read_head(upload))
        raise UnknownFileError(*(str(error), 'refused') if row is not None and row.refused else ()) from None
    if image is None:
        raise UnknownFileError
    with image:
        size, kind = Size(*measure_upright(image)), find_kind(upload)
        if not kind:
            return Media(PICTURE, size)
        frames = None if kind == 'GIF' else getattr(image, 'n_frames', 1)  # for which GIFs are read to their end
    _require_few_frames(frames or 1, settings)
    return Media(ANIMATION, size, frames)
