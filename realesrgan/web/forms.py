"""The fields of a request, and what they ask the library for."""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..ffmpeg.containers import CONTAINERS
from ..models import MODELS
from ..pictures.formats import list_choices
from ..pictures.run import PictureOptions
from ..videos.options import VideoOptions
from ..workers.options import FaceOptions
from .settings import Settings

#: What `format` takes.
PICTURE_FORMATS = list_choices()
VIDEO_FORMATS = ['auto', *CONTAINERS]
MOST_SCALE = 8
_YES, _NO = ('1', 'true', 'on', 'yes'), ('', '0', 'false', 'off', 'no')
DEFAULT_MODELS = {False: 'RealESRGAN_x4plus', True: 'realesr-animevideov3'}  # of pictures and of videos


@dataclass(frozen=True)
class Wish:
    """What a client asks for.

    Attributes:
        model: A name from `models.MODELS`, or None for the one that fits the kind of file.
        scale: Final size as a multiple of the input's; None is 4.
        denoise: 0 keeps the noise, 1 removes it; None for the model's own.
        face: Whether faces are restored.
        format: Of the result.
    """

    model: str | None = None
    scale: float | None = None
    denoise: float | None = None
    face: bool = False
    format: str = 'auto'

    def make_options(self, settings: Settings, *, video: bool) -> PictureOptions | VideoOptions:
        """Return the options of the library's entry for the kind of file.

        Raises:
            UsageError: the format is of the other kind.
        """
        upsampler = replace(settings.upsampler, model_name=self.model or DEFAULT_MODELS[video],
                            denoise_strength=self.denoise)
        allowed = VIDEO_FORMATS if video else PICTURE_FORMATS
        if self.format not in allowed:
            raise UsageError(f'format is {self.format}; of a {"video" if video else "picture"} it is one of '
                             f'{", ".join(allowed)}')
        faces = FaceOptions() if self.face else None
        if video:
            return VideoOptions(upsampler, faces, outscale=self.scale, extension=self.format,
                                max_pixels=settings.max_pixels)
        return PictureOptions(upsampler, faces, outscale=self.scale, extension=self.format,
                              max_pixels=settings.max_pixels)


def read_wish(fields: Mapping[str, str]) -> Wish:
    """Read the fields of a form.

    Raises:
        UsageError: one is not allowed; the message names it and what is.
    """
    unknown = set(fields) - {'model', 'scale', 'denoise', 'face', 'format', 'token'}
    if unknown:
        raise UsageError(f'unknown field {min(unknown)!r}; known are image, model, scale, denoise, face and format')
    model = fields.get('model') or None
    if model is not None and model not in MODELS:
        raise UsageError(f'unknown model {model[:80]!r}; known are {", ".join(MODELS)}')
    face = fields.get('face', '').lower()
    if face not in (*_YES, *_NO):
        raise UsageError(f'face is {face[:80]!r}; allowed are 1 and 0')
    result = fields.get('format', '').lower() or 'auto'
    if result not in (*PICTURE_FORMATS, *VIDEO_FORMATS):
        raise UsageError(f'unknown format {result[:80]!r}; known are '
                         f'{", ".join(dict.fromkeys((*PICTURE_FORMATS, *VIDEO_FORMATS)))}')
    return Wish(model, _read_number(fields, 'scale', 0.1, MOST_SCALE), _read_number(fields, 'denoise', 0, 1),
                face in _YES, result)


def _read_number(fields: Mapping[str, str], name: str, low: float, high: float) -> float | None:
    text = fields.get(name, '')
    if not text:
        return None
    if not re.fullmatch(r'\d{1,4}(\.\d{1,6})?', text) or not low <= float(text) <= high:
        raise UsageError(f'{name} is {text[:80]!r}; allowed is {low:g} to {high:g}')
    return float(text)


def clean_name(name: str | None) -> str:
    """Return what a download is called: the name of the upload without its extension and all that a path could hold."""
    stem = re.split(r'[/\\]', name or '')[-1].rpartition('.')[0] or re.split(r'[/\\]', name or '')[-1]
    return re.sub(r'[^\w.() -]+', '_', stem).strip('. _')[:80] or 'picture'
