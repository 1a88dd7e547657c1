"""Networks from weights: built, interpolated, with their denoise partners, from paths, URLs and releases."""
from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from realesrgan.archs.architecture import NetworkConfig
from realesrgan.archs.registry import ENTRY_POINTS
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.errors import DownloadError, WeightsError
from realesrgan.models import MODELS
from realesrgan.weights.loading import build_network, interpolate, load_model
from tests.support.weight_files import (
    TINY,
    arrays_of,
    assert_equal,
    file_of,
    save,
    state_dict_of,
)

GENERAL = MODELS['realesr-general-x4v3']


# ---- networks ----

@pytest.mark.parametrize('shape', [TINY, RRDBNetConfig(2, 4, 2, 2)])
def test_network_is_built_frozen_in_eval_mode_with_these_values(shape):
    state_dict = state_dict_of(shape)
    network = build_network(arrays_of(state_dict), 'net.pth').module
    assert_equal(network.state_dict(), state_dict)
    assert not network.training
    assert [parameter for parameter in network.parameters() if parameter.requires_grad] == []


@pytest.mark.parametrize(('shape', 'changes', 'message'), [
    (TINY, {'extra': np.zeros(1)}, 'SRVGGNetCompact .*: unexpected: extra'),
    (TINY, {'body.2.bias': None}, r'SRVGGNetCompact .*: missing: body\.2\.bias'),
    (TINY, {'body.2.bias': np.zeros(5)}, r'SRVGGNetCompact .*: of another size: body\.2\.bias \(5, not 4\)'),
    (TINY, {'body.2.bias': np.zeros(())}, r'SRVGGNetCompact .*: of another size: body\.2\.bias \(a number, not 4\)'),
    (TINY, {'body.2.bias': None, **dict.fromkeys('abcd', np.zeros(1))},
     r'SRVGGNetCompact .*: missing: body\.2\.bias; unexpected: a, b, c \.\.\.'),
    (RRDBNetConfig(4, 4, 1, 2), {'conv_hr.weight': None}, r'RRDBNet .*: missing: conv_hr\.weight'),
    (RRDBNetConfig(4, 4, 2, 2), {'body.0.rdb2.conv3.bias': None}, r'RRDBNet .*: missing: body\.0\.rdb2\.conv3\.bias'),
], ids=['more', 'fewer', 'other size', 'a number', 'many', 'no conv_hr', 'hole in a block'])
def test_state_dict_must_fit_exactly(shape, changes, message):
    changed = {**arrays_of(state_dict_of(shape)), **changes}
    with pytest.raises(WeightsError, match=rf'^net\.pth: it does not fit {message}; nor can spandrel') as caught:
        build_network({name: array for name, array in changed.items() if array is not None}, 'net.pth')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('share', [0.1, 0.3, 1 / 3, 0.5, 0.7])
def test_interpolated_values_are_those_of_pytorch_to_the_last_bit(share):
    first, second = (torch.randn(10000, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    number = torch.tensor(0.1)
    result = interpolate({'w': first.numpy(), 'n': number.numpy()}, {'w': second.numpy(), 'n': number.numpy()},
                         (share, 1 - share))
    assert {array.dtype for array in result.values()} == {np.dtype(np.float32)}
    assert np.array_equal(result['w'], (share * first + (1 - share) * second).numpy())
    assert np.array_equal(result['n'], (share * number + (1 - share) * number).numpy())


@pytest.mark.parametrize('other', [{'w': np.zeros(3)}, {'v': np.zeros(2)}, {}], ids=['shape', 'name', 'none'])
def test_interpolation_of_different_networks_is_refused(other):
    with pytest.raises(WeightsError, match='of different networks'):
        interpolate({'w': np.zeros(2)}, other, (0.5, 0.5))


# ---- architectures of other packages ----

@dataclass(frozen=True)
class OtherConfig(NetworkConfig):
    """Has parameters of names that RRDBNet had once."""

    scale: int = 1

    architecture = 'Other'
    first_parameter = 'model.0.weight'

    @classmethod
    def from_shapes(cls, shapes):
        return cls(shapes['model.0.weight'][0] // 3)

    def build(self):
        return nn.ModuleDict({'model': nn.Sequential(nn.Conv2d(3, 3, 3))})


class FailingConfig(OtherConfig):
    @classmethod
    def from_shapes(cls, shapes):
        return shapes.scale


OTHER = {'model.0.weight': np.zeros((3, 3, 3, 3), np.float32), 'model.0.bias': np.zeros(3, np.float32)}


@pytest.fixture
def install(monkeypatch):
    """Make a package name a config; None makes none, and fails if that is looked at."""
    def install(config):
        def entry_points(group):
            assert group == ENTRY_POINTS
            assert config is not None
            return [EntryPoint('missing', 'missing_package:Config', group),
                    SimpleNamespace(value=f'other_package:{config.__name__}', load=lambda: config)]
        monkeypatch.setattr('importlib.metadata.entry_points', entry_points)
    return install


def test_a_network_of_another_package_has_the_names_of_its_file(install, caplog):
    install(OtherConfig)
    network = build_network(OTHER, 'net.pth')
    assert network.config == OtherConfig()
    assert network.arrays == OTHER
    assert caplog.messages == ["the architecture missing_package:Config is left out: ModuleNotFoundError: No module "
                               "named 'missing_package'"]


@pytest.mark.parametrize(('config', 'weights', 'reasons', 'warnings'), [
    (OtherConfig, {'model.0.weight': OTHER['model.0.weight']}, [
        "it looks like RRDBNet but is not one: 'conv_last.weight'",
        'it does not fit Other as its first layer has it: missing: model.0.bias'], []),
    (FailingConfig, OTHER, ["it looks like RRDBNet but is not one: 'conv_last.weight'"],
     ["the architecture other_package:FailingConfig is left out: AttributeError: 'dict' object has no attribute "
      "'scale'"]),
    (OtherConfig, {'x': np.zeros(1)}, ['it is none of RRDBNet (conv_first.weight), SRVGGNetCompact (body.0.weight); it '
                                       'holds x ...'], []),
], ids=['other sizes', 'failing', 'nothing alike'])
def test_why_weights_are_of_no_architecture(install, caplog, config, weights, reasons, warnings):
    install(config)
    with pytest.raises(WeightsError) as caught:
        build_network(weights, 'net.pth')
    assert str(caught.value).startswith(f'net.pth: {"; ".join(reasons)}; nor can spandrel ')
    assert caplog.messages[1:] == warnings


def test_weights_of_a_built_in_architecture_need_no_other_packages(install):
    install(None)
    for shape in (TINY, RRDBNetConfig(2, 4, 2, 2)):
        assert build_network(arrays_of(state_dict_of(shape)), 'net.pth').config == shape


# ---- load_model with a path ----

def test_model_path_brings_its_own_network(caplog):
    path = save(Path('mine', 'net.pth'), {'params': state_dict_of(TINY)})
    with caplog.at_level(logging.INFO, logger='realesrgan'):
        network = load_model('RealESRGAN_x4plus', str(path))
    assert_equal(network.state_dict(), state_dict_of(TINY))
    assert [record.getMessage() for record in caplog.records] == [f'weights: {path}']


def denoise_pair(folder, name, partner_name):
    """Save two networks and return their state dicts."""
    pair = state_dict_of(TINY, seed=1), state_dict_of(TINY, seed=2)
    save(folder / name, {'params': pair[0]})
    if partner_name:
        save(folder / partner_name, {'params': pair[1]})
    return pair


@pytest.mark.parametrize(('strength', 'share'), [(None, 0.5), (0.5, 0.5), (0.25, 0.25), (0, 0), (1, 1)])
@pytest.mark.parametrize('file_name', ['realesr-general-x4v3.pth', 'renamed.pth'])
def test_partner_beside_the_model_path_is_mixed_in(caplog, strength, share, file_name):
    main_dict, partner_dict = denoise_pair(Path('mine'), file_name, 'realesr-general-wdn-x4v3.pth')
    with caplog.at_level(logging.INFO, logger='realesrgan'):
        network = load_model('realesr-general-x4v3', f'mine/{file_name}', strength)
    main, partner = Path('mine', file_name), Path('mine', 'realesr-general-wdn-x4v3.pth')
    assert caplog.messages == [f'weights: {main}{f" x {share:g} + {partner} x {1 - share:g}" if share < 1 else ""}']
    expected = {name: share * tensor + (1 - share) * partner_dict[name] for name, tensor in main_dict.items()}
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-7)


@pytest.mark.parametrize('strength', [None, 0.5, 0])
@pytest.mark.parametrize('file_name', ['realesr-general-x4v3.pth', 'renamed.pth'])
def test_missing_partner_is_named_with_the_way_out(strength, file_name):
    denoise_pair(Path('mine'), file_name, None)
    missing, main_name = re.escape(str(Path('mine', 'realesr-general-wdn-x4v3.pth'))), re.escape(file_name)
    with pytest.raises(WeightsError, match=f'^{missing}: missing; .* -dn 1 to use {main_name} alone') as caught:
        load_model('realesr-general-x4v3', f'mine/{file_name}', strength)
    assert GENERAL.denoise_partner.url in str(caught.value)


@pytest.mark.parametrize('file_name', ['realesr-general-x4v3.pth', 'renamed.pth'])
def test_denoise_strength_1_needs_no_partner(file_name, caplog):
    main_dict, _ = denoise_pair(Path('mine'), file_name, None)
    assert_equal(load_model('realesr-general-x4v3', f'mine/{file_name}', 1).state_dict(), main_dict)
    assert caplog.records == []


@pytest.mark.parametrize('strength', [0, 0.5, 1])
def test_denoise_strength_without_a_partner_is_a_warning(strength, caplog):
    save(Path('net.pth'), state_dict_of(TINY))
    network = load_model('RealESRGAN_x4plus', 'net.pth', strength)
    assert_equal(network.state_dict(), state_dict_of(TINY))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ('realesrgan.weights.sources', 'WARNING')
    assert re.search(rf'-dn {strength:g} has no effect: net\.pth has no denoise partner', record.getMessage())


# ---- load_model with a URL, or nothing ----

def test_url_as_model_path_is_downloaded_once(folders, http_server):
    http_server.files['/v1/mine.pth?download=1'], state_dict = file_of(TINY)
    url = f'{http_server.url}/v1/mine.pth?download=1'
    for _ in range(2):
        assert_equal(load_model('RealESRGAN_x4plus', url).state_dict(), state_dict)
    assert [path.name for path in (folders / 'project' / 'weights').iterdir()] == [
        hashlib.sha256(url.encode()).hexdigest()[:12] + '-mine.pth']
    assert len(http_server.seen) == 1


@pytest.mark.parametrize('path', ['', '/', '/v1/'])
def test_url_without_a_file_name_is_refused_and_leaves_nothing(folders, http_server, path):
    http_server.files['/'] = http_server.files['/v1/'] = b'<html>an index</html>'
    (folders / 'project' / 'weights').rmdir()  # downloads go to `weights` of the current folder, to be made
    with pytest.raises((WeightsError, DownloadError), match=re.escape(f'{http_server.url}{path}')):
        load_model(model_path=f'{http_server.url}{path}')
    assert not Path('weights').is_file()
    assert list(Path('weights').glob('*')) == []
