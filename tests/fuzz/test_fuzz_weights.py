"""Damaged and hostile weight files: a network, or a `WeightsError`; nothing of them is run."""
from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save as save_safetensors

from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.errors import RealESRGANError
from realesrgan.weights.loading import build_network
from realesrgan.weights.reading import read_content
from tests.support.mutations import mutated

SHAPES = SRVGGNetCompactConfig(2, 4, 1), RRDBNetConfig(2, 4, 1, 2)


def save(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def state_dict_of(shape):
    torch.manual_seed(0)
    return dict(shape.build().state_dict())


PTH = [save({'params': state_dict_of(shape)}) for shape in SHAPES] + [
    save(state_dict_of(SHAPES[0]), _use_new_zipfile_serialization=False),
    save({name: tensor.bfloat16() for name, tensor in state_dict_of(SHAPES[0]).items()})]
SAFETENSORS = [save_safetensors(state_dict_of(shape)) for shape in SHAPES]


def check(path):
    try:
        network = build_network(read_content(path), path)
    except RealESRGANError as error:
        assert '\n' not in str(error)
        assert str(error).startswith(f'{path}: ')
        return
    assert all(array.dtype == np.float32 for array in network.arrays.values())


@pytest.mark.parametrize(('name', 'files'), [('net.pth', PTH), ('net.safetensors', SAFETENSORS)], ids=lambda _: '')
def test_a_damaged_file_is_read_or_refused(tmp_path, name, files, no_hang):
    """Also under the name of the other kind."""
    for file in files:
        (tmp_path / name).write_bytes(file)
        build_network(read_content(tmp_path / name), tmp_path / name)  # or there would be nothing to damage

    @given(mutated(files), st.sampled_from([name, name, 'net.pth', 'net.safetensors']))
    def run(data, named):
        (tmp_path / named).write_bytes(data)
        with no_hang():
            check(tmp_path / named)
    run()


# ---- pickles of somebody who means harm ----

class Call:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def rebuilt(size, stride, dtype='FloatStorage', count=1, stored=4):
    """A file of one tensor with sizes of its own choice, over a storage of `stored` bytes that claims to be `count`."""
    class Storage:
        def __reduce__(self):
            raise AssertionError('is pickled by its persistent id')

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ('storage', getattr(torch, dtype), '0', 'cpu', count) if isinstance(value, Storage) else None

    file = io.BytesIO()
    Pickler(file, 2).dump(
        {'conv_first.weight': Call(torch._utils._rebuild_tensor_v2, Storage(), 0, size, stride, False, {})})
    return pack(file.getvalue(), bytes(stored))


def pack(pickled, stored=b''):
    """A file of PyTorch; a few kilobytes of it may unpack to many megabytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, 'w', zipfile.ZIP_DEFLATED if len(pickled) + len(stored) > 1 << 20 else 0) as target:
        target.writestr('net/data.pkl', pickled)
        target.writestr('net/version', '3\n')
        target.writestr('net/data/0', stored)
    return archive.getvalue()


BOMBS = [pack(pickle.dumps({'a': 1}, 2), bytes(8 << 20)), pack(pickle.dumps({'a': bytes(8 << 20)}, 2))]


@pytest.mark.parametrize('bomb', BOMBS, ids=['storage', 'pickle'])
def test_a_bomb_is_told_from_its_directory(tmp_path, bomb):
    path = tmp_path / 'net.pth'
    path.write_bytes(bomb)
    with pytest.raises(RealESRGANError, match=r'refused: it is an archive of \d+ bytes that unpacks to 8\d{6}$'):
        read_content(path)


@pytest.mark.parametrize('content', [
    *[save({'params': state_dict_of(SHAPES[0]), 'more': Call(function, *arguments)}) for function, arguments in (
        (os.system, ('touch ran',)), (Path.touch, (Path('ran'),)), (exec, ('open("ran", "w")',)),
        (eval, ('open("ran", "w")',)), (open, ('ran', 'w')), (getattr, ('a', 'upper')),
        (__import__, ('os',)))],
    pickle.dumps(Call(os.system, 'touch ran')), pickle.dumps({'params': Call(open, 'ran', 'w')}, 0),
    rebuilt((1 << 20, 1 << 20), (0, 0)), rebuilt((1 << 20, 1 << 20), (0, 0), 'HalfStorage', 2),
    rebuilt((1 << 20, 1 << 20), (0, 0), 'BFloat16Storage', 2), rebuilt((4,), (1,)), rebuilt((2,), (-1,)),
    rebuilt((1 << 62, 4), (1, 1)), rebuilt((-1,), (1,)), rebuilt((1,), (1,), count=1 << 40),
    rebuilt((1,), (1,), count=-1),
    *BOMBS,
    rebuilt((1 << 15, 1 << 15), (0, 0)), rebuilt((1 << 15, 1 << 15), (0, 0), 'HalfStorage', 2),
    rebuilt((1 << 15, 1 << 15), (0, 0), 'DoubleStorage', 1, 8),
    b'\x80\x02' + b'(' * 100000, b'\x80\x02' + b']' * 1000 + b'.',
    (1 << 62).to_bytes(8, 'little') + b'{}', (100).to_bytes(8, 'little') + b'{"a":{"dtype":"F32","shape":[1,1],',
], ids=lambda _: '')
@pytest.mark.parametrize('name', ['net.pth', 'net.safetensors'])
def test_a_hostile_file_is_refused_and_nothing_of_it_is_run(tmp_path, monkeypatch, content, name):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(RealESRGANError, match=f'^{name}: ') as caught:
        build_network(read_content(name), name)
    assert '\n' not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 1e300])
def test_weights_that_are_no_finite_numbers_are_read_without_a_warning(tmp_path, recwarn, value):
    """The network's result then says that it is not finite."""
    state_dict = {name: torch.full_like(tensor, value, dtype=torch.float64)
                  for name, tensor in state_dict_of(SHAPES[0]).items()}
    (tmp_path / 'net.pth').write_bytes(save(state_dict))
    network = build_network(read_content(tmp_path / 'net.pth'), 'net.pth')
    assert not any(np.isfinite(array).all() for array in network.arrays.values())
    assert [str(warning.message) for warning in recwarn] == []
