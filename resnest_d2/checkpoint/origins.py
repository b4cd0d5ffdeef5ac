"""Origins of weights, and converted copies in detectron2's cache.

Weights are looked up in the folder RESNEST_D2_WEIGHTS, then in the cache, then at their URL. An
address in a config is any server's: its file is checked before it is kept.
"""

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import torch
from iopath.common.file_io import file_lock, get_cache_dir

from resnest_d2.errors import MissingFileError, MissingPackageError
from resnest_d2.files import make_folder, whole_file, writing
from resnest_d2.outputs import name_fault, short_name

from .convert import convert_file
from .download import check_address
from .fetch import DownloadError, check_hash, fetch, sha256_of
from .reading import check_beginning, refuse_pickle

MIRROR = "RESNEST_D2_WEIGHTS"
_STEM, _SUFFIX = 120, 16  # bytes of a file's name that its copy keeps
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
        file = urlsplit(self.url).path.rsplit("/", 1)[-1]
        inside = re.split(r"[/\\]", unquote(file))[-1]  # of a%2F..%2Fb.pth, too
        names = dict.fromkeys((inside, file))
        return tuple(name for name in names if name and not name_fault(name)) or (_UNNAMED,)

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
    if path := _in_mirror(source):
        return converted_file(path)
    with _in_cache(source) as (raw, target):
        if not target.is_file():
            if source.timm:
                _save_timm(source, raw)
            else:
                _fetch(source, raw)
            _convert(raw, target)
    return str(target)


_published: list[Callable[[str], WeightsOrigin | None]] = []


def set_published(find: Callable[[str], WeightsOrigin | None]) -> None:
    """Sets how the addresses of published files are recognised.

    Args:
        find: returns the origin of a file that is published under an address, None of any other.
    """
    _published[:] = [find]


def file_at(url: str) -> str:
    """Path of the file at an http or https address, downloaded if necessary, in its own layout.

    A published file, also at an address of before, has its name's origin.

    Raises:
        DownloadError, UserError: see :func:`local_weights`.
    """
    check_address(url)
    for find in _published:
        if origin := find(url):
            logging.getLogger(__name__).info(f"{url} is published, and loaded as {origin.name}.")
            return local_weights(origin)
    source = WeightsOrigin(name=url, url=url)
    refuse_pickle(source.files[0])
    if path := _in_mirror(source):
        return str(path)
    with _in_cache(source, ".as-it-is") as (raw, target):
        if not target.is_file():
            _fetch(source, raw)
            os.replace(raw, target)
    return str(target)


def _in_mirror(source: WeightsOrigin) -> Path | None:
    """The file in the folder RESNEST_D2_WEIGHTS, if it is there."""
    mirror = os.environ.get(MIRROR)
    for folder, file in ((mirror, file) for file in source.files if mirror and file):
        path = Path(os.path.expanduser(folder)) / file
        if path.is_file():
            if source.hash_head:
                check_hash(path, source.hash_head)
            return path
    return None


@contextlib.contextmanager
def _in_cache(source: WeightsOrigin, kind: str = "") -> Iterator[tuple[Path, Path]]:
    """Paths of a download and of what is kept of it; the download is removed, also after an error.

    Args:
        source: origin of the weights.
        kind: end of the name, of another kind of file of the same origin.
    """
    whole = os.path.splitext(source.files[0])
    stem, suffix = (re.sub(r"[^\w.+=,@() -]", "_", part) for part in whole)
    stem, suffix = short_name(stem, _STEM), short_name(suffix, _SUFFIX)
    cut = len(stem + suffix) < len(source.files[0])
    if source.url and (cut or not source.hash_head):  # several URLs may have the same file name
        stem += "-" + hashlib.sha256(source.url.encode()).hexdigest()[:8]
    target = cache_folder() / f"{stem}{f'{kind}{suffix}' if kind else '.pth'}"
    raw = target.with_name(f"{stem}.download{'.pth' if source.timm else suffix}")
    with _once(target) as missing:
        try:
            yield raw, target
        finally:
            if missing:
                raw.unlink(missing_ok=True)


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
        name = "" if source.name in str(error) else f"{source.name}: "
        raise DownloadError(f"{name}{error}. {_by_hand(source, source.url)}") from error
    if raw.suffix != ".safetensors":
        with open(raw, "rb") as file:
            check_beginning(source.url, file.read(16))


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
