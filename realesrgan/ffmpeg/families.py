"""The families of codecs of graphics cards, one row each: how ffmpeg starts them, and what --crf and --preset become.

Adding a row also adds a choice to --hwaccel.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .colour import parse_pixel_format

#: libx264's presets, from fast to slow. Each row has its own word for each.
PRESETS = ('ultrafast', 'superfast', 'veryfast', 'faster', 'fast', 'medium', 'slow', 'slower', 'veryslow', 'placebo')
#: The codecs whose decoders all give the same frames, as their standards demand. Those of others, such as MPEG-2, each
#: round in their own way.
EXACT_CODECS = ('h264', 'hevc', 'vp8', 'vp9', 'av1')
#: The pixel formats that cards decode to, and that ffmpeg copies from them without loss.
DECODED_FORMATS = ('yuv420p', 'yuv420p10le')
_CRF_OF_THE_LONG = 63  # the highest --crf that libaom and libvpx take
_LONG_SCALES = {'av1': 255, 'vp9': 255, 'vp8': 127}  # their highest quantizers


@dataclass(frozen=True)
class Family:
    """Encoders and decoders that share a driver. Names are ffmpeg's.

    Attributes:
        hwaccel: Choice of --hwaccel that decodes with it, and its kind of device; '' if it only encodes.
        ending: The names of its encoders end so.
        decoders: The names of its decoders end so, if they aren't ffmpeg's own that hand the work on.
        uploads: Whether frames must be uploaded to its device before they are encoded.
        quality: Returns the options for a codec and a --crf; None if the encoders only take a bit rate.
        best, worst: The lowest and the highest --crf it takes.
        is_quantizer: Whether the number counts on the codec's own scale, which for some is longer than libx264's.
        preset_option: The option that takes presets; '' if it has none.
        presets: Its words for `PRESETS`.
    """

    hwaccel: str
    ending: str
    decoders: str = ''
    uploads: bool = False
    quality: Callable[[str, float], dict[str, str]] | None = None
    best: float = 0
    worst: float = 51
    is_quantizer: bool = False
    preset_option: str = ''
    presets: tuple[str, ...] = ()

    def build_options(self, encoder: str, crf: float | None, preset: str | None) -> dict[str, str]:
        """Return ffmpeg's options for a --crf and a --preset, as far as the encoder has such; see `list_unused`."""
        options: dict[str, str] = {}
        if crf is not None and self._takes_crf(encoder):
            assert self.quality is not None
            codec = encoder.removesuffix(self.ending)
            if self.is_quantizer and codec in _LONG_SCALES:
                crf *= _LONG_SCALES[codec] / _CRF_OF_THE_LONG
            options |= self.quality(codec, crf)
        if preset is not None and self.preset_option:
            own = dict(zip(PRESETS, self.presets, strict=True))
            options[self.preset_option] = own.get(preset, preset)
        return options

    def list_unused(self, encoder: str, crf: float | None, preset: str | None) -> list[str]:
        """Return the names of the options that are given and that the encoder has nothing for."""
        return ['crf'] * (crf is not None and not self._takes_crf(encoder)) + (
            ['preset'] * (preset is not None and not self.preset_option))

    def get_crf_range(self, encoder: str) -> tuple[float, float]:
        """Return the lowest and the highest --crf that an encoder takes."""
        is_long = self.is_quantizer and encoder.removesuffix(self.ending) in _LONG_SCALES
        return self.best, _CRF_OF_THE_LONG if is_long else self.worst

    def select_formats(self, encoder: str, listed: tuple[str, ...]) -> tuple[str, ...]:
        """Return the pixel formats that frames may be encoded from: Y'CbCr, and 8 bits for H.264.

        ffmpeg lists those of all cards for all codecs, and RGB, which becomes 4:2:0 without the tags that say how.
        """
        formats = ('nv12', 'p010le') if self.uploads else tuple(
            name for name in listed if name.startswith(('yuv4', 'nv', 'p0')))
        if encoder.startswith('h264'):
            formats = tuple(name for name in formats if parse_pixel_format(name).bits == 8)
        return formats

    def _takes_crf(self, encoder: str) -> bool:
        return self.quality is not None and encoder.removesuffix(self.ending) in EXACT_CODECS


# ---- what --crf becomes ----

def _set_nvenc_quality(_codec: str, crf: float) -> dict[str, str]:
    return {'rc': 'vbr', 'cq': f'{crf:g}', 'b:v': '0'}  # otherwise the bit rate is 2 Mbit/s, and cq only bounds it


def _set_global_quality(_codec: str, crf: float) -> dict[str, str]:
    return {'global_quality': str(round(crf))}


def _set_amf_quality(codec: str, crf: float) -> dict[str, str]:
    frames = ('qp_i', 'qp_p', 'qp_b') if codec == 'h264' else ('qp_i', 'qp_p')
    return {'rc': 'cqp', **dict.fromkeys(frames, str(round(crf)))}


def _convert_to_percent(crf: float) -> str:
    return str(max(round(100 - crf * 100 / 51), 1))


def _set_videotoolbox_quality(_codec: str, crf: float) -> dict[str, str]:
    return {'q:v': _convert_to_percent(crf)}


def _set_mf_quality(_codec: str, crf: float) -> dict[str, str]:
    return {'rate_control': 'quality', 'quality': _convert_to_percent(crf)}


#: In the order in which --hwaccel auto tries them.
FAMILIES = (
    Family('cuda', '_nvenc', quality=_set_nvenc_quality, best=1,  # 0 stands for the encoder's own choice
           preset_option='preset', presets=('p1', 'p1', 'p2', 'p3', 'p3', 'p4', 'p5', 'p6', 'p7', 'p7')),
    Family('videotoolbox', '_videotoolbox', quality=_set_videotoolbox_quality),
    Family('qsv', '_qsv', decoders='_qsv', quality=_set_global_quality, best=1, preset_option='preset',
           presets=('veryfast', 'veryfast', 'veryfast', 'faster', 'fast', 'medium', 'slow', 'slower', 'veryslow',
                    'veryslow')),
    Family('vaapi', '_vaapi', uploads=True, quality=_set_global_quality, best=1, is_quantizer=True,
           preset_option='compression_level', presets=('7', '7', '6', '6', '5', '4', '3', '2', '1', '1')),
    Family('d3d11va', '_amf', quality=_set_amf_quality, is_quantizer=True, preset_option='quality',
           presets=(*['speed'] * 5, 'balanced', *['quality'] * 4)),
    Family('', '_mf', quality=_set_mf_quality),
    Family('', '_v4l2m2m'),
)


def list_hwaccel_choices() -> tuple[str, ...]:
    """Return the choices of --hwaccel."""
    return ('auto', 'none', *(family.hwaccel for family in FAMILIES if family.hwaccel))


def find_family(encoder: str) -> Family | None:
    """Return the family of an encoder; None of one that runs on the CPU."""
    return next((family for family in FAMILIES if encoder.endswith(family.ending)), None)
