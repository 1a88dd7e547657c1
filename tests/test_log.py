"""Log lines know the file they are about, and reach the run they belong to."""
from __future__ import annotations

import logging
import threading

from realesrgan.log import about, create_thread, prefix_subject, report_warnings

logger = logging.getLogger('realesrgan.test')


def record(message):
    return logging.LogRecord('realesrgan.test', logging.WARNING, __file__, 1, message, (), None)


def test_the_file_stands_in_front_once():
    with about('a.png'):
        assert prefix_subject(record('x'), 'is damaged') == 'a.png: is damaged'
        assert prefix_subject(record('x'), 'a.png: is damaged') == 'a.png: is damaged'
        assert prefix_subject(record('x'), 'a.pngs are many') == 'a.png: a.pngs are many'
        with about('b.png'):
            assert prefix_subject(record('x'), 'is damaged') == 'b.png: is damaged'
    assert prefix_subject(record('x'), 'is damaged') == 'is damaged'


def test_warnings_are_reported_and_news_are_not():
    seen = []
    logger.warning('before')
    with report_warnings(lambda *line: seen.append(line)), about('a.png'):
        logger.info('news')
        logger.warning('number %d', 7)
    logger.warning('after')
    assert seen == [('a.png', 'number 7')]


def test_runs_in_two_threads_report_their_own_warnings_only():
    seen = {'one': [], 'two': []}
    both = threading.Barrier(2)

    def run(name):
        with report_warnings(lambda _, message: seen[name].append(message)):
            both.wait(30)
            logger.warning('%s itself', name)
            thread = create_thread(lambda: logger.warning('%s in a thread', name), name)
            thread.start()
            thread.join()
            both.wait(30)
    threads = [threading.Thread(target=run, args=(name,)) for name in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {name: [f'{name} itself', f'{name} in a thread'] for name in seen}
