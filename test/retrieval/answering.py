# SPDX-License-Identifier: Apache-2.0
"""A server that answers a query as Qdrant does, with one point of size 12 whatever is asked: python answering.py PORT"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COLLECTION = {
    "status": "green",
    "optimizer_status": "ok",
    "segments_count": 1,
    "payload_schema": {},
    "config": {
        "params": {"vectors": {"size": 12, "distance": "Cosine"}},
        "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
        "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 5},
    },
}
POINT = {"action": [0.5] * 7, "upcoming": [[0.5] * 7] * 3, "episode": 3, "step": 4}
POINTS = {"points": [{"id": 0, "version": 0, "score": 0.75, "payload": POINT}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # as Qdrant, which keeps connections

    def do_GET(self):
        self._answer({"exists": True} if self.path.endswith("/exists") else COLLECTION)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(POINTS)

    def _answer(self, result):
        text = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
