"""FaceEnhancer: what it changes and what it leaves, its agreement with gfpgan's GFPGANer, its weights and imports."""
import sys
import tracemalloc
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer
from realesrgan.archs.srvgg_arch import SRVGGNetCompact
from realesrgan.errors import FacePackagesError, NonFiniteError, WeightsError
from realesrgan.faces import FaceEnhancer, import_face_packages, load_face_networks, paste_face
from realesrgan.models import FACE_MODELS
from tests.support import face_stand_ins

pytestmark = face_stand_ins.needs_gfpgan

INPUTS = Path(__file__).parents[2] / 'inputs'

#: A face of 40 pixels in the middle of a picture of 96 x 80, its eyes level, as RetinaFace gives it: box, score, points
FACE = np.array([[25, 22, 57, 62, 0.99, 33, 38, 49, 38, 41, 47, 34.5, 54.5, 47.5, 54.5]], np.float32)
#: Where FFHQ's square of that face lies, with a pixel to spare: left, top, right, bottom.
SQUARE = (8, 7, 74, 74)


@pytest.fixture(scope='module', autouse=True)
def one_thread():
    """Threads that wait for each other cost small networks ten times their work where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp('faces') / 'weights'
    face_stand_ins.save_small_networks(folder)
    return folder


@pytest.fixture
def workplace(tmp_path, monkeypatch, weights):
    """A folder with the small networks in weights/, where nothing else may be written."""
    (tmp_path / 'weights').symlink_to(weights)
    monkeypatch.chdir(tmp_path)
    face_stand_ins.put_in_place(monkeypatch)
    yield tmp_path
    assert {path.name for path in weights.iterdir()} == {
        'GFPGANv1.3.pth', 'GFPGANv1.4.pth', 'detection_Resnet50_Final.pth', 'parsing_parsenet.pth'}


@pytest.fixture
def found(monkeypatch):
    """Rows that the detector returns instead of looking."""
    rows = FACE.copy()
    seen = []

    def detect_faces(self, picture, threshold):
        seen.append(picture)
        return found.rows
    found = types.SimpleNamespace(rows=rows, seen=seen)
    monkeypatch.setattr(face_stand_ins.classes().RetinaFace, 'detect_faces', detect_faces)
    return found


def upsampler(**options):
    torch.manual_seed(1)
    return RealESRGANer(4, None, model=SRVGGNetCompact(3, 3, 8, 2, 4), pre_pad=0, engine='torch', **options)


def quick(faces=None, **options):
    """An enhancer that turns the colours of faces around, at no cost."""
    enhancer = FaceEnhancer(upsampler(**options), **faces or {})
    enhancer.networks.restorer.forward = lambda batch, **options: (-batch, None)
    enhancer.networks.parser.forward = lambda batch: (SKIN, None)
    return enhancer


#: ParseNet's scores for a square that is skin all over.
SKIN = torch.eye(19)[1].reshape(1, 19, 1, 1).expand(1, 19, 512, 512)


def picture(*channels, dtype=np.uint8):
    """A smooth picture of 96 x 80 that uses the whole range."""
    rng = np.random.default_rng(0)
    small = rng.random((9, 8, *channels)).astype(np.float32)
    large = cv2.resize(small, (80, 96), interpolation=cv2.INTER_LINEAR)
    return np.rint(large * np.iinfo(dtype).max).astype(dtype)


def inside(shape, scale):
    mask = np.zeros(shape[:2], bool)
    left, top, right, bottom = (round(side * scale) for side in SQUARE)
    mask[top:bottom, left:right] = True
    return mask


# ---- what changes and what does not ----

@pytest.mark.parametrize(('channels', 'dtype', 'outscale'), [
    ((3,), np.uint8, None), ((3,), np.uint8, 2), ((3,), np.uint8, 3.5), ((3,), np.uint16, 3.5), ((), np.uint8, 2),
    ((), np.uint16, None), ((1,), np.uint8, 2), ((4,), np.uint8, 2), ((4,), np.uint16, 3.5)])
def test_only_the_face_changes(workplace, found, channels, dtype, outscale):
    img = picture(*channels, dtype=dtype)
    plain, mode = upsampler().enhance(img, outscale)
    result, mode_with_face = FaceEnhancer(upsampler()).enhance(img, outscale)
    assert (result.shape, result.dtype, mode_with_face) == (plain.shape, plain.dtype, mode)
    square = inside(plain.shape, outscale or 4)
    assert np.array_equal(result[~square], plain[~square])
    colours, before = (np.atleast_3d(a)[..., :3].astype(float) for a in (result, plain))
    assert np.abs(colours - before)[square].mean() > 0.02 * np.iinfo(dtype).max
    if channels == (4,):
        assert np.array_equal(result[..., 3], plain[..., 3])
    assert found.seen[-1].shape == (96, 80, 3)
    assert 200 < found.seen[-1].max() <= 255


def test_a_face_is_laid_over_the_mixture(workplace, found):
    img = picture(3)
    plain, result = (one.enhance(img, strength=0)[0] for one in (upsampler(), quick()))
    square = inside(plain.shape, 4)
    assert np.array_equal(plain, cv2.resize(img, (320, 384), interpolation=cv2.INTER_CUBIC))
    assert np.array_equal(result[~square], plain[~square])
    assert (result[square] != plain[square]).mean() > 0.5


def test_a_face_follows_each_side_of_a_final_size(workplace, found):
    img = picture(3)
    enhancer = quick()
    assert np.array_equal(enhancer.enhance(img, size=(160, 192))[0], enhancer.enhance(img, 2)[0])
    left, top, right, bottom = SQUARE
    for size in (200, 192), (120, 250):
        plain, result = upsampler().enhance(img, size=size)[0], enhancer.enhance(img, size=size)[0]
        rows, columns, _ = np.nonzero(result != plain)
        assert result.shape == (size[1], size[0], 3)
        x, y = size[0] / 80, size[1] / 96
        assert abs(columns.min() - left * x) < 0.2 * (right - left) * x > abs(columns.max() - right * x)
        assert abs(rows.min() - top * y) < 0.2 * (bottom - top) * y > abs(rows.max() - bottom * y)


@pytest.mark.parametrize('outscale', [2, 1, 0.5])
def test_tiles_and_small_scales(workplace, found, outscale):
    img = picture(3)
    tiles = []
    plain = upsampler(tile=40).enhance(img, outscale)[0]
    enhancer = FaceEnhancer(upsampler(tile=40)) if outscale == 2 else quick(tile=40)
    enhancer.on_tile = lambda done, total: tiles.append((done, total))
    result = enhancer.enhance(img, outscale)[0]
    whole = dict.fromkeys(done for done, _ in tiles if done % 1 == 0 and done)
    assert (list(whole), {total for _, total in tiles}) == ([1, 2, 3, 4, 5, 6], {6})
    assert enhancer.on_tile is enhancer.upsampler.on_tile
    square = inside(plain.shape, outscale)
    assert np.array_equal(result[~square], plain[~square])
    assert (result != plain)[square].mean() > 0.5


def test_16_bit_is_8_bit_with_finer_steps(workplace, found):
    img = picture(3)
    enhancer = quick()
    coarse = enhancer.enhance(img, 2)[0].astype(float)
    fine = enhancer.enhance(img.astype(np.uint16) * 257, 2)[0]
    assert len(np.unique(fine % 257)) > 200
    assert np.abs(fine / 257 - coarse).max() < 2.1
    dark = enhancer.enhance(img.astype(np.uint16), 2)[0]
    assert dark.dtype == np.uint16


def test_floating_point_as_the_upsampler_takes_it(workplace, found):
    img = picture(3)
    enhancer = quick()
    difference = enhancer.enhance(img.astype(np.float32), 2)[0].astype(int) - enhancer.enhance(img, 2)[0]
    assert np.abs(difference).max() <= 1


def test_gray_with_alpha_stays_gray(workplace, found):
    gray = picture()
    img = cv2.merge([gray, gray, gray, picture()[::-1]])
    enhancer = quick()
    enhancer.networks.restorer.forward = lambda batch, **options: (torch.stack([batch[:, 0], -batch[:, 1],
                                                                                 batch[:, 2]], 1), None)
    enhancer.upsampler.enhance = lambda img, *arguments, **more: (cv2.resize(img, None, fx=4, fy=4), 'RGBA')
    result = enhancer.enhance(img)[0]
    assert (result != cv2.resize(img, None, fx=4, fy=4)).any()
    assert (result[..., 0] == result[..., 1]).all() and (result[..., 1] == result[..., 2]).all()
    img[0, 0, 0] ^= 1  # one pixel that is not gray
    assert (enhancer.enhance(img)[0][..., 0] != enhancer.enhance(img)[0][..., 1]).any()


def test_no_face_is_the_plain_result(workplace):
    for name in ('camera_gray.png', 'cat_16bit.png', 'globe_alpha.png'):
        img = cv2.imread(str(INPUTS / name), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(FaceEnhancer(upsampler()).enhance(img, 1)[0], upsampler().enhance(img, 1)[0])


def test_weight_blends_with_the_plain_result(workplace, found):
    img = picture(3)
    plain = upsampler().enhance(img)[0].astype(float)
    full, half, none = (quick({'weight': weight}).enhance(img)[0] for weight in (1, 0.5, 0))
    assert np.array_equal(none, plain)
    assert np.abs(half - (plain + full) / 2).max() <= 1


def test_which_faces(workplace, found):
    img = cv2.copyMakeBorder(picture(3), 0, 0, 0, 100, cv2.BORDER_REFLECT_101)
    aside = FACE + np.array([100 * (i % 2 == 0 if i < 4 else i % 2 == 1) for i in range(15)], np.float32)
    aside[0, 2:4] += 10  # a box of 42 x 50
    aside[0, 4] = FACE[0, 4]
    found.rows = np.vstack((FACE, aside))
    plain = upsampler().enhance(img, 1)[0]

    def changed(**options):
        different = (quick(options).enhance(img, 1)[0] != plain).any(2)
        return different[:, :80].any(), different[:, 106:].any()
    assert changed() == (True, True)
    assert changed(min_size=45) == (False, True)
    assert changed(min_size=51) == (False, False)
    assert changed(only_center_face=True) == (True, False)
    found.rows[0, 5] = found.rows[0, 7] - 4  # eyes 4 pixels apart
    assert changed() == (False, True)


def test_a_face_that_leaves_the_picture(workplace, found):
    img = picture(3)
    for shift in (-30, 40, 500, -500):
        found.rows = FACE.copy()
        found.rows[0, :4] += shift
        found.rows[0, 5:] += shift
        assert quick().enhance(img, 2)[0].shape == (192, 160, 3)


@pytest.mark.parametrize('network', ['restorer', 'parser'])
def test_what_is_not_finite_is_not_pasted(workplace, found, network):
    enhancer = quick()
    broken = torch.full((1, 3 if network == 'restorer' else 19, 512, 512), float('nan'))
    getattr(enhancer.networks, network).forward = lambda batch, **options: (broken, None)
    with pytest.raises(NonFiniteError, match='a face network gave values that are not finite .float32 on cpu.: are '):
        enhancer.enhance(picture(3))


@pytest.mark.parametrize(('options', 'message'), [
    ({'weight': 1.5}, 'weight is 1.5; allowed is 0 to 1'), ({'weight': float('nan')}, 'weight is nan'),
    ({'min_size': -1}, 'min_size is -1'),
    ({'model': 'GFPGANv1.2'}, "unknown face model 'GFPGANv1.2': choose from " + ', '.join(FACE_MODELS))])
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        FaceEnhancer(upsampler(), **options)


# ---- the same as gfpgan ----

@pytest.mark.parametrize('scale', [4, 3.5, 1])
def test_the_pixels_are_those_of_gfpgan(workplace, found, scale):
    from gfpgan import GFPGANer
    (workplace / 'gfpgan').mkdir()
    (workplace / 'gfpgan' / 'weights').symlink_to(workplace / 'weights')
    turned = FACE.copy()
    turned[0, 5:] += [78, -6, 78, 6, 81, 2, 76, 0, 76, 5]  # in the right half, on the slant
    found.rows = np.vstack((turned, FACE))
    img = cv2.resize(picture(3), (170, 96))
    theirs = GFPGANer('weights/GFPGANv1.3.pth', upscale=scale, bg_upsampler=upsampler(), device=torch.device('cpu'))
    expected = theirs.enhance(img, paste_back=True)[2]
    assert (expected != upsampler().enhance(img, scale)[0]).mean() > 0.1
    assert np.array_equal(FaceEnhancer(upsampler()).enhance(img, scale)[0], expected)


def test_a_picture_has_one_result(workplace, found):
    enhancer = FaceEnhancer(upsampler())
    for name, parameter in enhancer.networks.restorer.named_parameters():
        if name.endswith('conv2.weight') and parameter.numel() == 1:
            parameter.fill_(1)  # random weights let no noise through, trained ones do
    first, second = (enhancer.enhance(picture(3))[0] for _ in range(2))
    assert np.array_equal(first, second)


# ---- weights ----

def test_networks_of_the_real_sizes_load(tmp_path):
    """Weights that are one zero, shown many times over: files as small as that, and nothing is found."""
    networks = {
        'restorer': face_stand_ins.classes().GFPGANv1Clean(
            out_size=512, num_style_feat=512, channel_multiplier=2, fix_decoder=False, input_is_latent=True,
            different_w=True, sft_half=True),
        'parser': face_stand_ins.classes().ParseNet(in_size=512, out_size=512, parsing_ch=19)}
    with pytest.warns(UserWarning):
        networks['detector'] = face_stand_ins.classes().RetinaFace(device=torch.device('cpu'))
    for name, network in networks.items():
        zeros = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in network.state_dict().items()}
        torch.save({'params_ema': zeros} if name == 'restorer' else zeros, tmp_path / f'{name}.pth')
    files = [tmp_path / f'{name}.pth' for name in ('restorer', 'detector', 'parser')]
    loaded = load_face_networks(files, torch.device('cpu'))
    for name, network in networks.items():
        assert {key: tensor.shape for key, tensor in getattr(loaded, name).state_dict().items()} == {
            key: tensor.shape for key, tensor in network.state_dict().items()}
        assert not getattr(loaded, name).training
    assert loaded.detector.detect_faces(np.zeros((64, 64, 3), np.float32), 0.97).shape == (0, 15)


def test_networks_run_where_the_upsampler_does(workplace, monkeypatch):
    large = upsampler()
    large.device = torch.device('meta')
    monkeypatch.setattr(torch.nn.Module, 'to', lambda self, *args: asked.append(args) or self)
    asked = []
    FaceEnhancer(large)
    assert asked.count((torch.device('meta'),)) == 4  # facexlib's RetinaFace moves itself too


@pytest.mark.parametrize('name', ['GFPGANv1.4', 'detection_Resnet50_Final', 'parsing_parsenet'])
def test_weights_of_another_network_are_refused_in_a_short_line(workplace, weights, name):
    (workplace / 'weights').unlink()
    (workplace / 'weights').mkdir()
    for file in weights.iterdir():
        (workplace / 'weights' / file.name).symlink_to(file)
    bad = workplace / 'weights' / f'{name}.pth'
    bad.unlink()
    torch.save({'params': {'a': torch.zeros(1)}}, bad)
    with pytest.raises(WeightsError, match=f'{name}.pth: does not fit .*: .*Missing key') as caught:
        FaceEnhancer(upsampler(), 'GFPGANv1.4')
    assert str(caught.value).endswith(' ...; delete it to have it fetched again')
    assert len(str(caught.value)) < len(str(bad)) + 300  # of the hundreds of names only the first


# ---- imports ----

@pytest.mark.parametrize('package', ['gfpgan', 'facexlib', 'torchvision'])
def test_a_missing_package_is_one_line_with_the_command(monkeypatch, package):
    for name in [name for name in sys.modules if name.split('.')[0] in (package, 'facexlib')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FacePackagesError, match=f'--face_enhance needs {package}.*, which is not installed: pip inst'):
        import_face_packages()


def test_on_python_3_13_the_line_says_what_helps(monkeypatch):
    monkeypatch.setitem(sys.modules, 'gfpgan.archs.gfpganv1_clean_arch', None)
    monkeypatch.setattr(sys, 'version_info', (3, 13))
    with pytest.raises(FacePackagesError, match='gfpgan.*, and basicsr, which it needs, does not build on Python 3.13. '
                                                'Use an environment of Python 3.11 or 3.12'):
        import_face_packages()


# ---- a real face, found by a trained RetinaFace ----

@pytest.mark.parametrize('degrees', [0, 25])
def test_a_real_face_goes_out_and_comes_back_to_its_place(workplace, monkeypatch, degrees):
    photo = cv2.imread(str(INPUTS / 'astronaut.jpg'))
    photo = cv2.warpAffine(photo, cv2.getRotationMatrix2D((112, 61), degrees, 1), (256, 256),
                           borderMode=cv2.BORDER_REPLICATE)
    enhancer = FaceEnhancer(upsampler())
    face, = enhancer.find_faces(photo)
    size = max(face.box[2:] - face.box[:2])
    assert 40 < size < 80
    plain = cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    monkeypatch.setattr(enhancer.upsampler, 'enhance', lambda *_, **__: (plain.copy(), 'RGB'))
    monkeypatch.setattr(enhancer.networks.restorer, 'forward', lambda batch, **options: (batch, None))
    monkeypatch.setattr(enhancer.networks.parser, 'forward', lambda batch: (SKIN, None))
    pasted = enhancer.enhance(photo)[0]
    assert (pasted != plain).any()
    left, top, right, bottom = (round(float(side) * 4) for side in face.box)
    before, after = (cv2.cvtColor(a[top:bottom, left:right], cv2.COLOR_BGR2GRAY).astype(np.float32)
                     for a in (plain, pasted))
    shift, response = cv2.phaseCorrelate(before, after)
    assert response > 0.5
    assert np.hypot(*shift) < 0.03 * 4 * size


def test_paste_far_from_the_corner_of_a_huge_picture():
    square = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    mask = np.ones((512, 512))
    small, huge = np.zeros((600, 300), np.uint8), np.zeros((600, 40000), np.uint8)
    for large, shift in ((small, 0), (huge, 39000)):
        paste_face(large, square, mask, np.array([[1.0, 0.1, 5 - shift / 2], [-0.1, 1, 7 + shift / 20]]), (2, 2))
    assert small.any()
    difference = np.abs(huge[:, 39000:39300].astype(int) - small)
    assert (difference > 8).mean() < 0.001  # pixels that warpAffine takes from a place 1/32 of a pixel aside
    assert not huge[:, :38900].any()


def test_a_large_face_takes_little_more_memory_than_its_pixels():
    square = np.full((512, 512, 3), 101, np.uint8)
    large = np.full((1500, 1500, 3), 7, np.uint8)
    tracemalloc.start()
    paste_face(large, square, np.full((512, 512), 0.5), np.array([[0.5, 0, 20], [0, 0.5, 20]]), (2, 2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.unique(large).tolist() == [54]
    assert peak < 16 * 1500 ** 2  # 11 bytes for each pixel of the square, and a band of the blend


def test_paste_outside_of_the_picture_changes_nothing():
    large = np.full((40, 40), 7, np.uint16)
    matrix = np.array([[10.0, 0, 5000], [0, 10, 0]])
    paste_face(large, np.zeros((512, 512, 3), np.uint16), np.ones((512, 512)), matrix, (2, 2))
    assert (large == 7).all()
