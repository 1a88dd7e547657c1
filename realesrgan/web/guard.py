"""Who may ask: the token, and pages of other sites that must not use a service of this machine."""
from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from flask import Request
from werkzeug.exceptions import Forbidden, HTTPException, Unauthorized

from .settings import Settings, is_loopback

#: The cookie that holds the token.
COOKIE = 'realesrgan_token'


class WrongHost(HTTPException):
    """The request was meant for another host."""

    code = 421


def check_host(request: Request, settings: Settings) -> None:
    """Refuse requests under a foreign name, behind which a page of another site may have hidden (DNS rebinding).

    Raises:
        WrongHost: a local service is called by a name that is not this machine's.
        Forbidden: a page of another site sends something.
    """
    name = urlsplit(f'//{request.host}').hostname or ''
    if settings.is_local and not is_loopback(name) and name not in settings.allowed_hosts:
        raise WrongHost(f'this service is not called {name[:80]!r}; --allow_host lets a proxy call it so')
    origin = request.headers.get('Origin')
    if request.method not in ('GET', 'HEAD', 'OPTIONS') and origin and urlsplit(origin).netloc != request.host:
        raise Forbidden('requests from pages of other sites are refused')


def check_token(request: Request, settings: Settings) -> None:
    """Let those in who show the token, as `Authorization: Bearer TOKEN` or in the page's cookie.

    Raises:
        Unauthorized: it is missing or wrong.
    """
    if not is_known(request, settings):
        raise Unauthorized('a token is needed: Authorization: Bearer TOKEN')


def is_known(request: Request, settings: Settings) -> bool:
    """Return whether a request shows the token, or needs none."""
    if settings.token is None:
        return True
    header = request.headers.get('Authorization', '')
    shown = header[7:].strip() if header.lower().startswith('bearer ') else request.cookies.get(COOKIE, '')
    return is_token(shown, settings)


def is_token(text: str, settings: Settings) -> bool:
    """Compare a text with the token in constant time."""
    return settings.token is not None and hmac.compare_digest(text.encode(), settings.token.encode())
