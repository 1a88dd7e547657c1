"""The command lines of the decoder and the encoder, argument by argument."""
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from realesrgan.ffmpeg.colour import Colour
from realesrgan.ffmpeg.decoder import Decoding, Kept, build_decode_command
from realesrgan.ffmpeg.encoder import Encoding, build_encode_command
from realesrgan.ffmpeg.probe import MediaInfo, VideoStream
from realesrgan.ffmpeg.programs import FFmpeg

NEW = FFmpeg('/x/ffmpeg', '/x/ffprobe', (6, 0))
OLD = FFmpeg('/x/ffmpeg', '/x/ffprobe', (4, 4))
BASE = ['/x/ffmpeg', '-hide_banner', '-nostdin', '-nostats', '-loglevel', 'error']
HD = Colour('tv', 'bt709', 'bt709', 'bt709')
FLAGS = 'flags=bicubic+accurate_rnd+full_chroma_int'
TO_RGB = f'{FLAGS}:in_color_matrix=bt709:in_h_chr_pos=0:in_range=tv:in_v_chr_pos=128:out_range=pc'
TO_YUV = f'{FLAGS}+full_chroma_inp:in_range=pc:out_color_matrix=bt709:out_h_chr_pos=0:out_range=tv:out_v_chr_pos=128'
HD_PARAMS = 'setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv'


def film(pixel_format='yuv420p', index=1, source='/films/a%d:b,[c].mkv'):
    video = VideoStream(index, 'h264', 64, 48, Fraction(1), pixel_format, HD, None, None, Fraction(0), None, None,
                        is_interlaced=False)
    return MediaInfo(source, 'matroska,webm', Fraction(0), None, video, ())


def list_filters(command):
    """The filters of a command's graph, without the labels of its chains."""
    return re.findall(r'\]([^];]+)\[', command[command.index('-filter_complex') + 1])


def test_decoding_a_chunk_of_a_deep_film_in_old_ffmpeg():
    decoding = Decoding(Fraction(30000, 1001), origin=1234, seek=Fraction(1, 3),
                        kept=Kept(Fraction(1, 2), Fraction(3, 2), 'time'))
    assert build_decode_command(OLD, film('yuv420p10le', 0), decoding) == [
        *BASE, '-copyts', '-noaccurate_seek', '-reinit_filter', '0', '-seek_timestamp', '1', '-ss', '0.333333', '-i',
        'file:/films/a%d:b,[c].mkv', '-filter_complex',
        '[0:0]setpts=PTS-(1234)[s0];[s0]trim=end=1.500000:start=0.500000[s1];'
        f'[s1]scale=64:48:{TO_RGB}[s2];[s2]settb=1001/30000[s3];[s3]setpts=N[s4]', '-map', '[s4]', '-f', 'rawvideo',
        '-enc_time_base', '1001/30000', '-pix_fmt', 'bgr48le', '-vsync', '0', 'pipe:1']


def test_filters_of_a_video_that_is_turned_are_made_anew_where_its_size_changes():
    """Those by which ffmpeg turns it can't follow."""
    info = film()
    turned = replace(info, video=replace(info.video, is_turned_otherwise=True))
    assert '-reinit_filter' in build_decode_command(NEW, info, Decoding(Fraction(25)))
    assert '-reinit_filter' not in build_decode_command(NEW, turned, Decoding(Fraction(25)))


@pytest.mark.parametrize(('version', 'format_name', 'expected'), [
    ((7, 0), 'matroska,webm', False), ((7, 1), 'matroska,webm', True), ((9, 0), 'mov,mp4,m4a,3gp,3g2,mj2', True),
    ((9, 0), 'avi', False)])
def test_decoding_what_is_cropped(version, format_name, expected):
    info = replace(film(), format_name=format_name)
    info = replace(info, video=replace(info.video, crop=(1, 2, 3, 4)))
    command = build_decode_command(replace(NEW, version=version), info, Decoding(Fraction(25)))
    assert list_filters(command)[:2] == [f'scale=68:54:{TO_RGB}', 'crop=64:48:1:2']
    assert (command[6:8] == ['-apply_cropping', 'codec'] if expected else '-apply_cropping' not in command)


def test_decoding_a_url():
    command = build_decode_command(NEW, film(source='https://host/a?b=c:d&e'), Decoding(Fraction(25)))
    assert command[8:10] == ['-i', 'https://host/a?b=c:d&e']


def encoding(**changes):
    return Encoding(**{'width': 64, 'height': 48, 'dtype_is_deep': False, 'rate': Fraction(25),
                       'sample_aspect': Fraction(1), 'colour': HD, 'codec': 'libx264', 'pixel_format': 'yuv420p',
                       'container': 'mp4'} | changes)


def test_encoding_deep_frames_with_every_option():
    command = build_encode_command(OLD, Path('/a.mov'), encoding(
        dtype_is_deep=True, rate=Fraction(24000, 1001), sample_aspect=Fraction(64, 45), codec='libx265',
        pixel_format='yuv420p10le', container='mov', crf=18.5, preset='slow'))
    assert command == [
        *BASE, '-f', 'rawvideo', '-video_size', '64x48', '-framerate', '24000/1001', '-pixel_format', 'bgr48le', '-i',
        'pipe:0', '-filter_complex',
        f'[0:v]scale={TO_YUV}[s0];[s0]format=yuv420p10le[s1];[s1]{HD_PARAMS}[s2];[s2]setsar=64/45:max=2147483647[s3]',
        '-map', '[s3]', '-f', 'mov', '-c:v', 'libx265', '-chroma_sample_location', 'left', '-color_primaries', 'bt709',
        '-color_range', 'tv', '-color_trc', 'bt709', '-colorspace', 'bt709', '-crf', '18.5', '-pix_fmt',
        'yuv420p10le', '-preset', 'slow', '-tag:v', 'hvc1', '-vsync', '0', 'file:/a.mov', '-y']


@pytest.mark.parametrize(('codec', 'location', 'expected'), [
    ('libx264', 'topleft', 'topleft'), ('libx265', 'center', 'center'), ('libsvtav1', 'center', 'left'),
    ('mjpeg', 'left', 'center')])
def test_chroma_lies_where_the_result_says(codec, location, expected):
    command = build_encode_command(NEW, Path('/a.mkv'), encoding(codec=codec, colour=replace(
        HD, chroma_location=location)))
    assert command[command.index('-chroma_sample_location') + 1] == expected
    assert f'out_h_chr_pos={128 if expected == "center" else 0}:' in list_filters(command)[0]


@pytest.mark.parametrize(('codec', 'container', 'crf', 'expected'), [
    ('libx265', 'mp4', None, ['-tag:v', 'hvc1']), ('libx265', 'mkv', None, []), ('hevc_nvenc', 'mov', None,
                                                                                ['-tag:v', 'hvc1']),
    ('libx264', 'mp4', 20, ['-crf', '20']), ('libvpx-vp9', 'webm', 31, ['-b:v', '0', '-crf', '31']),
    ('libvpx', 'webm', None, []), ('libaom-av1', 'mkv', 30.5, ['-b:v', '0', '-crf', '30.5']),
    ('libsvtav1', 'mp4', 30, ['-crf', '30'])])
def test_options_of_encoders(codec, container, crf, expected):
    command = build_encode_command(NEW, Path('/a'), encoding(codec=codec, container=container, crf=crf))
    found = [(name, command[command.index(name) + 1]) for name in ('-b:v', '-crf', '-preset', '-tag:v')
             if name in command]
    assert [part for pair in found for part in pair] == expected
