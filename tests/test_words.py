"""The words of the package, its tools, configs and pages are the standard terms of the field."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Folders and files with text, and the kinds of files in them.
TEXTS = sorted(
    path
    for name in ("resnest_d2", "tools", "configs", "docs", "notebooks")
    for path in (ROOT / name).rglob("*")
    if path.suffix in (".py", ".md", ".j2", ".yaml", ".ipynb")
) + [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "train_net.py"]
# Pattern, any case -> what to write instead.
AVOID = {
    r"\bpictures?\b": "image",
    r"\banew\b": "again; restart",
    r"\bthrice\b": "three times",
    r"\bgo(es|ing|ne)? on (with|from|where|training)\b": "resume; continue",
    r"\bit is (said|told)\b|\bis said (in|once)\b": "a warning is logged; the error names it",
    r"\bwhat becomes? of\b|\bwhat became of\b": "say what happens",
    r"\bwhatever\b": "any",
    r"\bstands? twice\b": "is used twice; duplicate",
    r"\b(whole|all of it) or (not at all|nothing)\b": "atomically",
    r"\bone's own\b": "your own",
    r"\bmade faster\b": "optimized",
    r"\bheld against\b": "compared with",
    r"\bdoing it again\b": "Reproduce this run",
    r"\bwhat was taken for what\b": "Confusion matrix",
    r"\bwhat a score is worth\b": "Calibration",
}


@pytest.mark.parametrize("pattern", AVOID)
def test_standard_terms_are_used(pattern):
    found = []
    for path in TEXTS:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := re.search(pattern, line, flags=re.IGNORECASE):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match[0]}")
    assert not found, f"write {AVOID[pattern]!r} instead:\n" + "\n".join(found)


def test_the_texts_are_found():
    names = {path.relative_to(ROOT).as_posix() for path in TEXTS}
    assert {"README.md", "docs/training.md", "resnest_d2/cli/train.py", "train_net.py"} <= names
    assert {"notebooks/quickstart.ipynb", "configs/Base-ResNeSt-FPN.yaml"} <= names
    assert "resnest_d2/report/templates/report.html.j2" in names


def test_docstrings_of_commands_say_what_they_do():
    from resnest_d2.cli.main import app

    for command in app.registered_commands:
        first = command.help.splitlines()[0]
        assert first.endswith((".", ":")) and first.split()[0].isalpha(), command.name
        assert not re.match(r"(The|A|An|What|Of|Those|These)\b", first), f"{command.name}: {first}"
