"""The winograd engine beyond what every engine must do: each build of its kernel, edges, threads, memory."""
from __future__ import annotations

import functools
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import winograd
from realesrgan.engines.cpu import list_cpu_features
from realesrgan.engines.devices import CPU
from realesrgan.engines.kernel.library import list_variants, load_variant
from realesrgan.engines.winograd import WinogradEngine
from realesrgan.errors import KernelError, NonFiniteError
from realesrgan.weights import load_model
from tests.support.random_networks import random_network, reference

PROJECT = Path(__file__).parents[2]
#: Of 0..1: a few times what was measured, 1e-6; PyTorch's own distance from float64 is as large.
LARGEST_ERROR = 5e-6

CONFIGS = [*(RRDBNetConfig(scale, 16, 1, 8) for scale in (4, 2, 1)),
           *(SRVGGNetCompactConfig(scale, 24, 2) for scale in (1, 2, 3, 4))]


def load_kernel(name):
    if name not in list_variants(list_cpu_features()):
        pytest.skip(f'this processor has no {name}')
    try:
        return load_variant(name)
    except KernelError as error:
        pytest.skip(str(error))


@pytest.fixture(params=('avx512', 'avx2', 'neon'))
def kernel(request):
    """Each build of the kernel that this processor runs; in float32 those with int16 are the same."""
    return load_kernel(request.param)


@pytest.fixture(params=('avx512_vnni', 'avx_vnni'))
def int16_kernel(request):
    """Each build with int16 that this processor runs."""
    return load_kernel(request.param)


def random_batch(height, width, count=1, seed=0):
    return np.random.default_rng(seed).random((count, height, width, 3), np.float32)


def make(module, kernel, precision='float32', **options):
    return WinogradEngine(LoadedNetwork.from_module(module), CPU, precision, kernel=kernel, **options)


def draw(kind):
    """An 8-bit picture of 48x56 pixels, as a batch."""
    rows, columns = np.mgrid[:48, :56]
    picture = np.full((48, 56, 3), {'white': 255}.get(kind, 0), np.uint8)
    if kind == 'photo':
        picture = cv2.imread(str(PROJECT / 'inputs' / 'astronaut.jpg'))[30:78, 80:136]
    elif kind == 'noise':
        picture = np.random.default_rng(0).integers(0, 256, picture.shape, np.uint8)
    elif kind == 'gradient':
        picture[...] = np.dstack((rows * 3, columns * 3, rows + columns))
    elif kind == 'drawing':
        picture[...] = 230
        cv2.circle(picture, (28, 24), 18, (40, 90, 240), -1)
        cv2.circle(picture, (28, 24), 18, (0, 0, 0), 2)
    elif kind == 'text':
        cv2.putText(picture, 'Abg 42', (2, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    return picture[None]


@functools.cache
def load(name):
    return load_model(name)


@functools.cache
def upscale_by_pytorch(name, kind):
    return reference(load(name), draw(kind)[:, 8:40, 8:48])


# ---- results ----

@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: f'{config.architecture}-x{config.scale}')
def test_every_height_and_width_to_40(kernel, config):
    """Tiles are cut in every way, and tasks and bands too."""
    module = random_network(config)
    engine = make(module, kernel, threads=2, least_tiles=1)
    for height in range(1, 41):
        width = height * 7 % 40 + 1
        batch = random_batch(height * config.multiple, width * config.multiple, seed=height)
        expected = reference(module, batch)
        assert np.abs(engine(batch) - expected).max() <= LARGEST_ERROR, (height, width)
    assert expected.std() > 0.03  # or there was nothing to compare


@pytest.mark.parametrize('l2_bytes', [1 << 17, 1 << 19, 1 << 23])
def test_tasks_of_any_size(kernel, monkeypatch, l2_bytes):
    monkeypatch.setattr(winograd, 'measure_l2_cache', lambda: l2_bytes)
    module = random_network(RRDBNetConfig(4, 48, 1, 32))  # inputs of 48 to 176 channels: one to three chunks
    batch = random_batch(50, 61)
    assert np.abs(make(module, kernel)(batch) - reference(module, batch)).max() <= LARGEST_ERROR


@pytest.mark.parametrize('kind', ['photo', 'drawing', 'noise', 'gradient', 'black', 'white', 'text'])
@pytest.mark.parametrize('name', ['realesr-animevideov3', 'RealESRGAN_x4plus_anime_6B'])
def test_at_most_one_level_from_pytorch(kernel, name, kind):
    expected = np.rint(upscale_by_pytorch(name, kind) * 255)
    assert np.abs(make(load(name), kernel)(draw(kind)[:, 8:40, 8:48]) - expected).max() <= 1


def test_sixteen_bits_of_a_photo_are_within_four_levels_of_pytorch(kernel):
    module = load('RealESRGAN_x4plus')
    batch = draw('photo')[:, :16, :24].astype(np.float32) / 255
    assert np.abs(make(module, kernel)(batch) - reference(module, batch)).max() * 65535 <= 4


@pytest.fixture(scope='module')
def gradient():
    """A gradient, and what PyTorch makes of it in single and in double precision."""
    module = load_model('RealESRGAN_x4plus')
    batch = draw('gradient')[:, :16, :20].astype(np.float32) / 255
    return batch, reference(module, batch), reference(module.double(), batch.astype(np.float64))


def test_sixteen_bits_of_a_gradient_are_as_exact_as_those_of_pytorch(kernel, gradient):
    """This network amplifies rounding on gradients so much that PyTorch is tens of levels from float64, too."""
    batch, single, double = gradient
    own = np.abs(single - double).max()
    ours = np.abs(make(load('RealESRGAN_x4plus'), kernel)(batch) - double).max()
    assert ours <= 3 * own + 4 / 65535


# ---- int16, against float32 ----

#: Of 0..1, on random networks: twice what was measured.
LARGEST_INT16_ERROR = 1e-3


def measure_psnr(actual, expected):
    return -10 * np.log10(np.mean(np.square(actual.astype(np.float64) - expected)) + 1e-20)


# Photos and noise are 2 dB below what was measured with the worse of two builds, 65 to 84 dB, drawings and text 4 dB.
@pytest.mark.parametrize(('name', 'kind', 'psnr', 'levels'), [
    ('realesr-animevideov3', 'photo', 81, 1), ('realesr-animevideov3', 'drawing', 76, 2),
    ('realesr-animevideov3', 'text', 78, 2), ('realesr-animevideov3', 'gradient', 69, 2),
    ('realesr-animevideov3', 'noise', 62, 2), ('realesr-animevideov3', 'black', 100, 1),
    ('RealESRGAN_x4plus_anime_6B', 'photo', 73, 2), ('RealESRGAN_x4plus_anime_6B', 'drawing', 74, 2),
    ('RealESRGAN_x4plus_anime_6B', 'gradient', 78, 1), ('RealESRGAN_x4plus_anime_6B', 'noise', 70, 2)])
def test_int16_on_pictures(int16_kernel, name, kind, psnr, levels):
    batch = draw(kind).astype(np.float32) / 255
    result, expected = (make(load(name), int16_kernel, precision)(batch) for precision in ('int16', 'float32'))
    assert measure_psnr(result, expected) >= psnr
    assert np.abs(np.rint(result * 255) - np.rint(expected * 255)).max() <= levels


@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: f'{config.architecture}-x{config.scale}')
def test_int16_of_every_height_and_width_to_40(int16_kernel, config):
    module = random_network(config)
    single, engine = (make(module, int16_kernel, precision, threads=2) for precision in ('float32', 'int16'))
    assert engine.description == f'winograd, cpu, int16, {int16_kernel.variant}'
    for height in range(1, 41):
        batch = random_batch(height * config.multiple, (height * 7 % 40 + 1) * config.multiple, seed=height)
        assert np.abs(engine(batch) - single(batch)).max() <= LARGEST_INT16_ERROR, height


def test_int16_does_not_depend_on_threads_and_tasks(int16_kernel, monkeypatch):
    module = random_network(RRDBNetConfig(4, 48, 1, 32))
    batch = random_batch(50, 61)
    expected = make(module, int16_kernel, 'int16', threads=1)(batch)
    assert 0 < np.abs(expected - make(module, int16_kernel)(batch)).max() <= LARGEST_INT16_ERROR
    for threads, l2_bytes in ((2, 1 << 17), (5, 1 << 19), (2, 1 << 23)):
        monkeypatch.setattr(winograd, 'measure_l2_cache', lambda size=l2_bytes: size)
        assert np.array_equal(make(module, int16_kernel, 'int16', threads=threads)(batch), expected)


def test_int16_of_a_tile_is_that_of_the_whole_picture(int16_kernel):
    """To the bit where Winograd's tiles are the same, whose pixels share a scale: each layer sees up to 5 pixels."""
    module = random_network(SRVGGNetCompactConfig(2, 24, 2))
    engine, batch = make(module, int16_kernel, 'int16'), random_batch(68, 76)
    whole = engine(batch)
    for top, left, error in ((8, 12, 0), (7, 13, LARGEST_INT16_ERROR)):
        part = engine(batch[:, top:top + 48, left:left + 52])[:, 32:-32, 32:-32]
        there = whole[:, 2 * top + 32:2 * top + 64, 2 * left + 32:2 * left + 72]
        assert np.abs(part - there).max() <= error


@pytest.mark.parametrize('factor', [1e4, 1e-4])
def test_int16_of_large_and_small_activations(int16_kernel, factor):
    """The same network, with activations that are larger or smaller by a factor."""
    module = random_network(SRVGGNetCompactConfig(4, 24, 3))
    batch = random_batch(30, 20)
    expected = make(module, int16_kernel)(batch)
    *others, last = (layer for layer in module.body if hasattr(layer, 'bias'))
    others[0].weight *= factor
    last.weight /= factor
    for layer in others:
        layer.bias *= factor
    assert np.abs(make(module, int16_kernel, 'int16')(batch) - expected).max() <= LARGEST_INT16_ERROR


@pytest.mark.parametrize('sign', [1, -1])
def test_no_sum_of_int16_overflows_where_all_channels_are_as_large_as_they_can_be(int16_kernel, sign):
    module = SRVGGNetCompactConfig(1, 64, 2).build().requires_grad_(False)
    for layer in module.body:
        layer.weight.fill_(1 if layer.weight.dim() == 1 else sign * 1 / 576)  # PReLU that lets all through
        if layer.weight.dim() == 4:
            layer.bias.zero_()
    batch = np.ones((1, 24, 24, 3), np.float32) / 4
    assert np.abs(make(module, int16_kernel, 'int16')(batch) - make(module, int16_kernel)(batch)).max() <= 1e-4


@pytest.mark.parametrize('kind', ['normal', 'equal', 'one', 'huge', 'tiny', 'zero'])
def test_weights_in_int16(int16_kernel, kind):
    """They are what Winograd's algorithm makes of them, and no sum of them can overflow."""
    random, inputs, panel = np.random.default_rng(0), [48, 32], int16_kernel.panel  # chunks of 64 and 32, of 5 groups
    weight = random.normal(0, 1, (40, 80, 3, 3)).astype(np.float32)
    weight *= {'huge': 1e30, 'tiny': 1e-30, 'zero': 0}.get(kind, 1)
    if kind == 'equal':
        weight[...] = 0.1
    elif kind == 'one':
        weight[...] = random.random(weight.shape) < 0.001
    panels = -(-40 // panel)
    packed, scales = winograd.allocate(panels * panel * 36 * 96 // 2).view(np.int16), winograd.allocate(
        panels * panel * 36 * 2)
    winograd.round_weights(weight, inputs, int16_kernel, packed, scales)
    rows = [np.array([1, s, s * s]) / (2 * a * a * (a * a - b * b))
            for a, b in ((0.6, 1.4), (1.4, 0.6)) for s in (a, -a)]
    points = np.array([[1 / (0.6 * 1.4) ** 2, 0, 0], *rows, [0, 0, 1]])
    for start, depth in ((0, 64), (64, 32)):
        size = panels * 36 * depth * panel
        chunk = packed[start * panels * 36 * panel:][:size].reshape(panels, 36, depth // 32, 16, panel, 2)
        rounded = chunk.transpose(1, 0, 4, 2, 5, 3).reshape(36, panels * panel, depth).astype(np.int64)
        assert np.abs(rounded).sum(2).max() * 23169 < 2 ** 31
        units = scales.reshape(2, panels, 36, panel)[start // 64].transpose(1, 0, 2).reshape(36, panels * panel, 1)
        exact = np.einsum('fi,ocij,gj->fgoc', points, weight[:, start:start + depth].astype(np.float64), points)
        exact = exact.reshape(36, *exact.shape[2:])
        assert np.abs(rounded[:, :40, :exact.shape[2]] * units[:, :40] - exact).max() <= (
            0.51 * units.max() + 1e-6 * np.abs(exact).max())
        assert not rounded[:, :40, exact.shape[2]:].any()


@pytest.mark.parametrize('name', ['conv_first.weight', 'body.0.rdb2.conv3.weight', 'conv_last.bias'])
@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e38])
def test_what_is_not_finite_is_noticed_in_int16(int16_kernel, name, value):
    """The last is, but its products are not."""
    module = random_network(RRDBNetConfig(4, 16, 1, 8))
    parameter = dict(module.named_parameters())[name]
    parameter.view(-1)[-1] = value
    if np.isfinite(value):
        parameter *= 1e38
    with pytest.raises(NonFiniteError):
        make(module, int16_kernel, 'int16')(random_batch(9, 10))


def test_a_build_without_int16_takes_float32(kernel):
    engine = make(random_network(CONFIGS[0]), kernel, 'int16')
    assert (engine.half, engine.description) == (False, f'winograd, cpu, float32, {kernel.variant}')


# ---- what goes wrong ----

@pytest.mark.parametrize('name', ['conv_first.weight', 'body.0.rdb2.conv3.bias', 'conv_last.weight'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_noticed(kernel, name, value):
    module = random_network(RRDBNetConfig(4, 16, 1, 8))
    dict(module.named_parameters())[name].view(-1)[-1] = value
    with pytest.raises(NonFiniteError):
        make(module, kernel)(random_batch(9, 10))


def test_nothing_outside_the_planes_is_read_or_written(kernel, monkeypatch):
    """With NaN between the planes, which would come out as NaN, and which must still be there."""
    guard, lay_out, guarded = 1 << 12, winograd._lay_out, {}

    def lay_out_apart(schedule):
        starts, floats = lay_out(schedule)
        guarded['planes'] = {plane: (start + (index + 1) * guard, plane.groups * schedule.size(plane))
                             for index, (plane, start) in enumerate(starts.items())}
        return {plane: start for plane, (start, _) in guarded['planes'].items()}, floats + (len(starts) + 1) * guard

    def clear(engine, count):
        guarded['floats'] = engine._memory = winograd.allocate(count)
        inside = np.zeros(count, bool)
        for start, size in guarded['planes'].values():
            inside[start:start + size] = True
        guarded['outside'] = ~inside
        engine._memory[~inside] = np.nan
    monkeypatch.setattr(winograd, '_lay_out', lay_out_apart)
    monkeypatch.setattr(WinogradEngine, '_clear_memory', clear)
    for config in (RRDBNetConfig(4, 16, 1, 8), RRDBNetConfig(1, 16, 1, 8), SRVGGNetCompactConfig(2, 16, 1)):
        module = random_network(config)
        engine = make(module, kernel, least_tiles=1)  # so that rows roll
        for height, width in ((1, 1), (4, 8), (13, 7), (37, 18), (18, 50)):
            batch = random_batch(height * config.multiple, width * config.multiple)
            assert np.abs(engine(batch) - reference(module, batch)).max() <= LARGEST_ERROR
            assert np.isnan(guarded['floats'][guarded['outside']]).all()


# ---- threads and memory ----

def test_it_computes_with_the_threads_it_was_given_which_end_and_change_nothing(best_kernel, monkeypatch):
    made = []

    class Thread(threading.Thread):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)
    module, batch = random_network(SRVGGNetCompactConfig(4, 16, 4)), random_batch(90, 100)
    expected = make(module, best_kernel)(batch)
    for threads in (1, 2, 5):
        made.clear()
        engine = make(module, best_kernel, threads=threads)
        with monkeypatch.context() as patches:
            patches.setattr(threading, 'Thread', Thread)
            assert np.array_equal(engine(batch), expected)
        assert len(made) == threads
        for thread in made:
            thread.join()


def test_an_error_in_a_thread_is_raised_and_the_next_picture_is_right(best_kernel, monkeypatch):
    module, batch = random_network(SRVGGNetCompactConfig(4, 16, 1)), random_batch(20, 20)
    engine, run = make(module, best_kernel, threads=2), best_kernel.run

    def fail(*_):
        monkeypatch.setattr(best_kernel, 'run', run)  # in the other thread
        raise MemoryError('no stack')
    monkeypatch.setattr(best_kernel, 'run', fail)
    with pytest.raises(MemoryError, match='no stack'):
        engine(batch)
    assert np.abs(engine(batch) - reference(module, batch)).max() <= LARGEST_ERROR


def test_a_picture_may_be_upscaled_while_another_reports_its_progress(best_kernel, monkeypatch):
    monkeypatch.setattr(winograd, '_SECONDS_BETWEEN_LOOKS', 0)
    module, large, small = random_network(SRVGGNetCompactConfig(4, 16, 4)), random_batch(200, 180), random_batch(16, 24)
    engine = make(module, best_kernel)
    expected, results, shares = engine(large), [], []

    def report(share):
        engine.on_progress = None
        shares.append(share)
        results.append(engine(small))
    engine.on_progress = report
    results += [engine(large), engine(small)]
    assert 0 <= shares[0] <= 1
    assert np.array_equal(results[1], expected)
    assert np.array_equal(results[0], results[2])
    assert np.abs(results[2] - reference(module, small)).max() <= LARGEST_ERROR


PRELUDE = """
import os, signal, sys, threading, time
import numpy as np
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines.devices import CPU
from realesrgan.engines.kernel.library import find_kernel
from realesrgan.engines.kernel.self_test import make_weights
from realesrgan.engines.winograd import WinogradEngine

config = SRVGGNetCompactConfig(4, 64, 30)
kernel = find_kernel()
weights = make_weights(config.layers(), np.random.default_rng(0))
engine = WinogradEngine(LoadedNetwork(config, weights), CPU, 'float32', kernel=kernel)
small = np.random.default_rng(0).random((1, 12, 12, 3), np.float32)
before = engine(small)
run = kernel.run
programs = []

def run_and_interrupt(program, scratch):
    kernel.run = run
    programs.append(program)
    for _ in range(INTERRUPTS):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.001)
    run(program, scratch)
"""

INTERRUPTED = """
kernel.run = run_and_interrupt
try:
    try:
        engine(np.zeros((1, 500, 500, 3), np.float32))
    except KeyboardInterrupt:
        time.sleep(0.5)  # for the second interrupt, if it comes so late
except KeyboardInterrupt:
    pass
early = programs[0].contents.next_ticket < kernel.count_tickets(programs[0])
print('early', early, np.array_equal(engine(small), before))
"""

AFTER_THE_MAIN_THREAD = """
def work():
    threading.main_thread().join()
    print(np.array_equal(engine(small), before))
threading.Thread(target=work).start()
"""

AFTER_A_FORK = """
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(engine(small), before) else 1)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='there is no fork, and Ctrl-C goes to all processes of a console')
@pytest.mark.usefixtures('best_kernel')
@pytest.mark.parametrize(('code', 'interrupts', 'output'), [
    (INTERRUPTED, 1, 'early True True'), (INTERRUPTED, 2, 'early True True'), (AFTER_THE_MAIN_THREAD, 0, 'True'),
    (AFTER_A_FORK, 0, '0')], ids=['interrupt', 'two-interrupts', 'after-the-main-thread', 'after-a-fork'])
def test_in_a_process_of_its_own(code, interrupts, output):
    """An interrupt ends a run before it is done, and the engine is as good as new."""
    result = subprocess.run([sys.executable, '-c', PRELUDE.replace('INTERRUPTS', str(interrupts)) + code], cwd=PROJECT,
                            capture_output=True, text=True, timeout=120)
    assert (result.stdout.strip(), result.stderr) == (output, '')


def test_memory_is_used_again_and_given_back(best_kernel):
    module = random_network(SRVGGNetCompactConfig(4, 16, 1))
    engine = make(module, best_kernel)
    engine(random_batch(40, 50))
    memory = engine._memory
    for height, width in ((50, 40), (7, 9), (40, 50)):
        batch = random_batch(height, width)
        assert np.abs(engine(batch) - reference(module, batch)).max() <= LARGEST_ERROR
        assert engine._memory is memory
    engine.release()
    assert engine._memory.size == 0
    assert np.abs(engine(batch) - reference(module, batch)).max() <= LARGEST_ERROR
    with pytest.raises(MemoryError, match='a network would need [0-9]+ GiB'):
        huge = np.broadcast_to(np.float32(0), (1, 2 ** 29, 2 ** 29, 3))
        make(random_network(RRDBNetConfig(4, 16, 1, 8)), best_kernel)(huge)
    with pytest.raises(TypeError, match='a batch of float64; allowed are uint8, uint16 and float32'):
        engine(np.zeros((1, 4, 4, 3)))
