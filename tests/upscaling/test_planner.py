"""Tiles: as the user asks, or chosen by the memory there is, without a visible difference."""
from __future__ import annotations

import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer
from realesrgan.archs.architecture import ForeignTraits
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines.devices import CPU, Device
from realesrgan.models import MODELS
from realesrgan.upscaling import planner
from realesrgan.upscaling.planner import TilePlanner
from realesrgan.upscaling.tiles import cut_into_tiles

COMPACT = SRVGGNetCompactConfig(4, 8, 3)


class IdleEngine:
    """An engine that is never run, and counts how often it was released."""

    name, half, scale, description = 'torch', False, 4, 'idle'
    together, in_flight, most_pixels = 1, 0, None

    def __init__(self):
        self.releases = 0

    def count_bytes(self, height, width):
        return None

    def release(self):
        self.releases += 1


@pytest.fixture
def plentiful(monkeypatch):
    """Memory that is always enough, until `free` says otherwise; a pixel of input takes a byte."""
    machine = SimpleNamespace(free=10 ** 12)
    monkeypatch.setattr(planner, 'measure_usable_memory', lambda device, for_results: machine.free)
    monkeypatch.setattr(planner, 'estimate_bytes_per_pixel', lambda *_, **__: 1)
    return machine


def sides(plan):
    """The sizes of the windows and the number of the tiles of a plan."""
    windows = {(tile.rows.padded_stop - tile.rows.padded_start, tile.columns.padded_stop - tile.columns.padded_start)
               for tile in plan.tiles}
    return windows, len(plan.tiles)


# ---- the planner alone ----

@pytest.mark.parametrize('multiple', [1, 2, 4])
def test_tiles_that_were_asked_for_are_cut_as_0_3_0_cuts_them(plentiful, multiple):
    planned = TilePlanner(COMPACT, IdleEngine(), CPU, multiple=multiple, tile=24, tile_pad=6).plan(64, 80, 0)
    assert planned.tiles == cut_into_tiles(64, 80, 24, 6, multiple)
    assert (planned.blend, planned.automatic) == (0, False)


def test_what_fits_is_not_cut(plentiful):
    for config in (COMPACT, RRDBNetConfig(4, 8, 1, 4), ForeignTraits('', 3)):
        assert sides(TilePlanner(config, IdleEngine(), CPU).plan(600, 400, 0)) == ({(600, 400)}, 1)


def test_small_pictures_are_gathered_where_the_engine_computes_several_at_once(plentiful):
    engine = IdleEngine()
    engine.in_flight = 1
    assert TilePlanner(COMPACT, engine, CPU).plan(60, 40, 0).together == 1
    engine.together = 4
    assert TilePlanner(COMPACT, engine, CPU).plan(60, 40, 0).together == 4


@pytest.mark.parametrize(('config', 'smallest_window'), [
    (COMPACT, 32 + 2 * (COMPACT.num_conv + 2) + 1), (RRDBNetConfig(4), 32 + 2 * 48 + 1),
    (RRDBNetConfig(2), 64 + 2 * 96 + 2), (RRDBNetConfig(1), 128 + 2 * 192 + 4)])
def test_without_memory_tiles_are_the_smallest(plentiful, config, smallest_window):
    plentiful.free = 0
    planned = TilePlanner(config, IdleEngine(), CPU, multiple=config.multiple, tile_pad=0).plan(1200, 1600, 0)
    windows, count = sides(planned)
    assert count > 4
    assert len(windows) == 1
    assert max(*windows.pop()) <= smallest_window
    assert (planned.blend, planned.automatic) == (config.blend, True)


@pytest.mark.parametrize(('device', 'room', 'largest'), [
    ('cpu', 0, 200), ('cpu', 200 ** 2 - 100 ** 2, 100), ('cuda', 200 ** 2 - 100 ** 2, 200)])
def test_a_window_fills_what_is_allowed_on_a_cpu_with_the_result(plentiful, device, room, largest):
    tested = TilePlanner(COMPACT, IdleEngine(), Device(device), max_memory=200 ** 2)
    (height, width), = sides(tested.plan(1000, 1000, room))[0]
    assert 0.75 * largest <= min(height, width) <= max(height, width) <= largest
    tested.tile_pad = 50
    for tile in tested.plan(1000, 1000, room).tiles:
        assert tile.rows.start - tile.rows.padded_start >= 50 or tile.rows.padded_start == 0


def test_the_engine_is_released_before_a_picture_is_cut(plentiful, caplog):
    """Its memory does not count as free. Pictures of one size are measured, and logged, once."""
    engine = IdleEngine()
    tested = TilePlanner(COMPACT, engine, CPU)
    tested.plan(100, 100, 0)
    assert engine.releases == 0
    plentiful.free = 99 * 99
    tested.plan(100, 100, 0)
    assert engine.releases == 0  # what fitted once fits again
    with caplog.at_level(logging.INFO, 'realesrgan'):
        for _ in range(3):
            tested.plan(101, 101, 0)
    assert engine.releases == 1
    assert len([message for message in caplog.messages if message.startswith('tiles of ')]) == 1
    TilePlanner(COMPACT, engine, CPU, max_memory=99 * 99).plan(100, 100, 0)
    assert engine.releases == 1


# Automatic windows are all of one length, which may be less than half that of the last plan.
@pytest.mark.parametrize(('tile', 'expected'), [(0, [500, 174, 81, 42]), (300, [300, 150, 75, 37, 32])])
def test_tiles_shrink_by_half_until_they_are_the_smallest(plentiful, caplog, tile, expected):
    engine, failure = IdleEngine(), MemoryError('alloc')
    tested = TilePlanner(COMPACT, engine, CPU, tile=tile, tile_pad=0)
    found = []
    with pytest.raises(MemoryError) as caught:
        while True:
            planned = tested.plan(500, 500, 0)
            first = planned.tiles[0]
            found.append(first.rows.padded_stop if planned.automatic else first.rows.stop)
            tested.shrink(planned, failure)
    assert found == expected
    assert caught.value.__cause__ is failure
    assert engine.releases == len(found)
    assert [record.message for record in caplog.records] == [
        'not enough memory on cpu; trying smaller tiles (set them with -t)']


def test_what_ran_out_of_memory_stays_small_for_other_pictures_and_less_is_free(plentiful):
    tested = TilePlanner(COMPACT, IdleEngine(), CPU)
    tested.shrink(tested.plan(200, 200, 0), MemoryError())
    for side in (150, 300):
        assert max(sides(tested.plan(side, side, 0))[0])[0] <= 100
    plentiful.free = 60 * 60
    assert max(sides(tested.plan(90, 90, 0))[0])[0] <= 60


def test_out_of_memory_names_a_smaller_model(plentiful):
    tested = TilePlanner(RRDBNetConfig(), IdleEngine(), CPU, tile=32)
    with pytest.raises(MemoryError, match='even for tiles of 32 pixels. Close other programs, or use a smaller model '
                                          'such as ') as caught:
        tested.shrink(tested.plan(100, 100, 0), MemoryError())
    named = MODELS[str(caught.value).split()[-1]]
    need = {name: spec.network.values_per_pixel for name, spec in MODELS.items() if not spec.anime}
    assert not named.anime
    assert need[named.name] == min(need.values())


# ---- with a network ----

def tiles_of(tested, img):
    calls = []
    tested.on_tile = lambda done, total: calls.append(total)
    result = tested.enhance(img)[0]
    return result, calls[-1]


def compact():
    torch.manual_seed(0)
    return COMPACT.build()


def upsampler(**options):
    return RealESRGANer(4, None, **{'model': compact(), 'pre_pad': 0, 'device': 'cpu'} | options)


@pytest.mark.parametrize('engine', ['torch', 'openvino'])
def test_tiles_of_an_exact_reach_change_nothing(engine, caplog):
    img = np.random.default_rng(0).integers(0, 256, (150, 130, 3), np.uint8)
    whole = upsampler(engine=engine).enhance(img)[0]
    with caplog.at_level(logging.INFO, 'realesrgan'):
        cut, count = tiles_of(upsampler(engine=engine, max_memory=70 * 70 * 900), img)
    assert count > 4
    assert tiles_of(upsampler(engine=engine, tile=75, max_memory=1), img)[1] == 4  # which were asked for
    assert np.abs(cut.astype(int) - whole).max() <= 1
    assert sum('tiles of' in record.message and 'are allowed' in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(('scale', 'img'), [
    (2, (300, 260, 3)), (1, (600, 520, 4)), (4, (150, 130)), (2, (151, 359, 3))])
def test_every_kind_and_scale_of_rrdbnet_with_automatic_tiles(scale, img):
    """With three blocks it sees 51 pixels, after folding: more than its tiles do, so they are blended."""
    torch.manual_seed(1)
    options = {'model': RRDBNetConfig(scale, 8, 3, 4).build(), 'pre_pad': 0, 'device': 'cpu', 'engine': 'torch'}
    picture = np.random.default_rng(0).integers(0, 256, img, np.uint8)
    whole = RealESRGANer(scale, None, **options).enhance(picture)[0]
    cut, count = tiles_of(RealESRGANer(scale, None, **options, max_memory=1), picture)
    assert count > 1
    assert np.abs(cut.astype(int) - whole).max() <= 1


@pytest.mark.parametrize('multiple', [1, 16, 24, 64])
@pytest.mark.parametrize('tile_pad', range(8, 97, 8))
def test_the_smallest_windows_suit_a_network_of_which_little_is_known(multiple, tile_pad):
    """Windows begin at multiples of 16, and see 32 pixels or more on both sides."""
    tested = TilePlanner(ForeignTraits('', 4, multiple), IdleEngine(), CPU, multiple=multiple, tile_pad=tile_pad,
                         max_memory=1)
    alignment, field = math.lcm(16, multiple), max(tile_pad, 32)
    for _ in range(2):
        plan = tested.plan(1001, 777, 0)
        assert len(plan.tiles) > 1
        assert plan.blend == 8
        for span in (tile.rows for tile in plan.tiles):
            assert span.padded_start % alignment == 0
            assert span.padded_start == 0 or span.start - span.padded_start >= field
            assert span.padded_stop == 1001 or span.padded_stop - span.stop >= field
        with pytest.raises(MemoryError):
            tested.shrink(plan, MemoryError())


def test_what_a_network_of_which_little_is_known_takes(monkeypatch):
    """On a GPU, which reports that memory ran out, whole pictures are tried first; a CPU would end the process."""
    monkeypatch.setattr(planner, 'measure_usable_memory', lambda device, for_results: 300 ** 2 * 56_000)
    for device, options, expected in (('cuda', {}, 1), ('cpu', {}, 4), ('cuda', {'max_memory': 300 ** 2 * 56_000}, 4)):
        planned = TilePlanner(ForeignTraits('', 4), IdleEngine(), Device(device), **options).plan(400, 400, 0)
        assert len(planned.tiles) == expected


def test_tiles_that_were_asked_for_of_a_network_of_which_little_is_known_see_enough():
    planned = TilePlanner(ForeignTraits('', 4), IdleEngine(), CPU, tile=100, tile_pad=10).plan(300, 300, 0)
    assert planned.tiles == cut_into_tiles(300, 300, 100, 32, 16)
