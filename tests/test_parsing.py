"""Bombs in JSON, YAML and XML: refused in one sentence, soon, in little memory."""

import json

import pytest
import yaml

from resnest_d2.config import load_config
from resnest_d2.data.convert.faults import Faults
from resnest_d2.data.convert.voc import read_xml
from resnest_d2.errors import UserError
from resnest_d2.files import read_json, read_yaml
from resnest_d2.parsing import MAX_DEPTH


def laughs(link):
    """Nine levels of ten aliases each, a billion in the end."""
    lines = ["a: &a {x: 1}"]
    for name, before in zip("bcdefghij", "abcdefghi", strict=True):
        lines.append(f"{name}: &{name} {link(', '.join([f'*{before}'] * 10))}")
    return "\n".join(lines)


YAML = {
    "aliases": (laughs(lambda names: f"[{names}]"), "more than 200,000 entries"),
    "merge keys": (laughs(lambda names: f"{{<<: [{names}]}}"), "more than 200,000 entries"),
    "an alias inside itself": ("a: &a [*a]", "an alias is inside its anchor"),
    "a key inside itself": ("a: &a {b: {<<: *a}}", "an alias is inside its anchor"),
    "brackets": ("a: " + "[" * 200_000, "more than 100 levels"),
    "dashes": ("- " * 5000 + "x", "more than 100 levels"),
    "a command": ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    "digits": ("a: " + "9" * 5000, "Exceeds the limit"),
    "a date": ("a: 2020-13-45", "month must be in 1..12"),
    "a truth": ("a: !!bool 3", "'3'"),
    "a time": ("a: !!timestamp x", "has no attribute"),
    "a number": ("a: !!int ''", "string index out of range"),
    "escapes": ("a: \x1b[2J", "special characters are not allowed"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml(name, tmp_path):
    text, reason = YAML[name]
    path = tmp_path / "a.yaml"
    path.write_text(text)
    for read in (read_yaml, load_config):
        with pytest.raises(UserError, match=f"a.yaml is not YAML: .*{reason}"):
            read(str(path))


def test_aliases_that_are_no_bomb_are_read(tmp_path):
    text = "a: &a {x: 1}\nb: [*a, *a]\nc: {<<: *a, y: 2}\n" + "d: " + "[" * 98 + "]" * 98
    (tmp_path / "a.yaml").write_text(text)
    assert read_yaml(tmp_path / "a.yaml") == yaml.safe_load(text)


def deep(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "text",
    [
        deep(200_000),
        '{"a":' * 200_000 + "1" + "}" * 200_000,
        deep(MAX_DEPTH + 1),
        json.dumps({"images": [{"id": 1}], "annotations": [{"bbox": json.loads(deep(300))}]}),
        r'["]\"}\\",' * 101 + "1" + "]" * 101,
    ],
    ids=["lists", "mappings", "one too many", "in an annotation", "closed in strings"],
)
def test_json_that_is_nested_too_deep(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="a.json is not JSON.*nested more than 100 levels deep"):
        read_json(tmp_path / "a.json")


def test_brackets_in_strings_do_not_nest(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(["[" * 200, '\\"[{' * 200, ""]))
    assert read_json(tmp_path / "a.json") == ["[" * 200, '\\"[{' * 200, ""]


def test_json_that_is_nested_deep_enough(tmp_path):
    (tmp_path / "a.json").write_text(deep(MAX_DEPTH))
    assert json.dumps(read_json(tmp_path / "a.json")) == deep(MAX_DEPTH)


LOL = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
XML = {
    "expansion": (f'<!DOCTYPE a [<!ENTITY l0 "lol">{LOL}]><a>&l9;</a>', "declares entities"),
    "a file": (
        '<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]><a>&f;</a>',
        "declares entities",
    ),
    "an address": (
        '<!DOCTYPE a [<!ENTITY % f SYSTEM "http://127.0.0.1:9/f"> %f;]><a/>',
        "declares entities",
    ),
    "depth": ("<a>" * 200_000 + "</a>" * 200_000, "more than 100 levels"),
    "an unknown encoding": ('<?xml version="1.0" encoding="none"?><a/>', "is not XML: unknown enc"),
    "two bytes": ('<?xml version="1.0" encoding="shift-jis"?><a/>', "is not XML: multi-byte"),
    "a tag": ("<a>", "is not XML: no element found"),
}


@pytest.mark.parametrize("name", XML)
def test_xml(name, tmp_path):
    pytest.importorskip("defusedxml")
    text, reason = XML[name]
    (tmp_path / "a.xml").write_text(text)
    faults = Faults()
    assert read_xml(tmp_path / "a.xml", faults) is None
    with pytest.raises(UserError, match=f"a.xml: .*{reason}"):
        faults.finish()


def test_bases_that_double_at_each_level(tmp_path):
    for i in range(30):
        (tmp_path / f"{i}.yaml").write_text(f"_BASE_: [{i + 1}.yaml, {i + 1}.yaml]")
    (tmp_path / "30.yaml").write_text("VERSION: 2")
    with pytest.raises(UserError, match="yaml has more than 100 files below it, by _BASE_"):
        load_config(str(tmp_path / "0.yaml"))
