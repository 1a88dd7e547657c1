"""Which engine runs a network, and what is said where none can."""
from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.engines import choice, devices, table
from realesrgan.engines.choice import make_engine
from realesrgan.engines.devices import Device
from realesrgan.engines.table import ENGINES, EngineRow, list_engine_choices
from realesrgan.errors import DeviceError, EngineError, KernelError

CPU = Device('cpu')
UNKNOWN = LoadedNetwork.from_module(nn.Identity(), 1)


def small():
    torch.manual_seed(0)
    return RRDBNetConfig(4, 8, 1, 4).build()


@pytest.fixture(autouse=True)
def two_engines(monkeypatch):
    """The table with the two engines of these tests alone, whatever is added to it."""
    rows = tuple(row for row in ENGINES if row.name in ('openvino', 'torch'))
    monkeypatch.setattr(table, 'ENGINES', rows)
    return rows


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)  # neither found nor imported


@pytest.fixture
def brand_new(monkeypatch, two_engines):
    """Put an engine first in the table; its module accepts everything and makes what `made` says it was asked for."""
    module = types.ModuleType('realesrgan.engines.brand_new')
    module.refusal = None
    module.explain_refusal = lambda network: module.refusal
    module.make = lambda *arguments: types.SimpleNamespace(arguments=arguments)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    row = EngineRow('brand new', ('cpu', 'cuda'), ('float32',), 'brand_new')
    monkeypatch.setattr(table, 'ENGINES', (row, *two_engines))
    return module


def test_choices_are_auto_and_the_table(monkeypatch):
    assert list_engine_choices() == ('auto', 'openvino', 'torch')
    monkeypatch.setattr(table, 'ENGINES', ENGINES)
    assert list_engine_choices() == ('auto', *(row.name for row in ENGINES))
    assert len(set(list_engine_choices())) == len(ENGINES) + 1


def test_auto_is_openvino_on_a_cpu_where_it_knows_the_network():
    assert make_engine(small(), CPU, half=False).name == 'openvino'
    assert make_engine(UNKNOWN, CPU, half=False).name == 'torch'


@pytest.mark.parametrize(('amx', 'half', 'name'), [
    (True, True, 'openvino'), (True, False, 'brand new'), (False, True, 'brand new'), (False, False, 'brand new')])
def test_auto_is_bfloat16_where_the_processor_has_amx(brand_new, monkeypatch, amx, half, name):
    """Elsewhere it is the first of the table, in single precision if it knows no other."""
    brand_new.make = lambda *arguments: types.SimpleNamespace(name='brand new')
    monkeypatch.setattr(choice, 'has_amx', lambda: amx)
    assert make_engine(small(), CPU, half=half).name == name


def test_an_engine_that_is_not_built_is_replaced_and_that_is_said_in_one_line(brand_new, caplog):
    brand_new.refusal = KernelError('the kernel is not built: run make')
    assert make_engine(small(), CPU, half=False).name == 'openvino'
    assert [record.getMessage() for record in caplog.records] == [
        'the kernel is not built: run make; openvino runs instead, which is slower']
    with pytest.raises(KernelError, match='^the kernel is not built: run make$'):
        make_engine(small(), CPU, half=False, name='brand new')
    brand_new.refusal = EngineError('does not know this network')
    caplog.clear()
    make_engine(small(), CPU, half=False)
    assert caplog.records == []


@pytest.mark.usefixtures('no_openvino')
def test_a_missing_kernel_is_told_of_wherever_the_network_runs_instead(brand_new, caplog):
    brand_new.refusal = KernelError('the kernel is not built: run make')
    assert make_engine(small(), CPU, half=False).name == 'torch'
    assert [record.getMessage() for record in caplog.records] == [
        'the kernel is not built: run make; torch runs instead, which is slower']


@pytest.mark.usefixtures('no_openvino')
def test_auto_is_torch_without_openvino_and_asking_for_it_says_how_to_get_it():
    assert make_engine(small(), CPU, half=False).name == 'torch'
    with pytest.raises(EngineError, match='not installed: pip install openvino'):
        make_engine(small(), CPU, half=False, name='openvino')


def test_openvino_is_refused_where_it_can_not_run():
    with pytest.raises(DeviceError, match='the engine openvino runs on the CPU, not on cuda'):
        make_engine(small(), Device('cuda'), half=False, name='openvino')
    with pytest.raises(EngineError, match='the engine openvino does not know this network: it is none of RRDBNet'):
        make_engine(UNKNOWN, CPU, half=False, name='openvino')


@pytest.mark.parametrize('name', ['winograd', 'openvino', 'vulkan'])
def test_an_engine_is_refused_for_an_architecture_without_layers(monkeypatch, name):
    monkeypatch.setattr(RRDBNetConfig, 'layers', lambda shape: None)
    (row,) = (row for row in ENGINES if row.name == name)
    network = LoadedNetwork.from_arrays(RRDBNetConfig(4, 8, 1, 4), {})
    refusal = choice.explain_refusal(row, network, Device(row.devices[0]))
    assert str(refusal) == f'the engine {name} does not know this network: RRDBNet has no layers'
    assert make_engine(small(), CPU, half=False).name == 'torch'


def test_another_name_is_refused_with_the_allowed_ones():
    with pytest.raises(ValueError, match=f"engine is 'fast'; allowed are {', '.join(list_engine_choices())}"):
        make_engine(small(), CPU, half=False, name='fast')


def test_an_engine_is_a_row_and_a_module(brand_new):
    network = LoadedNetwork.from_module(small())
    assert 'brand new' in list_engine_choices()
    for name in ('auto', 'brand new'):
        made = make_engine(network, CPU, half=False, name=name, threads=None)
        assert made.arguments == (network, CPU, 'float32', None)


def test_a_refusal_is_raised_if_the_engine_was_asked_for_and_passed_over_if_not(brand_new):
    brand_new.refusal = EngineError('no licence')
    assert make_engine(small(), CPU, half=False).name == 'openvino'
    with pytest.raises(EngineError, match='no licence'):
        make_engine(small(), CPU, half=False, name='brand new')
    with pytest.raises(DeviceError, match='the engine brand new runs on the CPU or cuda, not on xpu'):
        make_engine(small(), Device('xpu'), half=False, name='brand new')


def test_an_engine_without_half_precision_computes_in_single(brand_new, monkeypatch):
    monkeypatch.setattr(devices, 'has_cpu_bfloat16', lambda: True)
    assert make_engine(small(), CPU, half=True, name='brand new').arguments[2] == 'float32'
    assert make_engine(small(), CPU, half=True, name='torch').description == 'torch, cpu, bfloat16'


def test_threads_are_those_of_the_engine_and_of_pytorch_only_if_it_is_the_engine(brand_new):
    before = torch.get_num_threads()
    try:
        made = make_engine(small(), CPU, half=False, name='brand new', threads=before + 1)
        assert (torch.get_num_threads(), made.arguments[3]) == (before, before + 1)
        make_engine(small(), CPU, half=False, name='torch', threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize('row', ENGINES, ids=lambda row: row.name)
def test_a_row_names_a_module_with_the_two_functions(row):
    module = choice.load_module(row)
    assert callable(module.explain_refusal)
    assert callable(module.make)
    assert row.precisions[0] == 'float32'
