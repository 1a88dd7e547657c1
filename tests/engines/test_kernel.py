"""The kernel: building it by real and faked compilers, finding and loading it, with faked processors, its self-test."""
from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import winograd
from realesrgan.engines.kernel import build, library, self_test
from realesrgan.engines.kernel.library import (
    SOURCES,
    VARIANTS,
    Variant,
    find_kernel,
    hash_source,
    list_variants,
    load_variant,
    name_library,
)
from realesrgan.errors import EngineError, KernelError, NonFiniteError

SYSTEM_COMPILER = next(filter(None, map(shutil.which, ('cc', 'gcc', 'clang'))), None)
needs_compiler = pytest.mark.skipif(not SYSTEM_COMPILER or not build.list_machine_variants(),
                                    reason='there is no C compiler, or no kernel for this machine')
HASH = hash_source()
EXPORTED = {f'realesrgan_{name}' for name in ('run', 'count_tickets', 'step_bytes', 'task_tiles', 'panel',
                                              'kept_floats', 'scratch_floats', 'source_hash', 'has_ints',
                                              'round_weights', 'resize')}


@pytest.fixture(autouse=True)
def no_asked_compiler(monkeypatch):
    monkeypatch.delenv('CC', raising=False)


@pytest.fixture
def compilers(tmp_path, monkeypatch):
    """Make the named compilers the only ones: shell scripts, in a folder of their own. A body can use $OUTPUT."""
    if os.name == 'nt':
        pytest.skip('the compilers are shell scripts')
    folder = tmp_path / 'bin'
    folder.mkdir()
    monkeypatch.setenv('PATH', str(folder))
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(build, 'list_machine_variants', lambda: [Variant('any', frozenset(), frozenset(), ('-mfast',))])
    monkeypatch.setattr(build, '_test', lambda library: '')  # what they write is no library

    def write(**bodies):
        for name, body in bodies.items():
            file = folder / name
            file.write_text('#!/bin/sh\nOUTPUT=; for word; do OUTPUT=$word; done\n' + body + '\n')  # the last word
            file.chmod(0o755)
    return write


def failing(line):
    return f'echo "{line}" >&2; exit 1'


def working(said):
    return f'echo "{said} $*" > "$OUTPUT"'


@needs_compiler
def test_variants_are_built(tmp_path, capsys, monkeypatch):
    installed = [name_library(variant.name) for variant in build.list_machine_variants()]  # by `make`, which tests them
    folder, last = tmp_path / 'new', build.list_machine_variants()[-1:]
    monkeypatch.setattr(build, 'list_machine_variants', lambda: last)
    assert build.main(['--output', str(folder)]) == 0
    names = [name_library(variant.name).name for variant in last]
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)  # nothing else is left behind
    assert capsys.readouterr().out.splitlines() == [f'Built {name}' for name in names]
    libraries = [*map(folder.joinpath, names), *installed]
    for path in libraries:
        assert HASH.encode() in path.read_bytes()
    library = ctypes.CDLL(str(folder / names[0]))  # loading it runs none of its instructions
    library.realesrgan_source_hash.restype = ctypes.c_char_p
    assert library.realesrgan_source_hash() == HASH.encode()
    if not shutil.which('nm') or sys.platform != 'linux':
        return
    for path in libraries:
        lines = subprocess.check_output(['nm', '-D', path], text=True).splitlines()
        undefined = {line.split()[-1] for line in lines if line.split()[-2] == 'U'}
        assert {line.split()[-1] for line in lines} - undefined == EXPORTED
        # Compilers may call these in any program, even in one without a C library. Every Python has them.
        assert undefined <= {'memset', 'memcpy', 'memmove', 'memcmp'}


def test_the_first_compiler_that_works_is_taken_and_the_user_s_before_all(compilers, tmp_path, monkeypatch):
    compilers(cc=failing('cc1: error: unknown option -mfast'), gcc=working('gcc'), clang=working('clang'))
    (library,), problem = build.build_kernel(tmp_path / 'new')
    assert problem == ''
    words = library.read_text().split()
    assert words[0] == 'gcc'
    assert {'-mfast', '-O3', '-shared', '-ffreestanding', *map(str, SOURCES)} <= set(words)
    assert f'-DSOURCE_HASH="{HASH}"' in words
    compilers(mine=working('mine'))
    monkeypatch.setenv('CC', 'mine -v')
    (library,), _ = build.build_kernel(tmp_path / 'new')
    assert library.read_text().split()[:2] == ['mine', '-v']
    monkeypatch.setenv('CC', 'missing')
    assert build.list_compilers() == [['cc'], ['gcc'], ['clang']]


def test_ziglang_comes_last_and_compiles_for_the_named_instructions_only(compilers, tmp_path, monkeypatch):
    compilers(python=working('python'))
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: name == 'ziglang' or None)
    monkeypatch.setattr(build.sys, 'executable', str(tmp_path / 'bin' / 'python'))
    (library,), _ = build.build_kernel(tmp_path / 'new')
    words = library.read_text().split()
    assert words[:4] == ['python', '-m', 'ziglang', 'cc']
    assert '-mcpu=baseline' in words
    assert '-fno-tree-loop-distribute-patterns' not in words
    compilers(gcc=working('gcc'))
    assert [command[0] for command in build.list_compilers()] == ['gcc', str(tmp_path / 'bin' / 'python')]


def test_if_all_fail_one_line_says_what_to_do(compilers, tmp_path, capsys):
    compilers(cc=f'echo note: 1 >&2; {failing("a.c:1: error: no such thing")}', clang=failing('cannot start'),
              gcc='exit 7')
    target = tmp_path / 'new'
    assert build.main(['--output', str(target)]) == 1
    assert list(target.iterdir()) == []
    out, err = capsys.readouterr()
    assert out == ''
    assert err == ('The kernel for any could not be built (cc: a.c:1: error: no such thing; gcc: exit status 7; '
                   f'clang: cannot start). {build._ADVICE}\n')
    assert 'upscaled by OpenVINO' in err


@pytest.mark.parametrize(('code', 'failure'), [
    ('pass', ''), ('print("largest difference: 1"); sys.exit("a pixel is wrong")', ''),
    ('print("a pixel is wrong\\nby 0.1", file=sys.stderr); sys.exit(3)', 'it failed its self-test: a pixel is wrong'),
    ('os.abort()', 'it failed its self-test: it ended with status -6'),
    ('time.sleep(60)', 'its self-test did not end within 1 s')])
@pytest.mark.skipif(os.name == 'nt', reason='signals')
def test_what_a_self_test_says_of_a_library(tmp_path, monkeypatch, code, failure):
    """An exception, status 1, says nothing about it: where a wheel is built there is no numpy."""
    package = tmp_path / 'stand_in'
    package.mkdir()
    (package / 'self_test.py').write_text(f'import os, sys, time\n{code}\n')
    monkeypatch.setattr(build, '__package__', 'stand_in')
    monkeypatch.setattr(build, 'FOLDER', tmp_path / 'realesrgan' / 'engines' / 'kernel')
    if 'sleep' in code:
        monkeypatch.setattr(build, '_TEST_SECONDS', 1)
    assert build._test(tmp_path / 'libwinograd-avx2.so') == failure


def test_a_library_that_fails_its_self_test_is_not_installed(compilers, tmp_path, monkeypatch):
    compilers(cc=working('cc'))
    monkeypatch.setattr(build, '_test', lambda library: f'failed: {library.read_text()[:2]}')
    libraries, problem = build.build_kernel(tmp_path / 'new')
    assert (libraries, list((tmp_path / 'new').iterdir())) == ([], [])
    assert problem.startswith('The kernel for any could not be built (cc: failed: cc). ')


def test_a_library_that_could_be_built_is_kept_where_another_fails(compilers, tmp_path, monkeypatch, capsys):
    compilers(cc=f'case "$*" in *-mfast*) {failing("error: too new")};; esac; {working("cc")}')
    variants = [Variant(name, frozenset(), frozenset(), flags) for name, flags in (('new', ('-mfast',)), ('old', ()))]
    monkeypatch.setattr(build, 'list_machine_variants', lambda: variants)
    assert build.main(['--output', str(tmp_path / 'new')]) == 0
    out, err = capsys.readouterr()
    assert out == f'Built {name_library("old").name}\n'
    assert err.startswith('The kernel for new could not be built (cc: error: too new).')


def test_where_nothing_can_be_built_one_line_says_so(compilers, tmp_path, monkeypatch, capsys):
    target = ['--output', str(tmp_path / 'file')]
    assert (build.main(target), build.main(['--find-compiler'])) == (1, 1)
    assert capsys.readouterr().err == (
        f'No C compiler was found: $CC, cc, gcc, clang and ziglang were looked for. {build._ADVICE}\n')
    compilers(cc=working('cc'))
    (tmp_path / 'file').touch()
    assert (build.main(target), build.main(['--find-compiler'])) == (1, 0)
    err = capsys.readouterr().err
    assert err.startswith('The kernel could not be built: ')
    assert len(err.splitlines()) == 1
    monkeypatch.setattr(build, 'list_machine_variants', list)
    assert (build.main(target), build.main(['--find-compiler'])) == (1, 0)  # there is nothing to compile
    assert capsys.readouterr().err.startswith('There is no kernel for this machine (')


@pytest.mark.parametrize(('machine', 'expected'), [
    ('x86_64', ['avx512_vnni', 'avx512', 'avx_vnni', 'avx2']), ('AMD64', ['avx512_vnni', 'avx512', 'avx_vnni', 'avx2']),
    ('aarch64', ['neon']), ('arm64', ['neon']),
    ('i686', []), ('riscv64', [])])
def test_what_is_built_on_which_machine(monkeypatch, machine, expected):
    monkeypatch.setattr(build.platform, 'machine', lambda: machine)
    assert [variant.name for variant in build.list_machine_variants()] == expected


def test_every_library_has_a_name_that_git_ignores_and_make_removes():
    root = Path(build.__file__).parents[3]
    pattern = 'realesrgan/engines/kernel/libwinograd-*'
    assert f'/{pattern}' in (root / '.gitignore').read_text().splitlines()
    assert '$(KERNEL)/libwinograd-*' in (root / 'Makefile').read_text()
    assert all(name_library(variant.name).name.startswith('libwinograd-') for variant in VARIANTS)


# ---- loading ----

AVX2 = frozenset({'avx2', 'fma'})
AVX512 = AVX2 | {'avx512f', 'avx512vl', 'avx512bw', 'avx512dq'}
LIBRARIES = {variant.name: name_library(variant.name).name for variant in VARIANTS}
ADVICE = 'run `make`, or `python -m realesrgan.engines.kernel.build`'


class FakeKernel:
    """A kernel of a file that is no library."""

    has_ints = True

    def __init__(self, path):
        self.path = path


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A folder without libraries, on a machine with AVX-512."""
    monkeypatch.setattr(library, 'list_cpu_features', lambda: AVX512)
    monkeypatch.setattr(library, 'Kernel', FakeKernel)
    return tmp_path


def write_library(folder, name, source=HASH):
    (folder / LIBRARIES[name]).write_text(f'a library of {source}')


@pytest.mark.parametrize(('features', 'expected'), [
    (AVX512, ['avx512', 'avx2']), (AVX512 | {'amx_bf16'}, ['avx512', 'avx2']), (AVX2, ['avx2']),
    (AVX512 | {'avx512_vnni', 'avx_vnni'}, ['avx512_vnni', 'avx512', 'avx_vnni', 'avx2']),
    (AVX2 | {'avx_vnni'}, ['avx_vnni', 'avx2']), (AVX2 | {'avx512_vnni'}, ['avx2']),
    (AVX512 - {'avx512vl'}, ['avx2']), (AVX512 - {'fma'}, []), ({'avx2'}, []), ({'asimd', 'fp'}, ['neon']), ((), [])])
def test_what_a_processor_can_run(features, expected):
    assert list_variants(frozenset(features)) == expected


def test_the_best_that_is_there_is_taken(machine, monkeypatch):
    with pytest.raises(KernelError) as error:
        find_kernel(machine)
    assert str(error.value) == f'the kernel of the engine winograd was not built for avx512 or avx2: {ADVICE}'
    with pytest.raises(KernelError) as error:
        load_variant('neon', machine)
    assert str(error.value) == f'{LIBRARIES["neon"]} was not built: {ADVICE}'
    for name in ('avx2', 'avx512'):
        write_library(machine, name)
        assert find_kernel(machine).path.name == LIBRARIES[name]
    monkeypatch.setattr(library, 'list_cpu_features', lambda: AVX2)
    assert find_kernel(machine).path.name == LIBRARIES['avx2']
    monkeypatch.setattr(library, 'list_cpu_features', lambda: frozenset({'sse4_2'}))
    with pytest.raises(EngineError, match='no kernel for this processor: it needs AVX2') as error:
        find_kernel(machine)
    assert not isinstance(error.value, KernelError)  # which would be warned of in every run


def test_a_library_of_another_version_is_never_run_nor_one_that_can_not_be_loaded(machine, monkeypatch, caplog):
    write_library(machine, 'avx512', '0123456789abcdef')
    with pytest.raises(KernelError) as error:
        find_kernel(machine)
    expected = f'{LIBRARIES["avx512"]} was built from another version: {ADVICE}'
    assert str(error.value) == expected
    write_library(machine, 'avx2')
    assert find_kernel(machine).path.name == LIBRARIES['avx2']
    assert caplog.messages == [f'{expected}; the kernel for avx2 runs instead']

    def fail(path):
        raise OSError('invalid ELF header')
    monkeypatch.setattr(library, 'Kernel', fail)
    with pytest.raises(KernelError, match=f"^{LIBRARIES['avx2']} can't be loaded: invalid ELF header"):
        load_variant('avx2', machine)


# ---- the self-test ----

CASES = [*self_test._CASES, (RRDBNetConfig(4, 8, 1, 4), ((2, 5, 3),)), (RRDBNetConfig(1, 8, 1, 4), ((1, 8, 4),)),
         (SRVGGNetCompactConfig(3, 8, 1), ((1, 5, 3),))]


@pytest.mark.parametrize(('config', 'batches'), CASES)
def test_its_own_computation_is_pytorchs(config, batches):
    random = np.random.default_rng(1)
    weights = self_test.make_weights(config.layers(), random)
    module = LoadedNetwork(config, weights).module.double()
    for size in batches:
        for picture in random.random((*size, 3), np.float32):
            with torch.inference_mode():
                result = module(torch.from_numpy(picture[..., ::-1].copy()).double().permute(2, 0, 1)[None])[0]
            expected = result.permute(1, 2, 0).numpy()[..., ::-1]
            assert np.abs(self_test.compute(config.layers(), weights, picture) - expected.clip(0, 1)).max() < 1e-12
            assert np.mean((expected <= 0) | (expected >= 1)) < 0.1  # clamping would hide what is wrong there


@pytest.mark.parametrize(('precision', 'error', 'status', 'said'), [
    ('float32', 0, 0, ''), ('float32', 9e-5, 0, ''), ('int16', 1.4e-3, 0, ''),
    ('float32', 2e-4, 3, 'in float32 a pixel is wrong by 0.0002 of 1; allowed are 0.0001\n'),
    ('int16', 2e-3, 3, 'in int16 a pixel is wrong by 0.002 of 1; allowed are 0.0015\n'),
    ('float32', np.nan, 3, 'in float32 a pixel is wrong by inf of 1; allowed are 0.0001\n'),
    ('int16', np.inf, 3, 'not finite\n')])
def test_it_fails_if_one_pixel_is_wrong(monkeypatch, capsys, precision, error, status, said):
    def compute(network, its_precision, batch):
        result = np.stack([self_test.compute(network.layers(), network.arrays, picture) for picture in batch])
        if its_precision == precision:
            result[-1, -1, -1, 0] += error
            if np.isinf(error):
                raise NonFiniteError('not finite')
        return result.astype(batch.dtype)
    monkeypatch.setattr(winograd, 'WinogradEngine', lambda network, device, precision, *_, **__: partial(
        compute, network, precision))
    monkeypatch.setattr(self_test, '_CASES', CASES[-1:])
    monkeypatch.setattr(self_test, 'Kernel', FakeKernel)
    monkeypatch.setattr(self_test, 'resizes_exactly', lambda kernel: True)
    monkeypatch.setattr(self_test, 'list_cpu_features', lambda: AVX2 | {'avx_vnni'})
    assert self_test.main('libwinograd-avx_vnni.so') == status
    out, err = capsys.readouterr()
    assert err == said
    assert out.count('largest difference in ') == 2 - (precision == 'float32' and status == 3) - np.isinf(error)
    assert self_test.main('no/such/libwinograd-avx512.so') == 0
    assert capsys.readouterr().out == 'not tested: this processor has no avx512\n'
