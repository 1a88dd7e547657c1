"""Weight files: what is read, with and without PyTorch, and what is refused: damaged, dangerous, something else."""
from __future__ import annotations

import io
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
from realesrgan.weights import load_model, load_state_dict, reading
from realesrgan.weights.reading import read_plain_pth
from tests.support.weight_files import DATA, GOLDEN, TINY, assert_equal, save, state_dict_of

# ---- files ----

@pytest.mark.parametrize('wrapped', [
    lambda ours, _: {'params_ema': ours},
    lambda ours, _: {'params': ours},
    lambda ours, other: {'params': other, 'params_ema': ours},
    lambda ours, _: {'iteration': 400000, 'params_ema': OrderedDict(ours)},
    lambda ours, _: ours,
    lambda ours, _: ours | {'iteration': 400000},
    lambda ours, _: {'state_dict': ours},
    lambda ours, _: {f'module.{name}': tensor for name, tensor in ours.items()},
    lambda ours, _: {'params': {f'module.{name}': tensor for name, tensor in ours.items()}},
], ids=['params_ema', 'params', 'both', 'among others', 'bare', 'number', 'state_dict', 'parallel', 'parallel params'])
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
    ({}, 'no state dict under params_ema, params-ema, params, .*, net or at its top level'),
    ({'params': {}}, 'no state dict under params_ema, '),
    ({'params': {'weight': 1}}, 'no state dict under params_ema, '),
    ({'weights': {'weight': torch.zeros(2)}}, 'no state dict under params_ema, '),
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


# ---- .pth without PyTorch ----

PATH = Path('net.pth')


@pytest.fixture
def no_torch_load(monkeypatch):
    monkeypatch.setattr(reading, '_read_pth_with_torch', None)


@pytest.mark.usefixtures('no_torch_load')
@pytest.mark.parametrize('path', [
    DATA / 'realesr-animevideov3.pth', *(GOLDEN / f'{name}.pth' for name in (
        'rrdb_x1', 'rrdb_x2', 'rrdb_x4', 'srvgg_x4', 'srvgg_x4_b'))], ids=lambda path: path.stem)
def test_files_of_the_original_are_read(path):
    (expected,) = torch.load(path, weights_only=True).values()
    assert_equal(load_state_dict(path), expected)


@pytest.mark.usefixtures('no_torch_load')
def test_what_torch_save_writes_of_a_module_is_read():
    network = TINY.build()
    torch.save({'iteration': 3, 'name': 'x', 'params_ema': network.state_dict()}, PATH)
    assert_equal(load_state_dict(PATH), network.state_dict())


VALUES = torch.tensor([[0., -1.5, 3e38, 1e-45], [float('inf'), -float('inf'), 1 / 3, 65504], [1e9, 2., 3., 4.]])
TENSORS = {
    'float32': VALUES, 'float64': VALUES.double() / 3, 'float16': VALUES.half(), 'bfloat16': VALUES.bfloat16(),
    'int64': torch.tensor([2 ** 62 + 12345, -1, 2 ** 24 + 1]), 'int32': torch.tensor([2 ** 31 - 1, -5]).int(),
    'int16': torch.tensor([-300]).short(), 'int8': torch.tensor([-3]).char(), 'uint8': torch.tensor([200]).byte(),
    'bool': torch.tensor([True, False]),
    'number': torch.tensor(2.5), 'bfloat16 number': torch.tensor(2.5).bfloat16(), 'count': torch.tensor(7),
    'empty': torch.zeros(0, 3), 'turned': VALUES.t(), 'cut out': VALUES[1:, 1::2], 'half, turned': VALUES.half().t(),
    'channels last': torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    'repeated': torch.tensor(1.5).expand(3, 2), 'parameter': torch.nn.Parameter(VALUES), 'shared': VALUES}


@pytest.mark.usefixtures('no_torch_load')
def test_all_kinds_of_tensors_have_pytorchs_values():
    torch.save(OrderedDict(TENSORS), PATH)
    loaded = load_state_dict(PATH)
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert_equal(loaded, {name: tensor.detach().float() for name, tensor in TENSORS.items()})
    loaded['turned'].add_(1)  # can be written to


def test_not_a_number_stays_one():
    torch.save({'a': torch.tensor([float('nan')]), 'b': torch.tensor([float('nan')]).bfloat16()}, PATH)
    assert all(np.isnan(array).all() for array in read_plain_pth(PATH).values())


# ---- what is left to torch.load ----

@pytest.mark.parametrize('content', [
    {'a': torch.zeros(2, dtype=torch.complex64)}, {'a': torch.zeros(2).to_sparse()}, [torch.zeros(2)], torch.zeros(2),
    {'a': torch.zeros(2, device='meta')}, {'a': torch.float32}, {'a': torch.zeros(2, dtype=torch.float8_e4m3fn)},
    {'a': torch.imag(torch.complex(torch.ones(2), torch.ones(2)).conj())}],  # with a note that it is to be negated
    ids=['complex', 'sparse', 'list', 'tensor', 'meta', 'dtype', 'float8', 'negated'])
def test_other_contents_are_left(content):
    torch.save(content, PATH)
    assert read_plain_pth(PATH) is None


def test_a_type_that_numpy_has_not_is_read_by_torch():
    torch.save({'a': torch.tensor([1.5, -2]).to(torch.float8_e4m3fn)}, PATH)
    assert load_state_dict(PATH)['a'].tolist() == [1.5, -2]


def rewrite(change):
    """Change a file's members, a dict of name to bytes."""
    save(PATH, {'w': torch.arange(6.)})
    with zipfile.ZipFile(PATH) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(PATH, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize('change', [
    {'net/byteorder': b'big'}, {'net/data/0': bytes(20)}, {'net/data/0': bytes(28)}, {'net/data/0': None},
    {'net/data.pkl': b''}, {'net/data.pkl': None}, {'other/data.pkl': b'.'}],
    ids=['big endian', 'too few bytes', 'too many bytes', 'no bytes', 'empty pickle', 'no pickle', 'two pickles'])
def test_odd_archives_are_left(change):
    def apply(members):
        members.update(change)
        for name in [name for name, content in members.items() if content is None]:
            del members[name]
    rewrite(lambda members: None)
    assert list(read_plain_pth(PATH)) == ['w']
    rewrite(apply)
    assert read_plain_pth(PATH) is None


@pytest.mark.parametrize(('offset', 'shape', 'strides'), [
    (1, (6,), (1,)), (-1, (6,), (1,)), (0, (7,), (1,)), (0, (2, 3), (4, 1)), (3, (2, 3), (3, 1)), (0, (6,), (-1,)),
    (0, (2 ** 62, 2 ** 62), (1, 1)), (2 ** 62, (1,), (1,)), (0, (-6,), (1,)), (0.0, (6,), (1,)), (0, (6,), ('1',)),
    (0, (6,), (1, 1)), (0, 'abc', (1,)), (None, (6,), (1,))])
def test_a_tensor_beyond_its_storage_is_left(offset, shape, strides):
    class Outside:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (STORAGE, offset, shape, strides, False, OrderedDict())

    rewrite(lambda members: members.update({'net/data.pkl': pickled({'w': Outside()})}))
    assert read_plain_pth(PATH) is None


STORAGE = object()


def pickled(content):
    """Pickle with `STORAGE` as a reference to six numbers, `data/0`."""
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ('storage', torch.FloatStorage, '0', 'cpu', 6) if value is STORAGE else None
    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(content)
    return buffer.getvalue()


def test_a_tensor_inside_its_storage_is_read():
    class Inside:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (STORAGE, 1, (2, 2), (2, 1), False, OrderedDict())
    rewrite(lambda members: members.update({'net/data.pkl': pickled({'w': Inside()})}))
    assert read_plain_pth(PATH)['w'].tolist() == [[1, 2], [3, 4]]


# ---- code ----

@pytest.mark.parametrize('code', [
    b'cos\nsystem\n(X\x0e\0\0\0touch executedtR.', b'cbuiltins\neval\n(X\x01\0\0\x001tR.',
    b'ctorch\nload\n.', b'ctorch._utils\n_rebuild_tensor\n.', b'ccollections\nnamedtuple\n.',
    b'crealesrgan.weights.reading\n_view\n.', b'ctorch\nFloatStorage.__class__\n.'],
    ids=['system', 'eval', 'torch.load', 'another function', 'another type', 'ours', 'attribute'])
def test_other_names_are_not_looked_up(code):
    rewrite(lambda members: members.update({'net/data.pkl': b'\x80\x02' + code}))
    assert read_plain_pth(PATH) is None
    with pytest.raises(WeightsError, match=r'^net\.pth: (refused: |not a |holds a )'):
        load_state_dict(PATH)
    assert not Path('executed').exists()


def test_a_pickle_can_not_change_what_the_next_file_is_read_with():
    """BUILD sets attributes of whatever is below the state, here those of the functions that make tensors."""
    for function in (b'_rebuild_tensor_v2', b'_rebuild_parameter'):
        code = b'ctorch._utils\n' + function + b'\n(N}X\x0c\0\0\0__defaults__(K\x01K\x02tstb0}.'
        rewrite(lambda members, code=code: members.update({'net/data.pkl': b'\x80\x02' + code}))
        assert read_plain_pth(PATH) == {}  # it did run
    for name in (b'collections\nOrderedDict', b'torch\nFloatStorage'):
        code = b'c' + name + b'\n(N}X\x05\0\0\0itemsK\x01stb0}.'
        rewrite(lambda members, code=code: members.update({'net/data.pkl': b'\x80\x02' + code}))
        assert read_plain_pth(PATH) is None
    state_dict = state_dict_of(TINY)
    state_dict['p'] = torch.nn.Parameter(torch.ones(2))
    torch.save(state_dict, PATH)
    assert_equal({name: torch.from_numpy(array) for name, array in read_plain_pth(PATH).items()}, state_dict)
