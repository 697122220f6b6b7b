"""A model's API that calls the tool it is told to: run in a pod by Python alone, at port 8080.

"use TOOL with {"a": 1}" has that tool called, what the tool answers is the answer, and anything else is echoed. Whoever
shows no key is refused.
"""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ASKED = re.compile(r"use (\S+) with (\{.*\})", re.DOTALL)


class Api(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """A chat completion, at once or streamed."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.headers.get("Authorization", "").startswith("Bearer sk-"):
            self._send(json.dumps({"error": {"message": "no key"}}), "application/json", 401)
            return
        message, reason = self._answer(asked)
        head = {"id": "c-1", "object": "chat.completion", "created": 1, "model": asked["model"]}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        if not asked.get("stream"):
            body = {**head, "choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": usage}
            self._send(json.dumps(body), "application/json")
            return
        head["object"] = "chat.completion.chunk"
        chunks = [
            {**head, "choices": [{"index": 0, "delta": message, "finish_reason": None}]},
            {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
            {**head, "choices": [], "usage": usage},
        ]
        lines = [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
        self._send("".join(f"data: {line}\n\n" for line in lines), "text/event-stream")

    def _answer(self, asked: dict[str, Any]) -> tuple[dict[str, Any], str]:
        last = asked["messages"][-1]
        said = last["content"]
        text = said if isinstance(said, str) else "".join(part.get("text", "") for part in said)
        told = _ASKED.search(text)
        if last["role"] == "user" and told is not None:
            call = {"name": told.group(1), "arguments": told.group(2)}
            calls = [{"index": 0, "id": "call-1", "type": "function", "function": call}]
            return {"role": "assistant", "content": None, "tool_calls": calls}, "tool_calls"
        return {"role": "assistant", "content": f"{asked['model']} says {text}"}, "stop"

    def _send(self, body: str, kind: str, status: int = 200) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8080), Api).serve_forever()
