"""EXIF, ICC profiles, XMP and resolution: read from every format that has them, and written to every result."""
from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, IptcImagePlugin
from PIL.PngImagePlugin import PngInfo

from realesrgan.errors import ImageError
from realesrgan.pictures.picture import Metadata, Picture
from realesrgan.pictures.reading import decode
from realesrgan.pictures.writing import encode
from tests.support.made_pictures import (
    CASES,
    EXIF_IFD,
    MAKE,
    ORIENTATION,
    SRGB,
    XMP,
    assert_same,
    build_one_tag,
    build_png,
    build_raw_profile,
    compress_rows,
    join_chunks,
    list_chunks,
    make_blocks,
    make_exif,
    make_noise,
    read_exif,
    save_by_pillow,
    save_by_tifffile,
)


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


def test_exif_text_beyond_ascii_is_kept():
    text = 'Größe ©\0'.encode()
    tag = build_one_tag(ExifTags.Base.Artist, 2, len(text), struct.pack('>I', 26), text)
    data = save_by_pillow(make_blocks(), 'JPEG', exif=tag)
    assert text in encode(decode(data), 'jpg')
    tiff = tifffile.TiffFile(io.BytesIO(encode(decode(data), 'tiff')))
    assert tiff.pages.first.tags.valueof('Artist') == 'Größe ©'


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


def test_tiff_keeps_what_exif_says_in_words_and_warns_of_the_rest(logged):
    data = encode(decode(save_by_pillow(make_blocks(), 'JPEG', exif=make_exif(6))), 'tiff')
    main, details, gps = read_exif(data)
    assert (main[MAKE], main.get(ORIENTATION, 1), details, gps) == ('Maker', 1, {}, {})
    assert logged.messages == ['not kept in tiff: exposure and place in EXIF; --ext png keeps them']


def test_a_scan_loses_nothing_from_tiff_to_tiff(logged):
    words = [(tag, 's', 0, f'word {tag}', True) for tag in (270, 271, 272, 305, 306, 315, 33432)]
    data = save_by_tifffile(make_noise(5, 7, 3), extratags=words)
    tags = tifffile.TiffFile(io.BytesIO(encode(decode(data), 'tif'))).pages.first.tags
    assert [tags.valueof(tag) for tag, *_ in words] == [text for *_, text, _ in words]
    assert logged.messages == []


@pytest.mark.parametrize('damaged', [
    b'MM\0*\xFF\xFF\xFF\xFF', build_one_tag(MAKE, 2, 2 ** 32 - 1, b'\xFF\xFF\xFF\xFF')[6:]])
def test_words_of_damaged_exif_are_not_written_to_tiff(damaged):
    assert MAKE not in read_exif(encode(Picture(make_blocks(), Metadata(exif=damaged)), 'tiff'))[0]


@pytest.mark.parametrize('target', ['png', 'jpg', 'webp', 'tiff'])
@pytest.mark.parametrize('source', ['PNG', 'JPEG', 'WEBP', 'TIFF', 'AVIF'])
def test_icc_profile_of_a_colour_picture_is_kept(source, target):
    data = encode(decode(save_by_pillow(make_blocks(), source, icc_profile=SRGB)), target)
    assert Image.open(io.BytesIO(data)).info['icc_profile'] == SRGB
    assert decode(data).metadata.icc == SRGB


def test_profile_and_xmp_of_a_png_may_be_larger_than_pillow_allows():
    xmp = f'<x>{"-" * 2_000_000}</x>'.encode()
    data = build_png(7, 5, 8, 2, compress_rows(make_noise(5, 7, 3)),
                     (b'iCCP', b'x\0\0' + zlib.compress(SRGB + bytes(2_000_000))),
                     (b'iTXt', b'XML:com.adobe.xmp\0\1\0\0\0' + zlib.compress(xmp)))
    metadata = decode(data).metadata
    assert (metadata.icc, metadata.xmp) == (SRGB + bytes(2_000_000), xmp)
    with pytest.raises(ImageError, match='^damaged, or of a kind .*: Decompressed data too large'):
        decode(build_png(7, 5, 8, 2, compress_rows(make_noise(5, 7, 3)),
                         (b'iCCP', b'x\0\0' + zlib.compress(bytes(1 << 27)))))


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF'])
def test_rgb_profile_of_a_gray_picture_is_left_out_with_a_warning(kind, logged):
    assert decode(save_by_pillow(make_noise(5, 7), kind, icc_profile=SRGB)).metadata.icc is None
    assert logged.messages == ['its colour profile is damaged, or for pixels of another kind, and is left out']


def test_a_profile_that_can_not_be_unpacked_is_left_out_with_a_warning(logged):
    profile = struct.pack('>I', len(SRGB) + 70000) + SRGB[4:] + bytes(70000)
    jpeg = encode(Picture(make_blocks(), Metadata(icc=profile)), 'jpg')
    part = jpeg.rindex(b'\xFF\xE2')
    jpeg = jpeg[:part] + jpeg[part + 2 + int.from_bytes(jpeg[part + 2:part + 4]):]
    png = build_png(7, 5, 8, 2, compress_rows(make_noise(5, 7, 3)), (b'iCCP', b'x\0\0rubbish'))
    assert [decode(data).metadata.icc for data in (jpeg, png)] == [None, None]
    assert logged.messages == ['its colour profile is damaged and is left out'] * 2


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


def test_resolution_is_kept_in_the_exif_of_webp():
    data = encode(Picture(make_noise(4, 5, 3), Metadata(dpi=(300.0, 300.0))), 'webp')
    tags = Image.open(io.BytesIO(data)).getexif()
    assert (tags[ExifTags.Base.XResolution], tags[ExifTags.Base.ResolutionUnit]) == (300.0, 2)


def make_exif_of_resolution(across, down):
    tags = Image.Exif()
    tags.update({ExifTags.Base.XResolution: across, ExifTags.Base.YResolution: down, ExifTags.Base.ResolutionUnit: 2})
    return tags.tobytes()


def build_jp2_with_resolution(exponent):
    """Return a JP2 of 40x48 whose resolution is 2 * 10^exponent pixels per metre."""
    data = save_by_pillow(make_noise(40, 48, 3), 'JPEG2000')
    box = struct.pack('>I4sI4sHHHHbb', 26, b'res ', 18, b'resc', 2, 1, 2, 1, exponent, exponent)
    start = data.index(b'jp2h') - 4
    size, = struct.unpack_from('>I', data, start)
    return data[:start] + struct.pack('>I', size + 26) + data[start + 4:start + size] + box + data[start + size:]


@pytest.mark.parametrize(('data', 'told'), [
    (lambda: save_by_pillow(make_blocks(), 'JPEG', exif=make_exif_of_resolution(2 ** 32 - 1, 72)),
     '4.29497e+09 x '),
    (lambda: build_jp2_with_resolution(100), '5.08e+98 x '), (lambda: save_by_tifffile(
        make_noise(5, 7, 3), resolution=(4e9, 4e9), resolutionunit='INCH'), '4e+09 x 4e+09 '),
    (lambda: build_png(64, 48, 8, 2, compress_rows(make_blocks()), (b'pHYs', struct.pack('>IIB', 2 ** 31 - 1, 1, 1))),
     '5.45461e+07 x ')], ids=['JPEG', 'JP2', 'TIFF', 'PNG'])
def test_a_resolution_past_belief_is_ignored_with_a_warning(data, told, logged):
    picture = decode(data())
    assert picture.metadata.dpi is None
    assert [message for message in logged.messages if message.startswith(f'its resolution of {told}')
            and message.endswith(' dpi makes no sense and is ignored')] == logged.messages != []
    for extension in ('png', 'jpg', 'tiff', 'webp', 'bmp'):
        assert decode(encode(picture, extension)).metadata.dpi is None


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


@pytest.mark.parametrize('extra', [0, 1])
def test_the_longest_metadata_of_a_jpeg(logged, extra):
    exif_bytes = bytes(65533 - len(b'Exif\0\0') + extra)
    xmp = b'x' * (65533 - len(b'http://ns.adobe.com/xap/1.0/\0') + extra)
    data = encode(Picture(make_blocks(), Metadata(exif=exif_bytes, xmp=xmp)), 'jpg')
    assert logged.messages == [
        f'the {name} data is too long for jpg and is left out' for name in ('EXIF', 'XMP')[:2 * extra]]
    assert (exif_bytes in data, xmp in data) == (not extra, not extra)
    assert_same(decode(data).pixels, decode(encode(Picture(make_blocks()), 'jpg')).pixels)


# ---- colours without a profile ----

def read_colours(data):
    """Return the first pixel of a file in sRGB, as a program sees it that follows profiles."""
    image = Image.open(io.BytesIO(data))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info['icc_profile']))
    mode = 'RGB' if image.mode != 'L' else 'L'
    shown = ImageCms.profileToProfile(image.convert(mode), profile, ImageCms.createProfile('sRGB'), outputMode='RGB')
    return shown.getpixel((0, 0))


def build_coloured_png(pixel, *chunks):
    """Return a PNG of one colour (RGB, or one value for gray), with extra chunks."""
    samples = np.full((8, 8, np.size(pixel)), pixel, np.uint8)
    return build_png(8, 8, 8, 2 if np.size(pixel) == 3 else 0, compress_rows(samples), *chunks)


def encode_srgb(linear):
    return round(255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055))


GAMMA_1 = b'gAMA', struct.pack('>I', 100_000)
GAMMA_SRGB = b'gAMA', struct.pack('>I', 45455)
CHRM_SRGB = b'cHRM', struct.pack('>8I', 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
CHRM_2020 = b'cHRM', struct.pack('>8I', 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
PQ, HLG, P3 = (b'cICP', b'\x09\x10\0\1'), (b'cICP', b'\x09\x12\0\1'), (b'cICP', b'\x0C\x0D\0\1')


@pytest.mark.parametrize('name', ['cicp.png', 'linear_gamma.png', 'chrm.png', 'prompt.png'])
def test_a_png_keeps_what_it_says_of_its_colours_and_its_texts_chunk_by_chunk(name, logged):
    data = (CASES / name).read_bytes()
    pixels = b'IHDR', b'IDAT', b'IEND'
    kept = [chunk for chunk in list_chunks(data) if chunk[0] not in pixels]
    assert len(kept) > 0
    assert [chunk for chunk in list_chunks(encode(decode(data), 'png')) if chunk[0] not in pixels] == kept
    assert logged.messages == []


@pytest.mark.parametrize('extension', ['tiff', 'jpg', 'webp'])
@pytest.mark.parametrize(('pixel', 'chunks', 'shown'), [
    ((100, 100, 100), [GAMMA_1], [encode_srgb(100 / 255)] * 3),
    ((128, 128, 128), [(b'gAMA', struct.pack('>I', 55556))], [encode_srgb((128 / 255) ** 1.8)] * 3),
    (100, [GAMMA_1], [encode_srgb(100 / 255)] * 3),
    ((128, 128, 128), [CHRM_2020], [128] * 3),
    ((120, 150, 100), [CHRM_2020], [98, 154, 93]), ((120, 150, 100), [P3], [112, 151, 94]),
    ((148, 148, 148), [PQ], [255] * 3),  # 203 nits
    ((102, 102, 102), [PQ], [encode_srgb(32.46 / 203)] * 3),
    ((191, 191, 191), [HLG], [255] * 3), ((127, 127, 127), [HLG], [encode_srgb(50.1 / 203)] * 3)])
def test_formats_that_hold_profiles_say_by_one_what_png_says_by_chunks(pixel, chunks, shown, extension, logged):
    data = encode(decode(build_coloured_png(pixel, *chunks)), extension, 100)
    assert read_colours(data) == pytest.approx(shown, abs=3 if extension != 'tiff' else 1)
    assert logged.messages == [
        f'is HDR, which {extension} does not hold: highlights above white are clipped; --ext png keeps them'
    ] * (chunks[0] in (PQ, HLG))


@pytest.mark.parametrize('chunks', [
    [(b'sRGB', b'\0')], [GAMMA_SRGB], [CHRM_SRGB], [GAMMA_SRGB, CHRM_SRGB, (b'sRGB', b'\0')],
    [(b'cICP', b'\1\x0D\0\1')]])
def test_what_says_srgb_needs_neither_a_profile_nor_a_word(chunks, logged):
    picture = decode(build_coloured_png((1, 2, 3), *chunks))
    assert picture.metadata.colour == tuple(chunks)
    for extension in ('jpg', 'webp', 'tiff', 'bmp'):
        assert decode(encode(picture, extension)).metadata.icc is None
    assert logged.messages == []


def test_a_profile_counts_before_gamma_and_behind_cicp():
    for chunks, same in (([GAMMA_1], True), ([P3], False)):
        picture = Picture(make_blocks(), Metadata(icc=SRGB, colour=tuple(chunks)))
        assert (decode(encode(picture, 'jpg')).metadata.icc == SRGB) is same
        assert decode(encode(picture, 'png')).metadata == picture.metadata


@pytest.mark.parametrize('chunk', [(b'cICP', b'\3\x0D\0\1'), (b'cICP', b'\1\x0A\0\1'), (b'cICP', b'\x0C\x0D\1\0')])
def test_colours_that_no_profile_can_say_are_left_out_with_a_warning(chunk, logged):
    assert decode(encode(decode(build_coloured_png((1, 2, 3), chunk)), 'jpg')).metadata.icc is None
    assert logged.messages == ['not kept in jpg: the description of its colours; --ext png keeps it']


@pytest.mark.parametrize('chunk', [
    (b'cICP', b'\1\2\3'), (b'gAMA', bytes(4)), (b'gAMA', b'\xFF' * 4), (b'gAMA', b'\1'), (b'cHRM', bytes(32)),
    (b'cHRM', CHRM_SRGB[1][:31]), (b'cHRM', b'\xFF' * 32), (b'cHRM', CHRM_SRGB[1][:16] * 2), (b'sRGB', b''),
    (b'mDCV', b'\0'), (b'cLLI', b'\0')], ids=str)
def test_a_damaged_description_of_colours_is_left_out_with_a_warning(chunk, logged):
    picture = decode(build_coloured_png((1, 2, 3), chunk, CHRM_2020 if chunk[0] != b'cHRM' else GAMMA_1))
    assert [kind for kind, _ in picture.metadata.colour] == [b'cHRM' if chunk[0] != b'cHRM' else b'gAMA']
    assert logged.messages == [f'its description of colours ({chunk[0].decode()}) is damaged and is left out']
    for extension in ('png', 'jpg'):
        encode(picture, extension)


@pytest.mark.parametrize(('transfer', 'primaries', 'expected'), [(16, 9, (PQ,)), (13, 1, ()), (13, 12, (P3,))])
def test_avif_says_its_colours_in_numbers_which_png_keeps(transfer, primaries, expected):
    data = imagecodecs.avif_encode(make_blocks(), primaries=primaries, transfer=transfer, matrix=1)
    assert decode(data).metadata.colour == expected
    assert decode(encode(decode(data), 'png')).metadata.colour == expected


# ---- texts, comments, IPTC ----

@pytest.mark.parametrize('text', [
    (b'tEXt', b'Title\0Gr\xF6\xDFe'), (b'zTXt', b'Title\0\0' + zlib.compress(b'a' * 3_000_000)),
    (b'iTXt', b'Title\0\0\0de\0Titel\0' + 'Größe'.encode()), (b'tEXt', b'Title\0a\0b'), (b'iTXt', b'')],
    ids=lambda text: str(text[1][:9]))
@pytest.mark.parametrize('place', [1, 2])
def test_texts_of_png_are_kept_as_they_are_wherever_they_stand(text, place, logged):
    chunks = list_chunks(build_coloured_png((1, 2, 3)))
    chunks[place:place] = [text, text]
    picture = decode(join_chunks(chunks))
    assert picture.metadata.texts == (text, text)
    assert list_chunks(encode(picture, 'png')).count(text) == 2
    assert logged.messages == []


def test_what_stands_behind_the_pixels_of_a_png_is_read():
    chunks = list_chunks(build_png(7, 5, 8, 0, compress_rows(make_noise(5, 7))))
    chunks[2:2] = [(b'eXIf', make_exif(6).tobytes()[6:]), (b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0<xmp/>')]
    picture = decode(join_chunks(chunks))
    assert_same(picture.pixels, np.rot90(make_noise(5, 7), -1))
    assert picture.metadata.xmp == b'<xmp/>'


@pytest.mark.parametrize('text', ['shot on film', 'Größe'])
@pytest.mark.parametrize(('kind', 'options'), [('JPEG', {}), ('GIF', {}), ('PNG', {})])
def test_a_comment_goes_from_jpeg_gif_and_png_to_jpeg_and_png(kind, options, text):
    if kind == 'PNG':
        info = PngInfo()
        info.add_itxt('Comment', text)
        data = save_by_pillow(make_blocks(), kind, pnginfo=info)
    else:
        data = save_by_pillow(make_blocks(), kind, comment=text.encode())
    picture = decode(data)
    assert Image.open(io.BytesIO(encode(picture, 'jpg'))).info['comment'] == text.encode()
    assert Image.open(io.BytesIO(encode(picture, 'png'))).info['Comment'] == text


def test_a_comment_in_no_known_encoding_becomes_text():
    data = encode(Picture(make_blocks(), Metadata(comment=b'Gr\xF6\xDFe\0')), 'png')
    assert Image.open(io.BytesIO(data)).info['Comment'] == 'Größe'


IPTC = b'\x1C\2\5\0\5title\x1C\2\x19\0\3key'  # of 18 bytes
RESOURCES = b'8BIM\3\xED\3abc\0\0\0\2\0\0' + b'8BIM\4\4\4name\0' + struct.pack('>I', len(IPTC)) + IPTC


@pytest.mark.parametrize('iptc', [IPTC, IPTC + b'\x1C\2\x50\0\2me'[:-1]])
@pytest.mark.parametrize('extension', ['jpg', 'png', 'tiff'])
def test_iptc_is_kept(extension, iptc):
    data = encode(Picture(make_blocks(), Metadata(iptc=iptc)), extension)
    assert decode(data).metadata.iptc == iptc
    if extension != 'png':
        found = IptcImagePlugin.getiptcinfo(Image.open(io.BytesIO(data)))
        assert (found[2, 5], found[2, 25]) == (b'title', b'key')


@pytest.mark.parametrize('tag', [
    (33723, 7, len(IPTC), IPTC, True), (33723, 1, len(IPTC), IPTC, True), (34377, 1, len(RESOURCES), RESOURCES, True),
    (33723, 4, 5, struct.unpack('<5I', IPTC + bytes(2)), True)], ids=['undefined', 'bytes', 'resources', 'numbers'])
def test_iptc_of_tiff_is_read_as_programs_write_it(tag):
    data = save_by_tifffile(make_noise(5, 7, 3), byteorder='<', extratags=[tag])
    assert decode(data).metadata.iptc.rstrip(b'\0') == IPTC


def test_the_iptc_and_the_comment_of_a_jpeg_are_kept_beside_its_exif(logged):
    picture = decode((CASES / 'iptc.jpg').read_bytes())
    for extension in ('jpg', 'png'):
        found = decode(encode(picture, extension)).metadata
        assert (found.iptc, found.comment, found.exif) == (
            picture.metadata.iptc, b'shot on film', picture.metadata.exif)
        assert b'A description' in found.iptc
    assert logged.messages == []


@pytest.mark.parametrize('damaged', [b'', b'8BIM', b'8BIM\4\4', b'8BIM\4\4\xFF' + bytes(9), b'8BIM\4\4\0\0\0\0'])
def test_damaged_resources_hold_no_iptc(damaged):
    data = save_by_tifffile(make_noise(5, 7, 3), extratags=[(34377, 1, len(damaged), damaged, True)])
    assert decode(data).metadata.iptc is None


def test_every_comment_of_a_png_and_profiles_of_unknown_kinds_are_kept():
    texts = [build_raw_profile('generic', b'1234'), (b'tEXt', b'Comment\0one'), (b'tEXt', b'Comment\0two')]
    picture = decode(build_png(7, 5, 8, 2, compress_rows(make_noise(5, 7, 3)), *texts))
    kept = [chunk for chunk in list_chunks(encode(picture, 'png')) if chunk[0] in (b'tEXt', b'zTXt')]
    assert kept == texts
    assert Image.open(io.BytesIO(encode(picture, 'jpg'))).info['comment'] == b'two'


# ---- profiles of ImageMagick ----

@pytest.mark.parametrize('name', ['exif', 'APP1'])
@pytest.mark.parametrize('orientation', [3, 6, 8])
def test_the_orientation_in_a_raw_profile_of_png_is_applied(orientation, name):
    exif = make_exif(orientation).tobytes()
    data = build_png(7, 5, 8, 0, compress_rows(make_noise(5, 7)), build_raw_profile(name, exif))
    picture = decode(data)
    assert_same(picture.pixels, np.ascontiguousarray(np.rot90(make_noise(5, 7), {3: 2, 6: -1, 8: 1}[orientation])))
    result = encode(picture, 'png')
    assert read_exif(result)[0][ORIENTATION] == 1
    assert read_exif(result)[0][MAKE] == 'Maker'
    assert b'Raw profile' not in result


def test_every_raw_profile_of_png_is_read():
    xmp = XMP.format('a').encode()
    data = build_png(7, 5, 8, 2, compress_rows(make_noise(5, 7, 3)), build_raw_profile('icm', SRGB),
                     build_raw_profile('xmp', xmp), build_raw_profile('8bim', RESOURCES))
    assert decode(data).metadata == Metadata(icc=SRGB, xmp=xmp, iptc=IPTC)
    data = build_png(7, 5, 8, 0, compress_rows(make_noise(5, 7)), build_raw_profile(
        'APP1', b'http://ns.adobe.com/xap/1.0/\0' + xmp))
    assert decode(data).metadata == Metadata(xmp=xmp)


@pytest.mark.parametrize('text', [b'', b'\nexif\n', b'\nexif\n 4\n0g', b'\nexif\nx\n00', b'\nexif\n 2\n000'])
def test_a_damaged_raw_profile_is_left_out_with_a_warning(text, logged):
    chunk = b'tEXt', b'Raw profile type exif\0' + text
    assert decode(build_png(7, 5, 8, 0, compress_rows(make_noise(5, 7)), chunk)).metadata == Metadata()
    assert logged.messages == ['its text Raw profile type exif is damaged and is left out']


# ---- what is behind a picture ----

def build_jpeg_with_xmp(attributes, content='', tail=b''):
    xmp = (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
           f'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="Größe" {attributes}>{content}'
           '</rdf:Description></rdf:RDF></x:xmpmeta>')
    return save_by_pillow(make_blocks(), 'JPEG', xmp=xmp.encode()) + tail


def test_a_gain_map_is_left_out_with_what_announces_it_and_a_line(logged):
    result = encode(decode((CASES / 'gainmap.jpg').read_bytes()), 'jpg')
    assert logged.messages == ['its gain map (for HDR) is left out']
    assert [word for word in (b'hdrgm', b'GainMap', b'gain-map', b'Container', b'MPF\0') if word in result] == []
    assert decode(result).metadata.xmp.startswith(b'<x:xmpmeta')


@pytest.mark.parametrize(('data', 'told'), [
    (build_jpeg_with_xmp('xmlns:h="http://ns.adobe.com/hdr-gain-map/1.0/" h:Version="1.0"'), 'gain map (for HDR)'),
    (build_jpeg_with_xmp('', '<g:Gain xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/">2</g:Gain>'),
     'gain map (for HDR)'),
    (build_jpeg_with_xmp('', tail=b'urn:iso:std:iso:ts:21496:-1\0'), 'gain map (for HDR)'),
    (build_jpeg_with_xmp('', tail=b'urn:com:apple:photo:2020:aux:hdrgainmap'), 'gain map (for HDR)'),
    (build_jpeg_with_xmp('xmlns:G="http://ns.google.com/photos/1.0/camera/" G:MotionPhoto="1" G:MotionPhotoVersion="1"'
                         ), 'moving part'),
    (build_jpeg_with_xmp('xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="00"'), 'extended XMP')],
    ids=['attribute', 'element', 'ISO', 'Apple', 'motion', 'extended'])
def test_what_is_behind_a_picture_is_left_out_with_a_line_and_the_rest_of_its_xmp_kept(data, told, logged):
    xmp = decode(data).metadata.xmp
    assert 'dc:title="Größe"' in xmp.decode()
    assert [word for word in (b'Version', b'Gain', b'gain-map', b'MotionPhoto', b'HasExtendedXMP') if word in xmp] == []
    assert logged.messages == [f'its {told} is left out']


def test_other_entries_of_a_camera_stay():
    data = build_jpeg_with_xmp('xmlns:G="http://ns.google.com/photos/1.0/camera/" G:BurstID="7" G:MicroVideo="1"')
    xmp = decode(data).metadata.xmp.decode()
    assert ('G:BurstID="7"' in xmp, 'xmlns:G=' in xmp, 'MicroVideo' in xmp) == (True, True, False)


@pytest.mark.parametrize('content', ['<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', '<a'])
def test_xmp_that_announces_something_and_is_no_xml_is_left_out(content, logged):
    xmp = f'{content} http://ns.adobe.com/hdr-gain-map/1.0/'.encode()
    assert decode(save_by_pillow(make_blocks(), 'JPEG', xmp=xmp)).metadata.xmp is None
    assert logged.messages == ['its XMP data is damaged and is left out']
