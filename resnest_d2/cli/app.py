"""``resnest-d2 app``: detectors to try in the browser."""

import threading
from typing import Annotated, Optional

import typer

from .common import complete_config, keep_memory, prepare, say
from .predict import Backend, Precision

_EAGER, _AUTO = Backend("eager"), Precision("auto")


def app(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Published detectors, runs' folders, checkpoints in them, or configs.",
            autocompletion=complete_config,
        ),
    ],
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0: all networks of this machine.")
    ] = "127.0.0.1",
    port: Annotated[
        Optional[int],
        typer.Option(min=1, max=65535, help="Port; default: the first free one from 7860 on."),
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Also get a public address from gradio's servers.")
    ] = False,
    backend: Annotated[Backend, typer.Option(help="Backend; all give the same results.")] = _EAGER,
    precision: Annotated[
        Precision, typer.Option(help="As of predict: bf16, fp16, int8 where there is a file.")
    ] = _AUTO,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, ...")] = "auto",
) -> None:
    """Try detectors on images and videos in the browser.

    Examples:
      resnest-d2 app output/mine
      resnest-d2 app output/mine output/other mask_rcnn_s50 --port 8000

    Several detectors are shown side by side. The page needs no internet, and only this machine
    can open it, unless --host or --share is given. It has no password. Ctrl-C ends it.
    """
    prepare()
    from resnest_d2.app.serving import require_gradio, served
    from resnest_d2.app.session import Detector, short_names

    require_gradio()
    keep_memory(device)
    models = [*dict.fromkeys(models)]
    options = {"device": device, "backend": backend.value, "precision": precision.value}
    detectors = [
        Detector(model, name=name, **options)
        for model, name in zip(models, short_names(models), strict=True)
    ]
    with served(detectors, host=host, port=port, share=share) as (local, public):
        say(f"The page is at {local} (Ctrl-C ends it).")
        if public:
            say(f"Anyone on the internet can open {public}, for a week at most.")
        elif host not in ("127.0.0.1", "localhost", "::1"):
            say(f"Anyone who can reach {host} can open it.")
        wait()


def wait() -> None:
    """Waits for Ctrl-C."""
    threading.Event().wait()
