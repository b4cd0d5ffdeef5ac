"""The page itself, of gradio's components: what is chosen on the left, each detector's drawing."""

import functools
import html
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from .session import Detector, Visit, count, keep, sentence_of, table

ROWS = 1000  # of the table
TILES = [("none: the whole image", 0), *((f"{side} pixels", side) for side in (320, 640, 1024))]
COLUMNS = ["class", "score", "x0", "y0", "x1", "y1", "frame", "detector"]  # the last two at need
_KINDS = ["str", *["number"] * 5, "str", "str"]
STYLE = ".drawing :is(img, video) {max-height: 80vh}"  # portraits, too, fit into the window


def build(gr: Any, detectors: Sequence[Detector], folder: str) -> Any:
    """The page as gradio's Blocks.

    Args:
        gr: the module gradio, which is an extra.
        detectors: detectors with different names.
        folder: folder of gradio's for the files to download.
    """
    show = functools.partial(_show_or_tell, gr, detectors)
    names = [detector.name for detector in detectors]
    classes = [*dict.fromkeys(name for d in detectors for name in d.classes)]
    with gr.Blocks(
        title="resnest-d2", analytics_enabled=False, delete_cache=(3600, 24 * 3600)
    ) as page:
        visit = gr.State(None, delete_callback=_leave)
        with gr.Row(equal_height=True):
            with gr.Column(min_width=300):
                with gr.Tab("File"):
                    file = gr.File(label="Image or video", height=170)
                with gr.Tab("Webcam"):
                    camera = gr.Image(label="Webcam", sources=["webcam"], type="pil", height=170)
            with gr.Column(min_width=300):
                shown = gr.CheckboxGroup(names, value=names, label="Detectors")
                shown.visible = len(names) > 1
                chosen = gr.Dropdown(
                    classes, multiselect=True, label="Classes", info="None chosen: all of them."
                )
                chosen.visible = bool(classes)
                tiles = gr.Dropdown(
                    TILES, value=0, label="Tiles", info="For small objects in large images."
                )
        parts: list[Any] = []
        sliders = []
        with gr.Row():
            for detector in detectors:
                with gr.Column(min_width=300) as column:
                    title = gr.HTML(_title(detector.name))
                    slider = gr.Slider(
                        detector.lowest,
                        1,
                        value=detector.threshold,
                        step=0.01,
                        label="Score threshold",
                    )
                    drawing = gr.Image(
                        format="jpeg",
                        buttons=["download", "fullscreen"],
                        elem_classes="drawing",
                        show_label=False,
                    )
                    video = gr.Video(
                        visible=False,
                        buttons=["download"],
                        elem_classes="drawing",
                        show_label=False,
                    )
                    button = gr.DownloadButton("Download COCO JSON", size="sm", interactive=False)
                sliders.append(slider)
                parts += [column, title, drawing, video, button]
        counts = gr.Dataframe(
            headers=["class", *names],
            label="Counts",
            interactive=False,
            buttons=["copy"],
            elem_id="counts",
        )
        rows = gr.Dataframe(
            headers=COLUMNS[:6],
            datatype=_KINDS,
            label="Detections",
            interactive=False,
            max_height=400,
            elem_id="detections",
        )
        inputs, outputs = [visit, shown, chosen, tiles, *sliders], [*parts, counts, rows]
        common = {"api_visibility": "private", "concurrency_id": "detectors"}
        for given, emptied, events in (
            (file, camera, [file.upload, file.clear, file.delete]),
            (camera, file, [camera.input]),
        ):
            opened = gr.on(
                events,
                functools.partial(_open, folder),
                [given, visit],
                [visit, emptied],
                **common,
            )
            opened.then(show, inputs, outputs, **common)
        for part in (shown, chosen, tiles, *sliders):
            part.change(show, inputs, outputs, trigger_mode="always_last", **common)
    return page


def _open(
    folder: str, source: str | Image.Image | None, former: Visit | None
) -> tuple[Visit | None, None]:
    """Begins with another file; nothing is predicted yet. The other input is emptied."""
    if former is not None:
        former.close()
    if source is None:
        return None, None
    return Visit(source, Path(tempfile.mkdtemp(prefix="visit-", dir=folder))), None


def _leave(visit: Visit | None) -> None:
    if visit is not None:
        visit.close()


def _show_or_tell(
    gr: Any, detectors: Sequence[Detector], visit: Visit | None, *given: Any
) -> list[Any]:
    """Values of the page's outputs; on an error they are empty, and the page tells it."""
    try:
        return _show(gr, detectors, visit, *given)
    except Exception as error:
        told = sentence_of(error)
        logging.getLogger(__name__).info(told)
        gr.Warning(html.escape(told))  # the message is shown as HTML
        return _show(gr, detectors, None, *given)


def _show(
    gr: Any,
    detectors: Sequence[Detector],
    visit: Visit | None,
    shown: Sequence[str],
    classes: Sequence[str],
    tiles: int,
    *thresholds: float,
) -> list[Any]:
    """Values of the page's outputs; only what was not predicted yet is predicted."""
    parts: list[Any] = []
    rows: list[list[Any]] = []
    numbers = {}
    for i, (detector, threshold) in enumerate(zip(detectors, thresholds, strict=True), 1):
        column = gr.Column(visible=detector.name in shown)
        if visit is None or detector.name not in shown:
            parts += [column, *_outputs(gr, detector.name, None, None)]
            continue
        found = visit.find(detector, tiles or None)
        found = [keep(one, threshold=threshold, classes=classes) for one in found]
        numbers[detector.name] = count(found)
        is_video = found[0].frame is not None
        rows += ([*row[: 7 if is_video else 6], detector.name] for row in table(found))
        total = sum(numbers[detector.name].values())
        label = f"{detector.name}: {total or 'no'} object{'' if total == 1 else 's'}"
        label += "" if total else f" from a score of {threshold:g} on; lower the threshold"
        label += f", in {len(found)} frames" if is_video else ""
        drawn = visit.draw(found)
        parts += [column, *_outputs(gr, label, drawn, visit.write_json(found, i))]
    named = sorted({name for counted in numbers.values() for name in counted})
    counts = [[name, *(counted[name] for counted in numbers.values())] for name in named]
    if len(rows) > ROWS:
        gr.Info(f"The table has the first {ROWS} of {len(rows)} detections; the JSON has all.")
    return [
        *parts,
        gr.Dataframe(value=counts, headers=["class", *numbers]),
        _table(gr, rows, several=len(detectors) > 1),
    ]


def _table(gr: Any, rows: Sequence[Sequence[Any]], *, several: bool) -> Any:
    """Rows of detections that end in the detector's name, which one alone does not need."""
    headers = [*COLUMNS[: len(rows[0]) - 1 if rows else 6], *(COLUMNS[7:] if several else ())]
    return gr.Dataframe(value=[row[: len(headers)] for row in rows[:ROWS]], headers=headers)


def _outputs(gr: Any, label: str, drawn: Image.Image | str | None, path: str | None) -> list[Any]:
    """Title, drawing, video and download of one detector."""
    is_video = isinstance(drawn, str)
    return [
        gr.HTML(_title(label)),
        gr.Image(value=None if is_video else drawn, visible=not is_video),
        gr.Video(value=drawn if is_video else None, visible=is_video),
        gr.DownloadButton(value=path, interactive=path is not None),
    ]


def _title(text: str) -> str:
    return f"<b>{html.escape(text)}</b>"
