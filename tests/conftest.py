"""Fixtures that several test files share."""
from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import subprocess
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

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
def start_program():
    """Start programs as `subprocess.Popen` does; those that still run when the test ends are killed and waited for."""
    with contextlib.ExitStack() as stack:
        def start(command, **options):
            process = stack.enter_context(subprocess.Popen(command, **options))
            stack.callback(process.kill)
            return process
        yield start


@dataclass
class HttpServer:
    """A server on this machine: what it serves, how it misbehaves, what it was asked.

    `files` maps request paths to bytes. Each item of `troubles` shapes one GET, in order: a status alone
    (`{'status': 500}`), a cut after so many bytes of the answer (`{'cut_after': 7}`), no ranges (`{'ranges': False}`),
    no length or a wrong one (`{'length': False}`), a URL to go to instead (`{'redirect': url}`), or an event to wait
    for (`{'wait_for': event}`). `seen` lists the requests as (path, headers).
    """

    url: str = ''
    files: dict[str, bytes] = field(default_factory=dict)
    troubles: deque[dict] = field(default_factory=deque)
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def paths(self):
        return [path for path, _ in self.seen]

    @property
    def ranges(self):
        return [headers.get('Range') for _, headers in self.seen]


def _answer(server, handler):
    server.seen.append((handler.path, dict(handler.headers)))
    trouble = server.troubles.popleft() if server.troubles else {}
    if 'wait_for' in trouble:
        trouble['wait_for'].wait(30)
    if 'redirect' in trouble:
        handler.send_response(302)
        handler.send_header('Location', trouble['redirect'])
        handler.end_headers()
        return
    body = server.files.get(handler.path)
    status = trouble.get('status', 404 if body is None else 200)
    if status != 200:
        handler.send_response(status)
        handler.send_header('Content-Length', '0')
        handler.end_headers()
        return
    asked = re.fullmatch(r'bytes=(\d+)-', handler.headers.get('Range', '')) if trouble.get('ranges', True) else None
    start = int(asked[1]) if asked else 0
    if asked and start >= len(body):
        handler.send_response(416)
        handler.send_header('Content-Range', f'bytes */{len(body)}')
    elif asked:
        handler.send_response(206)
        handler.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
    else:
        handler.send_response(200)
    rest = body[start:]
    if (length := trouble.get('length', len(rest))) is not False:
        handler.send_header('Content-Length', str(length))
    handler.end_headers()
    handler.wfile.write(rest[:trouble.get('cut_after', len(rest))])


@pytest.fixture
def http_server(monkeypatch):
    """An `HttpServer`, reached without the proxies of the environment."""
    for name in ('HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY', 'NO_PROXY', 'REQUEST_METHOD'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    server = HttpServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            _answer(server, self)

        def log_message(self, *args):
            pass

    listener = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    listener.daemon_threads = False  # so that closing waits for them
    thread = threading.Thread(target=listener.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    server.url = f'http://127.0.0.1:{listener.server_port}'
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.fixture
def at_calls(monkeypatch):
    """Let something happen at some calls of `RealESRGANer.enhance`, counted from 1; return the widths of all pictures.

    An exception is raised; anything else is called, and then the picture is upscaled.
    """
    from realesrgan import RealESRGANer
    enhance = RealESRGANer.enhance

    def arrange(numbers, what):
        widths = []

        def enhance_counted(upsampler, picture, *options, **more):
            widths.append(picture.shape[1])
            if len(widths) in numbers:
                if isinstance(what, BaseException):
                    raise what
                what()
            return enhance(upsampler, picture, *options, **more)
        monkeypatch.setattr(RealESRGANer, 'enhance', enhance_counted)
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
