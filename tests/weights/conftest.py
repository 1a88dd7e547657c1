"""Fixtures of the tests of the weights."""
from __future__ import annotations

import hashlib

import pytest

from realesrgan.models import FACE_MODELS, MODELS, WeightFile
from realesrgan.weights import sources
from tests.support.weight_files import TINY, file_of


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """An empty current folder, an empty checkout with a `weights/`, and a folder for users' data that is not there."""
    for folder in ('current', 'project/weights'):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / 'current')
    monkeypatch.setattr(sources, 'PROJECT', tmp_path / 'project')
    monkeypatch.setattr(sources, 'find_user_folder', lambda kind: tmp_path / 'users' / 'realesrgan')
    return tmp_path


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setattr(sources, 'find_package_folder', lambda: None)


@pytest.fixture
def local_releases(http_server, monkeypatch):
    """Every model's files, tiny, on the local server in place of the releases; returns their state dicts by name."""
    state_dicts = {}

    def release(file):
        if file is None:
            return None
        if file.name not in state_dicts:
            http_server.files[f'/{file.name}'], state_dicts[file.name] = file_of(TINY, seed=len(state_dicts))
        content = http_server.files[f'/{file.name}']
        return WeightFile(f'{http_server.url}/{file.name}', hashlib.sha256(content).hexdigest())

    for name, spec in list(MODELS.items()):
        monkeypatch.setitem(MODELS, name, spec._replace(weights=release(spec.weights),
                                                        denoise_partner=release(spec.denoise_partner)))
    for name, files in list(FACE_MODELS.items()):
        monkeypatch.setitem(FACE_MODELS, name, tuple(map(release, files)))
    return state_dicts
