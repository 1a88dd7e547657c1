"""Decide how pictures are cut into tiles: as the user asks, or as the memory allows."""
from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import cached_property

from ..archs.architecture import NetworkTraits
from ..engines.devices import Device
from ..engines.engine import Engine
from ..engines.memory import estimate_bytes_per_pixel, measure_usable_memory
from ..models import MODELS
from .probing import PROBED_PIXELS, Sight, measure_bytes_per_pixel, measure_sight
from .tiles import Tile, cut_into_even_tiles, cut_into_tiles

logger = logging.getLogger(__name__)

_SMALLEST_TILE = 32


@dataclass(frozen=True)
class TilePlan:
    """How a picture is cut.

    Attributes:
        tiles: The tiles, row by row.
        blend: Input pixels that neighbouring tiles reach into each other, cross-faded; 0 cuts hard.
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
                pad, multiple = self._sight.reach, self._sight.alignment
            return TilePlan(cut_into_tiles(height, width, side, pad, multiple), 0, automatic=False)
        # What fitted once fits again, so a folder or a video of one size is measured, and logged, once.
        fitting = self._fitting  # another thread may set it
        if fitting[0] != (height, width):
            fitting = self._fitting = (height, width), self._find_largest_window(height, width, room)
        window = min(fitting[1], self._limit or fitting[1])
        if window >= max(height, width):
            return TilePlan(cut_into_tiles(height, width, 0, 0), 0, automatic=True)
        sight = self._sight
        tiles = cut_into_even_tiles(height, width, window, sight.reach, sight.alignment)
        return TilePlan(tiles, self._traits.blend, automatic=True)

    def shrink(self, plan: TilePlan, error: MemoryError) -> None:
        """Make the tiles of the next plan half as large, because memory ran out with those of `plan`.

        Raises:
            MemoryError: they are the smallest already; the message says what to do.
        """
        self._engine.release()
        # Of automatic tiles the window counts: it has the size that the network sees, and the same for each tile.
        first, border = plan.tiles[0], self._border if plan.automatic else 0
        if plan.automatic:
            side = max(first.rows.padded_stop, first.columns.padded_stop)
        else:
            side = max(first.rows.stop, first.columns.stop)
        smallest = self._smallest_window if plan.automatic else _SMALLEST_TILE
        if side <= smallest:
            raise MemoryError(
                f'not enough memory on {self._device} even for tiles of {max(side - border, 1)} pixels. Close other '
                f'programs, or use a smaller model such as {_find_smallest_model()}') from error
        if not self._limit:
            logger.warning('not enough memory on %s; trying smaller tiles (set them with -t)', self._device)
        self._limit = max(side // 2, smallest)

    @property
    def _sight(self) -> Sight:
        """What an automatic tile sees around itself, and where its window may begin."""
        field = self._traits.receptive_field
        sight = self._measured_sight if field is None else Sight(field, self._multiple)
        return replace(sight, reach=max(self.tile_pad, sight.reach))

    @cached_property
    def _measured_sight(self) -> Sight:
        sight = measure_sight(self._engine, self._multiple)
        logger.info('tiles see %d pixels around themselves', sight.reach)
        return sight

    @cached_property
    def _measured_bytes(self) -> int | None:
        return measure_bytes_per_pixel(self._engine, self._multiple)

    @property
    def _border(self) -> int:
        """By how much the window of an automatic tile is longer than the tile; see `cut_axis_evenly`."""
        return 2 * (self._sight.reach + self._sight.alignment)

    @property
    def _smallest_window(self) -> int:
        """The side of the smallest window of an automatic tile, which must begin and end where windows may."""
        alignment = self._sight.alignment
        return -(-(self._smallest_tile + self._border) // alignment) * alignment

    def _find_largest_window(self, height: int, width: int, room: int) -> int:
        """Return the side of the largest window that memory allows; the picture's longer side if all of it fits."""
        for_pixel = estimate_bytes_per_pixel(self._traits, self._engine.name, half=self._engine.half)
        if for_pixel is None:
            for_pixel = self._measured_bytes if height * width > PROBED_PIXELS else None
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
    def need(name: str) -> tuple[bool, float]:
        return MODELS[name].anime, MODELS[name].network.values_per_pixel or 0
    return min(MODELS, key=need)
