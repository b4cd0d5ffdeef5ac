"""The worst images: which are chosen, their filters in Chromium, names from a stranger's file."""

import html
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from browser import needs_chromium, use

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from benchmarking.made_run import METRICS, write_run

from resnest_d2.data.coco_api import COCOS_LIMIT
from resnest_d2.report import write_report
from resnest_d2.report.analysis import analyse
from resnest_d2.report.gather import read_annotations
from resnest_d2.report.mistakes import KINDS
from resnest_d2.report.worst import BUDGET, EACH, worst_images

EVIL = '</script><script>console.log("a stranger\'s")</script>"\'`&<b onclick="x">\u202e\x07\ud800'
IMAGES, CLASSES, FIRST = 60, 12, 4


def made(folder: Path, *, names=None, masks=False) -> tuple[str, list]:
    """A run with results, and its dataset."""
    data = write_run(folder, images=IMAGES, classes=CLASSES, names=names, masks=masks)
    tasks = ("bbox", "segm") if masks else ("bbox",)
    (folder / "results.json").write_text(json.dumps({"made": dict.fromkeys(tasks, METRICS)}))
    return str(folder), [data]


def chosen(data, **options):
    api = read_annotations(data.json_file)
    path = Path(data.json_file).parent / "inference/made/coco_instances_results.json"
    analysis = analyse(api, json.loads(path.read_text()), ["bbox"], limit=COCOS_LIMIT)
    names = {i: category["name"] for i, category in api.cats.items()}
    options = {"number": FIRST, "budget": BUDGET, **options}
    return analysis, worst_images(analysis, data, classes=names, **options)


def expected(analysis, number, kind):
    """Files with mistakes of a class and kind, by their number; None stands for all."""
    counts = {}
    for image in analysis.images:
        kinds = image.mistakes
        if number is not None:
            kinds = image.mistakes_by_class.get(analysis.ids[number], Counter())
        if count := kinds[kind] if kind else kinds.total():
            counts[image.matched.image["file_name"]] = count
    return counts


def test_the_worst_of_each_class_and_kind_are_chosen(tmp_path):
    _, (data,) = made(tmp_path / "run")
    analysis, worst = chosen(data)
    shown = [one.name for one in (*worst.first, *worst.further)]
    assert len(shown) == len(set(shown)) < IMAGES
    order = [image.matched.image["file_name"] for image in analysis.images]
    assert shown[:FIRST] == order[:FIRST]
    for number in (None, *range(CLASSES)):
        for kind in (None, *KINDS):
            counts = expected(analysis, number, kind)
            found = sorted((counts[name] for name in shown if name in counts), reverse=True)
            enough = EACH if number is None or kind is None else 1
            assert found[:enough] == sorted(counts.values(), reverse=True)[:enough]
    assert worst.classes == [len(expected(analysis, k, None)) for k in range(CLASSES)]
    assert worst.kinds["poor"] == ("poorly located", len(expected(analysis, None, "poor")))


def test_the_budget_limits_the_page(tmp_path):
    _, (data,) = made(tmp_path / "run")
    _, everything = chosen(data)
    assert sum(one.size for one in (*everything.first, *everything.further)) > 1_000_000
    _, worst = chosen(data, budget=800_000)
    sizes = [one.size for one in (*worst.first, *worst.further)]
    assert 600_000 < sum(sizes) <= 800_000 and len(worst.further) < len(everything.further)
    _, worst = chosen(data, budget=0)
    assert len(worst.first) == FIRST and not worst.further


def test_each_image_is_in_the_page_once(tmp_path):
    folder, data = made(tmp_path / "run", masks=True)
    page = write_report(folder, datasets=data, images=FIRST).read_text()
    figures = re.findall('data-mistakes="(.*?)"', page)
    assert page.count("data:image/jpeg") == page.count("<use ") == len(figures)
    ids = re.findall(' id="(.*?)"', page)
    assert len(ids) == len(set(ids))
    for text in figures:  # numbers and our own words alone
        table = json.loads(html.unescape(text))
        assert all(of == "" or int(of) < CLASSES for of in table)
        assert {kind for kinds in table.values() for kind in kinds} <= set(KINDS)


FILTER = """
const form = page.querySelector("form.filters"), output = form.querySelector("output");
const names = () => all(".worst .images figure strong").map(e => e.textContent);
const set = (of, kind) => {
  form.elements.of.value = of; form.elements.kind.value = kind;
  form.elements.kind.dispatchEvent(new Event("change", {bubbles: true}));
  return names();
};
"""


@needs_chromium
def test_filters(tmp_path):
    folder, data = made(tmp_path / "run", names=[EVIL, *(f"c{k}" for k in range(1, CLASSES))])
    page = write_report(folder, datasets=data, images=FIRST)
    analysis, worst = chosen(data[0])
    first, *results, link, again, words, alone = use(
        page,
        FILTER
        + """
        const first = [form.hidden, page.querySelector("details"), names(), output.value];
        const results = [set("3", ""), set("", "poor"), set("5", "confused")];
        const dimmed = view.getComputedStyle(page.querySelector("path.right")).opacity;
        all("a[data-of]")[7].click();
        const state = [form.elements.of.value, form.elements.kind.value];
        const link = [...state, names(), view.location.hash];
        const top = page.querySelector("#worst-1").getBoundingClientRect().top;
        form.elements.kind.innerHTML += "<option value='none'>"; set("7", "none");
        const words = [output.value, dimmed, Math.round(top)];
        return [first, ...results, link, set("", ""), words, all("script").length];
        """,
        height=300,
    )
    assert first == [False, None, [one.name for one in worst.first], f"{FIRST} images are shown."]
    shown = {one.name for one in (*worst.first, *worst.further)}
    filters = [(3, None), (None, "poor"), (5, "confused"), (7, None)]
    for names, (number, kind) in zip([*results, link[2]], filters, strict=True):
        counts = {n: c for n, c in expected(analysis, number, kind).items() if n in shown}
        assert sorted(names) == sorted(counts) != []
        assert [counts[name] for name in names] == sorted(counts.values(), reverse=True)
    assert [link[0], link[1], link[3]] == ["7", "", "#worst-1"]
    assert again == first[2] and alone == 1
    assert words == ["No image has such a mistake.", "0.3", 0]


@needs_chromium
@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_cut_off(width, tmp_path):
    names = ["a name of several words, longer than others", "Verylongnamewithoutaspace" * 3]
    names += [f"class {k}" for k in range(2, CLASSES)]
    folder, data = made(tmp_path / "run", names=names, masks=True)
    page = write_report(folder, datasets=data, images=FIRST)
    wide, cut, outside = use(
        page,
        """
        all("details").forEach(e => e.open = true);
        const wide = [page.documentElement.scrollWidth, view.innerWidth];
        const cut = all(".scroll").filter(e => e.scrollWidth > e.clientWidth).length;
        const outside = all("body *").filter(e => {
          const box = e.getBoundingClientRect();
          const around = e.parentElement.getBoundingClientRect();
          const out = box.right > (e.localName === "svg" ? around.right + 0.5 : view.innerWidth);
          return box.width && !e.closest("svg > *") && (box.left < 0 || out);
        }).map(e => e.outerHTML.slice(0, 80));
        return [wide, cut, outside];
        """,
        width=width,
    )
    assert wide == [width, width] and cut == 0 and outside == []


@needs_chromium
def test_without_scripts_all_images_can_be_seen(tmp_path):
    folder, data = made(tmp_path / "run")
    page = write_report(folder, datasets=data, images=FIRST)
    hidden, first, opened, jump = use(
        page,
        """
        const visible = () => all(".worst image").filter(e => e.checkVisibility()).length;
        const hidden = page.querySelector("form.filters").checkVisibility();
        const first = visible();
        page.querySelector("details").open = true;
        return [hidden, first, visible(), all("a[data-of]")[0].hash];
        """,
        scripts=False,
        console=True,  # Chromium's note that it runs none
    )
    assert (hidden, first, jump) == (False, FIRST, "#worst-1")
    assert opened == page.read_text().count("<image ") > FIRST


@needs_chromium
@pytest.mark.parametrize("kind", ["class", "file"])
def test_names_of_a_strangers_file_stay_text(kind, tmp_path):
    names = [EVIL, *(f"{EVIL} {k}" for k in range(1, CLASSES))]
    folder, data = made(tmp_path / "run", names=names if kind == "class" else None)
    if kind == "file":
        path = Path(data[0].json_file)
        content = json.loads(path.read_text())
        for image in content["images"]:
            image["file_name"] = EVIL
        path.write_text(json.dumps(content))
    page = write_report(folder, datasets=data, images=FIRST)
    text = page.read_text(encoding="utf-8")
    assert not re.search("[\u202e\x07]", text) and "<b onclick" not in text
    shown = EVIL[:-3] + r"\u202e\x07\ud800"
    css = "option[value='0'], .classes a" if kind == "class" else ".worst figure strong"
    scripts, names, attributes = use(
        page,
        f"""return [all("script").length, all("{css}").map(e => e.textContent),
        all("*").flatMap(e => e.getAttributeNames()).filter(n => n.startsWith("on"))];""",
    )
    assert scripts == 1 and attributes == [] and len(names) > 1
    assert all(name.startswith(shown) for name in names)


@needs_chromium
def test_the_page_loads_nothing_and_runs_no_other_script(tmp_path):
    folder, data = made(tmp_path / "run")
    page = write_report(folder, datasets=data, images=FIRST)
    blocked, ran = use(
        page,
        """
        const blocked = [];
        page.addEventListener("securitypolicyviolation", e => blocked.push(e.effectiveDirective));
        const script = page.createElement("script"); script.textContent = "window.ran = true";
        page.body.append(script);
        page.body.append(Object.assign(page.createElement("img"), {src: "file:///nothing.png"}));
        await new Promise(r => setTimeout(r, 200));
        return [blocked.sort(), Boolean(view.ran)];
        """,
        console=True,
    )
    assert blocked == ["img-src", "script-src-elem"] and not ran
