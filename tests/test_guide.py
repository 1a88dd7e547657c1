"""The image examples of the user's guide (sections 6.1, 6.3, 7, 8, 9.1 and 9.2), as they stand there."""
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
from realesrgan.archs.rrdbnet_arch import RRDBNet
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from tests.support import face_stand_ins

PROJECT = Path(__file__).parent.parent

EXAMPLES = {
    '6.1 one picture': 'python inference_realesrgan.py -n RealESRGAN_x4plus -i input.jpg -o results',
    '6.1 a folder': 'python inference_realesrgan.py -n RealESRGAN_x4plus -i input_folder -o results',
    '6.1 anime': 'python inference_realesrgan.py -n RealESRGAN_x4plus_anime_6B -i anime_images -o results '
                 '--face_enhance -t 400 --suffix enhanced',
    '6.1 denoise': 'python inference_realesrgan.py -n realesr-general-x4v3 -i noisy_images -o results -dn 0.8 '
                   '--fp32 -s 2',
    '6.3 RGBA': 'python inference_realesrgan.py -n RealESRGAN_x4plus -i transparent_image.png -o results '
                '--alpha_upsampler realesrgan --ext png',
    '6.3 little memory': 'python inference_realesrgan.py -n realesr-general-x4v3 -i large_images -o results -t 200 '
                         '--tile_pad 5',
    '7.2 speed': 'python inference_realesrgan.py -n realesr-general-x4v3 -i images -o results -t 600 --tile_pad 10',
    '7.3 much denoising': 'python inference_realesrgan.py -n realesr-general-x4v3 -i noisy_image.jpg -o results '
                          '-dn 0.9',
    '7.3 little denoising': 'python inference_realesrgan.py -n realesr-general-x4v3 -i detailed_image.jpg -o results '
                            '-dn 0.2',
    '8.1 tiles': 'python inference_realesrgan.py -n RealESRGAN_x4plus -i input.jpg -t 200',
    '8.1 smaller model': 'python inference_realesrgan.py -n realesr-general-x4v3 -i input.jpg',
    '8.1 model path': 'python inference_realesrgan.py --model_path path/to/RealESRGAN_x4plus.pth -i input.jpg',
    '8.2 alpha': 'python inference_realesrgan.py -n RealESRGAN_x4plus -i transparent.png -o results --ext png '
                 '--alpha_upsampler realesrgan',
    '9.1 custom model': 'python inference_realesrgan.py --model_path path/to/custom_model.pth -n RealESRGAN_x4plus '
                        '-i input.jpg',
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
def workplace(tmp_path, monkeypatch):
    """A folder with the pictures that the guide names and small stand-ins for the weights in weights/."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    large = {'params_ema': RRDBNet(3, 3, 4, 8, 1, 4).state_dict()}
    for folder in ('weights', 'path/to'):
        Path(folder).mkdir(parents=True)
    for name in ('weights/RealESRGAN_x4plus', 'weights/RealESRGAN_x4plus_anime_6B', 'path/to/RealESRGAN_x4plus',
                 'path/to/custom_model'):
        torch.save(large, f'{name}.pth')
    for name in ('realesr-general-x4v3', 'realesr-general-wdn-x4v3'):
        torch.save({'params': SRVGGNetCompact(3, 3, 8, 2, 4).state_dict()}, f'weights/{name}.pth')
    rng = np.random.default_rng(0)
    for folder in ('input_folder', 'anime_images', 'noisy_images', 'large_images', 'images'):
        Path(folder).mkdir()
        for name in ('a.jpg', 'b.png'):
            cv2.imwrite(f'{folder}/{name}', rng.integers(0, 256, (9, 11, 3), np.uint8))
    for name in ('input.jpg', 'noisy_image.jpg', 'detailed_image.jpg'):
        cv2.imwrite(name, rng.integers(0, 256, (9, 11, 3), np.uint8))
    for name in ('transparent_image.png', 'transparent.png'):
        cv2.imwrite(name, rng.integers(0, 256, (9, 11, 4), np.uint8))
    return tmp_path


@pytest.mark.parametrize('command', EXAMPLES.values(), ids=EXAMPLES.keys())
def test_example(workplace, command):
    arguments = shlex.split(command)[2:]
    assert inference_realesrgan.main(arguments) == 0
    source = Path(arguments[arguments.index('-i') + 1])
    stems = [source] if source.is_file() else sorted(source.iterdir())
    scale = 2 if '-s' in arguments else 4
    suffix = 'enhanced' if 'enhanced' in arguments else 'out'
    for stem in stems:
        result = cv2.imread(f'results/{stem.stem}_{suffix}{stem.suffix}', cv2.IMREAD_UNCHANGED)
        assert result.shape == (9 * scale, 11 * scale, 4 if 'transparent' in stem.name else 3)


@face_stand_ins.needs_gfpgan
def test_7_3_best_quality(workplace, monkeypatch):
    face_stand_ins.save_small_networks(Path('weights'))
    face_stand_ins.put_in_place(monkeypatch)
    shutil.copy(PROJECT / 'inputs' / 'astronaut.jpg', 'input.jpg')
    common = '-n RealESRGAN_x4plus -i input.jpg -o results --fp32 -t 0 --pre_pad 20'.split()
    assert inference_realesrgan.main([*common, '--face_enhance']) == 0
    assert inference_realesrgan.main([*common, '--suffix', 'plain']) == 0
    result, plain = (cv2.imread(f'results/input_{suffix}.jpg').astype(int) for suffix in ('out', 'plain'))
    rows, columns = np.nonzero((np.abs(result - plain) > 20).any(2))
    assert 100 < rows.mean() < 400  # the face is at 122..350
    assert 350 < columns.mean() < 560  # and at 363..546


def test_9_2_batch_script_and_wrapper(workplace):
    for name in ('inference_realesrgan.py', 'realesrgan'):
        (workplace / name).symlink_to(PROJECT / name)
    (workplace / 'custom_inference.py').write_text(WRAPPER.replace("'python'", repr(sys.executable)))
    subprocess.run([sys.executable, 'custom_inference.py'], check=True, capture_output=True)
    for model in ('RealESRGAN_x4plus', 'realesr-general-x4v3', 'RealESRGAN_x4plus_anime_6B'):
        assert sorted(path.name for path in Path(f'results_{model}').iterdir()) == ['a_out.jpg', 'b_out.png']
