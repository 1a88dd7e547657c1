"""HDR metadata: what display a video was graded on, and how bright it gets."""
from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from ..errors import MediaError
from .probe import MediaInfo
from .process import Check, build_source_argument, run
from .programs import FFmpeg

_HDR_TRANSFERS = ('smpte2084', 'arib-std-b67')
_DISPLAY, _LIGHT = 'Mastering display metadata', 'Content light level metadata'
_POINTS = {'G': 'green', 'B': 'blue', 'R': 'red', 'WP': 'white_point'}


@dataclass(frozen=True)
class HdrMetadata:
    """Static metadata of HDR10, as ffprobe tells it.

    Attributes:
        points: x and y of each of `_POINTS`' primaries and the white point, CIE 1931; empty if they are not known.
        luminance: The display's highest and lowest, cd/m2; empty likewise.
        light: The content's highest light level and highest frame average (MaxCLL, MaxFALL), cd/m2; empty likewise.
    """

    points: tuple[tuple[str, Fraction, Fraction], ...] = ()
    luminance: tuple[Fraction, ...] = ()
    light: tuple[int, ...] = ()

    @classmethod
    def parse(cls, side_data: list[dict[str, Any]]) -> Self | None:
        """Read it off a list of ffprobe's; None if it is not there or not whole."""
        by_type = {str(entry.get('side_data_type')): entry for entry in side_data}
        display, light = by_type.get(_DISPLAY, {}), by_type.get(_LIGHT, {})
        points: tuple[tuple[str, Fraction, Fraction], ...] = ()
        luminance: tuple[Fraction, ...] = ()
        levels: tuple[int, ...] = ()
        with contextlib.suppress(KeyError, ValueError, ArithmeticError, TypeError):
            found = tuple((short, Fraction(display[f'{name}_x']), Fraction(display[f'{name}_y']))
                          for short, name in _POINTS.items())
            limits = Fraction(display['max_luminance']), Fraction(display['min_luminance'])
            if all(0 <= value <= 1 for _, *point in found for value in point) and 0 <= limits[1] < limits[0] <= 10000:
                points, luminance = found, limits
        with contextlib.suppress(KeyError, ValueError, TypeError):
            found_levels = int(light['max_content']), int(light['max_average'])
            if all(0 <= level < 1 << 16 for level in found_levels):
                levels = found_levels
        return cls(points, luminance, levels) if points or levels else None

    def _describe_display(self, point_unit: Fraction, light_unit: Fraction, number: Callable[[Fraction], str]) -> str:
        """Return the display in the notation that encoders share, with numbers in units of theirs."""
        points = ''.join(f'{name}({number(x / point_unit)},{number(y / point_unit)})' for name, x, y in self.points)
        return points + 'L({},{})'.format(*(number(value / light_unit) for value in self.luminance))

    def describe_in_integers(self) -> str:
        """Return the display as HEVC's SEI message counts: in steps of 0.00002, and of 0.0001 cd/m2."""
        return self._describe_display(Fraction(1, 50000), Fraction(1, 10000), lambda value: str(round(value)))

    def describe_in_decimals(self) -> str:
        """Return the display in plain numbers."""
        return self._describe_display(Fraction(1), Fraction(1), lambda value: f'{float(value):.6g}')


# The option of each encoder that takes it, and its names there for the display and for the light levels.
_ENCODERS: Mapping[str, tuple[str, str, str, Callable[[HdrMetadata], str]]] = {
    'libx264': ('x264-params', 'mastering-display', 'cll', HdrMetadata.describe_in_integers),
    'libx265': ('x265-params', 'master-display', 'max-cll', HdrMetadata.describe_in_integers),
    'libsvtav1': ('svtav1-params', 'mastering-display', 'content-light', HdrMetadata.describe_in_decimals),
}


def list_hdr_encoders() -> list[str]:
    """Return the encoders that take the metadata."""
    return list(_ENCODERS)


def build_hdr_options(codec: str, hdr: HdrMetadata | None) -> dict[str, str]:
    """Return ffmpeg's options that hand the metadata to an encoder; none if it does not take it."""
    if hdr is None or codec not in _ENCODERS:
        return {}
    option, display, light, describe = _ENCODERS[codec]
    values = [f'{display}={describe(hdr)}'] if hdr.points else []
    values += [f'{light}={",".join(map(str, hdr.light))}'] if hdr.light else []
    return {option: ':'.join(values)}


def read_hdr(programs: FFmpeg, info: MediaInfo, check: Check | None = None) -> HdrMetadata | None:
    """Read the metadata off the first frame of an HDR video, or its container; None if there is none.

    None too of what can be read once only.

    Args:
        programs: ffmpeg and ffprobe.
        info: The input.
        check: Called at least every 0.2 s meanwhile. If it raises, ffprobe is killed.
    """
    if info.is_stream or info.video is None or info.video.colour.transfer not in _HDR_TRANSFERS:
        return None
    try:
        output, _ = run([programs.ffprobe, '-v', 'fatal', '-select_streams', str(info.video.index), '-read_intervals',
                         '%+#1', '-show_frames', '-show_entries', 'frame=side_data_list:stream=side_data_list',
                         '-of', 'json', build_source_argument(info.source)], check=check)
        told = json.loads(output.decode(errors='replace'))
    except (MediaError, ValueError):  # a damaged video, which the decoder will tell of
        return None
    entries = [*told.get('streams', []), *told.get('frames', [])]  # what frames say counts
    return HdrMetadata.parse([data for entry in entries for data in entry.get('side_data_list', [])])
