"""What is uploaded to the page: every bad file is a sentence, and nothing else changes."""

import asyncio
import io
import itertools
import json
import re
import socket
import threading
import time
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from bad_files import BAD, PIXELS, encoded, png_of
from cops_lightning.app.judge import Judge
from cops_lightning.app.server import Site
from cops_lightning.app.visitors import Limits
from cops_lightning.cli import app
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.data.readers.pictures import Picture
from cops_lightning.inference import machine
from cops_lightning.models.baselines.pixel_statistics import Brightness

GOOD = encoded("PNG")
HOST = "127.0.0.1"
KEPT = re.compile(r"[0-9a-f]{16}(-view\.jpg|-thumb\.jpg|\.png|\.upload|\.tif)")


def stack(pages: int) -> bytes:
    """A TIFF of so many pages."""
    images = [Image.new("L", (8, 8), shade) for shade in range(pages)]
    held = io.BytesIO()
    images[0].save(held, "TIFF", save_all=True, append_images=images[1:])
    return held.getvalue()


# What only an upload can be: too much of it, or of a kind that a folder would not be looked through for.
UPLOADS = {
    "large.png": bytes(10**6 + 1),
    "megapixels.png": png_of(3000, 1000),
    "stack.tif": stack(6),
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "page.html": b"<script>alert(1)</script>",
    "list.txt": b"/etc/passwd",
    "": b"GIF89a",
    "form.png": b"--x\r\nContent-Disposition: form-data; name=file; filename=a.png\r\n\r\n" + GOOD + b"\r\n--x--\r\n",
    "values.json": b'{"file": "a.png"}',
}
NAMES = [
    "../../etc/passwd.png",
    "..\\..\\windows.png",
    "/absolute.png",
    "<img src=x onerror=alert(1)>.png",
    "line\nbreak.png",
    "nothing\0.png",
    "\u202egnp.exe",
    "\x1b[31mred.png",
    "=1+1.png",
    "long" * 3000,
    "..",
    ".",
    "%2e%2e%2fquoted.png",
]


@pytest.fixture(scope="module")
def site(tiny_clip_state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The page over a detector that costs next to nothing."""
    judge = Judge("bright", Brightness(clip_from_state(tiny_clip_state), image_size=48))
    limits = Limits(megabytes=1, megapixels=2, images=5)
    return Site([judge], tmp_path_factory.mktemp("uploads"), limits=limits)


@pytest.fixture(scope="module")
def client(site: Site) -> TestClient:
    """It raises what the server would have called a failure of its own."""
    return TestClient(site.app, f"http://{HOST}")


@pytest.fixture
def tab(client: TestClient) -> str:
    return f"/api/tabs/{client.post('/api/tabs').json()['token']}"


def files(site: Site) -> dict[str, bytes]:
    return {str(path.relative_to(site.folder)): path.read_bytes() for path in site.folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["images", "normal"])
def test_every_bad_upload_is_a_sentence_and_changes_nothing(site, client, tab, kind):
    given = {**BAD, **UPLOADS}
    assert len(given) >= 40
    client.post(f"{tab}/{kind}", params={"name": "good.png"}, content=GOOD)
    before, kept = client.get(tab).json(), files(site)
    for name, content in given.items():
        answer = client.post(f"{tab}/{kind}", params={"name": name}, content=content)
        said = answer.json()["error"]
        assert answer.status_code == 200
        assert said.startswith(name or "image"), said
        assert re.fullmatch(r"[^\n]{10,300}\.", said), said
        assert "/" not in said.replace("w/h", ""), "no path of the server"
        assert files(site) == kept, name
        assert client.get(tab).json() == before, name
    again = client.post(f"{tab}/images", params={"name": "good.png"}, content=GOOD).json()["images"]
    assert [image["name"] for image in again] == ["good.png"]


def test_the_page_computes_in_the_precision_that_was_measured_to_suit_or_that_the_calibration_is_of(
    tiny_model, tmp_path, monkeypatch, capsys
):
    measured = machine.Choice("bf16", 1, {"fp32": 1.0, "bf16": 2.0}, {"fp32": 0.0, "bf16": 1e-5})
    asked = []

    def choose(detector, settled):
        asked.append(settled)
        detector.backbone.use_precision(settled or measured.precision)
        return measured

    monkeypatch.setattr(machine, "choose", choose)
    monkeypatch.setattr(app, "detector_of", lambda settings: tiny_model)
    monkeypatch.setattr(app, "_method", lambda path: "cops")
    (judge,) = app.judges(app.AppSettings(checkpoint=tmp_path / "last.ckpt"))
    assert judge.detector.identity().precision == "bf16"
    assert "precision=bf16, batch_size=1: bf16 is 2.00 times as fast" in capsys.readouterr().out
    made = judge.calibrated(judge.scored([Picture("image 1", pixels=PIXELS)]), 0.5)
    made.write(tmp_path / "half.json")
    tiny_model.backbone.use_precision("fp32")
    judge.calibrated(judge.scored([Picture("image 1", pixels=PIXELS)]), 0.5).write(tmp_path / "whole.json")
    for name, precision in (("half", "bf16"), ("whole", "fp32")):
        app.judges(app.AppSettings(checkpoint=tmp_path / "last.ckpt", calibration=tmp_path / f"{name}.json"))
        assert tiny_model.backbone.precision == precision
    assert asked == [None, "bf16", "fp32"]
    assert capsys.readouterr().out == "", "nothing was measured"


def test_what_cannot_be_read_is_a_row_of_the_table_with_its_reason(client, tab):
    client.post(f"{tab}/images", params={"name": "=html.jpg"}, content=BAD["html.jpg"])
    assert "'=html.jpg,,,,,,'=html.jpg cannot be read" in client.get(f"{tab}/results.csv").text


@pytest.mark.parametrize("name", NAMES)
def test_a_name_decides_nothing_but_what_is_shown(site, client, tab, name):
    (image,) = client.post(f"{tab}/images", params={"name": name}, content=GOOD).json()["images"]
    assert image["name"].isprintable()
    assert 0 < len(image["name"]) <= 120
    assert "/" not in image["name"]
    written = {file.rpartition("/")[2] for file in files(site) if file.startswith(tab.rpartition("/")[2])}
    assert len(written) == 3
    assert all(map(KEPT.fullmatch, written)), written
    client.delete(f"{tab}/images")
    assert not any(file.startswith(tab.rpartition("/")[2]) for file in files(site))


def test_fields_that_are_missing_repeated_or_unknown_are_not_believed(client, tab):
    (image,) = client.post(f"{tab}/images", content=GOOD).json()["images"]
    assert image["name"] == "image"
    (image,) = client.post(f"{tab}/images?name=a.png&name=b.png&path=/etc/passwd", content=GOOD).json()["images"]
    assert image["name"] in ("a.png", "b.png")
    headers = {"Content-Type": "text/html", "Content-Disposition": "attachment; filename=../x"}
    (image,) = client.post(f"{tab}/images?name=c.png", content=GOOD, headers=headers).json()["images"]
    assert client.get(f"{tab}/images/{image['id']}/view.jpg").headers["content-type"] == "image/jpeg"
    assert client.put(f"{tab}/images", content=GOOD).status_code == 405
    assert client.post("/api/tabs/other/images", content=GOOD).status_code == 404
    assert client.post(f"{tab}/images/0", content=GOOD).status_code == 405


def test_one_image_more_than_a_tab_may_have_is_refused(client, tab):
    for number in range(5):
        assert "images" in client.post(f"{tab}/images?name={number}.png", content=GOOD).json()
    found = client.post(f"{tab}/images?name=one.png", content=GOOD).json()
    assert found == {"error": "one.png is more than the 5 images that are kept. Remove some first."}
    assert len(client.get(tab).json()["images"]) == 5


def test_a_body_without_an_end_is_refused_once_it_is_too_large(site, tab):
    kept, given, answered = files(site), itertools.count(1), []
    head = {"type": "http", "method": "POST", "path": f"{tab}/images", "query_string": b"name=endless.png"}
    scope = {**head, "headers": [(b"host", HOST.encode())], "http_version": "1.1", "scheme": "http"}

    async def receive():
        next(given)
        return {"type": "http.request", "body": bytes(2**16), "more_body": True}

    async def send(message):
        answered.append(message)

    asyncio.run(site.app(scope, receive, send))
    assert json.loads(answered[-1]["body"]) == {
        "error": "endless.png has more than 1 MB, which is all that is accepted."
    }
    assert next(given) * 2**16 < 10**6 + 3 * 2**16, "no more than that was read"
    assert files(site) == kept


@contextmanager
def served(site: Site):
    """The port of the site behind the real server."""
    with socket.socket() as bound:
        bound.bind((HOST, 0))
        server = uvicorn.Server(uvicorn.Config(site.app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound])))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def sent(port: int, head: str, body: bytes, gone: bool = False) -> bytes:
    """What a server answers to a request as it stands, before it closes; `gone` senders send no more and hang up."""
    with socket.create_connection((HOST, port)) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + body)
        if gone:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionResetError):
            while received := connection.recv(2**16):
                answer += received
        return answer


def test_a_body_that_is_not_as_long_as_it_says_is_no_image_and_the_server_goes_on(site, client, tab, caplog):
    kept = files(site)
    with served(site) as port:
        post = f"POST {tab}/images?name=cut.png HTTP/1.1\nHost: {HOST}:{port}\n"
        for wrong, body in (
            ("Content-Length: 100000", GOOD[:50]),
            ("Transfer-Encoding: chunked", b"32\r\n" + GOOD[:40]),
        ):
            assert b'"images"' not in sent(port, f"{post}{wrong}\n\n", body, gone=True)
        for wrong in ("Content-Length: -5", "Content-Length: many", "Transfer-Encoding: chunked"):
            assert sent(port, f"{post}{wrong}\n\n", b"not a number\r\n").startswith(b"HTTP/1.1 400")
        assert b'"images"' not in sent(port, f"{post}Content-Length: 50\n\n", GOOD)
        answer = sent(port, f"{post}Content-Length: {len(GOOD)}\nConnection: close\n\n", GOOD)
        (image,) = json.loads(answer.partition(b"\r\n\r\n")[2])["images"]
        assert (image["width"], image["height"]) == PIXELS.shape[:2]
    assert np.isfinite(image["verdicts"][0]["score"])
    client.delete(f"{tab}/images")
    assert files(site) == kept
    assert caplog.records == [], "nothing failed"
