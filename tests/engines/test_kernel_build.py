"""Compiling the kernel: real builds with the system's compiler where there is one, and faked compilers that fail."""
from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from realesrgan.engines.cpu import list_cpu_features
from realesrgan.engines.kernel import build
from realesrgan.engines.kernel.library import SOURCE, VARIANTS, Variant, list_variants, name_library

SYSTEM_COMPILER = next(filter(None, map(shutil.which, ('cc', 'gcc', 'clang'))), None)
needs_compiler = pytest.mark.skipif(not SYSTEM_COMPILER or not build.list_machine_variants(),
                                    reason='there is no C compiler, or no kernel for this machine')
EXPORTED = {f'realesrgan_{name}' for name in ('run', 'step_bytes', 'task_tiles', 'panel', 'scratch_floats',
                                              'source_hash')}


@pytest.fixture(autouse=True)
def no_asked_compiler(monkeypatch):
    monkeypatch.delenv('CC', raising=False)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """A folder with the libraries for this machine, built once, and what was printed."""
    folder = tmp_path_factory.mktemp('kernel') / 'new'
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.delenv('CC', raising=False)
        assert build.main(['--output', str(folder)]) == 0
    return folder, said.getvalue()


@pytest.fixture
def libraries(built):
    return sorted(built[0].iterdir())


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
def test_it_builds_every_variant_of_this_machine(built):
    folder, said = built
    names = [name_library(variant.name).name for variant in build.list_machine_variants()]
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)  # nothing else is left behind
    assert said.splitlines() == [f'Built {name}' for name in names]
    for name in names:
        assert hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16].encode() in (folder / name).read_bytes()


@needs_compiler
@pytest.mark.skipif(not shutil.which('nm') or sys.platform != 'linux', reason='nm of Linux lists the symbols')
def test_libraries_export_what_python_calls_and_need_next_to_nothing(libraries):
    assert libraries
    for library in libraries:
        lines = subprocess.check_output(['nm', '-D', library], text=True).splitlines()
        undefined = {line.split()[-1] for line in lines if line.split()[-2] == 'U'}
        assert {line.split()[-1] for line in lines} - undefined == EXPORTED
        # Compilers may call these in any program, even in one without a C library. Every Python has them.
        assert undefined <= {'memset', 'memcpy', 'memmove', 'memcmp'}


@needs_compiler
def test_a_library_tells_its_hash(libraries):
    library = ctypes.CDLL(str(libraries[-1]))  # loading it runs none of its instructions
    library.realesrgan_source_hash.restype = ctypes.c_char_p
    assert library.realesrgan_source_hash() == hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16].encode()


def test_the_first_compiler_that_works_is_taken(compilers, tmp_path):
    compilers(cc=failing('cc1: error: unknown option -mfast'), gcc=working('gcc'), clang=working('clang'))
    built = build.build_kernel(tmp_path / 'new')
    assert built.problem == ''
    (library,) = built.libraries
    words = library.read_text().split()
    assert words[0] == 'gcc'
    assert {'-mfast', '-O3', '-shared', '-ffreestanding', str(SOURCE)} <= set(words)
    assert f'-DSOURCE_HASH="{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}"' in words


def test_the_compiler_that_the_user_names_comes_first(compilers, tmp_path, monkeypatch):
    compilers(cc=working('cc'), mine=working('mine'))
    monkeypatch.setenv('CC', 'mine -v')
    (library,) = build.build_kernel(tmp_path / 'new').libraries
    assert library.read_text().split()[:2] == ['mine', '-v']
    monkeypatch.setenv('CC', 'missing')
    assert build.list_compilers() == [['cc']]


def test_ziglang_comes_last_and_compiles_for_the_named_instructions_only(compilers, tmp_path, monkeypatch):
    compilers(python=working('python'))
    monkeypatch.setattr(build.importlib.util, 'find_spec', lambda name: name == 'ziglang' or None)
    monkeypatch.setattr(build.sys, 'executable', str(tmp_path / 'bin' / 'python'))
    (library,) = build.build_kernel(tmp_path / 'new').libraries
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


@needs_compiler
def test_a_library_that_fails_its_self_test_is_not_installed(tmp_path, monkeypatch, capsys):
    """A file of the right name that can't be loaded, for the instruction set that any processor here has."""
    variant = build.list_machine_variants()[-1]
    if variant.name not in list_variants(list_cpu_features()):
        pytest.skip(f'this processor has no {variant.name}')
    monkeypatch.setattr(build, 'list_machine_variants', lambda: [variant])
    monkeypatch.setattr(build, 'list_compilers', lambda: [['cp', str(SOURCE)]])
    monkeypatch.setattr(build, '_FLAGS', ())
    compile_ = build.subprocess.run

    def run(command, **options):
        return compile_(command if command[0] != 'cp' else ['cp', str(SOURCE), command[-1]], **options)
    monkeypatch.setattr(build.subprocess, 'run', run)
    assert build.main(['--output', str(tmp_path / 'new')]) == 1
    assert list((tmp_path / 'new').iterdir()) == []
    said = capsys.readouterr().err
    assert said.startswith(f'The kernel for {variant.name} could not be built (cp {SOURCE}: it failed its self-test: ')
    assert 'invalid ELF header' in said or sys.platform != 'linux'


def test_a_library_that_could_be_built_is_kept_where_another_fails(compilers, tmp_path, monkeypatch, capsys):
    compilers(cc=f'case "$*" in *-mfast*) {failing("error: too new")};; esac; {working("cc")}')
    variants = [Variant(name, frozenset(), frozenset(), flags) for name, flags in (('new', ('-mfast',)), ('old', ()))]
    monkeypatch.setattr(build, 'list_machine_variants', lambda: variants)
    assert build.main(['--output', str(tmp_path / 'new')]) == 0
    out, err = capsys.readouterr()
    assert out == f'Built {name_library("old").name}\n'
    assert err.startswith('The kernel for new could not be built (cc: error: too new).')


def test_without_a_compiler(compilers, tmp_path, capsys):
    assert build.main(['--output', str(tmp_path / 'new')]) == 1
    assert capsys.readouterr().err == (
        f'No C compiler was found: $CC, cc, gcc, clang and ziglang were looked for. {build._ADVICE}\n')
    assert build.main(['--find-compiler']) == 1
    compilers(clang=working('clang'))
    assert build.main(['--find-compiler']) == 0


@pytest.mark.parametrize(('machine', 'expected'), [
    ('x86_64', ['avx512', 'avx2']), ('AMD64', ['avx512', 'avx2']), ('aarch64', ['neon']), ('arm64', ['neon']),
    ('i686', []), ('riscv64', [])])
def test_what_is_built_on_which_machine(monkeypatch, machine, expected):
    monkeypatch.setattr(build.platform, 'machine', lambda: machine)
    assert [variant.name for variant in build.list_machine_variants()] == expected


def test_a_machine_without_a_kernel_is_told_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(build.platform, 'machine', lambda: 'riscv64')
    assert build.main(['--output', str(tmp_path / 'new')]) == 1
    assert capsys.readouterr().err.startswith('There is no kernel for this machine (riscv64); ')
    assert build.main(['--find-compiler']) == 0  # there is nothing to compile


def test_a_folder_that_cannot_be_made_is_one_line(compilers, tmp_path, capsys):
    compilers(cc=working('cc'))
    (tmp_path / 'file').touch()
    assert build.main(['--output', str(tmp_path / 'file')]) == 1
    err = capsys.readouterr().err
    assert err.startswith('The kernel could not be built: ')
    assert len(err.splitlines()) == 1


def test_every_library_has_a_name_that_git_ignores_and_make_removes():
    root = Path(build.__file__).parents[3]
    pattern = 'realesrgan/engines/kernel/libwinograd-*'
    assert f'/{pattern}' in (root / '.gitignore').read_text().splitlines()
    assert '$(KERNEL)/libwinograd-*' in (root / 'Makefile').read_text()
    assert all(name_library(variant.name).name.startswith('libwinograd-') for variant in VARIANTS)
