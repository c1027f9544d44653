"""What one would write first: Flask on gunicorn's stock gevent worker. A measure for what the work on top is worth.

The signed PUT is streamed to disk in blocks and published by link, so that it is whole or absent; GET is ``send_file``.
"""

import hmac
import os
import uuid

from flask import Flask, Response, abort, request, send_file
from werkzeug.security import safe_join

_STORE = os.environ["BENCH_STORE"]
_SECRET = os.environ["BENCH_SECRET"].encode()
_STAGING = os.path.join(_STORE, ".staging")
_BLOCK = 64 * 1024

app = Flask(__name__)
os.makedirs(_STAGING, exist_ok=True)


@app.put("/upload/<path:path>")
def put(path: str) -> Response:
    size = request.content_length
    if size is None:
        abort(411)
    text = f"{path}\0{size}\0{request.content_type or 'application/octet-stream'}".encode()
    mac = hmac.new(_SECRET, text, "sha256").hexdigest()
    if not hmac.compare_digest(mac.encode(), request.args.get("v2", "").encode()):
        abort(403)
    staged = os.path.join(_STAGING, uuid.uuid4().hex)
    try:
        _receive(staged, size)
        _publish(staged, path)
    finally:
        os.unlink(staged)
    return Response(status=201)


@app.get("/upload/<path:path>")
def get(path: str) -> Response:
    target = _target(path)
    if not os.path.isfile(target):
        abort(404)
    return send_file(target, mimetype="application/octet-stream")


def _receive(staged: str, size: int) -> None:
    received = 0
    with open(staged, "xb") as file:
        while block := request.stream.read(_BLOCK):
            file.write(block)
            received += len(block)
    if received != size:
        abort(400)


def _publish(staged: str, path: str) -> None:
    target = _target(path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.link(staged, target)
    except FileExistsError:
        abort(409)


def _target(path: str) -> str:
    target = safe_join(_STORE, path)
    if target is None:
        abort(404)
    return target
