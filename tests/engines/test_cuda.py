"""The PyTorch engine on a CUDA device: streams, graphs, memory, the original's pixels. Skipped where there is none.

`test_conformance.py` runs there too; `test_pipelined_engine.py` plays such a device on the CPU.
"""
from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import torch as torch_engine
from realesrgan.engines.devices import Device
from realesrgan.engines.lanczos import TensorResizer
from realesrgan.engines.torch import TorchEngine
from tests.support.random_networks import random_network
from tests.upscaling import test_golden

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
CUDA = Device('cuda', 0)
NETWORKS = [SRVGGNetCompactConfig(4, 64, 4), RRDBNetConfig(4, 32, 2, 16), RRDBNetConfig(2, 32, 1, 16)]


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """Single precision without TF32, which PyTorch takes for convolutions; the least memory of other tests."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    torch.cuda.empty_cache()


def make_engine(config=NETWORKS[0], precision='float32', device=CUDA):
    return TorchEngine(LoadedNetwork.from_module(copy.deepcopy(random_network(config))), device, precision)


def pictures(count, height=96, width=128, dtype=np.uint8):
    rng = np.random.default_rng(0)
    return [rng.integers(0, np.iinfo(dtype).max, (1, height, width, 3), dtype, endpoint=True) for _ in range(count)]


def largest_difference(results, others):
    return max(np.abs(result.astype(int) - other).max() for result, other in zip(results, others, strict=True))


@pytest.mark.parametrize('config', NETWORKS, ids=str)
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('together', [1, 3])
def test_pipelined_results_in_order(config, dtype, together):
    """Forty pictures, no two alike, six in work, graphs and batches and the rest of a batch among them."""
    engine, batches = make_engine(config), pictures(40, dtype=dtype)
    on_cpu = make_engine(config, device=Device('cpu'))
    waits, results = [], []
    for batch in batches:
        waits.append(engine.submit(batch, together=together))
        if len(waits) > 6:
            results.append(waits.pop(0)())
    results += [wait() for wait in waits]
    assert largest_difference(results, map(on_cpu, batches)) <= (1 if dtype == np.uint8 else 24)
    assert (engine._graph is not None) == engine._graphs_allowed


@pytest.mark.parametrize('config', NETWORKS, ids=str)
@pytest.mark.parametrize('precision', ['float32', 'float16'])
def test_graphs_are_captured_and_change_nothing(config, precision):
    engine, batches = make_engine(config, precision), pictures(8)
    results = [engine.submit(batch, (201, 155))() for batch in batches]
    assert engine._graphs_allowed, 'no graph could be captured: see the log'
    assert engine._graph is not None
    engine._graphs_allowed = False
    engine.release()
    assert largest_difference(results, [engine.submit(batch, (201, 155))() for batch in batches]) <= 1


@pytest.mark.parametrize(('before', 'after'), [((200, 300), (100, 150)), ((123, 77), (301, 50)), ((64, 48), (97, 61))])
@pytest.mark.parametrize('top', [255, 65535])
def test_lanczos_is_that_of_the_cpu(before, after, top):
    levels = torch.randint(0, top + 1, (2, 3, *before)).float()
    on_cpu, on_cuda = (TensorResizer(before, after, top, torch.device(kind))(levels.to(kind)).cpu()
                       for kind in ('cpu', 'cuda'))
    assert (on_cuda - on_cpu).abs().max() <= 1


def test_a_lack_of_memory_costs_no_picture(caplog):
    """A process that may take little: whole pictures do not fit, tiles do."""
    images = [batch[0] for batch in pictures(6, 700, 900)]
    network = random_network(NETWORKS[0])
    options = {'pre_pad': 0, 'engine': 'torch'}
    expected = [RealESRGANer(4, None, model=copy.deepcopy(network), device='cuda:0', **options).enhance(
        image, outscale=2)[0] for image in images]
    torch.cuda.empty_cache()
    tested = RealESRGANer(4, None, model=network, device='cuda:0', max_memory=1 << 40, **options)
    taken, total = torch.cuda.memory_reserved(), torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction((taken + (256 << 20)) / total)
    try:
        results = [wait()[0] for wait in [tested.submit(image, outscale=2) for image in images]]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any('trying smaller tiles' in message for message in caplog.messages)
    assert largest_difference(results, expected) <= 2


def test_two_threads_with_graphs_of_their_own():
    engines, batches, results = [make_engine(config) for config in NETWORKS[:2]], pictures(12), [[], []]

    def work(number):
        waits = [engines[number].submit(batch) for batch in batches]
        results[number] = [wait() for wait in waits]
    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine, found in zip(engines, results, strict=True):
        assert largest_difference(found, map(engine, batches)) <= 1


def test_large_arrays_travel_without_pinned_memory(monkeypatch):
    engine, batches = make_engine(), pictures(4)
    expected = [engine(batch) for batch in batches]
    monkeypatch.setattr(torch_engine, '_MOST_PINNED_BYTES', 0)
    assert largest_difference([wait() for wait in [engine.submit(batch) for batch in batches]], expected) <= 1


@pytest.mark.parametrize('half', [False, True])
def test_the_pixels_are_those_of_the_original(monkeypatch, half):
    monkeypatch.setattr(test_golden, 'DEVICES', {'torch': 'cuda:0'})
    worst = 0
    for case in test_golden.CASES:
        upsampler = test_golden.upsampler_of(case, 'torch')
        upsampler.half = half
        picture, expected = test_golden.INPUTS[case['input']], test_golden.OUTPUTS[str(case['id'])]
        if case['id'] in test_golden.ALPHA_EXCEPTIONS:
            continue
        actual, _ = upsampler.enhance(picture, outscale=case['outscale'])
        difference = np.abs(actual.astype(int) - expected)
        if half:  # of small random networks
            assert difference.mean() <= 0.01 * np.iinfo(actual.dtype).max, case
        else:
            assert difference.max() <= (1 if actual.dtype == np.uint8 else 24), case
        worst = max(worst, difference.max() / np.iinfo(actual.dtype).max)
    print(f'largest difference: {worst:.4f} of the range')
