"""HDR metadata: read off a video, and handed to the encoders that take it."""
from __future__ import annotations

from fractions import Fraction

import pytest

from realesrgan.ffmpeg.hdr import HdrMetadata, build_hdr_options, read_hdr
from realesrgan.ffmpeg.probe import probe
from tests.support import clips

DISPLAY = 'G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)'
PQ = ('-pix_fmt', 'yuv420p10le', '-color_trc', 'smpte2084', '-color_primaries', 'bt2020', '-colorspace', 'bt2020nc')
SIDE_DATA = [
    {'side_data_type': 'Mastering display metadata', 'red_x': '34000/50000', 'red_y': '16000/50000',
     'green_x': '13250/50000', 'green_y': '34500/50000', 'blue_x': '7500/50000', 'blue_y': '3000/50000',
     'white_point_x': '15635/50000', 'white_point_y': '16450/50000', 'min_luminance': '50/10000',
     'max_luminance': '10000000/10000'},
    {'side_data_type': 'Content light level metadata', 'max_content': 1000, 'max_average': 400}]
HDR = HdrMetadata.parse(SIDE_DATA)


@pytest.fixture
def hdr_clip(tmp_path):
    return clips.make(tmp_path / 'a.mkv', *clips.picture(seconds='0.5'), *PQ, '-c:v', 'libx265', '-x265-params',
                      f'log-level=none:master-display={DISPLAY}:max-cll=1000,400')


def test_it_is_read_off_the_first_frame(programs, hdr_clip, tmp_path):
    hdr = read_hdr(programs, probe(programs, str(hdr_clip)))
    assert hdr == HDR
    assert hdr.light == (1000, 400)
    assert hdr.luminance == (1000, Fraction(1, 200))
    assert hdr.points[2] == ('R', Fraction(17, 25), Fraction(8, 25))
    for name, options in (('sdr', ()), ('plain', PQ)):
        clip = clips.make(tmp_path / f'{name}.mkv', *clips.picture(), *options, '-c:v', 'libx265', '-x265-params',
                          'log-level=none')
        assert read_hdr(programs, probe(programs, str(clip))) is None


def test_each_encoder_gets_it_in_its_own_words():
    assert build_hdr_options('libx265', HDR) == {'x265-params': f'master-display={DISPLAY}:max-cll=1000,400'}
    assert build_hdr_options('libx264', HDR) == {'x264-params': f'mastering-display={DISPLAY}:cll=1000,400'}
    assert build_hdr_options('libsvtav1', HDR) == {
        'svtav1-params': 'mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.005):'
                         'content-light=1000,400'}
    assert build_hdr_options('libx265', HdrMetadata(light=(1, 2))) == {'x265-params': 'max-cll=1,2'}
    assert build_hdr_options('ffv1', HDR) == build_hdr_options('libx265', None) == {}


def test_the_container_may_hold_it_and_one_half_may_be_of_no_use():
    junk = SIDE_DATA[0] | {'red_x': '34000'}
    assert HdrMetadata.parse([junk, SIDE_DATA[1]]) == HdrMetadata(light=(1000, 400))
    assert HdrMetadata.parse([SIDE_DATA[0], SIDE_DATA[1] | {'max_content': -1}]).light == ()


@pytest.mark.parametrize('broken', [
    [], [{'side_data_type': 'Mastering display metadata'}], [{'side_data_type': 'Something', 'max_content': 1}],
    [SIDE_DATA[0] | {'red_x': '1/0'}], [SIDE_DATA[0] | {'red_x': 'red'}], [SIDE_DATA[0] | {'red_x': None}],
    [SIDE_DATA[1] | {'max_content': 'much'}], [{}]])
def test_what_is_not_whole_is_left_out(broken):
    assert HdrMetadata.parse(broken) is None
