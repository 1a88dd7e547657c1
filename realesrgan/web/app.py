"""The service as a WSGI application."""
from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response, jsonify, make_response, redirect, render_template, request, send_file, url_for
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, HTTPException, NotFound, ServiceUnavailable, UnprocessableEntity
from werkzeug.exceptions import InternalServerError as ServerError
from werkzeug.exceptions import RequestEntityTooLarge as TooLarge
from werkzeug.exceptions import UnsupportedMediaType as UnknownType
from werkzeug.wrappers import Response as AnyResponse

from ..errors import (
    DeviceError,
    DiskFullError,
    EngineError,
    FacePackagesError,
    ImageError,
    MediaError,
    RealESRGANError,
    UsageError,
    VideoError,
    WeightsError,
)
from ..ffmpeg.containers import CONTAINERS
from ..models import MODELS
from ..pictures.formats import find_by_extension
from .forms import MOST_SCALE, PICTURE_FORMATS, VIDEO_FORMATS, clean_name, make_options, read_form
from .guard import COOKIE, check_host, check_token, is_known, is_token
from .jobs import CANCELLED, DONE, ENDS, FAILED, QUEUED, Job, JobQueue, JobTimeoutError, QueueFullError
from .metrics import Metrics
from .settings import Settings
from .uploads import TooLargeError, UnknownFileError, is_video

_FORM_BYTES = 1 << 16  # of an upload's request beside the file
_SECONDS_BETWEEN_LOOKS = 0.25  # at whether a client still waits
_OPEN = 'static', 'healthz', 'login'  # to those without a token
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; " \
          "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_TYPES = {'.webp': 'image/webp', '.mkv': 'video/matroska'}  # which Python knows only where the system does
# What a failure of a job says of the request.
_STATUSES: dict[type[BaseException], type[HTTPException]] = {
    UsageError: UnprocessableEntity, ImageError: UnprocessableEntity, VideoError: UnprocessableEntity,
    MediaError: UnprocessableEntity, WeightsError: ServiceUnavailable, FacePackagesError: ServiceUnavailable,
    DeviceError: ServiceUnavailable, EngineError: ServiceUnavailable, DiskFullError: ServiceUnavailable,
    JobTimeoutError: ServiceUnavailable, TooLargeError: TooLarge, UnknownFileError: UnknownType}


def create_app(settings: Settings, queue: JobQueue, metrics: Metrics) -> Flask:
    """Return the application.

    Args:
        settings: What may be asked.
        queue: Runs the jobs.
        metrics: Counts.
    """
    app = Flask(__name__)
    app.config['MAX_CONTENT_LENGTH'] = settings.max_bytes + _FORM_BYTES
    app.config['MAX_FORM_PARTS'] = 20
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of Flask's own provider
    service = _Service(settings, queue)
    _add_rules(app, service)
    app.add_url_rule('/metrics', 'metrics', lambda: Response(metrics.render(), mimetype='text/plain'))

    @app.before_request
    def admit() -> None:
        check_host(request, settings)
        if request.endpoint not in (*_OPEN, 'page'):
            check_token(request, settings)

    @app.after_request
    def finish(response: Response) -> Response:
        response.headers['Content-Security-Policy'] = _POLICY
        response.headers['X-Content-Type-Options'] = 'nosniff'
        response.headers['Referrer-Policy'] = 'same-origin'  # with none, forms come from nowhere
        response.headers.setdefault('Cache-Control', 'no-store')
        metrics.requests.labels(request.endpoint or 'none', request.method, response.status_code).inc()
        return response

    app.register_error_handler(HTTPException, _answer_error)
    return app


def _add_rules(app: Flask, service: _Service) -> None:
    rules: list[tuple[str, str, Callable[..., Any], list[str]]] = [
        ('/', 'page', service.show_page, ['GET']), ('/login', 'login', service.log_in, ['POST']),
        ('/enhance', 'enhance', service.enhance, ['POST']), ('/jobs', 'submit', service.submit, ['POST']),
        ('/jobs/<identity>', 'job', service.show_job, ['GET']),
        ('/jobs/<identity>', 'remove', service.remove_job, ['DELETE']),
        ('/jobs/<identity>/result', 'result', service.send_result, ['GET']),
        ('/models', 'models', service.list_models, ['GET']), ('/healthz', 'healthz', service.show_health, ['GET'])]
    for path, name, view, methods in rules:
        app.add_url_rule(path, name, view, methods=methods)


def _answer_error(error: HTTPException) -> AnyResponse:
    """Say in one line what is wrong."""
    response = jsonify(error=error.description or error.name)
    response.status_code = error.code or 500
    for name, value in error.get_headers():
        if name not in ('Content-Type', 'Content-Length'):
            response.headers[name] = value
    if (wait := getattr(error, 'retry_after', None)) is not None:
        response.headers['Retry-After'] = str(wait)
    return response


class _Busy(HTTPException):
    """The queue is full."""

    code = 429

    def __init__(self, error: QueueFullError) -> None:
        super().__init__(str(error))
        self.retry_after = error.retry_after


def _translate(error: BaseException | None, text: str) -> HTTPException:
    """Return an error of the library as one of HTTP."""
    kind = next((status for known, status in _STATUSES.items() if isinstance(error, known)), ServerError)
    return kind(text)


class _Service:
    """The views."""

    def __init__(self, settings: Settings, queue: JobQueue) -> None:
        self._settings = settings
        self._queue = queue

    # ---- the page ----

    def show_page(self) -> AnyResponse:
        if 'token' in request.args:  # of a link or a bookmark
            return self._let_in(request.args['token'])
        known = is_known(request, self._settings)
        page = render_template('page.html', known=known, models=MODELS.values(), formats=PICTURE_FORMATS,
                               video_formats=VIDEO_FORMATS, settings=self._settings)
        return make_response(page, 200 if known else 401)

    def log_in(self) -> AnyResponse:
        return self._let_in(request.form.get('token', ''))

    def _let_in(self, token: str) -> AnyResponse:
        if not is_token(token, self._settings):
            time.sleep(0.5)  # for those who guess
            return redirect(url_for('page', wrong=1), 303)
        response = redirect(url_for('page'), 303)
        response.set_cookie(COOKIE, token, httponly=True, samesite='Strict', secure=request.is_secure)
        return response

    # ---- jobs ----

    def enhance(self) -> AnyResponse:
        """Upscale a picture while the client waits, and answer with the result."""
        job = self._accept(videos=False)
        try:
            has_gone = request.environ.get('waitress.client_disconnected', lambda: False)
            while not job.ended.wait(_SECONDS_BETWEEN_LOOKS):
                if has_gone():
                    job.cancel.set()
            if job.state == CANCELLED:
                raise ServiceUnavailable('the job was cancelled')
            if job.result is None:
                raise _translate(job.error, self._explain(job))
            response = self._send(job)
        except BaseException:
            self._queue.remove(job)
            raise
        response.direct_passthrough = False  # with it, nobody calls what follows
        response.call_on_close(lambda: self._queue.remove(job))
        return response

    def submit(self) -> AnyResponse:
        job = self._accept(videos=True)
        response = jsonify(self._describe(job))
        response.status_code = 202
        response.headers['Location'] = url_for('job', identity=job.identity)
        return response

    def show_job(self, identity: str) -> AnyResponse:
        return jsonify(self._describe(self._find(identity)))

    def remove_job(self, identity: str) -> AnyResponse:
        self._queue.remove(self._find(identity))
        return Response(status=204)

    def send_result(self, identity: str) -> AnyResponse:
        job = self._find(identity)
        if job.state not in ENDS:
            raise NotFound('the job has not ended yet')
        if job.result is None:
            raise _translate(job.error, self._explain(job))
        return self._send(job)

    def _accept(self, *, videos: bool) -> Job:
        """Put what was uploaded into the queue.

        Raises:
            HTTPException: it is not what may be asked.
        """
        if not self._queue.has_room():  # before the upload is looked at
            raise _Busy(QueueFullError(self._queue.estimate_wait()))
        upload = self._find_upload(videos=videos)
        folder = self._settings.folder / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        try:
            source = folder / 'input'
            upload.save(source)
            given = read_form(request.form)
            video = is_video(source, self._settings, given.get('outscale'))
            if video and not videos:
                raise UnknownFileError('this is a video; POST /jobs takes those')
            options = make_options(given, self._settings, video=video)
            job = Job(folder, _restore_extension(source, upload.filename), clean_name(upload.filename), options)
            self._queue.submit(job)
        except QueueFullError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _Busy(error) from None
        except (RealESRGANError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise _translate(error, str(error) if isinstance(error, RealESRGANError) else 'the service\'s disk is full '
                             'or can\'t be written') from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return job

    def _find_upload(self, *, videos: bool) -> FileStorage:
        """Return the uploaded file."""
        files = request.files
        names = ('image', 'video') if videos else ('image',)
        upload = next((files[name] for name in names if name in files), None)
        if upload is None:
            raise BadRequest(f'no file: send one as multipart/form-data in the field {" or ".join(names)}')
        return upload

    def _find(self, identity: str) -> Job:
        job = self._queue.get(identity)
        if job is None:
            raise NotFound('there is no such job, or it has been removed')
        return job

    def _explain(self, job: Job) -> str:
        if job.error is None:
            return 'the job failed'
        return job.describe(job.error) if isinstance(job.error, RealESRGANError) else job.describe(
            f'the job failed: {job.error}')

    def _send(self, job: Job) -> AnyResponse:
        assert job.result is not None
        try:
            return send_file(job.result, _TYPES.get(job.result.suffix), as_attachment=True,
                             download_name=f'{job.name}_out{job.result.suffix}')
        except OSError:
            raise NotFound('the result has been removed') from None

    def _describe(self, job: Job) -> dict[str, Any]:
        outcome = job.outcome
        return {
            'id': job.identity, 'state': job.state,
            'position': self._queue.find_position(job) if job.state == QUEUED else 0,
            'done': job.done, 'total': job.total, 'seconds': round(job.seconds, 2),
            'model': job.options.model_name,
            'error': self._explain(job) if job.state == FAILED else None,
            'warnings': [*job.warnings, *(job.describe(line) for line in (outcome.problems if outcome else ()))],
            'size': outcome.size if outcome and job.state == DONE else None,
            'result_size': outcome.result_size if outcome and job.state == DONE else None,
            'name': f'{job.name}_out{job.result.suffix}' if job.result else None,
            'url': url_for('job', identity=job.identity),
            'result': url_for('result', identity=job.identity) if job.state == DONE else None}

    # ---- about the service ----

    def list_models(self) -> AnyResponse:
        return jsonify([{'name': spec.name, 'scale': spec.network.scale, 'anime': spec.anime,
                         'denoise': spec.denoise_partner is not None} for spec in MODELS.values()])

    def show_health(self) -> AnyResponse:
        counts = self._queue.count_states()
        return jsonify(status='ok', jobs={state: counts[state] for state in ('queued', 'running')},
                       limits={'bytes': self._settings.max_bytes, 'pixels': self._settings.max_pixels,
                               'seconds': self._settings.max_seconds, 'scale': MOST_SCALE})


def _restore_extension(source: Path, name: str | None) -> Path:
    """Give an upload the extension it came with, if that is known: it says which format the result gets."""
    extension = (name or '').rpartition('.')[2].lower()
    if extension not in CONTAINERS and find_by_extension(extension) is None:
        return source
    return source.rename(source.with_suffix(f'.{extension}'))
