"""Crops that containers ask for: read from files of Matroska and MP4, and from ffprobe."""
import json
import logging
from fractions import Fraction

import pytest

from realesrgan.ffmpeg.cropping import read_crop
from realesrgan.ffmpeg.probe import parse_probe, probe
from tests.support import clips
from tests.support.clips import EXACT, make, picture


def element(identifier, *content):
    """An EBML element of numbers and other elements."""
    data = b''.join(part if isinstance(part, bytes) else part.to_bytes(2) for part in content)
    return bytes.fromhex(identifier) + (0x4000 | len(data)).to_bytes(2) + data


def matroska(*videos, segment_size=None):
    """A Matroska file of an audio track and video tracks."""
    tracks = [element('ae', element('83', 2)), *(element('ae', element('83', 1), element('e0', *video))
                                                 for video in videos)]
    segment = element('18538067', element('1549a966', element('2ad7b1', 1)), element('1654ae6b', *tracks))
    if segment_size is not None:
        segment = segment[:4] + segment_size + segment[6:]
    return element('1a45dfa3', element('4286', 1)) + segment


SIZE = element('b0', 640), element('ba', 480)
CROP = *SIZE, element('54cc', 10), element('54bb', 20), element('54dd', 30), element('54aa', 60)


@pytest.mark.parametrize(('data', 'number', 'expected'), [
    (matroska(CROP), 0, ((10, 20, 30, 60), Fraction(1))),
    (matroska((*CROP, element('54b0', 600), element('54ba', 200))), 0, ((10, 20, 30, 60), Fraction(2))),
    (matroska(SIZE, CROP), 1, ((10, 20, 30, 60), Fraction(1))), (matroska(SIZE, CROP), 0, None),
    (matroska(CROP, segment_size=b'\xff'), 0, ((10, 20, 30, 60), Fraction(1))),
    (matroska(CROP), 1, None), (matroska(CROP)[:-30], 0, None), (b'', 0, None), (bytes(100), 0, None),
    (element('1a45dfa3') + element('18538067', element('1f43b675')), 0, None)])
def test_matroska(tmp_path, data, number, expected):
    (tmp_path / 'a.mkv').write_bytes(data)
    assert read_crop(tmp_path / 'a.mkv', 'matroska,webm', number) == expected


@pytest.mark.parametrize('data', [
    b'', bytes(7), b'\0\0\0\4moov', b'\0\0\0\1moov' + bytes(7), b'\0\0\0\1moov' + bytes(8), b'\0\0\0\0moov',
    b'\0\0\0\20moov\0\0\0\10trak', b'\0\0\0\30moov\0\0\0\20trak\0\0\0\10mdia'])
def test_mp4_that_makes_no_sense(tmp_path, data):
    (tmp_path / 'a.mp4').write_bytes(data)
    assert read_crop(tmp_path / 'a.mp4', 'mov,mp4,m4a,3gp,3g2,mj2', 0) is None


def test_ordinary_files_say_nothing(tmp_path):
    for extension in ('mp4', 'mkv', 'avi'):
        path = make(tmp_path / f'a.{extension}', *picture(seconds='0.1'), *EXACT)
        info = probe(clips.FFMPEG, str(path))
        assert read_crop(path, info.format_name, 0) is None
        assert (info.video.crop, info.video.decoded_size) == ((0, 0, 0, 0), (64, 48))
    assert read_crop(tmp_path / 'gone.mp4', 'mov', 0) is None


@pytest.mark.parametrize(('crop', 'size', 'cropped', 'ignored'), [
    ((1, 2, 3, 4), (60, 42), (1, 2, 3, 4), False), ((32, 0, 32, 0), (64, 48), (0, 0, 0, 0), True),
    ((-1, 0, 2, 0), (64, 48), (0, 0, 0, 0), True)])
def test_what_ffprobe_says(caplog, crop, size, cropped, ignored):
    names = 'crop_left', 'crop_top', 'crop_right', 'crop_bottom'
    stream = {'index': 0, 'codec_type': 'video', 'codec_name': 'h264', 'width': 64, 'height': 48, 'pix_fmt': 'yuv420p',
              'side_data_list': [{'side_data_type': 'Frame Cropping', **dict(zip(names, crop, strict=True))}]}
    with caplog.at_level(logging.WARNING, 'realesrgan'):
        found = parse_probe('a.mkv', json.dumps({'streams': [stream], 'format': {}}).encode()).video
    assert ((found.width, found.height), found.crop, found.decoded_size) == (size, cropped, (64, 48))
    assert ('which is ignored' in caplog.text) == ignored
