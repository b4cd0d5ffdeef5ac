"""What stands beside the code agrees with it: versions, citation, templates, fixtures."""

import re
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest
import yaml

from resnest_d2 import __version__

ROOT = Path(__file__).parents[1]
FIXTURES = sorted((ROOT / "tests" / "data" / "oracles").rglob("*.npz"))


def test_the_changelog_and_the_citation_know_the_version():
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.M)
    assert sections[:2] == ["Unreleased", __version__]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert [r["title"] for r in citation["references"]] == [
        "ResNeSt: Split-Attention Networks",
        "Detectron2",
    ]


def test_the_metadata_names_the_license_and_the_types():
    about = metadata("resnest-d2")
    assert about["License-Expression"] == "Apache-2.0"
    assert (ROOT / "resnest_d2" / "py.typed").is_file()


def test_bug_reports_ask_for_what_doctor_says():
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yml")}
    assert {"bug", "feature"} <= set(forms)
    required = [f for f in forms["bug"]["body"] if f.get("validations", {}).get("required")]
    assert any("resnest-d2 doctor" in field["attributes"]["label"] for field in required)


def test_the_workflow_reports_the_coverage():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    commands = [step.get("run", "") for step in workflow["jobs"]["test"]["steps"]]
    assert any("make test" in command and "--cov" in command for command in commands)
    assert any("coverage report" in command for command in commands)


def test_the_workflow_installs_the_constraints_and_audits_them():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]
    rows = jobs["test"]["strategy"]["matrix"]["include"]
    assert any(row.get("constraints") == "constraints.txt" for row in rows)
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert any("CONSTRAINTS=" in run and "matrix.constraints" in run for run in steps)
    assert any("pip-audit" in run and "constraints.txt" in run for run in steps)


def test_fixtures_of_every_reference_system_are_here():
    folders = [path.parent.name for path in FIXTURES]
    counts = {name: folders.count(name) for name in set(folders)}
    assert counts == {"authors": 4, "mmdet": 4, "mmdet_train": 4, "timm": 5}
    assert sum(path.stat().st_size for path in FIXTURES) < 2e6


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_fixture_holds_a_checkpoint_and_what_came_of_it(path):
    with np.load(path) as fixture:
        assert len(fixture["keys"]) == len(fixture["shapes"]) > 100
        results = set(fixture.files) - {"keys", "shapes", "picture"}
        values = {name for name in results if name in ("res5",) or name.startswith("grad/")}
        assert values and all(np.isfinite(fixture[name]).all() for name in values)
