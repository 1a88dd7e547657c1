"""Both scripts on a Vulkan device; skipped where there is none, not even a software device."""
from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.engines.devices import explain_absence
from tests.support import clips

PROJECT = Path(__file__).parent.parent
TINY = PROJECT / 'tests' / 'data' / 'golden' / 'srvgg_x4.pth'


@pytest.fixture(autouse=True)
def vulkan_device():
    absence = explain_absence('vulkan')
    if absence:
        pytest.skip(absence)


def largest_difference(one, other):
    return np.abs(one.astype(int) - other).max()


def test_a_folder(succeed, tmp_path):
    pictures = [cv2.imread(str(PROJECT / 'inputs' / 'astronaut.jpg'))[y:y + 40, y:y + 51] for y in (60, 90, 120)]
    (tmp_path / 'in').mkdir()
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(tmp_path / 'in' / f'{index}.png'), picture)
    for engine, folder, more in (('vulkan', 'whole', []), ('vulkan', 'tiled', ['--max_memory', '0.1']),
                                 ('torch', 'expected', [])):
        assert f'engine: {engine}' in succeed(inference_realesrgan, '-i', 'in', '-o', folder, '--engine', engine,
                                              '--fp32', '--model_path', TINY, *more)
    for index in range(3):
        whole, tiled, expected = (cv2.imread(str(tmp_path / folder / f'{index}_out.png'))
                                  for folder in ('whole', 'tiled', 'expected'))
        assert expected.shape == (160, 204, 3)
        assert max(largest_difference(whole, expected), largest_difference(tiled, expected)) <= 1


def test_a_clip(succeed, tmp_path):
    source = clips.make(tmp_path / 'a.mkv', *clips.picture('32x24', seconds='2'), *clips.EXACT)
    results = []
    for engine in ('vulkan', 'torch'):
        succeed(inference_realesrgan_video, '-i', source, '-o', engine, '--engine', engine, '--fp32', '--model_path',
                TINY, '--ext', 'mkv', '--vcodec', 'ffv1')
        results.append(clips.frames(tmp_path / engine / 'a_out.mkv'))
    assert results[0].shape == results[1].shape
    assert len(results[0]) == 48
    assert largest_difference(*results) <= 2  # of a level each in R, G and B, once more converted


@pytest.mark.parametrize('script', [inference_realesrgan, inference_realesrgan_video])
def test_devices_are_listed_and_a_wrong_number_shows_them(run_script, tmp_path, script):
    status, table, _ = run_script(script, '--list_devices')
    assert status == 0
    assert table.startswith('ENGINE')
    assert 'vulkan:0: ' in table
    clips.make(tmp_path / 'a.mkv', *clips.picture('16x16', seconds='0.1'), *clips.EXACT)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    source = 'a.mkv' if script is inference_realesrgan_video else 'a.png'
    for numbers in (['99'], ['0', '99']):
        status, _, err = run_script(script, '-i', source, '--model_path', TINY, '--engine', 'vulkan', '-g', *numbers)
        assert status == 1
        *_, error, heading = err[:err.index('PRECISIONS')].splitlines()
        assert error == 'error: there is no GPU 99; available: 0 (vulkan:0)'
        assert heading.startswith('ENGINE')
        assert err.count('error: ') == 1
