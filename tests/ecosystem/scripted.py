"""A model's endpoint that says what a script says: enough of a chat API for one turn each."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def model(answer: Callable[[str], str]) -> Iterator[str]:
    """Serve `answer` as a chat model on loopback; yield the base address.

    Args:
        answer: from the last message's text to the model's.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            reply = _completion(asked, answer(_last(asked)))
            streamed = asked.get("stream", False)
            body = _events(reply) if streamed else json.dumps(reply).encode()
            self.send_response(200)
            kind = "text/event-stream" if streamed else "application/json"
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            serving.join()


def _last(asked: dict[str, Any]) -> str:
    content = asked["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content)


def _completion(asked: dict[str, Any], text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "scripted",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _events(reply: dict[str, Any]) -> bytes:
    """Return the reply as a stream has it: in one piece."""
    (choice,) = reply["choices"]
    piece = {k: v for k, v in choice.items() if k != "message"} | {"delta": choice["message"]}
    event = reply | {"object": "chat.completion.chunk", "choices": [piece]}
    return f"data: {json.dumps(event)}\n\ndata: [DONE]\n\n".encode()
