"""The benchmarks measure times, which are not tested here; these are the parts around."""
import json
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
    assert 0 < images.share_beside_network(tmp_path / 'in', tmp_path / 'out') < 1
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['a_out.png', 'b_out.png']


def test_rows_of_a_table_are_printed_and_kept_when_they_come(tmp_path, capsys):
    import measure
    table = measure.Table(tmp_path / 'rows.json')
    table.add([{'case': 'first', 'seconds': 1.2345}])
    assert capsys.readouterr().out.splitlines()[2:] == ['| case | seconds |', '|---|---|', '| first | 1.23 |']
    table.add([{'case': 'second', 'seconds': 2.0}])
    assert capsys.readouterr().out == '| second | 2 |\n'
    assert [row['case'] for row in json.loads((tmp_path / 'rows.json').read_text())['rows']] == ['first', 'second']
