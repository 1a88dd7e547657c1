"""Decide how pictures are cut into tiles: as the user asks, or as the memory allows.

The receptive field of a network, and the memory that it takes, are measured where its architecture does not say them.
"""
from __future__ import annotations

import contextlib
import logging
import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from ..archs.architecture import NetworkTraits
from ..engines.devices import Device
from ..engines.engine import Engine
from ..engines.memory import estimate_bytes_per_pixel, measure_usable_memory
from ..errors import NonFiniteError
from ..models import MODELS
from .tiles import Tile, cut_into_even_tiles, cut_into_tiles

logger = logging.getLogger(__name__)

_SMALLEST_TILE = 32

_HEIGHT, _WIDTH = 64, 256  # of the picture that a network is measured with
_STEP = 8  # of the distances that are tried
_LARGEST_FIELD = 96
_UNKNOWN_FIELD = 128  # is taken for a larger one
_LARGEST_ERROR = 10 ** (-56 / 20)  # root mean square, of 0..1: 56 dB
# Multiples of the usual windows of attention: 8 and 16; 12 and 24; 7 and 14; 32, and 8 of what was halved three times.
_ALIGNMENTS = (16, 24, 28, 64)
_UNCOUNTED_MEMORY = 1.4  # by which single operations take more than their results


@dataclass(frozen=True)
class TilePlan:
    """How a picture is cut.

    Attributes:
        tiles: The tiles, row by row.
        blend: Input pixels that neighbouring tiles extend into each other, cross-faded; 0 cuts hard.
        automatic: Whether memory decides on the tiles, not the user.
    """

    tiles: list[Tile]
    blend: int
    automatic: bool


class TilePlanner:
    """Plans the tiles of one picture after another, and remembers what memory turned out to allow.

    Args:
        traits: The network's. What they don't know is measured, once, when it is needed.
        engine: Runs the network.
        device: Where.
        multiple: What the sides of a tile's window must be multiples of.
        tile: Side of the tiles in input pixels, 0 for none but those that memory asks for.
        tile_pad: Input pixels that a tile sees around itself. With `tile` 0, or of a network whose receptive
            field had to be measured, it sees at least what the network needs.
        max_memory: Bytes that the network may take, on a CPU with its results; None is most of what is free.

    Attributes:
        tile, tile_pad: As above; they may be changed between pictures.
    """

    def __init__(self, traits: NetworkTraits, engine: Engine, device: Device, *, multiple: int = 1,
                 tile: int = 0, tile_pad: int = 10, max_memory: int | None = None) -> None:
        self.tile = tile
        self.tile_pad = tile_pad
        self._engine = engine
        self._device = device
        self._multiple = multiple
        self._max_memory = max_memory
        self._traits = traits
        self._smallest_tile = max(_SMALLEST_TILE, 4 * traits.blend)
        self._limit = 0  # side of the tiles, or of automatic windows, after memory ran out; 0: none
        self._fitting = (0, 0), 0  # the last picture's sides, and the side of the largest window that fits it

    def plan(self, height: int, width: int, room: int) -> TilePlan:
        """Cut a picture.

        Tiles that the user asked for are cut as Real-ESRGAN 0.3.0 cuts them. Those that memory asks for see all that
        they depend on, and are blended where that would be too much.

        Args:
            height: Of the picture, a multiple of `multiple`.
            width: Likewise.
            room: Bytes of the host's memory that its results will take.
        """
        if self.tile:
            side = min(self.tile, self._limit or self.tile)
            pad, multiple = self.tile_pad, self._multiple
            if max(height, width) > side and self._traits.receptive_field is None:
                pad, multiple = self._pad, self._alignment
            return TilePlan(cut_into_tiles(height, width, side, pad, multiple), 0, automatic=False)
        # What fitted once fits again, so a folder or a video of one size is measured, and logged, once.
        fitting = self._fitting  # another thread may set it
        if fitting[0] != (height, width):
            fitting = self._fitting = (height, width), self._find_largest_window(height, width, room)
        window = min(fitting[1], self._limit or fitting[1])
        if window >= max(height, width):
            return TilePlan(cut_into_tiles(height, width, 0, 0), 0, automatic=True)
        window = max(window, self._smallest_window)  # `tile_pad` may have grown since the last picture of this size
        tiles = cut_into_even_tiles(height, width, window, self._pad, self._alignment)
        return TilePlan(tiles, self._traits.blend, automatic=True)

    def shrink(self, plan: TilePlan, error: MemoryError) -> None:
        """Make the tiles of the next plan half as large, because memory ran out with those of `plan`.

        Raises:
            MemoryError: they are the smallest already; the message says what to do.
        """
        self._engine.release()
        # Of automatic tiles the window counts: it has the size that the network sees, and the same for each tile.
        first = plan.tiles[0]
        if plan.automatic:
            side = max(first.rows.padded_stop, first.columns.padded_stop)
            smallest, border = self._smallest_window, self._border
        else:
            side = max(first.rows.stop, first.columns.stop)
            smallest, border = _SMALLEST_TILE, 0
        if side <= smallest:
            raise MemoryError(
                f'not enough memory on {self._device} even for tiles of {max(side - border, 1)} pixels. Close other '
                f'programs, or use a smaller model such as {_find_smallest_model()}') from error
        if not self._limit:
            logger.warning('not enough memory on %s; trying smaller tiles (set them with -t)', self._device)
        self._limit = max(side // 2, smallest)

    @cached_property
    def _field(self) -> tuple[int, int]:
        """The receptive field, and what the first pixel of a tile's window must be a multiple of."""
        if self._traits.receptive_field is not None:
            return self._traits.receptive_field, self._multiple
        field, alignment = measure_receptive_field(self._engine, self._multiple)
        logger.info('receptive field: %d pixels', field)
        return field, alignment

    @property
    def _pad(self) -> int:
        """The pixels that an automatic tile sees around itself, at least."""
        return max(self.tile_pad, self._field[0])

    @property
    def _alignment(self) -> int:
        return self._field[1]

    @property
    def _border(self) -> int:
        """By how much the window of an automatic tile is longer than the tile; see `cut_axis_evenly`."""
        return 2 * (self._pad + self._alignment)

    @property
    def _smallest_window(self) -> int:
        """The side of the smallest window of an automatic tile, which must begin and end where windows may."""
        return -(-(self._smallest_tile + self._border) // self._alignment) * self._alignment

    @cached_property
    def _measured_bytes(self) -> int | None:
        return measure_bytes_per_pixel(self._engine, self._multiple)

    def _find_largest_window(self, height: int, width: int, room: int) -> int:
        """Return the side of the largest window that memory allows; the picture's longer side if all of it fits."""
        for_pixel = estimate_bytes_per_pixel(self._traits, self._engine.name, half=self._engine.half)
        if for_pixel is None and height * width > _HEIGHT * _WIDTH:  # or measuring would take as much
            for_pixel = self._measured_bytes
        if for_pixel is None:
            return max(height, width)
        allowed = self._max_memory or measure_usable_memory(self._device, room)
        if self._max_memory and self._device.type == 'cpu':
            allowed = max(allowed - room, 0)
        if height * width * for_pixel > allowed and not self._max_memory:
            # The engine keeps the memory of the last picture, which does not count as free. Ask again without it.
            self._engine.release()
            allowed = measure_usable_memory(self._device, room)
        if height * width * for_pixel <= allowed:
            return max(height, width)
        window = max(math.isqrt(allowed // for_pixel), self._smallest_window)
        logger.info('tiles of %d pixels: the whole picture would need about %.1f GiB, %.1f are %s',
                    window - self._border, height * width * for_pixel / 2 ** 30, allowed / 2 ** 30,
                    'allowed' if self._max_memory else 'free')
        return window


def _find_smallest_model() -> str:
    """Return the name of the model that needs the least memory; one for anime only if there is no other."""
    return min(MODELS, key=lambda name: (MODELS[name].anime, MODELS[name].network.values_per_pixel or 0))


# ---- measuring a network of which little is known ----

def measure_receptive_field(engine: Engine, multiple: int) -> tuple[int, int]:
    """Find out how far a network sees, and whether it divides pictures into windows, as transformers do.

    A picture is cut in two, at several places, from top to bottom and from side to side. Beyond the receptive field
    from a cut, one half alone gives the same as in the whole picture, to 56 dB.

    Args:
        engine: Runs the network, in floating point and 0..1.
        multiple: What the sides of the input must be multiples of.

    Returns:
        Input pixels around a tile that its result depends on, as far as that shows, and what the first pixel of a
        tile's window must be a multiple of. A network that sees further than 96 pixels, or has windows of a size that
        is not tried, logs a warning, and gets 128 pixels.
    """
    picture = _make_picture(multiple)[None]
    alignments = [-(-alignment // multiple) * multiple for alignment in _ALIGNMENTS]

    def run(columns: slice) -> list[np.ndarray]:
        """Return the results for a part of the picture, and for the same part on its side."""
        part = picture[:, :, columns]
        return [engine(part)[0], engine(part.swapaxes(1, 2))[0].swapaxes(0, 1)]

    try:
        wholes = run(slice(None))
        halves = zip(wholes, run(slice(picture.shape[2] // 2 // multiple * multiple)), strict=True)
        field = max(_find_field((whole[:, :half.shape[1]] - half)[:, ::-1], engine.scale) for whole, half in halves)
        for alignment in alignments:
            rests = zip(wholes, run(slice(alignment, None)), strict=True)
            larger = max(field, *(_find_field(whole[:, -rest.shape[1]:] - rest, engine.scale) for whole, rest in rests))
            if larger <= _LARGEST_FIELD:
                return larger, alignment
        logger.warning('the receptive field exceeds %d pixels: tile borders may be visible; use larger tiles (-t)',
                       _LARGEST_FIELD)
    except NonFiniteError:  # in half precision
        pass
    return _UNKNOWN_FIELD, alignments[-1]


def measure_bytes_per_pixel(engine: Engine, multiple: int) -> int | None:
    """Return about how many bytes one pixel of input takes while the network runs; None if PyTorch does not run it.

    Args:
        engine: Runs the network.
        multiple: What the sides of the input must be multiples of.
    """
    from ..engines.torch import PeakMemory
    picture = _make_picture(multiple)
    with contextlib.suppress(NonFiniteError), PeakMemory() as memory:
        engine(picture[None])
    return int(memory.peak / (picture.size // 3) * _UNCOUNTED_MEMORY) or None


def _find_field(error: np.ndarray, scale: int) -> int:
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
