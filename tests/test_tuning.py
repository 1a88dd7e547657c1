"""The profile of a machine: what is measured, what is kept, and who reads it. Clocks and engines are fakes."""
from __future__ import annotations

import json
import logging
from functools import partial

import numpy as np
import pytest

import inference_realesrgan
import inference_realesrgan_video
from realesrgan import profile, tuning
from realesrgan.archs.loaded import LoadedNetwork
from realesrgan.archs.srvgg import SRVGGNetCompactConfig
from realesrgan.engines import devices, memory
from realesrgan.engines.devices import CPU, Device
from realesrgan.enhancers import build_enhancer, count_workers
from realesrgan.errors import UsageError
from realesrgan.files import find_user_folder
from realesrgan.models import MODELS
from realesrgan.options import PictureOptions, VideoOptions
from realesrgan.pool.pool import Place
from realesrgan.profile import MARGIN, Choice, find_choice
from realesrgan.tuning import choose, race
from realesrgan.upscaling.planner import TilePlanner
from tests.support.clips import save_network

SMALL = SRVGGNetCompactConfig(num_feat=8, num_conv=2)
MODEL = 'realesr-animevideov3'
CHOICE = Choice('torch', 'float32', False, 0, 2, 1e6, {'photo': 3, '720p': 2, '1080p': 1})


class Clock:
    """Seconds that pass only when an engine computes."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of configuration without a profile; nothing has been told yet."""
    monkeypatch.setenv(profile.FOLDER_VARIABLE, str(tmp_path / 'config'))
    profile._tell.cache_clear()
    profile.read_profile.cache_clear()
    return tmp_path / 'config'


@pytest.fixture
def write(folder):
    """Write a profile that has a choice for one network on the CPU; keywords replace its parts."""
    def write(choice=CHOICE, traits=SMALL, device=CPU, **changes):
        stored = {'models': [MODEL], 'half': choice._asdict(), 'float32': choice._asdict()}
        content = {'format': 1, 'measured': '2026-12-01 01:00', 'devices': {profile.name_device(device): {
            'versions': profile.list_versions(device), 'networks': {repr(traits): stored}}}} | changes
        folder.mkdir(exist_ok=True)
        (folder / 'profile.json').write_text(json.dumps(content))
        profile.read_profile.cache_clear()
    return write


@pytest.fixture
def measure(monkeypatch):
    """Measure a network with engines of given speeds, in pixels a second; one that is called takes its time."""
    def measure(speeds, before=None, seconds=100.0, workers=None, small_side=1.0):
        clock = Clock()

        class Fake:
            def __init__(self, key):
                self.name, self.half, self.scale, self._speed = key[0], key[1] != 'float32', 4, speeds[key]

            def __call__(self, batch):
                slower = small_side if batch.shape[1] < 512 else 1.0
                clock.now += batch.size / 3 / self._speed * slower

            def count_bytes(self, height, width):
                return 10 * height * width

            def release(self):
                pass

        keys = {(name, half): (name, precision) for (name, precision), half in VARIANTS.items()}
        monkeypatch.setattr(tuning, 'list_variants', lambda *_: {key: VARIANTS[key] for key in speeds})
        network = LoadedNetwork(SMALL, {})
        return tuning.measure_network(
            network, CPU, seconds, before or {}, make=lambda *_, half, name: Fake(keys[name, half]), clock=clock,
            measure_workers=lambda _: workers or {1: 5.0}), clock.now
    return measure


VARIANTS = {('winograd', 'int16'): True, ('winograd', 'float32'): False, ('openvino', 'float32'): True}


# ---- measuring ----

def test_a_choice_replaces_the_usual_one_only_if_it_is_clearly_faster():
    assert choose({'usual': 1.0, 'other': MARGIN}, 'usual') == 'usual'
    assert choose({'usual': 1.0, 'other': MARGIN + 0.01, 'slow': 0.1}, 'usual') == 'other'


def test_a_race_takes_turns_and_leaves_out_the_hopeless():
    clock, calls = Clock(), []

    def run(name, seconds):
        calls.append(name)
        clock.now += seconds
    best = race({'a': partial(run, 'a', 1), 'b': partial(run, 'b', 1.5), 'c': partial(run, 'c', 7)}, 16.5, clock)
    assert best == {'a': 1, 'b': 1.5, 'c': 7}
    assert ''.join(calls) == 'abcabc'
    calls.clear()
    race({'a': partial(run, 'a', 1), 'b': partial(run, 'b', 1.5), 'c': partial(run, 'c', 7)}, 21.5, clock)
    assert ''.join(calls) == 'abcabcab'


def test_a_first_call_that_takes_far_too_long_is_the_only_one():
    clock, calls = Clock(), []

    def run(name, seconds):
        calls.append(name)
        clock.now += seconds
    assert race({'a': partial(run, 'a', 1), 'b': partial(run, 'b', 9)}, 20, clock) == {'a': 1, 'b': 9}
    assert calls.count('b') == 1


def test_small_pictures_alone_convince_of_much_faster_engines_only(measure):
    speeds = {('winograd', 'int16'): 1e3, ('openvino', 'float32'): 1.4e3}
    assert measure(speeds, seconds=1.0)[0]['half'].engine == 'winograd'
    assert measure(speeds | {('openvino', 'float32'): 1.6e3}, seconds=1.0)[0]['half'].engine == 'openvino'


def test_the_fastest_engine_is_chosen_by_precision(measure):
    found, seconds = measure({('winograd', 'int16'): 1e6, ('winograd', 'float32'): 8e5, ('openvino', 'float32'): 9e5})
    assert (found['half'].engine, found['half'].precision, found['half'].half) == ('winograd', 'int16', True)
    assert (found['float32'].engine, found['float32'].half) == ('openvino', True)
    assert found['half'].speed == pytest.approx(1e6)
    assert found['half'].memory['photo'] == 12_000_000 * (10 + 48)
    assert seconds < 100
    sides = {(row['side'], row['batch']) for row in found['measures']}
    assert sides >= {(64, 1), (64, 4), (128, 1), (256, 1), (512, 1)}


def test_two_runs_agree_unless_something_is_clearly_faster(measure):
    close = {('winograd', 'int16'): 1e6, ('openvino', 'float32'): 1.04e6}
    first, _ = measure(close)
    assert first['half'].engine == 'winograd'
    faster, _ = measure(close | {('openvino', 'float32'): 1.2e6})
    assert faster['half'].engine == 'openvino'
    again, _ = measure(close | {('openvino', 'float32'): 0.97e6}, before=faster)
    assert again['half'].engine == 'openvino'
    back, _ = measure(close | {('openvino', 'float32'): 0.9e6}, before=faster)
    assert back['half'].engine == 'winograd'


def test_workers_must_be_worth_their_memory(measure):
    speeds = {('winograd', 'int16'): 1e6, ('winograd', 'float32'): 1e6}
    assert measure(speeds, workers={1: 5.0, 2: 5.5})[0]['half'].workers == 1
    found = measure(speeds, workers={1: 5.0, 2: 6.0, 4: 6.1})[0]
    assert (found['half'].workers, found['half'].speed) == (4, pytest.approx(1e6 * 6.1 / 5))
    assert measure(speeds, workers={1: 5.0, 2: 5.5}, before=found)[0]['half'].workers == 1
    assert found['workers'] == {'1': 5.0, '2': 6.0, '4': 6.1}


def test_tiles_are_chosen_only_where_large_pictures_are_slow(measure):
    speeds = {('winograd', 'float32'): 1e6}
    assert measure(speeds)[0]['half'].window == 0
    assert measure(speeds, small_side=0.5)[0]['half'].window == 256  # half of the time, and a sixth is computed twice


def test_a_budget_that_is_too_small_measures_the_least(measure):
    found, seconds = measure(dict.fromkeys(VARIANTS, 1000.0), seconds=1.0)
    assert {row['side'] for row in found['measures']} == {64, 128}
    assert seconds < 2 * (3 + 1 + 4) * 128 ** 2 / 1e3


def test_less_exact_engines_are_no_choice(monkeypatch):
    monkeypatch.setattr(devices, 'has_vnni', lambda: True)
    monkeypatch.setattr(devices, 'has_cpu_bfloat16', lambda: True)
    monkeypatch.setattr('realesrgan.engines.choice.explain_refusal', lambda *_: None)
    found = tuning.list_variants(LoadedNetwork(SMALL, {}), CPU)
    assert list(found.items())[:2] == [(('winograd', 'int16'), True), (('winograd', 'float32'), False)]
    assert found['openvino', 'float32'] is found['torch', 'float32'] is False
    assert {precision for _, precision in found} == {'int16', 'float32'}  # bfloat16 is faster, and less exact


def test_noise_of_a_batch_is_the_same_each_time():
    assert tuning.make_batch(8, 2).shape == (2, 8, 8, 3)
    assert np.array_equal(tuning.make_batch(8), tuning.make_batch(8))


# ---- the file ----

def test_what_is_measured_is_kept_and_read(folder, monkeypatch, capsys):
    monkeypatch.setattr(tuning, 'list_installed', lambda: [MODEL])
    monkeypatch.setattr(tuning, 'measure_network', lambda *_, **__: {
        'half': CHOICE, 'float32': CHOICE, 'measures': [], 'workers': {}})
    monkeypatch.setattr('realesrgan.weights.loading.load_network', lambda *_, **__: None)
    monkeypatch.setattr('realesrgan.engines.choice.list_gpus', list)
    assert tuning.main([]) == 0
    heading, row, where = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ['MODEL', 'DEVICE', 'FASTEST']
    assert row.split('  ')[0] == MODEL
    assert '0:00:12, 0.0 GiB' in row
    assert where.startswith(f'{folder / "profile.json"}, ')
    network = MODELS[MODEL].network
    assert find_choice(network, CPU) == find_choice(network, CPU, fp32=True) == CHOICE
    assert find_choice(SMALL, CPU) is None
    monkeypatch.setattr(tuning, 'list_installed', list)
    with pytest.raises(SystemExit, match='2'):
        tuning.main([])


@pytest.mark.parametrize('arguments', [['nothing'], ['--seconds', '0'], ['--seconds', 'nan']])
def test_usage(arguments, monkeypatch):
    monkeypatch.setattr(tuning, 'list_installed', lambda: [MODEL])
    with pytest.raises(SystemExit, match='2'):
        tuning.main(arguments)


@pytest.mark.parametrize('content', [
    b'', b'{', b'\xff\xfe', b'[]', b'{"format": 2}', b'{"format": 1, "measured": "x", "devices": {}}', b'[' * 100_000,
    b'{"format": 1, "measured": "2026-12-01", "devices": {"a": {"versions": {}, "networks": {"b": {"models": [], '
    b'"half": {"engine": "rm"}}}}}}'])
def test_a_broken_profile_is_told_in_one_line_and_ignored(folder, content, caplog):
    folder.mkdir()
    (folder / 'profile.json').write_bytes(content)
    assert [find_choice(SMALL, CPU), find_choice(SMALL, CPU, fp32=True)] == [None, None]
    record, = caplog.records
    assert (record.levelno, '\n' in record.getMessage()) == (logging.WARNING, False)
    assert record.getMessage().startswith(f'{folder / "profile.json"}: ignored, damaged (')
    assert tuning._read_json(folder / 'profile.json') == {}
    assert profile.describe_profile() == f'no profile: {folder / "profile.json"} is damaged'


@pytest.mark.parametrize('changes', [
    {'engine': 'fast'}, {'precision': 'int4'}, {'window': -1}, {'window': 1.5}, {'workers': 0}, {'workers': 1000},
    {'speed': 0}, {'speed': float('nan')}, {'speed': 'x'}, {'half': 1}, {'memory': {}}, {'memory': None}])
def test_each_value_is_checked(write, changes, caplog):
    write(CHOICE._replace(**changes))
    assert find_choice(SMALL, CPU) is None
    assert 'ignored, damaged' in caplog.text


def test_an_outdated_profile_is_told_in_one_line_and_ignored(write, monkeypatch, caplog, folder):
    write()
    monkeypatch.setattr(profile, 'list_versions', lambda device: {'realesrgan': '9', 'kernel': 'x'})
    assert find_choice(SMALL, CPU) is find_choice(SMALL, CPU) is None
    line, = [record.getMessage() for record in caplog.records]
    assert line.startswith(f'{folder / "profile.json"}: ignored, measured with ')
    assert 'now 9' in line
    assert line.endswith('python -m realesrgan.tuning measures anew')


def test_the_device_and_the_driver_are_the_keys(write, monkeypatch, caplog):
    write()
    monkeypatch.setattr('realesrgan.engines.cpu.processor_name', lambda: 'another')
    assert find_choice(SMALL, CPU) is None
    assert caplog.records == []
    assert {'realesrgan', 'kernel'} <= set(profile.list_versions(CPU))


def test_it_is_in_the_folder_of_the_user(monkeypatch):
    monkeypatch.delenv(profile.FOLDER_VARIABLE)
    assert profile.get_profile_path() == find_user_folder('config') / 'profile.json'


# ---- auto choices ----

@pytest.fixture
def options(tmp_path):
    return PictureOptions(model_path=str(save_network(tmp_path / 'tiny.pth')))


def test_an_enhancer_is_what_the_profile_says(write, options, folder):
    usual = build_enhancer(options, Place())
    found = usual._network.traits
    write(CHOICE._replace(window=64), found)
    assert build_enhancer(options, Place()).engine.description.startswith('torch, cpu, float32')
    assert build_enhancer(options, Place())._planner._largest_window == 64
    asked = build_enhancer(options.replace(engine='openvino'), Place())
    assert asked.engine.name == 'openvino'
    assert asked._planner._largest_window == 0
    (folder / 'profile.json').write_text('{')
    assert build_enhancer(options, Place()).engine.description == usual.engine.description


def test_the_cpu_is_taken_where_a_gpu_is_slower(monkeypatch):
    speeds = {'cpu': 2.0, 'vulkan': 1.0}
    monkeypatch.setattr(profile, 'find_choice', lambda traits, device, fp32: (
        CHOICE._replace(speed=speeds[device.type]) if speeds.get(device.type) else None))
    gpu = Device('vulkan', 0)
    assert profile.settle_device(SMALL, gpu, fp32=False) == CPU
    speeds['cpu'] = 1.04
    assert profile.settle_device(SMALL, gpu, fp32=False) == gpu
    speeds['cpu'] = 0
    assert profile.settle_device(SMALL, gpu, fp32=False) == gpu
    assert profile.settle_device(SMALL, CPU, fp32=False) == CPU


def test_workers_are_counted_by_the_profile_else_by_memory(write, options, monkeypatch, folder):
    auto = options.replace(num_process_per_gpu='auto')
    assert (count_workers(options), count_workers(auto)) == (1, 1)
    write(traits=build_enhancer(options, Place())._network.traits)
    assert count_workers(auto) == 2
    gpu = Device('cuda', 0)
    monkeypatch.setattr('realesrgan.engines.cpu.count_cores', lambda: 6)
    monkeypatch.setattr(profile, 'find_choice', lambda *_, **__: None)
    for gib, expected in ((1, 1), (4, 2), (100, 3)):
        monkeypatch.setattr(memory, 'measure_usable_memory', lambda device, gib=gib: gib << 30)
        assert profile.count_workers(None, gpu, fp32=False) == profile.count_workers(SMALL, gpu, fp32=False) == expected


def test_auto_workers_are_an_option_of_both_scripts(run_script, monkeypatch):
    for script, kind in ((inference_realesrgan, PictureOptions), (inference_realesrgan_video, VideoOptions)):
        assert script.build_parser().parse_args(['--num_process_per_gpu', 'auto']).num_process_per_gpu == 'auto'
        assert kind(num_process_per_gpu='3').num_process_per_gpu == 3
        with pytest.raises(UsageError, match='with --cluster give a number'):
            kind(num_process_per_gpu='auto', cluster='local')
        status, _, err = run_script(script, '--num_process_per_gpu', 'many')
        assert (status, "'many' is not a whole number" in err) == (2, True)


def test_the_largest_window_limits_automatic_tiles_only():
    class Engine:
        name, half, together, in_flight, most_pixels = 'winograd', False, 1, 0, None

        def count_bytes(self, height, width):
            return height * width
    planner = TilePlanner(SMALL, Engine(), CPU, largest_window=100, max_memory=1 << 30)
    tiles = planner.plan(300, 300, 0).tiles
    assert max(tile.rows.padded_stop - tile.rows.padded_start for tile in tiles) <= 100
    assert len(tiles) > 4
    assert len(planner.plan(90, 90, 0).tiles) == 1
    planner.tile = 200
    assert len(planner.plan(300, 300, 0).tiles) == 4


def test_list_devices_shows_it(write, run_script):
    _, out, _ = run_script(inference_realesrgan, '--list_devices')
    assert out.splitlines()[-1].startswith('no profile of this machine: python -m realesrgan.tuning')
    write()
    _, out, _ = run_script(inference_realesrgan, '--list_devices')
    assert out.splitlines()[-1].endswith(f': {MODEL}: torch, float32, whole pictures, 2 workers, 1 megapixels/s')


def test_on_a_few_cores_no_second_worker_is_tried(monkeypatch):
    monkeypatch.setattr('realesrgan.engines.cpu.count_cores', lambda: 7)
    assert tuning.measure_workers(MODEL, CPU, CHOICE) == {}
