"""The table of containers, and which tracks each copies, converts or leaves out."""
import re
import subprocess

import pytest

from realesrgan.ffmpeg.containers import CONTAINERS, Track, plan_tracks
from tests.support import clips


@pytest.mark.parametrize('name', CONTAINERS)
def test_what_a_row_converts_to_it_also_holds(name):
    row = CONTAINERS[name]
    codec = {'libopus': 'opus'}.get(row.audio_encoder, row.audio_encoder)
    assert codec in (row.audio or [''])
    assert row.subtitle_encoder in (row.subtitles or [''])
    assert row.default_encoder in (row.video_encoders or [row.default_encoder])


@pytest.mark.parametrize('name', CONTAINERS)
def test_ffmpeg_has_the_muxers_and_encoders(name, programs):
    row = CONTAINERS[name]

    def ask(about):
        return subprocess.run([programs.ffmpeg, '-hide_banner', '-h', about], capture_output=True, text=True,
                              env=clips.ENVIRONMENT).stdout
    assert ask(f'muxer={row.muxer}').startswith(f'Muxer {row.muxer} ')
    assert re.search(rf'extensions?: .*\b{name}\b', ask(f'muxer={row.muxer}'))
    for encoder in filter(None, (row.default_encoder, row.alpha_encoder, row.audio_encoder, row.subtitle_encoder)):
        assert ask(f'encoder={encoder}').startswith(f'Encoder {encoder} ')


# ---- the other tracks ----

AAC = Track(1, 'audio', 'aac', language='eng')
WMA = Track(2, 'audio', 'wmav2')
SUBRIP = Track(3, 'subtitle', 'subrip', language='kor')
PGS = Track(4, 'subtitle', 'hdmv_pgs_subtitle')
FONT = Track(5, 'attachment', 'ttf', file_name='font.ttf')
COVER = Track(6, 'video', 'mjpeg', is_cover=True, file_name='cover.jpg')


def test_a_plan_for_mp4(caplog):
    assert plan_tracks([AAC, WMA, SUBRIP, PGS, FONT, COVER], 'mp4') == {
        AAC: 'copy', WMA: 'aac', SUBRIP: 'mov_text', COVER: 'copy'}
    assert caplog.messages == [
        'audio track 2 (wmav2) is converted to aac because mp4 does not hold it',
        'subtitle track 3 (subrip, kor) is converted to mov_text because mp4 does not hold it',
        'subtitle track 4 (hdmv_pgs_subtitle) is left out: mp4 does not hold subtitles that are pictures',
        'attachment track 5 (font.ttf) is left out: mp4 does not hold it']


def test_matroska_takes_everything(caplog):
    tracks = [AAC, WMA, SUBRIP, PGS, FONT, COVER]
    assert plan_tracks(tracks, 'mkv') == dict.fromkeys(tracks, 'copy')
    assert caplog.messages == []


@pytest.mark.parametrize(('track', 'container', 'encoder'), [
    (Track(1, 'audio', 'pcm_s16le'), 'mp4', 'aac'), (Track(1, 'audio', 'pcm_s16le'), 'mov', 'copy'),
    (Track(1, 'audio', 'pcm_s16le'), 'mkv', 'copy'), (Track(1, 'audio', 'pcm_s16le'), 'webm', 'libopus'),
    (Track(1, 'audio', 'pcm_f32be'), 'mov', 'copy'), (Track(1, 'audio', 'pcm_f32be'), 'mkv', 'aac'),
    (Track(1, 'audio', 'opus'), 'webm', 'copy'), (Track(1, 'audio', 'opus'), 'mov', 'aac'),
    (Track(1, 'audio', 'flac'), 'mp4', 'copy'), (Track(1, 'audio', 'flac'), 'mov', 'aac'),
    (Track(1, 'subtitle', 'mov_text'), 'mkv', 'subrip'), (Track(1, 'subtitle', 'ass'), 'webm', 'webvtt'),
    (Track(1, 'subtitle', 'webvtt'), 'webm', 'copy')])
def test_codecs(track, container, encoder):
    assert plan_tracks([track], container) == {track: encoder}


@pytest.mark.parametrize('codec', ['tmcd', 'text'])
def test_time_codes_and_chapters_are_not_said_to_be_left_out(caplog, codec):
    assert plan_tracks([Track(2, 'data', codec)], 'mp4') == {}
    assert caplog.messages == []


@pytest.mark.parametrize(('track', 'container', 'note'), [
    (Track(2, 'video', 'h264'), 'mkv', 'video track 2 (h264) is left out: only one video track is upscaled'),
    (Track(2, 'audio', 'unknown'), 'mkv',
     'audio track 2 (unknown) is left out: this ffmpeg does not know its codec; a newer one may'),
    (Track(2, 'subtitle', 'unknown'), 'mp4',
     'subtitle track 2 (unknown) is left out: this ffmpeg does not know its codec; a newer one may'),
    (Track(2, 'subtitle', 'dvb_subtitle'), 'mp4',
     'subtitle track 2 (dvb_subtitle) is left out: mp4 does not hold subtitles that are pictures'),
    (Track(2, 'subtitle', 'dvb_teletext'), 'mp4',
     "subtitle track 2 (dvb_teletext) is left out: mp4 does not hold it, and ffmpeg can't convert it"),
    (Track(2, 'data', 'mebx'), 'mov', 'data track 2 (mebx) is left out: data tracks are not carried'),
    (Track(2, 'subtitle', 'eia_608'), 'mp4', 'subtitle track 2 (eia_608) is left out: closed captions are not carried'),
    (Track(2, 'video', 'gif', is_cover=True), 'mp4', 'cover track 2 (gif) is left out: mp4 does not hold it'),
    (COVER, 'mov', 'cover track 6 (cover.jpg) is left out: mov does not hold it'),
    (COVER, 'webm', 'cover track 6 (cover.jpg) is left out: webm does not hold it')])
def test_what_is_left_out(caplog, track, container, note):
    assert plan_tracks([track], container) == {}
    assert caplog.messages == [note]
