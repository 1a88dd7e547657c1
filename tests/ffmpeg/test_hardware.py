"""Codecs of cards, on machines that have none: fallbacks, errors, and programs that act as if there were a card."""
from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from realesrgan.errors import MediaError
from realesrgan.ffmpeg.colour import Colour
from realesrgan.ffmpeg.decoder import Decoding, FrameReader, build_decode_command
from realesrgan.ffmpeg.encoder import Encoding
from realesrgan.ffmpeg.families import FAMILIES, list_hwaccel_choices
from realesrgan.ffmpeg.hardware import choose_hwaccel, describe_codecs, list_hwaccels, require_encoder
from realesrgan.ffmpeg.probe import probe
from realesrgan.ffmpeg.programs import FFmpeg
from tests.support import clips
from tests.support.clips import program

ALL = Decoding(Fraction(24))
HD = Encoding(64, 48, False, Fraction(25), Fraction(1), Colour('tv', 'bt709', 'bt709', 'bt709'), 'h264_nvenc',
              'yuv420p', 'mp4')


def pretend(folder, change=''):
    """Programs that take -hwaccel cuda and decode on the CPU; `change` is a sed command for their arguments."""
    script = f'''case "$*" in *-hwaccels*) printf 'Hardware acceleration methods:\\nvdpau\\ncuda\\n'; exit;; esac
for word; do shift
  if [ "$word" = -hwaccel ]; then card=1; elif [ "$word" != cuda ]; then
    [ "$card" ] && word=$(printf '%s' "$word" | sed '{change}'); set -- "$@" "$word"; fi
done
exec '{clips.FFMPEG.ffmpeg}' "$@"'''
    return FFmpeg(program(folder, 'ffmpeg', script), clips.FFMPEG.ffprobe, clips.FFMPEG.version)


@pytest.fixture(scope='module', params=['yuv420p', 'yuv420p10le'])
def film(request, tmp_path_factory):
    path = tmp_path_factory.mktemp('film') / 'a.mkv'
    encoder = 'libx264' if request.param == 'yuv420p' else 'libx265'
    return clips.make(path, *clips.picture(seconds='0.5'), '-c:v', encoder, '-pix_fmt', request.param)


# ---- decoding ----

@pytest.mark.parametrize('asked', ['cuda', 'auto'])
def test_a_card_that_gives_the_same_frames(tmp_path, film, caplog, asked):
    """Cards give nv12 or p010; the filters make the same of them to the bit."""
    caplog.set_level(logging.INFO, 'realesrgan')
    semi_planar = 's/\\[0:0\\]format=yuv420p10le/[0:0]format=p010le,format=yuv420p10le/;' \
                  's/\\[0:0\\]format=yuv420p\\[/[0:0]format=nv12,format=yuv420p[/'
    programs, info = pretend(tmp_path, semi_planar), probe(clips.FFMPEG, str(film))
    assert choose_hwaccel(programs, info, ALL, asked) == 'cuda'
    assert caplog.messages[-1] == 'decoded by --hwaccel cuda'
    with FrameReader(programs, info, replace(ALL, hwaccel='cuda')) as card, FrameReader(
            clips.FFMPEG, info, ALL) as cpu:
        frames = list(card)
        assert np.array_equal(frames, list(cpu))
    assert len(frames) == 12


@pytest.mark.parametrize(('change', 'reason'), [
    ('s/\\[0:0\\]format/[0:0]negate,format/', 'it gives other frames'),
    ('s/^file:.*/none/', 'none: No such file or directory')])
def test_a_card_that_does_not(tmp_path, film, caplog, change, reason):
    assert choose_hwaccel(pretend(tmp_path, change), probe(clips.FFMPEG, str(film)), ALL, 'cuda') == 'none'
    [message] = caplog.messages
    assert message.startswith('--hwaccel cuda: decoded by the CPU instead: ')
    assert reason in message


@pytest.mark.parametrize('asked', [name for name in list_hwaccel_choices() if name not in ('auto', 'none')])
def test_no_card(programs, film, caplog, asked):
    """For real, with whatever this ffmpeg says where it lacks a card, or does not know such cards at all."""
    chosen = choose_hwaccel(programs, probe(programs, str(film)), ALL, asked)
    if chosen == 'none':
        [message] = caplog.messages
        assert message.startswith(f'--hwaccel {asked}: decoded by the CPU instead: ')
        assert '\n' not in message
    else:
        assert chosen == asked  # this machine has one


@pytest.mark.parametrize(('changes', 'decoding', 'reason'), [
    ({'codec': 'mpeg2video'}, ALL, "decoders of mpeg2video don't all give the same frames"),
    ({'pixel_format': 'yuv444p'}, ALL, 'it is yuv444p, and only yuv420p and yuv420p10le are sure to come out the same'),
    ({}, replace(ALL, alpha=True), "cards don't decode transparency")])
def test_videos_that_no_card_decodes(tmp_path, film, caplog, changes, decoding, reason):
    info = probe(clips.FFMPEG, str(film))
    info = replace(info, video=replace(info.video, **changes))
    assert choose_hwaccel(pretend(tmp_path), info, decoding, 'cuda') == 'none'
    assert caplog.messages == [f'--hwaccel cuda: decoded by the CPU instead: {reason}']


@pytest.mark.parametrize(('hwaccel', 'expected'), [
    ('cuda', ['-hwaccel', 'cuda']), ('vaapi', ['-hwaccel', 'vaapi']), ('d3d11va', ['-hwaccel', 'd3d11va']),
    ('videotoolbox', ['-hwaccel', 'videotoolbox']), ('qsv', ['-c:v', 'h264_qsv', '-hwaccel', 'qsv'])])
def test_commands_of_decoders(tmp_path, hwaccel, expected):
    info = probe(clips.FFMPEG, str(clips.make(tmp_path / 'a.mkv', *clips.picture(seconds='0.1'), '-c:v', 'libx264')))
    arguments = build_decode_command(clips.FFMPEG, info, replace(ALL, hwaccel=hwaccel))
    before = arguments[:arguments.index('-i')]
    assert [word for word in before if word in expected] == expected
    assert arguments[arguments.index('-filter_complex') + 1].startswith('[0:0]format=yuv4')


# ---- encoding ----

def test_an_encoder_that_is_listed_but_can_not_start(tmp_path):
    script = "cat >/dev/null; echo '[h264_nvenc @ 0x1] Cannot load libcuda.so.1' >&2; echo more >&2; exit 1"
    programs = FFmpeg(program(tmp_path, 'ffmpeg', script), 'ffprobe', (6, 0))
    with pytest.raises(MediaError, match=r"^--vcodec h264_nvenc: it can't start on this machine: Cannot load "
                                         r'libcuda\.so\.1; leave --vcodec out to encode on the CPU$'):
        require_encoder(programs, HD)
    require_encoder(programs, replace(HD, codec='libx264'))  # is not tried


@pytest.mark.parametrize('codec', ['h264_nvenc', 'h264_vaapi', 'h264_qsv', 'h264_v4l2m2m'])
def test_encoders_without_a_card(programs, codec):
    try:
        require_encoder(programs, replace(HD, codec=codec, width=640, height=480, pixel_format='nv12'))
    except MediaError as error:
        assert str(error).startswith(f"--vcodec {codec}: it can't start on this machine: ")
        assert '\n' not in str(error)


@pytest.mark.parametrize(('codec', 'crf', 'expected'), [
    ('h264_nvenc', 0, '1 to 51'), ('hevc_vaapi', 52, '1 to 51'), ('av1_vaapi', 63.5, '1 to 63'),
    ('h264_amf', 60, '0 to 51')])
def test_numbers_that_an_encoder_does_not_take(codec, crf, expected):
    with pytest.raises(MediaError, match=f'^--crf {crf:g}: {codec} takes {expected}$'):
        require_encoder(clips.FFMPEG, replace(HD, codec=codec, crf=crf))


def test_options_that_an_encoder_has_not(tmp_path, caplog):
    programs = FFmpeg(program(tmp_path, 'ffmpeg', 'cat >/dev/null'), 'ffprobe', (6, 0))
    require_encoder(programs, replace(HD, codec='h264_v4l2m2m', crf=18, preset='slow'))
    assert caplog.messages == ['--crf has no effect on h264_v4l2m2m', '--preset has no effect on h264_v4l2m2m']


# ---- what there is ----

def test_codecs_of_this_machine(programs):
    first, *lines = describe_codecs(programs).splitlines()
    assert first.startswith(f'codecs of cards in {programs.ffmpeg}, version ')
    names = [family.hwaccel or family.ending[1:] for family in FAMILIES]
    assert all(line.split(':')[0].strip() in names for line in lines)
    assert {name for name in list_hwaccels(programs) if name in names} <= {line.split(':')[0].strip() for line in lines}


def test_codecs_of_a_card(tmp_path):
    script = '''case "$*" in
  *-hwaccels*) printf 'Hardware acceleration methods:\\ncuda\\nqsv\\n';;
  *-encoders*) printf ' V....D h264_nvenc x\\n V....D hevc_nvenc x\\n V....D av1_nvenc x\\n V....D mjpeg_qsv x\\n';;
  *"-h encoder="*) echo "Encoder ${3#*=} [x]:"; echo "    Supported pixel formats: yuv420p nv12 cuda";;
  *av1_nvenc*) cat >/dev/null; echo 'Codec not supported' >&2; exit 1;;
  *nullsrc*) case "$*" in *qsv*) echo 'Device creation failed: -5.' >&2; exit 1;; esac;;
  *) cat >/dev/null;;
esac'''
    programs = FFmpeg(program(tmp_path, 'ffmpeg', script), 'ffprobe', (6, 0))
    assert describe_codecs(programs).splitlines()[1:] == [
        '  cuda: --hwaccel cuda decodes; --vcodec h264_nvenc, hevc_nvenc encode',
        '  qsv: not here: no such card, driver or permission (Device creation failed: -5)']
