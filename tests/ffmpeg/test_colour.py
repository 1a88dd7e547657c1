"""Colour tags and pixel formats: what they mean, and which ones a result gets."""
import logging

import pytest

from realesrgan.ffmpeg.colour import (
    Colour,
    PixelFormat,
    choose_pixel_format,
    find_size_multiples,
    infer_colour,
    is_deep,
    is_rgb,
    parse_pixel_format,
)

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
    ('x2rgb10le', '444', 10), ('nobodyknows', '420', 8)])
def test_parse_pixel_format(name, chroma, bits):
    assert parse_pixel_format(name) == PixelFormat(chroma, bits)


@pytest.mark.parametrize(('wanted', 'supported', 'expected'), [
    (('420', 10), '', 'yuv420p10le'), (('420', 10), 'yuv420p yuv420p10le', 'yuv420p10le'),
    (('422', 12), 'yuv420p yuv422p yuv422p10le', 'yuv422p10le'), (('422', 10), 'yuv420p', 'yuv420p'),
    (('gray', 8), 'yuv444p yuv420p', 'yuv420p'), (('444', 8), 'bgr0 rgb24', 'bgr0')])
def test_choose_pixel_format(wanted, supported, expected):
    assert choose_pixel_format(PixelFormat(*wanted), supported.split()) == expected


@pytest.mark.parametrize(('name', 'expected'), [('yuv420p10le', (2, 2)), ('yuv422p', (2, 1)), ('yuv444p', (1, 1)),
                                                ('gbrp', (1, 1)), ('gray', (1, 1)), ('nv12', (2, 2)),
                                                ('bgr0', (1, 1)), ('uyvy422', (2, 1))])
def test_sizes_that_a_format_can_hold(name, expected):
    assert find_size_multiples(name) == expected


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


def test_tags():
    assert HD.build_setparams() == {
        'range': 'tv', 'colorspace': 'bt709', 'color_primaries': 'bt709', 'color_trc': 'bt709'}
    tags = {'color_range': 'tv', 'colorspace': 'bt709', 'color_primaries': 'bt709', 'color_trc': 'bt709'}
    assert HD.build_stream_tags('yuv444p') == tags
    assert HD.build_stream_tags('yuv420p') == {**tags, 'chroma_sample_location': 'left'}
    rgb = HD.retag_as_rgb()
    assert rgb == Colour('pc', 'gbr', 'bt709', 'bt709')
    assert (rgb.build_setparams()['colorspace'], rgb.build_stream_tags('gbrp')['colorspace']) == ('gbr', 'rgb')


@pytest.mark.parametrize(('name', 'rgb', 'deep'), [
    ('yuv420p', False, False), ('yuv420p10le', False, True), ('gbrp', True, False), ('gbrp12le', True, True),
    ('bgr0', True, False), ('0rgb', True, False), ('pal8', True, False), ('gray', False, False),
    ('gray10le', False, True), ('p010le', False, True), ('x2rgb10le', True, True)])
def test_kinds_of_pixel_formats(name, rgb, deep):
    assert (is_rgb(name), is_deep(name)) == (rgb, deep)


@pytest.mark.parametrize(('pixel_format', 'expected'), [
    (PixelFormat('420', 8), 'yuv420p'), (PixelFormat('422', 10), 'yuv422p10le'), (PixelFormat('gray', 8), 'gray'),
    (PixelFormat('gray', 12), 'gray12le')])
def test_names_of_planar_formats(pixel_format, expected):
    assert pixel_format.name == expected
