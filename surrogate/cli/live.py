"""``surrogate report --live``: the report of a run in a browser on this machine, updated as the run progresses."""

from __future__ import annotations

import hmac
import secrets
import sys
import threading
import time
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from surrogate.cli.watch import RunFiles, lines_of
from surrogate.storage.folder import RunFolder

__all__ = ["LivePage", "make_server", "serve"]

_HOST = "127.0.0.1"
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LivePage:
    """The live page of a run: its report, or only its progress as long as there is no surrogate.

    A report takes seconds to make, so one thread at a time makes it, and only if the state on disk has changed. Only
    the run's files are read.

    Args:
        folder: The run.
        interval: Seconds between refreshes of the browser, and minimum seconds between two reports.
        n_samples: Effective draws of a report.
    """

    def __init__(self, folder: RunFolder, *, interval: float = 30.0, n_samples: int = 2000) -> None:
        self._files = RunFiles(folder)
        self._folder, self._interval, self._n_samples = folder, interval, n_samples
        self._lock = threading.Lock()
        self._made, self._stamp, self._report = -float("inf"), 0, ""

    def html(self) -> str:
        """The current page."""
        with self._lock:
            try:
                self._files = self._files.again()
                lines = lines_of(self._files, time.time())
                self._renew()
            except (ValueError, OSError, ArithmeticError) as error:
                lines = [" ".join(str(error).split())]
            text = "\n".join(lines)
            return _page(self._report, text, self._interval, over=self._files.over)

    def _renew(self) -> None:
        """Makes a new report if the state has changed and the last report is old enough."""
        path = self._folder.state_path
        stamp = path.stat().st_mtime_ns if path.exists() else 0
        old = time.monotonic() - self._made > self._interval
        if stamp in (0, self._stamp) or not (old or self._files.over) or not self._files.rows:
            return
        from surrogate.cli.config import observables_of
        from surrogate.inference.loading import load_result
        from surrogate.output.report import report_html

        target = observables_of(self._folder.config_path)
        result = load_result(self._folder.path, n_samples=self._n_samples, target=target)
        self._report = report_html(result.draws, result.evidence, result.record, emulator=result.emulator)
        self._made, self._stamp = time.monotonic(), stamp


def _page(report: str, status: str, interval: float, *, over: bool) -> str:
    """The report, or an empty page, with the status on top and, unless the run is over, a refresh header."""
    refresh = "" if over else f'<meta http-equiv="refresh" content="{max(int(interval), 1)}">'
    top = f'<pre style="white-space:pre-wrap;overflow-wrap:anywhere">{escape(status)}</pre>'
    if report:
        return report.replace("</head>", f"{refresh}</head>", 1).replace("<body>", f"<body>{top}", 1)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">{refresh}<title>A run</title>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{top}</body></html>'


def make_server(page: Callable[[], str], *, port: int = 0) -> tuple[ThreadingHTTPServer, str]:
    """A server on the loopback interface that shows one page to holders of its token, and its address.

    Raises:
        OSError: If the port is taken.
    """
    token = secrets.token_urlsafe(24)

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "surrogate", ""

        def do_GET(self) -> None:
            """Answers with the page, or with an error without details."""
            address = urlsplit(self.path)
            given = parse_qs(address.query).get("token", [""])[0]
            known = hmac.compare_digest(given.encode(), token.encode())
            if not self._is_own_host() or not known:
                self._answer(HTTPStatus.FORBIDDEN, "<!DOCTYPE html><title>Forbidden</title>")
            elif address.path != "/":
                self._answer(HTTPStatus.NOT_FOUND, "<!DOCTYPE html><title>Not found</title>")
            else:
                self._answer(HTTPStatus.OK, page())

        def _is_own_host(self) -> bool:
            """Whether the request names this machine as host; guards against DNS rebinding."""
            return self.headers.get("Host", "") in {f"{name}:{bound}" for name in (_HOST, "localhost")}

        def _answer(self, status: HTTPStatus, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            for name, value in {**_HEADERS, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Logs nothing, because the log would contain the token."""

    server = ThreadingHTTPServer((_HOST, port), Handler)
    server.daemon_threads = True
    bound = server.server_address[1]
    return server, f"http://{_HOST}:{bound}/?token={token}"


def serve(folder: RunFolder, *, port: int, interval: float, n_samples: int) -> int:
    """Serves the page of a run until Ctrl-C."""
    if not 1 <= interval < float("inf"):
        msg = f"--interval must be at least 1 second, got {interval}"
        raise ValueError(msg)
    server, address = make_server(LivePage(folder, interval=interval, n_samples=min(n_samples, 2000)).html, port=port)
    print(f"surrogate: {address}\nsurrogate: for browsers on this machine; Ctrl-C ends it", file=sys.stderr)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0
    finally:
        server.server_close()
    return 0
