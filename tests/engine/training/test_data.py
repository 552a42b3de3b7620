"""Recordings as training examples: classes, crops, padding, mels, and refused folders."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from engine.audio.spectrogram import mel, mel_settings
from engine.audio.wav import read_wav, write_wav
from engine.checks.arrays import FloatArray
from engine.config import Config
from engine.errors import InputError
from engine.training import data
from engine.training.blur import blurred
from engine.training.data import Corpus, Example, draw, generator, padded, read_corpus
from engine.training.settings import Recipe
from tests.engine.training.recordings import digits_recipe, voice_recipe, write_digits, write_tones


def corpus_of(folder: Path, recipe: Recipe) -> Corpus:
    return read_corpus(folder, recipe.data, recipe.network)


def test_names_decide_classes_and_held_out_files(tmp_path: Path) -> None:
    corpus = corpus_of(write_digits(tmp_path), digits_recipe())
    assert corpus.classes == ("0 a", "0 b", "1 a", "1 b", "2 a", "2 b")
    assert {clip.name for clip in corpus.held_out} == {f"{d}_{s}_0.wav" for d in range(3) for s in "ab"}
    assert len(corpus.train) == 12 and not {c.name for c in corpus.train} & {c.name for c in corpus.held_out}
    for clip in corpus.train:
        digit, speaker, _ = clip.name.split("_")
        assert corpus.classes[clip.label] == f"{digit} {speaker}"
        assert abs(np.abs(clip.audio).max() - 0.9) < 0.05


def test_an_example_depends_on_seed_step_and_number(tmp_path: Path) -> None:
    recipe = voice_recipe()
    corpus = corpus_of(write_tones(tmp_path, 6, 22050, 0.3), recipe)

    def example(*key: int) -> bytes:
        return draw(corpus, recipe.data, recipe.network, generator(*key)).audio.tobytes()

    assert example(1, 2, 3) == example(1, 2, 3)
    assert len({example(1, 2, 3), example(2, 2, 3), example(1, 3, 3), example(1, 2, 4)}) == 4


def test_a_crop_has_the_mel_of_its_position(tmp_path: Path) -> None:
    recipe = voice_recipe()
    corpus = corpus_of(write_tones(tmp_path, 3, 22050, 0.5), recipe)
    example = draw(corpus, recipe.data, recipe.network, generator(0, 0, 0))
    (clip,) = corpus.train
    first = next(i for i in range(len(clip.audio)) if np.array_equal(clip.audio[i : i + 1024], example.audio))
    assert first % 256 == 0 and example.audio.shape == (1024,)
    assert example.mel is not None and clip.mel is not None
    assert np.array_equal(example.mel, clip.mel[:, first // 256 :][:, :4])
    assert np.array_equal(clip.mel, mel(clip.audio, 22050, kind="lmnt")[:, : clip.mel.shape[1]])


def test_a_louder_crop_has_a_louder_mel(tmp_path: Path) -> None:
    recipe = voice_recipe(data={"gain_db": [-6.0, -6.0]})
    corpus = corpus_of(write_tones(tmp_path, 3, 22050, 0.5), recipe)
    softer = draw(corpus, recipe.data, recipe.network, generator(0, 0, 0))
    plain = draw(corpus, voice_recipe().data, recipe.network, generator(0, 0, 0))
    assert softer.mel is not None and plain.mel is not None
    assert np.allclose(softer.audio, plain.audio * 10 ** (-6 / 20), atol=1e-6)
    # 100 dB are 1 in LMNT's mel.
    inside = (plain.mel > 0.1) & (plain.mel < 0.99)
    assert inside.any() and np.allclose((plain.mel - softer.mel)[inside], 0.06, atol=1e-3)


def test_a_share_of_the_mels_is_blurred_and_the_audio_stays_sharp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy")
    strengths: list[float] = []

    def noted(mel: FloatArray, seed: int, kind: str, strength: float) -> FloatArray:
        strengths.append(strength)
        return blurred(mel, seed, kind, strength)

    monkeypatch.setattr(data, "blurred", noted)
    corpus = corpus_of(write_tones(tmp_path, 3, 22050, 0.5), voice_recipe())

    def example(blur: float, number: int) -> Example:
        recipe = voice_recipe(data={"blur": blur})
        return draw(corpus, recipe.data, recipe.network, generator(0, 0, number))

    distances = []
    for number in range(40):
        exact, inexact, always = (example(blur, number) for blur in (0.0, 0.5, 1.0))
        assert np.array_equal(exact.audio, inexact.audio) and exact.mel is not None and always.mel is not None
        assert inexact.mel is not None and inexact.mel.shape == exact.mel.shape
        distances.append(float(np.abs(inexact.mel - exact.mel).mean()))
        assert np.abs(always.mel - exact.mel).max() > 0.001
    assert 10 <= sum(distance > 0 for distance in distances) <= 30
    assert min(strengths) < 0.3 and max(strengths) > 1.2  # of 0.1 to 1.5


def test_a_draft_has_the_mel_of_its_crop(tmp_path: Path) -> None:
    recipe = voice_recipe(data={"frames": 12, "gain_db": [-9.0, -3.0]})
    random = np.random.default_rng(7)
    bursts = np.repeat(random.uniform(0.0, 0.3, 20), 512) * random.standard_normal(20 * 512)  # tell frames apart
    write_wav(tmp_path / "2.wav", bursts, 22050)
    corpus = corpus_of(tmp_path, recipe)
    for number in range(3):
        example = draw(corpus, recipe.data, recipe.network, generator(0, 0, number), with_draft=True)
        assert example.draft is not None and example.mel is not None and len(example.draft) == len(example.audio)
        assert example.draft.dtype == np.float32
        inner = mel(example.draft, 22050, kind="lmnt")[:, 2:10]  # frames that do not reach beyond the crop
        distances = [np.abs(inner - example.mel[:, first : first + 8]).mean() for first in range(5)]
        assert np.argmin(distances) == 2, distances


def test_a_clip_is_padded_and_fades_at_its_ends(tmp_path: Path) -> None:
    recipe = digits_recipe()
    clip = corpus_of(write_digits(tmp_path), recipe).train[0]
    example = padded(clip, recipe.data, 30)
    assert example.shape == (200,) and not example[:30].any() and not example[30 + len(clip.audio) :].any()
    assert clip.audio[0] == 0 == clip.audio[-1]
    late = padded(clip, recipe.data, 1000)  # a lead that does not fit is shortened
    assert not late[:40].any() and late[-1] == 0


def test_long_and_short_files_are_left_out(tmp_path: Path) -> None:
    write_digits(tmp_path)
    write_tones(tmp_path / "more", 1, 8000, 1.0)
    (tmp_path / "more" / "0.wav").rename(tmp_path / "2_b_9.wav")
    assert corpus_of(tmp_path, digits_recipe()).left_out == 1
    write_tones(tmp_path / "voice", 4, 22050, 0.3)
    write_tones(tmp_path / "voice" / "short", 2, 22050, 0.02)
    assert corpus_of(tmp_path / "voice", voice_recipe()).left_out == 2


def test_other_sample_rates_are_resampled(tmp_path: Path) -> None:
    pytest.importorskip("soxr")
    write_tones(tmp_path, 3, 44100, 0.5)
    corpus = corpus_of(tmp_path, voice_recipe())
    assert corpus.rates == (44100,)
    samples, _ = read_wav(tmp_path / "2.wav")
    assert abs(len(corpus.train[0].audio) - len(samples) / 2) <= 1


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (voice_recipe(data={"pattern": "*.flac"}), r"no recording .* below"),
        (voice_recipe(data={"held_out": "wav"}), "none of the 3 files in .* can be trained on"),
        (voice_recipe(data={"frames": 1000}), "at least 1000 frames"),
        (digits_recipe(), "expected a match in every file's name, got '0.wav'"),
        (
            voice_recipe(network={"mel_kind": "hifigan", "prior": True}),
            r"network.energy_min: expected the smallest energy of the recordings .*; set it to [0-9]\.[0-9]+",
        ),
    ],
)
def test_folders_without_usable_recordings_are_refused(tmp_path: Path, recipe: Recipe, message: str) -> None:
    with pytest.raises(InputError, match=message):
        corpus_of(write_tones(tmp_path, 3, 22050, 0.3), recipe)


def test_other_files_are_skipped(tmp_path: Path) -> None:
    write_tones(tmp_path, 3, 22050, 0.3)
    (tmp_path / "metadata.csv").write_text("0|the text")
    recipe = voice_recipe(data={"pattern": "**/*.*"})
    assert len(corpus_of(tmp_path, recipe).train) == 1
    with pytest.raises(InputError, match=r"no recording \(.*\.wav\) below .* matches the pattern '\*\.csv'"):
        corpus_of(tmp_path, voice_recipe(data={"pattern": "*.csv"}))


def test_a_recording_without_samples_is_named(tmp_path: Path) -> None:
    write_wav(write_digits(tmp_path) / "1_a_9.wav", np.zeros(0, np.float32), 8000)
    with pytest.raises(
        InputError, match=r"^data: 1 of 19 recordings in .* cannot be read: 1_a_9\.wav \(it has no samples\)"
    ):
        corpus_of(tmp_path, digits_recipe())


def test_a_recording_that_is_not_finite_is_named(tmp_path: Path) -> None:
    samples = np.full(9000, np.nan, np.float32).tobytes()
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, 22050, 4 * 22050, 4, 32)
    content = b"WAVE" + header + struct.pack("<4sI", b"data", len(samples)) + samples
    (write_tones(tmp_path, 3, 22050, 0.3) / "8.wav").write_bytes(struct.pack("<4sI", b"RIFF", len(content)) + content)
    with pytest.raises(InputError, match=r"data: 1 of 4 recordings .*: 8\.wav \(expected finite values, got NaN or"):
        corpus_of(tmp_path, voice_recipe())


def test_a_crop_has_the_mel_of_its_network(tmp_path: Path) -> None:
    network = {"mel_kind": "hifigan", "n_mels": 100, "sample_rate": 24000}
    (clip,) = corpus_of(write_tones(tmp_path, 3, 24000, 0.3), voice_recipe(network=network)).train
    settings = mel_settings(Config(mel_kind="hifigan", n_mels=100, sample_rate=24000))
    assert settings["fmax"] is not None and clip.mel is not None
    assert np.array_equal(clip.mel, mel(clip.audio, 24000, **settings)[:, : clip.mel.shape[1]])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (r"^(\d)_([a-z])_(\d)", "data.label: its groups give the names of classes; .*each one or two printable words"),
        (r"^\d(x)?", "data.label: expected its groups to match a part of every name, got nothing of '0_a_0.wav'"),
    ],
)
def test_labels_that_cannot_be_classes_are_refused(tmp_path: Path, label: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        corpus_of(write_digits(tmp_path), digits_recipe(data={"label": label}))


def test_a_group_without_a_match_is_not_part_of_the_label(tmp_path: Path) -> None:
    assert corpus_of(write_digits(tmp_path), digits_recipe(data={"label": r"^(\d)_a?(b)?"})).classes[:2] == ("0", "0 b")


def test_the_mel_has_the_bands_of_the_network(tmp_path: Path) -> None:
    recipe = voice_recipe(network={"n_mels": 100}, data={"gain_db": [-6.0, -6.0]})
    corpus = corpus_of(write_tones(tmp_path, 3, 22050, 0.3), recipe)
    example = draw(corpus, recipe.data, recipe.network, generator(0, 0, 0))
    assert corpus.train[0].mel is not None and len(corpus.train[0].mel) == 100
    assert example.mel is not None and example.mel.shape == (100, 4)


def test_the_fingerprint_covers_the_recordings_to_train_on(tmp_path: Path) -> None:
    write_tones(tmp_path, 4, 22050, 0.3)
    before = corpus_of(tmp_path, voice_recipe()).fingerprint
    assert before.startswith("2 ") and corpus_of(tmp_path, voice_recipe()).fingerprint == before
    write_tones(tmp_path / "held out", 1, 22050, 0.5)
    assert corpus_of(tmp_path, voice_recipe()).fingerprint == before
    (tmp_path / "3.wav").rename(tmp_path / "5.wav")
    assert corpus_of(tmp_path, voice_recipe()).fingerprint != before
