"""How rows roll through a network: what each step of the winograd engine computes when, and where it lies.

A network is cut into segments, which run one after the other. In a segment all steps advance together, wave by wave, so
that of most features only some rows are kept, a ring. Where a single feature goes on that several convolutions read, it
is kept whole, and the next such feature overwrites it: in an RRDBNet these are the results of its blocks. A feature
that is made of the picture alone is computed again where it is read much later.

In int16 what several steps of a segment transform is kept, too: as planes of V, which the first of them writes.

`winograd.c` says what a task waits for. That nobody waits forever follows from two rules:

    the rows that a step reads in a wave are done in it, by earlier steps of the segment: see `RollingStep.lag`;
    the rows that it overwrites in a wave are not read after the wave before: see `Schedule.rows`.
"""
from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from ..archs.architecture import Convolution, Layers
from .kernel.library import CHUNK_GROUPS, Wait

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

Chunk = tuple[tuple[int, int], ...]  # groups of features: the number of each feature, and that of its group


class Plane:
    """Where a feature lies, one after the other in the course of a run.

    Attributes:
        channels: Of the feature.
        enlarged: Its side as a multiple of feature 0's.
        whole: Whether all rows are kept.
        is_transformed: Whether it holds V in int16 instead, of a chunk of channels.
    """

    def __init__(self, channels: int, enlarged: int, *, whole: bool = False, is_transformed: bool = False) -> None:
        self.channels = channels
        self.enlarged = enlarged
        self.whole = whole
        self.is_transformed = is_transformed

    @property
    def groups(self) -> int:
        """How many groups hold its channels; V is one piece."""
        return 1 if self.is_transformed else -(-self.channels // GROUP)


class Read(NamedTuple):
    """How a step reads a plane.

    Attributes:
        plane: The plane.
        around: Whether it sees a pixel beyond each side of a tile, as convolutions do.
        doubled: Whether the plane is enlarged twice beforehand.
    """

    plane: Plane
    around: bool = True
    doubled: bool = False


class Kept(NamedTuple):
    """V of a chunk of channels that several steps multiply.

    Attributes:
        chunk: Its number in this step.
        plane: Where it lies.
        is_there: Whether a step before this one writes it.
    """

    chunk: int
    plane: Plane
    is_there: bool


class RollingStep:
    """Loads the picture, convolves, or stores the result.

    Attributes:
        layer: The convolution's number in the network; None where it loads or stores.
        enlarged: The side of what it computes as a multiple of feature 0's.
        inputs: The planes that it reads.
        residuals: Those that are added to its result.
        plane: Where its result lies; None if it stores.
        kept: The chunks of its inputs of which V is kept.
        lag: Rows of tiles by which it is behind the picture.
    """

    def __init__(self, layer: int | None, enlarged: int, inputs: Sequence[Read], residuals: Sequence[Read],
                 plane: Plane | None, kept: Sequence[Kept] = ()) -> None:
        self.layer = layer
        self.enlarged = enlarged
        self.inputs = inputs
        self.residuals = residuals
        self.plane = plane
        self.kept = kept
        self.lag = 0

    @property
    def doubled(self) -> bool:
        """Whether its inputs are enlarged twice beforehand."""
        return any(read.doubled for read in self.inputs)

    @cached_property
    def reads(self) -> Sequence[Read]:
        """All planes that it reads, each once; not those that were transformed before."""
        there = {kept.chunk: kept.plane for kept in self.kept if kept.is_there}
        chunks: defaultdict[Plane, set[int]] = defaultdict(set)
        for index, plane in enumerate(read.plane for read in self.inputs for _ in range(read.plane.groups)):
            chunks[plane].add(index // CHUNK_GROUPS)
        inputs = [read for read in self.inputs if not chunks[read.plane] <= set(there)]
        inputs += [Read(plane, around=False) for plane in there.values()]
        return list({read.plane: read for read in (*self.residuals, *inputs)}.values())

    @cached_property
    def writes(self) -> Sequence[Plane]:
        """All planes that it writes."""
        result = [] if self.plane is None else [self.plane]
        return result + [kept.plane for kept in self.kept if not kept.is_there]


class RollingNetwork:
    """A network, cut into segments.

    Args:
        layers: The network.
        keeps: Whether V is kept, where convolutions in int16 share it.

    Attributes:
        segments: The steps of each.
    """

    def __init__(self, layers: Layers, *, keeps: bool = False) -> None:
        self._layers, self._keeps = layers, keeps
        self._rings: dict[tuple[int, int, bool], list[Plane]] = {}  # of each kind, for all segments in turn
        readers: defaultdict[int, list[int]] = defaultdict(list)
        for number, layer in enumerate(layers.convolutions):
            for feature in {*layer.inputs, *dict(layer.residuals)}:
                readers[feature].append(number)
        # Those that a convolution makes of the picture alone: cheap to compute again.
        self._again = {number: number - 1 for number, layer in enumerate(layers.convolutions, 1)
                       if set(layer.inputs) == {0} and not layer.residuals}
        # Those have to be read once more only, or what reads them belongs to one segment.
        self._last_reader = {feature: [-1, *numbers][-2 if feature in self._again else -1]
                             for feature, numbers in readers.items()}
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
        return not any(self._last_reader.get(other, -1) >= feature for other in range(1, feature))

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
        taken: Counter[tuple[int, int, bool]] = Counter()
        steps = []
        kept = self._keep_chunks(numbers, taken)

        def take_ring(feature: int) -> Plane:
            planes[feature] = self._take_plane(taken, layers.channels[feature], layers.enlarged[feature])
            return planes[feature]

        if again or 0 in needed or (last and layers.adds_picture):
            steps.append(RollingStep(None, 1, (), (), take_ring(0)))
        for number in (*again, *numbers):
            layer = layers.convolutions[number]
            inputs = [Read(planes[feature], doubled=layer.doubles) for feature in layer.inputs]
            residuals = [Read(planes[feature], around=False) for feature, _ in layer.residuals]
            goes_whole = whole and number == numbers.stop - 1
            plane = trunk if goes_whole else take_ring(number + 1)
            steps.append(RollingStep(number, layers.enlarged[number + 1], inputs, residuals, plane, kept[number]))
        if last:
            result = [Read(planes[len(layers.convolutions)], around=False)]
            base = [Read(planes[0], around=False)] if layers.adds_picture else []
            steps.append(RollingStep(None, result[0].plane.enlarged, result, base, None))
        _set_lags(steps)
        return steps

    def _take_plane(self, taken: Counter[tuple[int, int, bool]], channels: int, enlarged: int, *,
                    is_transformed: bool = False) -> Plane:
        """Return a ring that a segment has not taken yet."""
        kind = channels, enlarged, is_transformed
        rings = self._rings.setdefault(kind, [])
        if taken[kind] == len(rings):
            rings.append(Plane(channels, enlarged, is_transformed=is_transformed))
        taken[kind] += 1
        return rings[taken[kind] - 1]

    def _keep_chunks(self, numbers: range, taken: Counter[tuple[int, int, bool]]) -> Mapping[int, list[Kept]]:
        """Return the chunks that several convolutions of a segment read, for each of them."""
        chunks = {number: self._list_whole_chunks(self._layers.convolutions[number])
                  for number in numbers if self._keeps}
        readers = Counter(chunk for some in chunks.values() for chunk in some.values())
        planes: dict[Chunk, Plane] = {}
        kept: defaultdict[int, list[Kept]] = defaultdict(list)
        for number, some in chunks.items():
            for index, chunk in some.items():
                if readers[chunk] > 1:
                    is_there = chunk in planes
                    if not is_there:
                        planes[chunk] = self._take_plane(taken, CHUNK_GROUPS * GROUP, self._layers.enlarged[number + 1],
                                                         is_transformed=True)
                    kept[number].append(Kept(index, planes[chunk], is_there))
        return kept

    def _list_whole_chunks(self, layer: Convolution) -> dict[int, Chunk]:
        """Return the whole chunks that a convolution in int16 reads, with their numbers."""
        if layer.doubles or layer.inputs == (0,):  # the latter is in float32
            return {}
        groups = [(feature, group) for feature in layer.inputs
                  for group in range(-(-self._layers.channels[feature] // GROUP))]
        return {start // CHUNK_GROUPS: tuple(groups[start:start + CHUNK_GROUPS])
                for start in range(0, len(groups) - CHUNK_GROUPS + 1, CHUNK_GROUPS)}


def _set_lags(steps: Sequence[RollingStep]) -> None:
    """Make each step of a segment late enough for what it reads, and then as late as its readers allow."""
    makers: dict[Plane, RollingStep] = {}
    for step in steps:
        for read in step.reads:
            if read.plane in makers:
                lag = makers[read.plane].lag
                step.lag = max(step.lag, 2 * lag + 1 if read.doubled else lag + read.around)
        makers |= dict.fromkeys(step.writes, step)
    for step in reversed(steps):
        latest = [(reader.lag - 1) // 2 if read.doubled else reader.lag - read.around
                  for reader in steps for read in reader.reads if makers.get(read.plane) is step and reader is not step]
        if latest and step.plane is not None and not step.plane.whole:
            step.lag = min(latest)


class ScheduledStep(NamedTuple):
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
        block: The kernel's tiles of a block, where V is kept; a row of tiles should be longer than half of it.
        kept_floats: Floats that V takes of a block.

    Attributes:
        height, width: As above.
        steps: All steps, segment by segment.
        segments: Of each the number of its first step, that of the step behind its last, and how many waves it takes.
        rows: How many rows of each plane are kept.
    """

    def __init__(self, network: RollingNetwork, height: int, width: int, least_tiles: int = LEAST_TILES,
                 block: int = 1, kept_floats: int = 0) -> None:
        self.height, self.width, self._block, self._kept_floats = height, width, block, kept_floats
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
                for plane in step.writes:
                    waits += [Wait(earlier, more=_ALL_ROWS) for earlier in users.get(plane, ())]
                    waits += self._list_waits_for_readers(step, plane, segment, number)
                    makers[plane] = number[step]
                self.steps.append(ScheduledStep(step, band * step.enlarged, lag[number[step] - first], waits))
            for plane in {plane for step in segment for plane in step.writes if not plane.whole}:
                users[plane] = [number[step] for step in segment
                                if plane in step.writes or any(read.plane is plane for read in step.reads)]
            waves = max(-(-(self.tile_rows(planned.step.enlarged) + planned.lag) // planned.advance)
                        for planned in self.steps[first:])
            self.segments.append((first, len(self.steps), waves))

    def tile_rows(self, enlarged: int) -> int:
        """Return how many rows of tiles a feature has."""
        return _count_tiles(self.height * enlarged)

    def run(self, step: RollingStep) -> int:
        """Return how many tiles of a row stay together: of equal size, and one block of tiles at most."""
        columns = _count_tiles(self.width * step.enlarged)
        return -(-columns // -(-columns // self._block)) if step.kept else 1

    def row(self, plane: Plane) -> int:
        """Return the floats from one row of a plane to the next: whole tiles, and a pixel on either side."""
        return (_count_tiles(self.width * plane.enlarged) * TILE + 2) * GROUP

    def size(self, plane: Plane) -> int:
        """Return the floats from one group of a plane to the next: its rows, and one of zeros before them.

        Of one of V all that it takes.
        """
        if plane.is_transformed:
            runs = -(-_count_tiles(self.width * plane.enlarged) // self._block)
            return self.rows[plane] // TILE * runs * self._kept_floats
        return (self.rows[plane] + 1) * self.row(plane)

    def _choose_band(self, segment: Sequence[RollingStep], least_tiles: int) -> int:
        """Return the rows of tiles of feature 0 in a wave."""
        enlarged = max(step.enlarged for step in segment)
        tiles = enlarged * _count_tiles(self.width * enlarged)
        return min(-(-least_tiles // (BAND * tiles)) * BAND, self.tile_rows(1))

    def _measure_rings(self, segment: Sequence[RollingStep], band: int, lags: Sequence[int]) -> None:
        """Make planes long enough: for what a wave adds, and what is still read of the waves before."""
        lag = dict(zip(segment, lags, strict=True))
        makers = {plane: step for step in segment for plane in step.writes}
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
