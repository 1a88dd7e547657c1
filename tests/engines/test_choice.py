"""The engine that runs a network, and the messages where none can."""
from __future__ import annotations

import sys
import types

import pytest
import torch
from torch import nn

from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.rrdbnet import RRDBNetConfig
from realesrgan.engines import choice, devices, engine
from realesrgan.engines.choice import explain_refusal, make_engine
from realesrgan.engines.devices import CPU, Device
from realesrgan.engines.engine import ENGINES, Engine, EngineRow, list_engine_choices
from realesrgan.errors import DeviceError, EngineError, KernelError

UNKNOWN = LoadedNetwork.from_module(nn.Identity(), 1)


def small():
    torch.manual_seed(0)
    return RRDBNetConfig(4, 8, 1, 4).build()


@pytest.fixture(autouse=True)
def engines(monkeypatch):
    """Set the rows of the table; at first two of them, whatever is added to it."""
    def set_rows(*rows):
        for module in (engine, choice):
            monkeypatch.setattr(module, 'ENGINES', rows)
    set_rows(*(row for row in ENGINES if row.name in ('openvino', 'torch')))
    return set_rows


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)  # neither found nor imported


@pytest.fixture
def brand_new(monkeypatch, engines):
    """Put an engine first in the table; its class accepts what `refusal` does not refuse."""
    class BrandNew(Engine):
        name = 'brand_new'
        refusal = None
        explain_refusal = classmethod(lambda cls, network: cls.refusal)
        __call__ = release = None

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.arguments = arguments
    module = types.ModuleType('realesrgan.engines.brand_new')
    module.BrandNew = BrandNew
    monkeypatch.setitem(sys.modules, module.__name__, module)
    engines(EngineRow('brand_new', 'BrandNew', ('cpu', 'cuda'), ('float32',), needs_layers=False), *choice.ENGINES)
    return BrandNew


def test_choices_are_auto_and_the_table(engines):
    assert list_engine_choices() == ('auto', 'openvino', 'torch')
    engines(*ENGINES)
    assert list_engine_choices() == ('auto', *(row.name for row in ENGINES))
    assert len(set(list_engine_choices())) == len(ENGINES) + 1


def test_auto_is_openvino_on_a_cpu_where_it_knows_the_network():
    assert make_engine(small(), CPU, half=False).name == 'openvino'
    assert make_engine(UNKNOWN, CPU, half=False).name == 'torch'


@pytest.mark.parametrize('half', [False, True])
@pytest.mark.usefixtures('brand_new')
def test_auto_is_the_first_of_the_table_even_if_it_knows_no_half_precision(half):
    assert make_engine(small(), CPU, half=half).description == 'brand_new, cpu, float32'


def test_an_engine_that_is_not_built_is_replaced_and_that_is_said_in_one_line(brand_new, monkeypatch, caplog):
    brand_new.refusal = KernelError('the kernel is not built: run make')
    assert make_engine(small(), CPU, half=False).name == 'openvino'
    monkeypatch.setitem(sys.modules, 'openvino', None)
    assert make_engine(small(), CPU, half=False).name == 'torch'
    assert caplog.messages == ['the kernel is not built: run make; openvino runs instead, which is slower',
                               'the kernel is not built: run make; torch runs instead, which is slower']
    with pytest.raises(KernelError, match='^the kernel is not built: run make$'):
        make_engine(small(), CPU, half=False, name='brand_new')


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


@pytest.mark.parametrize('row', [row for row in ENGINES if row.needs_layers], ids=lambda row: row.name)
def test_an_engine_is_refused_for_an_architecture_without_layers(monkeypatch, row):
    monkeypatch.setattr(choice.importlib.util, 'find_spec', lambda name: True)
    monkeypatch.setattr(RRDBNetConfig, 'layers', lambda config: None)
    network = LoadedNetwork(RRDBNetConfig(4, 8, 1, 4), {})
    assert str(explain_refusal(row, network, Device(row.devices[0]))) == (
        f'the engine {row.name} does not know this network: RRDBNet has no layers')
    assert make_engine(small(), CPU, half=False).name == 'torch'


def test_another_name_is_refused_with_the_allowed_ones():
    with pytest.raises(ValueError, match=f"engine is 'fast'; allowed are {', '.join(list_engine_choices())}"):
        make_engine(small(), CPU, half=False, name='fast')


@pytest.mark.usefixtures('brand_new')
def test_an_engine_is_a_row_and_a_class(monkeypatch):
    monkeypatch.setattr(devices, 'has_cpu_bfloat16', lambda: True)
    network = LoadedNetwork.from_module(small())
    assert 'brand_new' in list_engine_choices()
    for name, half in (('auto', False), ('brand_new', True)):  # which it does not have
        made = make_engine(network, CPU, half=half, name=name)
        assert made.arguments == (network, CPU, 'float32', None)
        assert (made.scale, made.half, made.description) == (4, False, 'brand_new, cpu, float32')
    assert make_engine(small(), CPU, half=True, name='torch').description == 'torch, cpu, bfloat16'


def test_a_refusal_is_raised_if_the_engine_was_asked_for_and_passed_over_if_not(brand_new, caplog):
    brand_new.refusal = EngineError('no licence')
    assert make_engine(small(), CPU, half=False).name == 'openvino'
    assert caplog.records == []
    with pytest.raises(EngineError, match='no licence'):
        make_engine(small(), CPU, half=False, name='brand_new')
    with pytest.raises(DeviceError, match='the engine brand_new runs on the CPU or cuda, not on xpu'):
        make_engine(small(), Device('xpu'), half=False, name='brand_new')


def test_an_engine_whose_package_can_not_be_loaded_is_passed_over(monkeypatch):
    monkeypatch.setitem(sys.modules, 'realesrgan.engines.openvino', None)
    assert make_engine(small(), CPU, half=False).name == 'torch'
    with pytest.raises(EngineError, match="the engine openvino can't be loaded: import of realesrgan.engines.openvino"):
        make_engine(small(), CPU, half=False, name='openvino')


@pytest.mark.usefixtures('brand_new')
def test_threads_are_those_of_the_engine_and_of_pytorch_only_if_it_is_the_engine():
    before = torch.get_num_threads()
    try:
        made = make_engine(small(), CPU, half=False, name='brand_new', threads=before + 1)
        assert (torch.get_num_threads(), made.arguments[3]) == (before, before + 1)
        make_engine(small(), CPU, half=False, name='torch', threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize('row', ENGINES, ids=lambda row: row.name)
def test_a_row_names_a_class_of_its_name(row):
    pytest.importorskip(row.package or 'numpy')
    assert row.load().name == row.name
    assert row.precisions[0] == 'float32'
