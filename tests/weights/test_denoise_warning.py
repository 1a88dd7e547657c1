"""The scripts say once per run that a denoise strength has no effect, however many workers load the weights."""
from __future__ import annotations

import cv2
import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from tests.support import clips


@pytest.mark.parametrize('arguments', [[], ['--num_process_per_gpu', '2', '--chunk', '1'], ['--dry_run']],
                         ids=['one worker', 'two workers', 'dry run'])
def test_a_video(run_script, tmp_path, arguments):
    clips.make(tmp_path / 'a.mkv', *clips.picture(seconds='0.2'), *clips.EXACT)
    tiny = clips.save_network(tmp_path / 'tiny.pth')
    status, _, err = run_script(inference_realesrgan_video, '-i', 'a.mkv', '--model_path', tiny, '-dn', '0.25',
                                *arguments)
    assert status == 0
    assert err.count('warning: -dn 0.25 has no effect: tiny.pth has no denoise partner') == 1


def test_pictures(run_script, tmp_path):
    for name in 'ab':
        cv2.imwrite(str(tmp_path / f'{name}.png'), np.zeros((4, 4, 3), np.uint8))
    tiny = clips.save_network(tmp_path / 'tiny.pth')
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', 'b.png', '--model_path', tiny, '-dn', '0.25')
    assert status == 0
    assert err.count('has no effect') == 1
