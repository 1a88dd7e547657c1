"""EXIF, ICC profiles, XMP and resolution: read from every format that has them, and written to every result."""
from __future__ import annotations

import io
import struct

import pytest
from made_pictures import (
    DESCRIPTION,
    EXIF_IFD,
    GPS_IFD,
    MAKE,
    ORIENTATION,
    SRGB,
    XMP,
    assert_same,
    build_gray_icc,
    build_one_tag,
    build_png,
    compress_rows,
    make_blocks,
    make_exif,
    make_noise,
    read_exif,
    save_by_pillow,
    save_by_tifffile,
)
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from realesrgan.pictures.metadata import build_resolution_exif
from realesrgan.pictures.picture import Metadata, Picture
from realesrgan.pictures.reading import decode
from realesrgan.pictures.writing import encode


def build_turned(kind, orientation, form):
    """Return a file whose orientation EXIF (unless it is None) and XMP state."""
    xmp = XMP.format(form)
    if kind == 'TIFF':
        tag = [(ORIENTATION, 'H', 1, orientation, True)] if orientation else []
        return save_by_tifffile(make_blocks(), extratags=[(700, 1, len(xmp), xmp.encode(), True), *tag])
    exif = {'exif': make_exif(orientation)} if orientation else {}
    if kind == 'PNG':
        info = PngInfo()
        info.add_itxt('XML:com.adobe.xmp', xmp)
        return save_by_pillow(make_blocks(), kind, pnginfo=info, **exif)
    return save_by_pillow(make_blocks(), kind, xmp=xmp.encode(), **exif)


@pytest.mark.parametrize('target', ['png', 'jpg', 'webp'])
@pytest.mark.parametrize('source', ['PNG', 'JPEG', 'WEBP', 'TIFF', 'AVIF'])
def test_exif_is_kept_with_its_directories(source, target):
    data = save_by_pillow(make_blocks(), source, exif=make_exif(6).tobytes())
    main, details, gps = read_exif(encode(decode(data), target))
    assert main[MAKE] == 'Maker'
    assert main.get(ORIENTATION, 1) == 1
    assert details == {ExifTags.Base.DateTimeOriginal: '2020:01:02 03:04:05', ExifTags.Base.ExposureTime: (1, 125)}
    assert gps == {ExifTags.GPS.GPSLatitudeRef: 'N', ExifTags.GPS.GPSLatitude: (48.0, 51.0, 29.5)}


def test_of_tiff_only_tags_about_the_picture_become_exif():
    data = save_by_tifffile(make_noise(5, 7, 3), extratags=[(MAKE, 's', 0, 'Maker', True)])
    main = read_exif(encode(decode(data), 'png'))[0]
    assert {tag: value for tag, value in main.items() if tag not in (EXIF_IFD, GPS_IFD)} == {MAKE: 'Maker'}


def test_exif_text_beyond_ascii_is_kept():
    text = 'Größe ©\0'.encode()
    tag = build_one_tag(ExifTags.Base.Artist, 2, len(text), struct.pack('>I', 26), text)
    data = save_by_pillow(make_blocks(), 'JPEG', exif=tag)
    assert text in encode(decode(data), 'jpg')


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP'])
@pytest.mark.parametrize('damaged', [
    build_one_tag(EXIF_IFD, 9, 1, b'\xFF\xFF\xFF\xFF'),  # a directory at -1
    build_one_tag(ExifTags.Base.ImageWidth, 8, 1, b'\xFF\xFF\0\0'),  # a negative width
    build_one_tag(ExifTags.IFD.Interop, 2, 4, b'abc\0'),  # text where an offset should be
    build_one_tag(ExifTags.Base.XResolution, 2, 4, b'abc\0'),  # text where a number should be
], ids=['pointer', 'negative', 'interop', 'resolution'])
def test_exif_with_a_damaged_tag_is_passed_on_as_it_is(kind, damaged):
    picture = decode(save_by_pillow(make_blocks(), kind, exif=damaged))
    assert_same(picture.pixels, decode(save_by_pillow(make_blocks(), kind)).pixels)
    assert picture.metadata.exif == damaged.removeprefix(b'Exif\0\0')


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP'])
def test_exif_without_a_directory_is_left_out_with_a_warning(kind, logged):
    picture = decode(save_by_pillow(make_blocks(), kind, exif=b'Exif\0\0rubbish'))
    assert_same(picture.pixels, decode(save_by_pillow(make_blocks(), kind)).pixels)
    assert picture.metadata.exif is None
    assert logged.messages == ['its EXIF data is damaged and is left out']


def test_tiff_is_written_without_exif_and_a_log_line_says_so(logged):
    data = encode(decode(save_by_pillow(make_blocks(), 'JPEG', exif=make_exif())), 'tiff')
    assert MAKE not in read_exif(data)[0]
    assert logged.messages == ['EXIF data is not written to tiff']


@pytest.mark.parametrize('target', ['png', 'jpg', 'webp', 'tiff'])
@pytest.mark.parametrize('source', ['PNG', 'JPEG', 'WEBP', 'TIFF', 'AVIF'])
def test_icc_profile_of_a_colour_picture_is_kept(source, target):
    data = encode(decode(save_by_pillow(make_blocks(), source, icc_profile=SRGB)), target)
    assert Image.open(io.BytesIO(data)).info['icc_profile'] == SRGB
    assert decode(data).metadata.icc == SRGB


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF'])
def test_icc_profile_of_a_gray_picture_is_kept(kind):
    picture = decode(save_by_pillow(make_noise(5, 7), kind, icc_profile=build_gray_icc()))
    assert picture.metadata.icc == build_gray_icc()
    assert Image.open(io.BytesIO(encode(picture, kind.lower()))).info['icc_profile'] == build_gray_icc()


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF'])
def test_rgb_profile_of_a_gray_picture_is_dropped(kind, capfd):
    assert decode(save_by_pillow(make_noise(5, 7), kind, icc_profile=SRGB)).metadata.icc is None
    assert capfd.readouterr() == ('', '')


def test_gray_profile_is_not_written_to_webp_which_has_colours_only():
    data = encode(Picture(make_noise(5, 7), Metadata(icc=build_gray_icc())), 'webp')
    assert 'icc_profile' not in Image.open(io.BytesIO(data)).info


@pytest.mark.parametrize('target', ['png', 'jpg', 'webp', 'tiff'])
def test_a_profile_longer_than_a_jpeg_segment_is_kept(target):
    profile = struct.pack('>I', len(SRGB) + 70000) + SRGB[4:] + bytes(70000)
    picture = decode(encode(Picture(make_blocks(), Metadata(icc=profile)), target))
    assert picture.pixels.shape == (48, 64, 3)
    assert picture.metadata.icc == profile


def test_a_profile_of_more_segments_than_a_jpeg_numbers_is_left_out_with_a_warning(logged):
    longest = 255 * (65533 - len(b'ICC_PROFILE\0') - 2)
    data = encode(Picture(make_blocks(), Metadata(icc=bytes(longest + 1))), 'jpg')
    assert logged.messages == ['the ICC profile is too long for jpg and is left out']
    assert data == encode(Picture(make_blocks()), 'jpg')


@pytest.mark.parametrize('extension', ['png', 'jpg', 'jpeg', 'webp', 'tif', 'PNG', 'JPG'])
@pytest.mark.parametrize('text', ['plain', 'Größe'])
def test_xmp_is_kept(extension, text):
    xmp = XMP.format(text).encode()
    assert decode(encode(Picture(make_blocks(), Metadata(xmp=xmp)), extension)).metadata.xmp == xmp


@pytest.mark.parametrize('extension', ['png', 'jpg', 'webp', 'tiff'])
@pytest.mark.parametrize('kind', ['JPEG', 'WEBP', 'PNG', 'TIFF'])
@pytest.mark.parametrize('form', [
    '<rdf:Description tiff:Orientation="{}" tiff:Make="6"/>', "<r tiff:Orientation = '{}'/>",
    '<tiff:Orientation>{}</tiff:Orientation>', '<tiff:Orientation>\n {}\n</tiff:Orientation>'])
def test_the_orientation_in_xmp_is_reset_with_that_of_exif(kind, form, extension):
    picture = decode(build_turned(kind, 6, form.format(6)))
    assert picture.pixels.shape == (64, 48, 3)
    data = encode(picture, extension)
    assert decode(data).metadata.xmp == XMP.format(form.format(1)).encode()
    assert decode(data).pixels.shape == (64, 48, 3)
    assert Image.open(io.BytesIO(data)).getexif().get(ORIENTATION, 1) == 1


def test_an_orientation_that_only_xmp_states_stays_with_the_pixels_as_they_are():
    for kind in ('JPEG', 'TIFF'):
        picture = decode(build_turned(kind, None, '<tiff:Orientation>6</tiff:Orientation>'))
        assert picture.pixels.shape == (48, 64, 3)
        assert b'>6<' in picture.metadata.xmp


@pytest.mark.parametrize(('kind', 'extension'), [('JPEG', 'jpg'), ('WEBP', 'webp')])
def test_xmp_of_other_programs_is_read(kind, extension):
    xmp = XMP.format('Größe').encode()
    picture = decode(save_by_pillow(make_blocks(), kind, xmp=xmp))
    assert picture.metadata.xmp == xmp
    assert Image.open(io.BytesIO(encode(picture, extension))).info['xmp'] == xmp


@pytest.mark.parametrize('extension', ['png', 'jpg', 'tiff'])
@pytest.mark.parametrize('dpi', [(300, 150), (72, 72)])
def test_resolution_is_kept(extension, dpi):
    data = encode(Picture(make_blocks(), Metadata(dpi=dpi)), extension)
    assert Image.open(io.BytesIO(data)).info['dpi'] == pytest.approx(dpi, abs=0.02)
    assert decode(data).metadata.dpi == pytest.approx(dpi, abs=0.02)
    assert decode(data).pixels.shape == (48, 64, 3)


def test_resolution_is_kept_in_the_exif_of_webp():
    data = encode(Picture(make_noise(4, 5, 3), Metadata(dpi=(300.0, 300.0))), 'webp')
    tags = Image.open(io.BytesIO(data)).getexif()
    assert (tags[ExifTags.Base.XResolution], tags[ExifTags.Base.ResolutionUnit]) == (300.0, 2)


def build_jp2_with_resolution(exponent):
    """Return a JP2 of 40x48 whose resolution is 2 * 10^exponent pixels per metre."""
    data = save_by_pillow(make_noise(40, 48, 3), 'JPEG2000')
    box = struct.pack('>I4sI4sHHHHbb', 26, b'res ', 18, b'resc', 2, 1, 2, 1, exponent, exponent)
    start = data.index(b'jp2h') - 4
    size, = struct.unpack_from('>I', data, start)
    return data[:start] + struct.pack('>I', size + 26) + data[start + 4:start + size] + box + data[start + size:]


@pytest.mark.parametrize(('data', 'told'), [
    (lambda: save_by_pillow(make_blocks(), 'JPEG', exif=b'Exif\0\0' + build_resolution_exif(
        Metadata(dpi=(2 ** 32 - 1, 72)))), '4.29497e+09 x '),
    (lambda: build_jp2_with_resolution(100), '5.08e+98 x '), (lambda: save_by_tifffile(
        make_noise(5, 7, 3), resolution=(4e9, 4e9), resolutionunit='INCH'), '4e+09 x 4e+09 '),
    (lambda: build_png(64, 48, 8, 2, compress_rows(make_blocks()), (b'pHYs', struct.pack('>IIB', 2 ** 31 - 1, 1, 1))),
     '5.45461e+07 x ')], ids=['JPEG', 'JP2', 'TIFF', 'PNG'])
def test_a_resolution_past_belief_is_left_out_with_a_warning(data, told, logged):
    picture = decode(data())
    assert picture.metadata.dpi is None
    assert [message for message in logged.messages if message.startswith(f'its resolution of {told}')
            and message.endswith(' dpi makes no sense and is left out')] == logged.messages != []
    for extension in ('png', 'jpg', 'tiff', 'webp', 'bmp'):
        encode(picture, extension)


def test_the_resolution_of_a_jp2_is_kept():
    assert decode(build_jp2_with_resolution(4)).metadata.dpi == pytest.approx((508, 508))


def test_a_resolution_too_high_for_jpeg_is_left_out_with_a_warning(logged):
    assert decode(encode(Picture(make_blocks(), Metadata(dpi=(65536, 3))), 'jpg')).metadata.dpi is None
    assert logged.messages == ['its resolution of 65536 x 3 dpi is too high for jpg and is left out']


@pytest.mark.parametrize(('tag', 'name'), [(34675, 'colour profile'), (700, 'XMP data')])
def test_tags_of_tiff_that_hold_numbers_instead_of_bytes_are_left_out(tag, name, logged):
    picture = decode(save_by_tifffile(make_noise(5, 7, 3), extratags=[(tag, 'I', 3, (1, 2, 3), True)]))
    assert (picture.metadata.icc, picture.metadata.xmp) == (None, None)
    assert logged.messages[-1] == f'its {name} is damaged and is left out'


def test_all_metadata_of_a_jpeg_at_once():
    exif_bytes, xmp = make_exif(1).tobytes()[6:], XMP.format('plain').encode()
    metadata = Metadata(icc=SRGB, exif=exif_bytes, xmp=xmp, dpi=(300, 150))
    assert decode(encode(Picture(make_blocks(), metadata), 'jpg')).metadata == metadata


@pytest.mark.parametrize(('metadata', 'name'), [
    (Metadata(exif=build_one_tag(DESCRIPTION, 2, 70000, struct.pack('>I', 26), b'd' * 69999 + b'\0')[6:]), 'EXIF'),
    (Metadata(xmp=b'x' * 70000), 'XMP')])
def test_metadata_too_long_for_jpeg_is_left_out_with_a_warning(logged, metadata, name):
    data = encode(Picture(make_blocks(), metadata), 'jpg')
    assert logged.messages == [f'the {name} data is too long for jpg and is left out']
    assert data == encode(Picture(make_blocks()), 'jpg')


@pytest.mark.parametrize('extra', [0, 1])
def test_the_longest_metadata_of_a_jpeg(logged, extra):
    exif_bytes = bytes(65533 - len(b'Exif\0\0') + extra)
    xmp = b'x' * (65533 - len(b'http://ns.adobe.com/xap/1.0/\0') + extra)
    data = encode(Picture(make_blocks(), Metadata(exif=exif_bytes, xmp=xmp)), 'jpg')
    assert logged.messages == [
        f'the {name} data is too long for jpg and is left out' for name in ('EXIF', 'XMP')[:2 * extra]]
    assert (exif_bytes in data, xmp in data) == (not extra, not extra)
    assert_same(decode(data).pixels, decode(encode(Picture(make_blocks()), 'jpg')).pixels)
