"""Requests that mean harm, and ends that nobody asked for: refused in words, and nothing is left."""
from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import struct
import zlib
from pathlib import Path

import psutil
import pytest
import requests

from realesrgan.errors import ImageError
from realesrgan.pictures import pillow
from tests.support import clips
from tests.support.web_client import MODEL, Command, encode, noise, wait_until

PROJECT = Path(__file__).parents[2]
UNKNOWN = 'this is not a picture or a video that can be read'


def make_png(width, height):
    """A valid PNG of that size whose pixels compress to nearly nothing, cut off after some."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)) + chunk(
        b'IDAT', zlib.compress(bytes(1 << 20))) + chunk(b'IEND', b'')


def send_raw(service, data):
    """Send bytes, and nothing more; return what comes back until the connection ends."""
    answer = b''
    with socket.create_connection(('127.0.0.1', int(service.url.rpartition(':')[2])), 60) as connection:
        with contextlib.suppress(ConnectionError):  # the other side may have heard enough
            connection.sendall(data)
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(1 << 16):
                answer += part
    return answer.decode()


def refusal(response):
    return response.status_code, response.json()['error']


# ---- what is sent ----

@pytest.mark.parametrize('name', ['../../../tmp/evil.png', '/etc/cron.d/evil.png', '..\\..\\evil.png', 'evil\x00.png',
                                  '.realesrgan-evil.png', 'a' * 5000 + '.png'])
def test_names_lead_nowhere(serve, tmp_path, name):
    service = serve()
    before = {path for path in tmp_path.rglob('*') if service.folder not in path.parents}
    state = service.wait(service.send(encode(noise(8, 8)), name))
    assert state['state'] == 'done'
    assert re.fullmatch(r'[\w.-]{1,90}_out\.png', state['name'])
    assert {path for path in tmp_path.rglob('*') if service.folder not in path.parents} == before
    assert [file for file in service.files if not re.fullmatch(r'[0-9a-f]{16}/input_out\.png', file)] == []


def test_a_bomb_is_told_from_its_header(serve):
    service = serve()
    bomb = make_png(50_000, 50_000)
    for to in ('enhance', 'jobs'):
        assert refusal(service.send(bomb, to=to)) == (413, 'it has 50000x50000 pixels; the limit is 25000000')
    assert refusal(service.send(make_png(4000, 4000), scale='8')) == (  # which leaves room for fewer pixels
        413, 'it has 4000x4000 pixels; the limit is 6250000')
    icon = struct.pack('<HHH', 0, 1, 1) + struct.pack('<BBBBHHII', 64, 64, 0, 0, 1, 32, len(bomb), 22) + bomb
    assert refusal(service.send(icon, 'a.ico')) == (415, UNKNOWN)
    with pytest.raises(ImageError, match='damaged, .*Image size'):  # which Pillow says before it allocates anything
        pillow.open_image(io.BytesIO(icon))
    assert service.files == []


def test_what_is_too_large_is_refused_before_it_is_read(serve):
    service = serve(max_bytes=100_000)
    head = (f'POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {10 ** 12}\r\n'
            'Content-Type: multipart/form-data; boundary=x\r\n\r\n')
    assert send_raw(service, head.encode()).startswith('HTTP/1.1 413 Request Entity Too Large\r\n')
    response = service.send(bytes(300_000))
    assert (response.status_code, 'exceeds max_body of 165536' in response.text) == (413, True)
    head = b'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: '
    assert ' 431 Request Header Fields Too Large\r\n' in send_raw(service, head + b'a' * 70_000)
    answer = send_raw(service, head + b'a' * 10_000_000)  # its connection is cut, so that the answer may get lost
    assert answer == '' or ' 431 Request Header Fields Too Large\r\n' in answer
    assert (service.get('/healthz').status_code, service.files) == (200, [])


@pytest.mark.parametrize(('settings', 'message'), [
    ({'max_seconds': 1}, 'it lasts 2 seconds; the limit is 1'),
    ({'max_pixels': 1000}, 'it has 64x48 pixels; the limit is 1000')])
def test_a_video_that_is_too_long_or_too_large(serve, tmp_path, settings, message):
    film = clips.make(tmp_path / 'a.mp4', *clips.picture(seconds='2'), *clips.EXACT)
    assert refusal(serve(**settings).send(film.read_bytes(), 'a.mp4', field='video')) == (413, message)


def test_a_video_that_claims_a_billion_frames(serve, tmp_path):
    film = clips.make(tmp_path / 'a.avi', *clips.picture(seconds='0.2'), '-c:v', 'mjpeg').read_bytes()
    for at in (film.index(b'avih') + 8 + 16, film.index(b'strh') + 8 + 32):  # numbers of frames of file and stream
        film = film[:at] + struct.pack('<I', 10 ** 9) + film[at + 4:]
    service = serve()
    status, message = refusal(service.send(film, 'a.avi', field='video'))
    assert (status, service.files) == (413, [])
    assert re.fullmatch(r'it (lasts|has) \d+ (seconds|frames); the limit is 60( seconds)?', message)


@pytest.mark.parametrize('beginning', [
    '<!--free-->', '<!--ftyp-->', '<!--G' + 187 * ' ' + 'xxxxG-->', '  <?G' + 187 * ' ' + 'xxxxG?>', '<!--1234AVI -->',
    ' ', '\ufeff'])
def test_a_manifest_in_disguise_opens_no_file_of_this_machine(serve, tmp_path, beginning):
    film = clips.make(tmp_path / 'private.mp4', *clips.picture(seconds='0.4'), '-c:v', 'libx264', '-movflags',
                      'frag_keyframe+empty_moov+default_base_moof')
    manifest = (f'{beginning}<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
                'mediaPresentationDuration="PT0.4S" minBufferTime="PT1S" '
                'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
                '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000" codecs="avc1.42c00d" '
                f'width="64" height="48"><BaseURL>{film}</BaseURL></Representation></AdaptationSet></Period></MPD>')
    assert refusal(serve().send(manifest.encode(), 'a.mp4', field='video')) == (415, UNKNOWN)


def test_an_upload_that_stalls_is_cut_off(serve):
    service = serve(max_upload_seconds=1)
    head = (b'POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n'
            b'Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n')
    assert send_raw(service, head) == ''
    assert service.wait(service.send(encode(noise(8, 8))))['state'] == 'done'


def test_clients_that_do_not_read_their_results_hold_no_thread(serve):
    service = serve(queue=1)
    state = service.wait(service.send(encode(noise(400, 400))))  # of noise, larger than what systems buffer
    with contextlib.ExitStack() as stack:
        for _ in range(12):  # more than there are threads
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(('127.0.0.1', int(service.url.rpartition(':')[2])))
            connection.sendall(f'GET {state["result"]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n'.encode())
        wait_until(lambda: 'realesrgan_requests_total{method="GET",route="result",status="200"} 12.0' in service.get(
            '/metrics').text)
        assert service.get(state['result']).status_code == 200


@pytest.mark.parametrize(('method', 'path', 'status'), [
    ('GET', '/enhance', 405), ('PUT', '/jobs', 405), ('DELETE', '/enhance', 405), ('POST', '/healthz', 405),
    ('GET', '/jobs/../../etc/passwd', 404), ('GET', '/jobs/x', 404), ('DELETE', '/jobs/x', 404),
    ('GET', '/static/../app.py', 404), ('GET', '/static/%2e%2e/app.py', 404), ('POST', '/enhance', 400)])
def test_what_is_not_there_or_not_meant(serve, method, path, status):
    service = serve()
    found, message = refusal(service.client.request(method, f'{service.url}{path}'))
    assert (found, len(message.splitlines())) == (status, 1)


@pytest.mark.parametrize('data', [
    {'data': b'raw bytes', 'headers': {'Content-Type': 'image/png'}}, {'data': {'model': MODEL}},
    {'data': b'--x\r\ngarbage', 'headers': {'Content-Type': 'multipart/form-data; boundary=x'}}])
def test_a_request_without_a_file(serve, data):
    service = serve()
    for to, fields in (('enhance', 'image'), ('jobs', 'image or video')):
        assert refusal(service.client.post(f'{service.url}/{to}', **data)) == (
            400, f'no file: send one as multipart/form-data in the field {fields}')


# ---- who sends it ----

def test_a_token_is_asked_for_and_the_page_keeps_it_in_a_cookie(serve):
    service = serve(token='secret')
    assert service.get('/healthz').status_code == 200
    for path in ('/models', '/metrics', '/jobs/x'):
        assert refusal(service.get(path)) == (401, 'a token is needed: Authorization: Bearer TOKEN')
    assert (service.send(encode(noise(8, 8))).status_code, service.files) == (401, [])
    for token, status in (('wrong', 401), ('secret', 200)):
        assert service.get('/models', headers={'Authorization': f'Bearer {token}'}).status_code == status
    page = service.get('/')
    assert (page.status_code, 'name="token"' in page.text, 'id="files"' in page.text) == (401, True, False)
    wrong = service.client.post(f'{service.url}/login', data={'token': 'guess'})
    assert wrong.status_code == 401
    assert 'That is not the token.' in wrong.text
    right = service.client.post(f'{service.url}/login', data={'token': 'secret'})
    assert (right.status_code, 'id="files"' in right.text) == (200, True)
    cookie = right.history[0].headers['Set-Cookie']
    assert 'HttpOnly' in cookie
    assert 'SameSite=Strict' in cookie
    assert service.get('/models').status_code == 200


def test_other_names_and_other_sites_are_refused_and_browsers_warned(serve):
    service = serve(allow_host=('pictures.example',))
    assert refusal(service.get('/healthz', headers={'Host': 'evil.example'})) == (
        421, "this service is not called 'evil.example'; --allow_host lets a proxy call it so")
    for host in ('localhost:5000', '[::1]:5000', 'pictures.example'):
        assert service.get('/healthz', headers={'Host': host}).status_code == 200

    def post(origin):
        return service.client.post(f'{service.url}/jobs', files={'image': encode(noise(8, 8))}, headers={
            'Origin': origin})
    for origin in ('http://evil.example', 'http://[', 'null'):
        assert refusal(post(origin)) == (403, 'requests from pages of other sites are refused')
    assert post(service.url).status_code == 202
    headers = service.get('/').headers
    assert "default-src 'none'; script-src 'self'" in headers['Content-Security-Policy']
    assert (headers['X-Content-Type-Options'], headers['Cache-Control']) == ('nosniff', 'no-store')
    assert 'Server' not in headers


# ---- the service itself ends ----

class Started(Command):
    """A service that was started as a command, and its jobs."""

    def send(self, picture):
        return requests.post(f'{self.url}/jobs', files={'image': ('a.png', encode(picture))}, timeout=30)

    def wait_until_running(self, answer):
        url = f'{self.url}{answer.json()["url"]}'
        wait_until(lambda: requests.get(url, timeout=30).json()['state'] != 'queued')

    def end(self, number):
        """Send a signal; return the exit status, with all processes that it had started gone."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        status = super().end(number)
        assert psutil.wait_procs(children, 30)[1] == []
        return status


needs_signals = pytest.mark.skipif(os.name == 'nt', reason='Windows has no such signals')


@needs_signals
@pytest.mark.parametrize(('number', 'status'), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_end_leaves_no_file_and_no_process(tmp_path, start_program, number, status):
    command = Started(start_program, '--folder', tmp_path / 'own', folder=PROJECT)
    command.wait_until_running(command.send(noise(600, 600)))
    command.send(noise(8, 8))
    assert list((tmp_path / 'own').rglob('input.png'))
    assert command.end(number) == status
    assert list((tmp_path / 'own').iterdir()) == []


@needs_signals
def test_what_a_killed_service_leaves_is_removed_by_the_next(tmp_path, start_program):
    command = Started(start_program, '--folder', tmp_path / 'own', folder=PROJECT)
    command.wait_until_running(command.send(noise(600, 600)))
    assert command.end(signal.SIGKILL) == -9
    assert list((tmp_path / 'own').rglob('input.png'))
    first, second = (Started(start_program, '--folder', tmp_path / 'own', folder=PROJECT) for _ in range(2))
    assert list((tmp_path / 'own').rglob('input.png')) == []
    assert len([path for path in (tmp_path / 'own').iterdir() if path.is_dir()]) == 2  # those that live
    for command in (first, second):
        command.wait_until_running(command.send(noise(8, 8)))
        assert command.end(signal.SIGTERM) == 143
    assert list((tmp_path / 'own').iterdir()) == []
