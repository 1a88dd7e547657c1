"""Fixtures that several test files share."""
from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support import clips
from tests.support.http_server import serve

# No test reads the profile of whoever runs the tests, nor a token for clusters.
os.environ['REALESRGAN_CONFIG'] = str(Path(__file__).with_name('no configuration'))
os.environ['RAY_AUTH_MODE'] = 'disabled'

# Test processes that run beside each other get one thread each. With more, PyTorch's threads wait for each other by
# spinning, and small convolutions take a hundred times as long.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ.setdefault('OMP_NUM_THREADS', '1')


def pytest_collection_modifyitems(items):
    """Put the tests on Ray clusters first: one cluster serves all in a row, and others run while they wait."""
    items.sort(key=lambda item: item.get_closest_marker('xdist_group') is None)


@pytest.fixture(autouse=True, scope='session')
def interruptible():
    """Let Ctrl-C interrupt tests and what they start, which it does not in the background jobs of many shells."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def plain_logger():
    """Give every test the package's logger as it is before a script has configured it."""
    logger = logging.getLogger('realesrgan')
    logger.handlers, logger.propagate = [], True
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope='session')
def networks(tmp_path_factory):
    """The paths of the weights of small networks; the plain one repeats every pixel, the others are named by scale."""
    folder = tmp_path_factory.mktemp('networks')
    return {'tiny': clips.save_network(folder / 'tiny.pth'),
            'plain': clips.save_network(folder / 'plain.pth', plain=True),
            **{f'x{scale}': clips.save_network(folder / f'x{scale}.pth', scale=scale) for scale in (1, 2, 3, 8)}}


@pytest.fixture(scope='session')
def tiny(networks):
    """The path of a small x4 network's weights."""
    return networks['tiny']


@pytest.fixture
def run_script(tmp_path, monkeypatch, capfd):
    """Run a script's main in a folder of its own; return its status, stdout and stderr, which holds no traceback."""
    monkeypatch.chdir(tmp_path)

    def run(script, *arguments):
        try:
            status = script.main(list(map(str, arguments)))
        except SystemExit as error:
            status = error.code
        out, err = capfd.readouterr()
        assert 'Traceback' not in err
        return status, out, err
    return run


@pytest.fixture
def succeed(run_script):
    """Run a script's main, which succeeds; return all that it prints, stdout first."""
    def run(script, *arguments):
        status, out, err = run_script(script, *arguments)
        assert status == 0, err
        return out + err
    return run


@pytest.fixture
def start_program():
    """Start programs as `subprocess.Popen` does; those that still run when the test ends are killed and waited for."""
    with contextlib.ExitStack() as stack:
        def start(command, **options):
            process = stack.enter_context(subprocess.Popen(command, **options))
            stack.callback(process.kill)
            return process
        yield start


@pytest.fixture
def http_server(monkeypatch):
    """An `HttpServer`, reached without the proxies of the environment."""
    for name in ('HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY', 'REQUEST_METHOD'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    with serve() as server:
        yield server


@pytest.fixture
def at_calls(monkeypatch):
    """Let something happen at some calls of `RealESRGANer.submit`, counted from 1; return the widths of all pictures.

    An exception is raised; anything else is called, and then the picture is upscaled.
    """
    from realesrgan import RealESRGANer
    submit = RealESRGANer.submit

    def arrange(numbers, what):
        widths = []

        def submit_counted(upsampler, picture, *options, **more):
            widths.append(picture.shape[1])
            if len(widths) in numbers:
                if isinstance(what, BaseException):
                    raise what
                what()
            return submit(upsampler, picture, *options, **more)
        monkeypatch.setattr(RealESRGANer, 'submit', submit_counted)
        return widths
    return arrange


@pytest.fixture
def best_kernel():
    """The kernel of the winograd engine that this processor runs; skips the test where there is none."""
    from realesrgan.engines.kernel.library import find_kernel
    from realesrgan.errors import EngineError
    try:
        return find_kernel()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='session')
def chromium():
    """Chromium, driven by playwright; skips the test where either is missing."""
    api = pytest.importorskip('playwright.sync_api')
    program = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    if program is None:
        pytest.skip('there is no Chromium')
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=['--no-sandbox'])
        yield browser
        browser.close()
