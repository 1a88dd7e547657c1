"""Weight files: what is read, and what is refused: damaged, dangerous, something else."""
from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.errors import WeightsError
from realesrgan.weights import load_model, load_state_dict
from tests.support.weight_files import TINY, assert_equal, save, state_dict_of

# ---- files ----

@pytest.mark.parametrize('wrapped', [
    lambda ours, _: {'params_ema': ours},
    lambda ours, _: {'params': ours},
    lambda ours, other: {'params': other, 'params_ema': ours},
    lambda ours, _: {'iteration': 400000, 'params_ema': OrderedDict(ours)},
    lambda ours, _: ours,
    lambda ours, _: {'state_dict': ours},
    lambda ours, _: {f'module.{name}': tensor for name, tensor in ours.items()},
    lambda ours, _: {'params': {f'module.{name}': tensor for name, tensor in ours.items()}},
], ids=['params_ema', 'params', 'both', 'among others', 'bare', 'state_dict', 'parallel', 'parallel params'])
@pytest.mark.parametrize('new_format', [True, False], ids=['zip', 'legacy'])
def test_pth_is_loaded(wrapped, new_format):
    ours, other = state_dict_of(TINY, seed=1), state_dict_of(TINY, seed=2)
    path = save(Path('net.pth'), wrapped(ours, other), _use_new_zipfile_serialization=new_format)
    assert_equal(load_state_dict(path), ours)
    assert_equal(load_state_dict(str(path)), ours)


def test_safetensors_is_loaded():
    ours = state_dict_of(TINY)
    save_file(ours, 'net.safetensors')
    loaded = load_state_dict('net.safetensors')
    assert_equal({name: loaded[name] for name in ours}, ours)
    assert loaded.keys() == ours.keys()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype):
    ours = {name: tensor.to(dtype) for name, tensor in state_dict_of(TINY).items()}
    loaded = load_state_dict(save(Path('net.pth'), ours))
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert_equal(loaded, {name: tensor.float() for name, tensor in ours.items()})


def test_old_names_are_replaced():
    state_dict = state_dict_of(RRDBNetConfig(4, 4, 1, 2))
    old = {re.sub(r'^body\.(\d+)\.rdb', r'RRDB_trunk.\1.RDB', name): tensor for name, tensor in state_dict.items()}
    assert_equal(load_state_dict(save(Path('net.pth'), old)), state_dict)


# ---- refused files ----

class Malicious:
    def __reduce__(self):
        return Path.touch, (Path('executed'),)


@pytest.mark.parametrize(('write', 'message'), [
    (torch.save, 'refused: .* wants to run '),
    (partial(torch.save, _use_new_zipfile_serialization=False), 'refused: .* wants to run '),
    (lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)), 'refused: .* wants to run '),
    (lambda content, path: path.write_bytes(pickle.dumps(content, protocol=4)), 'not a PyTorch weight file, or a '),
], ids=['zip', 'legacy', 'pickle 2', 'pickle 4'])
@pytest.mark.parametrize('beside_weights', [True, False], ids=['beside weights', 'alone'])
@pytest.mark.filterwarnings('ignore:Detected pickle protocol')
def test_pickle_that_would_run_code_is_refused_and_not_run(write, message, beside_weights):
    path = Path('net.pth')
    write({'params': state_dict_of(TINY), 'extra': Malicious()} if beside_weights else Malicious(), path)
    with pytest.raises(WeightsError, match=rf'^net\.pth: {message}') as caught:
        load_state_dict(path)
    assert '\n' not in str(caught.value)
    assert not Path('executed').exists()


@pytest.mark.parametrize(('function', 'name'), [(exec, 'exec'), (os.system, f'{os.name}.system')])
def test_refusal_names_what_the_pickle_wants_to_run(function, name):
    class Calls:
        def __reduce__(self):
            return function, ('pass',)
    torch.save({'params': state_dict_of(TINY), 'extra': Calls()}, 'net.pth')
    with pytest.raises(WeightsError, match=rf'refused: .* wants to run (builtins\.)?{re.escape(name)}\. Get the file '
                                           r'from a source you trust, or as \.safetensors$'):
        load_state_dict('net.pth')


def whole_file(legacy=False):
    path = save(Path('whole.pth'), {'params': state_dict_of(TINY)}, _use_new_zipfile_serialization=not legacy)
    return path.read_bytes()


def other_zip():
    with zipfile.ZipFile('other.zip', 'w') as archive:
        archive.writestr('readme.txt', 'no weights')
    return Path('other.zip').read_bytes()


@pytest.mark.parametrize('content', [
    lambda: np.random.default_rng(0).bytes(5000),
    lambda: b'',
    lambda: whole_file()[:-1000],
    lambda: whole_file()[:len(whole_file()) // 2],
    lambda: whole_file()[:10],
    lambda: whole_file(legacy=True)[:-1000],
    lambda: whole_file(legacy=True)[:-2],
    lambda: whole_file(legacy=True)[:20],
    other_zip,
    lambda: b'<html><body>404</body></html>',
    lambda: b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n',
    lambda: b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR',
    lambda: b'PK\x03\x04',
    lambda: b'.',
    lambda: b'\x80\x02X\xff',
    lambda: b'\x80\x02R.',
], ids=['random', 'empty', 'zip cut at its end', 'zip cut in two', 'zip start', 'legacy cut', 'legacy cut at its end',
        'legacy start', 'other zip', 'html', 'lfs pointer', 'png', 'only PK', 'only a stop', 'half a length',
        'call of nothing'])
@pytest.mark.parametrize('name', ['net.pth', 'net.safetensors'])
def test_damaged_file_is_refused_in_one_line(name, content):
    Path(name).write_bytes(content())
    with pytest.raises(WeightsError, match=rf'^{re.escape(name)}: not a .*') as caught:
        load_state_dict(name)
    assert '\n' not in str(caught.value)


def test_truncated_safetensors_is_refused():
    save_file(state_dict_of(TINY), 'net.safetensors')
    Path('net.safetensors').write_bytes(Path('net.safetensors').read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r'^net\.safetensors: not a whole \.safetensors file'):
        load_state_dict('net.safetensors')


@pytest.mark.parametrize(('content', 'message'), [
    ([1, 2], 'holds a list, not a state dict'),
    (torch.zeros(2), 'holds a Tensor, not a state dict'),
    ({}, 'no state dict under params_ema, params, state_dict or at its top level'),
    ({'params': {}}, 'no state dict under params_ema, params'),
    ({'params': {'weight': 1}}, 'no state dict under params_ema, params'),
    ({'model': {'weight': torch.zeros(2)}}, 'no state dict under params_ema, params'),
], ids=['list', 'tensor', 'empty', 'empty params', 'numbers', 'other key'])
def test_file_of_something_else_is_refused(content, message):
    torch.save(content, 'net.pth')
    with pytest.raises(WeightsError, match=rf'^net\.pth: {message}'):
        load_state_dict('net.pth')


def in_itself():
    content = {}
    content['params'] = content
    return content


@pytest.mark.parametrize(('content', 'reason'), [
    ({'weight': torch.zeros(3, 3).to_sparse()}, ''),
    ({'weight': torch.zeros(2, device='meta')}, ''),
    ({'weight': torch.zeros(2, dtype=torch.complex64)}, 'complex numbers'),
    ({'params': {'weight': torch.zeros(2, dtype=torch.complex64)}}, 'complex numbers'),
    (in_itself(), 'no state dict under'),
], ids=['sparse', 'meta', 'complex', 'complex params', 'in itself'])
@pytest.mark.parametrize('read', [load_state_dict, partial(load_model, 'RealESRGAN_x4plus')], ids=['read', 'build'])
def test_what_are_no_numbers_is_refused_in_one_line(read, content, reason):
    torch.save(content, 'net.pth')
    with pytest.raises(WeightsError, match=rf'^net\.pth: .*{reason}') as caught:
        read('net.pth')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('path', ['nothing.pth', 'nothing.safetensors', '.'])
def test_missing_file_is_named(path):
    with pytest.raises(WeightsError, match=f'^{re.escape(path)}: no such weight file$'):
        load_state_dict(path)
