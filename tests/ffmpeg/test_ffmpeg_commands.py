"""The command lines of the decoder and the encoder, argument by argument."""
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from realesrgan.errors import MediaError
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


def test_decoding_a_whole_film():
    assert build_decode_command(NEW, film(), Decoding(Fraction(25))) == [
        *BASE, '-reinit_filter', '0', '-i', 'file:/films/a%d:b,[c].mkv', '-filter_complex',
        f'[0:1]scale=64:48:{TO_RGB}[s0];[s0]settb=1/25[s1];[s1]setpts=N[s2]', '-map', '[s2]', '-f', 'rawvideo',
        '-enc_time_base', '1/25', '-fps_mode', 'passthrough', '-pix_fmt', 'bgr24', 'pipe:1']


def test_decoding_a_chunk_of_a_deep_film_in_old_ffmpeg():
    decoding = Decoding(Fraction(30000, 1001), origin=1234, seek=Fraction(1, 3),
                        kept=Kept(Fraction(1, 2), Fraction(3, 2), 'time'))
    assert build_decode_command(OLD, film('yuv420p10le', 0), decoding) == [
        *BASE, '-copyts', '-noaccurate_seek', '-reinit_filter', '0', '-seek_timestamp', '1', '-ss', '0.333333', '-i',
        'file:/films/a%d:b,[c].mkv', '-filter_complex',
        '[0:0]setpts=PTS-(1234)[s0];[s0]trim=end=1.500000:start=0.500000[s1];'
        f'[s1]scale=64:48:{TO_RGB}[s2];[s2]settb=1001/30000[s3];[s3]setpts=N[s4]', '-map', '[s4]', '-f', 'rawvideo',
        '-enc_time_base', '1001/30000', '-pix_fmt', 'bgr48le', '-vsync', '0', 'pipe:1']


@pytest.mark.parametrize(('decoding', 'expected'), [
    (Decoding(Fraction(24), resample=True), ['fps=24']),
    (Decoding(Fraction(24), resample=True, push=True, origin=7, pad=True, kept=Kept(None, 9, 'pts')),
     ['setpts=PTS-(7)', 'trim=start_pts=0', 'settb=1/24',
      r'setpts=if(isnan(PREV_OUTPTS)\,PTS\,max(PTS\,PREV_OUTPTS+1))', 'fps=24:eof_action=pass',
      'tpad=stop=-1:stop_mode=clone', 'trim=end_pts=9']),
    (Decoding(Fraction(24000, 1001), resample=True, from_zero=True), ['fps=24000/1001:start_time=0']),
    (Decoding(Fraction(25), deinterlace=True), ['scale=64:48', 'bwdif=deint=all:mode=send_frame:parity=auto']),
    (Decoding(Fraction(25), origin=-512), ['setpts=PTS-(-512)']),
    (Decoding(Fraction(25), kept=Kept(0, 10)), ['trim=end_frame=10']),
    (Decoding(Fraction(25), kept=Kept(7, None)), ['trim=start_frame=7']),
    (Decoding(Fraction(25), kept=Kept(0, 9, 'pts')), ['trim=end_pts=9:start_pts=0']),
    (Decoding(Fraction(25), kept=Kept(Fraction(-1, 50), None, 'time')), ['trim=start=-0.020000']),
    (Decoding(Fraction(12), resample=True, deinterlace=True, origin=0, kept=Kept(5, 9, 'pts')),
     ['setpts=PTS-(0)', 'scale=64:48', 'bwdif=deint=all:mode=send_frame:parity=auto', 'fps=12',
      'trim=end_pts=9:start_pts=5'])])
def test_filters_before_scaling(decoding, expected):
    tick = 1 / decoding.rate
    assert list_filters(build_decode_command(NEW, film(), decoding)) == [
        *expected, f'scale=64:48:{TO_RGB}', f'settb={tick}', 'setpts=N']


def test_filters_of_a_video_that_is_turned_are_made_anew_where_its_size_changes():
    """Those by which ffmpeg turns it can't follow."""
    info = film()
    turned = replace(info, video=replace(info.video, is_turned_otherwise=True))
    assert '-reinit_filter' in build_decode_command(NEW, info, Decoding(Fraction(25)))
    assert '-reinit_filter' not in build_decode_command(NEW, turned, Decoding(Fraction(25)))


def test_decoding_by_time_only():
    command = build_decode_command(NEW, film(), Decoding(Fraction(25), seek=Fraction(2), duration=Fraction(7, 2)))
    assert command[8:14] == ['-ss', '2.000000', '-t', '3.500000', '-i', 'file:/films/a%d:b,[c].mkv']


def test_recording_other_tracks_in_the_same_pass():
    plain = build_decode_command(NEW, film(), Decoding(Fraction(25)))
    also = ['-map', '0:2', '-c:0', 'copy', '-f', 'matroska', '-y', 'file:/t.mkv']
    assert build_decode_command(NEW, film(), Decoding(Fraction(25)), also) == [*plain, *also]


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


def test_decoding_what_has_no_video():
    with pytest.raises(MediaError, match='^a.mp3: has no video$'):
        build_decode_command(NEW, MediaInfo('a.mp3', 'mp3', Fraction(0), None, None, ()), Decoding(Fraction(25)))


def encoding(**changes):
    return Encoding(**{'width': 64, 'height': 48, 'dtype_is_deep': False, 'rate': Fraction(25),
                       'sample_aspect': Fraction(1), 'colour': HD, 'codec': 'libx264', 'pixel_format': 'yuv420p',
                       'container': 'mp4'} | changes)


def test_encoding():
    assert build_encode_command(NEW, Path('/a b/%d.mp4'), encoding()) == [
        *BASE, '-f', 'rawvideo', '-video_size', '64x48', '-framerate', '25', '-pixel_format', 'bgr24', '-i', 'pipe:0',
        '-filter_complex',
        f'[0:v]scale={TO_YUV}[s0];[s0]format=yuv420p[s1];[s1]{HD_PARAMS}[s2];[s2]setsar=1/1:max=2147483647[s3]',
        '-map', '[s3]', '-f', 'mp4', '-c:v', 'libx264', '-chroma_sample_location', 'left', '-color_primaries', 'bt709',
        '-color_range', 'tv', '-color_trc', 'bt709', '-colorspace', 'bt709', '-fps_mode', 'passthrough', '-pix_fmt',
        'yuv420p', 'file:/a b/%d.mp4', '-y']


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


def test_encoding_as_rgb():
    command = build_encode_command(NEW, Path('/a.mkv'), encoding(codec='ffv1', pixel_format='gbrp', container='mkv',
                                                                 width=63, height=47))
    assert command[command.index('-filter_complex') + 1] == (
        '[0:v]format=gbrp[s0];[s0]setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr:range=pc[s1];'
        '[s1]setsar=1/1:max=2147483647[s2]')
    assert command[command.index('-f', 10) + 1] == 'matroska'
    assert (command[command.index('-color_range') + 1], command[command.index('-colorspace') + 1]) == ('pc', 'rgb')


@pytest.mark.parametrize(('size', 'pixel_format', 'expected'), [
    ((64, 48), 'yuv420p', None), ((63, 47), 'yuv420p', 'crop=62:46:0:0'), ((64, 47), 'yuv420p', 'crop=64:46:0:0'),
    ((63, 47), 'yuv422p', 'crop=62:47:0:0'), ((63, 47), 'yuv444p', None), ((1, 1), 'yuv420p', 'scale=2:2'),
    ((1, 47), 'yuv420p', 'scale=2:46'), ((1, 47), 'yuv422p', 'scale=2:47')])
def test_sizes_that_the_pixel_format_can_not_hold(size, pixel_format, expected):
    command = build_encode_command(NEW, Path('/a.mp4'), encoding(width=size[0], height=size[1],
                                                                 pixel_format=pixel_format))
    to_yuv = TO_YUV if pixel_format == 'yuv420p' else re.sub(r':out_[hv]_chr_pos=\d+', '', TO_YUV)
    assert list_filters(command)[0] == (expected or f'scale={to_yuv}')


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
