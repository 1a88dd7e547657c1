"""Animated pictures stay animated, and videos with transparency keep it."""
from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from realesrgan.ffmpeg.colour import choose_alpha_format, has_alpha
from realesrgan.videos.animations import _read_apng_times
from tests.support import clips, moving_pictures
from tests.support.clips import files, make
from tests.support.moving_pictures import disc, enlarge, premultiply, read, write_by_pillow

SOFT = [disc(number, soft=True) for number in range(8)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with animations of all kinds, and what each shows."""
    folder = tmp_path_factory.mktemp('animations')
    return folder, moving_pictures.list_all(folder)


def find_difference(found, wanted):
    """Return the largest difference in alpha, and in visible colours."""
    alpha = np.abs(found[..., 3].astype(int) - wanted[..., 3]).max()
    return alpha, np.abs(premultiply(found) - premultiply(wanted)).max()


def test_animations_keep_format_frames_times_and_loops(upscale, folder):
    """The plain network repeats each pixel, so results are known; GIF has 256 colours for more than that."""
    folder, shown = folder
    upscale('-i', folder)
    for name, wanted in shown.items():
        path = Path(name)
        found = read(f'results/{path.stem}_out{path.suffix}')
        assert (found.seconds, found.plays, len(found.frames)) == (wanted.seconds, wanted.plays, len(wanted.frames)), (
            name)
        alpha, colours = find_difference(found.frames, enlarge(wanted.frames))
        assert alpha == 0, name
        assert colours <= (6 if path.suffix == '.gif' else 1), name


@pytest.mark.parametrize('extension', ['gif', 'apng', 'webp'])
def test_one_format_becomes_another(upscale, folder, extension):
    folder, shown = folder
    names = [name for name in ('pieces.gif', 'soft.png', 'exact.webp') if not name.endswith(extension)]
    printed = upscale('-i', *(folder / name for name in names), '--ext', extension)
    clock = {'gif': 100, 'apng': 0, 'webp': 1000}[extension]
    for name in names:
        found, wanted = read(f'results/{Path(name).stem}_out.{extension}'), shown[name]
        assert found.plays == wanted.plays
        ends = np.abs(np.cumsum(found.seconds, dtype=object) - np.cumsum(wanted.seconds, dtype=object)).max()
        assert ends <= (Fraction(1, 2 * clock) if clock else 0)  # the rounding does not add up
        assert find_difference(found.frames, enlarge(wanted.frames))[0] <= (127 if extension == 'gif' else 0)
    assert ('its soft transparency becomes hard' in printed) == (extension == 'gif')
    assert ('frames of less than 0.02 s' in printed) == (extension == 'gif')


def test_a_single_picture_becomes_a_gif_if_asked(upscale, tmp_path):
    write_by_pillow(tmp_path / 'a.png', SOFT[:1], [0])
    upscale('-i', 'a.png', '--ext', 'gif')
    assert len(read('results/a_out.gif').frames) == 1
    upscale('-i', 'a.png', '--ext', 'webp')  # which is a format of pictures, too
    assert files('results') == ['a_out.gif', 'a_out.webp']


def test_a_film_becomes_an_animation_without_its_sound(upscale, tmp_path):
    make(tmp_path / 'a.mp4', *clips.picture(rate='30', seconds='0.5'), *clips.sound('0.5'), '-c:a', 'aac', *clips.EXACT)
    assert 'audio track 1 (aac) is left out: gif does not hold it' in upscale('-i', 'a.mp4', '--ext', 'gif')
    found = read('results/a_out.gif')
    assert [int(100 * each) for each in found.seconds] == [3, 4, 3] * 5  # thirtieths in hundredths
    assert (found.plays, found.frames.shape) == (0, (15, 192, 256, 4))


def test_parts_a_kill_and_workers_change_nothing(upscale, folder, monkeypatch):
    source = folder[0] / 'soft.png'
    upscale('-i', source, '--suffix', 'a', '--chunk', '0')
    upscale('-i', source, '--suffix', 'b', '--chunk', '0.4', '--keep_parts')
    parts = sorted(Path('results/soft_b_parts').glob('*.mkv'))
    assert len(parts) > 1
    parts[0].unlink()
    assert f'reusing {len(parts) - 1} part' in upscale('-i', source, '--suffix', 'b', '--chunk', '0.4', '-v')
    assert Path('results/soft_a.png').read_bytes() == Path('results/soft_b.png').read_bytes()


def test_how_alpha_is_enlarged_is_part_of_the_run(upscale, fail, folder):
    source = folder[0] / 'exact.webp'
    upscale('-i', source, '--keep_parts')
    assert "alpha_upsampler was realesrgan, is bicubic" in fail('-i', source, '--alpha_upsampler', 'bicubic')
    upscale('-i', source, '--alpha_upsampler', 'bicubic', '--restart')
    alpha = read('results/exact_out.webp').frames[..., 3]
    assert 0 < np.abs(alpha.astype(int) - enlarge(np.array(SOFT[:5]))[..., 3]).mean() < 8


def test_start_end_and_fps(upscale, folder):
    source = folder[0] / 'uneven.gif'  # frames begin at 0, 0.03, 0.53, 0.6 and 1.8 s
    upscale('-i', source, '--start', '0.5', '--end', '1.7')
    assert read('results/uneven_out.gif').seconds == [Fraction(7, 100), Fraction(11, 10)]
    upscale('-i', source, '--fps', '10', '--suffix', 'ten')
    assert (set(found := read('results/uneven_ten.gif').seconds), sum(found)) == ({Fraction(1, 10)}, Fraction(19, 10))


def test_films_of_animations_have_a_constant_rate(upscale, tmp_path):
    write_by_pillow(tmp_path / 'a.webp', SOFT[:4], [100, 300, 50, 50])
    assert 'transparency is left out: mp4 does not hold it; --ext mov, webm' in upscale('-i', 'a.webp', '--ext', 'mp4')
    result = clips.video('results/a_out.mp4')
    assert (result['rate'], result['frames']) == (('20/1', '20/1'), 10)


def test_slow_animations_last_as_long_in_films(upscale, tmp_path):
    write_by_pillow(tmp_path / 'a.webp', SOFT[:4], [3000] * 4)
    upscale('-i', 'a.webp', '--ext', 'mkv')
    upscale('-i', 'a.webp', '--ext', 'mkv', '--fps', '0.5', '--suffix', 'half')
    for name, expected in (('out', ('1/3', 4)), ('half', ('1/2', 6))):
        result = clips.video(f'results/a_{name}.mkv')
        assert (result['rate'][0], result['frames']) == expected


def test_avif_is_read_and_becomes_webp(upscale, tmp_path):
    from PIL import features
    if not features.check('avif'):
        pytest.skip('this Pillow has no AVIF')
    wanted = write_by_pillow(tmp_path / 'a.avif', SOFT, [70, 200] * 4, quality=100)
    upscale('-i', 'a.avif')
    found = read('results/a_out.webp')
    assert found.seconds == wanted.seconds
    assert find_difference(found.frames, enlarge(wanted.frames))[0] <= 12


def test_a_folder_of_stickers_and_equal_names(upscale, folder, tmp_path):
    (tmp_path / 'stickers').mkdir()
    for name, copy in (('soft.png', 'a.png'), ('exact.webp', 'a.webp'), ('pieces.gif', 'b.gif')):
        shutil.copy(folder[0] / name, tmp_path / 'stickers' / copy)
    (tmp_path / 'stickers' / 'c.txt').touch()
    assert 'c.txt' in upscale('-i', 'stickers')
    assert files('results') == ['a_png_out.png', 'a_webp_out.webp', 'b_out.gif']


@pytest.mark.parametrize('name', ['uneven.gif', 'over.apng'])
def test_a_damaged_animation_gives_what_could_be_decoded(fail, folder, tmp_path, name):
    data = (folder[0] / name).read_bytes()
    (tmp_path / name).write_bytes(data[:len(data) * 3 // 5])
    printed = fail('-i', name)
    found = read(f'results/{name.replace(".", "_out.")}')
    assert f'{name}: damaged; {len(found.frames)} frames could be decoded' in printed
    assert len(found.frames) in range(1, 5)


@pytest.mark.parametrize(('name', 'mark'), [('uneven.gif', b'\x21\xF9'), ('soft.png', b'fcTL')])
def test_an_animation_that_ends_between_two_frames_is_damaged(fail, folder, tmp_path, name, mark):
    data = (folder[0] / name).read_bytes()
    (tmp_path / name).write_bytes(data[:data.rindex(mark) - (4 if mark == b'fcTL' else 0)])
    assert f'{name}: damaged; 4 frames could be decoded: ' in fail('-i', name)


def test_options_that_animations_do_not_take(upscale, run, fail, folder):
    source = folder[0] / 'still.apng'
    assert '--crf has no effect on gif' in upscale('-i', source, '--ext', 'gif', '--crf', '3')
    assert 'gif takes only ffv1; leave --vcodec out' in fail('-i', source, '--ext', 'gif', '--vcodec', 'libx264')
    assert f'{source}: is an animation, which --ext png can\'t hold' in run('-i', source, '--ext', 'png')[2]
    assert 'but gif is limited to 65535 pixels a side' in fail('-i', source, '--ext', 'gif', '-s', '4000')
    assert '3, 32x24 to 128x96, 10 frames/s, apng' in upscale('-i', source, '--dry_run')


# ---- videos with transparency ----

@pytest.fixture
def film(tmp_path):
    """Write a film of a soft disc; return what it shows."""
    def write(name, *options):
        (tmp_path / 'raw').write_bytes(b''.join(frame.tobytes() for frame in SOFT))
        make(tmp_path / name, '-f', 'rawvideo', '-pix_fmt', 'rgba', '-s', '32x24', '-r', '24', '-i', tmp_path / 'raw',
             *options)
        return np.array(SOFT)
    return write


def decode_alpha(path):
    stream = clips.video(path)
    decoder = ['-c:v', 'libvpx-vp9'] if stream['codec_name'] == 'vp9' else []
    data = clips.ffmpeg(*decoder, '-i', path, '-map', '0:v:0', *clips.ALL_FRAMES, '-f', 'rawvideo', '-pix_fmt', 'rgba',
                        '-')
    return stream['codec_name'], np.frombuffer(data, np.uint8).reshape(-1, stream['height'], stream['width'], 4)


VP9 = ['-c:v', 'libvpx-vp9', '-pix_fmt', 'yuva420p', '-auto-alt-ref', '0', '-crf', '2', '-b:v', '0']
PRORES = ['-c:v', 'prores_ks', '-pix_fmt', 'yuva444p10le']


@pytest.mark.parametrize(('name', 'options', 'more', 'codec', 'most'), [
    ('a.webm', VP9, ['--ext', 'webm', '--crf', '2'], 'vp9', 8), ('a.mov', PRORES, ['--ext', 'mov'], 'prores', 2),
    ('a.mov', ['-c:v', 'qtrle', '-pix_fmt', 'argb'], ['--ext', 'mov', '--vcodec', 'qtrle'], 'qtrle', 0),
    ('a.mov', ['-c:v', 'png', '-pix_fmt', 'rgba'], ['--ext', 'webm', '--crf', '2', '--chunk', '0.1'], 'vp9', 8),
    ('a.mov', PRORES, ['--ext', 'mov', '--vcodec', 'png', '--extract_frame_first'], 'png', 2),
    ('a.mkv', ['-c:v', 'ffv1', '-pix_fmt', 'bgra'], ['--ext', 'mkv', '--vcodec', 'ffv1', '--steady'], 'ffv1', 0)])
def test_videos_keep_transparency(upscale, film, name, options, more, codec, most):
    clips.require_encoder(options[1])
    wanted = film(name, *options)
    upscale('-i', name, *more)
    found = decode_alpha(f'results/a_out.{more[1]}')
    assert (found[0], len(found[1])) == (codec, 8)
    assert find_difference(found[1], enlarge(wanted))[0] <= most


def test_a_film_that_does_not_use_its_transparency_is_as_one_without(upscale, film, at_calls):
    film('a.mov', '-vf', 'format=rgb24,format=rgba', '-c:v', 'qtrle', '-pix_fmt', 'argb')
    film('b.mov', '-vf', 'format=rgb24', '-c:v', 'qtrle', '-pix_fmt', 'rgb24')
    upscale('-i', 'a.mov', 'b.mov', '--ext', 'mkv', '--vcodec', 'ffv1', '--pix_fmt', 'bgra')
    one, other = (decode_alpha(f'results/{name}_out.mkv')[1] for name in 'ab')
    assert (one[..., 3] == 255).all()
    assert np.array_equal(one, other)


def test_a_folder_of_transparent_frames(upscale, tmp_path):
    from PIL import Image
    (tmp_path / 'frames').mkdir()
    for number, frame in enumerate(SOFT[:3]):
        Image.fromarray(frame).save(tmp_path / 'frames' / f'{number}.png')
    upscale('-i', 'frames', '--ext', 'mov', '--vcodec', 'qtrle')
    assert find_difference(decode_alpha('results/frames_out.mov')[1], enlarge(np.array(SOFT[:3])))[0] == 0
    assert 'any soft transparency becomes hard' in upscale('-i', 'frames', '--ext', 'gif')


@pytest.mark.parametrize(('source', 'supported', 'chosen'), [
    ('yuva444p12le', ('yuv444p10le', 'yuva444p10le'), 'yuva444p10le'), ('argb', ('rgb24', 'rgba', 'rgba64be'), 'rgba'),
    ('yuv420p', ('yuv420p', 'yuva420p'), 'yuva420p'), ('rgba64le', ('rgba', 'rgba64be', 'pal8'), 'rgba64be'),
    ('bgra', ('yuv420p', 'rgb24', 'ya8'), None)])
def test_the_nearest_format_with_alpha(source, supported, chosen):
    assert choose_alpha_format(source, supported) == chosen


def test_what_has_alpha():
    assert [name for name in ('yuva420p', 'gbrap12le', 'bgra', 'rgb24', 'pal8', 'gray') if has_alpha(name)] == [
        'yuva420p', 'gbrap12le', 'bgra']
    assert has_alpha('pal8', 'png')


def test_a_plain_png_has_one_frame_of_no_duration(tmp_path):
    write_by_pillow(tmp_path / 'a.png', SOFT[:1], [0])
    assert _read_apng_times((tmp_path / 'a.png').read_bytes()) == (0, [0])
