"""Pieces of work that share a pool of processes."""
from __future__ import annotations

import logging
import threading
import time

import psutil
import pytest

from realesrgan.errors import Cancelled, RealESRGANError
from realesrgan.log import about, report_warnings
from realesrgan.workers.options import Place
from realesrgan.workers.process_pool import ProcessPool
from realesrgan.workers.sharing import run_sharing
from tests.support.pool_workers import Doubler, Raiser, Whereabouts

PLACES = [Place(0), Place(1)]


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    left = [child for child in psutil.Process().children() if 'resource_tracker' not in ' '.join(child.cmdline())]
    assert left == []
    assert [thread.name for thread in threading.enumerate() if thread.name == 'sharing'] == []


def ignore(_note):
    pass


def no_stop():
    pytest.fail('stopped')


def test_the_next_piece_begins_when_a_worker_would_be_idle():
    done = []

    def piece(name, tasks):
        def work():
            done.append(f'{name} begins')
            done.extend((name, place) for place, _ in pool.map_unordered(tasks, ignore))
            done.append(f'{name} ends')
        return work

    with ProcessPool(Whereabouts, PLACES) as pool:
        run_sharing([piece('a', [0.1, 0.1, 0.1, 0.1, 3]), piece('b', [0.1] * 3), piece('c', [0.1] * 3)], pool, no_stop)
    assert done.index('b begins') > [entry[0] for entry in done].index('a', 1)  # there were enough tasks at first
    assert done[-1] == 'a ends'
    assert done.index('b ends') < done.index('c ends') < done.index('a ends')
    assert sum(entry[0] == 'a' for entry in done if isinstance(entry, tuple)) == 5


def test_notes_and_warnings_reach_the_piece_that_they_are_of():
    heard = []

    def piece(name, number):
        def work():
            notes = []
            with about(name):
                assert list(pool.map_unordered([number], notes.append)) == [2 * number]
            assert notes == [('doubling', number)]
        return work

    with report_warnings(lambda source, line: heard.append((source, line.split(' on ')[0]))), \
            ProcessPool(Doubler, PLACES) as pool:
        run_sharing([piece(name, number) for number, name in enumerate('abcd')], pool, no_stop)
    assert sorted(heard) == [(name, f'{number} is doubled') for number, name in enumerate('abcd')]


def test_an_error_of_one_piece_is_none_of_another():
    caught, results = [], []

    def failing():
        with pytest.raises(RealESRGANError) as error:
            list(pool.map_unordered([RealESRGANError('bad'), *range(40)], ignore))
        caught.append(str(error.value))

    def working():
        results.extend(pool.map_unordered(range(100, 140), ignore))

    with ProcessPool(Raiser, PLACES) as pool:
        run_sharing([failing, working], pool, no_stop)
        assert caught == ['bad']
        assert sorted(results) == list(range(100, 140))


def test_what_a_piece_raises_ends_the_others():
    stopped, ended = threading.Event(), []

    def failing():
        next(pool.map_unordered([0.1], ignore))
        raise ValueError('no other would fare better')

    def waiting_for_workers():
        try:
            list(pool.map_unordered([60, 60], ignore))
        except Cancelled:
            ended.append('workers')
            raise

    with ProcessPool(Whereabouts, PLACES) as pool, pytest.raises(ValueError, match='^no other would fare better$'):
        run_sharing([failing, waiting_for_workers], pool, stopped.set)
    assert stopped.is_set()
    assert ended == ['workers']


def test_what_this_thread_raises_ends_all():
    stopped, ended = threading.Event(), []
    deadline = time.monotonic() + 1.5

    def interrupt():
        if time.monotonic() > deadline:
            raise KeyboardInterrupt

    def waiting_for_else():
        stopped.wait(30)
        ended.append('else')

    def waiting_for_workers():
        try:
            list(pool.map_unordered([60, 60], ignore))
        finally:
            ended.append('workers')

    with ProcessPool(Whereabouts, PLACES, interrupt) as pool, pytest.raises(KeyboardInterrupt):
        run_sharing([waiting_for_workers, waiting_for_else, no_stop], pool, stopped.set)
    assert sorted(ended) == ['else', 'workers']


def test_one_piece_begins_at_a_time_and_few_end_at_once():
    beginning, ending, most = [], [], []

    def piece():
        beginning.append(1)
        most.append((len(beginning), len(ending)))
        time.sleep(0.1)
        beginning.pop()
        list(pool.map_unordered([0], ignore))
        ending.append(1)
        most.append((len(beginning), len(ending)))
        time.sleep(1)
        ending.pop()

    with ProcessPool(Whereabouts, PLACES) as pool:
        run_sharing([piece] * 6, pool, no_stop)
    assert len(most) == 12
    assert max(begin for begin, _ in most) == 1
    # When a piece begins, one may be ending; so may soon the two that the workers work for, and the new one itself.
    assert 2 <= max(end for _, end in most) <= 4


def test_a_worker_that_dies_costs_its_own_piece_nothing(tmp_path, caplog):
    from tests.support.pool_workers import Mortal
    (tmp_path / 'deaths').write_text('1')
    results = []

    def piece(name):
        def work():
            with about(name):
                results.extend(pool.map_unordered([tmp_path] if name == 'a' else [], ignore))
        return work

    with caplog.at_level(logging.WARNING), ProcessPool(Mortal, PLACES) as pool:
        run_sharing([piece('a'), piece('b')], pool, no_stop)
    assert results == [2]
    [record] = caplog.records
    assert record.getMessage().endswith(f'{tmp_path} is tried again on GPU 0')
