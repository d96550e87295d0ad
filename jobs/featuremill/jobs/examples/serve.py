"""A service of a few lines: a transform artifact and a model behind HTTP, with the standard library alone.

    python serve.py artifacts/flights@prod models/late.onnx --input X=dep_delay,distance --port 8000
    curl -d '{"dep_delay": 12.0, "distance": 733}' localhost:8000
    curl -d '[{"dep_delay": 12.0, "distance": 733}, {"dep_delay": 0.0, "distance": 200}]' localhost:8000

One object in gives one object of predictions out; a list gives a list. A wrong request is answered with 400 and the
reason. Each request has a thread of its own; they share the artifact and the model, neither of which ever changes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from featuremill.artifacts import load
from featuremill.artifacts.errors import BadRows, RequestError
from featuremill.core.models.serving import load_predictor

Answer = Callable[[Any], Any]


def answers(artifact: str, model: str, **fields: Any) -> Answer:
    """A function from a row to its predictions, or from a list of rows to a list of them."""
    transforms = load(artifact)
    predictor = load_predictor(model, schema=transforms.output_schema, **fields)

    def one(row: dict[str, Any]) -> dict[str, Any]:
        return predictor.predict_row(transforms.transform_row(row))

    return lambda asked: [one(row) for row in asked] if isinstance(asked, list) else one(asked)


def service(answer: Answer, port: int = 0) -> ThreadingHTTPServer:
    """A server on a port of this machine (0: any free one), not yet running."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, reply = 200, None
            try:
                reply = answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            except (RequestError, BadRows, ValueError, TypeError) as error:
                status, reply = 400, {"error": str(error)}
            body = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    parser = argparse.ArgumentParser(description="A transform artifact and a model behind HTTP.")
    parser.add_argument("artifact", help="root/name@alias")
    parser.add_argument("model", help="a model's file")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=COLUMN,…", help="an input's columns")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    inputs = {name: columns.split(",") for name, _, columns in (text.partition("=") for text in given.input)}
    with service(answers(given.artifact, given.model, inputs=inputs or None), given.port) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
