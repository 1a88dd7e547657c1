"""Downloads against a server on this machine: whole, cut, resumed, refused, wrong, through a proxy."""
from __future__ import annotations

import hashlib
import io
import random
import re
import socket
import threading
import time

import pytest
import requests

from realesrgan.errors import DownloadError
from realesrgan.weights import download
from realesrgan.weights.download import _check_redirect, _require_safety, fetch, innermost_reason

# Longer than the pieces that are read at once, so that a cut falls inside a piece and after whole ones.
BODY = random.Random(0).randbytes((2 << 20) + 12345)
SHA256 = hashlib.sha256(BODY).hexdigest()
CUT = (1 << 20) + 54321


@pytest.fixture
def target(tmp_path):
    return tmp_path / 'weights' / 'net.pth'


@pytest.fixture
def url(http_server):
    http_server.files['/v1/net.pth'] = BODY
    return f'{http_server.url}/v1/net.pth'


def part_of(target):
    return target.with_name(target.name + '.part')


def put_part(target, content):
    target.parent.mkdir(parents=True, exist_ok=True)
    part_of(target).write_bytes(content)


def names_beside(target):
    return sorted(path.name for path in target.parent.iterdir())


def closed_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize('sha256', [SHA256, None], ids=['hash', 'no hash'])
def test_whole_file_arrives_and_nothing_else_is_left(http_server, url, target, sha256):
    assert fetch(url, target, sha256, pause_seconds=0) == target
    assert target.read_bytes() == BODY
    assert names_beside(target) == ['net.pth']
    assert http_server.paths == ['/v1/net.pth']
    assert http_server.ranges == [None]
    assert http_server.seen[0][1]['Accept-Encoding'] == 'identity'


def test_empty_file_arrives(http_server, target):
    http_server.files['/empty'] = b''
    fetch(f'{http_server.url}/empty', target, hashlib.sha256(b'').hexdigest(), pause_seconds=0)
    assert target.read_bytes() == b''


def test_existing_target_is_not_fetched_again(http_server, url, target):
    target.parent.mkdir()
    target.write_bytes(b'mine')
    assert fetch(url, target, SHA256, pause_seconds=0) == target
    assert target.read_bytes() == b'mine'
    assert http_server.seen == []


# ---- cut connections ----

@pytest.mark.parametrize('sha256', [SHA256, None], ids=['hash', 'no hash'])
def test_cut_connection_is_resumed_where_it_broke(http_server, url, target, sha256):
    http_server.troubles.append({'cut_after': CUT})
    fetch(url, target, sha256, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert http_server.ranges == [None, f'bytes={CUT}-']
    assert [headers['Accept-Encoding'] for _, headers in http_server.seen] == ['identity', 'identity']


def test_every_cut_makes_progress(http_server, url, target):
    http_server.troubles.extend({'cut_after': 1000} for _ in range(3))
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert http_server.ranges == [None, 'bytes=1000-', 'bytes=2000-', 'bytes=3000-']


def test_server_that_ignores_the_range_sends_the_file_from_its_start(http_server, url, target):
    http_server.troubles.extend([{'cut_after': CUT}, {'ranges': False}])
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert len(http_server.seen) == 2


def test_connection_cut_at_every_attempt_is_an_error_that_keeps_what_arrived(http_server, url, target):
    http_server.troubles.extend({'cut_after': (1 << 20) // 2} for _ in range(10))
    with pytest.raises(DownloadError, match=re.escape(url)):
        fetch(url, target, SHA256, pause_seconds=0)
    assert len(http_server.seen) == 4
    assert names_beside(target) == ['net.pth.part']
    assert part_of(target).read_bytes() == BODY[:4 * ((1 << 20) // 2)]


# ---- a later run ----

def test_later_run_fetches_only_what_is_missing(http_server, url, target):
    put_part(target, BODY[:777])
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert http_server.ranges == ['bytes=777-']
    assert names_beside(target) == ['net.pth']


def test_later_run_finds_everything_there_and_the_server_answers_416(http_server, url, target):
    put_part(target, BODY)
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert http_server.ranges == [f'bytes={len(BODY)}-']
    assert names_beside(target) == ['net.pth']


def test_stale_part_is_discarded_when_no_hash_can_tell(http_server, url, target):
    put_part(target, b'of another file')
    fetch(url, target, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert http_server.ranges == [None]


def test_stale_part_that_is_too_long_is_begun_anew(url, target):
    put_part(target, BODY + b'too long')
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY


def test_stale_part_that_does_not_fit_is_deleted_so_that_the_next_run_succeeds(url, target):
    put_part(target, b'of another file')
    with pytest.raises(DownloadError, match=SHA256):
        fetch(url, target, SHA256, pause_seconds=0)
    assert names_beside(target) == []
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY


def test_a_cut_file_without_a_hash_is_never_taken_for_whole(http_server, url, target):
    http_server.troubles.extend([{'cut_after': 5}, {'status': 416}])  # which names no length
    fetch(url, target, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert http_server.ranges == [None, 'bytes=5-', None]


def test_an_empty_file_without_a_hash_is_an_error(http_server, target):
    http_server.files['/empty'] = b''
    with pytest.raises(DownloadError, match='/empty: the server sent an empty file$'):
        fetch(f'{http_server.url}/empty', target, pause_seconds=0)
    assert names_beside(target) == []


@pytest.mark.parametrize('host', ['16843009', '0x08080808', '0x'])
def test_a_number_is_no_host_nearby(host, target):
    with pytest.raises(DownloadError, match='only https is safe'):
        fetch(f'http://{host}/x.pth', target)


# ---- refusals ----

def test_missing_file_is_an_error_at_once(http_server, target):
    with pytest.raises(DownloadError, match=r'/nothing: the server answered 404 Not Found$'):
        fetch(f'{http_server.url}/nothing', target, SHA256, pause_seconds=0)
    assert len(http_server.seen) == 1
    assert names_beside(target) == []


@pytest.mark.parametrize('status', [500, 503, 429, 408])
def test_server_error_is_tried_again(http_server, url, target, status):
    http_server.troubles.extend([{'status': status}] * 2)
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert len(http_server.seen) == 3


def test_server_error_at_every_attempt_is_an_error(http_server, url, target):
    http_server.troubles.extend([{'status': 503}] * 10)
    with pytest.raises(DownloadError, match=r'/v1/net\.pth: the server answered 503 Service Unavailable$'):
        fetch(url, target, SHA256, pause_seconds=0)
    assert len(http_server.seen) == 4
    assert names_beside(target) == []


@pytest.mark.parametrize('sha256', [SHA256, None], ids=['hash', 'no hash'])
def test_416_to_a_request_without_a_range_is_a_refusal(http_server, url, target, sha256):
    http_server.troubles.extend([{'status': 416}] * 10)
    with pytest.raises(DownloadError, match='416'):
        fetch(url, target, sha256, pause_seconds=0)
    assert names_beside(target) == []


def test_pauses_double(http_server, url, target, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, 'sleep', pauses.append)
    http_server.troubles.extend([{'status': 500}] * 3)
    fetch(url, target, SHA256, pause_seconds=1.5)
    assert pauses == [1.5, 3, 6]


@pytest.mark.usefixtures('http_server')  # no proxies
def test_refused_connection_is_one_clear_line(target):
    url = f'http://127.0.0.1:{closed_port()}/net.pth'
    with pytest.raises(DownloadError, match='Connection refused') as caught:
        fetch(url, target, SHA256, pause_seconds=0)
    message = str(caught.value)
    assert message.startswith(f'{url}: ')
    assert 'HTTPS_PROXY' in message
    assert message.endswith(str(target))
    assert ' object at 0x' not in message
    assert '\n' not in message
    assert names_beside(target) == []


def test_reason_is_the_innermost_one_without_the_object_that_older_urllib3_names():
    inner = OSError('<urllib3.connection.HTTPConnection object at 0x7f00>: Failed to establish a new connection')
    error = requests.ConnectionError(requests.ConnectionError(inner))
    assert innermost_reason(error) == 'Failed to establish a new connection'


@pytest.mark.usefixtures('http_server')  # no proxies
@pytest.mark.parametrize(('url', 'reason'), [
    ('https://', 'No host supplied'),
    ('https://127.0.0.1:port/net.pth', 'not a valid host or port'),
    ('ftp://127.0.0.1/net.pth', 'No connection adapters'),
    (f'https://{"a" * 64}.invalid/net.pth', 'label empty or too long'),
    ('http://weights.example/net.pth', 'only https is safe'),
    ('http://8.8.8.8/net.pth', 'only https is safe'),
    ('ftp://weights.example/net.pth', 'only https is safe'),
], ids=['no host', 'bad port', 'ftp', 'long label', 'http by name', 'http by number', 'ftp by name'])
def test_url_that_can_not_work_is_an_error_without_a_second_attempt(target, monkeypatch, url, reason):
    monkeypatch.setattr(time, 'sleep', lambda _: pytest.fail('tried again'))
    with pytest.raises(DownloadError, match=f'^{re.escape(url)}: .*{reason}'):
        fetch(url, target, SHA256)
    assert not list(target.parent.parent.rglob('net.*'))


def test_a_length_that_is_no_number_is_an_error(http_server, url, target):
    http_server.troubles.append({'length': 'abc'})
    with pytest.raises(DownloadError, match=f'^{re.escape(url)}: .*abc'):
        fetch(url, target, SHA256, pause_seconds=0)


@pytest.mark.parametrize('host', ['nas', 'nas.lan', 'nas.local', 'localhost', '127.0.0.1', '[::1]', '10.1.2.3'])
def test_http_is_taken_from_this_machine_and_its_network(host):
    _require_safety(f'http://{host}:8000/net.pth')


def test_a_redirect_of_the_same_kind_is_followed(http_server, url, target):
    http_server.troubles.append({'redirect': f'{http_server.url}/v1/net.pth'})
    fetch(f'{http_server.url}/latest/net.pth', target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert http_server.paths == ['/latest/net.pth', '/v1/net.pth']


@pytest.mark.parametrize(('to', 'reason'), [
    ('https://127.0.0.1/net.pth', 'the server redirects to https://127.0.0.1/net.pth, which is not followed'),
    ('ftp://127.0.0.1/net.pth', 'the server redirects to ftp://127.0.0.1/net.pth, which is not followed'),
    ('file:///etc/passwd', 'only https is safe'),
    ('http://weights.example/net.pth', 'only https is safe'), ('http://[bad/net.pth', 'Invalid IPv6 URL'),
    ('http://localhost:99999999/net.pth', 'Port out of range')])
def test_a_redirect_to_another_kind_of_url_is_refused(http_server, url, target, to, reason):
    http_server.troubles.append({'redirect': to})
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch(url, target, SHA256, pause_seconds=0)
    assert '\n' not in str(caught.value)
    assert len(http_server.seen) == 1
    assert names_beside(target) == []


def test_a_redirect_from_elsewhere_to_this_machine_is_refused():
    response = requests.Response()
    response.url, response.status_code, response.raw = 'https://weights.example/net.pth', 302, io.BytesIO()
    response.headers['Location'] = 'https://127.0.0.1/admin'
    with pytest.raises(DownloadError, match='redirects to https://127.0.0.1/admin'):
        _check_redirect(response)
    response.headers['Location'] = '/v2/net.pth'
    _check_redirect(response)


@pytest.mark.parametrize('length', [len(BODY), False], ids=['told', 'not told'])
def test_a_file_without_an_end_is_refused(http_server, url, target, monkeypatch, length):
    monkeypatch.setattr(download, 'MOST_BYTES', 1 << 20)
    http_server.troubles.append({'length': length})
    with pytest.raises(DownloadError, match=f'^{re.escape(url)}: sends more than 0 GiB, which no network has$'):
        fetch(url, target, pause_seconds=0)
    assert names_beside(target) == []


def test_folder_that_can_not_be_made_is_an_os_error(http_server, url, tmp_path):
    (tmp_path / 'weights').write_bytes(b'a file')
    with pytest.raises(FileExistsError):
        fetch(url, tmp_path / 'weights' / 'net.pth', SHA256, pause_seconds=0)
    assert http_server.seen == []


# ---- wrong bytes ----

def test_wrong_bytes_are_deleted_and_both_hashes_named(http_server, url, target):
    http_server.files['/v1/net.pth'] = b'<html>Sign in to this network</html>'
    actual = hashlib.sha256(http_server.files['/v1/net.pth']).hexdigest()
    with pytest.raises(DownloadError, match=f'sha256 is {actual}, expected was {SHA256}') as caught:
        fetch(url, target, SHA256, pause_seconds=0)
    assert str(caught.value).startswith(f'{url}: ')
    assert names_beside(target) == []


# ---- surroundings ----

@pytest.mark.parametrize('variable', ['HTTP_PROXY', 'http_proxy'])
def test_proxy_of_the_environment_is_asked(http_server, target, monkeypatch, variable):
    url = 'http://weights.local/v1/net.pth'
    http_server.files[url] = BODY
    monkeypatch.setenv(variable, http_server.url)
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY
    assert http_server.paths == [url]


def test_no_proxy_of_the_environment_is_obeyed(url, target, monkeypatch):
    monkeypatch.setenv('HTTP_PROXY', f'http://127.0.0.1:{closed_port()}')
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    fetch(url, target, SHA256, pause_seconds=0)
    assert target.read_bytes() == BODY


def test_two_at_once_fetch_one_file_once(http_server, url, target):
    gate = threading.Event()
    http_server.troubles.append({'wait_for': gate})
    threads = [threading.Thread(target=fetch, args=(url, target, SHA256)) for _ in range(2)]
    for thread in threads:
        thread.start()
    threads[1].join(0.3)  # time enough for a second request, were there one
    gate.set()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == BODY
    assert http_server.paths == ['/v1/net.pth']
    assert names_beside(target) == ['net.pth']
