"""The tree of exceptions that is drawn in `errors` is the real one."""
from __future__ import annotations

import re
import struct

from realesrgan import errors


def drawn_tree():
    """The classes in the module's docstring, each with the name of its base."""
    bases, path = {}, []
    for line in errors.__doc__.splitlines():
        match = re.match(r'^ {4}((?:\|   |    )*)(\+-- )?([A-Z]\w+)( {2}|$)', line)
        if match:
            depth = len(match[1]) // 4 + bool(match[2])
            del path[depth:]
            bases[match[3]] = path[-1] if path else None
            path.append(match[3])
    return bases


def real_classes():
    return {name: value for name, value in vars(errors).items()
            if isinstance(value, type) and value.__module__ == errors.__name__}


def test_the_tree_in_the_docstring_is_the_real_one():
    real = {name: value.__base__.__name__ if value.__base__.__module__ == errors.__name__ else None
            for name, value in real_classes().items()}
    assert drawn_tree() == real
    assert real['DownloadError'] == 'WeightsError'
    assert real['RealESRGANError'] is None


def test_only_cancelled_is_no_exception_and_every_class_says_what_it_is():
    """Code that goes on after a failed picture must not go on after it."""
    classes = real_classes().items()
    assert [name for name, value in classes if not issubclass(value, Exception)] == ['Cancelled']
    assert [name for name, value in classes if not value.__dict__.get('__doc__')] == []


def test_what_nobody_foresaw_asks_for_a_report():
    for foreseen in errors.ImageError('x'), FileNotFoundError(2, 'no', 'x'), MemoryError('x'):
        assert errors.explain(foreseen) is foreseen
    error = struct.error('argument\nout of range')
    told = errors.explain(error)
    assert isinstance(told, errors.BugError)
    assert str(told) == ('struct.error: argument out of range: a bug of this program; please report it with the file '
                         'and what -v shows')
    assert told.__cause__ is error
    assert 'RuntimeError: CUDA error: a bug of this program, or a failing device; ' in str(
        errors.explain(RuntimeError('CUDA error')))
    assert 'BrokenDeviceError: CUDA error: a failing device, or its driver; ' in str(
        errors.explain(errors.BrokenDeviceError('CUDA error')))


def test_a_program_that_needs_pytorch_is_no_bug_without_it():
    told = errors.explain(ModuleNotFoundError("No module named 'torch'", name='torch'))
    assert isinstance(told, errors.RunError)
    assert str(told) == 'this needs PyTorch, which is not installed: pip install torch'
    assert isinstance(errors.explain(ModuleNotFoundError("No module named 'numpy'", name='numpy')), errors.BugError)


def test_one_line():
    assert errors.flatten_message(ValueError('two\n  lines ')) == 'two lines'
    assert errors.flatten_message(ValueError()) == 'ValueError'
