"""How much room on the disk a video needs, and whether it is there."""
from __future__ import annotations

from pathlib import Path

from ..errors import DiskFullError
from ..ffmpeg.encoder import Encoding
from ..files import format_size, measure_free_disk

#: What is left to others; below it a run stops while everything can still be closed in order.
RESERVE_BYTES = 64 << 20
# Bits for a pixel as libx264 makes of films at its default crf of 23; six steps of crf double them.
_USUAL_BITS, _USUAL_CRF, _CRF_TO_DOUBLE = 0.1, 23, 6
_MOST_BITS = 8.0
_LARGE_CODECS = ('ffv1', 'huffyuv', 'ffvhuff', 'utvideo', 'prores', 'dnxhd', 'rawvideo', 'png', 'magicyuv', 'cfhd')


def estimate_result_size(encoding: Encoding, frames: int) -> int:
    """Estimate the size of a video; films differ by more than a factor of two either way."""
    bits = _USUAL_BITS
    if encoding.crf is not None:
        bits *= 2 ** ((_USUAL_CRF - encoding.crf) / _CRF_TO_DOUBLE)
    if any(name in encoding.codec for name in _LARGE_CODECS):
        bits = _MOST_BITS
    return int(encoding.width * encoding.height * frames * min(bits, _MOST_BITS) / 8)


def estimate_extracted_size(width: int, height: int, frames: int, *, deep: bool) -> int:
    """Estimate the size of frames as png files: half of their pixels."""
    return width * height * 3 * (1 + deep) * frames // 2


def check_room(folder: Path, needed: int = 0, purpose: str = '') -> None:
    """Check that `needed` bytes can be written and the reserve stays.

    Args:
        folder: Where they go.
        needed: How many; of the next frames no more than the reserve holds.
        purpose: What they are for; '' for the next frames.

    Raises:
        DiskFullError: they can't.
    """
    free = measure_free_disk(folder)
    if free < needed + RESERVE_BYTES:
        purpose = purpose or f'the next frames ({format_size(RESERVE_BYTES)} stay free)'
        raise DiskFullError(f'{folder}: the disk has {format_size(free)} left, too little for {purpose}. Make room and '
                            'run the same command again: it resumes from the finished parts')
