"""Real clips decoded: every frame is the one that ffmpeg's own command line gives, and damage is noticed."""
import re
import subprocess
import threading
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from realesrgan.errors import MediaError, MediaWriteError
from realesrgan.ffmpeg.colour import Colour
from realesrgan.ffmpeg.decoder import Decoding, FrameReader, build_decode_command, count_frames, extract_frames
from realesrgan.ffmpeg.probe import MediaInfo, VideoStream, probe
from realesrgan.ffmpeg.programs import FFmpeg
from tests.support import clips
from tests.support.clips import EXACT, make, numbered, picture, program, sound

RGB = 'out_range=pc:flags=bicubic+accurate_rnd+full_chroma_int'
LEFT = f'{RGB}:in_h_chr_pos=0:in_v_chr_pos=128'
B_FRAMES = ['-c:v', 'libx264', '-preset', 'ultrafast', '-bf', '2', '-g', '5', '-crf', '0', '-pix_fmt', 'yuv420p']
ALL = Decoding(Fraction(25))


def decode(programs, path, decoding=ALL, also=()):
    """All frames and the damage."""
    info = probe(programs, str(path))
    with FrameReader(programs, info, decoding, also) as reader:
        frames = list(reader)
    return (np.stack(frames) if frames else np.empty((0, info.video.height, info.video.width, 3))), reader.damage


def reference(programs, path, filters, pixel_format='bgr24', before=()):
    """Return ffmpeg's frames for the same filters, written by hand as -vf."""
    video = probe(programs, str(path)).video
    [name, value] = next(iter(programs.passthrough.items()))
    command = [programs.ffmpeg, '-nostdin', '-v', 'error', *before, '-i', f'file:{path}', '-map', '0:v:0', '-vf',
               filters, f'-{name}', value, '-f', 'rawvideo', '-pix_fmt', pixel_format, '-']
    data = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=clips.ENVIRONMENT).stdout
    return np.frombuffer(data, np.uint16 if '48' in pixel_format else np.uint8).reshape(
        -1, video.height, video.width, 3)


def same(frames, expected):
    """Whether two videos agree bit for bit."""
    return frames.dtype == expected.dtype and np.array_equal(frames, expected)


def numbers(frames):
    """The numbers of the frames of a `numbered` clip, by their light."""
    found = (frames.mean((1, 2, 3)) * 219 / 255 + 16 - 20) / 8
    assert np.abs(found - np.rint(found)).max(initial=0) < 0.2
    return np.rint(found).astype(int).tolist()


@pytest.fixture(scope='module')
def counted(tmp_path_factory):
    """25 numbered frames with B-frames and a key frame at every fifth."""
    return make(tmp_path_factory.mktemp('counted') / 'a.mp4', *numbered(), *B_FRAMES)


# ---- the same frames ----

@pytest.mark.parametrize(('size', 'matrix'), [('64x48', 'smpte170m'), ('64x576', 'bt470'), ('32x720', 'bt709')])
def test_untagged_video_is_read_as_players_do(tmp_path, programs, size, matrix):
    path = make(tmp_path / 'a.mp4', *picture(size, rate='25', seconds='0.2'), *EXACT)
    frames, damage = decode(programs, path)
    assert same(frames, reference(programs, path, f'scale=in_color_matrix={matrix}:in_range=tv:{LEFT}'))
    assert (len(frames), damage) == (5, None)


def test_deep_video(tmp_path, programs):
    path = make(tmp_path / 'a.mkv', *picture('64x48', rate='25', seconds='0.2'), '-c:v', 'ffv1', '-pix_fmt',
                'yuv422p10le', '-colorspace', 'bt709')
    frames, _ = decode(programs, path)
    expected = reference(programs, path, f'scale=in_color_matrix=bt709:in_range=tv:{RGB}:in_h_chr_pos=0', 'bgr48le')
    assert frames.dtype == np.uint16
    assert same(frames, expected)


def test_full_range_rgb_is_not_changed(tmp_path, programs):
    rng = np.random.default_rng(0)
    expected = rng.integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    for index, frame in enumerate(expected):
        cv2.imwrite(str(tmp_path / f'{index}.png'), frame)
    path = make(tmp_path / 'a.mkv', '-framerate', '25', '-i', tmp_path / '%d.png', '-c:v', 'ffv1', '-pix_fmt', 'bgr0')
    assert same(decode(programs, path)[0], expected)


@pytest.mark.parametrize(('degrees', 'turns'), [(90, 1), (180, 2), (270, 3)])
def test_rotated_video_is_turned(tmp_path, programs, degrees, turns):
    flat = make(tmp_path / 'flat.mp4', *picture('64x48', rate='25', seconds='0.2'), '-c:v', 'libx264', '-crf', '0',
                '-pix_fmt', 'yuv444p', '-colorspace', 'bt709')
    path = clips.rotate(flat, tmp_path / 'a.mp4', degrees)
    frames, _ = decode(programs, path)
    assert same(frames, np.rot90(decode(programs, flat)[0], turns, axes=(1, 2)))


@pytest.mark.parametrize('decoding', [
    ALL, replace(ALL, rate=Fraction(50), resample=True), replace(ALL, deinterlace=True)], ids=str)
@pytest.mark.parametrize('degrees', [90, 180])
def test_a_turned_video_whose_size_changes_half_way_keeps_its_frames(tmp_path, programs, decoding, degrees):
    for number, size in enumerate(('64x48', '96x80')):
        make(tmp_path / f'{number}.ts', *picture(size, rate='25', seconds='2'), '-c:v', 'libx264', '-pix_fmt',
             'yuv420p')
    (tmp_path / 'list').write_text("file '0.ts'\nfile '1.ts'\n")
    both = make(tmp_path / 'both.mp4', '-f', 'concat', '-safe', '0', '-i', tmp_path / 'list', '-c', 'copy')
    turned = clips.rotate(both, tmp_path / 'turned.mp4', degrees)
    frames, damage = decode(programs, turned, decoding)
    upright, _ = decode(programs, both, decoding)
    assert (damage, len(frames)) == (None, len(upright))
    assert len(frames) in (100, 200)
    assert frames[0].shape == np.rot90(upright[0], degrees // 90).shape


@pytest.mark.parametrize('pixel_format', ['yuv420p', 'uyvy422', 'nv12', 'yuv420p10le'])
def test_interlaced_video_of_any_format(tmp_path, programs, pixel_format):
    """bwdif takes few of them; ffmpeg converts the others before it."""
    path = make(tmp_path / 'a.nut', *picture('64x64', rate='50', seconds='0.4'), '-vf',
                f'interlace,setfield=tff,format={pixel_format}', '-c:v', 'rawvideo')
    frames, _ = decode(programs, path, replace(ALL, deinterlace=True))
    filters = 'bwdif=mode=send_frame:parity=auto:deint=all,scale=in_color_matrix=smpte170m:in_range=tv:'
    filters += f'{RGB}:in_h_chr_pos=0' if pixel_format == 'uyvy422' else LEFT
    assert len(frames) == 10
    assert same(frames, reference(programs, path, filters, 'bgr48le' if '10' in pixel_format else 'bgr24'))


def test_the_video_that_probe_picked_is_decoded(tmp_path, programs):
    path = make(tmp_path / 'a.mkv', *sound('0.2'), *picture('32x32', rate='25', seconds='0.2'),
                *numbered(seconds='0.2'), '-map', '0', '-map', '1', '-map', '2', *EXACT, '-disposition:v:0', '0',
                '-disposition:v:1', 'default')
    frames, _ = decode(programs, path)
    assert frames.shape[1:] == (48, 64, 3)
    assert numbers(frames) == list(range(5))


# ---- which frames ----

@pytest.mark.parametrize(('start', 'stop', 'unit', 'expected'), [
    (None, None, 'frame', range(25)), (0, 7, 'frame', range(7)), (20, None, 'frame', range(20, 25)),
    (3, 9, 'frame', range(3, 9)), (Fraction(7, 50), Fraction(15, 50), 'time', range(4, 8)),
    (None, Fraction(1, 50), 'time', range(1)), (Fraction(47, 50), None, 'time', range(24, 25)),
    (Fraction(2), None, 'time', [])])
def test_frames_kept(counted, programs, start, stop, unit, expected):
    decoding = replace(ALL, origin=probe_origin(programs, counted), start=start, stop=stop, unit=unit)
    assert numbers(decode(programs, counted, decoding)[0]) == list(expected)


def probe_origin(programs, path):
    """The time stamp of the first frame."""
    video = probe(programs, str(path)).video
    return round(video.start * 12800)


@pytest.mark.parametrize(('rate', 'start', 'stop', 'expected'), [
    (Fraction(50), None, None, [number for number in range(25) for _ in range(2)]),
    (Fraction(25, 2), None, None, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24]),
    (Fraction(50), 11, 15, [5, 6, 6, 7]), (Fraction(50), 47, None, [23, 24, 24])])
def test_other_frame_rates(counted, programs, rate, start, stop, expected):
    decoding = Decoding(rate, resample=True, origin=probe_origin(programs, counted), start=start, stop=stop, unit='pts')
    assert numbers(decode(programs, counted, decoding)[0]) == expected


@pytest.mark.parametrize('key', [0, 5, 10])
def test_seeking_loses_no_frame(counted, programs, key):
    """From any earlier key frame on, what is kept is the same, whatever the seek brings along."""
    decoding = replace(ALL, origin=probe_origin(programs, counted), seek=Fraction(key, 25),
                       start=Fraction(23, 50), stop=Fraction(31, 50), unit='time')
    assert numbers(decode(programs, counted, decoding)[0]) == [12, 13, 14, 15]


def test_seeks_go_by_the_clock_of_the_file(tmp_path, counted, programs):
    """The clock starts at some 6 seconds; counted from there, a seek would go past the end."""
    path = make(tmp_path / 'a.ts', '-i', counted, '-c', 'copy', '-output_ts_offset', '5')
    start = probe(programs, str(path)).video.start
    assert start > 5
    decoding = replace(ALL, origin=round(start * 90000), seek=start + Fraction(5, 25),
                       start=Fraction(23, 50), unit='time')
    assert numbers(decode(programs, path, decoding)[0]) == list(range(12, 25))


@pytest.mark.parametrize('rate', [Fraction(50), Fraction(60000, 1001), Fraction(1000)])
def test_without_resampling_the_rate_changes_nothing(counted, programs, rate):
    frames, damage = decode(programs, counted, Decoding(rate))
    assert (numbers(frames), damage) == (list(range(25)), None)


def test_cutting_by_time_only(counted, programs):
    decoding = replace(ALL, seek=Fraction(7, 25), duration=Fraction(5, 25))
    assert numbers(decode(programs, counted, decoding)[0]) == [7, 8, 9, 10, 11]


def test_variable_frame_rate(tmp_path, programs):
    """Frames 0, 3, 4, 10 and 11 are there; the rest is filled with repeats, or not."""
    path = make(tmp_path / 'a.mkv', *numbered(seconds='0.48'), '-vf', "select='eq(n,0)+eq(n,3)+eq(n,4)+gte(n,10)'",
                *clips.ALL_FRAMES, *EXACT)
    assert numbers(decode(programs, path)[0]) == [0, 3, 4, 10, 11]
    frames, _ = decode(programs, path, Decoding(Fraction(25), resample=True, origin=0))
    assert numbers(frames) == [0, 0, 0, 3, 4, 4, 4, 4, 4, 4, 10, 11]


def test_resampling_from_zero_repeats_the_first_frame(tmp_path, programs):
    path = make(tmp_path / 'a.mkv', *sound('0.4'), *numbered(seconds='0.2'), '-map', '0', '-map', '1', '-vf',
                'setpts=PTS+0.2/TB', *EXACT, '-c:a', 'flac')
    late = Decoding(Fraction(25), resample=True, from_zero=True)
    assert numbers(decode(programs, path, late)[0]) == [0, 0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert numbers(decode(programs, path, replace(late, from_zero=False))[0]) == [0, 1, 2, 3, 4]


def test_frames_that_share_a_time_stamp_are_no_damage(tmp_path, programs):
    path = make(tmp_path / 'a.mkv', *numbered(seconds='0.4'), '-vf', 'setpts=floor(N/2)*2/25/TB', *clips.ALL_FRAMES,
                '-c:v', 'ffv1', '-pix_fmt', 'yuv420p')
    assert clips.times(path) == [0, 0, 0.08, 0.08, 0.16, 0.16, 0.24, 0.24, 0.32, 0.32]
    frames, damage = decode(programs, path)
    assert (numbers(frames), damage) == (list(range(10)), None)


def test_other_tracks_are_recorded_in_the_same_pass(tmp_path, programs):
    path = make(tmp_path / 'a.mkv', *numbered(), *sound(), *EXACT, '-c:a', 'flac')
    also = ['-map', '0:1', '-c:0', 'copy', '-f', 'matroska', '-y', f'file:{tmp_path}/b.mkv']
    frames, damage = decode(programs, path, also=also)
    assert (numbers(frames), damage) == (list(range(25)), None)
    assert clips.packets(tmp_path / 'b.mkv', 'a:0') == clips.packets(path, 'a:0')


# ---- damage ----

@pytest.fixture(scope='module')
def hurt(tmp_path_factory):
    """A clip with noise in the middle of it."""
    folder = tmp_path_factory.mktemp('hurt')
    data = bytearray(make(folder / 'whole.mkv', *picture('128x96', rate='25'), '-c:v', 'libx264', '-crf',
                          '10').read_bytes())
    middle = len(data) // 2
    data[middle:middle + 200] = np.random.default_rng(0).bytes(200)
    (folder / 'a.mkv').write_bytes(data)
    return folder / 'a.mkv'


def test_damage_is_noticed_and_the_rest_comes(hurt, programs):
    frames, damage = decode(programs, hurt)
    assert 12 < len(frames) <= 25
    assert 0 <= damage.frame <= len(frames)
    assert re.search('error|invalid|missing', damage.reason, re.IGNORECASE)


@pytest.mark.parametrize(('count', 'script', 'reason'), [
    (18432, '(echo "[h264 @ 0x5] bad"; echo "[h264 @ 0x6] bad"; echo worse; echo worst) >&2', '[h264] bad; worse'),
    (18432, 'echo bad >&2; exit 3', 'ffmpeg failed (exit status 3): bad'),
    (10000, '', 'the last frame is incomplete')])
def test_the_reason_of_damage(tmp_path, counted, count, script, reason):
    talking = program(tmp_path, 'ffmpeg', f'head -c {count} /dev/zero; {script}')
    frames, damage = decode(FFmpeg(talking, clips.FFMPEG.ffprobe, (6, 0)), counted)
    assert (len(frames), damage.reason) == (count // 9216, reason)
    assert (0 if script else 1) <= damage.frame <= len(frames)


def test_a_file_that_breaks_off(tmp_path, counted, programs):
    whole = make(tmp_path / 'whole.mkv', '-i', counted, '-c', 'copy')
    (tmp_path / 'a.mkv').write_bytes(whole.read_bytes()[:-whole.stat().st_size // 3])
    frames, damage = decode(programs, tmp_path / 'a.mkv')
    assert 5 < len(frames) < 25
    assert numbers(frames) == list(range(len(frames)))
    assert damage.reason.endswith('matroska,webm] File ended prematurely')


@pytest.mark.parametrize('script', ['head -c 10000 /dev/zero; kill -9 $$', 'kill -TERM $$'])
def test_a_killed_decoder_is_not_the_files_fault(tmp_path, counted, script):
    killed = program(tmp_path, 'ffmpeg', script)
    with pytest.raises(MediaError, match=r'^ffmpeg failed \(signal (9|15)\): no reason given$'):
        decode(FFmpeg(killed, clips.FFMPEG.ffprobe, (6, 0)), counted)


def test_killing_the_reader_ends_the_iteration(tmp_path, counted):
    one_frame = program(tmp_path, 'ffmpeg', 'head -c 9216 /dev/zero; exec sleep 100')
    endless = FFmpeg(one_frame, clips.FFMPEG.ffprobe, (6, 0))
    before = clips.belongings()
    with FrameReader(endless, probe(clips.FFMPEG, str(counted)), ALL) as reader:
        frames = iter(reader)
        assert next(frames).max() == 0
        killer = threading.Timer(0.1, reader.kill)
        killer.start()
        with pytest.raises(MediaError, match='signal 9'):
            next(frames)
        killer.join()
    assert clips.belongings() == before


# ---- without keeping the frames, and to files ----

def test_examining_counts_and_hears(counted, hurt, programs):
    assert count_frames(programs, probe(programs, str(counted)), ALL) == (25, [])
    assert count_frames(programs, probe(programs, str(counted)), replace(ALL, start=3, stop=9)) == (6, [])
    count, errors = count_frames(programs, probe(programs, str(hurt)), ALL)
    assert count == len(decode(programs, hurt)[0])
    assert len(errors) > 0


@pytest.mark.parametrize('pixel_format', ['yuv420p', 'yuv420p10le'])
def test_extracted_frames_lose_nothing(tmp_path, programs, pixel_format):
    path = make(tmp_path / 'a.mkv', *picture('64x48', rate='25', seconds='0.2'), '-c:v', 'ffv1', '-pix_fmt',
                pixel_format)
    folder = tmp_path / 'frames of 100%d'
    folder.mkdir()
    assert extract_frames(programs, probe(programs, str(path)), replace(ALL, start=1), folder) is None
    assert sorted(file.name for file in folder.iterdir()) == [f'{number:08}.png' for number in range(1, 5)]
    frames = np.stack([cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in sorted(folder.iterdir())])
    assert same(frames, decode(programs, path)[0][1:])


def test_extracting_notices_damage(tmp_path, hurt, programs):
    damage = extract_frames(programs, probe(programs, str(hurt)), ALL, tmp_path)
    assert damage.frame == len(list(tmp_path.iterdir())) == len(decode(programs, hurt)[0])
    assert re.search('error|invalid|missing', damage.reason, re.IGNORECASE)


@pytest.mark.parametrize(('script', 'error', 'message'), [
    ('echo bad data >&2; exit 1', MediaError, r'no frame could be decoded: ffmpeg failed \(exit status 1\): bad data'),
    ('touch 1.png; echo No space left on device >&2', MediaWriteError, r'the disk is full \(ffmpeg: No space left')])
def test_extracting_that_fails(tmp_path, counted, script, error, message):
    folder = tmp_path / 'frames'
    folder.mkdir()
    failing = FFmpeg(program(tmp_path, 'ffmpeg', script), clips.FFMPEG.ffprobe, (6, 0))
    with pytest.raises(error, match=f'^{message}'):
        extract_frames(failing, probe(failing, str(counted)), ALL, folder)


# ---- commands of other versions, for other films ----

HD = Colour('tv', 'bt709', 'bt709', 'bt709')
TO_RGB = ('flags=bicubic+accurate_rnd+full_chroma_int:in_color_matrix=bt709:in_h_chr_pos=0:in_range=tv:'
          'in_v_chr_pos=128:out_range=pc')


def command(version=(6, 0), decoding=ALL, source='/films/a%d:b,[c].mkv', format_name='matroska,webm', **video):
    info = MediaInfo(source, format_name, Fraction(0), None, VideoStream(**{
        'index': 0, 'codec': 'h264', 'width': 64, 'height': 48, 'sample_aspect': Fraction(1),
        'pixel_format': 'yuv420p', 'colour': HD, 'real_rate': None, 'average_rate': None, 'start': Fraction(0),
        'duration': None, 'promised_frames': None, 'is_interlaced': False} | video), ())
    return build_decode_command(FFmpeg('/x/ffmpeg', '/x/ffprobe', version), info, decoding)


def test_decoding_a_chunk_of_a_deep_film_in_old_ffmpeg():
    decoding = Decoding(Fraction(30000, 1001), origin=1234, seek=Fraction(1, 3),
                        start=Fraction(1, 2), stop=Fraction(3, 2), unit='time')
    assert command((4, 4), decoding, pixel_format='yuv420p10le') == [
        '/x/ffmpeg', '-hide_banner', '-nostdin', '-nostats', '-loglevel', 'error', '-copyts', '-noaccurate_seek',
        '-reinit_filter', '0', '-seek_timestamp', '1', '-ss', '0.333333', '-i', 'file:/films/a%d:b,[c].mkv',
        '-filter_complex', '[0:0]setpts=PTS-(1234)[s0];[s0]trim=end=1.500000:start=0.500000[s1];'
        f'[s1]scale=64:48:{TO_RGB}[s2];[s2]settb=1001/30000[s3];[s3]setpts=N[s4]', '-map', '[s4]', '-f', 'rawvideo',
        '-enc_time_base', '1001/30000', '-pix_fmt', 'bgr48le', '-vsync', '0', 'pipe:1']


def test_filters_of_a_video_that_is_turned_are_made_anew_where_its_size_changes():
    """Those by which ffmpeg turns it can't follow."""
    assert '-reinit_filter' in command()
    assert '-reinit_filter' not in command(turns=None)


@pytest.mark.parametrize(('version', 'format_name', 'expected'), [
    ((7, 0), 'matroska,webm', False), ((7, 1), 'matroska,webm', True), ((9, 0), 'mov,mp4,m4a,3gp,3g2,mj2', True),
    ((9, 0), 'avi', False)])
def test_decoding_what_is_cropped(version, format_name, expected):
    arguments = command(version, format_name=format_name, crop=(1, 2, 3, 4))
    assert f'scale=68:54:{TO_RGB}[s0];[s0]crop=64:48:1:2[s1]' in ' '.join(arguments)
    assert ('-apply_cropping codec' in ' '.join(arguments)) == expected


def test_decoding_a_url():
    assert command(source='https://host/a?b=c:d&e')[8:10] == ['-i', 'https://host/a?b=c:d&e']
