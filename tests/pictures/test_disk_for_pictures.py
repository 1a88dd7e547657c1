"""Room on the disk for the results of pictures."""
from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import inference_realesrgan
from realesrgan.pictures.inputs import InputFile
from realesrgan.pictures.names import list_jobs
from realesrgan.pictures.reading import estimate_result_size
from realesrgan.upscaling.size import Size, scale_size
from tests.support.clips import save_network


def write(path, shape, dtype=np.uint8):
    cv2.imwrite(str(path), np.zeros(shape, dtype))
    return path


@pytest.mark.parametrize(('name', 'shape', 'dtype', 'ext', 'expected'), [
    ('a.jpg', (100, 200, 3), np.uint8, 'auto', 20_000 * 4 * 1.7 / 8),
    ('a.jpg', (100, 200), np.uint8, 'auto', 20_000 * 4 * 1.7 / 24),
    ('a.jpg', (100, 200, 3), np.uint8, 'png', 20_000 * 4 * 12 / 8),
    ('a.png', (100, 200, 4), np.uint8, 'auto', 20_000 * 4 * 16 / 8),
    ('a.png', (100, 200, 3), np.uint16, 'tiff', 20_000 * 4 * 36 / 8),
    ('a.png', (100, 200), np.uint16, 'auto', 20_000 * 4 * 12 / 8),
    ('a.png', (100, 200, 3), np.uint16, 'webp', 20_000 * 4 * 1.1 / 8),
    ('a.bmp', (100, 200, 3), np.uint8, 'auto', 20_000 * 4 * 24 / 8)])
def test_the_size_of_a_result_is_estimated_by_the_header(tmp_path, name, shape, dtype, ext, expected):
    job, = list_jobs([InputFile(write(tmp_path / name, shape, dtype))], tmp_path, 'out', ext)
    assert estimate_result_size(job, lambda width, height: scale_size(width, height, 2)) == (
        int(expected), 20_000)


def test_no_picture_has_no_estimate(tmp_path):
    (tmp_path / 'a.png').write_bytes(b'no picture')
    jobs = list_jobs([InputFile(tmp_path / 'a.png'), InputFile(tmp_path / 'gone.png')], tmp_path, 'out', 'auto')
    assert [estimate_result_size(job, Size) for job in jobs] == [None, None]


def test_too_little_room_for_a_folder_is_said_before_the_first_picture(run_script, tmp_path, monkeypatch):
    (tmp_path / 'in').mkdir()
    for number in range(120):  # of which some are looked at
        shutil.copy(write(tmp_path / 'a.png', (32, 32, 3)), tmp_path / f'in/{number}.png')
    (tmp_path / 'in/bad.png').write_bytes(b'no picture')
    usage = shutil.disk_usage('.')
    free = [1 << 20]
    monkeypatch.setattr(shutil, 'disk_usage', lambda folder: usage._replace(free=free[0]))
    monkeypatch.setattr('realesrgan.pictures.run._Pictures._upscale_all', lambda *_, **__: None)
    arguments = '--model_path', save_network(tmp_path / 'tiny.pth'), '-s', '4'
    needed = 121 * 512 ** 2 // 16 ** 2 * 12 // 8 * 16
    assert needed >> 20 == 2
    warning = 'warning: about 3 MiB of disk will be needed for 121 results, 1 MiB are free\n'
    for inputs, room, expected in ('in', 1, True), ('in', 3, False), ('a.png', 0, False):
        free[0] = room << 20
        _, _, err = run_script(inference_realesrgan, *arguments, '-i', inputs, '-o', 'out')
        assert (warning in err) == expected, err
    assert not Path('out').exists() or not list(Path('out').iterdir())
