"""Serves the page to this machine alone, and nothing of the machine but the page.

Uploaded and drawn files are in a temporary folder of their own; gradio serves no others. The page
loads nothing from other sites, and gradio's analytics are off.
"""

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Sequence

from resnest_d2.errors import MissingPackageError, UserError

from .page import STYLE, build
from .session import Detector

LARGEST = "256mb"  # of an uploaded file
_FONTS = ["system-ui", "sans-serif"]
_CODE = ["ui-monospace", "monospace"]


@contextlib.contextmanager
def served(
    detectors: Sequence[Detector], *, host: str, port: int | None, share: bool
) -> Iterator[tuple[str, str | None]]:
    """Serves the page in a thread, and stops at the end.

    Args:
        detectors: detectors with different names.
        host: address of this machine to listen on.
        port: None for the first free one from 7860 on.
        share: ask gradio's servers for a public address, and send the page through them.

    Yields:
        The local address, and the public one.

    Raises:
        MissingPackageError: gradio is not installed.
        UserError: the address or the port cannot be had.
    """
    require_gradio()
    with tempfile.TemporaryDirectory(prefix="resnest-d2-app-") as folder:
        # gradio reads these when it is imported, and the first for each page, too.
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        import gradio as gr

        page = build(gr, detectors, folder)
        theme = gr.themes.Base(primary_hue="blue", font=_FONTS, font_mono=_CODE)
        try:
            _, local, public = page.queue(max_size=32).launch(
                server_name=host,
                server_port=port,
                share=share,
                inbrowser=False,
                prevent_thread_lock=True,
                show_error=False,
                quiet=True,
                footer_links=[],
                allowed_paths=[],
                max_file_size=LARGEST,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                theme=theme,
                css=STYLE,
            )
        except OSError as error:
            raise UserError(f"The page cannot be served at {host}, port {port}: {error}") from error
        try:
            yield local, public
        finally:
            page.close(verbose=False)


def require_gradio() -> None:
    """Checks that gradio is installed, without importing it.

    Raises:
        MissingPackageError: it is not.
    """
    if importlib.util.find_spec("gradio") is None:
        raise MissingPackageError("app needs gradio: pip install 'resnest-d2[app]'.")
