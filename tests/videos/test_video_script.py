"""inference_realesrgan_video.py as its users run it: options, inputs, names, messages."""
from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

import inference_realesrgan_video
from realesrgan.errors import DownloadError
from tests.support import clips
from tests.support.clips import EXACT, files, hashes, make, picture, sound, video, write_frames

# ---- options ----

def test_defaults_are_those_of_0_3_0_but_for_the_scale():
    assert vars(inference_realesrgan_video.build_parser().parse_args([])).items() >= {
        'model_name': 'realesr-animevideov3', 'output': 'results', 'denoise_strength': None,
        'outscale': None, 'suffix': 'out', 'tile': 0, 'tile_pad': 10, 'pre_pad': 0, 'face_enhance': False,
        'fp32': False, 'fps': None, 'ffmpeg_bin': 'ffmpeg', 'extract_frame_first': False, 'num_process_per_gpu': 1,
        'alpha_upsampler': 'realesrgan', 'ext': 'auto'}.items()


@pytest.mark.parametrize(('arguments', 'expected'), [
    ('-g 0 1', {'gpu_id': (0, 1)}), ('-g 0,1', {'gpu_id': (0, 1)}), ('-g 0,1 1', {'gpu_id': (0, 1)}),
    ('--fps 29.97 --start 1:02.5 --end 0:01:30', {'fps': Fraction(30000, 1001), 'start': Fraction(125, 2), 'end': 90})])
def test_gpus_rates_and_times(arguments, expected):
    args = inference_realesrgan_video.build_parser().parse_args(arguments.split())
    assert vars(args).items() >= expected.items()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--fps', '0'], "'0' is not a frame rate; write it as 25, 29.97 or 30000/1001"),
    (['--start', 'noon'], "'noon' is not a time; write it as 90, 1:30 or 0:01:30.5"),
    (['-g', '0,x'], "'x' is not a whole number"), (['--ext', 'avi'], "invalid choice: 'avi'"),
    (['--num_process_per_gpu', '0'], '0 is out of range'), (['-i', ''], 'it is empty'), (['-o', ''], 'it is empty')])
def test_bad_options_are_usage_errors(run, arguments, message):
    status, _, err = run(*arguments)
    assert status == 2
    assert message in err


# ---- names ----

@pytest.mark.parametrize('name', ['a b.mp4', "it's \"q\".mp4", '$(touch x);`y`.mp4', '-i.mp4', '한국어 é.mp4',
                                  'a%03d.mp4', 'noextension', 'a.b.MKV', 'pipe:1.mp4', 'a?b#c&d.mp4'])
def test_names(upscale, tmp_path, name):
    make(tmp_path / name, *picture(seconds='0.1'), *EXACT, '-f', 'mp4')
    upscale(f'--input={name}', '-s', '1')
    assert files(tmp_path) == sorted([name, f'results/{Path(name).stem}_out.mp4'])


def test_suffix_and_extension(upscale, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), *EXACT)
    upscale('-i', 'a.mp4', '-s', '1', '--suffix', '', '-o', 'b/c', '--ext', 'mkv')
    upscale('-i', 'a.mp4', '-s', '1', '--suffix', 'x 1', '-o', 'b', '--ext', 'mov')
    assert files(tmp_path / 'b') == ['a_x 1.mov', 'c/a.mkv']


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


# ---- folders, pictures, extraction ----

def test_a_folder_of_frames_in_natural_order(upscale, tmp_path):
    write_frames(tmp_path / 'shots', 11)
    (tmp_path / 'shots/notes.txt').write_text('no picture')
    assert 'notes.txt: skipped, not a picture' in upscale('-i', 'shots', '-s', '2', '--crf', '0')
    result = video('results/shots_out.mp4')
    assert (result['frames'], result['rate'][0], result['size'], result['pix_fmt']) == (11, '24/1', (32, 24), 'yuv420p')
    means = clips.frames('results/shots_out.mp4').mean((1, 2, 3))
    assert np.abs(means - [number * 255 // 20 for number in range(1, 12)]).max() < 2.5
    upscale('-i', 'shots/', '-s', '1', '--fps', '29.97')
    assert video('results/shots_out.mp4')['rate'][0] == '30000/1001'


def test_a_folder_of_deep_frames_stays_deep(upscale, tmp_path):
    write_frames(tmp_path / 'shots', 3, dtype=np.uint16)
    upscale('-i', 'shots', '-s', '1')
    assert video('results/shots_out.mp4')['pix_fmt'] == 'yuv420p10le'


def test_folders_whose_files_are_no_frames_of_one_size(fail, tmp_path):
    write_frames(tmp_path / 'shots', 3)
    write_frames(tmp_path / 'shots', 2, size=(12, 17), first=4)
    (tmp_path / 'empty').mkdir()
    text = fail('-i', 'shots', 'empty')
    assert '4.png: is 17x12, but 1.png is 16x12; the frames of a video must be of one size' in text
    assert 'error: empty: contains no videos or pictures\n' in text
    assert files(tmp_path / 'results') == []


@pytest.mark.parametrize(('name', 'result'), [('a.png', 'a_out.png'), ('b.JPG', 'b_out.JPG'), ('c.webp', 'c_out.webp'),
                                              ('d.bmp', 'd_out.bmp'), ('e.tif', 'e_out.tif')])
def test_a_single_picture_gives_a_picture(upscale, tmp_path, name, result):
    img = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    cv2.imwrite(str(tmp_path / name), img)
    upscale('-i', name, '-s', '2')
    assert files(tmp_path / 'results') == [result]
    assert cv2.imread(f'results/{result}').shape == (18, 14, 3)


def test_extract_frame_first_gives_the_same_video(upscale, tmp_path):
    source = make(tmp_path / 'a.mp4', *picture(rate='30000/1001'), *sound(), *EXACT)
    for folder, more in ('piped', []), ('100%d', ['--extract_frame_first']):
        upscale('-i', 'a.mp4', '-s', '1', '-o', folder, '--ext', 'mkv', '--vcodec', 'ffv1', *more, network='tiny')
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


def test_faces_need_their_weights_and_are_not_for_drawings(upscale, fail, tmp_path, monkeypatch):
    def unreachable(url, target, sha256):
        raise DownloadError(f'{url}: no network')
    monkeypatch.setattr('realesrgan.weights.download.fetch', unreachable)
    monkeypatch.setattr('realesrgan.weights.sources.PROJECT', tmp_path)
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), *EXACT)
    assert 'error: put the face weights GFPGANv1.3.pth, ' in fail(
        '-i', 'a.mp4', '--face_enhance', '-n', 'RealESRGAN_x4plus')
    assert 'warning: face enhancement is turned off: realesr-animevideov3 is a model for anime' in upscale(
        '-i', 'a.mp4', '-s', '1', '--face_enhance')


# ---- the size without -s ----

@pytest.mark.parametrize('scale', [1, 2, 3, 8])
def test_the_size_is_that_of_the_network_unless_another_is_asked_for(upscale, tmp_path, scale):
    make(tmp_path / 'a.mp4', *picture('16x12', seconds='0.2'), *EXACT)
    write_frames(tmp_path / 'shots', 2, size=(12, 16))
    upscale('-i', 'a.mp4', 'shots', '--crf', '0', network=f'x{scale}')
    for asked in scale, scale + 1:
        upscale('-i', 'a.mp4', '--crf', '0', '-s', asked, '-o', f'x{asked}', network=f'x{scale}')
        assert video(f'x{asked}/a_out.mp4')['size'] == (16 * asked, 12 * asked)
    assert video('results/shots_out.mp4')['size'] == (16 * scale, 12 * scale)
    assert hashes('results/a_out.mp4') == hashes(f'x{scale}/a_out.mp4')


def test_a_model_of_the_table_enlarges_four_times_whatever_its_scale(run_script, tmp_path, networks):
    (tmp_path / 'weights').mkdir()
    shutil.copyfile(networks['x2'], tmp_path / 'weights/RealESRGAN_x2plus.pth')
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), *EXACT)
    cv2.imwrite(str(tmp_path / 'b.png'), np.zeros((12, 16, 3), np.uint8))
    status, _, err = run_script(inference_realesrgan_video, '-i', 'a.mp4', 'b.png', '-n', 'RealESRGAN_x2plus', '-v')
    assert (status, video('results/a_out.mp4')['size'], cv2.imread('results/b_out.png').shape) == (
        0, (256, 192), (48, 64, 3)), err


@pytest.mark.parametrize('more', [[], ['-s', '2']])
def test_weights_are_named_once_and_so_are_missing_ones(run, tmp_path, networks, more):
    for name in ('a.mp4', 'b.mp4'):
        make(tmp_path / name, *picture(seconds='0.1'), *EXACT)
    err = run('-i', 'a.mp4', 'b.mp4', '-v', '-dn', '0.25', '--num_process_per_gpu', '2', '--chunk', '1', *more)[2]
    assert err.count(f'weights: {networks["plain"]}') == 1
    assert err.count('warning: -dn 0.25 has no effect: plain.pth has no denoise partner') == 1
    status, _, err = run('-i', 'a.mp4', 'b.mp4', '--model_path', 'missing.pth', *more)
    assert (status, err.splitlines()[-1], err.count('error: ')) == (1, 'error: missing.pth: no such weight file', 1)


# ---- cards ----

def test_a_decoder_that_is_not_there_changes_nothing(upscale, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.3'), '-c:v', 'libx264', '-pix_fmt', 'yuv420p')
    upscale('-i', 'a.mp4', '--suffix', 'cpu', '-s', '2')
    text = upscale('-i', 'a.mp4', '--suffix', 'card', '-s', '2', '--hwaccel', 'cuda')
    assert text.count('--hwaccel cuda') == 1
    assert hashes('results/a_cpu.mp4') == hashes('results/a_card.mp4')


def test_an_encoder_that_can_not_start_ends_only_its_video(fail, tmp_path):
    make(tmp_path / 'a.mp4', *picture(seconds='0.1'), *EXACT)
    text = fail('-i', 'a.mp4', '--vcodec', 'h264_v4l2m2m')
    [line] = [line for line in text.splitlines() if line.startswith('error: ')]
    assert line.startswith('error: a.mp4: --vcodec h264_v4l2m2m: ')
    assert files('results') == []
