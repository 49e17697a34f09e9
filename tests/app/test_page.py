"""The page of `cops-app` in a real browser, over the packaged detector, as `make app` starts it."""

import csv
import io
import json
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from bad_files import BAD
from browser import browsing, in_a_browser
from cli.studies import write_run
from cops_lightning.app.demonstration import examples, load_demonstration, normal_images
from cops_lightning.app.judge import overlay, png
from cops_lightning.app.server import PAGE
from cops_lightning.demo import images as rendered


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four images, of which a missed one and a false alarm are worst; one heat map leads out of its folder."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "cops-0", {"tiles": 0.9})
    lines = [
        ("red/hole/0.png", 1, 0.8),
        ("red/hole/1.png", 1, 0.2),
        ("red/good/0.png", 0, 0.7),
        ("red/good/1.png", 0, 0.1),
    ]
    rows = [f"tiles,red,hole,tiles/red/{image},{label},{score}" for image, label, score in lines]
    (folder / "scores.csv").write_text("\n".join(["target,category,defect,image,label,score", *rows]) + "\n")
    drawn = folder / "heatmaps" / "tiles"
    drawn.mkdir(parents=True)
    Image.new("RGB", (60, 20), "red").save(drawn / "red_hole_1.png")
    Image.new("RGB", (60, 20)).save(folder.parent / "secret.png")
    (drawn / "red_good_0.png").symlink_to(folder.parent / "secret.png")
    return folder


def answers(address):
    try:
        urllib.request.urlopen(address).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def server(start_command, run, tmp_path_factory):
    """The command in a process of its own: its address. It must leave nothing behind."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    temporary = tmp_path_factory.mktemp("temporary")
    limits = ("max_megabytes=1", "max_megapixels=2", "max_images=20")
    process = start_command(
        "cops-app", f"port={port}", f"runs={run.parent}", *limits, cwd=temporary, TMPDIR=str(temporary)
    )
    address = f"http://127.0.0.1:{port}"
    while not answers(address):
        assert process.returncode is None, process.communicate()
        time.sleep(0.1)
    assert list(temporary.iterdir()) != []
    yield address
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # as where the tests run under nohup
    process.send_signal(signal.SIGTERM if ignored else signal.SIGHUP)  # as of a terminal that is closed
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert f"The page is at {address}" in out
    assert list(temporary.iterdir()) == []


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests of the page."""
    with browsing() as browser:
        yield browser


@pytest.fixture
def visit(chromium, server):
    """Opens the page as another user. Nothing may be said on the console, or be asked from elsewhere."""
    said, asked, contexts = [], [], []

    def open_page(width=1280, **options):
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(server)
        expect(page.locator("#examples button")).to_have_count(len(examples()))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith((f"{server}/", "data:"))} == set()


def ask(address, method="GET", body=None, **headers):
    """Status and content of an answer."""
    request = urllib.request.Request(address, body, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def tab(server):
    """The address of a tab of its own."""
    return f"{server}/api/tabs/{json.loads(ask(f'{server}/api/tabs', 'POST')[1])['token']}"


@pytest.fixture(scope="module")
def expected():
    """What Python says of the first example."""
    return next(load_demonstration().predict(examples()[0].image))


def file_of(image, name="part.png"):
    return {"name": name, "mimeType": "image/png", "buffer": png(image)}


def chosen(page, name):
    """The details of an image, once they are shown."""
    detail = page.locator("#detail")
    expect(detail.locator("h3").first).to_have_text(name, timeout=30_000)
    return detail


@in_a_browser
def test_an_example_has_the_verdict_the_score_and_the_map_that_python_gives(visit, expected):
    page, example = visit(), examples()[0]
    expect(page.locator("#banner")).to_contain_text("Demonstration.")
    page.get_by_role("button", name=example.name).click()
    detail = chosen(page, example.name)
    expect(detail.locator(".verdict .label")).to_have_text("▲ anomalous")
    expect(detail.locator(".verdict b").first).to_have_text(f"{expected.score:.3f}")
    expect(detail.locator(".why")).to_contain_text("of the 40 normal images of the calibration")
    assert detail.locator("svg rect").count() == detail.locator("tbody tr").count() > 0
    shown = page.request.get(page.url + detail.locator(".overlay").get_attribute("src")[1:]).body()
    colours = np.asarray(Image.open(io.BytesIO(shown)))
    assert colours.shape == (*expected.map.shape, 4)
    peak = np.unravel_index(expected.map.argmax(), expected.map.shape)
    assert colours[peak][3] == colours[..., 3].max()


@in_a_browser
def test_the_slider_and_the_frames_follow_the_keyboard(visit):
    page = visit(390)
    page.get_by_role("button", name="leather 1").click()
    detail = chosen(page, "leather 1")
    opacity = lambda: detail.locator(".overlay").evaluate("one => one.style.opacity")  # noqa: E731
    assert opacity() == "0.6"
    slider = page.get_by_label("Heat map", exact=False).first
    slider.focus()
    page.keyboard.press("End")
    assert opacity() == "1"
    page.keyboard.press("Home")
    assert opacity() == "0"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert detail.locator("svg").evaluate("one => one.style.display") == "none"
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@in_a_browser
def test_everything_is_reached_by_tab_and_has_a_name(visit):
    page = visit()
    page.get_by_role("button", name="leather 1").click()
    chosen(page, "leather 1")
    page.locator("h1").click()
    names = []
    for _ in range(20):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate("(e => (e.labels?.[0] ?? e).textContent.trim() || e.ariaLabel)(document.activeElement)")
        )
    assert all(names)
    order = ["Images", "Calibrate", "Runs", "Choose images", "Results (CSV)", "Heat maps (ZIP)", "Remove all", "Remove"]
    assert [name for name in names if name in order][: len(order)] == order


@in_a_browser
def test_files_that_are_no_images_are_a_sentence_each_and_the_others_are_judged(visit):
    page = visit()
    bad = {name: BAD[name] for name in ("empty.png", "svg.png", "html.jpg", "bomb.png", "short.png", "half.tif")}
    bad |= {"large.png": bytes(10**6 + 1), "<img src=x onerror=window.ran=1>.png": b"<script>window.ran=1</script>"}
    files = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in bad.items()]
    page.set_input_files("#files", [*files[:4], file_of(examples()[1].image, "fine <b>1.png"), *files[4:]])
    chosen(page, "fine <b>1.png")
    expect(page.locator("#cards .label")).to_have_text(["✓ normal"])
    said = page.locator(".message span")
    expect(said).to_have_count(len(bad))
    for name in bad:
        expect(said.filter(has_text=f"{name} ")).to_have_count(1)
    expect(said.filter(has_text="empty.png ")).to_have_text("empty.png cannot be read: it is empty.")
    assert page.evaluate("window.ran") is None
    page.get_by_role("button", name="Close this message").first.click()
    expect(said).to_have_count(len(bad) - 1)
    expect(said.filter(has_text="bomb.png")).to_have_text(
        "bomb.png has many more than the 2 megapixels that are accepted."
    )
    page.get_by_role("button", name="Close all messages").click()
    expect(said).to_have_count(0)


@in_a_browser
def test_two_users_at_once_see_their_own_images_and_a_reload_keeps_them(visit):
    first, second = visit(), visit()
    for page, place in ((first, 0), (second, 1)):
        page.set_input_files("#files", [file_of(examples()[place].image, f"part{place}.png")])
    for page, place in ((first, 0), (second, 1)):
        chosen(page, f"part{place}.png")
        expect(page.locator("#cards .name")).to_have_count(1)
    first.reload()
    chosen(first, "part0.png")


@in_a_browser
def test_normal_images_set_the_threshold_once_there_are_enough_of_them(visit):
    page = visit()
    page.get_by_role("button", name="leather 1").click()
    chosen(page, "leather 1")
    page.get_by_role("button", name="Calibrate").click()
    page.set_input_files("#normal-files", [file_of(image, f"{n}.png") for n, image in enumerate(normal_images()[:5])])
    said = page.locator("#calibration")
    expect(said).to_contain_text(
        "5 normal images are too few for a false-alarm rate of 5 %: it needs 19.", timeout=30_000
    )
    expect(page.locator("#cards .label")).to_have_text(["no verdict"])
    page.get_by_label("False alarms, at most").select_option("20 %")
    expect(said).to_contain_text("Your 5 normal images. Scores above")
    page.get_by_role("button", name="Images", exact=True).click()
    expect(page.locator("#cards .label")).to_have_text(["▲ anomalous"])


@in_a_browser
def test_images_that_have_moved_away_from_the_calibration_are_said_to_with_the_evidence(visit):
    page = visit()
    like = [file_of(image, f"like{n}.png") for n, image in enumerate(normal_images()[:10])]
    page.set_input_files("#files", like)
    expect(page.locator("#cards li")).to_have_count(10, timeout=30_000)
    expect(page.locator("#drift .note")).to_have_count(0)
    page.get_by_role("button", name="Remove all").click()
    gears = [Image.fromarray(rendered.example("gear", "train", n).image) for n in range(10)]
    other = [file_of(image, f"gear{n}.png") for n, image in enumerate(gears)]
    page.set_input_files("#files", other[:9])
    expect(page.locator("#cards li")).to_have_count(9, timeout=30_000)
    expect(page.locator("#drift .note")).to_have_count(0)
    page.set_input_files("#files", other[9:])
    said = page.locator("#drift .note")
    expect(said).to_contain_text("Drift. The images have moved away from those of the calibration")
    expect(said).to_contain_text("Kolmogorov-Smirnov statistic")
    page.get_by_role("button", name="Remove all").click()
    expect(said).to_have_count(0)
    page.get_by_role("button", name="Calibrate").click()
    expect(page.locator("#calibration")).to_contain_text("Further images are compared with these, ten at a time")
    page.set_input_files("#normal-files", other[:5])
    expect(page.locator("#calibration")).to_contain_text("Drift is not watched: that takes 20 images")


@in_a_browser
def test_failures_of_a_run_are_sorted_by_how_wrong_they_are(visit):
    page = visit()
    page.get_by_role("button", name="Runs").click()
    lists = page.locator("#of-run details")
    for place, (images, score) in enumerate(
        [(["red/hole/1.png", "red/hole/0.png"], "0.200"), (["red/good/0.png", "red/good/1.png"], "0.700")]
    ):
        lists.nth(place).locator("summary").click()
        expect(lists.nth(place).locator("tbody td:nth-child(4)")).to_have_text(images)
        expect(lists.nth(place).locator("tbody td:nth-child(5)").first).to_have_text(score)
    figures = page.locator(".errors img")
    expect(figures).to_have_count(1)  # not the one that leads out of the folder
    expect(page.locator(".errors figcaption")).to_have_text([
        "1. tiles, red/hole/1.png, score 0.200", "2. tiles, red/hole/0.png, score 0.800",  # no picture: still shown
        "1. tiles, red/good/0.png, score 0.700", "2. tiles, red/good/1.png, score 0.100",
    ])  # fmt: skip
    assert figures.evaluate("one => one.decode().then(() => one.naturalWidth)") == 60


def test_downloads_hold_every_image_and_every_refused_file(tab, expected):
    for place in (0, 1):
        assert ask(f"{tab}/examples/{place}", "POST")[0] == 200
    part = examples()[0].image.convert("L").resize((32, 32))
    assert ask(f"{tab}/images?name=part.png", "POST", png(part))[0] == 200
    ask(f"{tab}/images?name=%3Dcmd.png", "POST", b"hello")
    with zipfile.ZipFile(io.BytesIO(ask(f"{tab}/results.zip")[1])) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("results.csv").decode())))
        names = ("001-leather 1.jpg", "002-leather 2.jpg", "003-part.jpg")
        assert archive.namelist() == ["results.csv", *(f"heatmaps/{name}" for name in names)]
        assert Image.open(archive.open("heatmaps/001-leather 1.jpg")).size == examples()[0].image.size
    assert [row["label"] for row in rows[:2]] == ["anomalous", "normal"]
    assert rows[3]["label"] == ""
    assert rows[3]["image"] == "'=cmd.png"
    assert float(rows[0]["score"]) == pytest.approx(expected.score, abs=1e-6)
    assert json.loads(ask(f"{tab}/calibration/0.json")[1])["format"] == "cops-calibration 1"


def test_other_hosts_sites_and_tabs_are_refused(server, tab):
    assert ask(server, Host="example.org")[0] == 400
    assert ask(f"{tab}/images", "DELETE", Origin="http://example.org")[0] == 403
    assert ask(f"{server}/api/tabs/other")[0] == 404
    assert ask(f"{server}/page/../server.py")[0] == 404
    assert ask(f"{server}/api/runs/0/images/2.png")[0] == 404  # the link out of the folder
    assert ask(f"{server}/api/runs/7")[0] == 404
    assert ask(f"{server}/api/runs/{'9' * 5000}")[0] == 404  # more digits than Python converts
    with urllib.request.urlopen(f"{server}/api/colors.png") as answer:
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_the_map_on_the_page_is_that_of_a_heat_map_at_any_strength(expected):
    expected = expected
    over = np.asarray(Image.open(io.BytesIO(overlay(expected, expected.size)))).astype(float)
    opacity = 0.6 * over[..., 3:] / 255
    laid = np.asarray(examples()[0].image) * (1 - opacity) + over[..., :3] * opacity
    assert np.abs(laid - np.asarray(expected.heat_map(0.6))).max() <= 2


def test_a_port_that_is_taken_is_one_sentence(run_command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run_command("cops-app", f"port={taken.getsockname()[1]}")
    assert result.returncode == 1
    assert "cannot be had" in result.stderr


def test_without_the_extra_it_is_said_how_to_install_it(run_command, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run_command("cops-app")
    assert result.returncode == 1
    assert result.stderr == (
        "error: cops-app needs a package that is not installed. Install it by: pip install 'cops_lightning[app]'.\n"
    )


def test_the_page_names_nothing_of_elsewhere():
    text = "".join(file.read_text() for file in PAGE.iterdir())
    assert set(re.findall(r"https?:[^\s\"']*", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, which nothing is read from
