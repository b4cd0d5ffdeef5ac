"""mkdocs hooks: files from outside docs/ that pages link to become part of the site.

On disk ``docs/weights.md`` links to ``../MODEL_ZOO.md``, and that to ``configs/a.yaml`` and
``docs/weights.md``. In the site docs/ is the top, so the links are rewritten on the way. In the
API reference, Sphinx's roles in docstrings (``:class:`ResNeSt```) are shown as the names alone.
"""

import re
from pathlib import Path

from mkdocs.structure.files import File

PAGES = ("MODEL_ZOO.md", "BENCHMARKS.md", "CHANGELOG.md", "CONTRIBUTING.md")
ROOT = Path(__file__).parents[1]
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>~?([^<]+)</code>")
_LINK = re.compile(r"(\]\()([^)#:\s]+)(#[^)\s]*)?(\))")


def on_files(files, config):
    """Adds the pages from the root folder, and all other files that pages link to."""
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    for page in [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in PAGES)]:
        for _, target, _, _ in _LINK.findall(page.read_text()):
            path = (page.parent / target).resolve()
            if not path.is_file() or not path.is_relative_to(ROOT) or path.suffix == ".md":
                continue
            name = path.relative_to(ROOT).as_posix()
            if not path.is_relative_to(ROOT / "docs") and files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites links for the site."""

    if page.file.src_uri.startswith("api/"):  # one folder down in the site too
        return markdown

    def rewrite(match):
        opening, target, anchor, closing = match.groups()
        if page.file.src_uri in PAGES:
            target = target.removeprefix("docs/")
        else:
            target = target.removeprefix("../")
        return f"{opening}{target}{anchor or ''}{closing}"

    return _LINK.sub(rewrite, markdown)


def on_page_content(html, page, config, files):
    """Take Sphinx's roles off the names in docstrings."""
    return _ROLE.sub(r"<code>\1</code>", html)
