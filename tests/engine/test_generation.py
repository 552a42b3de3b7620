"""Sound without a mel: clips of classes, recordings made clean, recordings mixed, against the reference in float64."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import engine
from engine import InputError, Voice
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import SC09, Config
from engine.diffusion.labels import resolve_labels
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference
from engine.sampling.cpu.loop import SHORT
from tests.support.layouts import random_checkpoint
from tests.support.networks import random_network
from tests.support.targets import targets
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

PLAIN = Config(
    residual_channels=16,
    residual_layers=5,
    dilation_cycle=4,
    n_mels=0,
    upsample_strides=(),
    mel_kind=None,
    sample_rate=8000,
    clip_samples=200,
)
CLASSES = ("0 ann", "0 ben", "1 ann", "1 ben", "2 ann", "2 ben")
LABELLED = replace(PLAIN, classes=CLASSES)
VOCODER = replace(PLAIN, n_mels=20, upsample_strides=(4, 4), mel_kind="lmnt", clip_samples=0)
NETWORKS = {
    "plain": PLAIN,
    "labelled": LABELLED,
    "vocoder": VOCODER,
    "output is F": replace(LABELLED, signal_std=0.14),
    "guided": replace(LABELLED, guidance=1.5),
    "no length": replace(LABELLED, clip_samples=0),
    "prior": replace(VOCODER, prior=True),
    "reflect": replace(PLAIN, padding="reflect"),
}
Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, voices = tmp_path_factory.mktemp("networks"), {}

    def load_network(name: str, **options: Any) -> Voice:
        key = name, *sorted(options.items())
        if key not in voices:
            path = folder / f"{name}.safetensors"
            save_checkpoint(path, Checkpoint(NETWORKS[name], random_network(NETWORKS[name], 0)))
            voices[key] = engine.load(path, **{"device": "cpu", "threads": 1, **options})
        return voices[key]

    return load_network


@pytest.fixture(scope="module")
def labelled(load: Any) -> Voice:
    return load("labelled")


@pytest.fixture(scope="module")
def plain(load: Any) -> Voice:
    return load("plain")


def gaussian(*shape: int) -> Array:
    return np.random.default_rng(shape).standard_normal(shape, np.float32)


def recording(*shape: int) -> Array:
    return np.clip(0.3 * gaussian(*shape), -1.0, 1.0)


def exact(name: str, start: Any, steps: int, seeds: list[int], labels: Any = None, mel: Any = None) -> Any:
    """Run the reference's last steps of the training schedule from start [B, L], with the noise of the seeds."""
    plan = build_schedule(NETWORKS[name], "full").last(steps)
    z = np.array([[normal(seed, n, 0, start.shape[1]) for seed in seeds] for n in range(1, steps)])
    z = z.reshape(steps - 1, *start.shape)
    tensors = reference.to_tensors(random_network(NETWORKS[name], 0), torch.float64)
    x, noise, mels = (None if a is None else torch.as_tensor(np.asarray(a)).double() for a in (start, z, mel))
    numbers = None if labels is None else torch.tensor(labels)
    return reference.sample(tensors, NETWORKS[name], mels, plan, x, noise, labels=numbers)


# Clips of classes


@pytest.mark.parametrize("steps", range(1, 6))
@pytest.mark.parametrize("name", ["labelled", "output is F"])
def test_few_steps_are_the_reference(load: Any, name: str, steps: int) -> None:
    plan, x, z = build_schedule(NETWORKS[name], steps), gaussian(2, 150), gaussian(steps - 1, 2, 150)
    tensors = reference.to_tensors(random_network(NETWORKS[name], 0), torch.float64)
    inputs = None, plan, torch.tensor(x).double(), torch.tensor(z).double()
    expected = reference.sample(tensors, NETWORKS[name], *inputs, labels=torch.tensor([3, 3]))
    audio = load(name, precision="fp32").generate(n=2, label=CLASSES[3], steps=steps, noise=(x, z))
    assert relative_error(audio, expected) < TOLERANCES["network_audio_fp32"]


@pytest.mark.parametrize("temperature", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("name", ["plain", "labelled", "guided"])
def test_a_temperature_scales_all_noise(load: Any, name: str, temperature: float) -> None:
    voice, labels = load(name, precision="fp32"), {} if name == "plain" else {"label": CLASSES[3]}
    options: dict[str, Any] = {"n": 2, "steps": 6, **labels, **({"guidance": 2.0} if name == "guided" else {})}
    drawn = np.array([[normal(seed, step, 0, 150) for seed in (5, 6)] for step in range(6)])
    x, z = drawn[0], drawn[1:]
    scaled = voice.generate(noise=(temperature * x, temperature * z), **options)
    by_seed = voice.generate(seed=5, samples=150, temperature=temperature, **options)
    by_noise = voice.generate(noise=(x, z), temperature=temperature, **options)
    for audio in (by_seed, by_noise):
        assert relative_error(audio, scaled) < TOLERANCES["network_audio_fp32"]
    assert relative_error(voice.generate(seed=5, samples=150, **options), scaled) > 0.01


def test_a_temperature_of_one_changes_no_byte(labelled: Voice) -> None:
    options: dict[str, Any] = {"label": 1, "steps": 6, "seed": 3, "samples": 90}
    assert labelled.generate(temperature=1, **options).tobytes() == labelled.generate(**options).tobytes()


def test_the_temperature_defaults_to_the_networks(labelled: Voice, tmp_path: Path) -> None:
    path = tmp_path / "cool.safetensors"
    save_checkpoint(path, Checkpoint(replace(LABELLED, temperature=0.5), random_network(LABELLED, 0)))
    recorded = engine.load(path, device="cpu", threads=1)
    options: dict[str, Any] = {"label": 1, "steps": 6, "seed": 3, "samples": 90}
    assert recorded.generate(**options).tobytes() == labelled.generate(temperature=0.5, **options).tobytes()
    for explicit in (0.0, 1.0):
        expected = labelled.generate(temperature=explicit, **options)
        assert recorded.generate(temperature=explicit, **options).tobytes() == expected.tobytes()
        assert expected.tobytes() != recorded.generate(**options).tobytes()


@pytest.mark.parametrize(("isa", "precision"), targets(tiles=False))
def test_a_batch_of_mixed_labels_is_the_reference(load: Any, isa: str, precision: str) -> None:
    labels = ["1 ben", "0 ann", "1 ben", "2 ann"]
    voice = load("labelled", isa=isa, precision=precision)
    plan, x, z = build_schedule(LABELLED, 6), gaussian(4, 150), gaussian(5, 4, 150)
    tensors = reference.to_tensors(random_network(LABELLED, 0), torch.float64)
    numbers = torch.tensor([CLASSES.index(label) for label in labels])
    inputs = None, plan, torch.tensor(x).double(), torch.tensor(z).double()
    expected = reference.sample(tensors, LABELLED, *inputs, labels=numbers)
    audio = voice.generate(n=4, label=labels, steps=6, noise=(x, z))
    assert audio.shape == (4, 150) and audio.dtype == np.float32
    assert relative_error(audio, expected) < TOLERANCES[f"network_audio_{precision}"]
    other = voice.generate(n=4, label="0 ann", steps=6, noise=(x, z))
    assert relative_error(other[0], audio[0]) > 0.05 and other[1].tobytes() == audio[1].tobytes()
    eps = voice.predict_noise(x, 20.25, label=labels)
    expected = reference.predict_noise(tensors, LABELLED, inputs[2], 20.25, labels=numbers)
    assert relative_error(eps, expected) < TOLERANCES[f"network_eps_{precision}"]


@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_neither_threads_nor_batches_change_a_byte(load: Any, precision: str) -> None:
    for length, n in ((90, 5), (SHORT + 1, 1)):
        labels = (["0 ben", 1, 2, "1 ann", 0])[:n]
        options: dict[str, Any] = {"samples": length, "schedule": [1e-3, 0.02, 0.2]}
        alone = load("labelled", precision=precision, threads=1)
        expected = [alone.generate(n=1, label=label, seed=7 + i, **options).tobytes() for i, label in enumerate(labels)]
        assert len(set(expected)) == n
        for threads in (2, 3):
            voice = load("labelled", precision=precision, threads=threads)
            assert [row.tobytes() for row in voice.generate(n=n, label=labels, seed=7, **options)] == expected
            backwards = voice.generate(n=n, label=labels[::-1], seed=list(range(7, 7 + n))[::-1], **options)
            assert [row.tobytes() for row in backwards] == expected[::-1]


def test_an_sc09_checkpoint_of_philsyns_speaks(tmp_path: Path) -> None:
    """At the paper's hyper-parameters but for the channels."""
    sizes = {name: getattr(SC09, name) for name in ("residual_layers", "dilation_cycle", "train_schedule")}
    checkpoint = random_checkpoint(tmp_path, "philsyn_unconditional", seed=2, **sizes)
    voice, plan = engine.load(checkpoint.path, precision="fp32", device="cpu"), build_schedule(checkpoint.config, 6)
    assert (voice.sample_rate, voice.config.clip_samples) == (16000, 16000)
    x, z = gaussian(1, 300), gaussian(5, 1, 300)
    inputs = None, plan, torch.tensor(x).double(), torch.tensor(z).double()
    expected = reference.sample(reference.to_tensors(checkpoint.tensors, torch.float64), checkpoint.config, *inputs)
    assert relative_error(voice.generate(steps=6, noise=(x, z)), expected) < TOLERANCES["network_audio_fp32"]


def test_a_class_is_drawn_from_the_items_seed(labelled: Voice) -> None:
    drawn = labelled.classes_of(n=8, label=1, seed=3)
    assert drawn == [CLASSES[i] for i in resolve_labels(CLASSES, 1, range(3, 11)) if i is not None]
    assert set(drawn) == {"1 ann", "1 ben"}
    audio = labelled.generate(n=8, label=1, steps=6, samples=50, seed=3)
    assert audio.tobytes() == labelled.generate(n=8, label=drawn, steps=6, samples=50, seed=3).tobytes()
    assert audio[5].tobytes() == labelled.generate(label="1", steps=6, samples=50, seed=8)[0].tobytes()
    anything = labelled.generate(n=8, steps=6, samples=50, seed=3)
    assert (
        anything.tobytes()
        == labelled.generate(n=8, label=labelled.classes_of(n=8, seed=3), steps=6, samples=50, seed=3).tobytes()
    )
    noise = gaussian(2, 50), gaussian(5, 2, 50)  # with own noise, the seed only draws the class
    first, other = (labelled.generate(n=2, label=0, steps=6, noise=noise, seed=seed) for seed in ([0, 0], [2**63] * 2))
    assert (
        labelled.classes_of(n=1, label=0, seed=0) != labelled.classes_of(n=1, label=0, seed=2**63)
        and first.tobytes() != other.tobytes()
    )


def test_a_network_without_classes_has_none_to_draw(plain: Voice) -> None:
    assert plain.classes_of(n=3) == []
    with pytest.raises(InputError, match="label: this network has no classes; expected None, got '7'"):
        plain.generate(n=1, label="7")
    with pytest.raises(InputError, match="label: this network has no classes"):
        plain.predict_noise(gaussian(9), 3, label=0)


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 200),
        ({"samples": 30}, 30),
        ({"seconds": 0.01}, 80),
        ({"seconds": 1 / 16000 + 1e-9}, 1),
        ({"seconds": np.float32(0.02)}, 160),
        ({"noise": (gaussian(1, 40), gaussian(2, 1, 40))}, 40),
    ],
)
def test_length(plain: Voice, options: dict[str, Any], length: int) -> None:
    assert plain.generate(schedule=[1e-3, 0.02, 0.2], **options).shape == (1, length)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("no length", {}, "samples: expected an integer, or seconds; this network does not tell the length"),
        ("plain", {"seconds": 0}, "seconds: expected a number that gives 1 to 2147483647 samples at 8000 Hz, got 0"),
        ("plain", {"seconds": -1.0}, "seconds: expected a number"),
        ("plain", {"seconds": 1e9}, "seconds: expected a number"),
        ("plain", {"seconds": float("nan")}, "seconds: expected a number"),
        ("plain", {"seconds": float("inf")}, "seconds: expected a number"),
        ("plain", {"seconds": "1"}, "seconds: expected a number"),
        ("plain", {"seconds": True}, "seconds: expected a number"),
        ("plain", {"seconds": 1.0, "samples": 8000}, "samples: expected None beside seconds, got 8000"),
        ("plain", {"samples": 0}, "samples: expected an integer from 1"),
        ("plain", {"n": 0}, "n: expected an integer from 1"),
        *(
            ("plain", {"temperature": t}, "temperature: expected a number from 0 to 1")
            for t in (-0.1, 1.1, "1", float("nan"))
        ),
        ("labelled", {"label": 3}, "label: expected one of '0', '1', '2', or a whole name such as '0 ann', got 3"),
        ("labelled", {"label": [0, 1]}, r"label: expected one label, or one per item \(1\), got 2"),
        ("reflect", {"samples": 8}, "samples: this network pads by reflection and needs more than 8 samples, got 8"),
        ("vocoder", {}, r"generate: this network wants a mel; use vocode\(mel\)"),
    ],
)
def test_generate_refuses(load: Any, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        load(name).generate(**arguments)


def test_one_evaluation_wants_one_class(labelled: Voice) -> None:
    x = gaussian(30)
    assert (
        labelled.predict_noise(x, 3, label="0 ann").tobytes() != labelled.predict_noise(x, 3, label="2 ann").tobytes()
    )
    with pytest.raises(InputError, match=r"label: this network has classes; expected one of '0'.*, got None"):
        labelled.predict_noise(x, 3)
    with pytest.raises(InputError, match="label: expected one class, got 0, which matches 2 classes: '0 ann', '0 ben'"):
        labelled.predict_noise(x, 3, label=0)


def test_streams_without_a_mel_stay_refused(labelled: Voice) -> None:
    with pytest.raises(InputError, match=r"stream: this network is unconditional and takes no mel; use generate\(\)"):
        labelled.open_stream()


def test_explain_says_how_many_classes(labelled: Voice, plain: Voice) -> None:
    assert "6 classes" in labelled.explain() and "no mel" in plain.explain()


# Denoising


@pytest.mark.parametrize("t", [1, 2, 7, 50])
@pytest.mark.parametrize("name", ["plain", "labelled", "output is F", "vocoder"])
def test_denoising_is_the_end_of_the_reverse_process(load: Any, name: str, t: int) -> None:
    voice, audio = load(name, precision="fp32"), recording(2, 144)
    before = audio.copy()
    mel = np.random.default_rng(1).random((2, 20, 9), np.float32) if name == "vocoder" else None
    label = ["2 ben", "0 ann"] if NETWORKS[name].classes else None
    clean = voice.denoise(audio, t=t, seed=[9, 4], label=label, mel=mel)
    expected = exact(name, audio, t, [9, 4], [5, 0] if label else None, mel)
    assert clean.shape == audio.shape and clean.dtype == np.float32
    assert relative_error(clean, expected) < TOLERANCES["network_audio_fp32"]
    np.testing.assert_array_equal(audio, before)
    single = voice.denoise(audio[1], t=t, seed=4, label="0 ann" if label else None, mel=None if mel is None else mel[1])
    assert single.tobytes() == clean[1].tobytes() and single.shape == (144,)


def test_denoising_keeps_tensors_and_reports_progress(plain: Voice) -> None:
    audio, seen = recording(100), []
    expected = plain.denoise(audio, seed=3)
    assert (
        expected.tobytes()
        == plain.denoise(audio, t=25, seed=3).tobytes()
        != plain.denoise(audio, t=26, seed=3).tobytes()
    )
    tensor = plain.denoise(torch.from_numpy(audio), seed=3, progress=seen.append)
    assert isinstance(tensor, torch.Tensor) and tensor.numpy().tobytes() == expected.tobytes()
    assert seen == sorted(seen) and seen[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "audio", "options", "message"),
    [
        ("plain", recording(9), {"t": 0}, "t: expected an integer from 1 to 50, got 0"),
        ("plain", recording(9), {"t": 51}, "t: expected an integer from 1 to 50, got 51"),
        ("plain", recording(9), {"t": 25.0}, "t: expected an integer from 1 to 50, got 25.0"),
        ("plain", recording(0), {}, r"audio: expected shape \[B, L\] or \[L\], not empty, got \(0,\)"),
        ("plain", recording(1, 1, 9), {}, r"audio: expected shape \[B, L\] or \[L\]"),
        ("plain", recording(9).astype("f8"), {}, "audio: expected float32, got float64"),
        ("plain", recording(9) * np.inf, {}, "audio: expected finite values"),
        ("plain", recording(9) * 20000, {}, r"audio: expected samples in about \[-1, 1\], got up to .*by 32768"),
        ("plain", [0.0] * 9, {}, "audio: expected a numpy array or a torch tensor, got list"),
        ("plain", recording(2, 9), {"seed": [1]}, r"seed: expected one seed per item \(2\), got 1"),
        ("plain", recording(9), {"mel": 1}, "mel: this network takes none"),
        ("plain", recording(9), {"label": 1}, "label: this network has no classes"),
        ("labelled", recording(9), {}, "label: this network has classes; expected one of .*, got None"),
        ("labelled", recording(9), {"label": 5}, "label: expected one of .*, got 5"),
        ("vocoder", recording(32), {}, r"mel: this network wants one, \[B, 20, T\], got None"),
        ("vocoder", recording(32), {"mel": np.zeros((20, 3), "f4")}, r"audio: expected \[1, 48\] for this mel"),
        ("vocoder", recording(48), {"mel": np.zeros((20, 3), "f4") - 9}, "mel: this checkpoint wants 'lmnt' mels"),
        ("prior", recording(48), {"mel": np.zeros((20, 3), "f4")}, "denoise: PriorGrad's noise is not white"),
        ("reflect", recording(8), {}, "audio: this network pads by reflection and needs more than 8 samples, got 8"),
    ],
)
def test_denoise_refuses(load: Any, name: str, audio: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        load(name).denoise(audio, **options)


# Interpolation


@pytest.mark.parametrize(("weight", "t"), [(0.5, 50), (0.25, 7), (0.0, 1), (1.0, 20)])
@pytest.mark.parametrize("name", ["plain", "labelled"])
def test_interpolation_is_its_formula(load: Any, name: str, weight: float, t: int) -> None:
    voice, a, b = load(name, precision="fp32"), recording(2, 90), recording(2, 90)[::-1].copy()
    level = float(np.prod([1.0 - beta for beta in PLAIN.train_schedule[:t]]))
    seeds, label = [5, 6], "1 ann" if name == "labelled" else None
    eps = np.array([normal(seed, 0, 0, 90) for seed in seeds], np.float64)
    diffused = [np.sqrt(level) * x.astype(np.float64) + np.sqrt(1.0 - level) * eps for x in (a, b)]
    start = (1.0 - weight) * diffused[0] + weight * diffused[1]
    mixture = voice.interpolate(a, b, weight=weight, t=t, seed=5, label=label)
    expected = exact(name, start, t, seeds, [2, 2] if label else None)
    assert mixture.shape == a.shape and mixture.dtype == np.float32
    assert relative_error(mixture, expected) < TOLERANCES["network_audio_fp32"]
    assert voice.interpolate(a[1], b[1], weight=weight, t=t, seed=6, label=label).tobytes() == mixture[1].tobytes()


def test_the_ends_of_an_interpolation_know_one_recording(plain: Voice) -> None:
    a, b, c = recording(90), recording(91)[:90], recording(92)[:90]
    same = [plain.interpolate(a, other, weight=0.0).tobytes() for other in (b, c)]
    assert same[0] == same[1] == plain.interpolate(b, a, weight=1.0, t=50, seed=0).tobytes()
    assert plain.interpolate(a, b).tobytes() == plain.interpolate(a, b, weight=0.5, t=50, seed=0).tobytes() != same[0]
    tensor = plain.interpolate(torch.from_numpy(a), torch.from_numpy(b))
    assert isinstance(tensor, torch.Tensor) and tensor.numpy().tobytes() == plain.interpolate(a, b).tobytes()


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("plain", (recording(9), recording(8)), r"b: expected the shape of a, \(9,\), got \(8,\)"),
        ("plain", (recording(9), recording(1, 9)), r"b: expected the shape of a, \(9,\), got \(1, 9\)"),
        ("plain", (recording(9), recording(9) * np.nan), "b: expected finite values"),
        ("plain", (recording(9) * 20000, recording(9)), r"a: expected samples in about \[-1, 1\]"),
        ("plain", (None, recording(9)), "a: expected a numpy array or a torch tensor, got NoneType"),
        ("plain", (recording(9), recording(9), {"weight": 1.5}), "weight: expected a number from 0 to 1, got 1.5"),
        (
            "plain",
            (recording(9), recording(9), {"weight": float("nan")}),
            "weight: expected a number from 0 to 1, got nan",
        ),
        ("plain", (recording(9), recording(9), {"weight": "x"}), "weight: expected a number from 0 to 1, got 'x'"),
        ("plain", (recording(9), recording(9), {"t": 51}), "t: expected an integer from 1 to 50, got 51"),
        ("labelled", (recording(9), recording(9)), "label: this network has classes; expected one"),
        ("vocoder", (recording(16), recording(16)), "interpolate: this network wants a mel"),
    ],
)
def test_interpolate_refuses(load: Any, name: str, arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        a, b, *options = arguments
        load(name).interpolate(a, b, **(options[0] if options else {}))


def test_loading_does_not_change_the_file(load: Any, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x.safetensors", Checkpoint(LABELLED, random_network(LABELLED, 0)))
    voice = engine.load(tmp_path / "x.safetensors")
    assert voice.config == LABELLED and voice.generate(label=0, steps=6).tobytes() == (
        load("labelled").generate(label=0, steps=6).tobytes()
    )
