"""How rows roll through a network: what each step of the winograd engine computes when, and where it lies.

A network is cut into segments, which run one after the other. In a segment all steps advance together, wave by wave, so
that of most features only some rows are kept, a ring. Where a single feature goes on that several convolutions read, it
is kept whole, and the next such feature overwrites it: in an RRDBNet these are the results of its blocks. A feature
that is made of the picture alone is computed again where it is read much later.

`winograd.c` says what a task waits for. That nobody waits forever follows from two rules:

    the rows that a step reads in a wave are done in it, by earlier steps of the segment: see `RollingStep.lag`;
    the rows that it overwrites in a wave are not read after the wave before: see `Schedule.rows`.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..archs.architecture import Layers
from .kernel.library import Wait

#: Outputs of a tile, along a side.
TILE = 4
#: Rows of tiles that are computed at a time, in which tiles are numbered column by column: few, so that threads seldom
#: wait; more would read less twice.
BAND = 4
#: Channels that lie together.
GROUP = 16

#: Tiles of a job. With fewer the weights, which each job reads anew, would cost more; more would take more memory.
LEAST_TILES = 1024
_ALL_ROWS = 1 << 30


@dataclass(eq=False)
class Plane:
    """Where a feature lies, one after the other in the course of a run.

    Attributes:
        channels: Of the feature.
        enlarged: Its side as a multiple of feature 0's.
        whole: Whether all rows are kept.
    """

    channels: int
    enlarged: int
    whole: bool = False

    @property
    def groups(self) -> int:
        """How many groups hold its channels."""
        return -(-self.channels // GROUP)


@dataclass(frozen=True)
class Read:
    """How a step reads a plane.

    Attributes:
        plane: The plane.
        around: Whether it sees a pixel beyond each side of a tile, as convolutions do.
        doubled: Whether the plane is enlarged twice beforehand.
    """

    plane: Plane
    around: bool = True
    doubled: bool = False


@dataclass(eq=False)
class RollingStep:
    """Loads the picture, convolves, or stores the result.

    Attributes:
        layer: The convolution's number in the network; None where it loads or stores.
        enlarged: The side of what it computes as a multiple of feature 0's.
        inputs: The planes that it reads.
        residuals: Those that are added to its result.
        plane: Where its result lies; None if it stores.
        lag: Rows of tiles by which it is behind the picture.
    """

    layer: int | None
    enlarged: int
    inputs: Sequence[Read]
    residuals: Sequence[Read]
    plane: Plane | None
    lag: int = 0

    @property
    def doubled(self) -> bool:
        """Whether its inputs are enlarged twice beforehand."""
        return any(read.doubled for read in self.inputs)

    @property
    def reads(self) -> Iterable[Read]:
        """All planes that it reads, each once."""
        return {read.plane: read for read in (*self.residuals, *self.inputs)}.values()


class RollingNetwork:
    """A network, cut into segments.

    Args:
        layers: The network.

    Attributes:
        segments: The steps of each.
    """

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        self._rings: dict[tuple[int, int], list[Plane]] = {}  # of each kind, for all segments in turn
        self._last_reader = {feature: number for number, layer in enumerate(layers.convolutions)
                             for feature in (*layer.inputs, *(feature for feature, _ in layer.residuals))}
        # Those that a convolution makes of the picture alone: cheap to compute again.
        self._again = {number: number - 1 for number, layer in enumerate(layers.convolutions, 1)
                       if set(layer.inputs) == {0} and not layer.residuals}
        self.segments: list[list[RollingStep]] = []
        trunk: Plane | None = None  # and the number of the feature in it
        held, start, count = -1, 0, len(layers.convolutions)
        for number in range(count - 1):
            feature = number + 1
            if not self._goes_on_alone(feature):
                continue
            kind = layers.channels[feature], layers.enlarged[feature]
            if trunk is None:
                if sum(feature in layer.inputs for layer in layers.convolutions) < 2:
                    continue
                trunk = Plane(*kind, whole=True)
            elif kind != (trunk.channels, trunk.enlarged):
                continue
            steps = self._make_segment(range(start, feature), trunk, held, whole=True)
            if any(reader.lag >= steps[-1].lag for reader in steps for read in reader.inputs if read.plane is trunk):
                continue  # it would overwrite what others still read
            self.segments.append(steps)
            held, start = feature, feature
        self.segments.append(self._make_segment(range(start, count), trunk, held))

    def _goes_on_alone(self, feature: int) -> bool:
        """Return whether later convolutions read no other feature up to this one, but for those made again."""
        return not any(self._last_reader.get(other, -1) >= feature and other not in self._again
                       for other in range(1, feature))

    def _make_segment(self, numbers: range, trunk: Plane | None, held: int, *,
                      whole: bool = False) -> list[RollingStep]:
        """Return the steps of some convolutions.

        Args:
            numbers: Of the convolutions.
            trunk: The plane that is kept whole.
            held: The feature in it.
            whole: Whether the last result goes there.
        """
        layers, last = self._layers, numbers.stop == len(self._layers.convolutions)
        convolutions = [layers.convolutions[number] for number in numbers]
        needed = {feature for layer in convolutions for feature in (*layer.inputs, *dict(layer.residuals))}
        again = sorted(self._again[feature] for feature in needed
                       if feature in self._again and self._again[feature] < numbers.start and feature != held)
        planes = {held: trunk} if trunk else {}
        taken: Counter[tuple[int, int]] = Counter()
        steps = []

        def take_ring(feature: int) -> Plane:
            kind = layers.channels[feature], layers.enlarged[feature]
            rings = self._rings.setdefault(kind, [])
            if taken[kind] == len(rings):
                rings.append(Plane(*kind))
            planes[feature] = rings[taken[kind]]
            taken[kind] += 1
            return planes[feature]

        if again or 0 in needed or (last and layers.adds_picture):
            steps.append(RollingStep(None, 1, (), (), take_ring(0)))
        for number in (*again, *numbers):
            layer = layers.convolutions[number]
            inputs = [Read(planes[feature], doubled=layer.doubles) for feature in layer.inputs]
            residuals = [Read(planes[feature], around=False) for feature, _ in layer.residuals]
            goes_whole = whole and number == numbers.stop - 1
            plane = trunk if goes_whole else take_ring(number + 1)
            steps.append(RollingStep(number, layers.enlarged[number + 1], inputs, residuals, plane))
        if last:
            result = [Read(planes[len(layers.convolutions)], around=False)]
            base = [Read(planes[0], around=False)] if layers.adds_picture else []
            steps.append(RollingStep(None, result[0].plane.enlarged, result, base, None))
        _set_lags(steps)
        return steps


def _set_lags(steps: Sequence[RollingStep]) -> None:
    """Make each step of a segment late enough for what it reads, and then as late as its readers allow."""
    makers: dict[Plane, RollingStep] = {}
    for step in steps:
        for read in step.reads:
            if read.plane in makers:
                lag = makers[read.plane].lag
                step.lag = max(step.lag, 2 * lag + 1 if read.doubled else lag + read.around)
        if step.plane is not None:
            makers[step.plane] = step
    for step in reversed(steps):
        latest = [(reader.lag - 1) // 2 if read.doubled else reader.lag - read.around
                  for reader in steps for read in reader.reads if makers.get(read.plane) is step and reader is not step]
        if latest and step.plane is not None and not step.plane.whole:
            step.lag = min(latest)


@dataclass(frozen=True)
class ScheduledStep:
    """A step for pictures of one size.

    Attributes:
        step: The step.
        advance, lag: Rows of tiles that it computes in a wave, and by which it is behind.
        waits: What its tasks wait for.
    """

    step: RollingStep
    advance: int
    lag: int
    waits: Sequence[Wait]


class Schedule:
    """The waves in which a network computes pictures of one size, and the memory that it needs.

    Args:
        network: The network.
        height, width: Of feature 0. Its rows roll, so it had better not be wider than high.
        least_tiles: How many tiles a job should have.

    Attributes:
        height, width: As above.
        steps: All steps, segment by segment.
        segments: Of each the number of its first step, that of the step behind its last, and how many waves it takes.
        rows: How many rows of each plane are kept.
    """

    def __init__(self, network: RollingNetwork, height: int, width: int, least_tiles: int = LEAST_TILES) -> None:
        self.height, self.width = height, width
        self.steps: list[ScheduledStep] = []
        self.segments: list[tuple[int, int, int]] = []
        self.rows: dict[Plane, int] = {}
        bands = [self._choose_band(segment, least_tiles) for segment in network.segments]
        lags = [[0 if band >= self.tile_rows(1) else step.lag for step in segment]  # else one wave does everything
                for segment, band in zip(network.segments, bands, strict=True)]
        for segment, band, lag in zip(network.segments, bands, lags, strict=True):
            self._measure_rings(segment, band, lag)
        makers: dict[Plane, int] = {}  # of what lies in each plane, and the steps of earlier segments that used it
        users: dict[Plane, list[int]] = {}
        for segment, band, lag in zip(network.segments, bands, lags, strict=True):
            first, number = len(self.steps), {step: len(self.steps) + index for index, step in enumerate(segment)}
            for step in segment:
                waits = [Wait(makers[read.plane], down=int(read.doubled), more=int(read.around),
                              columns=int(read.around or not (step.layer is None or step.doubled)))
                         for read in step.reads]
                if step.plane is not None:
                    waits += [Wait(earlier, more=_ALL_ROWS) for earlier in users.get(step.plane, ())]
                    waits += self._list_waits_for_readers(step, step.plane, segment, number)
                    makers[step.plane] = number[step]
                self.steps.append(ScheduledStep(step, band * step.enlarged, lag[number[step] - first], waits))
            for plane in {step.plane for step in segment if step.plane is not None and not step.plane.whole}:
                users[plane] = [number[step] for step in segment
                                if step.plane is plane or any(read.plane is plane for read in step.reads)]
            waves = max(-(-(self.tile_rows(planned.step.enlarged) + planned.lag) // planned.advance)
                        for planned in self.steps[first:])
            self.segments.append((first, len(self.steps), waves))

    def tile_rows(self, enlarged: int) -> int:
        """Return how many rows of tiles a feature has."""
        return _count_tiles(self.height * enlarged)

    def row(self, plane: Plane) -> int:
        """Return the floats from one row of a plane to the next: whole tiles, and a pixel on either side."""
        return (_count_tiles(self.width * plane.enlarged) * TILE + 2) * GROUP

    def size(self, plane: Plane) -> int:
        """Return the floats from one group of a plane to the next: its rows, and one of zeros before them."""
        return (self.rows[plane] + 1) * self.row(plane)

    def _choose_band(self, segment: Sequence[RollingStep], least_tiles: int) -> int:
        """Return the rows of tiles of feature 0 in a wave."""
        enlarged = max(step.enlarged for step in segment)
        tiles = enlarged * _count_tiles(self.width * enlarged)
        return min(-(-least_tiles // (BAND * tiles)) * BAND, self.tile_rows(1))

    def _measure_rings(self, segment: Sequence[RollingStep], band: int, lags: Sequence[int]) -> None:
        """Make planes long enough: for what a wave adds, and what is still read of the waves before."""
        lag = dict(zip(segment, lags, strict=True))
        makers = {step.plane: step for step in segment if step.plane is not None}
        self.rows |= {plane: self.rows.get(plane, TILE) for plane in makers}  # one that nobody reads needs a place, too
        for reader in segment:
            for read in reader.reads:
                plane, maker = read.plane, makers.get(read.plane)
                needed = all_rows = self.tile_rows(plane.enlarged)
                if maker is not None and not plane.whole:
                    behind = (lag[reader] + 2) // 2 if read.doubled else lag[reader] + read.around
                    needed = band * plane.enlarged + behind - lag[maker]
                self.rows[plane] = max(self.rows.get(plane, 0), TILE * min(needed, all_rows))

    def _list_waits_for_readers(self, step: RollingStep, plane: Plane, segment: Sequence[RollingStep],
                                number: Mapping[RollingStep, int]) -> Iterator[Wait]:
        """Yield what a step waits for because it overwrites rows of its plane that others of its segment read."""
        kept = 0 if plane.whole else self.rows[plane] // TILE
        if kept == self.tile_rows(plane.enlarged):
            return  # nothing is overwritten
        for reader in segment:
            for read in reader.reads:
                if read.plane is plane and reader is not step:
                    yield Wait(number[reader], behind=kept, up=int(read.doubled), more=int(read.around))


def _count_tiles(side: int) -> int:
    return -(-side // TILE)
