"""The service as a WSGI application."""
from __future__ import annotations

import hmac
import logging
import math
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, jsonify, make_response, redirect, render_template, request, send_file, url_for
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from ..engines.memory import measure_memory_use
from ..errors import RealESRGANError
from ..models import MODELS
from ..options import PictureOptions, VideoOptions, list_options
from ..tuning import list_installed
from . import uploads
from .errors import STRINGS, QueueFullError, UnknownFileError, describe, find_row
from .jobs import CANCELLED, DONE, FAILED, QUEUED, RUNNING, STATES, Job, JobQueue
from .settings import Settings, is_loopback

logger = logging.getLogger(__name__)

_COOKIE = 'realesrgan_token'
_OPEN = 'static', 'healthz', 'login', 'page'  # to those without a token
# Fields that have a control of their own on the page.
_SHOWN = 'model', 'scale', 'format', 'strength', 'denoise', 'face', 'steady', 'preview', 'preview_at'
_SECONDS_BETWEEN_LOOKS = 0.25  # at whether a client still waits
_BUCKETS = 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000  # seconds
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; " \
          "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
# Those that Python knows only where the system does.
_TYPES = {'.webp': 'image/webp', '.apng': 'image/apng', '.mkv': 'video/matroska'}


class Metrics:
    """Figures for Prometheus: requests and jobs of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter('realesrgan_requests', 'Requests by route, method and status.',
                                ['route', 'method', 'status'], registry=self._registry)
        self._ended = Counter('realesrgan_jobs_ended', 'Jobs by how they ended.', ['state'], registry=self._registry)
        self._seconds = Histogram('realesrgan_job_seconds', 'Seconds that jobs ran.', buckets=_BUCKETS,
                                  registry=self._registry)
        self._megapixels = Counter('realesrgan_megapixels', 'Pixels of upscaled pictures and frames, in millions.',
                                   registry=self._registry)
        self._jobs = Gauge('realesrgan_jobs', 'Jobs that are known, by state.', ['state'], registry=self._registry)
        self._memory = Gauge(
            'realesrgan_memory_bytes', 'Memory of each worker\'s process: the host\'s, and what is allocated and '
            'reserved on GPUs.', ['worker', 'kind'], registry=self._registry)
        self._system = Gauge('realesrgan_system_memory_used_ratio', 'Share of the system\'s memory that all programs '
                             'use.', registry=self._registry)
        ProcessCollector(registry=self._registry)  # of the service itself

    def count_job(self, job: Job) -> None:
        """Count a job that has ended."""
        self._ended.labels(job.state).inc()
        self._seconds.observe(job.seconds)
        if job.outcome is not None:
            width, height = job.outcome.size
            self._megapixels.inc(width * height * job.outcome.frames / 1e6)

    def render(self, queue: JobQueue) -> bytes:
        """Return all figures, with the jobs of a queue, as Prometheus reads them."""
        counts = queue.count_states()
        for state in STATES:
            self._jobs.labels(state).set(counts[state])
        self._memory.clear()
        for worker, use in list(queue.memory.items()):
            for kind, count in (('host', use.host), ('gpu_allocated', use.allocated), ('gpu_reserved', use.reserved)):
                self._memory.labels(worker, kind).set(count)
        self._system.set(measure_memory_use().system)
        return generate_latest(self._registry)


def create_app(settings: Settings, folder: Path, queue: JobQueue, metrics: Metrics) -> Flask:
    """Return the application; uploads and results go to `folder`."""
    app = Flask(__name__)
    app.config['MAX_FORM_PARTS'] = 20
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's own provider
    service = _Service(settings, folder, queue)
    rules: list[tuple[str, str, Callable[..., Any], str]] = [
        ('/', 'page', service.show_page, 'GET'), ('/login', 'login', service.log_in, 'POST'),
        ('/files', 'keep', service.keep_file, 'POST'), ('/files/<identity>', 'file', service.show_file, 'GET'),
        ('/files/<identity>', 'remove_file', service.remove_file, 'DELETE'),
        ('/files/<identity>/content', 'content', service.send_content, 'GET'),
        ('/enhance', 'enhance', service.enhance, 'POST'), ('/jobs', 'submit', service.submit, 'POST'),
        ('/jobs/<identity>', 'job', service.show_job, 'GET'),
        ('/jobs/<identity>', 'remove', service.remove_job, 'DELETE'),
        ('/jobs/<identity>/result', 'result', service.send_result, 'GET'),
        ('/jobs/<identity>/panels/<int:number>', 'panel', service.send_panel, 'GET'),
        ('/models', 'models', service.list_models, 'GET'), ('/healthz', 'healthz', service.show_health, 'GET'),
        ('/metrics', 'metrics', lambda: Response(metrics.render(queue), mimetype='text/plain'), 'GET')]
    for path, name, view, method in rules:
        app.add_url_rule(path, name, view, methods=[method])

    @app.before_request
    def admit() -> None:
        name = urlsplit(f'//{request.host}').hostname or ''
        if is_loopback(settings.host) and not is_loopback(name) and name not in settings.allow_host:
            # A page of another site may have hidden behind the name (DNS rebinding).
            abort(make_response(jsonify(error=f'this service is not called {name[:80]!r}; --allow_host lets a proxy '
                                        'call it so'), 421))
        origin = request.headers.get('Origin')
        if request.method not in ('GET', 'HEAD', 'OPTIONS') and origin and origin.rpartition('/')[2] != request.host:
            abort(403, 'requests from pages of other sites are refused')
        if request.endpoint not in _OPEN and not _is_known(settings):
            abort(401, 'a token is needed: Authorization: Bearer TOKEN')

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers['Content-Security-Policy'] = _POLICY
        response.headers['X-Content-Type-Options'] = 'nosniff'
        response.headers['Referrer-Policy'] = 'same-origin'  # with none, forms come from nowhere
        response.headers.setdefault('Cache-Control', 'no-store')
        method = request.method if request.endpoint else 'none'  # or each word that somebody sends would be kept
        metrics.requests.labels(request.endpoint or 'none', method, response.status_code).inc()
        return response

    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(RealESRGANError, _answer_error)
    return app


def _is_known(settings: Settings) -> bool:
    """Tell whether a request shows the token, in `Authorization: Bearer TOKEN` or the page's cookie, or needs none."""
    if settings.token is None:
        return True
    header = request.headers.get('Authorization', '')
    return _is_token(header[7:].strip() if header.lower().startswith('bearer ') else request.cookies.get(_COOKIE, ''),
                     settings)


def _is_token(text: str, settings: Settings) -> bool:
    """Compare a text with the token in constant time."""
    return settings.token is not None and hmac.compare_digest(text.encode(), settings.token.encode())


def _answer_http_error(error: HTTPException) -> AnyResponse:
    response = error.get_response()
    response.data = jsonify(error=error.description or error.name).data
    response.content_type = 'application/json'
    return response


def _answer_error(error: BaseException) -> AnyResponse:
    response = jsonify(describe(error))
    response.status_code = find_row(error)[0]
    if isinstance(error, QueueFullError):
        response.headers['Retry-After'] = str(error.retry_after)
    return response


class _Service:
    """The views."""

    def __init__(self, settings: Settings, folder: Path, queue: JobQueue) -> None:
        self._settings = settings
        self._folder = folder
        self._queue = queue

    # ---- the page ----

    def show_page(self) -> AnyResponse:
        if 'token' in request.args:  # of a link or a bookmark
            return self._let_in(request.args['token'])
        known, options = _is_known(self._settings), list_options(PictureOptions)
        more = {field: options[name] for field, name in uploads.FIELDS.items() if field not in _SHOWN}
        page = render_template('page.html', known=known, settings=self._settings, models=MODELS, more=more,
                               installed=list_installed(), strings=STRINGS)
        return make_response(page, 200 if known else 401)

    def log_in(self) -> AnyResponse:
        return self._let_in(request.form.get('token', ''))

    def _let_in(self, token: str) -> AnyResponse:
        if not _is_token(token, self._settings):
            time.sleep(0.5)  # for those who guess
            return redirect(url_for('page', wrong=1), 303)
        response = redirect(url_for('page'), 303)
        response.set_cookie(_COOKIE, token, httponly=True, samesite='Strict', secure=request.is_secure)
        return response

    # ---- files that several jobs may take ----

    def keep_file(self) -> AnyResponse:
        upload = self._receive('image', 'video', kept=True)
        response = jsonify(self._describe_file(upload))
        response.status_code = 201
        response.headers['Location'] = url_for('file', identity=upload.identity)
        return response

    def show_file(self, identity: str) -> AnyResponse:
        """Describe a file, and what a job of it would make with the fields of the query."""
        upload = self._find_file(identity)
        options = uploads.make_options(uploads.read_form(request.args), self._settings, upload.media)
        seconds = self._queue.estimate(options, upload.media)
        return jsonify(self._describe_file(upload) | {
            'result_size': uploads.find_final_size(upload.media, options),
            'seconds': None if seconds is None else round(seconds, 2)})

    def remove_file(self, identity: str) -> AnyResponse:
        self._queue.remove_upload(self._find_file(identity))
        return Response(status=204)

    def send_content(self, identity: str) -> AnyResponse:
        upload = self._find_file(identity)
        return self._send_path(upload.source, upload.source.name)

    def _find_file(self, identity: str) -> uploads.Upload:
        return self._queue.get_upload(identity) or abort(404, 'there is no such file, or it has been removed')

    def _describe_file(self, upload: uploads.Upload) -> dict[str, Any]:
        media = upload.media
        return {'id': upload.identity, 'kind': media.kind, 'size': media.size, 'frames': media.frames,
                'formats': uploads.FORMATS[media.kind], 'url': url_for('file', identity=upload.identity),
                'content': url_for('content', identity=upload.identity)}

    def _receive(self, *fields: str, kept: bool = False) -> uploads.Upload:
        """Take a file that is sent in one of some fields.

        Raises:
            HTTPException, RealESRGANError: it is not what may be sent.
        """
        sent = next((request.files[field] for field in fields if field in request.files), None)
        if sent is None:
            abort(400, f'no file: send one as multipart/form-data in the field {" or ".join(fields)}')
        folder = self._folder / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        try:
            source = folder / 'input'
            sent.save(source)
            media = uploads.measure(source, self._settings)
            if media.kind == uploads.VIDEO and 'video' not in fields:
                raise UnknownFileError('this is a video; POST /jobs takes those')
            extension = (sent.filename or '').rpartition('.')[2].lower()
            if uploads.may_have(extension, media):  # for the result may get it
                source = source.rename(source.with_suffix(f'.{extension}'))
            upload = uploads.Upload(folder, source, uploads.clean_name(sent.filename), media, kept)
            if kept:
                self._queue.keep(upload)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                logger.error('upload: %s', error)
                abort(_answer_error(error))
            raise
        return upload

    # ---- jobs ----

    def enhance(self) -> AnyResponse:
        """Upscale a picture while the client waits, and answer with the result."""
        job = self._accept('image')
        try:
            has_gone = request.environ.get('waitress.client_disconnected', lambda: False)
            while not job.ended.wait(_SECONDS_BETWEEN_LOOKS):
                if has_gone():
                    self._queue.remove(job)
            if job.state == CANCELLED:
                abort(503, 'the job was cancelled')
            response = self._send(job)
        except BaseException:
            self._queue.remove(job)
            raise
        response.direct_passthrough = False  # with it, nobody calls what follows
        response.call_on_close(lambda: self._queue.remove(job))
        return response

    def submit(self) -> AnyResponse:
        job = self._accept('image', 'video')
        response = jsonify(self._describe(job))
        response.status_code = 202
        response.headers['Location'] = url_for('job', identity=job.identity)
        return response

    def show_job(self, identity: str) -> AnyResponse:
        return jsonify(self._describe(self._find(identity)))

    def remove_job(self, identity: str) -> AnyResponse:
        self._queue.remove(self._find(identity))
        return Response(status=204)

    def send_panel(self, identity: str, number: int) -> AnyResponse:
        return self._send_path(self._find(identity).find_panel(number), f'part-{number}.jpg')

    def send_result(self, identity: str) -> AnyResponse:
        job = self._find(identity)
        if job.state in (QUEUED, RUNNING):
            abort(404, 'the job has not ended yet')
        return self._send(job)

    def _accept(self, *fields: str) -> Job:
        """Put a file that is kept, or that is sent in one of some fields, into the queue.

        Raises:
            HTTPException, RealESRGANError: it is not what may be asked.
        """
        self._queue.require_room()  # before the upload is looked at
        given, kept = uploads.read_form(request.form), request.form.get('file') if 'video' in fields else None
        upload = self._find_file(kept) if kept else self._receive(*fields)
        folder = self._folder / secrets.token_hex(8) if kept else upload.folder
        try:
            media = upload.media if 'video' in fields else replace(upload.media, kind=uploads.PICTURE)
            job = Job(folder, upload, uploads.make_options(given, self._settings, media))
            folder.mkdir(mode=0o700, exist_ok=True)
            self._queue.submit(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def _find(self, identity: str) -> Job:
        return self._queue.get(identity) or abort(404, 'there is no such job, or it has been removed')

    def _send(self, job: Job) -> AnyResponse:
        """Answer with the result of a job, or with its error."""
        if job.result is None:
            abort(make_response(jsonify(describe(job.error)), find_row(job.error)[0]))
        return self._send_path(job.result, job.result_name)

    def _send_path(self, path: Path, name: str | None) -> AnyResponse:
        try:
            return send_file(path, _TYPES.get(path.suffix), as_attachment=True, download_name=name)
        except OSError:
            abort(404, 'the file has been removed')

    def _describe(self, job: Job) -> dict[str, Any]:
        outcome, done = job.outcome, job.state == DONE
        return {
            'id': job.identity, 'state': job.state,
            'position': self._queue.find_position(job) if job.state == QUEUED else 0,
            'done': job.done, 'total': job.total, 'seconds': round(job.seconds, 2), 'model': job.options.model_name,
            **(describe(job.error) if job.state == FAILED else {'error': None}),
            'warnings': [*job.warnings, *(job.describe(line) for line in (outcome.problems if outcome else ()))],
            'size': outcome.size if outcome and done else None,
            'result_size': outcome.result_size if outcome and done else None,
            'verdict': outcome.verdict._asdict() if outcome and outcome.verdict and done else None,
            'part': url_for('panel', identity=job.identity, number=0) if job.preview else None,
            'compared': self._list_compared(job),
            'name': job.result_name,
            'url': url_for('job', identity=job.identity),
            'result': url_for('result', identity=job.identity) if done else None}

    def _list_compared(self, job: Job) -> list[dict[str, Any]]:
        """Return the models that a preview has compared, each with its picture and figures, or why it failed."""
        if job.preview is None:
            return []
        per_frame = math.prod(job.upload.media.size) / 1e6 if isinstance(job.options, VideoOptions) else None
        return [{'model': each.model} | (describe(each.error) if each.error else {
            'picture': url_for('panel', identity=job.identity, number=number),
            'speed': round(each.speed * (per_frame or 1), 4), 'unit': 'frame' if per_frame else 'megapixel',
            'seconds': each.seconds and round(each.seconds, 2), 'bytes': each.size,
            'flicker': each.flicker._asdict() if each.flicker else None, 'error': None})
            for number, each in enumerate(job.preview.tried, 1)]

    # ---- about the service ----

    def list_models(self) -> AnyResponse:
        installed = list_installed()
        return jsonify([{'name': spec.name, 'scale': spec.network.scale, 'drawings': spec.anime,
                         'denoise': spec.denoise_partner is not None, 'installed': spec.name in installed}
                        for spec in MODELS.values()])

    def show_health(self) -> AnyResponse:
        counts = self._queue.count_states()
        return jsonify(status='ok', jobs={state: counts[state] for state in ('queued', 'running')},
                       limits={'bytes': self._settings.max_bytes, 'pixels': self._settings.max_pixels,
                               'seconds': self._settings.max_seconds, 'scale': uploads.MOST_SCALE})
