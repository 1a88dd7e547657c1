"""The table of containers."""
import re
import subprocess
import sys

import pytest

import inference_realesrgan_video as script
from realesrgan.ffmpeg.containers import CONTAINERS, Container
from tests.support import clips


@pytest.mark.parametrize(('name', 'expected'), [
    ('mp4', ('mp4', 'libx264', 'aac', 'mov_text', True, 'hvc1', False)),
    ('mkv', ('matroska', 'libx264', 'aac', 'subrip', False, '', True)),
    ('mov', ('mov', 'libx264', 'aac', 'mov_text', True, 'hvc1', False)),
    ('webm', ('webm', 'libvpx-vp9', 'libopus', 'webvtt', False, '', False))])
def test_rows(name, expected):
    row = CONTAINERS[name]
    assert (row.muxer, row.default_encoder, row.audio_encoder, row.subtitle_encoder, row.exact_times, row.hevc_tag,
            row.attachments) == expected


@pytest.mark.parametrize('name', CONTAINERS)
def test_what_a_row_converts_to_it_also_holds(name):
    row = CONTAINERS[name]
    codec = {'libopus': 'opus'}.get(row.audio_encoder, row.audio_encoder)
    assert codec in row.audio
    assert row.subtitle_encoder in row.subtitles
    assert row.default_encoder in (row.video_encoders or [row.default_encoder])


@pytest.mark.parametrize('name', CONTAINERS)
def test_ffmpeg_has_the_muxers_and_encoders(name, programs):
    row = CONTAINERS[name]

    def ask(about):
        return subprocess.run([programs.ffmpeg, '-hide_banner', '-h', about], capture_output=True, text=True,
                              env=clips.ENVIRONMENT).stdout
    assert ask(f'muxer={row.muxer}').startswith(f'Muxer {row.muxer} ')
    assert re.search(rf'extensions?: .*\b{name}\b', ask(f'muxer={row.muxer}'))
    for encoder in (row.default_encoder, row.audio_encoder, row.subtitle_encoder):
        assert ask(f'encoder={encoder}').startswith(f'Encoder {encoder} ')


@pytest.mark.parametrize('name', CONTAINERS)
def test_the_script_offers_every_container(name):
    assert script.build_parser().parse_args(['--ext', name]).ext == name


def test_the_script_names_its_choices():
    assert f',{",".join(CONTAINERS)}}}' in script.build_parser().format_help()


def test_a_row_needs_only_what_differs_from_the_defaults():
    row = Container('avi', 'mpeg4', frozenset(('mp3',)), 'mp3', frozenset(), 'srt')
    assert (row.video_encoders, row.covers, row.attachments, row.exact_times) == ((), frozenset(), False, True)


def test_parsing_options_loads_neither_numpy_nor_ffmpeg_python():
    code = ('import sys, inference_realesrgan_video; inference_realesrgan_video.build_parser(); '
            'print([name for name in ("ffmpeg", "numpy", "torch") if name in sys.modules])')
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout == '[]\n'
