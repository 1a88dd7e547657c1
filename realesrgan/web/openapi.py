"""The service's interface, as OpenAPI describes it."""
from __future__ import annotations

from typing import Any

from ..models import MODELS
from ..version import __version__
from .forms import MOST_SCALE, PICTURE_FORMATS, VIDEO_FORMATS
from .jobs import STATES
from .settings import Settings

_ERROR = {'application/json': {'schema': {'type': 'object', 'properties': {'error': {'type': 'string'}}}}}
_WORDS = {
    400: 'No file, or no form.', 401: 'The token is missing or wrong.',
    403: 'A page of another site has asked.', 404: 'There is no such job.', 408: 'The upload took too long.',
    413: 'The file is too large, or the picture or the video has too many pixels or seconds.',
    415: 'No picture and no video that can be read.', 421: 'The service has another name.',
    422: 'A field is not allowed, or the file is damaged.',
    429: 'The queue is full; Retry-After says when to ask again.',
    500: 'The job failed.', 503: 'The service lacks what the job needs, or it took too long.'}


def describe_api(settings: Settings) -> dict[str, Any]:
    """Return the description of the interface as OpenAPI 3.1."""
    object_ = _content({'type': 'object'})
    job = _content({'$ref': '#/components/schemas/Job'})
    identity = [{'name': 'identity', 'in': 'path', 'required': True, 'schema': {'type': 'string'}}]
    paths = {
        '/enhance': {'post': _operation('Upscale a picture and wait for the result.', {200: ('The result.', {
            'image/*': {'schema': {'type': 'string', 'format': 'binary'}}})},
            400, 403, 408, 413, 415, 422, 429, 500, 503, body=_form('image'))},
        '/jobs': {'post': _operation('Upscale a picture or a short video later.', {202: ('The job.', job)},
                                     400, 403, 408, 413, 415, 422, 429, body=_form('image', 'video'))},
        '/jobs/{identity}': {
            'parameters': identity,
            'get': _operation('How far a job is.', {200: ('The job.', job)}, 404),
            'delete': _operation('End a job and remove all of it.', {204: ('It is gone.', {})}, 403, 404)},
        '/jobs/{identity}/result': {
            'parameters': identity,
            'get': _operation('The result of a job.', {200: ('The result.', {'*/*': {}})}, 404, 422, 500, 503)},
        '/models': {'get': _operation('The models.', {200: ('A list.', _content({'type': 'array'}))})},
        '/healthz': {'get': _operation('Whether the service lives.', {200: ('It does.', object_)})},
        '/metrics': {'get': _operation('Figures for Prometheus.', {200: ('Text.', {'text/plain': {}})})},
        '/openapi.json': {'get': _operation('This description.', {200: ('It.', object_)})}}
    document: dict[str, Any] = {
        'openapi': '3.1.0', 'info': {'title': 'Real-ESRGAN', 'version': __version__}, 'paths': paths,
        'components': {'schemas': {'Job': _describe_job()}}}
    if settings.token is not None:
        document['components']['securitySchemes'] = {'token': {'type': 'http', 'scheme': 'bearer'}}
        document['security'] = [{'token': []}]
    return document


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {'application/json': {'schema': schema}}


def _operation(summary: str, answers: dict[int, tuple[str, dict[str, Any]]], *errors: int,
               body: dict[str, Any] | None = None) -> dict[str, Any]:
    responses = {str(status): {'description': text, **({'content': content} if content else {})}
                 for status, (text, content) in answers.items()}
    responses |= {str(status): {'description': _WORDS[status], 'content': _ERROR} for status in (*errors, 401, 421)}
    return {'summary': summary, **({'requestBody': body} if body else {}), 'responses': responses}


def _form(*files: str) -> dict[str, Any]:
    fields: dict[str, Any] = {name: {'type': 'string', 'format': 'binary'} for name in files}
    fields |= {
        'model': {'type': 'string', 'enum': list(MODELS)},
        'scale': {'type': 'number', 'minimum': 0.1, 'maximum': MOST_SCALE,
                  'description': 'Final size as a multiple of the input\'s; the network\'s own without it.'},
        'denoise': {'type': 'number', 'minimum': 0, 'maximum': 1},
        'face': {'type': 'string', 'enum': ['1', '0'], 'description': 'Restore faces.'},
        'format': {'type': 'string', 'enum': list(dict.fromkeys((*PICTURE_FORMATS, *VIDEO_FORMATS)))}}
    return {'required': True, 'content': {'multipart/form-data': {'schema': {'type': 'object', 'properties': fields}}}}


def _describe_job() -> dict[str, Any]:
    text, count = {'type': 'string'}, {'type': 'integer'}
    return {'type': 'object', 'properties': {
        'id': text, 'state': {'type': 'string', 'enum': list(STATES)}, 'position': count, 'done': count,
        'total': {'type': ['integer', 'null']}, 'seconds': {'type': 'number'}, 'model': text,
        'error': {'type': ['string', 'null']}, 'warnings': {'type': 'array', 'items': text},
        'size': {'type': ['array', 'null'], 'items': count}, 'result_size': {'type': ['array', 'null'], 'items': count},
        'name': {'type': ['string', 'null']}, 'url': text, 'result': {'type': ['string', 'null']}}}
