"""Colour tags and pixel formats: what they mean to ffmpeg's scale filter, and which ones a result gets."""
from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

logger = logging.getLogger(__name__)

_HD_LINES = 720
_PAL_LINES = 576
_UNKNOWN = ('', 'unknown', 'unspecified', 'reserved', 'gbr')
#: What the scale filter calls a matrix; for one that it does not know, the same stand-in serves both ways.
_SCALE_MATRICES = {
    'bt709': 'bt709', 'fcc': 'fcc', 'smpte170m': 'smpte170m', 'bt470bg': 'bt470', 'smpte240m': 'smpte240m',
    'bt2020nc': 'bt2020', 'bt2020c': 'bt2020'}
_SCALE_FLAGS = 'flags=bicubic+accurate_rnd+full_chroma_int'


@dataclass(frozen=True)
class Colour:
    """How the numbers of a picture mean colours, in ffprobe's words.

    Attributes:
        range: 'tv' (limited) or 'pc' (full).
        matrix: Between Y'CbCr and RGB.
        primaries: Of RGB.
        transfer: The curve.
    """

    range: str
    matrix: str
    primaries: str
    transfer: str

    def from_yuv(self) -> str:
        """Return the scale filter's arguments for decoding to RGB."""
        return (f'in_color_matrix={_SCALE_MATRICES.get(self.matrix, "bt709")}:in_range={self.range}:out_range=pc:'
                + _SCALE_FLAGS)

    def to_yuv(self) -> str:
        """Return the scale filter's arguments for encoding RGB."""
        return (f'in_range=pc:out_color_matrix={_SCALE_MATRICES.get(self.matrix, "bt709")}:out_range={self.range}:'
                + _SCALE_FLAGS)

    def for_rgb(self) -> Colour:
        """Return the tags of the same colours stored as RGB."""
        return Colour('pc', 'gbr', self.primaries, self.transfer)

    def tag_filter(self) -> str:
        """Return the filter that writes the tags onto frames."""
        return (f'setparams=range={self.range}:colorspace={self.matrix}:color_primaries={self.primaries}:'
                f'color_trc={self.transfer}')

    def tag_options(self) -> list[str]:
        """Return the encoder's options that write the tags into the stream."""
        matrix = 'rgb' if self.matrix == 'gbr' else self.matrix  # as this option calls it
        return ['-color_range', self.range, '-colorspace', matrix, '-color_primaries', self.primaries,
                '-color_trc', self.transfer]


def colour_of(height: int, tags: dict[str, str], pixel_format: str = '') -> Colour:
    """Return a video's colour: its tags, and where some are missing what players assume.

    Untagged video is BT.601 below 720 lines and BT.709 from there on. A lone tag speaks for the others of its standard.

    Args:
        height: Lines of the coded picture.
        tags: Any of 'color_range', 'color_space', 'color_primaries', 'color_transfer', as ffprobe has them.
        pixel_format: yuvj... means full range.
    """
    matrix, primaries, transfer = (
        '' if tags.get(name, '') in _UNKNOWN else tags[name]
        for name in ('color_space', 'color_primaries', 'color_transfer'))
    full = tags.get('color_range') == 'pc' or 'yuvj' in pixel_format or is_rgb(pixel_format)
    guess = _guessed(height, matrix, primaries)
    if matrix and matrix not in _SCALE_MATRICES:
        logger.warning('the colour matrix %s is not known to ffmpeg\'s scale filter; BT.709 is used both ways', matrix)
    return Colour('pc' if full else 'tv', matrix or guess[0], primaries or guess[1], transfer or guess[2])


def _guessed(height: int, matrix: str, primaries: str) -> tuple[str, str, str]:
    """Return matrix, primaries and transfer by what is known, else by the size."""
    standards = {
        'bt709': ('bt709', 'bt709', 'bt709'), 'smpte170m': ('smpte170m', 'smpte170m', 'smpte170m'),
        'bt470bg': ('bt470bg', 'bt470bg', 'bt709'), 'bt2020': ('bt2020nc', 'bt2020', 'bt2020-10')}
    known = (matrix or primaries).removesuffix('nc').removesuffix('c')
    if known in standards:
        return standards[known]
    return standards['bt709' if height >= _HD_LINES else 'bt470bg' if height == _PAL_LINES else 'smpte170m']


# ---- pixel formats ----

@dataclass(frozen=True)
class PixelFormat:
    """What counts of a pixel format: its chroma ('420', '422', '444', 'gray') and bits a value."""

    chroma: str
    bits: int

    @property
    def name(self) -> str:
        """The planar format of ffmpeg, as '420' of 10 bits is yuv420p10le."""
        depth = '' if self.bits == 8 else f'{self.bits}le'
        return f'gray{depth}' if self.chroma == 'gray' else f'yuv{self.chroma}p{depth}'


_SEMI_PLANAR = {'nv12': PixelFormat('420', 8), 'nv21': PixelFormat('420', 8), 'nv16': PixelFormat('422', 8),
                'nv20': PixelFormat('422', 10), 'nv24': PixelFormat('444', 8), 'nv42': PixelFormat('444', 8)}


def parse_pixel_format(name: str) -> PixelFormat:
    """Read a pixel format's name; RGB counts as 4:4:4, rare chroma as the next finer, unknown ones as 8-bit 4:2:0."""
    if found := re.match(r'gray(\d+)?', name):
        return PixelFormat('gray', int(found[1] or 8))
    if found := re.match(r'yuva?j?(4\d\d)p(\d+)?', name):
        return PixelFormat({'410': '420', '411': '422', '440': '444'}.get(found[1], found[1]), int(found[2] or 8))
    if name[:4] in _SEMI_PLANAR:
        return _SEMI_PLANAR[name[:4]]
    if found := re.match(r'p([024])(\d\d)', name):  # p010, p210, p416
        return PixelFormat({'0': '420', '2': '422', '4': '444'}[found[1]], int(found[2]))
    if found := re.match(r'gbra?p(\d+)?', name):
        return PixelFormat('444', int(found[1] or 8))
    if found := re.match(r'(?:rgb|bgr)a?(48|64)|(?:x2rgb|x2bgr)10', name):
        return PixelFormat('444', 16 if found[1] else 10)
    if is_rgb(name):
        return PixelFormat('444', 8)
    if found := re.match(r'(?:yuyv|uyvy|yvyu)422|y2(\d\d)', name):
        return PixelFormat('422', int(found[1] or 8))
    return PixelFormat('420', 8)


def is_rgb(name: str) -> bool:
    """Tell whether a pixel format holds RGB rather than Y'CbCr or gray."""
    return re.match(r'(x2)?(gbr|rgb|bgr|argb|abgr|0rgb|0bgr|pal8)', name) is not None


def choose_pixel_format(wanted: PixelFormat, supported: Sequence[str]) -> str:
    """Return the encoder's format for what is wanted: the same chroma and depth, else fewer bits, else 4:2:0.

    Args:
        wanted: Of the input.
        supported: What the encoder takes; empty where it does not say.
    """
    if not supported or wanted.name in supported:
        return wanted.name
    for chroma in dict.fromkeys((wanted.chroma, '420')):
        depths = [parsed.bits for parsed in map(parse_pixel_format, supported)
                  if parsed.name in supported and parsed.chroma == chroma]
        fitting = [bits for bits in depths if bits <= wanted.bits] or depths
        if fitting:
            return PixelFormat(chroma, max(fitting)).name
    return 'yuv420p' if 'yuv420p' in supported else supported[0]


def step(pixel_format: str) -> tuple[int, int]:
    """Return the multiples that width and height must have."""
    if is_rgb(pixel_format):
        return 1, 1
    return {'420': (2, 2), '422': (2, 1)}.get(parse_pixel_format(pixel_format).chroma, (1, 1))
