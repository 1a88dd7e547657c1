"""The behaviour of every engine, on every device of this machine, in single and in half precision.

A row that is added to `engines.engine` is tested here without a change. Results are compared with the PyTorch module
itself, in float32 on the CPU.
"""
from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines.choice import explain_refusal, list_gpus, make_engine
from realesrgan.engines.devices import CPU, Device, explain_absence, pick_precision
from realesrgan.engines.engine import ENGINES, VULKAN, Engine, EngineRow
from realesrgan.errors import NonFiniteError
from realesrgan.weights import load_model
from tests.support.random_networks import random_network, reference

PROJECT = Path(__file__).parents[2]

# Of 0..1. In single precision only the order of additions differs, or on a GPU TF32, which has 10 bits of fraction.
# bfloat16 has 7, so that each of the five to ten layers may be off by 1/256 of its values; measured are up to 0.01.
LARGEST_ERROR = {False: 1e-3, True: 0.03}
#: Rounding to 8 bits may tip over by a level.
LARGEST_LEVELS = {False: 1, True: 8}

CONFIGS = [RRDBNetConfig(scale, 8, 1, 4) for scale in (4, 2, 1)] + [SRVGGNetCompactConfig(scale, 8, 2)
                                                                    for scale in (4, 2, 1)]
COMPACT = SRVGGNetCompactConfig(4, 8, 2)
# The first of each type. Without a Vulkan device its cases are skipped.
DEVICES = [CPU, *{gpu.type: gpu for gpu in reversed(list_gpus('torch'))}.values(), Device(VULKAN, 0)]


@dataclass(frozen=True)
class Case:
    """An engine on a device at a precision."""

    row: EngineRow
    device: Device
    half: bool

    def make(self, network: torch.nn.Module) -> Engine:
        loaded = LoadedNetwork.from_module(copy.deepcopy(network))
        refusal = explain_refusal(self.row, loaded, self.device)
        if refusal is not None:
            pytest.skip(str(refusal))
        engine = make_engine(loaded, self.device, half=self.half, name=self.row.name)
        if self.half and not engine.half and self.row.name == 'winograd':
            pytest.skip('the kernel was not built for VNNI')
        assert engine.half == self.half
        return engine

    def __str__(self) -> str:
        return f'{self.row.name}-{self.device.type}-{"half" if self.half else "single"}'


@pytest.fixture(params=[Case(row, device, half) for row in ENGINES for device in DEVICES for half in (False, True)
                        if device.type in row.devices], ids=str)
def case(request):
    if request.param.device.type == VULKAN and (absence := explain_absence(VULKAN)):
        pytest.skip(absence)
    precision = pick_precision(request.param.device, request.param.half, request.param.row.precisions)
    if request.param.half and precision == 'float32':
        pytest.skip(f'the engine {request.param.row.name} has no half precision on this processor')
    return request.param


def constant_network(*values):
    """A 4x network whose result does not depend on the input, which must be black: 16 values for each of R, G and B.

    A pixel becomes a block of 4x4, which holds the 16 values in order.
    """
    network = SRVGGNetCompactConfig(4, 8, 1).build().requires_grad_(False)
    for parameter in network.parameters():
        parameter.zero_()
    network.body[-1].bias.copy_(torch.tensor(np.concatenate(values), dtype=torch.float32))
    return network


def random_batch(shape, dtype=np.uint8, seed=0):
    batch = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    return batch.astype(np.float32) / 255 if dtype == np.float32 else batch.astype(dtype) * (np.iinfo(dtype).max // 255)


def assert_close(actual, expected, case):
    """Compare a result with one of `reference`."""
    assert actual.shape == expected.shape
    if actual.dtype == np.uint8:
        assert np.abs(actual - np.rint(expected * 255)).max() <= LARGEST_LEVELS[case.half]
    elif actual.dtype == np.uint16:
        assert np.abs(actual / 65535 - expected).max() <= LARGEST_ERROR[case.half]
    else:
        assert actual.dtype == np.float32
        assert np.abs(actual - expected).max() <= LARGEST_ERROR[case.half]


# ---- results ----

@pytest.mark.parametrize('config', CONFIGS, ids=lambda config: f'{config.architecture}-x{config.scale}')
def test_any_size_any_dtype_at_any_time(case, config):
    network = random_network(config)
    engine = case.make(network)
    for index, (count, height, width) in enumerate([(1, 1, 1), (1, 12, 10), (3, 1, 7), (1, 5, 1), (2, 33, 40)]):
        for dtype in (np.uint8, np.uint16, np.float32):
            batch = random_batch((count, height * config.multiple, width * config.multiple), dtype, index)
            expected = reference(network, batch)
            assert_close(engine(batch), expected, case)
    assert expected.std() > 0.03  # or there was nothing to compare


def test_results_are_clamped(case):
    engine = case.make(constant_network([-1, -0.01, 0, 0.25] * 4, [1.01, 2, 1e4, 0.5] * 4, [-1e4, 1, 0.75, 3] * 4))
    result = engine(np.zeros((1, 1, 1, 3), np.float32))
    expected = np.array([[0, 1, 0], [1, 1, 0], [0.75, 1, 0], [1, 0.5, 0.25]])
    assert np.abs(result[0, 0] - expected).max() <= 1e-6
    assert (result.min(), result.max()) == (0, 1)
    result = engine(np.zeros((1, 1, 1, 3), np.uint8))
    assert result[0, 3, :3].tolist() == [[0, 255, 0], [255, 255, 0], [191, 255, 0]]


def test_eight_bits_are_rounded_half_to_even(case):
    """With levels that are in the middle between two also after they were divided by 255 in float32."""
    levels = np.arange(255, dtype=np.float32) + np.float32(0.5)
    exact = levels[(levels / np.float32(255)) * np.float32(255) == levels]
    assert len(exact) > 100
    for values in exact[:len(exact) // 48 * 48].reshape(-1, 3, 16):
        engine = case.make(constant_network(*values / np.float32(255)))
        result = engine(np.zeros((1, 1, 1, 3), np.uint8))[0, ..., ::-1].transpose(2, 0, 1).reshape(3, 16)
        if case.half:  # the values themselves are rounded
            assert np.abs(result - values).max() <= 1.5
        else:
            assert np.array_equal(result, np.rint(values))


def test_every_level_comes_through(case):
    """A network without weights repeats each pixel."""
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    result = case.make(constant_network([0] * 16, [0] * 16, [0] * 16))(pixels)
    expected = pixels.repeat(4, 1).repeat(4, 2)
    assert np.abs(result.astype(int) - expected).max() <= (1 if case.half else 0)


def test_a_wide_picture(case):
    """Wider than float16 can count: it has none of the odd numbers above 2048."""
    network, batch = random_network(COMPACT), random_batch((1, 3, 1100))
    assert_close(case.make(network)(batch), reference(network, batch), case)


def test_a_window_of_a_picture_that_can_not_be_written_to(case):
    network = random_network(COMPACT)
    picture = random_batch((30, 40))
    picture.flags.writeable = False
    window = picture[None, 3:20, 5:33]
    assert_close(case.make(network)(window), reference(network, window), case)


def test_a_result_is_not_written_to_again_and_the_batch_not_at_all(case):
    engine = case.make(random_network(COMPACT))
    for dtype in (np.uint8, np.float32):
        batch, other = random_batch((1, 6, 7), dtype, 1), random_batch((1, 6, 7), dtype, 2)
        batch_before, result = batch.copy(), engine(batch)
        before = result.copy()
        engine(other)
        assert np.array_equal(result, before)
        assert np.array_equal(batch, batch_before)


def test_results_of_submitted_batches(case):
    """Of two sizes, one after the other; each as that of a call, however often it is waited for."""
    engine = case.make(random_network(COMPACT))
    batches = [random_batch((1, 12 + 4 * (index // 3), 10), seed=index) for index in range(6)]
    waits = [engine.submit(batch, together=2) for batch in batches]
    for batch, wait in zip(batches, waits, strict=True):
        assert np.abs(wait().astype(int) - engine(batch)).max() <= 1
        assert np.array_equal(wait(), wait())


# A few dB below what was measured with bfloat16: 55 to 57 and 52 to 53 dB.
@pytest.mark.parametrize(('name', 'psnr'), [('realesr-animevideov3', 52), ('RealESRGAN_x4plus_anime_6B', 46)])
def test_half_precision_on_a_photo(case, name, psnr):
    if not case.half:
        pytest.skip('for half precision')
    photo = cv2.imread(str(PROJECT / 'inputs' / 'astronaut.jpg'))[None, 56:88, 96:128]
    network = load_model(name)
    half = case.make(network)(photo).astype(float)
    single = Case(case.row, case.device, half=False).make(network)(photo)
    assert 10 * np.log10(255 ** 2 / np.mean((single - half) ** 2)) >= psnr


# ---- what goes wrong ----

@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
def test_a_result_that_is_not_finite_is_an_error(case, value, dtype):
    values = np.full((3, 16), 0.5)
    values[1, 7] = value
    engine = case.make(constant_network(*values))
    with pytest.raises(NonFiniteError, match=case.row.name):
        engine(np.zeros((1, 5, 4, 3), dtype))


def test_after_a_failure_the_next_picture_is_right(case):
    network = random_network(COMPACT)
    engine, batch = case.make(network), random_batch((1, 8, 8), np.float32)
    broken = batch.copy()
    broken[0, 3, 3, 1] = np.nan
    with pytest.raises(NonFiniteError):
        engine(broken)
    assert_close(engine(batch), reference(network, batch), case)
    with pytest.raises(MemoryError):  # one black pixel: more bytes than any address space has, and none in memory
        engine(np.broadcast_to(np.uint8(0), (1, 2 ** 29, 2 ** 29, 3)))
    engine.release()
    assert_close(engine(batch), reference(network, batch), case)


# ---- life ----

def test_a_released_engine_runs_again(case):
    network = random_network(COMPACT)
    engine = case.make(network)
    engine.release()
    for dtype in (np.uint8, np.float32):
        batch = random_batch((1, 20, 24), dtype)
        for _ in range(2):
            assert_close(engine(batch), reference(network, batch), case)
            engine.release()
        engine.release()


def test_what_an_engine_says_of_itself(case):
    engine = case.make(random_network(RRDBNetConfig(2, 8, 1, 4)))
    assert (engine.name, engine.half, engine.scale) == (case.row.name, case.half, 2)
    words = engine.description.split(', ')
    assert words[0] == case.row.name
    assert words[1].startswith(case.device.type)
    assert words[2] == pick_precision(case.device, case.half, case.row.precisions)


@pytest.mark.parametrize('shared', [False, True], ids=['two engines', 'one engine'])
def test_two_threads(case, shared):
    """Each with its own size, kind and number of batches; one of them releases its engine in between."""
    networks = [random_network(COMPACT, seed=1)] * 2 if shared else [
        random_network(COMPACT, seed=1), random_network(RRDBNetConfig(2, 8, 1, 4), seed=2)]
    engines = [case.make(networks[0])] * 2 if shared else [case.make(network) for network in networks]
    batches = [[random_batch((1, 40 + 10 * index, 30), dtype, seed=index) for index in range(6)]
               for dtype in (np.uint8, np.float32)]
    results = [[], []]
    start = threading.Barrier(2)

    def work(number):
        start.wait(30)
        for batch in batches[number]:
            results[number].append(engines[number](batch))
            if number:
                engines[number].release()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for network, given, got in zip(networks, batches, results, strict=True):
        for batch, result in zip(given, got, strict=True):  # of one length, unless a thread failed
            assert_close(result, reference(network, batch), case)
