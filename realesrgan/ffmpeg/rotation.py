"""Videos that are turned when they are shown, such as those of telephones.

ffmpeg would turn them itself, but by filters that begin anew where the size of the frames changes half-way.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Filters by clockwise quarter turns, with their arguments; those that ffmpeg itself takes.
FILTERS: Mapping[int, tuple[tuple[str, ...], ...]] = {
    0: (), 1: (('transpose', 'clock'),), 2: (('hflip',), ('vflip',)), 3: (('transpose', 'cclock'),)}


def parse_turns(stream: Mapping[str, Any]) -> int | None:
    """Return the clockwise quarter turns of a stream's display matrix, or of the tag that older versions write.

    Args:
        stream: As ffprobe describes it.

    Returns:
        0 to 3; None if it is mirrored, or turned by another angle.
    """
    for side_data in stream.get('side_data_list', []):
        if 'rotation' in side_data:
            mirrored = _is_mirrored(str(side_data.get('displaymatrix', '')))
            return None if mirrored else _count_quarters(-float(side_data['rotation']))
    return _count_quarters(float(stream.get('tags', {}).get('rotate', 0)))


def _count_quarters(degrees: float) -> int | None:
    return None if round(degrees) % 90 else round(degrees) // 90 % 4


def _is_mirrored(matrix: str) -> bool:
    """Tell by the determinant of the first two rows and columns of a matrix, as ffprobe prints it."""
    rows = [[int(number) for number in re.findall(r'-?\d+', line.partition(':')[2])]
            for line in matrix.splitlines() if ':' in line]
    if len(rows) < 2 or min(map(len, rows[:2])) < 2:
        return False
    (a, b, *_), (c, d, *_) = rows[:2]
    return a * d - b * c < 0
