"""Reading, computing and writing at the same time: order, errors of each, and how much waits between them."""
from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest

from realesrgan.log import about, report_warnings
from realesrgan.pipeline import read_ahead, write_behind


def run(source, work=lambda item: item, write=lambda item: None, stop=lambda: None, ahead=2, behind=2, flush=False):
    with read_ahead(source, ahead, stop) as items, write_behind(write, behind, stop) as written:
        for item in items:
            written.put(work(item))
            if flush:
                written.flush()


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert {thread.name for thread in threading.enumerate()}.isdisjoint(('reader', 'writer'))


def test_results_are_written_in_order():
    written = []
    run(range(100), lambda item: item * 2, written.append)
    assert written == list(range(0, 200, 2))


def test_reading_and_writing_have_threads_of_their_own():
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


def test_writing_falls_behind_by_what_it_may():
    put, written, release = [], [], threading.Event()

    def write(item):
        assert release.wait(30)
        written.append(item)

    def work(item):
        put.append(item)
        if item == 3:  # one is being written, two wait, and this one waits for room
            threading.Timer(0.05, release.set).start()
        return item
    run(range(8), work, write)
    assert (put, written) == (list(range(8)),) * 2


def test_a_flushed_result_is_written_before_the_next_item_is_worked_on():
    log = []
    run(range(4), lambda item: log.append(('work', item)) or item, lambda item: log.append(('write', item)), flush=True)
    assert log == [(step, item) for item in range(4) for step in ('work', 'write')]


def test_what_was_written_does_not_stay_in_memory():
    alive = []

    def work(item):
        result = np.zeros(4)
        alive.append(weakref.ref(result))
        return result
    with read_ahead(range(3), 2) as items, write_behind(lambda item: None, 2) as written:
        for item in items:
            written.put(work(item))
            written.flush()
            assert alive[-1]() is None


@pytest.mark.parametrize('failing', ['read', 'work', 'write'])
@pytest.mark.parametrize('error', [ValueError('bad'), KeyboardInterrupt()])
def test_an_error_of_any_of_the_three_is_raised_and_ends_the_others(failing, error):
    written = []

    def fail_at(step, item):
        if step == failing and item == 3:
            raise error
        return item

    def source():
        for item in range(100):
            yield fail_at('read', item)
    with pytest.raises(type(error)) as raised:
        run(source(), lambda item: fail_at('work', item), lambda item: written.append(fail_at('write', item)))
    assert raised.value is error
    assert written == list(range(len(written)))
    assert len(written) <= 3


@pytest.mark.parametrize('flush', [False, True])
def test_an_error_while_the_last_result_is_written_is_raised(flush):
    with pytest.raises(ValueError, match='bad'):
        run([1], write=lambda item: int('bad'), flush=flush)


@pytest.fixture
def blocked():
    """A source that waits after its first item until the event beside it is set."""
    released = threading.Event()

    def source():
        yield 1
        released.wait(60)
    return source(), released


def test_a_source_that_blocks_is_stopped(blocked):
    source, released = blocked
    with pytest.raises(ValueError, match='bad'):
        run(source, lambda item: int('bad'), stop=released.set)
    assert released.is_set()


def test_who_leaves_early_without_an_error_stops_the_source(blocked):
    source, released = blocked
    with read_ahead(source, 1, released.set) as items:
        assert next(items) == 1
    assert released.is_set()


def test_a_write_that_blocks_is_stopped():
    released, begun = threading.Event(), threading.Event()

    def write(item):
        begun.set()
        released.wait(60)
    with pytest.raises(ValueError, match='bad'), write_behind(write, 2, released.set) as written:
        written.put(1)
        assert begun.wait(30)
        int('bad')


def test_what_can_not_be_stopped_is_written_all_the_same():
    written, release = [], threading.Event()

    def write(item):
        assert release.wait(30)
        written.append(item)
    with pytest.raises(KeyboardInterrupt), write_behind(write, 2) as behind:
        for item in range(3):
            behind.put(item)
        release.set()
        raise KeyboardInterrupt
    assert written == [0, 1, 2]


def test_a_thread_that_can_not_be_started_ends_the_run(monkeypatch, blocked):
    source, released = blocked

    def fail_at_the_writer(thread, start=threading.Thread.start):
        if thread.name == 'writer':
            raise RuntimeError("can't start new thread")
        start(thread)
    monkeypatch.setattr(threading.Thread, 'start', fail_at_the_writer)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run(source, stop=released.set)


def test_log_lines_of_all_three_belong_to_the_run():
    heard = []

    def warn(item):
        logging.getLogger('realesrgan.test').warning('%s', item)
        return item

    def source():
        yield warn('read')
    with about('film.mp4'), report_warnings(lambda *line: heard.append(line)):
        run(source(), lambda item: warn('work'), lambda item: warn('write'))
    assert heard == [('film.mp4', 'read'), ('film.mp4', 'work'), ('film.mp4', 'write')]


def test_a_check_ends_the_wait_for_an_item_that_does_not_come():
    release = threading.Event()

    def source():
        yield 1
        release.wait()

    def check():
        raise InterruptedError
    with pytest.raises(InterruptedError), read_ahead(source(), 1, release.set, check) as items:
        for item in items:
            assert item == 1


@pytest.mark.skipif(os.name == 'nt', reason='Windows has other signals')
def test_ctrl_c_while_the_last_item_is_written_waits_for_the_end_of_that():
    stopped, written = threading.Event(), []

    def write(item):
        time.sleep(0.2)  # until the context waits for this
        # Not a real signal: Ray, which may have run in this process, leaves an alternate stack for those that is gone.
        _thread.interrupt_main()
        assert stopped.wait(30)
        time.sleep(0.2)
        written.append(item)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), write_behind(write, 1, stopped.set) as behind:
            behind.put(1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert written == [1]
