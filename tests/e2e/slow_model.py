"""An OpenAI endpoint that counts: `count 30` is answered with thirty words, one every tenth of a second. In a pod."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PACE = threading.Event()
"""Never set: what is said takes its time, as a model's words do."""


class Counting(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """A chat completion, at once or streamed."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = re.search(r"count (\d+)", asked["messages"][-1]["content"])
        words = [f"{number} " for number in range(1, int(found[1]) + 1 if found else 2)]
        if not asked.get("stream"):
            PACE.wait(len(words) / 10)
            message = {"role": "assistant", "content": "".join(words)}
            self._whole({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for word in words:
            self._line({"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            PACE.wait(0.1)
        self._line({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def _line(self, data: Any) -> None:
        self.wfile.write(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _whole(self, data: Any) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """As many at once as ask."""

    request_queue_size = 1024


if __name__ == "__main__":
    Server(("", 8000), Counting).serve_forever()
