"""Pictures and frames of more pixels than are allowed: told from the header, before anything is decoded."""
from __future__ import annotations

import io
import os
import resource
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.errors import ImageError
from realesrgan.pictures.formats import MOST_PIXELS
from realesrgan.pictures.inputs import InputFile
from realesrgan.pictures.reading import decode
from tests.support import clips
from tests.support.made_pictures import build_png


def save(height, width, extension):
    return cv2.imencode(extension, np.zeros((height, width, 3), np.uint8))[1].tobytes()


def save_tiff(height, width):
    """A TIFF whose header lies about its size."""
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((251, 257), np.uint8), compression='zlib')
    data = file.getvalue()
    for tag, true, told in ((256, 257, width), (257, 251, height)):
        entry = struct.pack('<HHII', tag, 4, 1, true)
        assert entry in data
        data = data.replace(entry, struct.pack('<HHII', tag, 4, 1, told))
    return data


@pytest.mark.parametrize('extension', ['.png', '.jpg', '.webp', '.tiff', '.bmp', '.ppm', '.ras', '.hdr'])
def test_the_bound_is_exact(extension):
    file = save(20, 30, extension)
    assert decode(file, max_pixels=600).pixels.shape[:2] == (20, 30)
    with pytest.raises(ImageError, match='^is 30x20, above the limit of 599 pixels; --max_pixels 600 allows it$'):
        decode(file, max_pixels=599)


@pytest.mark.parametrize('file', [
    build_png(60000, 60000, 8, 2, zlib.compress(bytes(22))),
    b'BM' + bytes(8) + b'\x36\0\0\0\x28\0\0\0' + (60000).to_bytes(4, 'little') * 2 + b'\1\0\x18\0' + bytes(24),
    b'P6\n60000 60000\n255\n', save_tiff(60000, 60000)], ids=['png', 'bmp', 'ppm', 'tiff'])
def test_a_bomb_is_refused_before_it_takes_memory(file):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match='^is 60000x60000, above the limit of 536870912 pixels; '):
        decode(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB; decoded it has 10 GiB


def test_pictures_are_read_that_pillow_warns_of_or_refuses_and_its_own_limit_stays(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    assert decode(save(30, 30, '.png')).pixels.shape == (30, 30, 3)
    assert decode(save(30, 30, '.bmp')).pixels.shape == (30, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_file_larger_than_any_picture_is_not_read(tmp_path):
    with (tmp_path / 'a.png').open('wb') as file:
        file.truncate(1 << 34)
    with pytest.raises(ImageError, match='^is larger than 64 MiB, the limit for a picture of 1000 pixels; '):
        InputFile(tmp_path / 'a.png').read(max_pixels=1000)
    os.mkfifo(tmp_path / 'pipe')
    threading.Thread(target=lambda: (tmp_path / 'pipe').write_bytes(bytes(3 << 20))).start()
    assert InputFile(tmp_path / 'pipe').read() == bytes(3 << 20)
    (tmp_path / 'b.png').write_bytes(save(20, 30, '.png'))
    assert InputFile(tmp_path / 'b.png').read(max_pixels=10 ** 20) == (tmp_path / 'b.png').read_bytes()
    assert InputFile(tmp_path / 'b.png').read(max_pixels=600) == (tmp_path / 'b.png').read_bytes()


def test_both_scripts(run_script, tmp_path):
    (tmp_path / 'in').mkdir()
    (tmp_path / 'in/large.png').write_bytes(save(20, 30, '.png'))
    (tmp_path / 'in/small.png').write_bytes(save(8, 8, '.png'))
    fast = '-n', 'realesr-animevideov3', '-s', '2', '--max_pixels', '599'
    status, _, err = run_script(inference_realesrgan, '-i', 'in', *fast)
    assert status == 1
    assert 'error: in/large.png: is 30x20, above the limit of 599 pixels; --max_pixels 600' in err
    assert clips.files(tmp_path / 'results') == ['small_out.png']
    clips.make(tmp_path / 'a.mkv', *clips.picture('30x20'), *clips.EXACT)
    status, _, err = run_script(inference_realesrgan_video, '-i', 'a.mkv', *fast)
    assert (status, err.splitlines()[-1]) == (
        1, 'error: a.mkv: is 30x20, above the limit of 599 pixels; --max_pixels 600 allows it')
    (tmp_path / 'frames').mkdir()
    for name in '12':
        (tmp_path / f'frames/{name}.png').write_bytes(save(20, 30, '.png'))
    status, _, err = run_script(inference_realesrgan_video, '-i', 'frames', *fast)
    assert status == 1
    assert 'frames/1.png: is 30x20, above the limit of 599 pixels' in err
    assert run_script(inference_realesrgan_video, '-i', 'a.mkv', *fast[:-1], '600')[0] == 0


def test_the_default_is_generous():
    assert MOST_PIXELS >= 23170 ** 2
