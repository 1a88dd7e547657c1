"""Parts joined, and tracks put with them, in time."""
import logging
from fractions import Fraction

import cv2
import numpy as np
import pytest

from realesrgan.errors import MediaError
from realesrgan.ffmpeg.containers import Track
from realesrgan.ffmpeg.mux import Cut, build_recording_options, join, mux, write_list
from realesrgan.ffmpeg.probe import probe
from tests.support import clips
from tests.support.clips import EXACT, make, numbered, picture, sound

RATE = Fraction(25)


@pytest.fixture
def parts(tmp_path):
    """The list of two parts, 10 and 15 numbered frames."""
    folder = tmp_path / "it's parts %d"
    for index, (start, count) in enumerate(((0, 10), (10, 15))):
        make(folder / f'{index:06}.mp4', *numbered(), '-vf', f'trim=start_frame={start}:end_frame={start + count},'
             'setpts=PTS-STARTPTS', *EXACT)
    write_list(folder / 'parts.ffconcat', [(folder / '000000.mp4', 10), (folder / '000001.mp4', 15)], RATE)
    return folder / 'parts.ffconcat'


# ---- joining ----

def test_the_list_adds_no_roundings(tmp_path):
    write_list(tmp_path / 'list', [(tmp_path / f'{index}.mp4', 1) for index in range(4)], Fraction(30000, 1001))
    assert (tmp_path / 'list').read_text() == (
        'ffconcat version 1.0\nfile 0.mp4\nduration 0.033367\nfile 1.mp4\nduration 0.033366\nfile 2.mp4\n'
        'duration 0.033367\nfile 3.mp4\nduration 0.033367\n')


@pytest.mark.parametrize('container', ['mp4', 'mkv', 'mov'])
def test_joined_parts_are_one_video(parts, tmp_path, programs, container):
    target = tmp_path / f'a.{container}'
    join(programs, parts, target, container)
    assert clips.numbers(target) == list(range(25))
    assert np.abs(np.array(clips.times(target)) - np.arange(25) / 25).max() < 0.001


def test_a_part_that_can_not_be_read(parts, tmp_path, programs):
    (parts.parent / '000001.mp4').write_bytes(b'no video')
    with pytest.raises(MediaError, match="^a part can't be read: .*000001.mp4"):
        join(programs, parts, tmp_path / 'a.mp4', 'mp4')


# ---- with tracks ----

def put_together(programs, parts, source, target, **more):
    """Mux with the video where it began in the source."""
    info = probe(programs, str(source))
    options = {'video_start': info.video.start - info.start, 'cut': Cut(), 'tags_of': info.video} | more
    mux(programs, parts, info, target, target.suffix[1:], **options)
    return target


@pytest.mark.parametrize(('container', 'kind'), [('mkv', 'png'), ('mkv', 'mjpeg'), ('mp4', 'png'), ('mp4', 'mjpeg')])
def test_covers_are_carried(parts, tmp_path, programs, container, kind):
    cv2.imwrite(str(tmp_path / 'cover.png'), np.full((8, 8, 3), 77, np.uint8))
    source = make(tmp_path / 'a.mp4', *picture(rate='25'), *sound(), '-i', tmp_path / 'cover.png', '-map', '0', '-map',
                  '1', '-map', '2', *EXACT, '-c:v:1', kind, '-disposition:v:1', 'attached_pic')
    target = put_together(programs, parts, source, tmp_path / f'b.{container}')
    [cover] = [stream for stream in clips.streams(target, 'video') if stream['disposition']['attached_pic']]
    assert (cover['codec_name'], cover['width'], cover['height']) == (kind, 8, 8)
    before, after = (clips.ffmpeg('-i', path, '-map', '0:v:1', '-c', 'copy', '-f', 'image2pipe', '-')
                     for path in (source, target))
    assert before == after


# ---- streams ----

def test_options_that_record_a_stream(tmp_path, caplog):
    tracks = [Track(1, 'audio', 'aac'), Track(2, 'subtitle', 'mov_text'), Track(3, 'attachment', 'ttf', file_name='f')]
    with caplog.at_level(logging.WARNING, 'realesrgan'):
        options = build_recording_options(tracks, tmp_path / 'a.mkv')
    assert options == ['-map', '0:1', '-c:0', 'copy', '-map', '0:2', '-c:1', 'subrip', '-f', 'matroska', '-y',
                       f'file:{tmp_path}/a.mkv']
    assert caplog.messages == ['attachment track 3 (f) is left out: only audio and subtitles of a stream are carried',
                               'subtitle track 2 (mov_text) is converted to subrip because mkv does not hold it']
    assert build_recording_options(tracks[2:], tmp_path / 'a.mkv') == []
