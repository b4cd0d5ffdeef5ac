"""The app command: what it serves, to whom, and its sentences."""

import contextlib
import sys

import pytest

from resnest_d2.cli import app as module


@pytest.fixture
def given(monkeypatch):
    """What the command hands to the server and to the detectors, which are none here."""
    seen = {"detectors": []}

    @contextlib.contextmanager
    def served(detectors, **options):
        seen.update(options)
        yield "http://127.0.0.1:7860/", "https://a.gradio.live" if options["share"] else None

    def detector(model, **options):
        seen["detectors"].append((model, options))

    monkeypatch.setattr("resnest_d2.app.serving.served", served)
    monkeypatch.setattr("resnest_d2.app.serving.require_gradio", lambda: None)
    monkeypatch.setattr("resnest_d2.app.session.Detector", detector)
    monkeypatch.setattr(module, "wait", lambda: None)
    return seen


def test_the_page_is_for_this_machine_alone(given, resnest_d2):
    done = resnest_d2("app", "mine", "other", "mine", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "The page is at http://127.0.0.1:7860/ (Ctrl-C ends it).\n"
    assert (given["host"], given["port"], given["share"]) == ("127.0.0.1", None, False)
    options = {"device": "cpu", "backend": "eager", "precision": "auto"}
    assert given["detectors"] == [
        ("mine", {"name": "mine", **options}),
        ("other", {"name": "other", **options}),
    ]


def test_who_else_can_open_it_is_told(given, resnest_d2):
    done = resnest_d2("app", "mine", "--host", "0.0.0.0", "--port", "8000")
    assert done.stdout.splitlines()[1:] == ["Anyone who can reach 0.0.0.0 can open it."]
    assert (given["host"], given["port"], given["share"]) == ("0.0.0.0", 8000, False)
    done = resnest_d2("app", "mine", "--share")
    assert "Anyone on the internet can open https://a.gradio.live" in done.stdout


def test_without_gradio_the_extra_is_named(resnest_d2, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = resnest_d2("app", "mine")
    assert done.stderr == "resnest-d2: app needs gradio: pip install 'resnest-d2[app]'.\n"
    assert done.exit_code == 1
