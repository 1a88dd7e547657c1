"""Videos that lie on another machine: the same frames come over the wire, and the same parts go back."""
from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import FFMPEG, files, make, sound
from depots import DirectClient
from numbered_frames import OPEN_GOPS, counted

from realesrgan.errors import ImageError, VideoError
from realesrgan.ffmpeg.probe import probe
from realesrgan.videos import VideoOptions
from realesrgan.videos.checkpoint import Parts
from realesrgan.videos.chunks import Upscaled
from realesrgan.videos.shipping import ShippingChunkWorker
from realesrgan.videos.source import FrameSource, VideoSource
from realesrgan.workers.depot import Depot

OPTIONS = VideoOptions(outscale=1, chunk=Fraction(7, 10))


class Hasher:
    """Stands for a worker: writes a hash of each frame into the part, and what of it is damaged."""

    def __init__(self):
        self.chunks = []

    def __call__(self, chunk, report):
        self.chunks.append(chunk)
        with chunk.frames.open() as reader:
            lines = [hashlib.sha256(frame.tobytes()).hexdigest() for frame in reader]
        chunk.part.write_text('\n'.join(lines))
        chunk.part.with_suffix('.json').write_text('{}')
        return Upscaled(chunk.index, len(lines), len(lines), getattr(reader, 'damage', None))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tmp').mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path / 'tmp'))
    (tmp_path / 'parts').mkdir()
    return tmp_path


def cut(name, **options):
    """The chunks of a video."""
    source = VideoSource(FFMPEG, name, probe(FFMPEG, name), replace(OPTIONS, **options), lambda: None)
    return source.make_chunks(Parts(Path('parts'), 'mp4'), ExitStack())


def read_here(chunks):
    """What a worker on this machine makes of chunks: results, and frames."""
    done = [Hasher()(chunk, None) for chunk in chunks]
    frames = [chunk.part.read_text() for chunk in chunks]
    shutil.rmtree('parts')
    return done, frames


def read_there(chunks, depot):
    """What a worker elsewhere makes of them; nothing is left over."""
    worker = ShippingChunkWorker(depot, hasher := Hasher())
    try:
        done = [worker(chunk, None) for chunk in chunks]
    finally:
        worker._server.close()
    assert not any(path.exists() for chunk in hasher.chunks for path in (chunk.part, chunk.part.parent))
    assert files('tmp') == []
    assert sorted(path.name for path in Path('parts').iterdir() if path.is_file()) == sorted(
        chunk.part.with_suffix(suffix).name for chunk in chunks for suffix in ('.json', '.mp4'))
    return done, [chunk.part.read_text() for chunk in chunks]


@pytest.mark.parametrize(('name', 'arguments'), [
    ('a.mp4', []), ('fast start.mp4', ['-movflags', 'faststart']), ('a%d.mkv', []), ('a.mov', ['-g', '30']),
    ('a.ts', ['-output_ts_offset', '1234.5']), ('a.m2ts', ['-x264-params', 'intra-refresh=1:keyint=30']),
    ('a.avi', ['-c:v', 'mpeg4', '-bf', '2', '-q:v', '2']),
    ('a.mpg', ['-c:v', 'mpeg2video', '-bf', '2', '-q:v', '2', '-c:a', 'mp2']),
    ('a.webm', ['-c:v', 'libvpx', '-b:v', '1M', '-auto-alt-ref', '1', '-lag-in-frames', '16', '-c:a', 'libopus']),
    ('a.flv', []), ('a.y4m', ['-an', '-c:v', 'wrapped_avframe', '-pix_fmt', 'yuv420p']), ('a.264', ['-an']),
    ('a.gif', ['-an', '-c:v', 'gif', '-pix_fmt', 'pal8'])])
def test_the_frames_of_every_container(folder, name, arguments):
    make(folder / name, *counted('25', '4'), *sound('4'), *OPEN_GOPS, '-c:a', 'aac', *arguments)
    chunks = cut(name)
    assert read_there(chunks, DirectClient(folder)) == read_here(chunks)


def test_a_proxy_is_not_asked_for_this_machine(folder, monkeypatch):
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
    monkeypatch.setenv('no_proxy', 'example.org')
    make(folder / 'a.mp4', *counted('25', '1'), *OPEN_GOPS)
    chunks = cut('a.mp4')
    assert read_there(chunks, DirectClient(folder)) == read_here(chunks)
    assert os.environ['no_proxy'] == 'example.org,127.0.0.1'


def test_a_video_that_nobody_asks_for_is_no_damage(folder):
    """As where ffmpeg can't reach this machine's own address: another node may do better."""
    make(folder / 'a.mp4', *counted('25', '1'), *OPEN_GOPS)
    chunk = cut('a.mp4')[0]
    with pytest.raises(RuntimeError, match='^a.mp4: can\'t be read on this node through a web server of its own$'):
        ShippingChunkWorker(DirectClient(folder), lambda chunk, report: Upscaled(0, 0, 0))(chunk, None)


@pytest.mark.parametrize('more', [{'fps': Fraction(50)}, {'start': Fraction(3, 2), 'end': Fraction(3)},
                                  {'deinterlace': 'on'}])
def test_the_frames_that_options_choose(folder, more):
    make(folder / 'a.mp4', *counted('25', '4'), *OPEN_GOPS)
    chunks = cut('a.mp4', **more)
    assert read_there(chunks, DirectClient(folder)) == read_here(chunks)


@pytest.mark.parametrize('name', ['a.mkv', 'a.mpg'])
def test_damage_is_the_same(folder, name):
    codec = ['-c:v', 'mpeg2video', '-q:v', '2'] if name == 'a.mpg' else OPEN_GOPS
    make(folder / name, *counted('25', '4', '640x320'), *codec)
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2:len(data) // 2 + 200] = bytes(200)
    (folder / name).write_bytes(data[:-len(data) // 10])
    chunks = cut(name)
    (here, frames), (there, frames_there) = read_here(chunks), read_there(chunks, DirectClient(folder))
    assert frames_there == frames
    assert any(upscaled.damage for upscaled in here)
    assert [(bool(upscaled.damage), upscaled.frames) for upscaled in there] == [
        (bool(upscaled.damage), upscaled.frames) for upscaled in here]


def test_only_what_a_chunk_needs_is_sent(folder):
    noise = 'nullsrc=size=320x240:rate=25:duration=40,geq=random(1)*255:128:128'
    make(folder / 'a.mkv', '-f', 'lavfi', '-i', noise, '-c:v', 'mpeg4', '-q:v', '2', '-g', '25')
    size = (folder / 'a.mkv').stat().st_size
    assert size > 30e6
    depot = DirectClient(folder)
    chunks = cut('a.mkv', chunk=Fraction(1))
    read_there(chunks[20:21], depot)
    assert depot.bytes_read < size / 4
    before = depot.bytes_read
    shutil.rmtree('parts')
    read_there(chunks[20:21], depot)  # what was read is kept for a while
    assert depot.bytes_read - before < size / 8


def test_frames_of_a_folder(folder):
    (folder / 'shots').mkdir()
    shots = [Path(f'shots/{number:0246}.png') for number in range(5)]
    for number, shot in enumerate(shots):
        cv2.imwrite(str(shot), np.full((4, 6, 3), number * 9, np.uint8))
    source = FrameSource(FFMPEG, 'shots', shots, OPTIONS, lambda: None)
    chunks = source.make_chunks(Parts(Path('parts'), 'mp4'), ExitStack())
    assert read_there(chunks, DirectClient(folder)) == read_here(chunks)
    shots[3].write_bytes(b'\x89PNG\r\n\x1a\n damaged')
    with pytest.raises(ImageError, match=f'^{shots[3]}: '):
        read_there(chunks, DirectClient(folder))


def test_a_source_that_goes_away_is_an_error_and_no_damage(folder):
    make(folder / 'a.mkv', *counted('25', '4'), *OPEN_GOPS)
    chunks = cut('a.mkv')

    class Leaving(DirectClient):
        def _read_block(self, path, index, state=None):
            raise OSError(5, 'Input/output error', str(path))
    with pytest.raises(OSError, match='a.mkv'):
        read_there(chunks, Leaving(folder))
    assert files('parts') == []
    (folder / 'a.mkv').unlink()
    with pytest.raises(FileNotFoundError):
        read_there(chunks, DirectClient(folder))


def test_a_source_that_becomes_shorter_is_an_error(folder):
    make(folder / 'a.mkv', *counted('25', '4', '640x320'), *OPEN_GOPS)
    chunks = cut('a.mkv')

    class Shrinking(DirectClient):
        def _read_block(self, path, index, state=None):
            return super()._read_block(path, index)[:1000]
    with pytest.raises(OSError, match='changed while it was read'):
        read_there(chunks, Shrinking(folder))


def test_a_part_that_can_not_be_stored_leaves_nothing(folder):
    make(folder / 'a.mkv', *counted('25', '1'), *OPEN_GOPS)
    chunks = cut('a.mkv')

    class Full(DirectClient):
        def _ask(self, method, *arguments):
            if method == 'append':
                raise OSError(28, 'No space left on device', 'parts')
            return super()._ask(method, *arguments)
    depot = Full(folder)
    with pytest.raises(OSError, match='No space left'):
        read_there(chunks, depot)
    assert depot.asked[-1] == 'drop'
    assert files('parts') == []


def test_what_can_be_read_once_only_is_refused(folder):
    make(folder / 'a.ts', *counted('25', '1'), *OPEN_GOPS)
    [chunk, *_] = cut('a.ts')
    info = replace(chunk.frames.info, source='http://localhost/a.ts', is_stream=True)
    with pytest.raises(VideoError, match='^--ship_data needs a file: this can be read once only$'):
        read_there([replace(chunk, frames=replace(chunk.frames, info=info))], DirectClient(folder))
    playlist = '#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n'
    (folder / 'a.m3u8').write_text(playlist)
    with pytest.raises(VideoError, match='^--ship_data needs a file: this is a list of others$'):
        read_there(cut('a.m3u8'), DirectClient(folder))


def test_blocks_that_were_kept_are_read_again_when_the_file_has_changed(folder):
    client = DirectClient(folder)
    for content in b'one', b'another':
        (folder / 'a').write_bytes(content)
        state = client.inspect(Path('a'))
        for _ in range(2):
            assert b''.join(client.read(Path('a'), state, 1, 100)) == content[1:]
    assert client.bytes_read == len(b'one') + len(b'another')


def test_uploads_that_are_not_whole_are_removed_in_the_end(folder):
    depot = Depot(str(folder), frozenset())
    depot.append(depot.create('half', 'a'), b'x')
    whole = depot.create('whole', 'b')
    depot.append(whole, b'y')
    depot.finish(whole)
    assert len(files('.')) == 2
    depot.close()
    depot.drop(99)
    assert files('.') == ['whole']
