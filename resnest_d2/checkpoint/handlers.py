"""Path handler of detectron2's PathManager for weights by name.

``resnest://faster_rcnn_s50`` is a name, ``resnest+file:///x.pth`` a file and ``resnest+https://...``
a URL. The file can have any known layout; it is converted to detectron2's.
"""

import os
from collections.abc import Callable
from typing import IO, Any
from urllib.parse import unquote

from detectron2.utils.file_io import PathHandler

from .download import check_address
from .origins import WeightsOrigin, converted_file, local_weights


class WeightsHandler(PathHandler):
    """Resolves paths of weights to local files, downloading and converting them if necessary."""

    NAME, FILE, ADDRESS = "resnest://", "resnest+file:", ("resnest+http:", "resnest+https:")

    def __init__(self, find: Callable[[str], WeightsOrigin]):
        """
        Args:
            find: returns the origin of a name such as "faster_rcnn_s50", or raises UserError.
        """
        super().__init__()
        self._find = find

    def _get_supported_prefixes(self) -> list[str]:
        return [self.NAME, self.FILE, *self.ADDRESS]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        self._check_kwargs(kwargs)
        if path.startswith(self.NAME):
            return local_weights(self._find(path.removeprefix(self.NAME)))
        if path.startswith(self.ADDRESS):
            url = path.removeprefix("resnest+")
            check_address(url)
            return local_weights(WeightsOrigin(name=path, url=url))
        # detectron2 turns resnest+file:///a.pth into resnest+file:/a.pth
        file = path.removeprefix(self.FILE)
        file = file[2:] if file.startswith("//") else file
        return converted_file(file if os.path.exists(file) else unquote(file))

    def _open(
        self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any
    ) -> IO[str] | IO[bytes]:
        if not set(mode) <= set("rbt"):
            raise ValueError(f"{path} can only be read, not opened with mode {mode!r}.")
        return open(self._get_local_path(path), mode, buffering, **kwargs)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        try:
            return os.path.isfile(self._get_local_path(path, **kwargs))
        except FileNotFoundError:
            return False

    _exists = _isfile
