"""--face_enhance as its users meet it: turned off for anime, missing weights and packages, a photo, a video."""
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import inference_realesrgan
import inference_realesrgan_video
from realesrgan import RealESRGANer
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.faces import load_face_networks
from realesrgan.models import FACE_MODELS, MODELS
from realesrgan.options import UpsamplerOptions, drop_faces_of_anime
from tests.support import clips, face_stand_ins

PROJECT = Path(__file__).parents[2]
PHOTO = str(PROJECT / 'inputs' / 'astronaut.jpg')
#: Two frames around the face in that photo, which moves by 16 pixels between them.
FACE_CLIP = ('-loop', '1', '-r', '10', '-t', '0.2', '-i', PHOTO, '-vf', "crop=128:128:'60+16*n':0", '-pix_fmt',
             'yuv444p', '-c:v', 'ffv1')
LOSSLESS = ('--fp32', '-s', '2', '--vcodec', 'ffv1', '--ext', 'mkv')
HEAVY = ('gfpgan', 'basicsr', 'facexlib', 'torchvision')


@pytest.fixture
def run(run_script, tmp_path, monkeypatch):
    """Run a script in a folder of its own, with a small network for every model."""
    monkeypatch.setattr('realesrgan.weights.sources.PROJECT', tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    (tmp_path / 'weights').mkdir()
    for name in ('tiny', 'RealESRGAN_x4plus_anime_6B', 'realesr-animevideov3'):
        torch.save(SRVGGNetCompact(3, 3, 8, 2, 4).state_dict(), f'weights/{name}.pth')
    yield lambda *arguments, script=inference_realesrgan: run_script(script, *arguments)
    torch.set_num_threads(threads)


def plain(weights, outscale=4):
    return RealESRGANer(4, weights, pre_pad=0).enhance(cv2.imread(PHOTO), outscale)[0]


# ---- anime ----

@pytest.mark.parametrize(('arguments', 'weights'), [
    ('-n RealESRGAN_x4plus_anime_6B', 'RealESRGAN_x4plus_anime_6B'),
    ('-n realesr-animevideov3', 'realesr-animevideov3'),
    ('--model_path weights/realesr-animevideov3.pth', 'realesr-animevideov3')])
def test_anime_keeps_its_faces(run, tmp_path, monkeypatch, arguments, weights):
    for name in HEAVY:
        monkeypatch.setitem(sys.modules, name, None)  # an import would fail
    status, out, err = run('-i', PHOTO, '-o', '.', '--ext', 'png', '--face_enhance', '--fp32', '-s', '2',
                           '--no_check', *arguments.split())
    assert status == 0
    assert out.startswith('1 done, 0 failed, ')
    assert [line for line in err.splitlines() if line.startswith('warning')] == [
        f'warning: face enhancement is turned off: {weights} is a model for anime']
    assert np.array_equal(cv2.imread('astronaut_out.png', -1), plain(f'weights/{weights}.pth', 2))


def test_which_models_are_for_anime():
    for name, spec in MODELS.items():
        options = UpsamplerOptions(model_name=name, face_enhance=True)
        assert drop_faces_of_anime(options).face_enhance is not spec.anime
    assert [MODELS[name].anime for name in ('RealESRGAN_x4plus', 'RealESRGAN_x4plus_anime_6B',
                                               'realesr-animevideov3', 'realesr-general-x4v3')] == [
        False, True, True, False]


# ---- what is missing ----

@face_stand_ins.needs_gfpgan
def test_missing_weights_end_the_run_before_it_begins(run, tmp_path, monkeypatch):
    monkeypatch.setattr('realesrgan.weights.download.fetch', unreachable)
    monkeypatch.setattr('realesrgan.upscaling.upsampler.RealESRGANer', None)  # nothing is built either
    files = FACE_MODELS['GFPGANv1.4']
    for there in range(2):  # of the three
        status, out, err = run('-i', PHOTO, '-o', 'results', '--face_enhance', '--model_path', 'weights/tiny.pth',
                               '--face_model', 'GFPGANv1.4')
        names = ', '.join(file.name for file in files[there:])
        assert (status, out, err) == (1, '', (
            f'error: put the face weights {names} into {tmp_path / "weights"}; the download failed: '
            f'{files[there].url}: no network\n'))
        (tmp_path / 'weights' / files[there].name).touch()
    assert not Path('results').exists()


def unreachable(url, target, sha256):
    from realesrgan.errors import DownloadError
    raise DownloadError(f'{url}: no network. Is there a proxy?')


def test_missing_packages_end_the_run_before_it_begins(run, monkeypatch):
    for name in [name for name in sys.modules if name.split('.')[0] == 'gfpgan']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, 'gfpgan', None)
    status, out, err = run('-i', PHOTO, '-o', 'results', '--face_enhance', '--model_path', 'weights/tiny.pth')
    assert (status, out, len(err.splitlines())) == (1, '', 1)
    assert err.startswith('error: --face_enhance needs gfpgan')
    assert not Path('results').exists()


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--face_weight', '1.1'], '1.1 is out of range: allowed is 0 to 1'),
    (['--face_min_size', '-1'], '-1 is out of range: allowed is 0 or more'),
    (['--face_model', 'GFPGANv1'], "invalid choice: 'GFPGANv1'")])
def test_bad_options_are_usage_errors(run, arguments, message):
    status, _, err = run(*arguments)
    assert status == 2
    assert message in err


# ---- the whole way, on a photo, with a detector that works ----

@face_stand_ins.needs_gfpgan
def test_a_photo(run, monkeypatch, tmp_path):
    face_stand_ins.save_small_networks(tmp_path / 'faces')
    for file in (tmp_path / 'faces').iterdir():
        file.rename(tmp_path / 'weights' / file.name)
    face_stand_ins.put_in_place(monkeypatch)
    common = '-o', '.', '--model_path', 'weights/tiny.pth', '--ext', 'png', '--fp32', '-s', '2', '--face_enhance'
    status, out, err = run('-i', PHOTO, *common)
    assert status == 0
    assert out.startswith('1 done, 0 failed, ')
    assert 'faces: GFPGANv1.3 in float32 on cpu' in err
    result, expected = cv2.imread('astronaut_out.png', -1), plain('weights/tiny.pth', 2)
    rows, columns = np.nonzero((result != expected).any(2))
    assert (result[50:186, 170:286] != expected[50:186, 170:286]).mean() > 0.5
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((25, 194, 141, 310), abs=9)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ['astronaut_out.png', 'faces', 'weights']
    for options in (['--face_weight', '0'], ['--face_min_size', '100']):
        assert run('-i', PHOTO, *common, *options, '--suffix', 'off')[0] == 0
        assert np.array_equal(cv2.imread('astronaut_off.png', -1), expected)
    assert run('-i', PHOTO, *common, '--only_center_face', '--face_model', 'GFPGANv1.4', '--suffix', 'one')[0] == 0
    assert np.array_equal(cv2.imread('astronaut_one.png', -1), result)


@face_stand_ins.needs_gfpgan
def test_a_video(run, monkeypatch, tmp_path):
    face_stand_ins.save_small_networks(tmp_path / 'weights')
    face_stand_ins.put_in_place(monkeypatch)
    built = []
    monkeypatch.setattr('realesrgan.faces.load_face_networks',
                        lambda *args: built.append(args) or load_face_networks(*args))
    clips.make(tmp_path / 'face.mkv', *FACE_CLIP)
    clips.make(tmp_path / 'none.mkv', *clips.picture('96x80', rate='10', seconds='0.3'), *clips.EXACT)
    common = '-n', 'RealESRGAN_x4plus', '--model_path', 'weights/tiny.pth', *LOSSLESS
    for name in ('face', 'none'):
        for options in (['--suffix', 'plain'], ['--face_enhance']):
            assert run('-i', f'{name}.mkv', *common, *options, script=inference_realesrgan_video)[0] == 0
    assert len(built) == 2  # once for a video, not for a frame
    result, expected = (clips.frames(tmp_path / f'results/none_{suffix}.mkv') for suffix in ('out', 'plain'))
    assert result.shape == (3, 160, 192, 3)
    assert np.array_equal(result, expected)
    result, expected = (clips.frames(tmp_path / f'results/face_{suffix}.mkv') for suffix in ('out', 'plain'))
    for number, frame in enumerate((result != expected).any(3)):
        rows, columns = np.nonzero(frame)
        assert frame[50:186, 50 - 32 * number:166 - 32 * number].mean() > 0.8
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx(
            (25, 194, 21 - 32 * number, 190 - 32 * number), abs=12)
