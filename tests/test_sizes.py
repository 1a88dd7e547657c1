"""Final sizes by --width, --height and --fit: exact, in proportion, for pictures, videos and the service."""
from __future__ import annotations

import io
import math
import random
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import inference_realesrgan
import inference_realesrgan_video
from realesrgan.errors import UsageError
from realesrgan.options import PictureOptions, VideoOptions
from realesrgan.upscaling.size import Size, fit_size, scale_size
from realesrgan.upscaling.upsampler import RealESRGANer
from tests.support import clips

_RANDOM = random.Random(8)
#: Width and height, the box, and the multiples: 200 of films and photos, some of them odd.
CASES = [(_RANDOM.randint(16, 4000), _RANDOM.randint(16, 4000), _RANDOM.randint(16, 8000), _RANDOM.randint(16, 8000),
          _RANDOM.choice([(1, 1), (2, 2), (2, 1)])) for _ in range(200)]


def write(path, height, width, channels=3, dtype=np.uint8):
    noise = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (height, width, channels), dtype)
    assert cv2.imwrite(str(path), noise)
    return path


def measure(path):
    return Size(*cv2.imread(str(path), cv2.IMREAD_UNCHANGED).shape[1::-1])


# ---- the function ----

@pytest.mark.parametrize('case', CASES, ids=str)
def test_a_size_is_exact_and_in_proportion(case):
    width, height, most_width, most_height, multiples = case
    held = [most // multiple * multiple for most, multiple in zip((most_width, most_height), multiples, strict=True)]
    fits = fit_size(width, height, most_width, most_height, multiples)
    by_width, by_height = (fit_size(width, height, most_width, None, multiples),
                           fit_size(width, height, None, most_height, multiples))
    assert (by_width.width, by_height.height) == tuple(held)
    assert fits == min(by_width, by_height, key=lambda size: size.width * height if size is by_width else
                       size.height * width)
    assert fits.width <= held[0]
    assert fits.height <= held[1]
    for size in fits, by_width, by_height:
        assert all(side % multiple == 0 for side, multiple in zip(size, multiples, strict=True))
        # The side that follows is the nearest multiple, unless that is nothing.
        wanted = Fraction(size.width * height, width), Fraction(size.height * width, height)
        follows = abs(size.height - wanted[0]) * 2 <= multiples[1] or abs(size.width - wanted[1]) * 2 <= multiples[0]
        assert follows or min(size) <= 2


@pytest.mark.parametrize(('size', 'box', 'multiples', 'expected'), [
    ((1920, 1080), (3840, 2160), (2, 2), '3840x2160'), ((1920, 1080), (3840, None), (2, 2), '3840x2160'),
    ((1998, 1080), (3840, 2160), (2, 2), '3840x2076'), ((1000, 563), (None, 1080), (1, 1), '1918x1080'),
    ((1000, 563), (1281, None), (2, 2), '1280x720'), ((640, 480), (3840, 2160), (1, 1), '2880x2160'),
    ((3, 1000), (100, 100), (2, 2), '2x100'), ((1000, 1), (10, None), (1, 1), '10x1'), ((5, 5), (1, 1), (2, 2), '2x2'),
    ((2, 1), (None, 3), (1, 1), '6x3'), ((2, 4), (1, None), (1, 1), '1x2'), ((4, 2), (2, None), (2, 2), '2x2')])
def test_some_sizes(size, box, multiples, expected):
    assert str(fit_size(*size, *box, multiples)) == expected


def test_a_multiple_is_rounded_down_as_in_0_3_0():
    assert scale_size(5, 7, 1.5) == (7, 10)
    assert scale_size(1, 2, 0.3) == (1, 1)


# ---- options ----

@pytest.mark.parametrize(('arguments', 'message'), [
    (['-s', '4', '--width', '100'], '--outscale and --width contradict each other: give one of them; --fit WxH takes'),
    (['-s', '2', '--fit', '9x9'], '--outscale and --fit contradict each other'),
    (['--width', '9', '--height', '9'], '--width and --height contradict each other'),
    (['--width', '0'], '0 is out of range: allowed is 1 or more'), (['--height', '4k'], "'4k' is not a whole number"),
    (['--fit', '3840'], "'3840' is not a size; write it as 3840x2160"),
    (['--fit', '3840x'], "'' is not a whole number"), (['--fit', '0x5'], '0 is out of range')])
@pytest.mark.parametrize('script', [inference_realesrgan, inference_realesrgan_video])
def test_wrong_sizes_are_usage_errors(run_script, tmp_path, script, arguments, message):
    status, _, err = run_script(script, '-i', write(tmp_path / 'a.png', 4, 4), *arguments)
    assert status == 2
    assert message in err


def test_programs_give_sizes_too():
    assert PictureOptions(fit=(30, 20)).fit == PictureOptions(fit='30X20').fit == Size(30, 20)
    with pytest.raises(UsageError, match="fit: 7 is not a size"):
        PictureOptions(fit=7)
    with pytest.raises(UsageError, match='--outscale and --height contradict'):
        VideoOptions(outscale=2, height=3)
    assert PictureOptions(width=3).find_size(6, 4) == (3, 2)
    assert PictureOptions(outscale=3).find_size(6, 4) is None


# ---- arrays ----

@pytest.mark.parametrize('shape', [(9, 7), (9, 7, 3), (9, 7, 4)])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_enhance_resizes_the_networks_result_once(tiny, shape, dtype):
    upsampler = RealESRGANer(4, tiny, pre_pad=0, device='cpu')
    img = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype)
    whole = upsampler.enhance(img)[0]
    assert np.array_equal(upsampler.enhance(img, size=(28, 36))[0], whole)
    for size in (61, 50), (5, 4), (28, 37):  # larger and smaller than the network's
        result = upsampler.enhance(img, size=size)[0]
        expected = cv2.resize(whole, size, interpolation=cv2.INTER_LANCZOS4)
        assert result.shape == expected.shape
        assert np.array_equal(result[..., :3], expected[..., :3])
    assert np.array_equal(upsampler.enhance(img, 2)[0], upsampler.enhance(img, size=(14, 18))[0])


@pytest.mark.parametrize(('outscale', 'size'), [(2, (4, 4)), (None, (4,)), (None, (0, 4))])
def test_enhance_takes_one_of_both(tiny, outscale, size):
    with pytest.raises(ValueError, match=rf'size is .*, and outscale {outscale}; one of them must be None'):
        RealESRGANer(4, tiny, pre_pad=0, device='cpu').enhance(np.zeros((4, 4, 3), np.uint8), outscale, size=size)


# ---- pictures ----

def test_a_folder_of_mixed_sizes(succeed, tiny, tmp_path):
    sizes = [(20, 30), (30, 20), (1, 50), (7, 7), (40, 9)]
    for number, (height, width) in enumerate(sizes):
        write(tmp_path / f'in{number}.png', height, width)
    inputs = ['-i', *(f'in{number}.png' for number in range(len(sizes))), '--model_path', tiny]
    for arguments, box in ((['--width', '123'], (123, None)), (['--height', '77'], (None, 77)),
                           (['--fit', '100x64'], (100, 64)), (['--fit', '9x9'], (9, 9))):
        succeed(inference_realesrgan, *inputs, *arguments)
        assert [measure(f'results/in{number}_out.png') for number in range(len(sizes))] == [
            fit_size(width, height, *box) for height, width in sizes]


def test_orientation_comes_first(succeed, tiny, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (40, 20)).save(tmp_path / 'a.jpg', exif=exif)
    succeed(inference_realesrgan, '-i', 'a.jpg', '--width', '50', '--model_path', tiny, '--compare')
    assert measure('results/a_out.jpg') == (50, 100)


def test_existing_results_and_the_room_of_formats(run_script, tiny, tmp_path):
    write(tmp_path / 'a.jpg', 20, 2000)
    arguments = '-i', 'a.jpg', '--model_path', tiny, '--ext', 'webp'
    status, _, err = run_script(inference_realesrgan, *arguments, '--height', '200')
    assert (status, 'its result would be 20000x200, but webp is limited to 16383' in err) == (1, True)
    assert run_script(inference_realesrgan, *arguments, '--height', '3')[0] == 0
    status, out, err = run_script(inference_realesrgan, *arguments, '--height', '4', '--skip_existing')
    assert (status, '1 skipped' in out + err) == (0, True)
    assert measure('results/a_out.webp') == (300, 3)


def test_more_memory_than_there_is_is_said_before_the_network_runs(run_script, tiny, tmp_path):
    write(tmp_path / 'a.png', 4, 4)
    status, _, err = run_script(inference_realesrgan, '-i', 'a.png', '--width', '900000', '--model_path', tiny)
    assert status == 1
    assert 'a result of 900000x900000 takes 2263.1 GiB of memory' in err
    assert 'choose a smaller size (-s, --width, --height, --fit)' in err


# ---- videos ----

@pytest.mark.parametrize(('arguments', 'expected', 'warning'), [
    (['--width', '100'], (100, 76), None), (['--height', '90'], (120, 90), None),
    (['--fit', '100x60'], (80, 60), None), (['--fit', '101x61'], (80, 60), None),
    (['--width', '301'], (300, 226), '--width 301: yuv420p holds even sides only, so it becomes 300'),
    (['--width', '301', '--pix_fmt', 'yuv444p'], (301, 226), None), (['--width', '32'], (32, 24), None)])
def test_videos_get_sides_that_their_format_holds(succeed, tiny, tmp_path, arguments, expected, warning):
    clips.make(tmp_path / 'a.mkv', *clips.picture(seconds='0.2'), *clips.EXACT)
    printed = succeed(inference_realesrgan_video, '-i', 'a.mkv', '--model_path', tiny, '--preset', 'ultrafast',
                      *arguments)
    stream = clips.video(Path('results/a_out.mp4'))
    assert (stream['width'], stream['height'], stream['frames']) == (*expected, 5)
    assert ('holds even sides only' in printed) == (warning is not None)
    assert warning is None or f'warning: a.mkv: {warning}' in printed


def test_frames_of_a_video_are_resized_as_pictures_are(succeed, tiny, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    write(folder / '1.png', 18, 14)
    succeed(inference_realesrgan_video, '-i', 'in', '--model_path', tiny, '--fp32', '--fit', '63x60', '--vcodec',
            'ffv1', '--ext', 'mkv', '--pix_fmt', 'bgr0')
    upsampler = RealESRGANer(4, tiny, pre_pad=0, device='cpu')
    expected = upsampler.enhance(cv2.imread(str(folder / '1.png')), size=(47, 60))[0]
    assert np.array_equal(clips.frames(Path('results/in_out.mkv'))[0], expected)


def test_a_turned_video_and_one_from_a_pipe(succeed, tiny, tmp_path):
    clips.rotate(clips.make(tmp_path / 'a.mp4', *clips.picture(seconds='0.2'), *clips.EXACT), tmp_path / 'b.mp4', '90')
    succeed(inference_realesrgan_video, '-i', 'b.mp4', '--model_path', tiny, '--width', '60')
    stream = clips.video(Path('results/b_out.mp4'))
    assert (stream['width'], stream['height']) == (60, 80)


def test_parts_of_another_size_are_not_joined(run_script, tiny, tmp_path):
    clips.make(tmp_path / 'a.mp4', *clips.picture(seconds='0.2'), *clips.EXACT)

    def run(*arguments):
        return run_script(inference_realesrgan_video, '-i', 'a.mp4', '--model_path', tiny, '--keep_parts', *arguments)
    assert run('--fit', '90x60')[0] == 0
    status, _, err = run('--width', '90')
    assert (status, 'width was not given, is 90, fit was 90x60, is not given' in err) == (1, True)
    status, out, err = run('--fit', '90x60')
    assert (status, 'reusing 1 part' in out + err) == (0, True)
    assert '64x48 to 80x60' in run('--fit', '90x60', '--dry_run')[1]


# ---- the service ----

@pytest.mark.parametrize(('fields', 'expected'), [({'width': '30'}, (30, 60)), ({'fit': '50x50'}, (25, 50))])
def test_the_service_takes_sizes(fields, expected):
    uploads = pytest.importorskip('realesrgan.web.uploads')
    from realesrgan.web.errors import TooLargeError
    from realesrgan.web.settings import Settings
    make_options = partial(uploads.make_options, uploads.read_form(fields), media=uploads.Media('picture', Size(5, 10)))
    assert make_options(settings=Settings()).find_size(5, 10) == expected
    if math.prod(expected) <= 1600:
        make_options(settings=Settings(max_pixels=100))
        return
    with pytest.raises(TooLargeError, match=f'would have {Size(*expected)} pixels; the limit is 1600'):
        make_options(settings=Settings(max_pixels=100))


def test_an_upload_is_measured_upright(tmp_path):
    uploads = pytest.importorskip('realesrgan.web.uploads')
    from realesrgan.web.settings import Settings
    exif = Image.Exif()
    for orientation, expected in ((1, (40, 20)), (3, (40, 20)), (8, (20, 40))):
        exif[0x0112] = orientation
        data = io.BytesIO()
        Image.new('RGB', (40, 20)).save(data, 'PNG', exif=exif)
        (tmp_path / 'input').write_bytes(data.getvalue())
        assert uploads.measure(tmp_path / 'input', Settings()) == uploads.Media('picture', expected)


# ---- strength ----

@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_strength_of_pictures(succeed, tiny, tmp_path, dtype):
    path = write(tmp_path / 'a.png', 12, 10, dtype=dtype)
    expected = RealESRGANer(4, tiny, pre_pad=0, device='cpu').enhance(
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED), size=(33, 40), strength=0.25)[0]
    succeed(inference_realesrgan, '-i', 'a.png', '--model_path', tiny, '--fp32', '--height', '40', '--strength', '0.25')
    assert np.array_equal(cv2.imread('results/a_out.png', cv2.IMREAD_UNCHANGED), expected)


def test_strength_of_videos_and_its_parts(run_script, tiny, tmp_path):
    folder = tmp_path / 'in'
    folder.mkdir()
    img = cv2.imread(str(write(folder / '1.png', 18, 14)))

    def run(*arguments):
        return run_script(inference_realesrgan_video, '-i', 'in', '--model_path', tiny, '--vcodec', 'ffv1', '--ext',
                          'mkv', '--pix_fmt', 'bgr0', '--keep_parts', *arguments)
    assert run('--strength', '0')[0] == 0
    assert np.array_equal(clips.frames(Path('results/in_out.mkv'))[0],
                          cv2.resize(img, (56, 72), interpolation=cv2.INTER_CUBIC))
    status, _, err = run('--strength', '0.5')
    assert (status, 'strength was 0, is 0.5' in err) == (1, True)


def test_the_service_takes_a_strength():
    uploads = pytest.importorskip('realesrgan.web.uploads')
    from realesrgan.web.errors import FieldError
    assert uploads.read_form({'strength': '0.5'}) == {'strength': 0.5}
    with pytest.raises(FieldError, match='strength: 2 is out of range: allowed is 0 to 1'):
        uploads.read_form({'strength': '2'})
