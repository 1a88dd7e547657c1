"""Automatic tiles: chosen by the memory there is, without a visible difference."""
import logging

import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer, upsampler
from realesrgan.engines import memory
from realesrgan.models import RRDBNetShape, SRVGGNetCompactShape


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
    monkeypatch.setattr(upsampler, 'usable_bytes', lambda device: 60 * 60 * 900)
    img = np.zeros((150, 130, 3), np.uint8)
    assert tiles_of(RealESRGANer(4, None, model=compact(), pre_pad=0, device='cpu'), img)[1] > 4


def test_tiles_that_were_asked_for_are_kept():
    tested = RealESRGANer(4, None, model=compact(), tile=50, pre_pad=0, device='cpu', max_memory=1)
    assert tiles_of(tested, np.zeros((100, 100, 3), np.uint8))[1] == 4


@pytest.mark.parametrize(('scale', 'img'), [
    (2, (300, 260, 3)), (1, (600, 520, 4)), (4, (150, 130)), (2, (151, 259, 3))])
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
    (tmp_path / 'memory.current').write_text('500000\n')
    monkeypatch.setattr(memory, '_CGROUP', tmp_path)
    assert memory.usable_bytes(torch.device('cpu')) == 1200000
    (tmp_path / 'memory.max').write_text('max\n')
    assert memory.usable_bytes(torch.device('cpu')) > 1200000
