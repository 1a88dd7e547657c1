"""Measure what is not known of a network: how its tiles must be cut, and how much memory it takes."""
from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

import cv2
import numpy as np

from ..engines.engine import Engine
from ..errors import NonFiniteError

logger = logging.getLogger(__name__)

_HEIGHT, _WIDTH = 64, 256  # of the picture that a network is measured with
PROBED_PIXELS = _HEIGHT * _WIDTH
_STEP = 8  # of the distances that are tried
_FURTHEST = 96
_BLIND_REACH = 128  # of a network that sees further
_LARGEST_ERROR = 10 ** (-56 / 20)  # root mean square, of 0..1: 56 dB
# Multiples of the usual windows of attention: 8 and 16; 12 and 24; 7 and 14; 32, and 8 of what was halved three times.
_ALIGNMENTS = (16, 24, 28, 64)
_UNSEEN_MEMORY = 1.4  # what single operations take beside their results


@dataclass(frozen=True)
class Sight:
    """How tiles must be cut for a network.

    Attributes:
        reach: Input pixels around a tile that its result depends on, as far as that shows.
        alignment: What the first pixel of a tile's window must be a multiple of.
    """

    reach: int
    alignment: int


def measure_sight(engine: Engine, multiple: int) -> Sight:
    """Find out how far a network sees, and whether it divides pictures into windows.

    A picture is cut in two, at several places, from top to bottom and from side to side. Beyond the reach from a cut
    one half alone gives the same as in the whole picture, to 56 dB. A network for which no such place is found, because
    it sees further than 96 pixels, say, logs a warning, and counts as one that sees 128.

    Args:
        engine: Runs the network, in floating point and 0..1.
        multiple: What the sides of the input must be multiples of.
    """
    picture = _make_picture(multiple)[None]
    middle = picture.shape[2] // 2 // multiple * multiple
    alignments = [-(-alignment // multiple) * multiple for alignment in _ALIGNMENTS]
    blind = Sight(_BLIND_REACH, alignments[-1])

    def run_lying(batch: np.ndarray) -> np.ndarray:
        return engine(batch)[0]

    def run_standing(batch: np.ndarray) -> np.ndarray:
        return engine(batch.swapaxes(1, 2))[0].swapaxes(0, 1)

    try:
        wholes = [(run, run(picture)) for run in (run_lying, run_standing)]
        lefts = [(run(picture[:, :, :middle]), whole) for run, whole in wholes]
        reach = max(_find_reach((whole[:, :left.shape[1]] - left)[:, ::-1], engine.scale) for left, whole in lefts)
        for alignment in alignments:
            rights = [(run(picture[:, :, alignment:]), whole) for run, whole in wholes]
            further = max(reach, *(_find_reach(whole[:, -right.shape[1]:] - right, engine.scale)
                                   for right, whole in rights))
            if further <= _FURTHEST:
                return Sight(further, alignment)
    except NonFiniteError:  # in half precision
        return blind
    logger.warning('this network sees further than %d pixels, or divides pictures into windows of an unusual size, so '
                   'tiles may show; larger tiles show less', _FURTHEST)
    return blind


def measure_bytes_per_pixel(engine: Engine, multiple: int) -> int | None:
    """Return about how many bytes one pixel of input takes while the network runs; None if PyTorch does not run it.

    Args:
        engine: Runs the network.
        multiple: What the sides of the input must be multiples of.
    """
    from ..engines.torch_memory import PeakMemory
    picture = _make_picture(multiple)
    with contextlib.suppress(NonFiniteError), PeakMemory() as memory:
        engine(picture[None])
    return int(memory.peak / (picture.size // 3) * _UNSEEN_MEMORY) or None


def _find_reach(error: np.ndarray, scale: int) -> int:
    """Return the distance from a cut in input pixels beyond which there is no more than the largest error.

    Args:
        error: Of a part of a picture; the cut is on its left.
        scale: The network's.
    """
    columns = np.square(error).mean((0, 2)).reshape(-1, scale).mean(1)
    steps = columns[:len(columns) // _STEP * _STEP].reshape(-1, _STEP).mean(1)
    wrong = np.flatnonzero(np.sqrt(steps) > _LARGEST_ERROR)
    return _STEP * (int(wrong[-1]) + 1 if len(wrong) else 1)


def _make_picture(multiple: int) -> np.ndarray:
    """Return a picture with the statistics of a photo, coarse and fine structures and edges: HxWx3, float32, 0..1."""
    height, width = (-(-max(side, 4 * multiple) // multiple) * multiple for side in (_HEIGHT, _WIDTH))
    random = np.random.default_rng(0)
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(7):
        grid = random.standard_normal((max(height >> octave, 2), max(width >> octave, 2), 3), np.float32)
        picture += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 2 ** octave
    picture = 0.5 + 0.2 * picture / picture.std()
    rows, columns = np.indices((height, width))
    picture[(rows // 20 + columns // 28) % 3 == 0] *= 0.6
    return picture.clip(0, 1)
