"""Origins of weights, and converted copies in detectron2's cache.

Weights are looked up in the folder RESNEST_D2_WEIGHTS, then in the cache, then at their URL.
"""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

import torch
from iopath.common.file_io import file_lock, get_cache_dir

from resnest_d2.errors import MissingFileError, MissingPackageError
from resnest_d2.files import make_folder, whole_file, writing
from resnest_d2.outputs import name_fault, short_name

from .convert import convert_file
from .fetch import DownloadError, check_hash, fetch, sha256_of

MIRROR = "RESNEST_D2_WEIGHTS"
_STEM = 120  # bytes of a file's name that its copy keeps
_UNNAMED = "weights.pth"  # of an address that ends in no name of a file
VERSION = 1  # of the conversion; increase it when its result changes


class WeightsOrigin(NamedTuple):
    """Origin of named weights: a URL, or a model that timm downloads.

    ``url`` is a file's in any layout of :data:`LAYOUTS`; ``timm`` is the name of a timm model.
    """

    name: str
    url: str = ""
    timm: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """Possible names of the file in the mirror folder, the recommended one first."""
        if self.timm:
            return (f"{self.timm}.safetensors", f"{self.timm}.pth", f"{self.timm}.bin")
        file = self.url.rsplit("/", 1)[-1]
        names = dict.fromkeys((unquote(file), file))  # %2F would lead out of the folder
        return tuple(name for name in names if not name_fault(name)) or (_UNNAMED,)

    @property
    def hash_head(self) -> str | None:
        """Beginning of the file's SHA-256 if it is in the name, as in ``name-0123abcd.pth``."""
        match = re.search(r"-([0-9a-f]{8,64})\.\w+$", self.files[0])
        return match[1] if match else None


def cache_folder() -> Path:
    """Folder of converted files in detectron2's cache (FVCORE_CACHE or ~/.torch)."""
    return Path(get_cache_dir()) / f"resnest_d2-v{VERSION}"


def local_weights(source: WeightsOrigin) -> str:
    """Path of weights in detectron2's layout, downloaded and converted if necessary.

    Raises:
        DownloadError: the weights cannot be fetched. The message has the URL, the file name and
            the folder to put it into.
        UserError: the file is corrupt or not of a ResNeSt.
        MissingPackageError: the weights need timm, which is not installed.
    """
    mirror = os.environ.get(MIRROR)
    for folder, file in ((mirror, file) for file in source.files if mirror):
        path = Path(os.path.expanduser(folder)) / file
        if path.is_file():
            if source.hash_head:
                check_hash(path, source.hash_head)
            return converted_file(path)
    stem, suffix = os.path.splitext(source.files[0])
    cut = stem != (stem := short_name(stem, _STEM))
    if source.url and (cut or not source.hash_head):  # several URLs may have the same file name
        stem += "-" + hashlib.sha256(source.url.encode()).hexdigest()[:8]
    target = cache_folder() / f"{stem}.pth"
    with _once(target) as missing:
        if missing:
            raw = target.with_name(f"{stem}.download{suffix}")
            if source.timm:
                raw = raw.with_suffix(".pth")
                _save_timm(source, raw)
            else:
                _fetch(source, raw)
            _convert(raw, target)
            raw.unlink()
    return str(target)


def converted_file(path: str | os.PathLike) -> str:
    """Path of a copy of a local file in detectron2's layout; each content is converted once.

    Raises:
        MissingFileError: there is no such file.
        UserError: the file is not a ResNeSt checkpoint, or is not safe to read.
    """
    path = Path(os.path.expanduser(path))
    if not path.is_file():
        raise MissingFileError(f"The checkpoint {path} does not exist.")
    target = cache_folder() / f"{short_name(path.stem, _STEM)}-{sha256_of(path)[:16]}.pth"
    with _once(target) as missing:
        if missing:
            _convert(path, target)
    return str(target)


@contextlib.contextmanager
def _once(target: Path) -> Iterator[bool]:
    """Whether a file is to be made: of several processes one does, the others wait and find it.

    Raises:
        WriteError: the cache cannot be written to.
    """
    if target.is_file():  # also in a cache that only another user may write to
        yield False
        return
    make_folder(target.parent)
    with contextlib.ExitStack() as stack:
        with writing(target):
            stack.enter_context(file_lock(str(target)))
        yield not target.is_file()


def _convert(raw: Path, target: Path) -> None:
    conversion = convert_file(raw, target)
    logging.getLogger(__name__).info(f"{raw}: {conversion} Kept as {target}.")


def _fetch(source: WeightsOrigin, raw: Path) -> None:
    try:
        fetch(source.url, raw, hash_head=source.hash_head)
    except DownloadError as error:
        raise DownloadError(f"{source.name}: {error}. {_by_hand(source, source.url)}") from error


def _by_hand(source: WeightsOrigin, address: str) -> str:
    mirror = os.environ.get(MIRROR)
    folder = f"the folder {mirror}" if mirror else "a folder"
    return (
        f"Without a network, download {address} elsewhere, put it as {source.files[0]} into "
        f"{folder} and set {MIRROR} to that folder."
    )


def _save_timm(source: WeightsOrigin, raw: Path) -> None:
    try:
        import timm
    except ImportError as error:
        raise MissingPackageError(
            f"{source.name} is downloaded by timm, which is not installed: pip install "
            f"'resnest-d2[timm]'. {_by_hand(source, f'timm/{source.timm} from huggingface.co')}"
        ) from error
    try:
        weights = timm.create_model(source.timm, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        raise DownloadError(
            f"{source.name}: timm cannot fetch {source.timm} ({error}). "
            f"{_by_hand(source, f'timm/{source.timm} from huggingface.co')}"
        ) from error
    with whole_file(raw) as file:
        torch.save(weights, file)
