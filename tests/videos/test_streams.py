"""Videos from a server, live streams and pipes."""
from __future__ import annotations

import os
import threading
from collections import deque

import cv2
import numpy as np

from tests.support import clips
from tests.support.clips import EXACT, files, make, sound


def test_a_video_from_a_server_whose_frames_are_not_extracted_first(upscale, tmp_path, http_server):
    cv2.imwrite(str(tmp_path / 'cover.png'), np.zeros((8, 8, 3), np.uint8))
    source = make(tmp_path / 'a.mp4', *clips.numbered(), *sound(), '-i', 'cover.png', *EXACT, '-map', '0:v', '-map',
                  '1:a', '-map', '2:v', '-c:v:1', 'png', '-disposition:v:1', 'attached_pic', '-movflags', '+faststart')
    http_server.files['/films/my%20film.mp4'], url = source.read_bytes(), f'{http_server.url}/films/my%20film.mp4'
    text = upscale('-i', url, '-s', '1', '--crf', '0', '--extract_frame_first')
    assert '--extract_frame_first has no effect on a stream, which can be read once only' in text
    assert 'cover' in text
    assert 'is left out: only audio and subtitles of a stream are carried' in text
    assert files(tmp_path / 'results') == ['my_20film_out.mp4']
    assert clips.numbers('results/my_20film_out.mp4') == list(range(25))
    assert clips.packets('results/my_20film_out.mp4', 'a:0') == clips.packets(source, 'a:0')
    text = upscale('-i', url, '--extract_frame_first', '--dry_run')
    assert ('frames   25, ' in text, 'extracted frames' in text) == (True, False)


def test_a_stream_of_unknown_length_that_can_not_seek(upscale, tmp_path, http_server):
    source = make(tmp_path / 'a.mkv', *clips.numbered(), *sound(), *EXACT, '-c:a', 'libopus', '-live', '1', '-f',
                  'matroska')
    http_server.files['/live'] = source.read_bytes()
    http_server.troubles = deque([{'ranges': False}] * 50)
    assert 'length unknown' in upscale('-i', f'{http_server.url}/live', '-s', '1', '--crf', '0')
    assert clips.numbers('results/live_out.mp4') == list(range(25))
    assert clips.packets('results/live_out.mp4', 'a:0') == clips.packets(source, 'a:0')
    assert files(tmp_path) == ['a.mkv', 'results/live_out.mp4']


def test_an_empty_pipe_is_a_line(fail):
    assert fail('-i', '/dev/null', '-q') == 'error: /dev/null: nothing came from it\n'


def test_a_pipe_is_copied_first(upscale, tmp_path):
    source = make(tmp_path / 'a.mkv', *clips.numbered(), *EXACT)
    os.mkfifo(tmp_path / 'b.pipe')
    writer = threading.Thread(target=lambda: (tmp_path / 'b.pipe').write_bytes(source.read_bytes()))
    writer.start()
    text = upscale('-i', 'b.pipe', '-s', '1', '--crf', '0')
    writer.join()
    assert "b.pipe: copied to a file first; the run can't be resumed\nb.pipe: h264 yuv420p, " in text
    assert clips.numbers('results/b_out.mp4') == list(range(25))
    assert files(tmp_path / 'results') == ['b_out.mp4']
