"""Serves the page on this machine while a run goes on."""

import contextlib
import http.server
import threading

from tfdist.process.errors import TfdistError, UsageError
from tfdist.process.log import show
from tfdist.report.page import make_page
from tfdist.report.read import read_runs

_HOST, _PORT, _REFRESH_SECONDS = "127.0.0.1", 8127, 5


class PageHandler(http.server.BaseHTTPRequestHandler):
    """Answers each request with the page of now.

    Attributes:
        folders: the folders of the runs.
    """

    folders = ()
    # matplotlib's settings are those of the process.
    _lock = threading.Lock()

    def do_GET(self):
        """Sends the page, or why there is none."""
        kind, code, text = "plain", 404, "The page is at /."
        if self.path == "/":
            try:
                with self._lock:
                    kind, code, text = "html", 200, make_page(read_runs(self.folders), _REFRESH_SECONDS)
            except TfdistError as error:
                code, text = 503, str(error)
        # The reader may be gone.
        with contextlib.suppress(ConnectionError):
            self.send_response(code)
            self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(text.encode())

    def log_message(self, *arguments):
        """Writes no line for a request."""


def serve(folders, port=None):
    """Serves the page of runs until the process is interrupted.

    Args:
        folders: the folders of the runs.
        port: the port; 0 for any that is free, None for the usual one.

    Raises:
        ValueError: the port is taken.
    """
    port = _PORT if port is None else port
    handler = type("RunsHandler", (PageHandler,), {"folders": folders})
    try:
        server = http.server.ThreadingHTTPServer((_HOST, port), handler)
    except OSError as error:
        raise UsageError(
            f"--port: {_HOST}:{port} cannot be used ({error.strerror}). Use another, or --port=0."
        ) from None
    with server:
        show(f"http://{_HOST}:{server.server_port}/ shows what the folder holds now. End it with Ctrl-C.")
        server.serve_forever()
