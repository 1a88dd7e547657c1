"""Finding and loading the compiled kernel, with faked libraries and processors; what its self-test computes."""
from __future__ import annotations

import numpy as np
import pytest
import torch

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import winograd
from realesrgan.engines.kernel import library, self_test
from realesrgan.engines.kernel.library import (
    VARIANTS,
    find_kernel,
    hash_source,
    list_variants,
    load_variant,
    name_library,
)
from realesrgan.errors import EngineError, KernelError, NonFiniteError

AVX2 = frozenset({'avx2', 'fma'})
AVX512 = AVX2 | {'avx512f', 'avx512vl', 'avx512bw', 'avx512dq'}
LIBRARIES = {variant.name: name_library(variant.name).name for variant in VARIANTS}
ADVICE = 'run `make`, or `python -m realesrgan.engines.kernel.build`'


class FakeKernel:
    """A kernel of a file that is no library."""

    def __init__(self, path):
        self.path = path


class Machine:
    """A folder of libraries."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, name, content=None):
        content = f'a library of {hash_source()}' if content is None else content
        (self.folder / LIBRARIES[name]).write_text(content)

    def find(self):
        return find_kernel(self.folder).path.name


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with AVX-512 and nothing built."""
    monkeypatch.setattr(library, 'list_cpu_features', lambda: AVX512)
    monkeypatch.setattr(library, 'Kernel', FakeKernel)
    return Machine(tmp_path)


# ---- which one ----

@pytest.mark.parametrize(('features', 'expected'), [
    (AVX512, ['avx512', 'avx2']), (AVX512 | {'amx_bf16'}, ['avx512', 'avx2']), (AVX2, ['avx2']),
    (AVX512 - {'avx512vl'}, ['avx2']), (AVX512 - {'fma'}, []), ({'avx2'}, []), ({'asimd', 'fp'}, ['neon']), ((), [])])
def test_what_a_processor_can_run(features, expected):
    assert list_variants(frozenset(features)) == expected


def test_the_best_that_is_there_is_taken(machine, monkeypatch):
    machine.write('avx2')
    assert machine.find() == LIBRARIES['avx2']
    machine.write('avx512')
    assert machine.find() == LIBRARIES['avx512']
    monkeypatch.setattr(library, 'list_cpu_features', lambda: AVX2)
    assert machine.find() == LIBRARIES['avx2']


def test_a_processor_without_a_kernel_is_no_fault_of_the_build(machine, monkeypatch):
    machine.write('avx2')
    monkeypatch.setattr(library, 'list_cpu_features', lambda: frozenset({'sse4_2'}))
    with pytest.raises(EngineError, match='no kernel for this processor: it needs AVX2') as error:
        machine.find()
    assert not isinstance(error.value, KernelError)  # which would be warned of in every run


def test_a_library_that_is_missing(machine):
    with pytest.raises(KernelError) as error:
        machine.find()
    assert str(error.value) == f'the kernel of the engine winograd was not built for avx512 or avx2: {ADVICE}'
    with pytest.raises(KernelError) as error:
        load_variant('neon', machine.folder)
    assert str(error.value) == f'{LIBRARIES["neon"]} was not built: {ADVICE}'


def test_a_library_of_another_version_is_never_run(machine, caplog):
    machine.write('avx512', 'a library of 0123456789abcdef')
    with pytest.raises(KernelError) as error:
        machine.find()
    expected = f'{LIBRARIES["avx512"]} was built from another version of winograd.c: {ADVICE}'
    assert str(error.value) == expected
    machine.write('avx2')
    assert machine.find() == LIBRARIES['avx2']
    assert [record.getMessage() for record in caplog.records] == [f'{expected}; the kernel for avx2 runs instead']


def test_a_library_that_cannot_be_loaded_is_one_line(machine, monkeypatch):
    machine.write('avx512')

    def fail(path):
        raise OSError(f'{path}: invalid\nELF header')
    monkeypatch.setattr(library, 'Kernel', fail)
    with pytest.raises(KernelError, match=f"^{LIBRARIES['avx512']} can't be loaded: "):
        machine.find()


# ---- the self-test ----

CASES = [*self_test._CASES, (RRDBNetConfig(4, 8, 1, 4), ((2, 5, 3),)), (RRDBNetConfig(1, 8, 1, 4), ((1, 8, 4),)),
         (SRVGGNetCompactConfig(3, 8, 1), ((1, 5, 3),))]


@pytest.mark.parametrize(('shape', 'batches'), CASES)
def test_its_own_computation_is_pytorchs(shape, batches):
    random = np.random.default_rng(1)
    weights = self_test.make_weights(shape.layers(), random)
    module = LoadedNetwork.from_arrays(shape, weights).module.double()
    for size in batches:
        for picture in random.random((*size, 3), np.float32):
            with torch.inference_mode():
                result = module(torch.from_numpy(picture[..., ::-1].copy()).double().permute(2, 0, 1)[None])[0]
            expected = result.permute(1, 2, 0).numpy()[..., ::-1]
            assert np.abs(self_test.compute(shape.layers(), weights, picture) - expected.clip(0, 1)).max() < 1e-12
            assert np.mean((expected <= 0) | (expected >= 1)) < 0.1  # clamping would hide what is wrong there


class NumpyEngine:
    """Computes what the self-test does, with an error."""

    error = 0.0

    def __init__(self, network, *_, kernel):
        self.network = network

    def __call__(self, batch):
        layers = self.network.layers()
        result = np.stack([self_test.compute(layers, self.network.arrays, picture) for picture in batch])
        result[-1, -1, -1, 0] += self.error
        if np.isinf(self.error):
            raise NonFiniteError('not finite')
        return result.astype(batch.dtype)


@pytest.mark.parametrize(('error', 'status', 'said'), [
    (0, 0, ''), (9e-5, 0, ''), (2e-4, 3, 'a pixel is wrong by 0.0002 of 1; allowed are 0.0001\n'),
    (np.nan, 3, 'a pixel is wrong by inf of 1; allowed are 0.0001\n'), (np.inf, 3, 'not finite\n')])
def test_it_fails_if_one_pixel_is_wrong(monkeypatch, capsys, error, status, said):
    monkeypatch.setattr(winograd, 'WinogradEngine', NumpyEngine)
    monkeypatch.setattr(self_test, 'Kernel', FakeKernel)
    monkeypatch.setattr(self_test, 'list_cpu_features', lambda: AVX2)
    monkeypatch.setattr(NumpyEngine, 'error', error)
    assert self_test.main('libwinograd-avx2.so') == status
    out, err = capsys.readouterr()
    assert err == said
    assert out.startswith('largest difference: ') or np.isinf(error)


def test_a_kernel_for_another_processor_is_not_tested(monkeypatch, capsys):
    monkeypatch.setattr(self_test, 'list_cpu_features', lambda: AVX2)
    assert self_test.main('no/such/libwinograd-avx512.so') == 0
    assert capsys.readouterr().out == 'not tested: this processor has no avx512\n'
