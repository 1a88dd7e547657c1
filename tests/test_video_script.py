"""inference_realesrgan_video.py as its users run it: every kind of video, every track, names, messages."""
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import clips
import cv2
import numpy as np
import pytest
from clips import EXACT, make, picture, sound, video

import inference_realesrgan_video
from realesrgan import RealESRGANer
from realesrgan.errors import DownloadError

PROJECT = Path(__file__).parent.parent
SCRIPT = PROJECT / 'inference_realesrgan_video.py'


@pytest.fixture(scope='session')
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('networks')
    return {'tiny': clips.save_network(folder / 'tiny.pth'),
            'plain': clips.save_network(folder / 'plain.pth', plain=True)}


@pytest.fixture
def run(run_script, networks):
    """Run the script in a folder of its own with a small network."""
    return lambda *arguments, network='tiny': run_script(
        inference_realesrgan_video, '--model_path', networks[network], '--engine', 'torch', '--fp32', *arguments)


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


# ---- options ----

def test_defaults_are_those_of_0_3_0():
    args = inference_realesrgan_video.build_parser().parse_args([])
    assert {name: getattr(args, name) for name in (
        'input', 'model_name', 'output', 'denoise_strength', 'outscale', 'suffix', 'tile', 'tile_pad', 'pre_pad',
        'face_enhance', 'fp32', 'fps', 'ffmpeg_bin', 'extract_frame_first', 'num_process_per_gpu',
        'alpha_upsampler', 'ext')} == {
        'input': 'inputs', 'model_name': 'realesr-animevideov3', 'output': 'results', 'denoise_strength': 0.5,
        'outscale': 4, 'suffix': 'out', 'tile': 0, 'tile_pad': 10, 'pre_pad': 0, 'face_enhance': False,
        'fp32': False, 'fps': None, 'ffmpeg_bin': 'ffmpeg', 'extract_frame_first': False, 'num_process_per_gpu': 1,
        'alpha_upsampler': 'realesrgan', 'ext': 'auto'}


@pytest.mark.parametrize('arguments', ['-g 0 1', '-g 0,1', '-g 0,1 1'])
def test_several_gpus(arguments):
    assert inference_realesrgan_video.build_parser().parse_args(arguments.split()).gpu_id == [0, 1]


def test_rates_and_times():
    args = inference_realesrgan_video.build_parser().parse_args('--fps 29.97 --start 1:02.5 --end 0:01:30'.split())
    assert (args.fps, args.start, args.end) == (Fraction(30000, 1001), Fraction(125, 2), 90)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--fps', '0'], "'0' is not a frame rate; write it as 25, 29.97 or 30000/1001"),
    (['--start', 'noon'], "'noon' is not a time; write it as 90, 1:30 or 0:01:30.5"),
    (['-g', '0,x'], "'x' is not a whole number"), (['--ext', 'avi'], "invalid choice: 'avi'"),
    (['--num_process_per_gpu', '0'], '0 is out of range'), (['-i', ''], 'it is empty'), (['-o', ''], 'it is empty')])
def test_bad_options_are_usage_errors(run, arguments, message):
    status, _, err = run(*arguments)
    assert status == 2
    assert message in err


def test_help_is_quick_for_it_imports_nothing_large():
    code = ('import sys, inference_realesrgan_video as script\n'
            'try: script.main(["--help"])\n'
            'except SystemExit: pass\n'
            'print([name for name in ("torch", "cv2", "numpy", "PIL", "tqdm") if name in sys.modules])')
    result = subprocess.run([sys.executable, '-c', code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == '[]'


# ---- containers, rates, shapes ----

CONTAINERS = {
    'mkv': [*EXACT, '-c:a', 'libopus'], 'avi': ['-c:v', 'mpeg4', '-q:v', '2', '-c:a', 'libmp3lame'],
    'mov': [*EXACT, '-c:a', 'pcm_s16be'], 'webm': ['-c:v', 'libvpx', '-b:v', '200k', '-c:a', 'libopus'],
    'ts': ['-c:v', 'mpeg2video', '-q:v', '2', '-c:a', 'mp2'],
    'flv': ['-c:v', 'flv', '-q:v', '2', '-c:a', 'libmp3lame', '-ar', '44100'],
    'MP4': [*EXACT, '-bf', '2', '-c:a', 'aac', '-f', 'mp4']}


@pytest.mark.parametrize('extension', CONTAINERS)
def test_every_container_becomes_mp4_frame_for_frame(run, tmp_path, extension):
    source = make(tmp_path / f'a.{extension}', *clips.numbered(), *sound(), *CONTAINERS[extension])
    status, out, err = run('-i', source.name, '-s', '2', '--crf', '0', network='plain')
    assert status == 0, err
    assert files(tmp_path) == [source.name, 'results/a_out.mp4']
    result = video('results/a_out.mp4')
    assert (result['frames'], result['rate'], result['size']) == (25, ('25/1', '25/1'), (128, 96))
    assert result['codec_name'] == 'h264'
    assert len(clips.streams('results/a_out.mp4', 'audio')) == 1
    assert abs(clips.duration('results/a_out.mp4', 'audio') - clips.duration(source, 'audio')) < 0.05
    assert out.startswith('results/a_out.mp4: 25 frames, ')
    assert clips.numbers('results/a_out.mp4') == list(range(25))


@pytest.mark.parametrize('rate', ['30000/1001', '24000/1001', '50', '15/2'])
@pytest.mark.parametrize('container', ['mp4', 'mkv'])
def test_rates_stay_exact(run, tmp_path, rate, container):
    make(tmp_path / 'a.mp4', *picture(rate=rate), *EXACT)
    count = video('a.mp4')['frames']
    run('-i', 'a.mp4', '-s', '1', '--ext', container)
    result = video(f'results/a_out.{container}')
    expected = str(Fraction(rate)) if '/' in rate else f'{rate}/1'
    assert (result['frames'], result['r_frame_rate']) == (count, expected)
    assert Fraction(result['avg_frame_rate']) == Fraction(rate) or container == 'mkv'


@pytest.mark.parametrize('rate', ['60000/1001', '24000/1001'])
def test_rates_that_matroska_rounds_come_out_exact(run, tmp_path, rate):
    make(tmp_path / 'a.mkv', *picture(rate=rate, seconds='0.5'), *EXACT)
    run('-i', 'a.mkv', '-s', '1')
    assert video('results/a_out.mp4')['rate'] == (rate, rate)


@pytest.mark.parametrize(('size', 'outscale', 'expected'), [
    ('175x143', '1', (174, 142)), ('175x143', '2', (350, 286)), ('175x143', '3', (524, 428)), ('2x2', '0.5', (2, 2))])
def test_odd_sizes(run, tmp_path, size, outscale, expected):
    make(tmp_path / 'a.mkv', *picture(size, seconds='0.2', kind='testsrc'), '-c:v', 'ffv1', '-pix_fmt', 'yuv444p')
    assert run('-i', 'a.mkv', '-s', outscale, '--pix_fmt', 'yuv420p')[0] == 0
    assert video('results/a_out.mp4')['size'] == expected


def test_a_single_frame(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(), '-frames:v', '1', *EXACT)
    assert run('-i', 'a.mp4')[0] == 0
    assert (video('results/a_out.mp4')['frames'], video('results/a_out.mp4')['size']) == (1, (256, 192))


def test_rotation_is_applied(run, tmp_path):
    make(tmp_path / 'flat.mp4', *picture('64x48', seconds='0.3'), *EXACT)
    if clips.FFMPEG.version >= (6, 0):
        make(tmp_path / 'a.mp4', '-display_rotation', '90', '-i', 'flat.mp4', '-c', 'copy')
    else:
        make(tmp_path / 'a.mp4', '-i', 'flat.mp4', '-c', 'copy', '-metadata:s:v:0', 'rotate=270')
    run('-i', 'a.mp4', '-s', '1', '--crf', '0', network='plain')
    result = video('results/a_out.mp4')
    assert (result['size'], result.get('side_data_list')) == ((48, 64), None)
    shown = clips.ffmpeg('-i', 'a.mp4', *clips.ALL_FRAMES, '-f', 'rawvideo', '-pix_fmt', 'bgr24', '-')
    shown = np.frombuffer(shown, np.uint8).reshape(-1, 64, 48, 3).astype(int)
    assert np.abs(clips.frames('results/a_out.mp4') - shown).mean() < 10


def test_the_shape_of_pixels_is_kept(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.2'), '-vf', 'setsar=4/3', *EXACT)
    run('-i', 'a.mp4', '-s', '2')
    result = video('results/a_out.mp4')
    assert (result['size'], result['sample_aspect_ratio']) == ((128, 96), '4:3')


# ---- variable rate, --fps, --start and --end, fields ----

def make_vfr(path):
    """4 s: a still second, 24 frames in the next, and two of 12; sound throughout."""
    times = "'if(lt(N,1),0,if(lt(N,25),1+(N-1)/24,2+(N-25)/12))/TB'"
    return make(path, *picture(rate=24, seconds='2.041'), *sound('4'), '-vf', f'settb=1/1000,setpts={times}',
                clips.ALL_FRAMES[0], 'vfr', '-enc_time_base', '1/1000', *EXACT, '-c:a', 'aac')


@pytest.mark.parametrize('extension', ['mp4', 'mkv'])
def test_a_variable_rate_becomes_constant_and_4_seconds_stay_4_seconds(run, tmp_path, extension):
    source = make_vfr(tmp_path / f'a.{extension}')
    assert 3.9 < clips.duration(source) < 4.1
    status, _, err = run('-i', source.name, '-s', '1')
    assert status == 0
    assert 'variable frame rate' in err
    result = video('results/a_out.mp4')
    rate = Fraction(result['avg_frame_rate'])
    assert result['rate'][0] == result['rate'][1]
    assert abs(result['frames'] / rate - 4) <= 1 / rate
    assert abs(clips.duration('results/a_out.mp4', 'audio') - clips.duration(source, 'audio')) < 0.03


def test_an_identical_frame_is_not_computed_twice(run, tmp_path, monkeypatch):
    make_vfr(tmp_path / 'a.mkv')
    seen = []
    enhance = RealESRGANer.enhance
    monkeypatch.setattr(RealESRGANer, 'enhance', lambda *args, **more: seen.append(1) or enhance(*args, **more))
    run('-i', 'a.mkv', '-s', '1')
    assert video('results/a_out.mp4')['frames'] > 80
    assert len(seen) <= 50


@pytest.mark.parametrize('fps', ['12', '48', '30000/1001'])
def test_fps_changes_the_rate_and_keeps_the_duration(run, tmp_path, fps):
    make(tmp_path / 'a.mp4', *picture(seconds='2'), *sound('2'), *EXACT)
    run('-i', 'a.mp4', '-s', '1', '--fps', fps)
    result = video('results/a_out.mp4')
    assert Fraction(result['r_frame_rate']) == Fraction(fps)
    assert abs(result['frames'] / Fraction(fps) - 2) < 1 / Fraction(fps)


def test_start_and_end_cut_all_tracks_alike(run, tmp_path):
    make(tmp_path / 'a.mkv', *clips.numbered(seconds='4'), *sound('4'), *EXACT, '-g', '30', '-c:a', 'pcm_s16le')
    status, _, err = run('-i', 'a.mkv', '-s', '1', '--start', '1.2', '--end', '0:03', '--ext', 'mkv', '--crf', '0',
                         network='plain')
    assert status == 0, err
    assert clips.numbers('results/a_out.mkv') == [number % 27 for number in range(30, 75)]
    assert abs(clips.duration('results/a_out.mkv', 'audio') - 1.8) < 0.06
    starts = [float(stream['start_time']) for stream in clips.facts('results/a_out.mkv')['streams']]
    assert abs(starts[0] - starts[1]) < 0.05


def test_an_end_alone_keeps_the_first_sound(run, tmp_path):
    source = make(tmp_path / 'a.mkv', *picture(seconds='2'), *sound('2'), *EXACT, '-c:a', 'aac')
    run('-i', 'a.mkv', '-s', '1', '--end', '1')
    before, after = (clips.ffmpeg('-i', path, '-map', 'a:0', '-c', 'copy', '-f', 'adts', '-')
                     for path in (source, 'results/a_out.mp4'))
    assert len(after) > 2000
    assert before.startswith(after)


def test_a_range_without_frames_is_an_error(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(), *EXACT)
    assert 'no frame between --start and --end: the last one is shown at 0:00:00.958' in run(
        '-i', 'a.mp4', '--start', '9')[2]
    assert '--end 0:00:01.000 is not after --start 0:00:02.000' in run('-i', 'a.mp4', '--start', '2', '--end', '1')[2]
    assert files(tmp_path) == ['a.mp4']


@pytest.mark.parametrize(('how', 'line'), [('auto', 'interlaced: made progressive by bwdif'),
                                           ('off', 'interlaced: left so (--deinterlace off)')])
def test_interlaced_video(run, tmp_path, how, line):
    make(tmp_path / 'a.mpg', *picture(rate=50), '-vf', 'interlace', '-c:v', 'mpeg2video', '-flags', '+ildct+ilme',
         '-q:v', '2')
    status, _, err = run('-i', 'a.mpg', '-s', '1', '--deinterlace', how)
    assert (status, line in err) == (0, True)
    assert (video('results/a_out.mp4')['frames'], video('results/a_out.mp4')['rate'][0]) == (25, '25/1')


# ---- tracks ----

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


def test_all_tracks_into_mp4(run, tmp_path, rich):
    status, _, err = run('-i', 'rich.mkv', '-s', '1')
    assert status == 0, err
    result = 'results/rich_out.mp4'
    assert [kind for kind in kinds(result) if kind[0] != 'data'] == [
        ('video', 'h264'), ('audio', 'aac'), ('audio', 'opus'), ('subtitle', 'mov_text'), ('subtitle', 'mov_text'),
        ('video', 'png')]
    assert clips.packets(result, 'a:0') == clips.packets(rich, 'a:0')
    assert clips.packets(result, 'a:1') == clips.packets(rich, 'a:1')
    told = clips.facts(result)
    assert [chapter['tags']['title'] for chapter in told['chapters']] == ['One', 'Two']
    assert told['format']['tags']['title'] == 'The film'
    assert clips.streams(result, 'audio')[1]['tags']['language'] == 'kor'
    assert clips.streams(result, 'video')[1]['disposition']['attached_pic'] == 1
    assert 'attachment track 5 (font.ttf) is left out: mp4 does not hold it' in err
    assert 'subtitle track 3 (subrip, eng) is converted to mov_text' in err


def test_all_tracks_into_mkv(run, tmp_path, rich):
    status, _, err = run('-i', 'rich.mkv', '-s', '1', '--ext', 'mkv')
    assert status == 0, err
    result = 'results/rich_out.mkv'
    assert sorted(kinds(result)) == sorted(kinds(rich))
    for which in ('a:0', 'a:1', 's:0', 's:1'):
        assert clips.packets(result, which) == clips.packets(rich, which)
    assert [chapter['tags']['title'] for chapter in clips.facts(result)['chapters']] == ['One', 'Two']
    assert 'left out' not in err
    covers = [clips.ffmpeg('-i', path, '-map', '0:v:1', '-c', 'copy', '-f', 'image2pipe', '-')
              for path in (rich, result)]
    assert covers[0] == covers[1]


def test_webm_gets_its_own_codecs(run, tmp_path, rich):
    status, _, err = run('-i', 'rich.mkv', '-s', '1', '--ext', 'webm', '--end', '0.2')
    assert status == 0, err
    assert kinds('results/rich_out.webm') == [('video', 'vp9'), ('audio', 'opus'), ('audio', 'opus'),
                                              ('subtitle', 'webvtt'), ('subtitle', 'webvtt')]
    assert 'webm takes only libvpx, libvpx-vp9, ' in run('-i', 'rich.mkv', '--ext', 'webm', '--vcodec', 'libx264')[2]


def test_pcm_is_copied_into_mov_and_converted_for_mp4(run, tmp_path):
    source = make(tmp_path / 'a.mov', *picture(), *sound(), *EXACT, '-c:a', 'pcm_s16le')
    run('-i', 'a.mov', '-s', '1', '--ext', 'mov')
    assert clips.packets('results/a_out.mov', 'a:0') == clips.packets(source, 'a:0')
    _, _, err = run('-i', 'a.mov', '-s', '1')
    assert kinds('results/a_out.mp4') == [('video', 'h264'), ('audio', 'aac')]
    assert 'audio track 1 (pcm_s16le) is converted to aac because mp4 does not hold it' in err


def test_audio_longer_than_the_video_and_no_audio(run, tmp_path):
    source = make(tmp_path / 'a.mp4', *picture(), *sound('3'), *EXACT)
    run('-i', 'a.mp4', '-s', '1')
    assert clips.packets('results/a_out.mp4', 'a:0') == clips.packets(source, 'a:0')
    assert abs(clips.duration('results/a_out.mp4') - 1) < 0.01
    make(tmp_path / 'b.mp4', *picture(), *EXACT)
    run('-i', 'b.mp4', '-s', '1')
    assert kinds('results/b_out.mp4') == [('video', 'h264')]


@pytest.mark.parametrize(('audio', 'picture_later'), [('0.5', '0'), ('0', '0.52')])
@pytest.mark.parametrize('extension', ['mkv', 'mp4', 'ts'])
def test_the_offset_between_tracks_is_kept(run, tmp_path, audio, picture_later, extension):
    source = make(tmp_path / f'a.{extension}', '-itsoffset', picture_later, *picture(rate=25), '-itsoffset', audio,
                  *sound(), *EXACT, '-c:a', 'aac')
    run('-i', source.name, '-s', '1')
    before, after = ([float(stream['start_time']) for stream in clips.facts(path)['streams']]
                     for path in (source, 'results/a_out.mp4'))
    assert abs((after[1] - after[0]) - (before[1] - before[0])) < 0.025
    assert video('results/a_out.mp4')['frames'] == video(source)['frames']


# ---- names ----

@pytest.mark.parametrize('name', ['a b.mp4', "it's \"q\".mp4", '$(touch x);`y`.mp4', '-i.mp4', '한국어 é.mp4',
                                  'a%03d.mp4', 'noextension', 'a.b.MKV', 'pipe:1.mp4', 'a?b#c&d.mp4'])
def test_names(run, tmp_path, name):
    make(tmp_path / name, *picture(seconds='0.1'), *EXACT, '-f', 'mp4')
    status, _, err = run(f'--input={name}', '-s', '1')
    assert status == 0, err
    assert files(tmp_path) == sorted([name, f'results/{Path(name).stem}_out.mp4'])


def test_suffix_and_extension(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), *EXACT)
    run('-i', 'a.mp4', '-s', '1', '--suffix', '', '-o', 'b/c', '--ext', 'mkv')
    run('-i', 'a.mp4', '-s', '1', '--suffix', 'x 1', '-o', 'b', '--ext', 'mov')
    assert files(tmp_path / 'b') == ['a_x 1.mov', 'c/a.mkv']


def test_an_input_is_never_overwritten_and_an_old_result_is(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), *EXACT)
    before = (tmp_path / 'a.mp4').read_bytes()
    status, _, err = run('-i', 'a.mp4', '-o', '.', '--suffix', '')
    assert (status, (tmp_path / 'a.mp4').read_bytes()) == (1, before)
    assert 'error: a.mp4: its result would overwrite it; choose another --suffix or -o' in err
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/a_out.mp4').write_text('old')
    status, _, err = run('-i', 'a.mp4', '--skip_existing')
    assert (status, 'results/a_out.mp4: skipped, it exists' in err) == (0, True)
    assert (tmp_path / 'results/a_out.mp4').read_text() == 'old'
    run('-i', 'a.mp4', '-s', '1')
    assert video('results/a_out.mp4')['frames'] == 3


# ---- folders, pictures, extraction ----

def write_frames(folder, count, *, size=(12, 16), dtype=np.uint8, first=1):
    folder.mkdir(exist_ok=True)
    top = np.iinfo(dtype).max
    for number in range(first, first + count):
        cv2.imwrite(str(folder / f'{number}.png'), np.full((*size, 3), number * top // 20, dtype))


def test_a_folder_of_frames_in_natural_order(run, tmp_path):
    write_frames(tmp_path / 'shots', 11)
    (tmp_path / 'shots/notes.txt').write_text('no picture')
    status, _, err = run('-i', 'shots', '-s', '2', '--crf', '0', network='plain')
    assert (status, 'notes.txt: skipped, not a picture' in err) == (0, True)
    result = video('results/shots_out.mp4')
    assert (result['frames'], result['rate'][0], result['size'], result['pix_fmt']) == (11, '24/1', (32, 24), 'yuv420p')
    means = clips.frames('results/shots_out.mp4').mean((1, 2, 3))
    assert np.abs(means - [number * 255 // 20 for number in range(1, 12)]).max() < 2.5
    run('-i', 'shots/', '-s', '1', '--fps', '29.97')
    assert video('results/shots_out.mp4')['rate'][0] == '30000/1001'


def test_frames_of_another_size_are_an_error_that_names_the_first(run, tmp_path):
    write_frames(tmp_path / 'shots', 3)
    write_frames(tmp_path / 'shots', 2, size=(12, 17), first=4)
    status, _, err = run('-i', 'shots')
    assert status == 1
    assert '4.png: is 17x12, but 1.png is 16x12; the frames of a video must be of one size' in err
    assert files(tmp_path / 'results') == []


def test_a_folder_of_deep_frames_stays_deep(run, tmp_path):
    write_frames(tmp_path / 'shots', 3, dtype=np.uint16)
    assert run('-i', 'shots', '-s', '1')[0] == 0
    assert video('results/shots_out.mp4')['pix_fmt'] == 'yuv420p10le'


def test_a_folder_without_frames(run, tmp_path):
    (tmp_path / 'empty').mkdir()
    status, _, err = run('-i', 'empty')
    assert (status, err) == (
        1, 'error: empty: no pictures in it; a folder is taken for one of frames. Give videos one by one\n')


@pytest.mark.parametrize(('name', 'result'), [('a.png', 'a_out.png'), ('b.JPG', 'b_out.JPG'), ('c.webp', 'c_out.webp'),
                                              ('d.bmp', 'd_out.bmp'), ('e.tif', 'e_out.tif')])
def test_a_single_picture_gives_a_picture(run, tmp_path, name, result):
    img = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    cv2.imwrite(str(tmp_path / name), img)
    status, _, err = run('-i', name, '-s', '2')
    assert status == 0, err
    assert files(tmp_path / 'results') == [result]
    assert cv2.imread(f'results/{result}').shape == (18, 14, 3)


def test_extract_frame_first_gives_the_same_video(run, tmp_path):
    source = make(tmp_path / 'a.mp4', *picture(rate='30000/1001'), *sound(), *EXACT)
    run('-i', 'a.mp4', '-s', '1', '-o', 'piped', '--ext', 'mkv', '--vcodec', 'ffv1')
    status, _, err = run('-i', 'a.mp4', '-s', '1', '-o', '100%d', '--ext', 'mkv', '--vcodec', 'ffv1',
                         '--extract_frame_first')
    assert status == 0, err
    assert np.array_equal(clips.frames('piped/a_out.mkv'), clips.frames('100%d/a_out.mkv'))
    assert clips.packets('100%d/a_out.mkv', 'a:0') == clips.packets(source, 'a:0')
    assert video('100%d/a_out.mkv')['rate'][0] == '30000/1001'
    assert files(tmp_path) == ['100%d/a_out.mkv', 'a.mp4', 'piped/a_out.mkv']


# ---- lines ----

def test_lines_of_a_run(run, tmp_path):
    make(tmp_path / 'a.mp4', *picture(), *EXACT)
    _, out, err = run('-i', 'a.mp4', '-s', '1')
    assert err.splitlines()[0] == 'a.mp4: h264 yuv420p, 64x48, 24 frames/s, 24 frames'
    assert out.startswith('results/a_out.mp4: 24 frames, ')
    assert run('-i', 'a.mp4', '-s', '1', '-q')[1:] == ('', '')


def test_faces_need_their_weights_and_are_not_for_drawings(run, tmp_path, monkeypatch):
    def unreachable(url, target, sha256):
        raise DownloadError(f'{url}: no network')
    monkeypatch.setattr('realesrgan.weights.loading.fetch', unreachable)
    monkeypatch.setattr('realesrgan.weights.loading._PROJECT', tmp_path)
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), *EXACT)
    status, _, err = run('-i', 'a.mp4', '--face_enhance', '-n', 'RealESRGAN_x4plus')
    assert status == 1
    assert 'error: face enhancement needs weights that are missing: GFPGANv1.3.pth, ' in err
    status, _, err = run('-i', 'a.mp4', '-s', '1', '--face_enhance')
    assert status == 0
    assert 'warning: face enhancement is turned off: realesr-animevideov3 is a model for drawings' in err
