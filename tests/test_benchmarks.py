"""The benchmarks measure times, which are not tested here; these are the parts around."""
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / 'benchmarks'


@pytest.fixture(autouse=True)
def from_a_checkout(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)


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


def test_every_engine_is_within_a_level_of_pytorch_in_single_precision(best_kernel):
    from cpu_engines import ORIGINAL, Case, time_case
    rows = time_case(Case('realesr-animevideov3', 20, 12), ('original', 'winograd', 'openvino', 'torch'), 1, 1,
                     fp16=False)
    engines = [row['engine'] for row in rows]
    assert engines[0] == ORIGINAL and len(engines) == len(set(engines))
    single = [row for row in rows[1:] if 'float32' in row['engine']]
    assert {row['engine'].split(',')[0] for row in single} == {'winograd', 'openvino', 'torch'}
    assert all(row['largest difference (of 255)'] <= 1 and row['PSNR (dB)'] > 90 for row in single)


def test_the_benchmark_of_gpus_measures_a_cpu(tmp_path, capsys, monkeypatch):
    """All its sections but pictures, in small sizes; a row that fails says why."""
    import gpu
    make_engine = gpu.make_engine
    file, model = tmp_path / 'gpu.json', 'realesr-animevideov3'

    def fail_once(network, device, **options):
        monkeypatch.setattr(gpu, 'make_engine', make_engine)
        raise RuntimeError('no kernel image')
    monkeypatch.setattr(gpu, 'make_engine', fail_once)
    gpu.main(['--device', 'cpu', '--small', '--models', model, '--only', 'exactness', 'networks', 'videos', 'golden',
              '--json', str(file)])
    rows = json.loads(file.read_text())['rows']
    assert rows[0]['device'].startswith('cpu: ')
    exactness = [row for row in rows if 'PSNR (dB)' in row]
    assert [row['error'] for row in exactness] == ['RuntimeError: no kernel image', '', '']
    assert exactness[1]['PSNR (dB)'] > 90 and exactness[2]['PSNR (dB)'] > 45
    networks = [row for row in rows if 'way' in row]
    assert len(networks) == len({row['way'] for row in networks}) >= 9
    assert all(row['frames/s'] > 0 and not row['error'] for row in networks)
    videos = [row for row in rows if 'what' in row]
    assert len(videos) == 1 and all(row['per second, without'] > 0 and row['stages']['network'] > 0 for row in videos)
    golden = [row for row in rows if 'cases' in row]
    assert [(row['cases'], row['error']) for row in golden] == [(3, '')] * 2
    assert (golden[0]['the same'], golden[0]['differ']) == (3, [])
    assert '| realesr-animevideov3 | 32x24 | ours, batches of four |' in capsys.readouterr().out


def test_a_round_of_the_soak_counts_what_it_did_and_what_it_lost(tmp_path, capfd):
    import soak
    # Two pictures, whose weights are downloaded; the process is killed meanwhile.
    assert soak.main(['--seed', '1', '--round', '8676', '--kills', '1', '--folder', str(tmp_path)]) == 0
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
