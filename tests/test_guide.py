"""The examples of the user's guide (sections 6 to 9), as they stand there."""
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.archs.rrdbnet_arch import RRDBNet
from tests.support import clips, face_stand_ins

PROJECT = Path(__file__).parent.parent

PICTURES = {
    '6.1 one picture': '-n RealESRGAN_x4plus -i input.jpg -o results',
    '6.1 a folder': '-n RealESRGAN_x4plus -i input_folder -o results',
    '6.1 anime': '-n RealESRGAN_x4plus_anime_6B -i anime_images -o results --face_enhance -t 400 --suffix enhanced',
    '6.1 denoise': '-n realesr-general-x4v3 -i noisy_images -o results -dn 0.8 --fp32 -s 2',
    '6.3 RGBA': '-n RealESRGAN_x4plus -i transparent_image.png -o results --alpha_upsampler realesrgan --ext png',
    '6.3 little memory': '-n realesr-general-x4v3 -i large_images -o results -t 200 --tile_pad 5',
    '7.2 speed': '-n realesr-general-x4v3 -i images -o results -t 600 --tile_pad 10',
    '7.3 much denoising': '-n realesr-general-x4v3 -i noisy_image.jpg -o results -dn 0.9',
    '7.3 little denoising': '-n realesr-general-x4v3 -i detailed_image.jpg -o results -dn 0.2',
    '8.1 tiles': '-n RealESRGAN_x4plus -i input.jpg -t 200',
    '8.1 smaller model': '-n realesr-general-x4v3 -i input.jpg',
    '8.1 model path': '--model_path path/to/RealESRGAN_x4plus.pth -i input.jpg',
    '8.2 alpha': '-n RealESRGAN_x4plus -i transparent.png -o results --ext png --alpha_upsampler realesrgan',
    '9.1 custom model': '--model_path path/to/custom_model.pth -n RealESRGAN_x4plus -i input.jpg',
}
VIDEOS = {
    '6.2 anime': '-n realesr-animevideov3 -i input_video.mp4 -o results',
    '6.2 several processes': '-n realesr-animevideov3 -i long_video.mp4 -o results --num_process_per_gpu 2 -t 200 '
                             '--fps 60',
    '6.2 frames first': '-n RealESRGAN_x4plus_anime_6B -i anime_video.mp4 -o results --extract_frame_first --fp32',
    '7.2 speed': '-n realesr-animevideov3 -i video.mp4 -o results --num_process_per_gpu 2 -t 400',
    '8.1 ffmpeg': '-n realesr-animevideov3 -i video.mp4 --ffmpeg_bin /usr/local/bin/ffmpeg',
    '8.2 large': '-n realesr-animevideov3 -i large_video.mp4 -o results --extract_frame_first -t 300',
}

WRAPPER = '''
import os
import subprocess

models = [
    'RealESRGAN_x4plus',
    'realesr-general-x4v3',
    'RealESRGAN_x4plus_anime_6B'
]

for model in models:
    cmd = [
        'python', 'inference_realesrgan.py',
        '-n', model,
        '-i', 'input_folder',
        '-o', f'results_{model}',
        '-t', '400'
    ]
    subprocess.run(cmd)
'''


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """Small stand-ins for the weights that the guide names, in the current folder."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    large = {'params_ema': RRDBNet(3, 3, 4, 8, 1, 4).state_dict()}
    for folder in ('weights', 'path/to'):
        Path(folder).mkdir(parents=True)
    for name in ('weights/RealESRGAN_x4plus', 'weights/RealESRGAN_x4plus_anime_6B', 'path/to/RealESRGAN_x4plus',
                 'path/to/custom_model'):
        torch.save(large, f'{name}.pth')
    for name in ('realesr-general-x4v3', 'realesr-general-wdn-x4v3', 'realesr-animevideov3'):
        clips.save_network(f'weights/{name}.pth')


@pytest.fixture
def pictures(weights):
    """The pictures that the guide names."""
    rng = np.random.default_rng(0)
    names = [f'{folder}/{name}' for folder in ('input_folder', 'anime_images', 'noisy_images', 'large_images', 'images')
             for name in ('a.jpg', 'b.png')]
    for name in (*names, 'input.jpg', 'noisy_image.jpg', 'detailed_image.jpg', 'transparent_image.png',
                 'transparent.png'):
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, rng.integers(0, 256, (9, 11, 4 if 'transparent' in name else 3), np.uint8))


@pytest.fixture
def videos(weights, tmp_path):
    """The videos that the guide names."""
    film = clips.make(tmp_path / 'input_video.mp4', *clips.picture('32x24', seconds='0.5'), *clips.sound('0.5'),
                      *clips.EXACT)
    for name in ('movie', 'long_video', 'anime_video', 'video', 'large_video'):
        shutil.copy(film, f'{name}.mp4')


@pytest.fixture
def faces(weights, monkeypatch):
    """Small stand-ins for the networks of faces."""
    face_stand_ins.save_small_networks(Path('weights'))
    face_stand_ins.put_in_place(monkeypatch)


@pytest.mark.parametrize('command', PICTURES.values(), ids=PICTURES)
def test_an_example_with_pictures(pictures, command):
    arguments = command.split()
    assert inference_realesrgan.main(arguments) == 0
    source = Path(arguments[arguments.index('-i') + 1])
    stems = [source] if source.is_file() else sorted(source.iterdir())
    scale = 2 if '-s' in arguments else 4
    suffix = 'enhanced' if 'enhanced' in arguments else 'out'
    for stem in stems:
        result = cv2.imread(f'results/{stem.stem}_{suffix}{stem.suffix}', cv2.IMREAD_UNCHANGED)
        assert result.shape == (9 * scale, 11 * scale, 4 if 'transparent' in stem.name else 3)


@face_stand_ins.needs_gfpgan
def test_7_3_best_quality(pictures, faces):
    shutil.copy(PROJECT / 'inputs' / 'astronaut.jpg', 'input.jpg')
    common = '-n RealESRGAN_x4plus -i input.jpg -o results --fp32 -t 0 --pre_pad 20'.split()
    assert inference_realesrgan.main([*common, '--face_enhance']) == 0
    assert inference_realesrgan.main([*common, '--suffix', 'plain']) == 0
    result, plain = (cv2.imread(f'results/input_{suffix}.jpg').astype(int) for suffix in ('out', 'plain'))
    rows, columns = np.nonzero((np.abs(result - plain) > 20).any(2))
    assert 100 < rows.mean() < 400  # the face is at 122..350
    assert 350 < columns.mean() < 560  # and at 363..546


def test_9_2_batch_script_and_wrapper(pictures):
    for name in ('inference_realesrgan.py', 'realesrgan'):
        Path(name).symlink_to(PROJECT / name)
    Path('custom_inference.py').write_text(WRAPPER.replace("'python'", repr(sys.executable)))
    subprocess.run([sys.executable, 'custom_inference.py'], check=True, capture_output=True)
    for model in ('RealESRGAN_x4plus', 'realesr-general-x4v3', 'RealESRGAN_x4plus_anime_6B'):
        assert clips.files(f'results_{model}') == ['a_out.jpg', 'b_out.png']


@pytest.mark.parametrize('command', VIDEOS.values(), ids=VIDEOS)
def test_an_example_with_a_video(videos, command):
    command = command.replace('/usr/local/bin/ffmpeg', shlex.quote(clips.FFMPEG.ffmpeg))  # wherever it is here
    arguments = shlex.split(command)
    assert inference_realesrgan_video.main(arguments) == 0
    source = Path(arguments[arguments.index('-i') + 1])
    path = f'results/{source.stem}_out.mp4'
    result = clips.video(path)
    assert (result['size'], result['frames'], result['r_frame_rate']) == (
        (128, 96), *((30, '60/1') if '--fps' in arguments else (12, '24/1')))
    assert clips.packets(path, 'a:0') == clips.packets(source, 'a:0')
    assert clips.files('results') == [f'{source.stem}_out.mp4']


@face_stand_ins.needs_gfpgan
def test_6_2_a_video_with_faces(videos, faces):
    arguments = '-n RealESRGAN_x4plus -i movie.mp4 -o results --face_enhance'.split()
    assert inference_realesrgan_video.main(arguments) == 0
    assert clips.video('results/movie_out.mp4')['frames'] == 12
