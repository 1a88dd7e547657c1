"""Colour tags, pixel formats and HDR metadata: what they mean, and which ones a result gets."""
import logging
from fractions import Fraction

import pytest

from realesrgan.ffmpeg.colour import (
    Colour,
    HdrMetadata,
    PixelFormat,
    choose_pixel_format,
    find_size_multiples,
    infer_colour,
    is_deep,
    is_rgb,
    parse_pixel_format,
)
from realesrgan.ffmpeg.probe import probe, read_hdr
from tests.support import clips

HD = Colour('tv', 'bt709', 'bt709', 'bt709')


@pytest.mark.parametrize(('height', 'tags', 'expected'), [
    (480, {}, ('tv', 'smpte170m', 'smpte170m', 'smpte170m')), (576, {}, ('tv', 'bt470bg', 'bt470bg', 'bt709')),
    (719, {}, ('tv', 'smpte170m', 'smpte170m', 'smpte170m')), (720, {}, ('tv', 'bt709', 'bt709', 'bt709')),
    (480, {'color_space': 'bt709'}, ('tv', 'bt709', 'bt709', 'bt709')),
    (1080, {'color_primaries': 'bt2020'}, ('tv', 'bt2020nc', 'bt2020', 'bt2020-10')),
    (1080, {'color_space': 'unknown', 'color_range': 'pc'}, ('pc', 'bt709', 'bt709', 'bt709')),
    (480, {'color_transfer': 'iec61966-2-1'}, ('tv', 'smpte170m', 'smpte170m', 'iec61966-2-1'))])
def test_colour_is_completed_with_what_players_assume(height, tags, expected):
    assert infer_colour(height, tags) == Colour(*expected)


@pytest.mark.parametrize(('name', 'chroma', 'bits'), [
    ('yuv420p', '420', 8), ('yuvj422p', '422', 8), ('yuva444p12le', '444', 12), ('yuv411p', '422', 8),
    ('yuv440p10le', '444', 10), ('nv12', '420', 8), ('nv16', '422', 8), ('p010le', '420', 10), ('p416le', '444', 16),
    ('rgb24', '444', 8), ('gbrp10le', '444', 10), ('rgb48be', '444', 16), ('pal8', '444', 8), ('gray', 'gray', 8),
    ('gray10le', 'gray', 10), ('yuyv422', '422', 8), ('y210le', '422', 10), ('bgra', '444', 8), ('bgra64le', '444', 16),
    ('x2rgb10le', '444', 10), ('bgr0', '444', 8), ('0rgb', '444', 8), ('gbrp12le', '444', 12), ('uyvy422', '422', 8),
    ('nobodyknows', '420', 8)])
def test_pixel_formats(name, chroma, bits):
    assert parse_pixel_format(name) == PixelFormat(chroma, bits)
    assert is_deep(name) == (bits > 8)
    assert is_rgb(name) == (name in ('rgb24', 'gbrp10le', 'rgb48be', 'pal8', 'bgra', 'bgra64le', 'x2rgb10le', 'bgr0',
                                     '0rgb', 'gbrp12le'))
    assert find_size_multiples(name) == {'420': (2, 2), '422': (2, 1)}.get(chroma, (1, 1))


@pytest.mark.parametrize(('wanted', 'supported', 'expected'), [
    (('420', 10), '', 'yuv420p10le'), (('420', 10), 'yuv420p yuv420p10le', 'yuv420p10le'),
    (('422', 12), 'yuv420p yuv422p yuv422p10le', 'yuv422p10le'), (('422', 10), 'yuv420p', 'yuv420p'),
    (('gray', 8), 'yuv444p yuv420p', 'yuv420p'), (('444', 8), 'bgr0 rgb24', 'bgr0')])
def test_choose_pixel_format(wanted, supported, expected):
    assert choose_pixel_format(PixelFormat(*wanted), supported.split()) == expected


@pytest.mark.parametrize(('pixel_format', 'expected'), [('yuv420p', 'tv'), ('yuvj420p', 'pc'), ('gbrp', 'pc')])
def test_pixel_formats_of_full_range(pixel_format, expected):
    assert infer_colour(1080, {'chroma_location': 'left'}, pixel_format) == Colour(expected, 'bt709', 'bt709', 'bt709')


def test_a_matrix_that_ffmpeg_can_not_scale_is_replaced_both_ways(caplog):
    with caplog.at_level(logging.WARNING, 'realesrgan'):
        colour = infer_colour(1080, {'color_space': 'ycgco'})
    assert colour == Colour('tv', 'ycgco', 'bt709', 'bt709')
    assert caplog.messages == [
        "ffmpeg's scale filter does not know the colour matrix ycgco; BT.709 is used both ways"]
    assert colour.build_rgb_scale('yuv420p')['in_color_matrix'] == 'bt709'
    assert colour.build_yuv_scale('yuv420p')['out_color_matrix'] == 'bt709'


@pytest.mark.parametrize(('tags', 'pixel_format', 'expected'), [
    ({}, 'yuv420p', 'left'), ({'chroma_location': 'unspecified'}, 'yuvj420p', 'center'),
    ({'chroma_location': 'topleft'}, 'yuv420p10le', 'topleft'), ({'chroma_location': 'center'}, 'yuv420p', 'center')])
def test_where_chroma_lies(tags, pixel_format, expected):
    assert infer_colour(1080, tags, pixel_format).chroma_location == expected


@pytest.mark.parametrize(('location', 'pixel_format', 'expected'), [
    ('left', 'yuv420p', (0, 128)), ('center', 'nv12', (128, 128)), ('topleft', 'yuv420p10le', (0, 0)),
    ('left', 'yuv422p', (0, None)), ('left', 'yuv411p', (0, None)), ('left', 'yuv444p', (None, None)),
    ('left', 'bgr24', (None, None)), ('left', 'yuv410p', (None, None))])
def test_filters_between_yuv_and_rgb(location, pixel_format, expected):
    flags = 'bicubic+accurate_rnd+full_chroma_int'
    pal = Colour('tv', 'bt470bg', 'bt470bg', 'bt709', location)
    places = {f'%s_{axis}_chr_pos': place for axis, place in zip('hv', expected, strict=True) if place is not None}
    assert pal.build_rgb_scale(pixel_format) == {
        'in_color_matrix': 'bt470', 'in_range': 'tv', 'out_range': 'pc', 'flags': flags,
        **{name % 'in': place for name, place in places.items()}}
    assert pal.build_yuv_scale(pixel_format) == {
        'in_range': 'pc', 'out_color_matrix': 'bt470', 'out_range': 'tv', 'flags': f'{flags}+full_chroma_inp',
        **{name % 'out': place for name, place in places.items()}}


# ---- HDR ----

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
    assert hdr.display[4:6] == (Fraction(17, 25), Fraction(8, 25))  # red
    assert hdr.display[8:] == (1000, Fraction(1, 200))
    for name, options in (('sdr', ()), ('plain', PQ)):
        clip = clips.make(tmp_path / f'{name}.mkv', *clips.picture(), *options, '-c:v', 'libx265', '-x265-params',
                          'log-level=none')
        assert read_hdr(programs, probe(programs, str(clip))) is None


def test_each_encoder_gets_it_in_its_own_words():
    assert HDR.build_options('libx265') == {'x265-params': f'master-display={DISPLAY}:max-cll=1000,400'}
    assert HDR.build_options('libx264') == {'x264-params': f'mastering-display={DISPLAY}:cll=1000,400'}
    assert HDR.build_options('libsvtav1') == {
        'svtav1-params': 'mastering-display=G(0.265,0.69)B(0.15,0.06)R(0.68,0.32)WP(0.3127,0.329)L(1000,0.005):'
                         'content-light=1000,400'}
    assert HdrMetadata(light=(1, 2)).build_options('libx265') == {'x265-params': 'max-cll=1,2'}
    assert HDR.build_options('ffv1') == {}


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
