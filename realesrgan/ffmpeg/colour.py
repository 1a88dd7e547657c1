"""Colour tags, pixel formats and HDR metadata: what they mean to ffmpeg, and which ones a result gets."""
from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

logger = logging.getLogger(__name__)

_UNKNOWN = ('', 'unknown', 'unspecified', 'reserved', 'gbr')
#: The scale filter's names of the matrices. One that it does not know is replaced by the same matrix both ways.
_SCALE_MATRICES = {
    'bt709': 'bt709', 'fcc': 'fcc', 'smpte170m': 'smpte170m', 'bt470bg': 'bt470', 'smpte240m': 'smpte240m',
    'bt2020nc': 'bt2020', 'bt2020c': 'bt2020'}
_SCALE_FLAGS = 'bicubic+accurate_rnd+full_chroma_int'
_YUV_FLAGS = f'{_SCALE_FLAGS}+full_chroma_inp'  # without it, pairs of pixels are averaged before chroma is placed
#: How far the first chroma sample of 4:2:0 lies from the first of luma, to the right and down, in 256ths of a pixel.
_CHROMA_POSITIONS = {'left': (0, 128), 'center': (128, 128), 'topleft': (0, 0), 'top': (128, 0), 'bottomleft': (0, 256),
                     'bottom': (128, 256)}
_STANDARDS = {  # matrix, primaries, transfer
    'bt709': ('bt709', 'bt709', 'bt709'), 'smpte170m': ('smpte170m', 'smpte170m', 'smpte170m'),
    'bt470bg': ('bt470bg', 'bt470bg', 'bt709'), 'bt2020': ('bt2020nc', 'bt2020', 'bt2020-10')}


@dataclass(frozen=True)
class Colour:
    """The meaning of a picture's numbers, in ffprobe's words.

    Attributes:
        range: 'tv' (limited) or 'pc' (full).
        matrix: Matrix between Y'CbCr and RGB.
        primaries: Primaries of RGB.
        transfer: Transfer characteristics.
        chroma_location: Where the samples of chroma lie that several pixels share, a key of `_CHROMA_POSITIONS`.
    """

    range: str
    matrix: str
    primaries: str
    transfer: str
    chroma_location: str = 'left'

    def build_rgb_scale(self, pixel_format: str) -> dict[str, str | int]:
        """Return the options of the scale filter that decode a pixel format to full-range RGB."""
        return {'in_color_matrix': _SCALE_MATRICES.get(self.matrix, 'bt709'), 'in_range': self.range, 'out_range': 'pc',
                'flags': _SCALE_FLAGS, **self._place_chroma('in', pixel_format)}

    def build_yuv_scale(self, pixel_format: str) -> dict[str, str | int]:
        """Return the options of the scale filter that encode full-range RGB to a pixel format."""
        return {'in_range': 'pc', 'out_color_matrix': _SCALE_MATRICES.get(self.matrix, 'bt709'),
                'out_range': self.range, 'flags': _YUV_FLAGS, **self._place_chroma('out', pixel_format)}

    def _place_chroma(self, side: str, pixel_format: str) -> dict[str, int]:
        """Return the options that place chroma; the filter's defaults are right where it is not shared, or by lines."""
        if pixel_format.startswith('yuv410'):  # no standard says where
            return {}
        positions = zip(('h', 'v'), _CHROMA_POSITIONS[self.chroma_location], strict=True)
        shared = {'420': 'hv', '422': 'h'}.get(parse_pixel_format(pixel_format).chroma, '')
        return {f'{side}_{axis}_chr_pos': position for axis, position in positions if axis in shared}

    def build_stream_tags(self, pixel_format: str) -> dict[str, str]:
        """Return the output options that tag a stream of a pixel format."""
        matrix = 'rgb' if self.matrix == 'gbr' else self.matrix  # this option's name for it
        tags = {'color_range': self.range, 'colorspace': matrix, 'color_primaries': self.primaries,
                'color_trc': self.transfer}
        if parse_pixel_format(pixel_format).chroma == '420':
            tags['chroma_sample_location'] = self.chroma_location
        return tags


def infer_colour(height: int, tags: dict[str, str], pixel_format: str = '') -> Colour:
    """Return a video's colour: its tags, completed with what players assume.

    A single tag implies the others of its standard. Untagged video is BT.709 from 720 lines on; below that it is
    BT.601, in the PAL variant at 576 lines. Chroma lies on the left as in MPEG-2 and later, in JPEG's in the middle.

    Args:
        height: Lines of the coded picture.
        tags: Any of 'color_range', 'color_space', 'color_primaries', 'color_transfer' and 'chroma_location', as ffprobe
            reports them.
        pixel_format: ffmpeg's name; yuvj... and RGB mean full range.
    """
    matrix, primaries, transfer = (
        '' if tags.get(name, '') in _UNKNOWN else tags[name]
        for name in ('color_space', 'color_primaries', 'color_transfer'))
    full = tags.get('color_range') == 'pc' or 'yuvj' in pixel_format or is_rgb(pixel_format)
    known = (matrix or primaries).removesuffix('nc').removesuffix('c')
    guess = _STANDARDS.get(known) or _STANDARDS[
        'bt709' if height >= 720 else 'bt470bg' if height == 576 else 'smpte170m']
    if matrix and matrix not in _SCALE_MATRICES:
        logger.warning('ffmpeg\'s scale filter does not know the colour matrix %s; BT.709 is used both ways', matrix)
    location = tags.get('chroma_location', '')
    if location not in _CHROMA_POSITIONS:
        location = 'center' if 'yuvj' in pixel_format else 'left'
    return Colour('pc' if full else 'tv', matrix or guess[0], primaries or guess[1], transfer or guess[2], location)


# ---- pixel formats ----

@dataclass(frozen=True)
class PixelFormat:
    """The chroma of a pixel format ('420', '422', '444' or 'gray') and its bits per value."""

    chroma: str
    bits: int

    @property
    def name(self) -> str:
        """ffmpeg's name of the planar format, such as yuv420p10le for '420' with 10 bits."""
        depth = '' if self.bits == 8 else f'{self.bits}le'
        return f'gray{depth}' if self.chroma == 'gray' else f'yuv{self.chroma}p{depth}'


_SEMI_PLANAR = {'nv12': PixelFormat('420', 8), 'nv21': PixelFormat('420', 8), 'nv16': PixelFormat('422', 8),
                'nv20': PixelFormat('422', 10), 'nv24': PixelFormat('444', 8), 'nv42': PixelFormat('444', 8)}


def parse_pixel_format(name: str) -> PixelFormat:
    """Parse ffmpeg's name of a pixel format.

    RGB counts as 4:4:4, rare chroma formats count as the next finer one, and unknown names as 8-bit 4:2:0.
    """
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
    """Return whether a pixel format holds RGB rather than Y'CbCr or gray."""
    return re.match(r'(x2)?(gbr|rgb|bgr|argb|abgr|0rgb|0bgr|pal8)', name) is not None


def is_deep(name: str) -> bool:
    """Return whether a pixel format has more than 8 bits per value; such frames are decoded to uint16."""
    return parse_pixel_format(name).bits > 8


def has_alpha(name: str, codec: str = '') -> bool:
    """Return whether a pixel format holds transparency; the palettes of ffmpeg's pal8 do so in PNG only."""
    return re.match('yuva|gbrap|rgba|bgra|argb|abgr', name) is not None or (
        name == 'pal8' and codec in ('png', 'apng'))


def choose_alpha_format(source: str, supported: Sequence[str]) -> str | None:
    """Return the encoder's format with transparency nearest to the source's; None if it has none.

    Chroma counts first, then that no bits are lost or wasted, then whether it is RGB.
    """
    wanted = parse_pixel_format(source)

    def measure_distance(name: str) -> tuple[bool, bool, int, bool]:
        given = parse_pixel_format(name)
        return (given.chroma != wanted.chroma, given.bits < wanted.bits, abs(given.bits - wanted.bits),
                is_rgb(name) != is_rgb(source))
    return min(filter(has_alpha, supported), key=measure_distance, default=None)


def choose_pixel_format(wanted: PixelFormat, supported: Sequence[str]) -> str:
    """Return the encoder's format nearest to the one wanted: the same chroma and depth, else fewer bits, else 4:2:0.

    `supported` is empty if it is not known what the encoder takes.
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


def name_raw_format(*, deep: bool, alpha: bool) -> str:
    """Return ffmpeg's name of the format of frames in memory: BGR or BGRA of 8 or 16 bits."""
    return {(False, False): 'bgr24', (False, True): 'bgra', (True, False): 'bgr48le', (True, True): 'bgra64le'}[
        deep, alpha]


def find_size_multiples(pixel_format: str) -> tuple[int, int]:
    """Return the numbers that width and height must be multiples of."""
    if is_rgb(pixel_format):
        return 1, 1
    return {'420': (2, 2), '422': (2, 1)}.get(parse_pixel_format(pixel_format).chroma, (1, 1))


# ---- HDR ----

_DISPLAY, _LIGHT = 'Mastering display metadata', 'Content light level metadata'
_DISPLAY_VALUES = ('green_x', 'green_y', 'blue_x', 'blue_y', 'red_x', 'red_y', 'white_point_x', 'white_point_y',
                   'max_luminance', 'min_luminance')
_NOTATION = 'G({},{})B({},{})R({},{})WP({},{})L({},{})'
#: The option of each encoder that takes HDR metadata, and its names there for the display and for the light levels.
HDR_ENCODERS: Mapping[str, tuple[str, str, str]] = {
    'libx264': ('x264-params', 'mastering-display', 'cll'), 'libx265': ('x265-params', 'master-display', 'max-cll'),
    'libsvtav1': ('svtav1-params', 'mastering-display', 'content-light')}


@dataclass(frozen=True)
class HdrMetadata:
    """Static metadata of HDR10: what display a video was graded on, and how bright it gets.

    Attributes:
        display: x and y of its green, blue, red and white (CIE 1931), its highest and its lowest luminance (cd/m2);
            empty if they are not known.
        light: The content's highest light level and highest frame average (MaxCLL, MaxFALL), cd/m2; empty likewise.
    """

    display: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()

    @classmethod
    def parse(cls, side_data: list[dict[str, Any]]) -> Self | None:
        """Read it off ffprobe's list of side data; None if it is not there or not whole."""
        by_type = {str(entry.get('side_data_type')): entry for entry in side_data}
        display: tuple[Fraction, ...] = ()
        light: tuple[int, ...] = ()
        with contextlib.suppress(KeyError, ValueError, ArithmeticError, TypeError):
            *points, most, least = values = tuple(Fraction(by_type[_DISPLAY][name]) for name in _DISPLAY_VALUES)
            if all(0 <= value <= 1 for value in points) and 0 <= least < most <= 10000:
                display = values
        with contextlib.suppress(KeyError, ValueError, TypeError):
            levels = int(by_type[_LIGHT]['max_content']), int(by_type[_LIGHT]['max_average'])
            if all(0 <= level < 1 << 16 for level in levels):
                light = levels
        return cls(display, light) if display or light else None

    def build_options(self, codec: str) -> dict[str, str]:
        """Return ffmpeg's options that hand the metadata to an encoder; none if it does not take it."""
        if codec not in HDR_ENCODERS:
            return {}
        option, display, light = HDR_ENCODERS[codec]
        values = []
        if self.display:
            if codec == 'libsvtav1':
                numbers = [f'{float(value):.6g}' for value in self.display]
            else:  # as HEVC's SEI message counts: in steps of 0.00002, and of 0.0001 cd/m2
                numbers = [str(round(value * (50000 if index < 8 else 10000)))
                           for index, value in enumerate(self.display)]
            values.append(f'{display}={_NOTATION.format(*numbers)}')
        if self.light:
            values.append(f'{light}={",".join(map(str, self.light))}')
        return {option: ':'.join(values)}
