"""The benchmarks measure times, which are not tested here; these are the parts around."""
import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / 'benchmarks'


@pytest.fixture(autouse=True)
def from_a_checkout(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_a_timed_engine_is_the_engine_and_adds_up_its_seconds():
    import images

    class Engine:
        name, half, scale = 'torch', True, 4

        def __call__(self, batch):
            return batch + 1

    timed = images.Timed(Engine())
    assert (timed.name, timed.half, timed.scale) == ('torch', True, 4)
    assert timed.seconds == 0
    assert timed(np.int64(2)) == 3
    assert timed.seconds > 0


def test_the_share_beside_the_network_is_measured_on_a_folder(tmp_path):
    import images
    for name in ('a.png', 'b.png'):
        (tmp_path / 'in').mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / 'in' / name), np.zeros((8, 8, 3), np.uint8))
    assert 0 < images.share_beside_network('RealESRGAN_x4plus', tmp_path / 'in', tmp_path / 'out') < 1
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a_out.png', 'b_out.png']


def test_rows_of_a_table_are_printed_and_kept_when_they_come(tmp_path, capsys):
    import measure
    table = measure.Table(tmp_path / 'rows.json')
    table.add([{'case': 'first', 'seconds': 1.2345}])
    assert capsys.readouterr().out.splitlines()[2:] == ['| case | seconds |', '|---|---|', '| first | 1.23 |']
    table.add([{'case': 'second', 'seconds': 2.0}])
    assert capsys.readouterr().out == '| second | 2 |\n'
    assert [row['case'] for row in json.loads((tmp_path / 'rows.json').read_text())['rows']] == ['first', 'second']


def test_rows_with_other_columns_begin_another_table(tmp_path, capsys):
    import measure
    table = measure.Table(None)
    table.add([{'case': 'first'}])
    capsys.readouterr()
    table.add([{'what': 'second'}])
    assert capsys.readouterr().out == '\n| what |\n|---|\n| second |\n'


def test_the_machine_is_named_with_the_features_that_an_engine_may_use(monkeypatch):
    import measure

    from realesrgan.engines import cpu
    monkeypatch.setattr(cpu, 'list_cpu_features', lambda: frozenset(['sse2', 'fma', 'avx2', 'avx512f', 'amx_bf16']))
    monkeypatch.setattr(cpu, 'measure_l2_cache', lambda: 1280 << 10)
    assert ' cores, amx_bf16 avx512f avx2 fma, 1280 KiB of L2 a core; Python 3.' in measure.machine()


def test_functions_take_turns_after_a_round_that_is_not_counted():
    import measure
    calls = []
    seconds = measure.take_turns({'a': lambda: calls.append('a'), 'b': lambda: calls.append('b')}, runs=2)
    assert calls == ['a', 'b'] * 3
    assert {name: len(values) for name, values in seconds.items()} == {'a': 2, 'b': 2}


def test_rates_are_compared_round_by_round():
    import measure
    assert measure.times_faster([1, 10, 2], [3, 20, 8]) == 3  # 3, 2 and 4; the medians alone would give 4


def test_a_process_is_measured_with_its_output_and_its_memory():
    import measure
    code = 'data = bytearray(200 << 20); data[::4096] = bytes([1]) * len(data[::4096]); print("[INFO] engine: x, y")'
    ended = measure.run_process([sys.executable, '-c', code])
    assert ended.output == '[INFO] engine: x, y\n'
    assert ended.engine == 'x, y'
    assert 200 < ended.peak_mib < 400
    assert measure.run_process([sys.executable, '-c', 'pass']).peak_mib < 100  # not that of the process that asks
    assert ended.seconds > 0


def test_a_process_that_fails_ends_the_benchmark_with_what_it_said():
    import measure
    with pytest.raises(SystemExit, match='(?s)failed:.*no such thing'):
        measure.run_process([sys.executable, '-c', 'raise SystemExit("no such thing")'])


def test_a_case_is_a_model_and_a_size():
    from cpu_engines import Case
    case = Case.parse('RealESRGAN_x4plus:640x448')
    assert (case.model, case.width, case.height) == ('RealESRGAN_x4plus', 640, 448)
    assert case.load_picture().shape == (448, 640, 3)
    for text in ('RealESRGAN_x4plus', 'RealESRGAN_x4plus:640', 'RealESRGAN_x4plus:0x1', 'x5plus:640x448'):
        with pytest.raises(argparse.ArgumentTypeError, match='is not MODEL:WIDTHxHEIGHT'):
            Case.parse(text)


def test_work_is_counted_as_direct_convolutions():
    from cpu_engines import count_flop

    from realesrgan.archs.loaded import LoadedNetwork
    from realesrgan.archs.rrdbnet import RRDBNetConfig
    from realesrgan.archs.srvgg import SRVGGNetCompactConfig
    shape = SRVGGNetCompactConfig(4, 64, 16)
    arrays = {name: np.zeros(size, np.float32) for name, size in shape.parameter_shapes().items()}
    direct = 18 * (3 * 64 + 16 * 64 * 64 + 64 * 48)
    assert count_flop(LoadedNetwork.from_arrays(shape, arrays)) == direct
    one, two = (RRDBNetConfig(scale, 8, 1, 4) for scale in (4, 2))
    counts = [count_flop(LoadedNetwork.from_arrays(shape, {})) for shape in (one, two)]
    folded = 18 * (3 * 4 - 3) * 8  # the first layer of x2 sees blocks of 2x2 pixels
    assert counts[1] == (counts[0] + folded) // 4


def test_results_are_compared_in_levels_and_in_decibels():
    from cpu_engines import compare
    reference = np.full((2, 2, 3), 100 / 255, np.float32)
    result = reference.copy()
    result[0, 0, 0] += 3 / 255
    assert compare(result, reference)[0] == 3
    assert compare(result, reference)[1] == pytest.approx(-10 * np.log10((3 / 255) ** 2 / 12), abs=1e-3)
    assert compare(reference, reference) == (0, 200)


def test_rows_of_engines_are_relative_to_what_was_run():
    from cpu_engines import OPENVINO, ORIGINAL, Case, list_rows
    case = Case('RealESRGAN_x4plus', 1000, 500)
    rows = list_rows(case, 4000, {ORIGINAL: 8.0, OPENVINO: 4.0, 'winograd': 2.0}, {'winograd': (1, 70.0)})
    assert rows[2] == {'model': 'RealESRGAN_x4plus', 'size': '1000x500', 'engine': 'winograd', 'megapixels/s': 0.25,
                       'times original': 4, 'times OpenVINO float32': 2, 'GFLOP/s': 1,
                       'largest difference (of 255)': 1, 'PSNR (dB)': 70}
    assert list_rows(case, 4000, {'winograd': 2.0}, {})[0]['times original'] == ''


def test_every_engine_is_within_a_level_of_pytorch_in_single_precision(best_kernel):
    from cpu_engines import ORIGINAL, Case, time_case
    rows = time_case(Case('realesr-animevideov3', 20, 12), ('original', 'winograd', 'openvino', 'torch'), 1, 1,
                     fp16=False)
    engines = [row['engine'] for row in rows]
    assert engines[0] == ORIGINAL and len(engines) == len(set(engines))
    single = [row for row in rows[1:] if 'float32' in row['engine']]
    assert {row['engine'].split(',')[0] for row in single} == {'winograd', 'openvino', 'torch'}
    assert all(row['largest difference (of 255)'] <= 1 and row['PSNR (dB)'] > 90 for row in single)


def test_a_kernel_is_timed_for_caches_of_several_sizes(best_kernel):
    import cache_sizes
    rows = cache_sizes.time_case(cache_sizes.Case('realesr-animevideov3', 20, 12), best_kernel, [256, 2048], 1, 1)
    assert [row['sized for (KiB)'] for row in rows] == [256, 2048]
    assert max(row['of the best'] for row in rows) == 1


def test_the_loop_of_the_guide_starts_a_process_for_each_picture(tmp_path):
    import images
    folder = tmp_path / 'two words'
    folder.mkdir()
    for name in ('a b.png', 'c.png'):
        (folder / name).touch()
    code = 'import sys; print(sys.argv[1])'
    output = images.measure.run_process(images.loop([sys.executable, '-c', code, str(folder)], folder)).output
    assert output.splitlines() == [str(folder / 'a b.png'), str(folder / 'c.png')]


def test_scripts_of_two_checkouts_get_the_same_options(tmp_path):
    import images
    case = images.Case('{count} of {size}', 'realesr-animevideov3', (8, 6), 2)
    case.write_pictures(tmp_path / 'in')
    assert str(case) == '2 of 8x6'
    assert [cv2.imread(str(path)).shape for path in (tmp_path / 'in').iterdir()] == [(6, 8, 3)] * 2
    commands = images.list_commands(case, tmp_path / 'in', tmp_path, tmp_path / 'checkout', with_bare=True)
    assert list(commands) == [images.BARE, images.OTHER, images.OURS]
    ours, other = commands[images.OURS], commands[images.OTHER]
    assert [a for a, b in zip(ours, other, strict=True) if a != b] == [ours[1], ours[-1]]  # script and results
    assert other[1] == str(tmp_path / 'checkout' / 'inference_realesrgan.py')
    assert list(images.list_commands(case, tmp_path, tmp_path, None, with_bare=False)) == [images.OURS]


def test_commands_are_compared_in_pairs_and_name_their_engine(monkeypatch):
    import images
    ended = iter([(9.0, ''), (9.0, ''), (4.0, 'engine: old'), (2.0, 'engine: new'), (12.0, 'engine: old'),
                  (3.0, 'engine: new')])
    monkeypatch.setattr(images.measure, 'run_process', lambda command: images.measure.Finished(
        (now := next(ended))[0], 100, now[1]))
    rows = images.compared('title', {images.OTHER: ['a'], images.OURS: ['b']}, runs=2)
    assert rows == [
        {'case': 'title', 'what': 'other', 'engine': 'old', 'seconds': 8, 'times other': 1, 'peak MiB': 100},
        {'case': 'title', 'what': 'ours', 'engine': 'new', 'seconds': 2.5, 'times other': 3, 'peak MiB': 100}]


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    import measure
    with pytest.raises(argparse.ArgumentTypeError, match='holds no inference_realesrgan.py'):
        measure.check_checkout(str(tmp_path))
    assert measure.check_checkout(str(measure.PROJECT)) == measure.PROJECT


def test_the_work_of_several_callers_is_done_once(monkeypatch):
    import two_callers
    seen = []

    class Upsampler:
        def enhance(self, picture):
            seen.append(int(picture))

    two_callers.call_in_threads(Upsampler(), np.int64(5), 3, 2)
    assert seen == [5, 5, 5]


def test_the_plot_has_a_bar_for_each_engine_and_size(tmp_path):
    pytest.importorskip('matplotlib')
    import plot
    rows = [{'model': 'x4plus', 'size': '8x8', 'engine': engine, 'megapixels/s': rate}
            for engine, rate in (('winograd, cpu, float32, avx2', 2.5), ('openvino, cpu, float32', 1.0))]
    rows.append({'model': 'matrix product', 'size': '4096', 'engine': 'torch, float32', 'megapixels/s': ''})
    (tmp_path / 'rows.json').write_text(json.dumps({'machine': '', 'rows': rows}))
    groups = plot.read_groups(tmp_path / 'rows.json')
    assert groups == {'x4plus, 8x8': {'winograd, cpu, float32, avx2': 2.5, 'openvino, cpu, float32': 1.0}}
    plot.draw({'here': groups, 'there': groups}, tmp_path / 'plot.svg')
    text = (tmp_path / 'plot.svg').read_text()
    assert text.startswith('<?xml')
    assert text.count(f'fill: {plot.OURS}') == text.count(f'fill: {plot.OTHERS}') == 2
    assert plot.shorten('winograd, cpu, float32, avx2') == 'winograd, float32, avx2'


def test_a_round_of_the_soak_counts_what_it_did_and_what_it_lost(tmp_path, capfd):
    import soak
    # Two pictures, whose weights are downloaded; the process is killed meanwhile.
    assert soak.main(['--seed', '1', '--round', '635', '--kills', '1', '--folder', str(tmp_path)]) == 0
    rows = [line.strip('| ').split(' | ') for line in capfd.readouterr().out.splitlines() if line.startswith('|')]
    counts = {row[0]: row[1] for row in rows if len(row) == 2}
    expected = {'rounds': 1, 'pictures': 2, 'clips': 0, 'runs': 3, 'kills': 1, 'kills that came too late': 0,
                'downloads cut': 1, 'damaged parts': 0, 'reruns': 1, 'mismatches': 0, 'leftovers': 0, 'tracebacks': 0,
                'strange ends': 0, 'lost parts': 0, 'failures of the library': 0}
    assert {name: int(counts[name]) for name in expected} == expected
    assert rows[-1] == ['SIGKILL', 'main', 'downloading', '1']
    assert sorted(path.name for path in tmp_path.iterdir()) == ['inputs']


def test_the_soak_notices_what_is_lost(tmp_path, capfd):
    from argparse import Namespace

    import soak_cases
    from soak_rounds import Round, Tally
    tally = Tally()
    with soak_cases.Server() as server:
        (tmp_path / 'inputs').mkdir()
        soak = Round(635, Namespace(seed=1, folder=tmp_path, kills=1, damage=1), server, tally, ['auto'], {})
        out = tmp_path / 'round 635' / 'out'
        (out / 'a_parts').mkdir(parents=True)
        (out.parent / 'tmp').mkdir()
        (out / 'b.png').write_bytes(b'other')
        (out / 'a_parts' / '00000000.mp4').write_bytes(b'part')
        (out / 'a_parts' / '00000000.json').write_text(json.dumps({'bytes': 4, 'sha256': 'x'}))
        soak._compare({'a.png': 'one', 'b.png': 'two'})
        soak._check_run(1, 'Traceback (most recent call last)', 0)
        soak._check_run(0, 'reusing 1 part of an earlier run', 2)
    assert tally.lost == {'mismatches': 2, 'leftovers': 3, 'tracebacks': 1, 'lost parts': 1}
    assert 'again: python benchmarks/soak.py --seed 1 --round 635' in capfd.readouterr().out
