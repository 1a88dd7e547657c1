"""Automatic tiles: chosen by the memory there is, without a visible difference."""
import logging

import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer
from realesrgan.engines import memory
from realesrgan.models import RRDBNetShape, SRVGGNetCompactShape
from realesrgan.upscaling import upsampler


def tiles_of(tested, img):
    calls = []
    tested.on_tile = lambda done, total: calls.append(total)
    result = tested.enhance(img)[0]
    return result, calls[-1]


def compact():
    torch.manual_seed(0)
    return SRVGGNetCompactShape(4, 8, 3).build()


def test_a_picture_that_fits_is_not_cut():
    img = np.zeros((60, 40, 3), np.uint8)
    assert tiles_of(RealESRGANer(4, None, model=compact(), pre_pad=0, device='cpu'), img)[1] == 1


@pytest.mark.parametrize('engine', ['torch', 'openvino'])
def test_tiles_of_an_exact_reach_change_nothing(engine, caplog):
    img = np.random.default_rng(0).integers(0, 256, (150, 130, 3), np.uint8)
    options = {'model': compact(), 'pre_pad': 0, 'device': 'cpu', 'engine': engine}
    whole = RealESRGANer(4, None, **options).enhance(img)[0]
    with caplog.at_level(logging.INFO, 'realesrgan'):
        cut, count = tiles_of(RealESRGANer(4, None, **options, max_memory=70 * 70 * 900), img)
    assert count > 4
    assert np.abs(cut.astype(int) - whole).max() <= 1
    assert sum('tiles of' in record.message and 'are allowed' in record.message for record in caplog.records) == 1


def test_what_is_free_decides_without_a_bound(monkeypatch):
    monkeypatch.setattr(upsampler, 'usable_bytes', lambda device, for_results: 60 * 60 * 900)
    img = np.zeros((150, 130, 3), np.uint8)
    assert tiles_of(RealESRGANer(4, None, model=compact(), pre_pad=0, device='cpu'), img)[1] > 4


class Keeping:
    """An engine that keeps the memory of its largest batch until it is released, and counts that."""

    def __init__(self, engine):
        self.kind, self.half, self.scale = engine.kind, engine.half, engine.scale
        self.engine, self.kept, self.releases = engine, 0, 0

    def __call__(self, batch):
        self.kept = max(self.kept, batch.shape[1] * batch.shape[2])
        return self.engine(batch)

    def release(self):
        self.kept = 0
        self.releases += 1


def keeping(monkeypatch, room):
    """Return an upsampler on a machine with room for so many pixels of input, on which all memory is used."""
    tested = RealESRGANer(4, None, model=compact(), pre_pad=0, device='cpu')
    engine = tested._engine = Keeping(tested._engine)
    monkeypatch.setattr(upsampler, 'bytes_per_pixel', lambda *_, **__: 1)
    monkeypatch.setattr(upsampler, 'usable_bytes', lambda device, for_results: room - engine.kept)
    return tested, engine


def test_what_the_engine_keeps_counts_as_free(monkeypatch):
    tested, engine = keeping(monkeypatch, 100 * 100)
    counts = [tiles_of(tested, np.zeros(shape, np.uint8))[1] for shape in (
        (90, 90, 3), (90, 90, 3), (95, 95, 3), (150, 150, 3), (99, 99, 3))]
    assert counts == [1, 1, 1, 4, 1]
    assert engine.releases == 3


def test_pictures_of_one_size_have_one_log_line(monkeypatch, caplog):
    tested, _ = keeping(monkeypatch, 100 * 100)
    with caplog.at_level(logging.INFO, 'realesrgan'):
        counts = [tiles_of(tested, np.zeros((150, 150, 4), np.uint8))[1] for _ in range(3)]
    assert counts == [4, 4, 4]
    assert sum('tiles of' in record.message for record in caplog.records) == 1


def test_after_running_out_of_memory_less_free_memory_still_counts(monkeypatch):
    tested, _ = keeping(monkeypatch, 60 * 60)
    tested._limit = 120
    assert tiles_of(tested, np.zeros((100, 100, 3), np.uint8))[1] > 1


def test_no_free_memory_means_the_smallest_tiles(monkeypatch):
    monkeypatch.setattr(memory, '_free_bytes', lambda device: -5)
    _, count = tiles_of(RealESRGANer(4, None, model=compact(), pre_pad=0, device='cpu'), np.zeros((60, 60), np.uint8))
    assert count == 4


def test_the_result_takes_its_part_of_what_is_free(monkeypatch):
    monkeypatch.setattr(memory, '_free_bytes', lambda device: 1000)
    assert memory.usable_bytes(torch.device('cpu'), 400) == 480
    assert memory.usable_bytes(torch.device('cuda'), 400) == 800
    assert memory.usable_bytes(torch.device('cpu'), 1001) == 0


def test_a_result_larger_than_all_memory_is_an_error(monkeypatch):
    tested = RealESRGANer(4, None, model=compact(), pre_pad=0, device='cpu')
    huge = np.broadcast_to(np.uint8(0), (2 ** 20, 2 ** 20, 3))
    with pytest.raises(MemoryError, match='the result alone takes 49152.0 GiB'):
        tested.enhance(huge)
    with pytest.raises(MemoryError, match='the result alone takes 48.0 GiB.*a smaller -s'):
        monkeypatch.setattr(memory, '_left_in_container', lambda: 2 ** 30)
        tested.enhance(np.zeros((16, 16, 3), np.uint8), outscale=8192)


def test_results_are_those_of_the_network_alpha_and_the_last_size():
    need = memory.result_bytes
    assert need(300, 4, None, alpha=False) == need(300, 4, 4, alpha=False) == 4800
    assert need(300, 4, 2, alpha=False) == 4800 + 1200
    assert need(400, 2, 8, alpha=True) == 2 * 1600 + 25600


def test_tiles_that_were_asked_for_are_kept():
    tested = RealESRGANer(4, None, model=compact(), tile=50, pre_pad=0, device='cpu', max_memory=1)
    assert tiles_of(tested, np.zeros((100, 100, 3), np.uint8))[1] == 4


@pytest.mark.parametrize(('scale', 'img'), [
    (2, (300, 260, 3)), (1, (600, 520, 4)), (4, (150, 130)), (2, (151, 359, 3))])
def test_every_kind_and_scale_of_rrdbnet_with_automatic_tiles(scale, img):
    torch.manual_seed(1)
    options = {'model': RRDBNetShape(scale, 8, 1, 4).build(), 'pre_pad': 0, 'device': 'cpu', 'engine': 'torch'}
    picture = np.random.default_rng(0).integers(0, 256, img, np.uint8)
    whole = RealESRGANer(scale, None, **options).enhance(picture)[0]
    cut, count = tiles_of(RealESRGANer(scale, None, **options, max_memory=1), picture)
    assert count > 1
    assert np.abs(cut.astype(int) - whole).max() <= 1


def test_the_need_grows_with_width_precision_and_scale_and_shrinks_by_folding():
    need = memory.bytes_per_pixel
    assert need(RRDBNetShape(), 'openvino', half=False) > need(RRDBNetShape(), 'openvino', half=True)
    assert need(RRDBNetShape(2), 'torch', half=False) < need(RRDBNetShape(4), 'torch', half=False) / 3.9
    assert need(SRVGGNetCompactShape(4, 32), 'torch', half=True) < need(SRVGGNetCompactShape(4, 64), 'torch', half=True)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    (tmp_path / 'memory.max').write_text('2000000\n')
    (tmp_path / 'memory.current').write_text('800000\n')
    (tmp_path / 'memory.stat').write_text('anon 500000\ninactive_file 300000\n')
    monkeypatch.setattr(memory, '_CGROUP', tmp_path)
    assert memory.usable_bytes(torch.device('cpu')) == 1200000
    (tmp_path / 'memory.max').write_text('max\n')
    assert memory.usable_bytes(torch.device('cpu')) > 1200000
