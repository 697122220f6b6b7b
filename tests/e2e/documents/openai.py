"""OpenAI's API, and Ollama's, as far as the documents need them: run in a pod by Python alone, `openai.py PORT`.

It answers with the model it was asked for and the words it heard, so that a test sees which agent spoke. At OpenAI's
port whoever shows no key is refused, as there; at Ollama's nobody needs one.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = int(sys.argv[1])
OLLAMA_PORT = 11434
MODELS = ("gpt-4", "gpt-4-turbo", "gpt-4o", "qwen3:30b-a3b")


class Api(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Models: OpenAI's list, and Ollama's."""
        if self.path == "/api/tags":
            self._send({"models": [{"name": name} for name in MODELS]})
        elif self._may():
            self._send({"object": "list", "data": [{"id": name, "object": "model"} for name in MODELS]})

    def do_POST(self) -> None:
        """A chat completion, at once or streamed."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._may():
            return
        said = f"{asked['model']} heard: {asked['messages'][-1]['content']}"
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        message = {"role": "assistant", "content": said}
        if not asked.get("stream"):
            self._send({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage})
            return
        chunks = [
            {"choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ]
        lines = [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
        self._send("".join(f"data: {line}\n\n" for line in lines), "text/event-stream")

    def _may(self) -> bool:
        if PORT == OLLAMA_PORT or self.headers.get("Authorization", "").startswith("Bearer sk-"):
            return True
        self._send({"error": {"message": "You didn't provide an API key.", "code": "invalid_api_key"}}, status=401)
        return False

    def _send(self, body: Any, kind: str = "application/json", status: int = 200) -> None:
        data = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Api).serve_forever()
