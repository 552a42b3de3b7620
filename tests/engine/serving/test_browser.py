"""The page in a real Chromium without a screen: `make web`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import engine
from engine import Voice
from engine.audio.pcm import wav_header
from engine.checkpoint.bundled import ASSETS
from engine.serving import app
from tests.support.serving import TIMEOUT, Running, pcm, serving

pytestmark = pytest.mark.web
TOKEN = "a-token-of-20-letters"
DEMO = ASSETS / "demo_mel.npy"
RECORDING = pcm(0.3 * np.sin(np.arange(12_000, dtype=np.float32) / 9))
# Keeps the samples of every sound that is complete.
KEEP = """
window.sounds = [];
window.addEventListener("diffwave-done", ({ detail }) => window.sounds.push(Array.from(detail.samples)));
"""
COLORS = """
(id) => {
  const canvas = document.getElementById(id);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}
"""
DRAWN = """
(id) => {
  const canvas = document.getElementById(id);
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value > 0);
}
"""
DROP = """
([name, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], name));
  for (const kind of ["dragover", "drop"]) {
    document.getElementById("drop").dispatchEvent(
      new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium")
    options = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, running: Running, **options: Any) -> Iterator[Any]:
    """Open the page; at the end no error was shown, and no other host was asked."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(1000 * TIMEOUT)
    page.add_init_script(KEEP)
    errors: list[str] = []
    addresses: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: addresses.append(request.url))
    page.on("websocket", lambda websocket: addresses.append(websocket.url))
    try:
        page.goto(running.url)
        yield page
        assert errors == [] and page.text_content("#message") == ""
        hosts = {urlsplit(address).netloc for address in addresses if not address.startswith("blob:")}
        assert hosts == {urlsplit(running.url).netloc}
    finally:
        context.close()


def until(page: Any, expression: str) -> None:
    """Wait until an expression is true; playwright's own way needs eval, which the policy forbids."""
    deadline = time.monotonic() + TIMEOUT
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"{expression}: {page.text_content('#message')}"
        page.wait_for_timeout(20)


def sound(page: Any, number: int = 0) -> bytes:
    """Wait for a complete sound and return its samples."""
    until(page, f"window.sounds.length > {number}")
    return np.asarray(page.evaluate(f"window.sounds[{number}]"), "<i2").tobytes()


def test_the_demo_plays(browser: Any, running: Running, voice: Voice) -> None:
    with opened(browser, running) as page:
        page.select_option("#steps", "3")
        page.fill("#seed", "7")
        page.click("#demo")
        assert sound(page) == pcm(voice.vocode(np.load(DEMO), steps=3, seed=7))
        until(page, "Number(document.getElementById('result').dataset.played) > 2000")
        for canvas in ("in-image", "out-image"):
            assert page.evaluate(COLORS, canvas) > 50, canvas
        assert page.evaluate(DRAWN, "out-wave")
        assert page.text_content("#audio-seconds") == f"{np.load(DEMO).shape[1] * 256 / 22050:.2f} s"
        assert "x real time" in page.text_content("#speed")
        until(page, "document.getElementById('toggle').textContent === 'Play'")  # it has ended
        page.click("#again")
        assert sound(page, 1) == sound(page, 0)


def test_a_draft(browser: Any, running: Running, voice: Voice) -> None:
    with opened(browser, running) as page:
        page.select_option("#draft", "griffin-lim")
        assert page.input_value("#steps") == "2" and page.is_disabled("#steps option[value=full]")
        page.fill("#seed", "7")
        page.click("#demo")
        assert sound(page) == pcm(voice.vocode(np.load(DEMO), steps=2, seed=7, draft="griffin-lim"))
        values = [option.get_attribute("value") for option in page.query_selector_all("#steps option")]
        for value in values:
            is_beyond = value == "full" or (value != "fast" and int(value) > 6)
            assert page.is_disabled(f"#steps option[value='{value}']") == is_beyond, value
        assert any(value.isdigit() and int(value) > 6 for value in values)
        page.select_option("#draft", "")
        assert page.input_value("#steps") == "fast"
        page.click("#again")
        assert sound(page, 1) == pcm(voice.vocode(np.load(DEMO), seed=7))


def test_matching_the_mel(browser: Any, running: Running, voice: Voice) -> None:
    with opened(browser, running) as page:
        page.select_option("#match", "1")
        page.fill("#seed", "7")
        page.click("#demo")
        assert sound(page) == pcm(voice.vocode(np.load(DEMO), seed=7, match_mel=1))
        page.select_option("#match", "inf")
        page.select_option("#draft", "griffin-lim")
        page.click("#again")
        expected = voice.vocode(np.load(DEMO), steps=2, seed=7, draft="griffin-lim", match_mel=float("inf"))
        assert sound(page, 1) == pcm(expected)


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "chosen"])
def test_a_recording_comes_back(browser: Any, running: Running, voice: Voice, tmp_path: Path, dropped: bool) -> None:
    content = wav_header(len(RECORDING), 22050) + RECORDING
    (tmp_path / "in.wav").write_bytes(content)
    samples = np.frombuffer(RECORDING, "<i2").astype(np.float32) / np.float32(32768)
    with opened(browser, running) as page:
        if dropped:
            page.wait_for_selector("#drop", state="visible")
            page.evaluate(DROP, ["in.wav", list(content)])
        else:
            page.set_input_files("#file", tmp_path / "in.wav")
        assert sound(page) == pcm(voice.vocode(engine.mel(samples, 22050)))
        assert page.evaluate(COLORS, "in-image") > 50 and page.evaluate(DRAWN, "in-wave")
        for kind in ("original", "griffin", "voice"):
            page.check(f"input[value={kind}]")
            until(page, "document.getElementById('toggle').textContent === 'Pause'")
        assert "in.wav" in page.text_content("#in-caption")


def test_a_digit(browser: Any, running: Running, digits: Voice) -> None:
    with opened(browser, running) as page:
        page.select_option("#steps", "6")
        page.click("#labels button:has-text('1')")
        assert sound(page) == pcm(digits.generate(label="1", steps=6)[0])


def test_the_keyboard(browser: Any, running: Running) -> None:
    with opened(browser, running) as page:
        page.wait_for_selector("#demo", state="visible")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "demo"
        page.keyboard.press("Enter")
        sound(page)
        reached = set()
        for _ in range(20):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.name"))
        assert {"file", "record", "steps", "seed", "precision", "again", "listen", "toggle", "save"} <= reached


def test_a_microphone(browser: Any, running: Running) -> None:
    with opened(browser, running) as page:
        page.click("#record")
        until(page, "document.getElementById('record').textContent === 'Stop recording'")
        page.wait_for_timeout(500)
        page.click("#record")
        assert len(sound(page)) > 2000


def test_stopping_frees_the_slot(browser: Any, running: Running) -> None:
    with opened(browser, running) as page:
        page.select_option("#steps", "full")
        page.click("#demo")
        running.wait_until(lambda service: service.slots.working == 1)
        page.click("#stop")
        running.wait_until_idle()
        assert page.evaluate("window.sounds.length") == 0


def test_a_token(browser: Any, voice: Voice) -> None:
    with serving(app(voice, token=TOKEN)) as running:
        context = browser.new_context()
        page = context.new_page()
        page.add_init_script(KEEP)
        page.goto(running.url)
        page.fill("#token", TOKEN, timeout=1000 * TIMEOUT)
        page.click("#token-form button")
        page.click("#demo", timeout=1000 * TIMEOUT)
        sound(page)
        context.close()


def test_an_error_is_shown(browser: Any, running: Running) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(running.url)
    page.wait_for_selector("#drop", state="visible", timeout=1000 * TIMEOUT)
    page.evaluate(DROP, ["bad.npy", [0x93, 1, 2, 3]])
    until(page, "document.getElementById('message').textContent.includes('expected an .npy file')")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_every_width_and_theme(browser: Any, running: Running, tmp_path: Path, scheme: str, width: int) -> None:
    with opened(browser, running, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
        page.click("#demo")
        sound(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        page.screenshot(path=tmp_path / f"page-{scheme}-{width}.png", full_page=True)
        shown = "[...document.querySelectorAll('button, select')].filter((control) => control.offsetParent)"
        assert page.evaluate(f"{shown}.every((control) => control.offsetHeight >= 40)"), "too small for a finger"
