"""The page in headless Chromium, and what its server serves and refuses."""

import json
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from resnest_d2.app import serving
from resnest_d2.app.serving import served
from resnest_d2.app.session import Detector, Visit, count, keep, table
from resnest_d2.errors import UserError

pytest.importorskip("gradio")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# What a page loads by itself; links and metadata are not.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video)[^>]+src=.?https?:|<link[^>]+href=.?https?:"
    r"|@import|url\([\"']?https?:|fetch\([\"']https?:",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def detectors(run):
    return [Detector(str(run), name=name, device="cpu") for name in ("mine", "other")]


@pytest.fixture(scope="module")
def address(detectors):
    with served(detectors, host="127.0.0.1", port=None, share=False) as (local, public):
        assert public is None and re.fullmatch(r"http://127\.0\.0\.1:\d+/", local)
        yield local


@pytest.fixture
def page(address):
    """The page; at the end, nothing is on its console and nothing was asked of other sites."""
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    trouble = []
    with api.sync_playwright() as playwright:
        media = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        options = {"executable_path": CHROMIUM, "args": ["--no-sandbox", *media]}
        browser = playwright.chromium.launch(**options)
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.on("console", lambda m: m.type == "error" and trouble.append(m.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("dialog", lambda dialog: trouble.append(dialog.message))
        own = (address, "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(own) or trouble.append(r.url))
        page.goto(address)
        yield page
        browser.close()
    assert not trouble


def upload(page, path):
    page.set_input_files("input[type=file] >> nth=0", path)


def rows(page, table):
    """Texts of the cells of a table's rows that are in sight."""
    lines = page.locator(f"#{table} [role=row]:has([role=gridcell])").all()
    return [[c.strip() for c in row.locator("[role=gridcell]").all_inner_texts()] for row in lines]


def test_the_threshold_and_the_classes_filter_what_was_predicted_once(
    page, detectors, files, tmp_path, monkeypatch, strange
):
    runs, predict = [], detectors[0].predict
    for one in detectors:
        monkeypatch.setattr(one, "predict", lambda *given: runs.append(given) or predict(*given))
    (found,) = Visit(str(files / "noise.png"), tmp_path).find(detectors[0])
    runs.clear()

    def expect(threshold, *classes):
        kept = keep(found, threshold=threshold, classes=classes)
        page.get_by_text(f"mine: {len(kept)} objects", exact=True).wait_for()
        page.locator("#detections").scroll_into_view_if_needed()  # gradio draws what is in sight
        page.locator("#detections [role=gridcell]", has_text="mine").first.wait_for()
        other = count([keep(found, threshold=0.35, classes=classes)])
        numbers = {name: [str(n), str(other[name])] for name, n in count([kept]).items()}
        assert {name: counted for name, *counted in rows(page, "counts")} == numbers
        name, score, *_, detector = rows(page, "detections")[0]
        assert [name, float(score), detector] == [*table([kept])[0][:2], "mine"]

    upload(page, files / "noise.png")
    expect(0.35)
    slider = page.locator("input[type=number]").first
    slider.fill("0.3")
    slider.press("Enter")
    expect(0.3)
    page.get_by_label("Classes").click()
    page.get_by_role("option", name=strange).click()
    expect(0.3, strange)
    with page.expect_download() as download:
        page.get_by_text("Download COCO JSON").first.click()
    records = json.loads(download.value.path().read_text())
    assert {(r["file_name"], r["category_id"]) for r in records} == {("noise.png", 5)}
    assert len(records) == count([keep(found, threshold=0.3)])[strange]
    slider.fill("0.9")
    slider.press("Enter")
    page.get_by_text("mine: no objects from a score of 0.9 on; lower the threshold").wait_for()
    assert len(runs) == 2  # one for each detector
    assert page.evaluate("document.documentElement.scrollWidth") == 1400
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("broken.png", "broken.png cannot be read: OSError: image file is truncated."),
        ("<b>notes.txt", "notes.txt cannot be read: it is no image in one of the formats BMP"),
    ],
)
def test_a_file_that_is_no_image_is_a_sentence_in_the_page(page, files, name, told):
    upload(page, files / name)
    page.get_by_text(told).first.wait_for()
    assert "Traceback" not in page.content()


def test_a_video_is_drawn_and_cleared(page, files):
    upload(page, files / "three.mp4")
    page.get_by_text("in 3 frames").first.wait_for()
    page.wait_for_function("[...document.querySelectorAll('video')].some(v => v.videoWidth == 64)")
    page.get_by_label("Clear").first.click()
    page.get_by_text("in 3 frames").first.wait_for(state="detached")
    assert not rows(page, "counts")


def test_an_image_is_taken_with_the_webcam(page):
    page.get_by_role("tab", name="Webcam").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("[...document.querySelectorAll('video')].some(v => v.videoWidth > 0)")
    page.get_by_label("capture photo").click()
    page.get_by_text(re.compile(r"^mine: \d+ objects$")).wait_for()


def test_the_page_loads_nothing_from_other_sites(address):
    html = urllib.request.urlopen(address).read().decode()
    assert "gradio_config" in html and not _LOADED.search(html)
    added = json.loads(urllib.request.urlopen(f"{address}config").read())["stylesheets"]
    assert not [sheet for sheet in added if urllib.parse.urlsplit(sheet).netloc]
    sheets = re.findall(r'<link rel="stylesheet"[^>]+href="([^"]+)"', html)
    for sheet in ("theme.css", *sheets):  # the first is added by the page's script
        css = urllib.request.urlopen(urllib.parse.urljoin(address, sheet)).read().decode()
        assert css and not _LOADED.search(css)
    assert _LOADED.search('<script async src="https://a.b/c.js">')
    assert _LOADED.search('<link rel="preconnect" href="https://a.b">')


def test_analytics_are_off(address):
    config = urllib.request.urlopen(f"{address}config").read().decode()
    assert '"analytics_enabled":false' in config.replace(" ", "")
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"


@pytest.mark.parametrize("kind", ["run", "here", "hosts"])
def test_other_files_are_not_served(address, run, kind):
    path = {"run": run / "config.yaml", "here": os.path.abspath(__file__), "hosts": "/etc/hosts"}
    for start in ("gradio_api/file=", "file=", "gradio_api/file/", "static/../../"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}{start}{path[kind]}")
        assert refused.value.code in (403, 404)


def test_a_file_that_is_too_large_is_refused(detectors, monkeypatch):
    httpx = pytest.importorskip("httpx")  # which gradio brings
    monkeypatch.setattr(serving, "LARGEST", "1kb")
    with served(detectors, host="127.0.0.1", port=None, share=False) as (local, _):
        for size, code in ((1000, 200), (2000, 413)):
            given = {"files": ("a.png", bytes(size))}
            assert httpx.post(f"{local}gradio_api/upload", files=given).status_code == code
        folder = os.environ["GRADIO_TEMP_DIR"]
        assert [*Path(folder).rglob("a.png")]
    assert not os.path.exists(folder)  # nothing is left


def test_a_port_in_use_is_a_sentence(address, detectors):
    port = int(address.rstrip("/").rpartition(":")[2])
    with (
        pytest.raises(UserError, match=f"cannot be served at 127.0.0.1, port {port}"),
        served(detectors, host="127.0.0.1", port=port, share=False),
    ):
        pass
