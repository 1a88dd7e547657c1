"""The tables of models, and a new row in one of them."""
from __future__ import annotations

import hashlib
import re

import cv2
import numpy as np
import pytest
import torch

import inference_realesrgan
from realesrgan import RealESRGANer
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.models import FACE_MODELS, MODELS, ModelSpec, WeightFile

#: By name: the release, first digits of the SHA-256, parameters, scale, multiple, file in the data package.
KNOWN = {
    'RealESRGAN_x4plus': ('v0.1.0', '4fa0d389', 16_697_987, 4, 1, 'REALESRGAN_X4PLUS_UP4X'),
    'RealESRNet_x4plus': ('v0.1.1', 'a820b9bd', 16_697_987, 4, 1, None),
    'RealESRGAN_x4plus_anime_6B': ('v0.2.2.4', 'f872d837', 4_467_779, 4, 1, 'REALESRGAN_X4PLUSANIME_UP4X'),
    'RealESRGAN_x2plus': ('v0.2.1', '49fafd45', 16_703_171, 2, 2, None),
    'realesr-animevideov3': ('v0.2.5.0', 'b8a83768', 621_424, 4, 1, 'REALESRGAN_ANIMAVIDEOV3_UP4X'),
    'realesr-general-x4v3': ('v0.2.5.0', '8dc7edb9', 1_213_296, 4, 1, None)}


def test_the_models_are_those_of_the_releases():
    assert list(MODELS) == list(KNOWN)
    for name, (release, first_digits, parameters, scale, multiple, stem) in KNOWN.items():
        model = MODELS[name]
        with torch.device('meta'):
            state_dict = model.network.build().state_dict()
        assert model.name == name
        assert model.weights.url == f'https://github.com/xinntao/Real-ESRGAN/releases/download/{release}/{name}.pth'
        assert model.weights.sha256.startswith(first_digits)
        assert sum(tensor.numel() for tensor in state_dict.values()) == parameters
        assert (model.network.scale, model.network.multiple) == (scale, multiple)
        assert (model.packaged and model.packaged.stem) == stem
    assert {name: spec.denoise_partner.name for name, spec in MODELS.items() if spec.denoise_partner} == {
        'realesr-general-x4v3': 'realesr-general-wdn-x4v3.pth'}


def test_every_hash_is_64_lower_case_hex_digits_and_stands_once():
    files = [file for spec in MODELS.values() for file in (spec.weights, spec.denoise_partner, spec.packaged) if file]
    hashes = [file.sha256 for file in (*files, *{file for spec in FACE_MODELS.values() for file in spec})]
    assert len(set(hashes)) == len(hashes)
    assert [sha256 for sha256 in hashes if not re.fullmatch('[0-9a-f]{64}', sha256)] == []


@pytest.fixture
def newcomer(monkeypatch, tmp_path):
    """A model of another scale and another size than any, with its weights in weights/."""
    network = SRVGGNetCompactConfig(scale=3, num_feat=12, num_conv=2)
    torch.manual_seed(0)
    (tmp_path / 'weights').mkdir()
    path = tmp_path / 'weights' / 'newcomer-x3.pth'
    torch.save({'params': network.build().state_dict()}, path)
    row = ModelSpec('newcomer-x3', network, WeightFile('https://example.invalid/newcomer-x3.pth',
                                                       hashlib.sha256(path.read_bytes()).hexdigest()))
    monkeypatch.setitem(MODELS, row.name, row)
    return path


def test_a_row_is_all_that_a_new_model_needs(newcomer, run_script, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), picture)
    status, out, err = run_script(inference_realesrgan, '-n', 'newcomer-x3', '-i', 'a.png', '-o', '.', '-s', '3',
                                  '--fp32')
    assert (status, out.split(',')[0]) == (0, '1 done')
    assert f'weights: {newcomer}' in err
    expected = RealESRGANer(3, newcomer, pre_pad=0, device='cpu').enhance(picture)[0]
    assert np.array_equal(cv2.imread(str(tmp_path / 'a_out.png')), expected)
    assert 'newcomer-x3' in run_script(inference_realesrgan, '-n', 'newcomer-x2')[2]


def test_help_names_the_models_and_those_that_take_a_denoise_strength():
    text = ' '.join(inference_realesrgan.build_parser().format_help().split())
    assert f'one of {", ".join(MODELS)} (' in text
    assert f'{", ".join(name for name, spec in MODELS.items() if spec.denoise_partner)} only (' in text
