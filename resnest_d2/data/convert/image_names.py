"""Finds the images that Label Studio's links mean, in a folder."""

import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from resnest_d2.errors import UserError

from .labelled import IMAGES

_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # that Label Studio gives to the names of uploaded files


class ImageNames:
    """Images of a folder by name.

    Attributes:
        folder: that is searched, with its subfolders.
    """

    def __init__(self, folder: Path):
        """See the class."""
        self.folder = folder
        self._paths: dict[str, list[str]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in IMAGES:
                self._paths.setdefault(path.name, []).append(path.relative_to(folder).as_posix())

    @staticmethod
    def is_image(text: str) -> bool:
        """Whether a text ends like a link to an image."""
        return Path(_path_of(text)).suffix.lower() in IMAGES

    def find(self, link: str) -> str:
        """Path of a link's image relative to the folder.

        Args:
            link: a path or URL, of an uploaded file with Label Studio's prefix or without.

        Raises:
            UserError: no such image, or several.
        """
        path = _path_of(link)
        name = path.rpartition("/")[2]
        for wanted in (name, _PREFIX.sub("", name)):
            found = self._paths.get(wanted, [])
            if len(found) > 1:  # of these the one with the folders of the link
                found = [p for p in found if f"/{path}".endswith(f"/{p}")] or found
            if len(found) > 1:
                raise UserError(f"{wanted!r} is in {self.folder} {len(found)} times")
            if found:
                return found[0]
        raise UserError(
            f"the image {name!r} is not in {self.folder}; give the folder of the images with "
            "--images"
        )


def _path_of(link: str) -> str:
    """Path in a link, which of a local file is in its query: /data/local-files/?d=a/b.jpg."""
    try:
        parts = urlsplit(link)
    except ValueError as error:
        raise UserError(f"the link {link[:60]!r} is none") from error
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)
