"""Downloads against a server on this machine: whole, cut, resumed, refused, wrong, through a proxy."""
from __future__ import annotations

import hashlib
import random
import re
import socket
import threading
import time

import pytest
import requests

from realesrgan.errors import DownloadError
from realesrgan.weights import download
from realesrgan.weights.download import _find_reason, fetch

# Longer than the pieces that are read at once, so that a cut falls inside a piece and after whole ones.
BODY = random.Random(0).randbytes((2 << 20) + 12345)
SHA256 = hashlib.sha256(BODY).hexdigest()
CUT = (1 << 20) + 54321

with_and_without_a_hash = pytest.mark.parametrize('sha256', [SHA256, None], ids=['hash', 'no hash'])


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch, http_server):
    """Try again at once, and without the proxies of the environment."""
    monkeypatch.setattr(download, 'BACKOFF_SECONDS', 0)


@pytest.fixture
def target(tmp_path):
    return tmp_path / 'weights' / 'net.pth'


@pytest.fixture
def url(http_server):
    http_server.files['/v1/net.pth'] = BODY
    return f'{http_server.url}/v1/net.pth'


def put_part(target, content):
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_name('net.pth.part').write_bytes(content)


def names_beside(target):
    return sorted(path.name for path in target.parent.glob('*'))


def closed_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@with_and_without_a_hash
def test_whole_file_arrives_and_nothing_else_is_left(http_server, url, target, sha256):
    assert fetch(url, target, sha256) == target
    assert target.read_bytes() == BODY
    assert names_beside(target) == ['net.pth']
    assert http_server.paths == ['/v1/net.pth']
    assert http_server.ranges == [None]
    assert http_server.seen[0][1]['Accept-Encoding'] == 'identity'


def test_existing_target_is_not_fetched_again(http_server, url, target):
    target.parent.mkdir()
    target.write_bytes(b'mine')
    assert fetch(url, target, SHA256) == target
    assert target.read_bytes() == b'mine'
    assert http_server.seen == []


def test_an_empty_file_is_an_error_unless_its_hash_says_so(http_server, target):
    http_server.files['/empty'] = b''
    with pytest.raises(DownloadError, match='/empty: the server sent an empty file$'):
        fetch(f'{http_server.url}/empty', target)
    assert names_beside(target) == []
    fetch(f'{http_server.url}/empty', target, hashlib.sha256(b'').hexdigest())
    assert target.read_bytes() == b''


# ---- cut connections, and a later run ----

@with_and_without_a_hash
def test_cut_connection_is_resumed_where_it_broke(http_server, url, target, sha256):
    http_server.troubles.append({'cut_after': CUT})
    fetch(url, target, sha256)
    assert target.read_bytes() == BODY
    assert http_server.ranges == [None, f'bytes={CUT}-']
    assert [headers['Accept-Encoding'] for _, headers in http_server.seen] == ['identity', 'identity']


def test_every_cut_makes_progress_until_there_are_too_many(http_server, url, target):
    http_server.troubles.extend({'cut_after': 1000} for _ in range(7))
    with pytest.raises(DownloadError, match=re.escape(url)):
        fetch(url, target, SHA256)
    assert http_server.ranges == [None, 'bytes=1000-', 'bytes=2000-', 'bytes=3000-']
    assert names_beside(target) == ['net.pth.part']
    fetch(url, target, SHA256)
    assert http_server.ranges[4:] == ['bytes=4000-', 'bytes=5000-', 'bytes=6000-', 'bytes=7000-']
    assert target.read_bytes() == BODY


def test_server_that_ignores_the_range_sends_the_file_from_its_start(http_server, url, target):
    http_server.troubles.extend([{'cut_after': CUT}, {'ranges': False}])
    fetch(url, target, SHA256)
    assert target.read_bytes() == BODY
    assert len(http_server.seen) == 2


@pytest.mark.parametrize(('part', 'sha256', 'ranges'), [
    (BODY[:777], SHA256, ['bytes=777-']), (BODY, SHA256, [f'bytes={len(BODY)}-']),
    (BODY + b'too long', SHA256, [f'bytes={len(BODY) + 8}-', None]), (b'of another file', None, [None])],
    ids=['begun', 'whole', 'too long', 'no hash to tell'])
def test_a_later_run_takes_what_is_left_of_an_earlier_one(http_server, url, target, part, sha256, ranges):
    put_part(target, part)
    fetch(url, target, sha256)
    assert target.read_bytes() == BODY
    assert http_server.ranges == ranges
    assert names_beside(target) == ['net.pth']


def test_stale_part_that_does_not_fit_is_deleted_so_that_the_next_run_succeeds(url, target):
    put_part(target, b'of another file')
    with pytest.raises(DownloadError, match=SHA256):
        fetch(url, target, SHA256)
    assert names_beside(target) == []
    fetch(url, target, SHA256)
    assert target.read_bytes() == BODY


def test_a_cut_file_without_a_hash_is_never_taken_for_whole(http_server, url, target):
    http_server.troubles.extend([{'cut_after': 5}, {'status': 416}])  # which names no length
    fetch(url, target)
    assert target.read_bytes() == BODY
    assert http_server.ranges == [None, 'bytes=5-', None]


# ---- refusals ----

@with_and_without_a_hash
@pytest.mark.parametrize(('status', 'reason', 'attempts'), [
    (503, 'Service Unavailable', 4), (404, 'Not Found', 1), (416, '.*', 1)])
def test_a_refusal_of_the_server_is_an_error(http_server, url, target, sha256, status, reason, attempts):
    http_server.troubles.extend([{'status': status}] * 10)
    with pytest.raises(DownloadError, match=rf'/v1/net\.pth: the server answered {status} {reason}$'):
        fetch(url, target, sha256)
    assert len(http_server.seen) == attempts
    assert names_beside(target) == []


@pytest.mark.parametrize('trouble', [
    {'status': 500}, {'status': 503}, {'status': 429}, {'status': 408}, {'cut_after': 0}], ids=str)
def test_a_failing_server_is_tried_again_after_pauses_that_double(http_server, url, target, monkeypatch, trouble):
    pauses = []
    monkeypatch.setattr(download, 'BACKOFF_SECONDS', 1.5)
    monkeypatch.setattr(time, 'sleep', pauses.append)
    http_server.troubles.extend([trouble] * 3)
    fetch(url, target, SHA256)
    assert [pause for pause in pauses if pause] == [3, 6]
    assert (target.read_bytes(), len(http_server.seen)) == (BODY, 4)


def test_refused_connection_is_one_clear_line(target):
    url = f'http://127.0.0.1:{closed_port()}/net.pth'
    with pytest.raises(DownloadError, match='Connection refused') as caught:
        fetch(url, target, SHA256)
    message = str(caught.value)
    assert message.startswith(f'{url}: ')
    assert 'HTTPS_PROXY' in message
    assert message.endswith(str(target))
    assert ' object at 0x' not in message
    assert '\n' not in message


def test_folders_that_a_failed_download_made_do_not_stay(http_server, url, tmp_path):
    http_server.troubles.extend([{'status': 404}, {'status': 404}, {'cut_after': 5}, {'status': 404}])
    home = tmp_path / 'home'
    (home / 'there').mkdir(parents=True)
    for folder, left in (('users/weights', ['there']), ('there', ['there']), ('users/weights', ['there', 'users'])):
        with pytest.raises(DownloadError):
            fetch(url, home / folder / 'net.pth', SHA256)
        assert sorted(path.name for path in home.iterdir()) == left


def test_reason_is_the_innermost_one_without_the_object_that_older_urllib3_names():
    inner = OSError('<urllib3.connection.HTTPConnection object at 0x7f00>: Failed to establish a new connection')
    error = requests.ConnectionError(requests.ConnectionError(inner))
    assert _find_reason(error) == 'Failed to establish a new connection'


@pytest.mark.parametrize(('url', 'reason'), [
    ('https://', 'No host supplied'),
    ('https://127.0.0.1:port/net.pth', 'not a valid host or port'),
    (f'https://{"a" * 64}.invalid/net.pth', 'label empty or too long'),
    ('ftp://127.0.0.1/net.pth', 'only https is safe'),
    *((f'http://{host}/net.pth', 'only https is safe') for host in (
        'weights.example', '8.8.8.8', 'nas', '10.1.2.3', '2130706433', '0x7f000001', '127.0.0.1@weights.example')),
])
def test_url_that_can_not_work_is_an_error_without_a_second_attempt(target, monkeypatch, url, reason):
    monkeypatch.setattr(time, 'sleep', lambda _: pytest.fail('tried again'))
    with pytest.raises(DownloadError, match=f'^{re.escape(url)}: .*{reason}'):
        fetch(url, target, SHA256)
    assert not list(target.parent.parent.rglob('net.*'))


def test_a_length_that_is_no_number_is_an_error(http_server, url, target):
    http_server.troubles.append({'length': 'abc'})
    with pytest.raises(DownloadError, match=f'^{re.escape(url)}: .*abc'):
        fetch(url, target, SHA256)


def test_a_redirect_of_the_same_kind_is_followed(http_server, url, target):
    http_server.troubles.append({'redirect': f'{http_server.url}/v1/net.pth'})
    fetch(f'{http_server.url}/latest/net.pth', target, SHA256)
    assert target.read_bytes() == BODY
    assert http_server.paths == ['/latest/net.pth', '/v1/net.pth']


@pytest.mark.parametrize('to', [
    'ftp://127.0.0.1/net.pth', 'file:///etc/passwd', 'http://weights.example/net.pth', 'http://[bad/net.pth',
    'http://localhost:99999999/net.pth', 'http://127.0.0.1:1@weights.example/net.pth', 'http://127.0.0.1:1/net.pth'])
def test_a_redirect_to_another_kind_of_url_is_refused(http_server, url, target, to):
    http_server.troubles.append({'redirect': to})
    refusal = f'the server redirects to {re.escape(to)}, which is not https and is not followed$'
    with pytest.raises(DownloadError, match=f'^{re.escape(url)}: ({refusal}|Invalid|Port|Failed to parse)') as caught:
        fetch(url, target, SHA256)
    assert '\n' not in str(caught.value)
    assert len(http_server.seen) == 1
    assert names_beside(target) == []


@pytest.mark.parametrize('length', [len(BODY), False], ids=['told', 'not told'])
def test_a_file_without_an_end_is_refused(http_server, url, target, monkeypatch, length):
    monkeypatch.setattr(download, 'MOST_BYTES', 1 << 20)
    http_server.troubles.append({'length': length})
    with pytest.raises(DownloadError, match=f'^{re.escape(url)}: the server sends more than 0 GiB, '):
        fetch(url, target)
    assert names_beside(target) == []


def test_folder_that_can_not_be_made_is_an_os_error(http_server, url, tmp_path):
    (tmp_path / 'weights').write_bytes(b'a file')
    with pytest.raises(FileExistsError):
        fetch(url, tmp_path / 'weights' / 'net.pth', SHA256)
    assert http_server.seen == []


def test_wrong_bytes_are_deleted_and_both_hashes_named(http_server, url, target):
    http_server.files['/v1/net.pth'] = b'<html>Sign in to this network</html>'
    actual = hashlib.sha256(http_server.files['/v1/net.pth']).hexdigest()
    with pytest.raises(DownloadError, match=f'sha256 is {actual}, expected was {SHA256}') as caught:
        fetch(url, target, SHA256)
    assert str(caught.value).startswith(f'{url}: ')
    assert names_beside(target) == []


# ---- surroundings ----

@pytest.mark.parametrize('variable', ['HTTP_PROXY', 'http_proxy'])
def test_proxy_of_the_environment_is_asked(http_server, target, monkeypatch, variable):
    url = 'http://127.0.0.1:1/v1/net.pth'
    http_server.files[url] = BODY
    monkeypatch.setenv(variable, http_server.url)
    fetch(url, target, SHA256)
    assert target.read_bytes() == BODY
    assert http_server.paths == [url]


def test_no_proxy_of_the_environment_is_obeyed(url, target, monkeypatch):
    monkeypatch.setenv('HTTP_PROXY', f'http://127.0.0.1:{closed_port()}')
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    fetch(url, target, SHA256)
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
