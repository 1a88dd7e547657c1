"""Audio, subtitles, chapters, attachments, covers and metadata of every kind of result."""
from __future__ import annotations

import re
from dataclasses import replace

import pytest

from realesrgan.ffmpeg import mux
from tests.support import clips
from tests.support.clips import DATA, EXACT, LOSSLESS, counted, counts, files, make, picture, sound, video


@pytest.fixture
def rich(tmp_path):
    """An mkv with two audio tracks, two subtitles, chapters, a title, an attachment and a cover."""
    (tmp_path / 's.srt').write_text('1\n00:00:00,100 --> 00:00:00,900\nhello\n', encoding='utf-8')
    (tmp_path / 'chapters.txt').write_text(
        ';FFMETADATA1\ntitle=The film\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=One\n'
        '[CHAPTER]\nTIMEBASE=1/1000\nSTART=500\nEND=1000\ntitle=Two\n')
    (tmp_path / 'font.ttf').write_bytes(b'not quite a font')
    make(tmp_path / 'cover.png', *picture('16x16'), '-frames:v', '1')
    return make(
        tmp_path / 'rich.mkv', *picture(), *sound(), *sound(frequency=880), '-i', tmp_path / 's.srt', '-i',
        tmp_path / 'chapters.txt', *'-map 0 -map 1 -map 2 -map 3 -map 3 -map_metadata 4'.split(),
        *EXACT, '-c:a:0', 'aac', '-c:a:1', 'libopus', '-c:s:0', 'srt', '-c:s:1', 'ass', '-metadata:s:a:1',
        'language=kor', '-metadata:s:s:0', 'language=eng', '-attach', tmp_path / 'font.ttf', '-metadata:s:t:0',
        'mimetype=font/ttf', '-attach', tmp_path / 'cover.png', '-metadata:s:t:1', 'mimetype=image/png',
        '-metadata:s:t:1', 'filename=cover.png')


def kinds(path):
    return [(stream['codec_type'], stream.get('codec_name')) for stream in clips.facts(path)['streams']]


def test_all_tracks_into_mp4(upscale, tmp_path, rich):
    text, result = upscale('-i', 'rich.mkv', '-s', '1'), 'results/rich_out.mp4'
    assert [kind for kind in kinds(result) if kind[0] != 'data'] == [
        ('video', 'h264'), ('audio', 'aac'), ('audio', 'opus'), ('subtitle', 'mov_text'), ('subtitle', 'mov_text'),
        ('video', 'png')]
    assert [clips.packets(result, f'a:{n}') == clips.packets(rich, f'a:{n}') for n in (0, 1)] == [True, True]
    told = clips.facts(result)
    assert [chapter['tags']['title'] for chapter in told['chapters']] == ['One', 'Two']
    assert told['format']['tags']['title'] == 'The film'
    assert clips.streams(result, 'audio')[1]['tags']['language'] == 'kor'
    assert clips.streams(result, 'video')[1]['disposition']['attached_pic'] == 1
    assert 'attachment track 5 (font.ttf) is left out: mp4 does not hold it' in text
    assert 'subtitle track 3 (subrip, eng) is converted to mov_text' in text


def test_all_tracks_into_mkv(upscale, tmp_path, rich):
    assert 'left out' not in upscale('-i', 'rich.mkv', '-s', '1', '--ext', 'mkv')
    result = 'results/rich_out.mkv'
    assert sorted(kinds(result)) == sorted(kinds(rich))
    for which in ('a:0', 'a:1', 's:0', 's:1'):
        assert clips.packets(result, which) == clips.packets(rich, which)
    assert [chapter['tags']['title'] for chapter in clips.facts(result)['chapters']] == ['One', 'Two']
    covers = [clips.ffmpeg('-i', path, '-map', '0:v:1', '-c', 'copy', '-f', 'image2pipe', '-')
              for path in (rich, result)]
    assert covers[0] == covers[1]


def test_webm_gets_its_own_codecs(upscale, rich):
    upscale('-i', 'rich.mkv', '-s', '1', '--ext', 'webm', '--end', '0.2')
    assert kinds('results/rich_out.webm') == [('video', 'vp9'), ('audio', 'opus'), ('audio', 'opus'),
                                              ('subtitle', 'webvtt'), ('subtitle', 'webvtt')]


def test_pcm_is_copied_into_mov_and_converted_for_mp4(upscale, tmp_path):
    source = make(tmp_path / 'a.mov', *picture(), *sound(), *EXACT, '-c:a', 'pcm_s16le')
    upscale('-i', 'a.mov', '-s', '1', '--ext', 'mov')
    assert clips.packets('results/a_out.mov', 'a:0') == clips.packets(source, 'a:0')
    assert 'audio track 1 (pcm_s16le) is converted to aac because mp4 does not hold it' in upscale(
        '-i', 'a.mov', '-s', '1')
    assert kinds('results/a_out.mp4') == [('video', 'h264'), ('audio', 'aac')]


def test_audio_longer_than_the_video_and_no_audio(upscale, tmp_path):
    source = make(tmp_path / 'a.mp4', *picture(), *sound('3'), *EXACT)
    make(tmp_path / 'b.mp4', *picture(), *EXACT)
    upscale('-i', 'a.mp4', 'b.mp4', '-s', '1')
    assert clips.packets('results/a_out.mp4', 'a:0') == clips.packets(source, 'a:0')
    assert abs(clips.duration('results/a_out.mp4') - 1) < 0.01
    assert kinds('results/b_out.mp4') == [('video', 'h264')]


@pytest.mark.parametrize(('audio', 'picture_later'), [('0.5', '0'), ('0', '0.52')])
@pytest.mark.parametrize('extension', ['mkv', 'mp4', 'ts'])
def test_the_offset_between_tracks_is_kept(upscale, tmp_path, audio, picture_later, extension):
    source = make(tmp_path / f'a.{extension}', '-itsoffset', picture_later, *picture(rate=25), '-itsoffset', audio,
                  *sound(), *EXACT, '-c:a', 'aac')
    upscale('-i', source.name, '-s', '1')
    before, after = ([float(stream['start_time']) for stream in clips.facts(path)['streams']]
                     for path in (source, 'results/a_out.mp4'))
    assert abs((after[1] - after[0]) - (before[1] - before[0])) < 0.025
    assert video('results/a_out.mp4')['frames'] == video(source)['frames']


@pytest.mark.parametrize(('missing', 'message'), [
    ('eng kor', 'its other tracks could not be carried, the video alone is kept: ffmpeg failed'),
    ('eng', 'audio track 1 (aac, eng) could not be carried and is left out: ffmpeg failed')])
def test_tracks_that_can_not_be_carried_do_not_cost_the_others(fail, tmp_path, monkeypatch, missing, message):
    make(tmp_path / 'a.mkv', *picture(seconds='0.2'), *sound('0.2'), *sound('0.2', 880), *EXACT, *(
        '-map 0 -map 1 -map 2 -c:a aac -metadata:s:a:0 language=eng -metadata:s:a:1 language=kor'.split()))
    plan = mux.plan_tracks

    def misses(tracks, container):
        return {replace(track, index=7) if track.language in missing else track: encoder
                for track, encoder in plan(tracks, container).items()}
    monkeypatch.setattr(mux, 'plan_tracks', misses)
    assert f'error: a.mkv: {message}' in fail('-i', 'a.mkv', '-s', '1', '--ext', 'mkv')
    languages = [stream['tags']['language'] for stream in clips.streams('results/a_out.mkv', 'audio')]
    assert (languages, video('results/a_out.mkv')['frames']) == (['kor'] if 'kor' not in missing else [], 5)
    assert files(tmp_path) == ['a.mkv', 'results/a_out.mkv']


@pytest.mark.parametrize(('layout', 'expected'), [
    ('5.1(side)', (6, '5.1')), ('5.0(side)', (5, '5.0')), ('quad(side)', (4, 'quad')), ('stereo', (2, 'stereo'))])
def test_channels_are_arranged_as_webm_takes_them(upscale, tmp_path, layout, expected):
    tone = '|'.join(f'0.2*sin({220 * (index + 1)}*t)' for index in range(expected[0]))
    make(tmp_path / 'a.mkv', *picture(seconds='0.2'), '-f', 'lavfi', '-i', f'aevalsrc={tone}:c={layout}:d=0.2', *EXACT,
         '-c:a', 'ac3')
    upscale('-i', 'a.mkv', '-s', '1', '--ext', 'webm')
    (audio,) = clips.streams('results/a_out.webm', 'audio')
    assert (audio['codec_name'], audio['channels'], audio['channel_layout']) == ('opus', *expected)


def test_a_recording_whose_size_and_sound_change_half_way(upscale, tmp_path):
    """Two joined recordings: the clock begins anew, frames get larger, another audio track begins."""
    first = make(tmp_path / '1.ts', *counted('5', '20'), *sound('20'), *EXACT, '-c:a', 'aac')
    larger = [part.replace('X/6', 'X/12') for part in counted('5', '2', size='128x64')]
    second = make(tmp_path / '2.ts', *larger, *sound('2', 880), *EXACT, '-c:a', 'ac3', '-streamid', '1:0x120')
    (tmp_path / 'a.ts').write_bytes(first.read_bytes() + second.read_bytes())
    upscale('-i', 'a.ts', *LOSSLESS)
    result = video('results/a_out.mp4')
    assert (result['frames'], result['size']) == (110, (64, 32))
    assert counts('results/a_out.mp4') == [*range(100), *range(10)]
    assert [stream['codec_name'] for stream in clips.streams('results/a_out.mp4', 'audio')] == ['aac', 'ac3']


@pytest.mark.parametrize('extension', ['mp4', 'mov', 'mkv'])
def test_what_a_telephone_says_of_a_video_is_kept(upscale, extension):
    assert 'left out' not in upscale('-i', DATA / 'phone_metadata.mov', '-s', '1', '--end', '0.2', '--ext', extension)
    told = clips.facts(f'results/phone_metadata_out.{extension}')
    tags = {name.lower(): value for name, value in told['format']['tags'].items()}
    assert tags.items() >= {
        'com.apple.quicktime.make': 'Apple', 'com.apple.quicktime.creationdate': '2020-01-02T04:04:05+0100',
        'com.apple.quicktime.location.iso6709': '+52.5200+013.4050+034.000/', 'title': 'My clip'}.items()
    assert tags.get('major_brand') == {'mp4': 'isom', 'mov': 'qt  ', 'mkv': None}[extension]
    codes = [stream['tags'].get('timecode', stream['tags'].get('TIMECODE')) for stream in told['streams']
             if stream['codec_type'] != 'audio']
    assert codes == (['01:00:00:00'] if extension == 'mkv' else ['01:00:00:00'] * 2)


def test_a_time_code_that_stands_in_the_container_is_kept(upscale, tmp_path):
    make(tmp_path / 'a.mkv', *picture(seconds='0.1'), *EXACT, '-metadata', 'timecode=01:02:03:04')
    upscale('-i', 'a.mkv', '-s', '1')
    assert [stream['tags']['timecode'] for stream in clips.facts('results/a_out.mp4')['streams']] == ['01:02:03:04'] * 2


def test_a_time_code_is_not_carried_to_a_part_that_begins_later(upscale):
    assert re.search('warning: .*the time code 01:00:00:00 is left out: it is that of the uncut video\n', upscale(
        '-i', DATA / 'phone_metadata.mov', '-s', '1', '--start', '1', '--end', '1.2'))
    told = clips.facts('results/phone_metadata_out.mp4')
    assert [stream['codec_type'] for stream in told['streams']] == ['video', 'audio']
    assert 'timecode' not in told['format']['tags']


def test_subtitles_of_a_codec_that_this_ffmpeg_does_not_know(upscale, tmp_path):
    (tmp_path / 's.srt').write_text('1\n00:00:00,000 --> 00:00:00,100\nhello\n')
    known = make(tmp_path / 'known.mkv', *picture(seconds='0.1'), '-i', tmp_path / 's.srt', *EXACT, '-c:s', 'srt')
    (tmp_path / 'a.mkv').write_bytes(known.read_bytes().replace(b'S_TEXT/UTF8', b'S_TEXT/UTF9'))
    assert 'subtitle track 1 (unknown) is left out: this ffmpeg does not know its codec; a newer one may' in upscale(
        '-i', 'a.mkv', '-s', '1', '--ext', 'mkv')
