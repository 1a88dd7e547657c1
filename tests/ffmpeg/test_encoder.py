"""Frames encoded by real encoders and read back: pixels, tags, shape and times."""
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from realesrgan.errors import MediaError, MediaWriteError
from realesrgan.ffmpeg.colour import Colour, PixelFormat
from realesrgan.ffmpeg.encoder import (
    Encoding,
    FrameWriter,
    build_encode_command,
    choose_codec,
    choose_output_pixel_format,
    choose_part_container,
)
from realesrgan.ffmpeg.programs import FFmpeg
from tests.support import clips
from tests.support.clips import program, video

HD = Colour('tv', 'bt709', 'bt709', 'bt709')
PLAIN = Encoding(64, 48, False, Fraction(25), Fraction(1), HD, 'libx264', 'yuv420p', 'mp4', crf=0, preset='ultrafast')
RAW = replace(PLAIN, codec='ffv1', container='mkv', crf=None, preset=None)


def encode(programs, path, encoding, frames):
    """Write frames and return the path."""
    with FrameWriter(programs, path, encoding) as writer:
        for frame in frames:
            writer.write(frame)
        writer.finish()
    return path


def noise(count=3, height=48, width=64, dtype=np.uint8):
    """Frames of random numbers over the whole range."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (count, height, width, 3), dtype=dtype)


def flat(*colours, height=48, width=64):
    """Frames of one colour each, BGR."""
    return np.array(colours, np.uint8)[:, None, None].repeat(height, 1).repeat(width, 2)


# ---- pixels ----

@pytest.mark.parametrize(('size', 'dtype', 'pixel_format'), [
    ((48, 64), np.uint8, 'bgr0'), ((47, 63), np.uint8, 'gbrp'), ((48, 64), np.uint16, 'gbrp16le'),
    ((1, 1), np.uint8, 'bgr0')])
def test_rgb_is_kept_bit_for_bit(tmp_path, programs, size, dtype, pixel_format):
    frames = noise(3, *size, dtype)
    path = encode(programs, tmp_path / 'a.mkv', replace(
        RAW, width=size[1], height=size[0], dtype_is_deep=dtype is np.uint16, pixel_format=pixel_format), frames)
    if pixel_format == 'gbrp16le':
        assert np.array_equal(clips.frames(path, 'bgr48le'), frames)
    else:
        assert np.array_equal(clips.frames(path), frames)


@pytest.mark.parametrize(('colour', 'expected'), [  # of pure red: Y, Cb, Cr by the standards' own equations
    (HD, (63, 102, 240)), (Colour('tv', 'smpte170m', 'smpte170m', 'smpte170m'), (81, 90, 240)),
    (Colour('tv', 'bt470bg', 'bt470bg', 'bt709'), (81, 90, 240)), (replace(HD, range='pc'), (54, 99, 255)),
    (Colour('tv', 'bt2020nc', 'bt2020', 'bt2020-10'), (74, 97, 240)),
    (Colour('tv', 'ycgco', 'bt709', 'bt709'), (63, 102, 240))])
def test_red_in_every_matrix(tmp_path, programs, colour, expected):
    path = encode(programs, tmp_path / 'a.mkv', replace(RAW, colour=colour, pixel_format='yuv444p'),
                  flat((0, 0, 255)))
    data = clips.ffmpeg('-i', path, '-f', 'rawvideo', '-pix_fmt', 'yuv444p' if colour.range == 'tv' else 'yuvj444p',
                        '-')
    planes = np.frombuffer(data, np.uint8).reshape(3, -1)
    assert (planes == planes[:, :1]).all()
    assert np.abs(planes[:, 0].astype(int) - expected).max() <= 1


def test_10_bits_are_kept(tmp_path, programs):
    ramp = np.arange(64, dtype=np.uint16)[None, None, :, None].repeat(48, 1).repeat(3, 3) * np.uint16(64) + 20000
    path = encode(programs, tmp_path / 'a.mkv', replace(
        RAW, dtype_is_deep=True, pixel_format='yuv444p10le', colour=replace(HD, range='pc')), ramp)
    data = clips.ffmpeg('-i', path, '-f', 'rawvideo', '-pix_fmt', 'yuv444p10le', '-')
    light = np.frombuffer(data, np.uint16).reshape(3, 48, 64)[0]
    assert np.abs(light - ramp[0, :, :, 0] / 65535 * 1023).max() <= 2  # ffmpeg shifts bits instead of scaling values
    assert len(np.unique(light)) >= 40  # of 64 levels, of which 8 bits would leave 16


# ---- what is written beside them ----

@pytest.mark.parametrize(('size', 'pixel_format', 'expected'), [
    ((63, 47), 'yuv420p', (62, 46)), ((63, 47), 'yuv422p', (62, 47)), ((63, 47), 'yuv444p', (63, 47)),
    ((1, 1), 'yuv420p', (2, 2)), ((1, 47), 'yuv420p', (2, 46))])
def test_odd_sizes(tmp_path, programs, size, pixel_format, expected):
    path = encode(programs, tmp_path / 'a.mp4', replace(PLAIN, width=size[0], height=size[1],
                                                        pixel_format=pixel_format), noise(2, size[1], size[0]))
    assert (video(path)['size'], video(path)['pix_fmt']) == (expected, pixel_format)


def test_the_last_column_and_line_are_cut_off(tmp_path, programs):
    frames = flat((50, 100, 150), height=47, width=63)
    frames[:, 46], frames[:, :, 62] = 255, 255
    path = encode(programs, tmp_path / 'a.mp4', replace(PLAIN, width=63, height=47), frames)
    assert np.abs(clips.frames(path, filters='scale=in_color_matrix=bt709').astype(int) - (50, 100, 150)).max() <= 3


def test_names_that_look_like_patterns(tmp_path, programs):
    assert encode(programs, tmp_path / 'a:%d [1].mp4', PLAIN, noise()).exists()


# ---- what fails ----

@pytest.mark.parametrize(('frame', 'message'), [
    (np.zeros((48, 63, 3), np.uint8), r'the frame is \(48, 63, 3\), uint8, but the video is \(48, 64, 3\), uint8'),
    (np.zeros((48, 64, 3), np.uint16), r'the frame is \(48, 64, 3\), uint16, but '),
    (np.zeros((48, 64), np.uint8), r'the frame is \(48, 64\), uint8, but ')])
def test_frames_that_do_not_fit(tmp_path, frame, message):
    with FrameWriter(clips.FFMPEG, tmp_path / 'a.mp4', PLAIN) as writer, pytest.raises(ValueError, match=message):
        writer.write(frame)


def test_views_are_written_as_they_look(tmp_path, programs):
    frames = noise()[:, :, ::-1]
    assert np.array_equal(clips.frames(encode(programs, tmp_path / 'a.mkv', replace(RAW, pixel_format='bgr0'),
                                              frames)), frames)


def test_a_failing_encoder_tells_why(tmp_path, programs):
    before = clips.belongings()
    with pytest.raises(MediaError, match=r"ffmpeg failed \(exit status \d+\): .*'instant'"):
        encode(programs, tmp_path / 'a.mp4', replace(PLAIN, preset='instant'), noise(500))
    assert clips.belongings() == before


@pytest.mark.parametrize(('script', 'error', 'message'), [
    ('cat >/dev/null; echo late >&2; exit 1', MediaError, r'^ffmpeg failed \(exit status 1\): late$'),
    ('cat >/dev/null; echo No space left on device >&2', MediaWriteError, '^the disk is full ')])
def test_encoders_that_fail_at_the_end(tmp_path, script, error, message):
    failing = FFmpeg(program(tmp_path, 'ffmpeg', script), 'ffprobe', (6, 0))
    with pytest.raises(error, match=message):
        encode(failing, tmp_path / 'a.mp4', PLAIN, noise())


def test_a_killed_writer_gives_an_error(tmp_path):
    before = clips.belongings()
    with FrameWriter(clips.FFMPEG, tmp_path / 'a.mp4', PLAIN) as writer:
        writer.write(noise(1)[0])
        writer.kill()
        with pytest.raises(MediaError, match=r'^ffmpeg failed \(signal 9\): '):
            writer.finish()
    assert clips.belongings() == before


# ---- choices ----

@pytest.mark.parametrize(('asked', 'container', 'expected'), [
    (None, 'mp4', 'libx264'), (None, 'mkv', 'libx264'), (None, 'mov', 'libx264'), (None, 'webm', 'libvpx-vp9'),
    ('libx265', 'mp4', 'libx265'), ('libaom-av1', 'webm', 'libaom-av1'), ('prores_ks', 'mov', 'prores_ks')])
def test_encoders(asked, container, expected):
    assert choose_codec(asked, container) == expected


def test_an_encoder_that_the_container_does_not_take():
    with pytest.raises(MediaError, match=r'^--vcodec libx264: webm takes only libvpx, libvpx-vp9, .*, av1_amf; leave '
                                         '--vcodec out, or choose --ext mkv$'):
        choose_codec('libx264', 'webm')


@pytest.mark.parametrize(('codec', 'container', 'expected'), [
    ('libx264', 'mkv', 'mp4'), ('hevc_nvenc', 'mkv', 'mp4'), ('libvpx-vp9', 'webm', 'mp4'),
    ('libaom-av1', 'mkv', 'mp4'), ('libvpx', 'webm', 'webm'), ('ffv1', 'mkv', 'mkv'), ('libx264', 'mp4', 'mp4'),
    ('ffv1', 'mov', 'mov')])
def test_containers_of_parts(codec, container, expected):
    assert choose_part_container(codec, container) == expected


@pytest.mark.parametrize(('codec', 'asked', 'wanted', 'expected'), [
    ('libx264', None, ('420', 10), 'yuv420p10le'), ('libx264', 'yuv444p', ('420', 8), 'yuv444p'),
    ('libx264', None, ('444', 12), 'yuv444p10le'), ('mpeg4', None, ('422', 10), 'yuv420p')])
def test_pixel_formats(programs, codec, asked, wanted, expected):
    assert choose_output_pixel_format(programs, codec, asked, PixelFormat(*wanted)) == expected


# ---- commands of other versions and encoders ----

def command(version=(6, 0), **changes):
    encoding = replace(PLAIN, **{'crf': None, 'preset': None} | changes)
    return build_encode_command(FFmpeg('/x/ffmpeg', '/x/ffprobe', version), Path('/a b/%d.mov'), encoding)


def test_encoding_deep_frames_with_every_option_in_old_ffmpeg():
    assert command((4, 4), dtype_is_deep=True, rate=Fraction(24000, 1001), sample_aspect=Fraction(64, 45),
                   codec='libx265', pixel_format='yuv420p10le', container='mov', crf=18.5, preset='slow') == [
        '/x/ffmpeg', '-hide_banner', '-nostdin', '-nostats', '-loglevel', 'error', '-f', 'rawvideo', '-video_size',
        '64x48', '-framerate', '24000/1001', '-pixel_format', 'bgr48le', '-i', 'pipe:0', '-filter_complex',
        '[0:v]scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp:in_range=pc:out_color_matrix=bt709:'
        'out_h_chr_pos=0:out_range=tv:out_v_chr_pos=128[s0];[s0]format=yuv420p10le[s1];'
        '[s1]setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv[s2];'
        '[s2]setsar=64/45:max=2147483647[s3]',
        '-map', '[s3]', '-f', 'mov', '-c:v', 'libx265', '-chroma_sample_location', 'left', '-color_primaries', 'bt709',
        '-color_range', 'tv', '-color_trc', 'bt709', '-colorspace', 'bt709', '-crf', '18.5', '-pix_fmt',
        'yuv420p10le', '-preset', 'slow', '-tag:v', 'hvc1', '-vsync', '0', 'file:/a b/%d.mov', '-y']


@pytest.mark.parametrize(('codec', 'location', 'expected'), [
    ('libx264', 'topleft', 'topleft'), ('libx265', 'center', 'center'), ('libsvtav1', 'center', 'left'),
    ('mjpeg', 'left', 'center')])
def test_chroma_lies_where_the_result_says(codec, location, expected):
    arguments = command(codec=codec, colour=replace(HD, chroma_location=location))
    assert arguments[arguments.index('-chroma_sample_location') + 1] == expected
    assert f'out_h_chr_pos={128 if expected == "center" else 0}:' in ' '.join(arguments)


@pytest.mark.parametrize(('codec', 'container', 'crf', 'expected'), [
    ('libx265', 'mp4', None, '-tag:v hvc1'), ('libx265', 'mkv', None, ''), ('hevc_nvenc', 'mov', None, '-tag:v hvc1'),
    ('libx264', 'mp4', 20, '-crf 20'), ('libvpx-vp9', 'webm', 31, '-b:v 0 -crf 31'), ('libvpx', 'webm', None, ''),
    ('libaom-av1', 'mkv', 30.5, '-b:v 0 -crf 30.5'), ('libsvtav1', 'mp4', 30, '-crf 30'),
    ('hevc_videotoolbox', 'mp4', None, '-tag:v hvc1')])
def test_options_of_encoders(codec, container, crf, expected):
    arguments = command(codec=codec, container=container, crf=crf)
    assert ' '.join(f'{name} {arguments[arguments.index(name) + 1]}' for name in ('-b:v', '-crf', '-preset', '-tag:v')
                    if name in arguments) == expected


# ---- encoders of cards ----

@pytest.mark.parametrize(('codec', 'crf', 'preset', 'expected'), [
    ('h264_nvenc', 18, None, {'-rc': 'vbr', '-cq': '18', '-b:v': '0'}),
    ('av1_nvenc', 18.5, 'slow', {'-rc': 'vbr', '-cq': '18.5', '-b:v': '0', '-preset': 'p5'}),
    ('hevc_nvenc', None, 'p7', {'-preset': 'p7'}),
    ('h264_qsv', 18, 'ultrafast', {'-global_quality': '18', '-preset': 'veryfast'}),
    ('hevc_vaapi', 18, 'medium', {'-global_quality': '18', '-compression_level': '4'}),
    ('av1_vaapi', 30, None, {'-global_quality': '121'}),  # of 255, as 30 of 63
    ('hevc_videotoolbox', 18, None, {'-q:v': '65'}),
    ('h264_videotoolbox', 51, 'slow', {'-q:v': '1'}),
    ('h264_amf', 18, 'fast', {'-rc': 'cqp', '-qp_i': '18', '-qp_p': '18', '-qp_b': '18', '-quality': 'speed'}),
    ('hevc_amf', 18, 'slower', {'-rc': 'cqp', '-qp_i': '18', '-qp_p': '18', '-quality': 'quality'}),
    ('av1_amf', 63, None, {'-rc': 'cqp', '-qp_i': '255', '-qp_p': '255'}),
    ('hevc_mf', 0, None, {'-rate_control': 'quality', '-quality': '100'}),
    ('h264_v4l2m2m', 18, 'slow', {}),
    ('libx264', 18, 'slow', {'-crf': '18', '-preset': 'slow'})])
def test_quality_and_presets_of_each_family(codec, crf, preset, expected):
    names = ('-crf', '-rc', '-cq', '-b:v', '-global_quality', '-q:v', '-qp_i', '-qp_p', '-qp_b', '-rate_control',
             '-quality', '-preset', '-compression_level')
    arguments = command(codec=codec, crf=crf, preset=preset)
    assert {name: arguments[arguments.index(name) + 1] for name in names if name in arguments} == expected


def test_frames_for_vaapi_are_uploaded():
    arguments = command(codec='h264_vaapi', pixel_format='nv12', crf=18)
    assert arguments[6:10] == ['-init_hw_device', 'vaapi=card', '-filter_hw_device', 'card']
    assert 'format=nv12[' in arguments[arguments.index('-filter_complex') + 1]
    assert arguments[arguments.index('-filter_complex') + 1].endswith(']hwupload[s4]')
    assert '-pix_fmt' not in arguments
    assert 'hwupload' not in ' '.join(command(codec='h264_nvenc'))


NVENC = 'yuv420p nv12 p010le yuv444p p016le yuv444p16le bgr0 bgra rgb0 rgba gbrp cuda'
QSV = 'nv12 p010le yuyv422 y210le qsv bgra x2rgb10le'


@pytest.mark.parametrize(('codec', 'listed', 'wanted', 'expected'), [
    ('hevc_nvenc', NVENC, ('420', 8), 'yuv420p'), ('hevc_nvenc', NVENC, ('420', 10), 'p010le'),
    ('hevc_nvenc', NVENC, ('444', 8), 'yuv444p'), ('h264_nvenc', NVENC, ('420', 10), 'yuv420p'),
    ('hevc_qsv', QSV, ('420', 10), 'p010le'), ('hevc_qsv', QSV, ('444', 8), 'nv12'),
    ('hevc_vaapi', 'vaapi', ('422', 12), 'p010le'), ('h264_vaapi', 'vaapi', ('420', 10), 'nv12'),
    ('hevc_videotoolbox', 'videotoolbox_vld nv12 yuv420p bgra p010le', ('420', 10), 'p010le')])
def test_pixel_formats_of_cards(tmp_path, codec, listed, wanted, expected):
    script = f"echo 'Encoder {codec} [x]:'; echo '    Supported pixel formats: {listed}'"
    programs = FFmpeg(program(tmp_path, 'ffmpeg', script), 'ffprobe', (6, 0))
    assert choose_output_pixel_format(programs, codec, None, PixelFormat(*wanted)) == expected
