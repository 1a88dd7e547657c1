"""Reading and writing pictures: pixel values, depth, alpha, orientation, metadata, and files that are no good."""
from __future__ import annotations

import io
import logging
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms

from realesrgan.errors import ImageError
from realesrgan.pictures.codecs import Metadata, Picture, decode, encode, holds_alpha, is_picture

EXIF_IFD, GPS_IFD, ORIENTATION = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.Base.Orientation
MAKE, DESCRIPTION = ExifTags.Base.Make, ExifTags.Base.ImageDescription
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>{}</a></x:xmpmeta>'


@pytest.fixture
def logged(caplog, monkeypatch):
    """The log of the package, whatever the scripts' own logging did to it."""
    monkeypatch.setattr(logging.getLogger('realesrgan'), 'propagate', True)
    caplog.set_level(logging.INFO, 'realesrgan')
    return caplog


def noise(*shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def blocks(height=48, width=64, channels=3):
    """Plain squares of 16 pixels, which JPEG keeps almost exactly."""
    return np.kron(noise(height // 16, width // 16, channels), np.ones((16, 16, 1), np.uint8))


def rgb(pixels):
    """Swap red and blue."""
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][:pixels.shape[2]]]
    return np.ascontiguousarray(pixels)


def saved(image, kind, **options):
    """Write a Pillow image, or BGR pixels, with Pillow."""
    file = io.BytesIO()
    (Image.fromarray(rgb(image)) if isinstance(image, np.ndarray) else image).save(file, kind, **options)
    return file.getvalue()


def tiff(samples, **options):
    """Write samples in the order of the file with tifffile."""
    if samples.ndim == 3:
        options = {'photometric': 'rgb'} | options
    if samples.ndim == 3 and samples.shape[2] == 4:
        options = {'extrasamples': ['unassalpha']} | options
    file = io.BytesIO()
    tifffile.imwrite(file, samples, metadata=None, software=False, **options)
    return file.getvalue()


def by_opencv(pixels, extension, *settings):
    done, buffer = cv2.imencode(f'.{extension}', pixels, settings)
    assert done
    return buffer.tobytes()


def read_by_opencv(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def read_by_pillow(data, mode):
    return rgb(np.array(Image.open(io.BytesIO(data)).convert(mode)))


def png(width, height, depth, colour, stream, *chunks):
    """Write a PNG of compressed scanlines and extra chunks (kind, content) before them; no stream, no IDAT."""
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    body = [(b'IHDR', header), *chunks, *([(b'IDAT', stream)] if stream else []), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))
        for kind, content in body)


def scanlines(samples):
    """Compress big-endian samples of whole rows, unfiltered."""
    rows = samples.astype(samples.dtype.newbyteorder('>'))
    return zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows))


def icc(device_class, space, pcs, **tags):
    """Build an ICC profile."""
    offset, table, body = 128 + 4 + 12 * len(tags), b'', b''
    for name, content in tags.items():
        table += struct.pack('>4sII', name.encode(), offset + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    rest = struct.pack('>I', len(tags)) + table + body
    header = struct.pack('>I4sI4s4s4s12s4s28sIII4s44s', 128 + len(rest), b'', 0x02400000, device_class, space, pcs,
                         struct.pack('>6H', 2020, 1, 1, 0, 0, 0), b'acsp', b'', 0xF6D6, 0x10000, 0xD32D, b'', b'')
    return header + rest


def gray_profile():
    return icc(b'mntr', b'GRAY', b'XYZ ', wtpt=struct.pack('>4s4x3I', b'XYZ ', 0xF6D6, 0x10000, 0xD32D),
               kTRC=struct.pack('>4s4xI', b'curv', 0))


def profile_of_red_paper():
    """A printer's profile under which every colour without black ink looks like the red of sRGB."""
    ramp, red, black = bytes(range(256)), bytes((138, 209, 198)), bytes((0, 128, 128))  # Lab
    table = struct.pack('>4s4x4B9i', b'mft1', 4, 3, 2, 0, *(np.eye(3, dtype=int) << 16).ravel().tolist())
    return icc(b'prtr', b'CMYK', b'Lab ', A2B0=table + 4 * ramp + 8 * (red + black) + 3 * ramp)


def exif(orientation=None):
    """Tags of the main directory, the Exif directory and the GPS directory."""
    tags = Image.Exif()
    tags[MAKE] = 'Maker'
    tags.get_ifd(EXIF_IFD).update({ExifTags.Base.DateTimeOriginal: '2020:01:02 03:04:05',
                                   ExifTags.Base.ExposureTime: (1, 125)})
    tags.get_ifd(GPS_IFD).update({ExifTags.GPS.GPSLatitudeRef: 'N', ExifTags.GPS.GPSLatitude: (48.0, 51.0, 29.5)})
    if orientation:
        tags[ORIENTATION] = orientation
    return tags


def one_tag(tag, kind, count, value, rest=b''):
    """EXIF of one hand-made entry; the value is at offset 26 where it has more than four bytes."""
    return b'Exif\0\0MM\0*' + struct.pack('>IHHHI4s4x', 8, 1, tag, kind, count, value) + rest


def read_exif(data):
    """Read the EXIF of a file: the tags of the three directories."""
    tags = Image.open(io.BytesIO(data)).getexif()
    return dict(tags), tags.get_ifd(EXIF_IFD), tags.get_ifd(GPS_IFD)


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


# ---- reading pixels ----

@pytest.mark.parametrize('extension', ['png', 'bmp', 'tiff'])
@pytest.mark.parametrize('channels', [3, 4])
def test_eight_bit_colours_are_read_exactly(extension, channels):
    pixels = noise(5, 7, channels)
    assert_same(decode(by_opencv(pixels, extension)).pixels, pixels)


@pytest.mark.parametrize('channels', [3, 4])
def test_lossless_webp_is_read_exactly(channels):
    pixels = noise(5, 7, channels)
    assert_same(decode(saved(pixels, 'WEBP', lossless=True, exact=True)).pixels, pixels)


@pytest.mark.parametrize('extension', ['png', 'bmp', 'tiff', 'pgm'])
def test_eight_bit_gray_stays_two_dimensional(extension):
    pixels = noise(5, 7)
    assert_same(decode(by_opencv(pixels, extension)).pixels, pixels)


@pytest.mark.parametrize('kind', ['TGA', 'JPEG2000', 'QOI'])
@pytest.mark.parametrize('channels', [3, 4])
def test_formats_read_by_pillow_are_exact(kind, channels):
    pixels = noise(40, 48, channels)
    assert_same(decode(saved(pixels, kind)).pixels, pixels)


@pytest.mark.parametrize('extension', ['jpg', 'webp'])
@pytest.mark.parametrize('shape', [(33, 47), (33, 47, 3)])
def test_lossy_pictures_are_what_opencv_reads(extension, shape):
    data = by_opencv(noise(*shape), extension)
    assert_same(decode(data).pixels, read_by_opencv(data))


@pytest.mark.parametrize('channels', [3, 4])
def test_avif_is_what_pillow_reads(channels):
    data = saved(blocks(channels=channels), 'AVIF')
    assert_same(decode(data).pixels, read_by_pillow(data, 'RGBA' if channels == 4 else 'RGB'))


@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize('extension', ['png', 'tiff'])
def test_sixteen_bits_are_read_exactly(extension, shape):
    pixels = noise(*shape, dtype=np.uint16)
    assert_same(decode(by_opencv(pixels, extension)).pixels, pixels)


def test_a_dark_sixteen_bit_picture_stays_sixteen_bit():
    pixels = noise(5, 7, 3).astype(np.uint16)
    assert_same(decode(by_opencv(pixels, 'png')).pixels, pixels)


def test_sixteen_bit_gray_jpeg2000_is_read_exactly():
    pixels = noise(40, 48, dtype=np.uint16)
    assert_same(decode(saved(Image.fromarray(pixels), 'JPEG2000')).pixels, pixels)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize('options', [
    {}, {'byteorder': '>'}, {'compression': 'zlib', 'predictor': True}, {'bigtiff': True}, {'tile': (16, 16)},
], ids=str)
def test_every_layout_of_tiff_is_read_exactly(dtype, shape, options):
    pixels = noise(*shape, dtype=dtype)
    assert_same(decode(tiff(rgb(pixels), **options)).pixels, pixels)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_tiff_with_a_plane_for_each_colour(dtype):
    pixels = noise(5, 7, 3, dtype=dtype)
    planes = np.ascontiguousarray(rgb(pixels).transpose(2, 0, 1))
    assert_same(decode(tiff(planes, photometric='rgb', planarconfig='separate')).pixels, pixels)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_tiff_whose_zero_is_white(dtype):
    pixels = noise(5, 7, dtype=dtype)
    assert_same(decode(tiff(np.iinfo(dtype).max - pixels, photometric='miniswhite')).pixels, pixels)


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_premultiplied_tiff_is_divided_by_its_alpha(dtype):
    top = int(np.iinfo(dtype).max)
    pixels = noise(5, 7, 4, dtype=dtype)
    pixels[..., 3] |= 1 << (8 * pixels.itemsize - 1)  # so that at most one value is lost
    colours = np.rint(pixels[..., :3] * (pixels[..., 3:] / top)).astype(dtype)
    data = tiff(rgb(np.dstack([colours, pixels[..., 3]])), extrasamples=['assocalpha'])
    found = decode(data).pixels
    assert np.array_equal(found[..., 3], pixels[..., 3])
    assert np.abs(found.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize('dtype', [np.float32, np.float64])
@pytest.mark.parametrize('shape', [(256, 256), (64, 256, 4)])
@pytest.mark.parametrize('off', [-0.4, 0, 0.4])
def test_floating_point_of_0_to_1_becomes_the_nearest_of_sixteen_bits(dtype, shape, off):
    pixels = np.arange(65536, dtype=np.uint16).reshape(shape)
    samples = ((rgb(pixels) + off) / 65535).clip(0, 1).astype(dtype)
    assert_same(decode(tiff(samples)).pixels, pixels)


@pytest.mark.parametrize(('value', 'told'), [
    (1.5, 'from 0 to 1.5;'), (-0.5, 'from -0.5 to 0;'), (np.inf, 'from 0 to inf;'), (np.nan, 'nan')])
@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3)])
def test_floating_point_beyond_0_to_1_is_refused_with_its_range(value, told, shape):
    samples = np.zeros(shape, np.float32)
    samples[2, 3] = value
    with pytest.raises(ImageError, match=f'floating-point values .*{told}.* only 0 to 1'):
        decode(tiff(samples))


@pytest.mark.parametrize('dtype', [np.int16, np.int32, np.uint32])
def test_other_integers_are_refused(dtype):
    with pytest.raises(ImageError, match=np.dtype(dtype).name):
        decode(tiff(np.ones((5, 7, 3), dtype)))


def test_lab_is_refused():
    with pytest.raises(ImageError, match='LAB'):
        decode(saved(Image.fromarray(blocks()).convert('LAB'), 'TIFF'))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_gray_and_alpha_of_png_become_colours_and_alpha(dtype):
    gray, alpha = noise(5, 7, dtype=dtype), noise(5, 7, dtype=dtype, seed=1)
    data = png(7, 5, 8 * gray.itemsize, 4, scanlines(np.dstack([gray, alpha])))
    assert_same(decode(data).pixels, np.dstack([gray, gray, gray, alpha]))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_gray_and_alpha_of_tiff_become_colours_and_alpha(dtype):
    gray, alpha = noise(5, 7, dtype=dtype), noise(5, 7, dtype=dtype, seed=1)
    data = tiff(np.dstack([gray, alpha]), photometric='minisblack', planarconfig='contig', extrasamples=['unassalpha'])
    assert_same(decode(data).pixels, np.dstack([gray, gray, gray, alpha]))


def test_transparent_gray_value_becomes_alpha():
    gray = noise(5, 7)
    data = png(7, 5, 8, 0, scanlines(gray), (b'tRNS', struct.pack('>H', gray[2, 3])))
    alpha = np.where(gray == gray[2, 3], 0, 255).astype(np.uint8)
    assert_same(decode(data).pixels, np.dstack([gray, gray, gray, alpha]))


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_transparent_colour_becomes_alpha(dtype):
    pixels = noise(5, 7, 3, dtype=dtype)
    data = png(7, 5, 8 * pixels.itemsize, 2, scanlines(rgb(pixels)), (b'tRNS', struct.pack('>3H', *pixels[2, 3, ::-1])))
    alpha = np.where((pixels == pixels[2, 3]).all(axis=2), 0, np.iinfo(dtype).max).astype(dtype)
    assert_same(decode(data).pixels, np.dstack([pixels, alpha]))


@pytest.mark.parametrize(('depth', 'packed', 'values'), [
    (1, [0b10100101], [255, 0, 255, 0, 0, 255, 0, 255]),
    (2, [0b00011011, 0b11100100], [0, 85, 170, 255, 255, 170, 85, 0]),
    (4, [0x01, 0x23, 0x9A, 0xEF], [0, 17, 34, 51, 153, 170, 238, 255]),
])
def test_gray_of_few_bits_is_spread_to_255(depth, packed, values):
    data = png(8, 1, depth, 0, scanlines(np.array([packed], np.uint8)))
    assert_same(decode(data).pixels, np.array([values], np.uint8))


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP', 'GIF', 'PPM'])
def test_black_and_white_becomes_0_and_255(kind):
    white = noise(5, 9) > 127
    assert_same(decode(saved(Image.fromarray(white), kind)).pixels, np.where(white, 255, 0).astype(np.uint8))


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP', 'TGA', 'GIF'])
def test_palette_becomes_its_colours(kind):
    palette = Image.fromarray(noise(9, 11, 3)).quantize(16)
    assert_same(decode(saved(palette, kind)).pixels, rgb(np.array(palette.convert('RGB'))))


def test_palette_with_transparency_keeps_every_alpha():
    palette = Image.fromarray(noise(9, 11, 3)).quantize(16)
    alphas = noise(16, seed=1)
    expected = np.dstack([rgb(np.array(palette.convert('RGB'))), alphas[np.array(palette)]])
    assert_same(decode(saved(palette, 'PNG', transparency=alphas.tobytes())).pixels, expected)


def test_transparent_colour_of_gif_becomes_alpha():
    palette = Image.fromarray(noise(9, 11, 3)).quantize(16)
    data = saved(palette, 'GIF', transparency=3)
    expected = np.dstack([rgb(np.array(palette.convert('RGB'))), np.where(np.array(palette) == 3, 0, 255)])
    assert_same(decode(data).pixels, expected.astype(np.uint8))


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_without_profile_is_converted_as_pillow_does(kind):
    data = saved(Image.fromarray(blocks()).convert('CMYK'), kind)
    assert_same(decode(data).pixels, read_by_pillow(data, 'RGB'))


@pytest.mark.parametrize('kind', ['JPEG', 'TIFF'])
def test_cmyk_is_converted_by_its_profile_which_is_then_dropped(kind):
    data = saved(Image.fromarray(blocks()).convert('CMYK'), kind, icc_profile=profile_of_red_paper())
    picture = decode(data)
    assert np.abs(picture.pixels - np.array((0.0, 0.0, 255.0))).max() <= 3
    assert picture.metadata.icc is None


def test_cmyk_with_a_broken_profile_is_converted_without_it():
    data = saved(Image.fromarray(blocks()).convert('CMYK'), 'JPEG', icc_profile=b'rubbish' * 30)
    assert_same(decode(data).pixels, read_by_pillow(data, 'RGB'))
    assert decode(data).metadata.icc is None


@pytest.mark.parametrize(('kind', 'options'), [
    ('GIF', {}), ('PNG', {}), ('TIFF', {}), ('WEBP', {'lossless': True})])
def test_only_the_first_frame_is_read_and_that_is_said(logged, kind, options):
    frames = [Image.fromarray(np.full((9, 11, 3), colour, np.uint8)) for colour in ((200, 30, 60), (0, 255, 0), 7)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(np.unique(decode(data).pixels[..., :3].reshape(-1, 3), axis=0), [[60, 30, 200]])
    assert logged.messages == ['only the first of 3 frames or pages is used']


@pytest.mark.parametrize('kind', ['GIF', 'PNG', 'JPEG', 'TIFF', 'WEBP', 'AVIF'])
def test_one_frame_is_no_matter_for_the_log(logged, kind):
    decode(saved(blocks(), kind))
    assert logged.messages == []


def test_the_previews_of_a_camera_jpeg_are_no_matter_for_the_log(logged):
    preview = Image.fromarray(noise(16, 16, 3))
    data = saved(blocks(), 'MPO', save_all=True, append_images=[preview])
    assert_same(decode(data).pixels, read_by_opencv(data))
    assert logged.messages == []


@pytest.mark.parametrize(('shape', 'alpha'), [((2, 2), False), ((2, 2, 3), False), ((2, 2, 4), True)])
def test_has_alpha(shape, alpha):
    assert Picture(np.zeros(shape, np.uint8)).has_alpha is alpha


# ---- orientation ----

def stored(upright, orientation):
    """Arrange pixels so that the EXIF orientation shows them upright."""
    return np.ascontiguousarray({
        1: lambda: upright,
        2: lambda: upright[:, ::-1],
        3: lambda: upright[::-1, ::-1],
        4: lambda: upright[::-1],
        5: lambda: upright.swapaxes(0, 1),
        6: lambda: np.rot90(upright),
        7: lambda: upright[::-1, ::-1].swapaxes(0, 1),
        8: lambda: np.rot90(upright, -1),
    }[orientation]())


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize(('kind', 'options'), [
    ('PNG', {}), ('WEBP', {'lossless': True}), ('JPEG', {'quality': 100, 'subsampling': 0})])
def test_every_orientation_is_turned_upright(kind, options, orientation):
    pixels = blocks()
    picture = decode(saved(stored(pixels, orientation), kind, exif=exif(orientation), **options))
    assert picture.pixels.shape == pixels.shape
    assert np.abs(picture.pixels.astype(int) - pixels).max() <= (3 if kind == 'JPEG' else 0)
    assert picture.pixels.flags.c_contiguous
    again = read_exif(encode(picture, kind.lower()))
    assert again[0][ORIENTATION] == 1
    assert again[0][MAKE] == 'Maker'


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_every_orientation_of_tiff_is_turned_upright(dtype, shape, orientation):
    pixels = noise(*shape, dtype=dtype)
    data = tiff(rgb(stored(pixels, orientation)), extratags=[(ORIENTATION, 'H', 1, orientation, True)])
    picture = decode(data)
    assert_same(picture.pixels, pixels)
    assert ORIENTATION not in read_exif(encode(picture, 'png'))[0]


@pytest.mark.parametrize('entry', [(ORIENTATION, 3, 1, b'\0\x09\0\0'), (ORIENTATION, 2, 2, b'6\0\0\0')])
def test_an_orientation_that_does_not_exist_is_ignored(entry):
    pixels = noise(5, 7, 3)
    assert_same(decode(saved(pixels, 'PNG', exif=one_tag(*entry))).pixels, pixels)


# ---- metadata ----

@pytest.mark.parametrize('target', ['png', 'jpg', 'webp'])
@pytest.mark.parametrize('source', ['PNG', 'JPEG', 'WEBP', 'TIFF', 'AVIF'])
def test_exif_is_kept_with_its_directories(source, target):
    data = saved(blocks(), source, exif=exif(6).tobytes())
    main, details, gps = read_exif(encode(decode(data), target))
    assert main[MAKE] == 'Maker'
    assert main.get(ORIENTATION, 1) == 1
    assert details == {ExifTags.Base.DateTimeOriginal: '2020:01:02 03:04:05', ExifTags.Base.ExposureTime: (1, 125)}
    assert gps == {ExifTags.GPS.GPSLatitudeRef: 'N', ExifTags.GPS.GPSLatitude: (48.0, 51.0, 29.5)}


def test_of_tiff_only_tags_about_the_picture_become_exif():
    data = tiff(noise(5, 7, 3), extratags=[(MAKE, 's', 0, 'Maker', True)])
    main = read_exif(encode(decode(data), 'png'))[0]
    assert {tag: value for tag, value in main.items() if tag not in (EXIF_IFD, GPS_IFD)} == {MAKE: 'Maker'}


def test_exif_text_beyond_ascii_is_kept():
    text = 'Größe ©\0'.encode()
    data = saved(blocks(), 'JPEG', exif=one_tag(ExifTags.Base.Artist, 2, len(text), struct.pack('>I', 26), text))
    assert text in encode(decode(data), 'jpg')


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP'])
@pytest.mark.parametrize('damaged', [
    b'Exif\0\0rubbish',
    one_tag(EXIF_IFD, 9, 1, b'\xFF\xFF\xFF\xFF'),  # a directory at -1
    one_tag(ExifTags.Base.ImageWidth, 8, 1, b'\xFF\xFF\0\0'),  # a negative width
    one_tag(ExifTags.IFD.Interop, 2, 4, b'abc\0'),  # text where an offset should be
    one_tag(ExifTags.Base.XResolution, 2, 4, b'abc\0'),  # text where a number should be
], ids=['rubbish', 'pointer', 'negative', 'interop', 'resolution'])
def test_damaged_exif_does_not_cost_the_picture(kind, damaged):
    pixels = blocks()
    found = decode(saved(pixels, kind, exif=damaged, quality=100)).pixels
    assert np.abs(found.astype(int) - pixels).mean() < 10


def test_tiff_is_written_without_exif_and_that_is_said(logged):
    data = encode(decode(saved(blocks(), 'JPEG', exif=exif())), 'tiff')
    assert MAKE not in read_exif(data)[0]
    assert logged.messages == ['EXIF data is not written to tiff']


@pytest.mark.parametrize('target', ['png', 'jpg', 'webp', 'tiff'])
@pytest.mark.parametrize('source', ['PNG', 'JPEG', 'WEBP', 'TIFF', 'AVIF'])
def test_icc_profile_of_a_colour_picture_is_kept(source, target):
    data = encode(decode(saved(blocks(), source, icc_profile=SRGB)), target)
    assert Image.open(io.BytesIO(data)).info['icc_profile'] == SRGB
    assert decode(data).metadata.icc == SRGB


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF'])
def test_icc_profile_of_a_gray_picture_is_kept(kind):
    picture = decode(saved(noise(5, 7), kind, icc_profile=gray_profile()))
    assert picture.metadata.icc == gray_profile()
    assert Image.open(io.BytesIO(encode(picture, kind.lower()))).info['icc_profile'] == gray_profile()


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF'])
def test_rgb_profile_of_a_gray_picture_is_dropped(kind, capfd):
    assert decode(saved(noise(5, 7), kind, icc_profile=SRGB)).metadata.icc is None
    assert capfd.readouterr() == ('', '')


def test_gray_profile_is_not_written_to_webp_which_has_colours_only():
    data = encode(Picture(noise(5, 7), Metadata(icc=gray_profile())), 'webp')
    assert 'icc_profile' not in Image.open(io.BytesIO(data)).info


@pytest.mark.parametrize('target', ['png', 'jpg', 'webp', 'tiff'])
def test_long_icc_profile_is_kept_or_reported(target, logged):
    profile = struct.pack('>I', len(SRGB) + 70000) + SRGB[4:] + bytes(70000)
    picture = decode(encode(Picture(blocks(), Metadata(icc=profile)), target))
    assert picture.pixels.shape == (48, 64, 3)
    assert picture.metadata.icc == profile or 'ICC' in logged.text


@pytest.mark.parametrize('extension', ['png', 'jpg', 'jpeg', 'webp', 'tif', 'PNG', 'JPG'])
@pytest.mark.parametrize('text', ['plain', 'Größe'])
def test_xmp_is_kept(extension, text):
    xmp = XMP.format(text).encode()
    assert decode(encode(Picture(blocks(), Metadata(xmp=xmp)), extension)).metadata.xmp == xmp


@pytest.mark.parametrize(('kind', 'extension'), [('JPEG', 'jpg'), ('WEBP', 'webp')])
def test_xmp_of_other_programs_is_read(kind, extension):
    xmp = XMP.format('Größe').encode()
    picture = decode(saved(blocks(), kind, xmp=xmp))
    assert picture.metadata.xmp == xmp
    assert Image.open(io.BytesIO(encode(picture, extension))).info['xmp'] == xmp


@pytest.mark.parametrize('extension', ['png', 'jpg', 'tiff'])
@pytest.mark.parametrize('dpi', [(300, 150), (72, 72)])
def test_resolution_is_kept(extension, dpi):
    data = encode(Picture(blocks(), Metadata(dpi=dpi)), extension)
    assert Image.open(io.BytesIO(data)).info['dpi'] == pytest.approx(dpi, abs=0.02)
    assert decode(data).metadata.dpi == pytest.approx(dpi, abs=0.02)
    assert decode(data).pixels.shape == (48, 64, 3)


def test_all_metadata_of_a_jpeg_at_once():
    exif_bytes, xmp = exif(1).tobytes()[6:], XMP.format('plain').encode()
    metadata = Metadata(icc=SRGB, exif=exif_bytes, xmp=xmp, dpi=(300, 150))
    assert decode(encode(Picture(blocks(), metadata), 'jpg')).metadata == metadata


@pytest.mark.parametrize(('metadata', 'name'), [
    (Metadata(exif=one_tag(DESCRIPTION, 2, 70000, struct.pack('>I', 26), b'd' * 69999 + b'\0')[6:]), 'EXIF'),
    (Metadata(xmp=b'x' * 70000), 'XMP')])
def test_metadata_too_long_for_jpeg_is_left_out_with_a_warning(logged, metadata, name):
    data = encode(Picture(blocks(), metadata), 'jpg')
    assert logged.messages == [f'the {name} data is too long for jpg and is left out']
    assert data == encode(Picture(blocks()), 'jpg')


@pytest.mark.parametrize('extra', [0, 1])
def test_the_longest_metadata_of_a_jpeg(logged, extra):
    exif_bytes = bytes(65533 - len(b'Exif\0\0') + extra)
    xmp = b'x' * (65533 - len(b'http://ns.adobe.com/xap/1.0/\0') + extra)
    data = encode(Picture(blocks(), Metadata(exif=exif_bytes, xmp=xmp)), 'jpg')
    assert len(logged.messages) == 2 * extra
    assert (exif_bytes in data, xmp in data) == (not extra, not extra)
    assert_same(decode(data).pixels, decode(encode(Picture(blocks()), 'jpg')).pixels)


# ---- files that are no good ----

DAMAGEABLE = {
    'png': lambda: by_opencv(blocks(), 'png'),
    'png of 16 bits': lambda: by_opencv(noise(9, 9, 3, dtype=np.uint16), 'png'),
    'png with palette': lambda: saved(Image.fromarray(blocks()).quantize(16), 'PNG'),
    'jpg': lambda: by_opencv(blocks(), 'jpg'),
    'progressive jpg': lambda: saved(blocks(), 'JPEG', progressive=True),
    'cmyk jpg': lambda: saved(Image.fromarray(blocks()).convert('CMYK'), 'JPEG'),
    'webp': lambda: by_opencv(blocks(), 'webp'),
    'lossless webp': lambda: by_opencv(noise(9, 9, 4), 'webp', cv2.IMWRITE_WEBP_QUALITY, 101),
    'bmp': lambda: by_opencv(blocks(), 'bmp'),
    'gif': lambda: saved(blocks(), 'GIF'),
    'tiff': lambda: tiff(blocks()),
    'compressed tiff': lambda: tiff(noise(20, 20, 3), compression='zlib'),
    'lzw tiff': lambda: by_opencv(blocks(), 'tiff'),
    'gray tiff of 16 bits': lambda: tiff(noise(20, 20, dtype=np.uint16)),
}


@pytest.mark.parametrize('part', [0.1, 0.5, 0.95])
@pytest.mark.parametrize('name', DAMAGEABLE)
def test_a_truncated_file_is_an_error_in_one_line(name, part, capfd):
    data = DAMAGEABLE[name]()
    decode(data)
    with pytest.raises(ImageError, match='damaged|not a picture'):
        decode(data[:int(len(data) * part)])
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('stream', [b'', b'rubbish' * 9, zlib.compress(bytes(22))],
                         ids=['none', 'no zlib stream', 'too short'])
def test_a_png_without_its_pixels_is_an_error_in_one_line(stream, capfd):
    with pytest.raises(ImageError, match='damaged|not a picture'):
        decode(png(7, 5, 8, 2, stream))
    assert capfd.readouterr() == ('', '')


def test_stray_bytes_in_a_jpeg_are_passed_over_silently(capfd):
    data = by_opencv(blocks(), 'jpg')
    start = data.index(b'\xFF\xC0')
    assert_same(decode(data[:start] + bytes(4) + data[start:]).pixels, decode(data).pixels)
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('data', [bytes(500), b'hello world\n' * 20, b'%PDF-1.4 ' * 20, b'\x89PNG\r\n\x1a\n'])
def test_what_is_not_a_picture_is_an_error(data, capfd):
    with pytest.raises(ImageError, match='^not a picture'):
        decode(data)
    assert capfd.readouterr() == ('', '')


def test_an_empty_file_is_an_error(capfd):
    with pytest.raises(ImageError, match='^the file is empty$'):
        decode(b'')
    assert capfd.readouterr() == ('', '')


def test_a_picture_of_too_many_pixels_is_not_decoded():
    with pytest.raises(ImageError, match='too large.*3600000000 pixels'):
        decode(png(60000, 60000, 8, 2, zlib.compress(bytes(22))))


@pytest.mark.parametrize(('data', 'expected'), [
    (b'', False), (b'hello', False), (bytes(4096), False), (by_opencv(noise(99, 99, 3), 'png')[:4096], True),
    (by_opencv(noise(99, 99, 3), 'jpg')[:4096], True), (by_opencv(noise(99, 99, 3), 'bmp')[:4096], True)])
def test_the_beginning_of_a_file_tells_whether_it_is_a_picture(data, expected):
    assert is_picture(data) is expected


# ---- writing ----

@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3), (5, 7, 4)])
@pytest.mark.parametrize('extension', ['png', 'tif', 'tiff', 'PNG', 'TIFF'])
def test_png_and_tiff_keep_every_pixel(extension, shape, dtype):
    pixels = noise(*shape, dtype=dtype)
    data = encode(Picture(pixels), extension)
    assert_same(decode(data).pixels, pixels)
    if extension.lower() != 'png':
        assert_same(rgb(tifffile.imread(io.BytesIO(data))), pixels)


def test_the_alpha_of_a_tiff_is_marked_as_not_multiplied():
    with tifffile.TiffFile(io.BytesIO(encode(Picture(noise(5, 7, 4)), 'tiff'))) as file:
        assert file.pages[0].extrasamples == (tifffile.EXTRASAMPLE.UNASSALPHA,)


@pytest.mark.parametrize('shape', [(5, 7), (5, 7, 3)])
def test_bmp_keeps_every_pixel(shape):
    assert_same(decode(encode(Picture(noise(*shape)), 'bmp')).pixels, noise(*shape))


def test_webp_keeps_alpha_exactly():
    pixels = blocks(channels=4)
    pixels[..., 3] = noise(48, 64, seed=1)
    found = decode(encode(Picture(pixels), 'webp', 95)).pixels
    assert np.array_equal(found[..., 3], pixels[..., 3])


@pytest.mark.parametrize('shape', [(33, 47), (33, 47, 3)])
@pytest.mark.parametrize('quality', [1, 50, 95, 100])
@pytest.mark.parametrize(('extension', 'setting'), [
    ('jpg', cv2.IMWRITE_JPEG_QUALITY), ('jpeg', cv2.IMWRITE_JPEG_QUALITY), ('JPG', cv2.IMWRITE_JPEG_QUALITY),
    ('webp', cv2.IMWRITE_WEBP_QUALITY)])
def test_lossy_files_are_the_bytes_opencv_writes(extension, setting, quality, shape):
    pixels = noise(*shape)
    assert encode(Picture(pixels), extension, quality) == by_opencv(pixels, extension.lower(), setting, quality)


def test_quality_is_95_unless_given():
    assert encode(Picture(blocks()), 'jpg') == by_opencv(blocks(), 'jpg', cv2.IMWRITE_JPEG_QUALITY, 95)


@pytest.mark.parametrize('extension', ['jpg', 'jpeg', 'jpe', 'webp', 'bmp'])
def test_sixteen_bits_become_eight_where_the_format_has_no_more(extension, logged):
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    shallow = ((deep.astype(int) + 128) // 257).astype(np.uint8)
    assert encode(Picture(deep), extension) == encode(Picture(shallow), extension)
    assert logged.messages == [f'{extension} holds 8 bits only: the 16-bit picture is converted']


@pytest.mark.parametrize('shape', [(70000, 1, 3), (1, 70000, 3)])
@pytest.mark.parametrize('extension', ['jpg', 'webp'])
def test_a_picture_too_large_for_its_format_is_an_error(extension, shape, capfd):
    with pytest.raises(ImageError, match=f'{extension}; is {shape[1]}x{shape[0]} too large'):
        encode(Picture(np.zeros(shape, np.uint8)), extension)
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize(('extension', 'alpha'), [
    ('png', True), ('PNG', True), ('webp', True), ('tif', True), ('TIFF', True), ('jpg', False), ('JPEG', False),
    ('bmp', False)])
def test_which_formats_hold_alpha(extension, alpha):
    assert holds_alpha(extension) is alpha


# ---- found by a review ----

def test_half_floats_do_not_overflow():
    samples = np.linspace(0, 1, 60, dtype=np.float16).reshape(4, 5, 3)
    expected = np.rint(samples.astype(np.float32) * 65535).astype(np.uint16)
    assert np.array_equal(decode(tiff(samples)).pixels, rgb(expected))


@pytest.mark.parametrize('lost', [1, 4, 10])
def test_a_deflated_tiff_that_lost_its_end_is_refused(lost):
    data = saved(noise(64, 64, 3), 'TIFF', compression='tiff_deflate')
    with pytest.raises(ImageError, match='damaged'):
        decode(data[:-lost])


@pytest.mark.parametrize(('top', 'dtype'), [(1023, np.uint16), (65535, np.uint16), (100, np.uint8), (255, np.uint8)])
@pytest.mark.parametrize('channels', [1, 3])
def test_the_values_of_pnm_are_spread_from_their_own_maximum(top, dtype, channels):
    samples = np.random.default_rng(0).integers(0, top + 1, (4, 5, channels)).astype(dtype)
    header = f'P{5 if channels == 1 else 6}\n# made by hand\n5 4\n{top}\n'.encode()
    data = header + (samples.astype('>u2') if dtype == np.uint16 else samples).tobytes()
    full = np.iinfo(dtype).max
    expected = np.rint(samples * (full / top)).astype(dtype)
    assert np.array_equal(decode(data).pixels, expected[..., 0] if channels == 1 else rgb(expected))


def test_resolution_is_kept_in_webp_too():
    data = encode(Picture(noise(4, 5, 3), Metadata(dpi=(300.0, 300.0))), 'webp')
    tags = Image.open(io.BytesIO(data)).getexif()
    assert (tags[ExifTags.Base.XResolution], tags[ExifTags.Base.ResolutionUnit]) == (300.0, 2)
