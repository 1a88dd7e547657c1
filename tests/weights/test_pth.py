"""Reading `.pth` without PyTorch: the same values, and nothing of what a file should not hold."""
from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from realesrgan.errors import WeightsError
from realesrgan.weights import load_state_dict, reading
from realesrgan.weights.reading import read_plain_pth
from tests.support.weight_files import DATA, GOLDEN, TINY, assert_equal, save, state_dict_of

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
