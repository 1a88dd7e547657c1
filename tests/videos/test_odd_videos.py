"""Videos that went wrong in silence: those of tests/data/videos, and others of their kinds."""
from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from tests.support import clips
from tests.support.clips import DATA, EXACT, make, picture, video


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


def test_subtitles_of_a_codec_that_this_ffmpeg_does_not_know(upscale, tmp_path):
    (tmp_path / 's.srt').write_text('1\n00:00:00,000 --> 00:00:00,100\nhello\n')
    known = make(tmp_path / 'known.mkv', *picture(seconds='0.1'), '-i', tmp_path / 's.srt', *EXACT, '-c:s', 'srt')
    (tmp_path / 'a.mkv').write_bytes(known.read_bytes().replace(b'S_TEXT/UTF8', b'S_TEXT/UTF9'))
    assert 'subtitle track 1 (unknown) is left out: this ffmpeg does not know its codec; a newer one may' in upscale(
        '-i', 'a.mkv', '-s', '1', '--ext', 'mkv')


@pytest.mark.parametrize('name', ['film_x4.mp4', 'film.MKV', 'film.png'])
def test_an_output_folder_that_is_called_like_a_file_is_refused(run, upscale, tmp_path, name):
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), *EXACT)
    status, _, err = run('-i', 'a.mp4', '-s', '1', '-o', name)
    assert (status, err) == (
        2, f'error: -o names a folder, and {name} looks like a file; make that folder first if you mean it, or set the '
        'names of results with --suffix and --ext\n')
    assert not (tmp_path / name).exists()
    (tmp_path / name).mkdir()
    upscale('-i', 'a.mp4', '-s', '1', '-o', name)


@pytest.mark.parametrize(('extension', 'expected'), [
    ('mp4', '853:720'), ('mov', '853:720'), ('mkv', '853:720'), ('webm', '19:16')])
def test_odd_pixel_shapes_stay_exact(upscale, tmp_path, extension, expected):
    """WebM holds no shape of pixels but the width that is shown, in whole pixels: 152 for 151.6 here."""
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), '-vf', 'setsar=853/720:max=1000', *EXACT)
    upscale('-i', 'a.mp4', '-s', '2', '--ext', extension)
    assert video(f'results/a_out.{extension}')['sample_aspect_ratio'] == expected


@pytest.mark.parametrize('more', [[], ['--chunk', '0.5'], ['--extract_frame_first'], ['--start', '0.2', '--end', '1']])
def test_what_an_edit_list_hides_is_no_damage(upscale, more):
    source = DATA / 'open_gop_cut.mp4'
    assert 'error' not in upscale('-i', source, '-s', '1', '--crf', '0', *more)
    shown = clips.frames(source)[slice(5, 25) if '--start' in more else slice(None)].astype(int)
    result = clips.frames('results/open_gop_cut_out.mp4')
    assert len(result) == len(shown) == (20 if '--start' in more else 42)
    assert np.abs(result - shown).mean() < 2


@pytest.mark.parametrize('packet', [718, 12107])
def test_damage_behind_an_edit_list_is_found(fail, tmp_path, packet):
    """Noise in a packet of frames that are shown: the first, and a key frame."""
    data = bytearray((DATA / 'open_gop_cut.mp4').read_bytes())
    data[packet + 5:packet + 33] = np.random.default_rng(0).bytes(28)
    (tmp_path / 'a.mp4').write_bytes(data)
    assert 'error: a.mp4: damaged at about 0:00:0' in fail('-i', 'a.mp4', '-s', '1')


def add_clean_aperture(path, *numbers):
    """Write a 'clap' box of eight numbers into the first track of an MP4 whose 'moov' comes last."""
    data = bytearray(path.read_bytes())
    box = struct.pack('>I4s8i', 40, b'clap', *numbers)
    for name in (b'avc1', b'stsd', b'stbl', b'minf', b'mdia', b'trak', b'moov'):
        start = data.rindex(name) - 4
        size = int.from_bytes(data[start:start + 4])
        if name == b'avc1':
            data[start + 86:start + 86] = box  # before any that ffmpeg has written, as it does since version 7.1
        data[start:start + 4] = (size + len(box)).to_bytes(4)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(('aperture', 'size'), [
    (None, (192, 128)), ((48, 1, 32, 1, 0, 1, 0, 1), (192, 128)), ((45, 1, 61, 2, 1, 2, -1, 4), (180, 120))],
    ids=['mkv', 'mp4', 'odd'])
@pytest.mark.parametrize('turns', [0, 1])
def test_what_the_container_says_to_crop_is_cropped(upscale, tmp_path, aperture, size, turns):
    """A red border of 8 pixels around what is green on the left and white on the right."""
    source = DATA / 'container_crop.mkv'
    if aperture or turns:
        source = clips.rotate(source, tmp_path / 'a.mp4', 270 * turns)
        add_clean_aperture(source, *(aperture or (48, 1, 32, 1, 0, 1, 0, 1)))
    upscale('-i', source, '-s', '4', '--pix_fmt', 'yuv444p', '--crf', '0')
    result = next((tmp_path / 'results').iterdir())
    frame = np.rot90(clips.frames(result)[0], turns)
    assert (frame.shape[1::-1], video(result).get('sample_aspect_ratio')) == (size, '1:1')
    assert np.abs(frame[:, :size[0] // 2 - 8].astype(int) - (0, 255, 0)).max() < 16
    assert np.abs(frame[:, size[0] // 2 + 8:].astype(int) - 255).max() < 16
