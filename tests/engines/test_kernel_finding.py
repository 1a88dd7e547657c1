"""Finding the compiled kernel and keeping the verdict of its self-test: with faked libraries, processors and tests."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetShape
from realesrgan.archs.srvgg import SRVGGNetCompactShape
from realesrgan.engines import winograd
from realesrgan.engines.kernel import finding, self_test, verdicts
from realesrgan.engines.kernel.finding import find_kernel, list_variants, load_variant
from realesrgan.engines.kernel.variants import VARIANTS, hash_source
from realesrgan.errors import EngineError, KernelError, NonFiniteError

AVX2 = frozenset({'avx2', 'fma'})
AVX512 = AVX2 | {'avx512f', 'avx512vl', 'avx512bw', 'avx512dq'}
LIBRARIES = {variant.name: variant.library for variant in VARIANTS}
ADVICE = 'run `make`, or `python -m realesrgan.engines.kernel.build`'


class FakeKernel:
    """A kernel of a file that is no library."""

    def __init__(self, path):
        self.path = path


class Machine:
    """A folder of libraries, a cache folder, and a self-test that is counted."""

    def __init__(self, root):
        self.folder = root / 'kernel'
        self.folder.mkdir()
        self.file = root / 'cache' / 'realesrgan' / 'kernel-self-tests.json'
        self.tested = []
        self.code = ''  # of the Python that stands for the self-test

    def write(self, name, content=None):
        content = f'a library of {hash_source()}' if content is None else content
        (self.folder / LIBRARIES[name]).write_text(content)

    def find(self):
        return find_kernel(self.folder).path.name

    def command(self, library):
        self.tested.append(library.name)
        return [sys.executable, '-c', self.code]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A Linux machine with AVX-512 and nothing built."""
    machine = Machine(tmp_path)
    monkeypatch.setattr(finding, 'list_cpu_features', lambda: AVX512)
    monkeypatch.setattr(finding, 'Kernel', FakeKernel)
    monkeypatch.setattr(verdicts, '_command', machine.command)
    monkeypatch.setattr(verdicts, 'processor_name', lambda: 'A Processor')
    monkeypatch.setattr(verdicts, 'find_verdicts', lambda: machine.file)
    return machine


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
    monkeypatch.setattr(finding, 'list_cpu_features', lambda: AVX2)
    assert machine.find() == LIBRARIES['avx2']


def test_a_processor_without_a_kernel_is_no_fault_of_the_build(machine, monkeypatch):
    machine.write('avx2')
    monkeypatch.setattr(finding, 'list_cpu_features', lambda: frozenset({'sse4_2'}))
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
    assert (str(error.value), machine.tested) == (expected, [])
    machine.write('avx2')
    assert machine.find() == LIBRARIES['avx2']
    assert [record.getMessage() for record in caplog.records] == [f'{expected}; the kernel for avx2 runs instead']


def test_a_library_that_cannot_be_loaded_is_one_line(machine, monkeypatch):
    machine.write('avx512')

    def fail(path):
        raise OSError(f'{path}: invalid\nELF header')
    monkeypatch.setattr(finding, 'Kernel', fail)
    with pytest.raises(KernelError, match=f"^{LIBRARIES['avx512']} can't be loaded: "):
        machine.find()


# ---- the verdict ----

def test_a_library_is_tested_once(machine):
    machine.write('avx512')
    for _ in range(3):
        assert machine.find() == LIBRARIES['avx512']
    assert machine.tested == [LIBRARIES['avx512']]
    (key,) = json.loads(machine.file.read_text())
    assert key.split(' | ')[1] == hash_source()
    assert key.split(' | ')[3:] == [f'numpy {np.__version__}', 'A Processor']
    assert os.listdir(machine.file.parent) == [machine.file.name]  # noqa: PTH208


@pytest.mark.parametrize(('code', 'reason'), [
    ('import sys; print("a warning", file=sys.stderr); print("a pixel is wrong", file=sys.stderr); sys.exit(3)',
     'a pixel is wrong'),
    ('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)', 'it ended with status -11'),
    ('import os, signal; os.kill(os.getpid(), signal.SIGILL)', 'it ended with status -4'),
    ('import time; time.sleep(60)', 'it did not end within 1 s')])
@pytest.mark.skipif(os.name == 'nt', reason='signals')
def test_a_library_that_fails_says_so_each_time_and_is_not_tested_anew(machine, monkeypatch, code, reason):
    machine.write('avx512')
    machine.code = code
    if 'sleep' in code:
        monkeypatch.setattr(verdicts, '_TIMEOUT_SECONDS', 1)
    for _ in range(2):
        with pytest.raises(KernelError) as error:
            machine.find()
        assert str(error.value) == (f'{LIBRARIES["avx512"]} failed its self-test on this machine ({reason}); '
                                    f'delete {machine.file} to test it again')
    assert len(machine.tested) == 1
    machine.file.unlink()
    machine.code = ''
    assert machine.find() == LIBRARIES['avx512']


def test_if_the_best_fails_the_next_runs_and_a_warning_says_why(machine, caplog):
    machine.write('avx512')
    machine.code = 'import sys; sys.exit(3)'
    with pytest.raises(KernelError):
        machine.find()
    machine.write('avx2', f'another library of {hash_source()}')
    machine.code = ''
    assert machine.find() == LIBRARIES['avx2']
    (record,) = caplog.records
    assert record.levelname == 'WARNING'
    assert record.getMessage().endswith('; the kernel for avx2 runs instead')


@pytest.mark.parametrize('code', ['raise MemoryError', 'import os, signal; os.kill(os.getpid(), signal.SIGKILL)'])
@pytest.mark.skipif(os.name == 'nt', reason='signals')
def test_a_test_that_was_hindered_is_no_verdict(machine, code):
    machine.write('avx512')
    machine.code = code
    for _ in range(2):
        with pytest.raises(KernelError, match=r'was hindered \(.*\); it is tested again next time$'):
            machine.find()
    assert len(machine.tested) == 2
    assert not machine.file.exists()


def test_without_a_python_to_run_it_nothing_is_started(machine, monkeypatch):
    machine.write('avx512')
    monkeypatch.setattr(sys, 'frozen', True, raising=False)  # sys.executable would be somebody's program
    with pytest.raises(KernelError, match='there is no Python to run it'):
        machine.find()
    assert machine.tested == []


@pytest.mark.parametrize('change', ['library', 'version', 'processor', 'numpy'])
def test_what_a_verdict_depends_on(machine, monkeypatch, change):
    machine.write('avx512')
    machine.code = 'import sys; sys.exit(3)'
    with pytest.raises(KernelError):
        machine.find()
    machine.code = ''
    if change == 'library':
        machine.write('avx512', f'other flags, {hash_source()}')
    elif change == 'version':
        monkeypatch.setattr(verdicts, '__version__', '99')
    elif change == 'processor':
        monkeypatch.setattr(verdicts, 'processor_name', lambda: 'Another')
    else:
        monkeypatch.setattr(verdicts.np, '__version__', '99')
    assert machine.find() == LIBRARIES['avx512']
    assert len(machine.tested) == 2
    assert len(json.loads(machine.file.read_text())) == 2


@pytest.mark.parametrize('content', [b'', b'{"', b'[1]', b'\xff\xfe\x00', b'{"a": 1}'])
def test_a_damaged_file_is_no_error_and_is_replaced(machine, content):
    machine.file.parent.mkdir(parents=True)
    machine.file.write_bytes(content)
    machine.write('avx512')
    for _ in range(2):
        assert machine.find() == LIBRARIES['avx512']
    assert len(machine.tested) == 1


def test_where_no_verdict_can_be_kept_it_is_tested_each_time(machine, tmp_path, monkeypatch):
    (tmp_path / 'cache').touch()  # no folder
    machine.write('avx512')
    for _ in range(2):
        assert machine.find() == LIBRARIES['avx512']
    monkeypatch.setattr(verdicts, 'find_verdicts', lambda: None)
    machine.code = 'import sys; print("wrong", file=sys.stderr); sys.exit(3)'
    with pytest.raises(KernelError) as error:
        machine.find()
    assert str(error.value) == f'{LIBRARIES["avx512"]} failed its self-test on this machine (wrong)'
    assert len(machine.tested) == 3


def test_old_verdicts_are_dropped(machine, monkeypatch):
    monkeypatch.setattr(verdicts, '_MOST_KEPT', 3)
    for number in range(5):
        machine.write('avx512', f'{number} {hash_source()}')
        machine.find()
    assert len(json.loads(machine.file.read_text())) == 3
    machine.find()
    assert len(machine.tested) == 5


def test_where_verdicts_are_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, 'home', lambda: tmp_path)
    name = Path('realesrgan', 'kernel-self-tests.json')
    monkeypatch.setattr(verdicts.sys, 'platform', 'linux')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert verdicts.find_verdicts() == tmp_path / 'xdg' / name
    for value in ('', 'relative'):
        monkeypatch.setenv('XDG_CACHE_HOME', value)
        assert verdicts.find_verdicts() == tmp_path / '.cache' / name
    monkeypatch.setattr(verdicts.sys, 'platform', 'darwin')
    assert verdicts.find_verdicts() == tmp_path / 'Library' / 'Caches' / name
    monkeypatch.setattr(verdicts.sys, 'platform', 'win32')
    monkeypatch.setenv('LOCALAPPDATA', str(tmp_path / 'local'))
    assert verdicts.find_verdicts() == tmp_path / 'local' / name
    monkeypatch.delenv('LOCALAPPDATA')

    def fail():
        raise RuntimeError('no home')
    monkeypatch.setattr(Path, 'home', fail)
    assert verdicts.find_verdicts() is None


# ---- the self-test ----

CASES = [*self_test._CASES, (RRDBNetShape(4, 8, 1, 4), ((2, 5, 3),)), (RRDBNetShape(1, 8, 1, 4), ((1, 8, 4),)),
         (SRVGGNetCompactShape(3, 8, 1), ((1, 5, 3),))]


@pytest.mark.parametrize(('shape', 'batches'), CASES)
def test_its_own_computation_is_pytorchs(shape, batches):
    random = np.random.default_rng(1)
    weights = self_test.make_weights(shape, random)
    module = LoadedNetwork.from_arrays(shape, weights).module.double()
    for size in batches:
        for picture in random.random((*size, 3), np.float32):
            with torch.inference_mode():
                result = module(torch.from_numpy(picture[..., ::-1].copy()).double().permute(2, 0, 1)[None])[0]
            expected = result.permute(1, 2, 0).numpy()[..., ::-1]
            assert np.abs(self_test.compute(shape, weights, picture) - expected.clip(0, 1)).max() < 1e-12
            assert np.mean((expected <= 0) | (expected >= 1)) < 0.1  # clamping would hide what is wrong there


class NumpyEngine:
    """Computes what the self-test does, with an error."""

    error = 0.0

    def __init__(self, network, kernel, *, threads):
        self.network = network

    def __call__(self, batch):
        result = np.stack([self_test.compute(self.network.shape, self.network.arrays, picture) for picture in batch])
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
    monkeypatch.setattr(NumpyEngine, 'error', error)
    assert self_test.main('library') == status
    out, err = capsys.readouterr()
    assert err == said
    assert out.startswith('largest difference: ') or np.isinf(error)


def test_the_self_test_looks_for_modules_where_this_process_does(monkeypatch):
    """In the same order: a module of an installed package must not come before one of Python's own."""
    root = str(Path(finding.__file__).parents[3])
    monkeypatch.setattr(sys, 'path', ['first', root, 'last'])
    assert verdicts._command(Path('library'))[-4:] == ['library', 'first', root, 'last']
    monkeypatch.setattr(sys, 'path', ['first', 'last'])
    assert verdicts._command(Path('library'))[-4:] == ['library', 'first', 'last', root]


def test_a_file_that_is_no_library_fails_in_a_process_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(verdicts, 'find_verdicts', lambda: tmp_path / 'verdicts.json')
    library = tmp_path / LIBRARIES['avx2']
    library.write_text(hash_source())
    with pytest.raises(KernelError, match='failed its self-test on this machine'):
        load_variant('avx2', tmp_path)
    assert len(json.loads((tmp_path / 'verdicts.json').read_text())) == 1


def test_the_kernel_of_this_machine_passes_and_is_then_found_at_once(tmp_path):
    """In processes of their own, in a folder with a numpy that fails; the second starts none."""
    (tmp_path / 'numpy.py').write_text('raise AssertionError("of the current folder")\n')
    root = Path(finding.__file__).parents[3]
    environment = os.environ | {'PYTHONPATH': str(root), 'LOCALAPPDATA': str(tmp_path), 'HOME': str(tmp_path),
                                'XDG_CACHE_HOME': str(tmp_path / 'cache')}
    code = ('import subprocess, sys\n'
            'from realesrgan.engines.kernel.finding import find_kernel\n'
            'from realesrgan.errors import EngineError\n'
            'if len(sys.argv) > 1: subprocess.run = None\n'
            'try: print(find_kernel().variant, "torch" in sys.modules)\n'
            'except EngineError as error: print("none:", error)\n')
    outputs = [subprocess.check_output([sys.executable, '-P', '-c', code, *arguments], cwd=tmp_path, env=environment,
                                       text=True).strip() for arguments in ((), ('no subprocess',))]
    if outputs[0].startswith('none:') and 'self-test' not in outputs[0]:
        pytest.skip(outputs[0])
    assert outputs[0] in {f'{variant.name} False' for variant in VARIANTS}
    assert outputs[1] == outputs[0]
