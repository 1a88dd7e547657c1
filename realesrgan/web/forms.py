"""The fields of a request, and what they ask the library for."""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import UsageError
from ..ffmpeg.containers import CONTAINERS
from ..options import PictureOptions, VideoOptions, check_number, list_options
from ..pictures.formats import list_choices
from .settings import Settings

#: What `format` takes.
PICTURE_FORMATS = list_choices()
VIDEO_FORMATS = ['auto', *CONTAINERS]
MOST_SCALE = 8
_SCALE = check_number(float, 0.1, MOST_SCALE)
_MOST_CHARACTERS = 80
_YES, _NO = ('1', 'true', 'on', 'yes'), ('0', 'false', 'off', 'no')
#: The options that a client may set, by the names of their fields. Those of pictures and of videos have the same names.
FIELDS = {option.form: name for kind in (PictureOptions, VideoOptions) for name, option in list_options(kind).items()
          if option.form}


def read_form(fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that a form gives, by name; empty fields are not given.

    Raises:
        UsageError: one is not allowed; the message names it and what is.
    """
    unknown = set(fields) - set(FIELDS) - {'token'}
    if unknown:
        raise UsageError(f'unknown field {min(unknown)!r}; known are image, {", ".join(FIELDS)}')
    given = {}
    for field, name in FIELDS.items():
        text = fields.get(field, '')
        try:
            if text:
                given[name] = _read_field(name, text)
        except ValueError as error:
            raise UsageError(f'{field}: {error}') from None
    return given


def _read_field(name: str, text: str) -> Any:
    """Return the value of an option, of a picture or of a video.

    Raises:
        ValueError: it is not allowed.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f'{text[:_MOST_CHARACTERS]!r}... is too long')
    if name == 'ext':
        if text.lower() not in (*PICTURE_FORMATS, *VIDEO_FORMATS):
            raise ValueError(f'{text!r} is none of {", ".join(dict.fromkeys((*PICTURE_FORMATS, *VIDEO_FORMATS)))}')
        return text.lower()
    option = list_options(VideoOptions)[name]
    if option.is_switch:
        if text.lower() not in (*_YES, *_NO):
            raise ValueError(f'{text!r} is neither 1 nor 0')
        return text.lower() in _YES
    return _SCALE(text) if name == 'outscale' else option.convert(text)


def make_options(given: Mapping[str, Any], settings: Settings, *, video: bool) -> PictureOptions | VideoOptions:
    """Return the options of the library's entry for the kind of file.

    Args:
        given: What `read_form` returned.
        settings: Those of the service.
        video: Whether the file is a video.

    Raises:
        UsageError: the format is of the other kind.
    """
    allowed = VIDEO_FORMATS if video else PICTURE_FORMATS
    if given.get('ext', 'auto') not in allowed:
        raise UsageError(f'format: {given["ext"]!r} is none of {", ".join(allowed)}, which '
                         f'{"videos" if video else "pictures"} have')
    kind = VideoOptions if video else PictureOptions
    return kind(**given, engine=settings.engine, fp32=settings.fp32, max_pixels=settings.max_pixels)


def clean_name(name: str | None) -> str:
    """Return what a download is called: the name of the upload without its extension and all that a path could hold."""
    stem = re.split(r'[/\\]', name or '')[-1].rpartition('.')[0] or re.split(r'[/\\]', name or '')[-1]
    return re.sub(r'[^\w.() -]+', '_', stem).strip('. _')[:80] or 'picture'
