"""The page without a browser: its files, headers and references, and its arithmetic in node where there is one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.audio.pcm import wav_header
from engine.serving.pages import FOLDER, TYPES
from tests.support.serving import Running, a_mel, npy, pcm
from tests.support.tolerances import TOLERANCES

FILES = sorted(path.name for path in FOLDER.iterdir())
SCRIPTS = [name for name in FILES if name.endswith(".js")]
NAMESPACE = "http://www.w3.org/2000/svg"


class Page(HTMLParser):
    """Collects the tags of a page, and its text outside of them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def page() -> Page:
    page = Page()
    page.feed((FOLDER / "index.html").read_text())
    return page


@pytest.mark.parametrize("name", [*FILES, "demo.npy"])
def test_a_file_is_served_under_a_strict_policy(running: Running, name: str) -> None:
    answer = running.get("/" if name == "index.html" else f"/{name}")
    assert answer.status_code == 200 and answer.content
    assert answer.headers["content-type"] == TYPES.get(Path(name).suffix, "application/x-npy")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ") and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert running.get(answer.request.url.path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304


def test_no_file_names_an_outside_address() -> None:
    for name in FILES:
        text = (FOLDER / name).read_text().replace(NAMESPACE, "")
        assert not re.search(r"(?:https?:|wss?:|[\"'(]\s*)//", text), name


def test_nothing_is_inline(page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag != "style" and "style" not in attributes, attributes
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert tag != "script" or attributes.get("src"), attributes


def test_references_lead_somewhere(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    used = set(re.findall(r'\$\("([\w-]+)"\)', (FOLDER / "app.js").read_text()))
    assert used <= ids and len(used) > 25, used - ids
    targets = {str(attributes.get("src") or attributes.get("href")) for tag, attributes in page.tags if tag != "a"}
    for name in SCRIPTS:
        targets |= set(re.findall(r'(?:from |addModule\()"(/[\w.]+)"', (FOLDER / name).read_text()))
    assert {target.removeprefix("/") for target in targets - {"None"}} == set(FILES) - {"index.html"}


def test_every_control_has_a_name(page: Page) -> None:
    text = (FOLDER / "index.html").read_text()
    for tag, attributes in page.tags:
        if tag in ("input", "select") and "id" in attributes:
            name = attributes["id"]
            assert f'for="{name}"' in text or re.search(rf'<label[^>]*>[^/]*id="{name}"', text), name
        if tag == "canvas":
            assert attributes.get("role") == "img" and attributes.get("aria-label")


def node(folder: Path, program: str) -> Any:
    """Run a program that prints JSON, beside the scripts of the page."""
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    for name in SCRIPTS:
        (folder / name).with_suffix(".mjs").write_text((FOLDER / name).read_text())
    (folder / "main.mjs").write_text(program)
    done = subprocess.run(["node", "main.mjs"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_parses(tmp_path: Path, name: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    (tmp_path / "script.mjs").write_text((FOLDER / name).read_text())
    done = subprocess.run(["node", "--check", "script.mjs"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_npy_files_in_the_browser(tmp_path: Path) -> None:
    mel = a_mel(5)
    for number, array in enumerate((mel, np.asfortranarray(mel), mel[None].astype(np.float64))):
        (tmp_path / f"{number}.npy").write_bytes(npy(array))
    program = """
import { readFileSync } from "node:fs";
import { readNpy } from "./files.mjs";
const read = (name) => {
  const file = readFileSync(name);
  return readNpy(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
};
const files = [0, 1, 2].map((i) => read(`${i}.npy`));
console.log(JSON.stringify(files.map(({ bands, frames, mel }) => [bands, frames, [...mel]])));
"""
    for bands, count, values in node(tmp_path, program):
        assert (bands, count) == mel.shape
        np.testing.assert_array_equal(np.float32(values).reshape(count, bands).T, mel)


def test_wav_files_of_the_browser(tmp_path: Path) -> None:
    audio = np.linspace(-1.1, 1.1, 101, dtype=np.float32)
    program = f"""
import {{ floats, writeWav }} from "./files.mjs";
const wav = writeWav(Float32Array.from({audio.tolist()}), 22050);
const again = writeWav(Int16Array.from(new Int16Array(wav.slice(44))), 22050);
const pair = floats(Int16Array.of(-32768, 16384));
console.log(JSON.stringify([[...new Uint8Array(wav)], [...new Uint8Array(again)], [...pair]]));
"""
    wav, again, pair = node(tmp_path, program)
    assert bytes(wav) == bytes(again) == wav_header(202, 22050) + pcm(audio) and pair == [-1, 0.5]


def test_the_spectrum_of_the_browser(tmp_path: Path) -> None:
    audio = np.sin(2 * np.pi * 100 * np.arange(2048) / 1024) + 0.1 * np.random.default_rng(0).standard_normal(2048)
    program = f"""
import {{ fft, onMelAxis, spectrogram }} from "./spectrum.mjs";
const audio = Float32Array.from({audio.tolist()});
const [re, im] = [audio.slice(0, 1024), new Float32Array(1024)];
fft(re, im);
const {{ frames, bands, values }} = spectrogram(audio);
const mel = onMelAxis({{ frames, bands, values }}, 22050);
const frame = (image) => [...image.values.slice(4 * image.bands, 5 * image.bands)];
console.log(JSON.stringify([[...re], [...im], frames, bands, frame({{ bands, values }}), frame(mel)]));
"""
    re_part, im_part, count, bands, values, mel = node(tmp_path, program)
    expected = np.fft.fft(audio[:1024])
    error = np.abs(np.asarray(re_part) + 1j * np.asarray(im_part) - expected).max() / np.abs(expected).max()
    assert error < TOLERANCES["page_fft"]
    assert (count, bands, int(np.argmax(values))) == (8, 512, 100)
    frequency = 22050 * 100 / 1024
    band = 160 * np.log1p(frequency / 700) / np.log1p(11025 / 700)
    assert len(mel) == 160 and abs(int(np.argmax(mel)) - band) <= 1 and max(mel) <= 1


def test_the_player_of_the_browser(tmp_path: Path) -> None:
    """It plays every sample once and in order, pauses when they come too late, and says when it has ended."""
    program = """
globalThis.sampleRate = 1000;
globalThis.AudioWorkletProcessor = class { constructor() { this.port = { postMessage: (m) => said.push(m) }; } };
globalThis.registerProcessor = (name, type) => { globalThis.Player = type; };
const said = [];
await import("./worklet.mjs");
const player = new Player();
const send = (data) => player.port.onmessage({ data });
const heard = [];
const run = (blocks) => {
  for (let i = 0; i < blocks; i++) {
    const block = new Float32Array(128);
    player.process([], [[block]]);
    heard.push(...block);
  }
};
const samples = (begin, end) => Float32Array.from({ length: end - begin }, (_, i) => begin + i + 1);
send({ type: "reset", run: 1 });
send({ type: "data", run: 0, samples: samples(5000, 5100) });
send({ type: "data", run: 1, samples: samples(0, 50) });
run(1);
send({ type: "data", run: 1, samples: samples(50, 300) });
run(4);
send({ type: "data", run: 1, samples: samples(300, 700) });
run(2);
send({ type: "data", run: 1, samples: samples(700, 1000) });
run(3);
send({ type: "end", run: 1 });
run(9);
console.log(JSON.stringify([heard, said]));
"""
    heard, said = node(tmp_path, program)
    assert heard[:128] == [0] * 128 and heard[128] == 1, "too little is there at first"
    assert heard[428:896] == [0] * 468, "it waits for half a second after a gap"
    assert [sample for sample in heard if sample] == list(range(1, 1001))
    assert [message["type"] for message in said].count("ended") == 1 and said[-1] == {"type": "ended", "run": 1}
    assert max(message["late"] for message in said if message["type"] == "position") > 0
