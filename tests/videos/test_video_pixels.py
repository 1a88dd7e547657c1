"""The pixels of results: colours, ranges, depths, and that the frames are the network's."""
import struct

import numpy as np
import pytest

from realesrgan import RealESRGANer
from realesrgan.ffmpeg.probe import probe, read_hdr
from tests.support import clips
from tests.support.clips import DATA, make, picture, video

BT709 = {'colorspace': 'bt709', 'color_primaries': 'bt709', 'color_trc': 'bt709'}
BT601 = {'colorspace': 'smpte170m', 'color_primaries': 'smpte170m', 'color_trc': 'smpte170m'}
BT2020_PQ = {'colorspace': 'bt2020nc', 'color_primaries': 'bt2020', 'color_trc': 'smpte2084'}
PQ = ['-pix_fmt', 'yuv420p10le', *(part for name, value in BT2020_PQ.items() for part in (f'-{name}', value))]
DISPLAY = 'G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)'


def options(tags):
    return [part for name, value in tags.items() for part in (f'-{name}', value)]


def bars(path, matrix, *, size='128x64', tags=BT709, full=False, pixel_format='yuv420p', codec='libx264'):
    """Colour bars in a matrix and range, with tags."""
    return make(path, *picture(size, rate=10, seconds='0.3', kind='pal75bars'), '-vf',
                f'scale=out_color_matrix={matrix}:out_range={"pc" if full else "tv"},format={pixel_format},'
                + 'setparams=' + ':'.join(f'{name}={tags[name] if tags else "unknown"}' for name in (
                    'colorspace', 'color_primaries', 'color_trc')), '-c:v', codec,
                *(['-crf', '0'] if codec == 'libx264' else ['-x265-params', 'lossless=1:log-level=error']),
                '-color_range', 'pc' if full else 'tv', *options(tags))


def mean_yuv(path, size):
    """Means over the picture of the stored values of Y, Cb and Cr, scaled by ffmpeg without a change of range."""
    width, height = size
    data = clips.ffmpeg('-i', path, '-map', '0:v:0', '-vf', f'scale={width}:{height}:flags=area', *clips.ALL_FRAMES,
                        '-f', 'rawvideo', '-pix_fmt', 'yuv444p', '-')
    return np.frombuffer(data, np.uint8).reshape(-1, 3, height, width)


@pytest.mark.parametrize(('matrix', 'tags', 'expected'), [
    ('bt709', BT709, ('tv', 'bt709', 'bt709', 'bt709')),
    ('smpte170m', BT601, ('tv', 'smpte170m', 'smpte170m', 'smpte170m')),
    ('bt601', {}, ('tv', 'smpte170m', 'smpte170m', 'smpte170m')),
    ('bt2020', BT2020_PQ, ('tv', 'bt2020nc', 'bt2020', 'smpte2084'))])
@pytest.mark.parametrize('extension', ['mp4', 'mkv'])
def test_colours_survive_and_are_tagged(upscale, tmp_path, matrix, tags, expected, extension):
    source = bars(tmp_path / 'a.mp4', matrix, tags=tags)
    upscale('-i', 'a.mp4', '-s', '2', '--crf', '0', '--ext', extension)
    result = tmp_path / f'results/a_out.{extension}'
    assert video(result)['colour'] == expected
    # what is stored means the same: compared in the source's own values, bar by bar
    before, after = mean_yuv(source, (64, 32)), mean_yuv(result, (64, 32))
    assert np.abs(before.astype(float).mean((0, 2, 3)) - after.mean((0, 2, 3))).max() < 1
    assert np.abs(before.astype(int) - after)[:, :, :, 4::8].max() <= 2
    # and the RGB that a player makes of it is that of the source, scaled by ffmpeg
    shown = [clips.ffmpeg('-i', path, '-vf', f'scale=32:24:flags=area:in_color_matrix={matrix}',
                          *clips.ALL_FRAMES, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-') for path in (source, result)]
    shown = [np.frombuffer(data, np.uint8).reshape(-1, 24, 32, 3).astype(float).mean((0, 1, 2)) for data in shown]
    assert np.abs(shown[0] - shown[1]).max() < 2


def make_hdr(path, light='max-cll=1000,400'):
    return make(path, *picture('64x64', seconds='0.5'), *PQ, '-c:v', 'libx265', '-x265-params',
                f'log-level=none:{light}')


@pytest.mark.parametrize('codec', ['libx264', 'libx265', 'libsvtav1'])
@pytest.mark.parametrize('extension', ['mp4', 'mkv'])
def test_hdr_metadata_is_carried(upscale, tmp_path, codec, extension):
    """Of H.264, ffmpeg tells of it since version 6; there it is looked for in the file as the standard counts it."""
    clips.require_encoder(codec)
    source = make_hdr(tmp_path / 'a.mkv', f'master-display={DISPLAY}:max-cll=1000,400')
    assert 'HDR' not in upscale('-i', 'a.mkv', '-s', '2', '--vcodec', codec, '--ext', extension)
    result = tmp_path / f'results/a_out.{extension}'
    if codec == 'libx264':
        assert struct.pack('>8H', 13250, 34500, 7500, 3000, 34000, 16000, 15635, 16450) in result.read_bytes()
        return
    if (codec, extension) == ('libx265', 'mp4'):
        assert video(result)['codec_tag_string'] == 'hvc1'
    carried, expected = (read_hdr(clips.FFMPEG, probe(clips.FFMPEG, str(path))) for path in (result, source))
    assert carried.light == expected.light
    for found, wanted in zip(carried.display, expected.display, strict=True):
        assert float(found) == pytest.approx(float(wanted), abs=1e-4 if wanted < 1 else 1e-3)  # AV1 counts otherwise


def test_an_encoder_that_takes_no_hdr_metadata_is_named(upscale, tmp_path):
    make_hdr(tmp_path / 'a.mkv')
    assert ('warning: a.mkv: ffv1 does not take HDR metadata (mastering display, light level); libx264, libx265, '
            'libsvtav1 do') in upscale('-i', 'a.mkv', '--vcodec', 'ffv1', '--ext', 'mkv')


@pytest.mark.parametrize('pixel_format', ['yuv420p', 'yuvj420p'])
def test_full_range_stays_full(upscale, tmp_path, pixel_format):
    source = bars(tmp_path / 'a.mp4', 'bt709', full=True, pixel_format=pixel_format)
    upscale('-i', 'a.mp4', '-s', '2', '--crf', '0')
    assert video('results/a_out.mp4')['colour'] == ('pc', 'bt709', 'bt709', 'bt709')
    before, after = mean_yuv(source, (32, 24)), mean_yuv('results/a_out.mp4', (32, 24))
    assert abs(int(before.min()) - int(after.min())) <= 2
    assert abs(int(before.max()) - int(after.max())) <= 2
    assert np.abs(before.astype(float).mean((0, 2, 3)) - after.mean((0, 2, 3))).max() < 1


CHROMA = 'encoded as {}, because players expect that of {}; --pix_fmt {} keeps all of its chroma'


@pytest.mark.parametrize(('given', 'extension', 'codec', 'expected', 'line'), [
    ('yuv444p', 'mkv', 'libx264', 'yuv444p', ''), ('yuv422p10le', 'mkv', 'libx264', 'yuv422p10le', ''),
    ('gray', 'mkv', 'ffv1', 'gray', ''), ('gbrp', 'mkv', 'libx264', 'yuv444p', ''),
    ('yuv422p', 'mkv', 'mpeg4', 'yuv420p', 'mpeg4 does not take the yuv422p of the input: encoded as yuv420p'),
    ('yuv420p10le', 'mkv', 'mpeg4', 'yuv420p', 'mpeg4 does not take the yuv420p10le of the input: encoded as yuv420p'),
    ('yuv444p12le', 'mkv', 'libx264', 'yuv444p10le',
     'libx264 does not take the yuv444p12le of the input: encoded as yuv444p10le'),
    ('yuv444p12le', 'mp4', 'libx264', 'yuv420p10le',
     'libx264 does not take the yuv444p12le of the input: encoded as yuv420p10le'),
    ('bgr0', 'mp4', 'libx264', 'yuv420p', 'the input is RGB: ' + CHROMA.format('yuv420p', 'mp4', 'yuv444p')),
    ('bgr0', 'mp4', 'libx264 --pix_fmt yuv444p', 'yuv444p', ''),
    ('yuv422p10le', 'mov', 'libx264', 'yuv420p10le',
     'the input is 4:2:2: ' + CHROMA.format('yuv420p10le', 'mov', 'yuv422p10le')),
    ('gray', 'mp4', 'libx264', 'yuvj420p', ''), ('yuv420p10le', 'mp4', 'libx264', 'yuv420p10le', ''),
    ('yuv422p10le', 'mov', 'prores_ks', 'yuv422p10le', ''), ('yuv422p', 'webm', 'libvpx-vp9', 'yuv422p', '')])
def test_chroma_and_depth_follow_the_input_the_encoder_and_players(
        upscale, tmp_path, given, extension, codec, expected, line):
    make(tmp_path / 'a.mkv', *picture(seconds='0.1'), '-c:v', 'ffv1', '-pix_fmt', given)
    text = upscale('-i', 'a.mkv', '-s', '1', '--ext', extension, '--vcodec', *codec.split())
    assert video(f'results/a_out.{extension}')['pix_fmt'] == expected
    assert (line in text, ' encoded as ' in text) == (True, bool(line)), text


@pytest.mark.parametrize(('option', 'value', 'message'), [
    ('--vcodec', 'libx999', 'has no such encoder (ffmpeg -encoders lists them)'),
    ('--pix_fmt', 'rgb48le', '--pix_fmt rgb48le: libx264 takes yuv420p, '), ('--preset', 'instant', 'instant')])
def test_bad_codecs_and_formats(fail, tmp_path, option, value, message):
    make(tmp_path / 'a.mkv', *picture(seconds='0.1'), '-c:v', 'ffv1')
    assert message in fail('-i', 'a.mkv', option, value)


@pytest.mark.parametrize('deep', [False, True])
def test_frames_are_those_of_the_upsampler(upscale, tmp_path, networks, deep):
    """Lossless codec, single precision: what comes out of the file is what enhance() gives for what is decoded."""
    pixel_format = 'yuv420p10le' if deep else 'yuv420p'
    make(tmp_path / 'a.mkv', *picture('48x32', seconds='0.3'), '-vf',
         f'scale=out_color_matrix=bt709,format={pixel_format}', '-c:v', 'ffv1', *options(BT709))
    upscale('-i', 'a.mkv', '-s', '3', '--vcodec', 'ffv1', '--ext', 'mkv', '--pix_fmt', 'gbrp16le' if deep else 'bgr0',
            '--engine', 'torch', network='tiny')
    conversion = ('scale=in_color_matrix=bt709:in_range=tv:in_h_chr_pos=0:in_v_chr_pos=128:out_range=pc:'
                  'flags=bicubic+accurate_rnd+full_chroma_int')
    decoded = clips.frames('a.mkv', 'bgr48le' if deep else 'bgr24', conversion)
    upsampler = RealESRGANer(4, networks['tiny'], pre_pad=0, engine='torch')
    expected = np.stack([upsampler.enhance(np.ascontiguousarray(frame), outscale=3)[0] for frame in decoded])
    result = clips.frames('results/a_out.mkv', 'bgr48le' if deep else 'bgr24')
    assert result.shape == expected.shape == (8, 96, 144, 3)
    assert np.abs(result.astype(int) - expected).max() <= 1


def chroma_edge(path, location):
    """Where the edge of `chroma_left.mp4` lies in Cr, in pixels of luma from the left, by the light on either side."""
    stream = video(path)
    width, height = stream['size']
    data = clips.ffmpeg('-i', path, '-frames:v', '1', '-f', 'rawvideo', '-pix_fmt', 'yuv420p', '-')
    row = np.frombuffer(data, np.uint8)[width * height * 5 // 4:].reshape(height // 2, width // 2)[height // 4]
    samples = ((row - row[-1].astype(float)) / (float(row[0]) - row[-1])).sum()
    return 2 * samples - (0.5 if location == 'left' else 0), stream['chroma_location']


@pytest.mark.parametrize('location', ['left', 'center'])
@pytest.mark.parametrize('codec', ['libx264', 'libx265'])
def test_chroma_stays_where_it_is(upscale, location, codec):
    source = DATA / f'chroma_{location}.mp4'
    upscale('-i', source, '-s', '4', '--vcodec', codec, '--crf', '4')
    before, after = chroma_edge(source, location), chroma_edge(f'results/chroma_{location}_out.mp4', location)
    assert before[1] == after[1] == location
    assert abs(after[0] / 4 - before[0]) < 0.05


def test_dolby_vision_of_a_kind_that_only_its_decoders_read_is_refused(fail):
    assert fail('-i', DATA / 'dolby_vision_profile5.mp4').splitlines()[1] == (
        f'error: {DATA}/dolby_vision_profile5.mp4: is Dolby Vision of profile 5.0, whose colours only its own '
        'decoders read; convert it to HDR10 or SDR first, for example with the filter libplacebo of a newer ffmpeg')


def test_dolby_vision_over_hdr10_is_upscaled(upscale, tmp_path):
    data = (DATA / 'dolby_vision_profile5.mp4').read_bytes()
    start = data.index(b'dvcC') + 4
    record = bytearray(data[start:start + 24])
    record[2] = 8 << 1 | record[2] & 1  # the profile
    record[4] = 1 << 4  # what its base layer is compatible with
    (tmp_path / 'a.mp4').write_bytes(data[:start] + bytes(record) + data[start + 24:])
    assert 'Dolby Vision of profile 8.1: its base layer is upscaled, its own metadata are left out' in upscale(
        '-i', 'a.mp4', '-s', '1')
    assert video('results/a_out.mp4')['pix_fmt'] == 'yuv420p10le'
