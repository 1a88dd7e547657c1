"""The PyTorch engine as it works on a CUDA device, played on the CPU; `test_cuda.py` is for a real one.

Several pictures are in work, they are finished on the device, and streams and graphs are stand-ins that note their use.
"""
from __future__ import annotations

import copy
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from realesrgan import RealESRGANer
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import torch as torch_engine
from realesrgan.engines.devices import CPU
from realesrgan.engines.torch import TorchEngine
from realesrgan.errors import NonFiniteError
from tests.support.random_networks import random_network, reference

COMPACT = SRVGGNetCompactConfig(4, 8, 2)


@pytest.fixture
def pipelined(monkeypatch):
    monkeypatch.setattr(torch_engine, 'PIPELINED', ('cpu',))


def make_engine(network=None):
    return TorchEngine(LoadedNetwork.from_module(copy.deepcopy(network or random_network(COMPACT))), CPU, 'float32')


def upsampler(**options):
    return RealESRGANer(4, None, **{'model': random_network(COMPACT), 'pre_pad': 0, 'device': 'cpu',
                                    'engine': 'torch'} | options)


def frames(count, height=24, width=30, dtype=np.uint8):
    rng = np.random.default_rng(0)
    return [rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True) for _ in range(count)]


def largest_difference(results, others):
    return max(np.abs(result.astype(int) - other).max() for result, other in zip(results, others, strict=True))


# ---- several pictures in work ----

@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('options', [{}, {'outscale': 2}, {'outscale': 3.7}, {'outscale': 6}, {'size': [31, 77]},
                                     {'outscale': 2, 'strength': 0.4}], ids=str)
def test_results_are_those_of_one_after_the_other(monkeypatch, options, dtype):
    plain, pictures = upsampler(), frames(7, dtype=dtype)
    expected = [plain.enhance(picture, **options)[0] for picture in pictures]
    assert plain.in_flight == 0
    monkeypatch.setattr(torch_engine, 'PIPELINED', ('cpu',))
    tested = upsampler()
    waits = [tested.submit(picture, **options) for picture in pictures]
    assert tested.in_flight == 8  # two batches of four
    results = [wait()[0] for wait in waits]
    assert {(result.dtype, result.shape) for result in results} == {(expected[0].dtype, expected[0].shape)}
    assert largest_difference(results, expected) <= 1
    assert all(result.flags.c_contiguous for result in results)


@pytest.mark.parametrize(('scale', 'shape'), [(4, (40, 50)), (4, (40, 50, 4)), (2, (41, 51, 3)), (1, (43, 50, 3))])
def test_other_kinds_scales_and_paddings(monkeypatch, scale, shape):
    model, img = random_network(RRDBNetConfig(scale, 8, 1, 4)), frames(1, *shape[:2])[0][..., :1].repeat(4, 2)
    img = np.ascontiguousarray(img[..., :shape[2]] if len(shape) == 3 else img[..., 0])
    options = {'model': model, 'pre_pad': 3, 'device': 'cpu', 'engine': 'torch'}
    expected = RealESRGANer(scale, None, **options).enhance(img, outscale=scale * 0.6)[0]
    monkeypatch.setattr(torch_engine, 'PIPELINED', ('cpu',))
    result = RealESRGANer(scale, None, **options).enhance(img, outscale=scale * 0.6)[0]
    assert result.shape == expected.shape
    assert largest_difference([result], [expected]) <= 1


def test_tiles_are_put_together_and_resized_on_the_cpu(monkeypatch):
    img = frames(1, 50, 45)[0]
    expected = upsampler(tile=20).enhance(img, outscale=2)[0]
    monkeypatch.setattr(torch_engine, 'PIPELINED', ('cpu',))
    tested = upsampler(tile=20)
    assert np.array_equal(tested.submit(img, outscale=2)()[0], expected)
    assert (tested.in_flight, len(tested.tiles)) == (0, 9)


def test_batches_wait_until_they_are_full_or_a_result_is_waited_for(pipelined):
    network = random_network(COMPACT)
    engine, pictures, sizes = make_engine(network), frames(6), []
    run = engine._run
    engine._run = lambda pixels, *more: sizes.append(len(pixels)) or run(pixels, *more)
    waits = [engine.submit(picture[None], together=4) for picture in pictures]
    assert sizes == [4]
    other = engine.submit(pictures[0][None, :10], together=4)  # of another size
    assert sizes == [4, 2]
    for picture, wait in zip(pictures, waits, strict=True):
        expected = np.rint(reference(network, picture[None]) * 255)
        assert np.abs(wait() - expected).max() <= 1
        assert np.array_equal(wait(), wait())
    assert other().shape == (1, 40, 120, 3)
    assert sizes == [4, 2, 1]


def test_a_batch_that_is_changed_after_it_was_submitted(pipelined):
    engine, picture = make_engine(), frames(1)[0][None]
    expected = engine(picture)
    wait = engine.submit(picture, together=2)
    picture[:] = 0
    assert np.array_equal(wait(), expected)


class NotFinite(torch.nn.Module):
    """Doubles; gives infinity for pictures that begin with white, in half precision."""

    scale = 2

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.is_exact = False

    def forward(self, x):
        bad = (x[:, :, :1, :1] == 1).all() if len(x) == 1 else (x[:, :, 0, 0] == 1).all(1)[:, None, None, None]
        doubled = torch.nn.functional.interpolate(x, scale_factor=2)
        return doubled if self.is_exact else torch.where(bad, torch.inf, doubled)


def test_a_picture_that_is_not_finite_costs_only_itself(pipelined):
    engine, pictures = make_engine(NotFinite()), frames(5)
    pictures[2][0, 0] = 255
    waits = [engine.submit(picture[None], together=3) for picture in pictures]
    for number, (picture, wait) in enumerate(zip(pictures, waits, strict=True)):
        if number == 2:
            with pytest.raises(NonFiniteError, match='torch, cpu, float32'):
                wait()
        else:
            assert np.array_equal(wait()[0], picture.repeat(2, 0).repeat(2, 1))


def test_a_frame_that_overflows_in_the_middle_is_computed_again(pipelined, monkeypatch, caplog):
    tested, pictures = RealESRGANer(2, None, model=NotFinite(), pre_pad=0, device='cpu', engine='torch'), frames(5)
    tested.engine.half = True
    pictures[2][0, 0] = 255
    exact = make_engine(NotFinite())
    exact._module.is_exact = True
    monkeypatch.setattr('realesrgan.upscaling.upsampler.make_engine', lambda *_, **__: exact)
    waits = [tested.submit(picture) for picture in pictures]
    for picture, wait in zip(pictures, waits, strict=True):
        assert np.array_equal(wait()[0], picture.repeat(2, 0).repeat(2, 1))
    assert caplog.messages == ['a tile overflowed in half precision and is computed again in float32']


# ---- memory ----

@pytest.mark.parametrize('largest', [2, 1])
def test_where_memory_runs_out_pictures_are_computed_one_by_one(pipelined, largest):
    engine, pictures, sizes = make_engine(), frames(5), []
    expected, run = [engine(picture[None]) for picture in pictures], engine._run

    def run_out(pixels, *more):
        sizes.append(len(pixels))
        if len(pixels) > largest:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return run(pixels, *more)
    engine._run = run_out
    results = [wait() for wait in [engine.submit(picture[None], together=4) for picture in pictures]]
    assert largest_difference(results, expected) <= 1
    assert sizes == [4, 1, 1, 1, 1, 1]


def test_where_memory_runs_out_in_the_middle_tiles_shrink_and_no_frame_is_lost(pipelined, caplog):
    pictures = frames(9, 60, 70)
    expected = [upsampler().enhance(picture, outscale=2)[0] for picture in pictures]
    tested, calls = upsampler(), []
    run = tested.engine._run

    def run_out(pixels, *more):
        calls.append(pixels.shape[1:3])
        if len(calls) > 1 and pixels.shape[1] > 50:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return run(pixels, *more)
    tested.engine._run = run_out
    waits = [tested.submit(picture, outscale=2) for picture in pictures[:8]]
    results = [wait()[0] for wait in waits]
    assert calls[:4] == [(60, 70)] * 4  # four at once, four at once, one, one, tiles
    results.append(tested.submit(pictures[8], outscale=2)()[0])
    assert tested.in_flight == 0
    assert len(tested.tiles) > 1
    assert largest_difference(results, expected) <= 2  # that of tiles, and that of Lanczos's filter
    assert caplog.messages == ['not enough memory on cpu; trying smaller tiles (set them with -t)']


def test_no_picture_has_more_values_than_kernels_can_count(pipelined):
    tested = upsampler()
    tested.engine.most_pixels = 50 * 50
    assert tested.enhance(frames(1, 70, 60)[0])[0].shape == (280, 240, 3)
    assert len(tested.tiles) > 1
    assert max(tile.rows.padded_stop - tile.rows.padded_start for tile in tested.tiles) <= 50


def test_pictures_that_memory_allows_only_one_by_one_are_not_gathered(pipelined, monkeypatch):
    """A pixel takes 1000 bytes, and two results that wait 6 bytes for each of their 16."""
    monkeypatch.setattr('realesrgan.upscaling.planner.estimate_bytes_per_pixel', lambda *_, **__: 1000)
    for share, expected in ((0.99, 0), (1, 2), (2.99, 4), (9, 8)):
        monkeypatch.setattr('realesrgan.upscaling.planner.measure_usable_memory', lambda *_, share=share: int(
            share * 60 * 70 * (1000 + 2 * 6 * 16)))
        tested = upsampler()
        tested.submit(frames(1, 60, 70)[0])
        assert tested.in_flight == expected


# ---- streams and graphs ----

class Cuda:
    """Stand-ins for parts of `torch.cuda`, and a log of what happens.

    Attributes:
        log: What has happened.
        current: The current stream's name.
        captured: The graph that is being captured.
        before_capture: Called then.
    """

    def __init__(self, run):
        self.log, self.current, self.captured = [], 'default', None
        self.before_capture = lambda: None
        self._run, self._empty = run, torch.empty
        self._names = iter(('upload', 'compute', 'download'))

    def Stream(self, device):  # noqa: N802
        name, log = next(self._names), self.log
        return SimpleNamespace(name=name, synchronize=lambda: log.append(f'{name} ends'),
                               wait_stream=lambda other: log.append(f'{name} waits for {other.name}'))

    def Event(self, *, blocking):  # noqa: N802
        assert blocking
        recorded = []
        return SimpleNamespace(record=recorded.append,
                               synchronize=lambda: self.log.append(f'wait for {recorded[-1].name}'))

    def CUDAGraph(self):  # noqa: N802
        def replay():
            assert self.current == 'compute'
            self.log.append('replay')
            for tensor, anew in zip(graph.finished, self._run(*graph.arguments), strict=True):
                tensor.copy_(anew)
        graph = SimpleNamespace(replay=replay)
        return graph

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream.name
        yield
        self.current = before

    def current_stream(self, device):
        return SimpleNamespace(name=self.current)

    @contextmanager
    def graph(self, graph, *, stream, capture_error_mode):
        assert (stream.name, capture_error_mode) == ('compute', 'thread_local')
        self.before_capture()
        self.captured = graph
        yield
        self.captured = None

    def run(self, engine, *arguments):
        assert self.current == 'compute'
        finished = self._run(engine, *arguments)
        self.log.append('capture' if self.captured else 'run')
        if self.captured:
            self.captured.arguments, self.captured.finished = (engine, *arguments), finished
        return finished

    def empty(self, *shape, pin_memory=False, **more):
        self.log.append(f'pin in {self.current}' if pin_memory else 'memory')
        return self._empty(*shape, **more)


@pytest.fixture
def cuda(monkeypatch, pipelined):
    """An engine with stand-ins of streams; in `network` is what it runs."""
    stand_in = Cuda(TorchEngine._run)
    for name in ('Stream', 'Event', 'CUDAGraph', 'stream', 'current_stream', 'graph'):
        monkeypatch.setattr(torch.cuda, name, getattr(stand_in, name))
    monkeypatch.setattr(torch, 'empty', stand_in.empty)
    monkeypatch.setattr(TorchEngine, '_run', lambda *arguments: stand_in.run(*arguments))
    monkeypatch.setattr(torch.Tensor, 'record_stream', lambda tensor, stream: stand_in.log.append(
        f'kept for {stream.name}'))
    stand_in.network = random_network(COMPACT)
    stand_in.engine = make_engine(stand_in.network)
    stand_in.engine._streams = [torch.cuda.Stream('cpu') for _ in range(3)]
    stand_in.engine._pins = stand_in.engine._graphs_allowed = True
    stand_in.log.clear()
    return stand_in


def test_each_stream_waits_for_the_one_before_and_keeps_what_it_reads(cuda, monkeypatch):
    picture = frames(1)[0][None]
    wait = cuda.engine.submit(picture, (61, 50))
    assert cuda.log == ['pin in default', 'compute waits for upload', 'kept for compute', 'run',
                        'download waits for compute', 'kept for download', 'pin in download', 'kept for download',
                        'pin in download']
    assert wait().shape == (1, 50, 61, 3)
    assert cuda.log[-1] == 'wait for download'
    cuda.log.clear()
    monkeypatch.setattr(torch_engine, '_MOST_PINNED_BYTES', picture.nbytes)
    assert np.abs(cuda.engine(picture) - np.rint(reference(cuda.network, picture) * 255)).max() <= 1
    assert [line for line in cuda.log if line in ('memory', 'pin in download', 'pin in default')] == [
        'pin in default', 'memory', 'pin in download']  # the result is too large, whether it is finite is not


def test_without_page_locked_memory_the_usual_one_does(cuda, monkeypatch):
    def refuse(*shape, pin_memory=False, **more):
        if pin_memory:
            raise RuntimeError('CUDA error: operation not permitted')
        return cuda.empty(*shape, **more)
    monkeypatch.setattr(torch, 'empty', refuse)
    for picture in frames(2):
        expected = np.rint(reference(cuda.network, picture[None]) * 255)
        assert np.abs(cuda.engine(picture[None]) - expected).max() <= 1
    assert not cuda.engine._pins


def test_a_size_that_comes_again_is_captured_and_replayed(cuda):
    pictures = [picture[None] for picture in frames(6)]
    results = [wait() for wait in [cuda.engine.submit(picture, (40, 31)) for picture in pictures]]
    ran = [line for line in cuda.log if line in ('run', 'capture', 'replay')]
    assert ran == ['run', 'run', 'capture', 'replay', 'replay', 'replay', 'replay']
    cuda.engine._graph, cuda.engine._graphs_allowed = None, False
    assert largest_difference(results, [cuda.engine.submit(picture, (40, 31))() for picture in pictures]) == 0
    assert cuda.log.count('replay') == 4


@pytest.mark.parametrize('count', [2, 4])
def test_after_memory_was_given_back_a_size_is_captured_again_when_it_has_come_as_often(cuda, count):
    pictures = [picture[None] for picture in frames(4)]
    for picture in pictures[:count]:
        cuda.engine(picture)
    cuda.engine.release()
    assert cuda.engine._graph is None
    cuda.log.clear()
    for picture in pictures:
        cuda.engine(picture)
    assert [line for line in cuda.log if line in ('run', 'capture', 'replay')] == [
        'run', 'run', 'capture', 'replay', 'replay']


def test_a_graph_that_can_not_be_captured_is_done_without(cuda):
    def fail():
        raise RuntimeError('operation not permitted when stream is capturing')
    cuda.before_capture = fail
    pictures = [picture[None] for picture in frames(5)]
    for picture in pictures:
        assert np.abs(cuda.engine(picture) - np.rint(reference(cuda.network, picture) * 255)).max() <= 1
    assert [line for line in cuda.log if line in ('run', 'capture', 'replay')] == ['run'] * 5


def test_where_memory_runs_out_the_graph_is_given_up_first(cuda, monkeypatch):
    pictures = [picture[None] for picture in frames(4)]
    for picture in pictures:
        cuda.engine(picture)
    assert cuda.engine._graph is not None
    run, other = TorchEngine._run, frames(1, 40, 30)[0][None]

    def run_out(engine, *arguments):
        if engine._graph is not None:
            raise torch.OutOfMemoryError('CUDA out of memory')
        return run(engine, *arguments)
    monkeypatch.setattr(TorchEngine, '_run', run_out)
    assert np.abs(cuda.engine(other) - np.rint(reference(cuda.network, other) * 255)).max() <= 1
    assert 'compute ends' in cuda.log  # before the memory of a graph that may be running goes away
    for _ in range(4):
        cuda.engine(other)
    assert cuda.engine._graph is None
