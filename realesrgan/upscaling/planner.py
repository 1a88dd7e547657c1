"""Decide how pictures are cut into tiles: as the user asks, or as the memory allows."""
from __future__ import annotations

import bisect
import logging
import math
from typing import NamedTuple

from ..archs.architecture import NetworkTraits
from ..engines.devices import Device
from ..engines.engine import Engine
from ..engines.memory import FLOAT_RESULT_BYTES, estimate_bytes_per_pixel, measure_usable_memory
from ..files import format_size
from ..models import MODELS
from .tiles import Tile, cut_into_even_tiles, cut_into_tiles

logger = logging.getLogger(__name__)

_SMALLEST_TILE = 32
_WAITING_BYTES = 6  # for each pixel of a result that waits on the device to be downloaded
_FILLING_PIXELS = 1 << 18  # smaller pictures do not fill a GPU
# For a pixel of input of a network that does not say its memory: as many as the hungriest of those that were measured
# (in float32 HAT takes 56,000, DAT 25,000, SwinIR 16,000 and SPAN 6,000).
_UNKNOWN_BYTES = 56_000


class TilePlan(NamedTuple):
    """How a picture is cut.

    Attributes:
        tiles: The tiles, row by row.
        blend: Input pixels that neighbouring tiles extend into each other, cross-faded; 0 cuts hard.
        automatic: Whether memory decides on the tiles, not the user.
        together: How many such pictures the engine may compute at once.
    """

    tiles: list[Tile]
    blend: int
    automatic: bool
    together: int = 1


class TilePlanner:
    """Plans the tiles of one picture after another, and remembers what memory turned out to allow.

    Args:
        traits: The network's.
        engine: Runs the network.
        device: Where.
        multiple: What the sides of a tile's window must be multiples of.
        tile: Side of the tiles in input pixels, 0 for none but those that memory asks for.
        tile_pad: Input pixels that a tile sees around itself. With `tile` 0, or of a network without layers, it sees
            at least what the network needs.
        max_memory: Bytes that the network may take, on a CPU with its results; None is most of what is free.
        largest_window: Side of the largest window of an automatic tile; 0 for what memory allows.

    Attributes:
        tile, tile_pad: As above; they may be changed between pictures.
    """

    def __init__(self, traits: NetworkTraits, engine: Engine, device: Device, *, multiple: int = 1,
                 tile: int = 0, tile_pad: int = 10, max_memory: int | None = None, largest_window: int = 0) -> None:
        self.tile = tile
        self.tile_pad = tile_pad
        self._engine = engine
        self._device = device
        self._alignment = math.lcm(multiple, traits.alignment)
        self._max_memory = max_memory
        self._largest_window = largest_window
        self._traits = traits
        self._field, self._blend = traits.receptive_field, traits.blend
        self._least_pad = 0 if traits.layers() else self._field  # of tiles that are asked for
        self._smallest_tile = max(_SMALLEST_TILE, 4 * self._blend)
        self._limit = 0  # side of the tiles, or of automatic windows, after memory ran out; 0: none
        # The last picture's sides, the side of the largest window that fits it, and how many such pictures fit at once.
        self._fitting = (0, 0), 0, 1

    def plan(self, height: int, width: int, room: int, *, deep: bool = True) -> TilePlan:
        """Cut a picture.

        Tiles that the user asked for are cut as Real-ESRGAN 0.3.0 cuts them. Those that memory asks for see all that
        they depend on, and are blended where that would be too much.

        Args:
            height: Of the picture, a multiple of `multiple`.
            width: Likewise.
            room: Bytes of the host's memory that its results will take.
            deep: Whether the engine gets and returns it in floating point; else it has 8 bits.
        """
        if self.tile:
            side = min(self.tile, self._limit or self.tile)
            pad = max(self.tile_pad, self._least_pad)
            return TilePlan(cut_into_tiles(height, width, side, pad, self._alignment), 0, automatic=False)
        # What fitted once fits again, so a folder or a video of one size is measured, and logged, once.
        fitting = self._fitting  # another thread may set it
        if fitting[0] != (height, width):
            fitting = self._fitting = (height, width), *self._find_largest_window(height, width, room, deep=deep)
        window = min(fitting[1], self._limit or fitting[1], self._largest_window or fitting[1])
        if self._engine.most_pixels is not None and height * width > self._engine.most_pixels:
            window = min(window, math.isqrt(self._engine.most_pixels))
        if window >= max(height, width):
            return TilePlan(cut_into_tiles(height, width, 0, 0), 0, automatic=True,
                            together=1 if self._limit else fitting[2])
        window = max(window, self._smallest_window)  # `tile_pad` may have grown since the last picture of this size
        tiles = cut_into_even_tiles(height, width, window, self._pad, self._alignment)
        return TilePlan(tiles, self._blend, automatic=True)

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
            # For anime only if there is no other.
            smallest_model = min(MODELS, key=lambda name: (
                MODELS[name].anime, MODELS[name].network.values_per_pixel or 0))
            raise MemoryError(
                f'not enough memory on {self._device} even for tiles of {max(side - border, 1)} pixels. Close other '
                f'programs, or use a smaller model such as {smallest_model}') from error
        if not self._limit:
            logger.warning('not enough memory on %s; trying smaller tiles (set them with -t)', self._device)
        self._limit = max(side // 2, smallest)

    @property
    def _pad(self) -> int:
        """The pixels that an automatic tile sees around itself, at least."""
        return max(self.tile_pad, self._field)

    @property
    def _border(self) -> int:
        """By how much the window of an automatic tile is longer than the tile; see `cut_axis_evenly`."""
        return 2 * self._pad + self._alignment

    @property
    def _smallest_window(self) -> int:
        """The side of the smallest window of an automatic tile, which must begin and end where windows may."""
        return -(-(self._smallest_tile + self._border) // self._alignment) * self._alignment

    def _find_largest_window(self, height: int, width: int, room: int, *, deep: bool) -> tuple[int, int]:
        """Return the side of the largest window that memory allows, and how many such pictures it allows at once.

        The side is the picture's longer one if all of it fits.
        """
        for_pixel = estimate_bytes_per_pixel(self._traits, self._engine.name, half=self._engine.half)
        if for_pixel is None and self._device.type != 'cpu' and not self._max_memory:
            # A GPU reports that memory ran out, and `shrink` halves; a CPU ends the process.
            return max(height, width), 1
        result_bytes = (FLOAT_RESULT_BYTES if deep else 3) * self._traits.scale ** 2
        waiting = self._engine.in_flight * _WAITING_BYTES * self._traits.scale ** 2

        def estimate(height: int, width: int) -> int:
            running = self._engine.count_bytes(height, width)
            if running is None:
                return height * width * ((for_pixel or _UNKNOWN_BYTES) + waiting)
            return running + height * width * result_bytes

        needed = estimate(height, width)
        allowed = self._max_memory or measure_usable_memory(self._device, room)
        if self._max_memory and self._device.type == 'cpu':
            allowed = max(allowed - room, 0)
        if needed > allowed and not self._max_memory:
            # The engine keeps the memory of the last picture, which does not count as free. Ask again without it.
            self._engine.release()
            allowed = measure_usable_memory(self._device, room)
        if needed <= allowed:
            wanted = min(_FILLING_PIXELS // (height * width), self._engine.together)
            return max(height, width), max(min(wanted, allowed // max(needed, 1)), 1)
        smallest = self._smallest_window
        larger = range(smallest + 1, max(height, width))
        window = smallest + bisect.bisect(larger, allowed, key=lambda side: estimate(side, side))
        logger.info('tiles of %d pixels: the whole picture would need about %s, %s are %s',
                    window - self._border, format_size(needed), format_size(allowed),
                    'allowed' if self._max_memory else 'free')
        return window, 1
