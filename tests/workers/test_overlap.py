"""Reading, computing and writing at the same time: order, errors of each, and how much waits between them."""
from __future__ import annotations

import logging
import threading

import pytest

from realesrgan.log import about, hear_warnings
from realesrgan.workers.overlap import run_overlapped


def run(source, work=lambda item: item, write=lambda item: None, abort=lambda: None, **options):
    run_overlapped(source, work, write, abort, **{'ahead': 2, 'behind': 2} | options)


def test_results_are_written_in_order():
    written = []
    run(range(100), lambda item: item * 2, written.append)
    assert written == list(range(0, 200, 2))


def test_the_three_run_in_threads_of_their_own_and_work_in_this_one():
    names = {}

    def source():
        names['read'] = threading.current_thread()
        yield 1
    run(source(), lambda item: names.setdefault('work', threading.current_thread()),
        lambda item: names.setdefault('write', threading.current_thread()))
    assert names['work'] is threading.current_thread()
    assert len(set(names.values())) == 3


def test_reading_goes_on_while_the_first_item_is_worked_on_but_not_for_ever():
    read = []
    arrived = threading.Event()

    def source():
        for item in range(20):
            read.append(item)
            if item == 3:  # one in work, two wait, one is read and has no room
                arrived.set()
            yield item

    def work(item):
        assert arrived.wait(30)
        if item == 0:
            assert len(read) <= 4
        return item
    run(source(), work)
    assert len(read) == 20


def test_a_large_result_is_written_before_the_next_item_is_worked_on():
    log = []
    run(range(4), lambda item: log.append(('work', item)) or item, lambda item: log.append(('write', item)),
        is_large=lambda item: True)
    assert log == [(step, item) for item in range(4) for step in ('work', 'write')]


@pytest.mark.parametrize('failing', ['read', 'work', 'write'])
@pytest.mark.parametrize('error', [ValueError('bad'), KeyboardInterrupt()])
def test_the_first_error_of_any_of_the_three_is_raised_and_the_others_are_told(failing, error):
    aborted = []

    def fail_at(step):
        def do(item=None):
            if step == failing:
                raise error
            return item
        return do

    def source():
        for item in range(100):
            fail_at('read')()
            yield item
    with pytest.raises(type(error)):
        run(source(), fail_at('work'), fail_at('write'), lambda: aborted.append(True))
    assert aborted == [True]
    assert {thread.name for thread in threading.enumerate()}.isdisjoint(('reader', 'writer'))


def test_a_source_that_blocks_is_aborted():
    released = threading.Event()

    def source():
        yield 1
        released.wait(60)

    def work(item):
        raise ValueError('bad')
    with pytest.raises(ValueError, match='bad'):
        run(source(), work, abort=released.set)
    assert released.is_set()


def test_a_thread_that_can_not_be_started_ends_the_run(monkeypatch):
    start, released = threading.Thread.start, threading.Event()

    def fail_at_the_writer(thread):
        if thread.name == 'writer':
            raise RuntimeError("can't start new thread")
        start(thread)

    def source():
        yield 1
        released.wait(60)
    monkeypatch.setattr(threading.Thread, 'start', fail_at_the_writer)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run(source(), abort=released.set)


def test_log_lines_of_all_three_belong_to_the_run():
    heard = []

    def warn(item):
        logging.getLogger('realesrgan.test').warning('%s', item)
        return item

    def source():
        yield warn('read')
    with about('film.mp4'), hear_warnings(lambda *line: heard.append(line)):
        run(source(), lambda item: warn('work'), lambda item: warn('write'))
    assert heard == [('film.mp4', 'read'), ('film.mp4', 'work'), ('film.mp4', 'write')]
