"""Output of ffprobe for damaged and hostile videos, and damaged folders of parts."""
from __future__ import annotations

import contextlib
import itertools
import json
import math
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realesrgan.errors import PartsError, RealESRGANError
from realesrgan.ffmpeg.colour import HdrMetadata
from realesrgan.ffmpeg.containers import CONTAINERS, plan_tracks
from realesrgan.ffmpeg.decoder import Damage
from realesrgan.ffmpeg.probe import parse_probe
from realesrgan.ffmpeg.timing import collect_time_stamps
from realesrgan.videos import VideoOptions, plan
from realesrgan.videos.parts import OpenParts, Part
from realesrgan.videos.plan import cut_into_chunks, plan_video
from tests.support import clips
from tests.support.mutations import JSON, mutated, mutated_json

REAL = {
    'streams': [
        {'index': 0, 'codec_name': 'h264', 'codec_type': 'video', 'width': 64, 'height': 48, 'pix_fmt': 'yuv420p',
         'sample_aspect_ratio': '1:1', 'color_range': 'tv', 'color_space': 'bt709', 'color_transfer': 'bt709',
         'color_primaries': 'bt709', 'field_order': 'progressive', 'r_frame_rate': '24/1', 'avg_frame_rate': '24/1',
         'time_base': '1/12288', 'start_pts': 0, 'duration': '1.000000', 'nb_frames': '24',
         'disposition': {'default': 1, 'attached_pic': 0}, 'tags': {'language': 'und', 'title': 'x', 'rotate': '90'},
         'side_data_list': [{'side_data_type': 'Display Matrix', 'rotation': -90}]},
        {'index': 1, 'codec_name': 'aac', 'codec_type': 'audio', 'time_base': '1/48000', 'start_pts': 0,
         'disposition': {'default': 1}, 'tags': {'language': 'eng'}},
        {'index': 2, 'codec_name': 'mjpeg', 'codec_type': 'video', 'width': 9, 'height': 9, 'pix_fmt': 'yuvj444p',
         'disposition': {'attached_pic': 1}, 'tags': {'filename': 'cover.jpg'}},
        {'index': 3, 'codec_name': 'subrip', 'codec_type': 'subtitle', 'time_base': '1/1000', 'start_pts': 5}],
    'format': {'format_name': 'mov,mp4,m4a,3gp,3g2,mj2', 'start_time': '0.000000', 'duration': '1.000000',
               'tags': {'major_brand': 'isom'}}}


def check(output, folder):
    """Plan a video as far as that goes without ffmpeg."""
    source = folder / 'a.mp4'
    source.touch()
    try:
        info = parse_probe(str(source), output)
        for container in CONTAINERS:
            plan_tracks(info.tracks, container)
        planned = plan_video(None, info, VideoOptions())
        ranges = planned.list_chunks(math.ceil(10 * planned.decoding.rate))
    except RealESRGANError as error:
        assert '\n' not in str(error)
        return
    video = planned.video
    assert 0 < video.width * video.height <= VideoOptions().max_pixels
    assert planned.decoding.rate > 0
    assert 1 <= len(ranges) <= 110_000
    assert ranges[0][0] == 0
    assert ranges[-1][1] is None


@st.composite
def time_stamps(draw):
    pts = draw(st.lists(st.none() | st.integers(-2 ** 63, 2 ** 63) | st.integers(0, 5000), min_size=1, max_size=30))
    keys = draw(st.lists(st.sampled_from(pts), max_size=5))
    base = Fraction(draw(st.sampled_from(['1/12288', '1/1', '1/1000000000', '1000/1'])))
    return collect_time_stamps(pts, base, [key for key in keys if key is not None])


def test_the_real_output_is_understood(tmp_path):
    info = parse_probe('a.mp4', json.dumps(REAL).encode())
    assert (info.video.width, info.video.height, len(info.tracks)) == (48, 64, 3)


VIDEO = REAL['streams'][0]


def encode(told):
    return json.dumps(told).encode()


@pytest.mark.parametrize('outputs', [mutated_json(REAL).map(encode), mutated([encode(REAL)])], ids=['json', 'bytes'])
def test_what_ffprobe_may_say(monkeypatch, tmp_path, no_hang, outputs):
    @given(outputs, st.none() | time_stamps())
    @example(b'[' * 100_000, None)
    @example(encode(REAL | {'format': {'duration': '1e15'}}), None)
    @example(encode({'streams': [VIDEO | {'width': 10 ** 9, 'height': 10 ** 9}]}), None)
    @example(encode({'streams': [VIDEO | {'r_frame_rate': '1/1000000000', 'avg_frame_rate': '0/0'}]}), None)
    def run(output, stamps):
        monkeypatch.setattr(plan, 'read_time_stamps', lambda *_: stamps)
        with no_hang():
            check(output, tmp_path)
    run()


@given(st.integers(0, 10 ** 5), st.integers(-5, 10 ** 6))
def test_chunks_cover_each_frame_once(length, last_start):
    ranges = cut_into_chunks(max(length, last_start // 1000), last_start)
    assert ranges[0][0] == 0
    assert ranges[-1][1] is None
    for (first, stop), (following, _) in itertools.pairwise(ranges):
        assert first < stop == following


@given(st.lists(JSON, max_size=3) | st.lists(st.dictionaries(st.sampled_from(
    ['side_data_type', 'red_x', 'max_content', 'max_luminance']), JSON | st.sampled_from(
        ['Mastering display metadata', 'Content light level metadata'])), max_size=3))
def test_hdr_metadata_that_make_no_sense(side_data):
    found = HdrMetadata.parse([entry for entry in side_data if isinstance(entry, dict)])
    assert found is None or found.display or found.light


# ---- the folder of parts ----

MADE = [Part(0, 24, 20, is_last=False), Part(24, 24, 20, is_last=True, damage=Damage(3, 'torn'))]
MANIFEST = {'version': '1', 'weights': 'abc', 'outscale': '2', 'faces': None}


@contextlib.contextmanager
def open_parts(folder):
    opened = OpenParts(folder / 'a.mp4', 'mp4', MANIFEST)
    yield opened.parts
    opened.close(keep=True)


def make_parts(folder):
    """Parts of an interrupted run; return the files of their folder."""
    with open_parts(folder) as parts:
        for part in MADE:
            path = parts.path(part.first)
            path.write_bytes(bytes([part.first]) * 100)
            parts.seal(part, path)
    return {path.name: path.read_bytes() for path in parts.folder.iterdir() if path.name != 'lock'}


@given(st.data())
def test_a_part_is_used_only_as_it_was_written(data):
    with tempfile.TemporaryDirectory() as folder:
        files = make_parts(Path(folder))
        name = data.draw(st.sampled_from(sorted(files)))
        changed = data.draw(mutated([files[name]]))
        (Path(folder) / 'a_parts' / name).write_bytes(changed)
        try:
            with open_parts(Path(folder)) as parts:
                found = parts.find()
                for part in MADE:
                    if parts.is_intact(part.first):
                        assert parts.path(part.first).read_bytes() == files[f'{part.first:08}.mp4']
                        assert part in found
        except PartsError as error:
            assert name == 'manifest.json'
            assert 'holds parts of another run' in str(error)


@given(JSON)
def test_a_note_of_anything_is_no_note(value):
    with tempfile.TemporaryDirectory() as folder:
        make_parts(Path(folder))
        note = Path(folder) / 'a_parts/00000000.json'
        note.write_text(json.dumps(value))
        with open_parts(Path(folder)) as parts:
            assert parts.find() == MADE[1:]


def test_clips_are_as_real_as_the_one_above(tmp_path):
    """The keys that ffprobe prints of a clip are those that are damaged here."""
    clip = clips.make(tmp_path / 'a.mp4', *clips.picture(), *clips.sound(), *clips.EXACT)
    told = clips.facts(clip)
    video = next(stream for stream in told['streams'] if stream['codec_type'] == 'video')
    assert {'index', 'width', 'height', 'pix_fmt', 'r_frame_rate', 'avg_frame_rate', 'time_base', 'start_pts',
            'duration', 'nb_frames', 'disposition'} <= set(video)
