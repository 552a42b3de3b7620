"""`engine.vocode_files` and `mel_files`: every way to run a job gives the same bytes."""

from __future__ import annotations

import builtins
import errno
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine.audio.wav import read_wav, write_wav
from engine.bulk import Summary, formats, mel_files, tasks, vocode_files
from engine.bulk import api as bulk_api
from engine.bulk.items import Item, seed_of
from engine.bulk.job import FAILED, JOB, LOCKS
from engine.bulk.tasks import Outcome, Settings, Work, Worker
from engine.errors import CheckpointError, InputError, UnavailableError
from engine.voice import Voice
from tests.engine.bulk.jobs import Job, digests
from tests.support.commands import MEL, SMALL, save_network, unconditional_config


def vocode(job: Job, folder: Path, **options: Any) -> Summary:
    return vocode_files(job.mels, folder, model=job.model, device="cpu", **options)


def test_results_are_those_of_the_voice(job: Job, tmp_path: Path) -> None:
    summary = vocode(job, tmp_path / "out")
    assert (summary.total, summary.files, summary.failed, summary.done_before) == (12, 12, 0, 0)
    assert digests(tmp_path / "out") == job.expected
    voice = engine.load(job.model, device="cpu")
    name = "even/u04"
    audio = voice.vocode(np.load(job.mels / f"{name}.npy"), seed=seed_of(Item(name, Path()), 0))
    stored, rate = read_wav(tmp_path / "out" / f"{name}.wav")
    assert rate == voice.sample_rate and np.abs(stored - audio).max() <= 1.01 / 32768
    assert abs(summary.seconds - sum(np.load(path).shape[1] for path in job.mels.rglob("*.npy")) * 256 / 22050) < 1e-9
    assert not list((tmp_path / "out").rglob(".engine-*.tmp")) and not (tmp_path / "out" / FAILED).exists()


def test_the_seed_of_the_job_changes_every_result(job: Job, tmp_path: Path) -> None:
    vocode(job, tmp_path / "out", seed=1)
    others = digests(tmp_path / "out")
    assert others.keys() == job.expected.keys() and not set(others.values()) & set(job.expected.values())


@pytest.mark.parametrize("options", [{"workers": 2}, {"threads": 2}])
def test_workers_and_threads_do_not_change_a_byte(job: Job, tmp_path: Path, options: dict[str, int]) -> None:
    summary = vocode(job, tmp_path / "out", **options)
    assert summary.files == 12 and digests(tmp_path / "out") == job.expected


def test_shards_are_together_the_whole(job: Job, tmp_path: Path) -> None:
    summaries = [vocode(job, tmp_path / "out", shard=(number, 3)) for number in (1, 2, 3)]
    assert sum(summary.files for summary in summaries) == 12 and all(summary.files for summary in summaries)
    assert digests(tmp_path / "out") == job.expected
    assert vocode(job, tmp_path / "out").done_before == 12


def test_a_job_resumes(job: Job, tmp_path: Path) -> None:
    def interrupt(summary: Summary) -> None:
        if summary.files == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vocode(job, tmp_path / "out", progress=interrupt)
    part = digests(tmp_path / "out")
    assert len(part) == 5 and part.items() <= job.expected.items()
    summary = vocode(job, tmp_path / "out")
    assert (summary.done_before, summary.files) == (5, 7) and digests(tmp_path / "out") == job.expected
    assert vocode(job, tmp_path / "out").files == 0


def test_nothing_is_loaded_when_everything_is_done(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vocode(job, tmp_path / "out")
    monkeypatch.setattr(tasks, "load", None)
    assert vocode(job, tmp_path / "out", workers=2).done_before == 12


@pytest.mark.parametrize("draft", ["griffin-lim", "rtisi-la"])
def test_drafts_are_those_of_the_voice(job: Job, tmp_path: Path, draft: str) -> None:
    vocode(job, tmp_path / "out", draft=draft)
    voice, name = engine.load(job.model, device="cpu"), "even/u04"
    mel, seed = np.load(job.mels / f"{name}.npy"), seed_of(Item(name, Path()), 0)
    audio = read_wav(tmp_path / "out" / f"{name}.wav")[0]
    np.testing.assert_allclose(audio, voice.vocode(mel, seed=seed, draft=draft), atol=1.01 / 32768)
    for other in ("vocos", np.zeros(3, np.float32)):
        with pytest.raises(InputError, match="draft: expected 'griffin-lim' or 'rtisi-la', or audio for vocode, got"):
            vocode(job, tmp_path / "new", draft=other)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_matched_audio_is_that_of_the_voice(job: Job, tmp_path: Path, workers: int) -> None:
    voice, name = engine.load(job.model, device="cpu"), "even/u04"
    mel, seed = np.load(job.mels / f"{name}.npy"), seed_of(Item(name, Path()), 0)
    for gain in (1.5, math.inf):
        vocode(job, tmp_path / f"{gain}", match_mel=gain, workers=workers)
        audio = read_wav(tmp_path / f"{gain}" / f"{name}.wav")[0]
        np.testing.assert_allclose(audio, voice.vocode(mel, seed=seed, match_mel=gain), atol=1.01 / 32768)
    with pytest.raises(InputError, match="match_mel: expected the largest gain"):
        vocode(job, tmp_path / "new", match_mel=0.5)
    assert not (tmp_path / "new").exists()


def test_another_model_is_refused(job: Job, tmp_path: Path) -> None:
    vocode(job, tmp_path / "out")
    other = save_network(tmp_path / "other.safetensors", replace(SMALL, residual_layers=2))
    others = ({"model": other}, {"precision": "fp32", "steps": "full"}, {"seed": 1}, {"isa": "generic"})
    for options in (*others, {"draft": "griffin-lim"}, {"draft": "griffin-lim", "steps": 6}, {"match_mel": 1}):
        with pytest.raises(InputError, match=r"expected results of the same job .*--overwrite"):
            vocode_files(job.mels, tmp_path / "out", **{"model": job.model, "device": "cpu", **options})
    assert digests(tmp_path / "out") == job.expected
    vocode_files(job.mels, tmp_path / "out", model=other, device="cpu", overwrite=True)
    assert not set(digests(tmp_path / "out").values()) & set(job.expected.values())


def test_a_checkpoint_that_changes_during_the_job_ends_it(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a training writes its file again while a worker is replaced: results of two networks must not mix."""
    model = save_network(tmp_path / "small.safetensors", SMALL)
    load = tasks.load

    def late(*arguments: Any, **options: Any) -> Voice:
        save_network(model, replace(SMALL, residual_layers=2))
        return load(*arguments, **options)

    monkeypatch.setattr(tasks, "load", late)
    with pytest.raises(CheckpointError, match=r"small\.safetensors: expected the checkpoint with which .* got another"):
        vocode_files(job.mels, tmp_path / "out", model=model, device="cpu")
    assert not digests(tmp_path / "out")


def test_a_checkpoint_in_memory_is_the_same_job(job: Job, tmp_path: Path) -> None:
    content = job.model.read_bytes()
    assert vocode_files(job.mels, tmp_path / "out", model=content, device="cpu", workers=2).files == 12
    assert digests(tmp_path / "out") == job.expected
    with open(job.model, "rb") as file:
        assert vocode_files(job.mels, tmp_path / "out", model=file, device="cpu").done_before == 12


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_file_does_not_end_the_job(job: Job, tmp_path: Path, workers: int) -> None:
    mels = tmp_path / "mels"
    mels.mkdir()
    for path in job.mels.rglob("*.npy"):
        (mels / path.relative_to(job.mels)).parent.mkdir(exist_ok=True)
        os.link(path, mels / path.relative_to(job.mels))
    (mels / "damaged.npy").write_bytes(b"\x93NUMPY broken")
    np.save(mels / "nan.npy", np.full((80, 3), np.nan, np.float32))
    os.symlink("nowhere.npy", mels / "link.npy")
    summary = vocode_files(mels, tmp_path / "out", model=job.model, device="cpu", workers=workers)
    assert (summary.files, summary.failed) == (12, 3) and digests(tmp_path / "out") == job.expected
    failures = {line["id"]: line for line in map(json.loads, (tmp_path / "out" / FAILED).read_text().splitlines())}
    assert failures.keys() == summary.failures.keys() == {"damaged", "nan", "link"}
    assert "expected finite values" in failures["nan"]["reason"] and failures["link"]["reason"] == "it links to nothing"
    assert str(summary).endswith(f", 3 failed: {tmp_path / 'out' / FAILED}")
    np.save(mels / "nan.npy", np.full((80, 3), 0.5, np.float32))
    again = vocode_files(mels, tmp_path / "out", model=job.model, device="cpu")
    assert (again.done_before, again.files, again.failed) == (12, 1, 2)
    assert len((tmp_path / "out" / FAILED).read_text().splitlines()) == 2


def test_a_full_disk_ends_the_job(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing, count = formats.writing_wav, [0]

    def full(path: Path, rate: int) -> Any:
        count[0] += 1
        if count[0] > 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return writing(path, rate)

    monkeypatch.setattr(formats, "writing_wav", full)
    with pytest.raises(OSError, match="No space left on device"):
        vocode(job, tmp_path / "out")
    assert len(digests(tmp_path / "out")) == 4 and not (tmp_path / "out" / FAILED).exists()
    monkeypatch.undo()
    assert vocode(job, tmp_path / "out").files == 8 and digests(tmp_path / "out") == job.expected


def test_a_full_disk_names_the_file(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        vocode(job, tmp_path / "new")
    assert error.value.filename == str(tmp_path / "new" / JOB)
    monkeypatch.undo()
    (tmp_path / "out").mkdir()

    def full_later(descriptor: int) -> None:
        if (tmp_path / "out" / JOB).exists():
            full(descriptor)

    monkeypatch.setattr(os, "fsync", full_later)
    with pytest.raises(OSError, match="No space left on device") as error:
        vocode(job, tmp_path / "out")
    assert error.value.filename.startswith(str(tmp_path / "out")) and error.value.filename.endswith(".wav")


def test_a_result_that_is_too_large_has_failed_alone(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on file systems with a limit, and with `ulimit -f`: the longest is the first, and shorter ones have room."""
    writing = formats.writing_wav

    def limited(path: Path, rate: int) -> Any:
        if path.name == "u04.wav":
            raise OSError(errno.EFBIG, "File too large")
        return writing(path, rate)

    monkeypatch.setattr(formats, "writing_wav", limited)
    summary = vocode(job, tmp_path / "out")
    assert summary.files == 11 and summary.failures["even/u04"].endswith("u04.wav: cannot write it: File too large")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_disappears_ends_the_job(job: Job, tmp_path: Path, workers: int) -> None:
    def remove(summary: Summary) -> None:
        if summary.files == 1:
            os.rename(tmp_path / "out", tmp_path / "moved")

    with pytest.raises(OSError, match="the folder of the results is gone") as error:
        vocode(job, tmp_path / "out", progress=remove, workers=workers)
    assert error.value.filename == str(tmp_path / "out") and not (tmp_path / "out").exists()
    assert vocode(job, tmp_path / "moved").done_before >= 1


def test_a_mel_larger_than_memory(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = np.load

    def limited(path: Path, **options: Any) -> Any:
        if path.name == "large.npy":
            raise MemoryError("Unable to allocate 59.6 GiB")
        return load(path, **options)

    monkeypatch.setattr(np, "load", limited)
    np.save(tmp_path / "large.npy", MEL)
    summary = vocode_files([tmp_path / "large.npy", job.mels], tmp_path / "out", model=job.model, device="cpu")
    reason = f"not enough memory: {tmp_path / 'large.npy'}: Unable to allocate 59.6 GiB"
    assert summary.files == 12 and summary.failures == {"large": reason}


@pytest.mark.parametrize("name", ["it's", '"quoted"', "plain"])
def test_reasons_begin_with_the_file(job: Job, tmp_path: Path, name: str) -> None:
    """Those of recordings too, whose errors name the argument of a function."""
    path = tmp_path / f"{name}.wav"
    path.write_bytes(b"RIFF")
    for dry_run in (True, False):
        summary = vocode_files(path, tmp_path / "out", model=job.model, device="cpu", dry_run=dry_run)
        assert summary.failures[name].startswith(f"{path}: expected a RIFF WAV file, got")


def test_files_that_are_cut_off_are_not_planned(job: Job, tmp_path: Path) -> None:
    with open(tmp_path / "cut.npy", "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (80, 10**12)}
        np.lib.format.write_array_header_1_0(file, header)
    inputs = [tmp_path / "cut.npy", job.mels]
    summary = vocode_files(inputs, tmp_path / "out", model=job.model, device="cpu", dry_run=True)
    assert summary.failed == 1 and summary.seconds_left < 10 and "the file is cut off" in summary.failures["cut"]


def test_a_file_in_place_of_a_subfolder(job: Job, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "even").touch()
    summary = vocode(job, tmp_path / "out")
    assert (summary.files, summary.failed) == (6, 6)
    assert summary.failures["even/u04"].endswith(f"u04.wav: cannot write it: '{tmp_path}/out/even' is not a directory")


def test_a_result_that_cannot_be_written_has_failed_alone(job: Job, tmp_path: Path) -> None:
    lines = [{"id": name, "mel": str(job.mels / "u01.npy")} for name in ("a", "x" * 300, "b")]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    summary = vocode_files(tmp_path / "m.jsonl", tmp_path / "out", model=job.model, device="cpu")
    assert (summary.files, summary.failed) == (2, 1)
    assert "cannot write it: File name too long" in summary.failures["x" * 300]


def test_manifests_choose_seeds_and_names(job: Job, tmp_path: Path) -> None:
    path = str(job.mels / "u01.npy")
    lines = [{"id": "u01", "mel": path}, {"id": "other", "mel": path, "seed": 7, "out": "x/y.wav"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    vocode_files(tmp_path / "m.jsonl", tmp_path / "out", model=job.model, device="cpu")
    results = digests(tmp_path / "out")
    assert results["u01.wav"] == job.expected["u01.wav"]
    audio = engine.load(job.model, device="cpu").vocode(np.load(path), seed=7)
    write_wav(tmp_path / "seven.wav", audio, 22050)
    assert (tmp_path / "seven.wav").read_bytes() == (tmp_path / "out" / "x" / "y.wav").read_bytes()


def test_recordings_are_analyzed_first(job: Job, tmp_path: Path) -> None:
    pytest.importorskip("soxr")
    tone = (0.3 * np.sin(np.arange(6000) / 9)).astype(np.float32)
    (tmp_path / "in").mkdir()
    write_wav(tmp_path / "in" / "a.wav", tone, SMALL.sample_rate)
    write_wav(tmp_path / "in" / "fast.wav", tone, 44100)
    summary = vocode_files(tmp_path / "in", tmp_path / "out", model=job.model, device="cpu")
    assert summary.files == 2 and summary.notes == {"resampled from 44100 to 22050 Hz": 1}
    mels = mel_files(tmp_path / "in", tmp_path / "mels", model=job.model, workers=2)
    assert mels.files == 2
    samples, rate = read_wav(tmp_path / "in" / "a.wav")
    np.testing.assert_array_equal(np.load(tmp_path / "mels" / "a.npy"), engine.mel(samples, rate))
    vocode_files(tmp_path / "mels", tmp_path / "again", model=job.model, device="cpu")
    assert digests(tmp_path / "again") == digests(tmp_path / "out")
    with pytest.raises(InputError, match="got kind lmnt there and hifigan now"):
        mel_files(tmp_path / "in", tmp_path / "mels", model=job.model, kind="hifigan")


def test_warnings_are_counted(job: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.where(MEL > 0.5, 1.1, MEL).astype(np.float32))
    summary = vocode_files(str(tmp_path / "*.npy"), tmp_path / "out", model=job.model, device="cpu")
    assert summary.warnings == 2 and summary.files == 2
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert record.getMessage().startswith("a: mel: ") and "were clipped" in record.getMessage()


def test_a_preview_writes_nothing(job: Job, tmp_path: Path) -> None:
    vocode(job, tmp_path / "out", shard=(1, 2))
    done = len(digests(tmp_path / "out"))
    before = sorted(tmp_path.rglob("*"))
    summary = vocode(job, tmp_path / "out", dry_run=True)
    assert (summary.total, summary.done_before, summary.files) == (12, done, 0) and 0 < done < 12
    assert summary.seconds_left > 0 and vocode(job, tmp_path / "new", dry_run=True).done_before == 0
    assert vocode(job, tmp_path / "out", dry_run=True, overwrite=True).done_before == 0
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"-o: cannot write into .*: there is no directory"):
            vocode(job, tmp_path / "absent" / "out", dry_run=True, overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == before


def test_progress_counts_to_the_end(job: Job, tmp_path: Path) -> None:
    seen: list[tuple[int, float, float]] = []
    summary = vocode(job, tmp_path / "out", progress=lambda s: seen.append((s.files, s.seconds, s.seconds_left)))
    assert [files for files, _, _ in seen] == list(range(13))
    assert seen[0][1] == 0 and seen[-1][2] == 0 and abs(seen[0][2] - summary.seconds) < 1e-9


def test_arguments_are_checked_before_the_work(job: Job, tmp_path: Path) -> None:
    for options, message in (
        ({"shard": (0, 3)}, "shard: expected an integer from 1 to 3, got 0"),
        ({"shard": 3}, "shard: expected a pair"),
        ({"workers": 0}, "workers: expected an integer from 1"),
        ({"seed": -1}, "seed: expected integers from 0"),
        ({"steps": 7}, "steps"),
        ({"progress": 3}, "progress: expected a function of one Summary, got int"),
        ({"patience": 0}, "patience: expected a time above 0"),
        ({"device": []}, "device: expected at least one device"),
        ({"device": 3}, "device: expected a name or a list of names, got int"),
        ({"device": ["cpu", None]}, "device: expected names, got None"),
        ({"threads": 0}, "threads: expected an integer from 1"),
        ({"threads": "many"}, "threads: expected an integer from 1"),
        ({"energy_min": 0.5}, "energy_min: only a PriorGrad network takes one"),
        ({"ray": 3}, "ray: expected an address, got int"),
        ({"format": "mp3"}, "format: expected one of wav, flac, ogg"),
    ):
        with pytest.raises(InputError, match=message):
            vocode_files(job.mels, tmp_path / "out", **{"model": job.model, "device": "cpu", **options})
    plain = save_network(tmp_path / "plain.safetensors", unconditional_config())
    with pytest.raises(InputError, match="model: expected a network that takes a mel"):
        vocode_files(job.mels, tmp_path / "out", model=plain)
    prior = save_network(tmp_path / "prior.safetensors", replace(SMALL, prior=True))
    with pytest.raises(InputError, match="energy_min: a PriorGrad network needs"):
        vocode_files(job.mels, tmp_path / "out", model=prior)
    with pytest.raises(InputError, match="energy_min: expected "):
        vocode_files(job.mels, tmp_path / "out", model=prior, energy_min=float("nan"))
    for device in ("cpu:0", "cuda", ""):
        with pytest.raises(UnavailableError, match="device: "):
            vocode_files(job.mels, tmp_path / "out", model=job.model, device=["cpu", device])
    assert not (tmp_path / "out").exists()


def test_integers_of_numpy(job: Job, tmp_path: Path) -> None:
    options = {"workers": 2, "threads": 2, "steps": 3, "seed": 4}
    numbers = {name: np.int64(value) for name, value in options.items()}
    assert vocode(job, tmp_path / "out", **numbers, shard=(np.int64(1), np.int64(1))).files == 12
    assert vocode(job, tmp_path / "out", **options).done_before == 12


def test_devices_of_one_job_give_the_same_bytes(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.bulk.api.arithmetic_of", lambda choice: "; ".join(choice.reasons))
    with pytest.raises(InputError, match=r"device: expected devices that give the same bytes, got 'auto' .* and 'cpu'"):
        vocode_files(job.mels, tmp_path / "out", model=job.model, device=["auto", "cpu"])
    assert not (tmp_path / "out").exists()


def test_a_result_never_replaces_its_input(job: Job, tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.zeros(5000), SMALL.sample_rate)
    content = (tmp_path / "a.wav").read_bytes()
    with pytest.raises(InputError, match="it is the input"):
        vocode_files([tmp_path / "a.wav"], tmp_path, model=job.model, device="cpu", overwrite=True)
    assert (tmp_path / "a.wav").read_bytes() == content


def test_overhead_grows_with_the_number_of_files_alone(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A benchmark times the overhead; here the opened files are counted: a constant number per item."""
    monkeypatch.setattr(Voice, "vocode", lambda self, mel, **options: np.zeros(256, np.float32))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # waits for the disk, which others use
    opened = [0]
    for module in (builtins, os):

        def counting(*arguments: Any, real: Callable[..., Any] = module.open, **options: Any) -> Any:
            opened[0] += 1
            return real(*arguments, **options)

        monkeypatch.setattr(module, "open", counting)
    counts = []
    for number, files in enumerate((100, 1000)):
        source = tmp_path / f"in{number}"
        source.mkdir()
        np.save(source / "0.npy", MEL[:, :2])
        for name in range(1, files):
            os.link(source / "0.npy", source / f"{name}.npy")
        opened[0] = 0
        summary = vocode_files(source, tmp_path / f"out{number}", model=job.model, device="cpu")
        assert summary.files == files
        counts.append(opened[0])
    # Of an item: the kind and the header for the plan, the kind and the values for the work, and the result.
    assert counts[1] - counts[0] <= 10 * 900 and (tmp_path / "out1" / LOCKS).is_dir()


@pytest.mark.parametrize("fails", [False, True])
def test_a_group_is_one_batch(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """As on a GPU: one call for all mels of a group, and calls for one mel where the group has a bad one."""
    calls: list[int] = []

    class Spy(Voice):
        def vocode(self, mel: Any, **options: Any) -> Any:
            calls.append(len(mel) if isinstance(mel, list) else 1)
            return super().vocode(mel, **options)

    monkeypatch.setattr("engine.voice.api.Voice", Spy)
    monkeypatch.setattr(bulk_api, "grouped", lambda works, budget: [list(works[:6]), list(works[6:])])
    (tmp_path / "m.jsonl").write_text(json.dumps({"id": "bad", "mel": "absent.npy"}))
    inputs = [job.mels, *([tmp_path / "m.jsonl"] if fails else [])]
    summary = vocode_files(inputs, tmp_path / "out", model=job.model, device="cpu")
    assert digests(tmp_path / "out") == job.expected and summary.failed == fails
    assert calls == ([6, 1, 1, 1, 1, 1, 1] if fails else [6, 6])


def test_summaries_in_words(tmp_path: Path) -> None:
    summary = Summary(tmp_path, 10_000, files=9997, failed=3, seconds=14.2 * 3600, elapsed=6.1 * 3600)
    expected = f"9,997 files, 14.2 h of audio in 6.1 h (2.33x real time), 3 failed: {tmp_path}/_failed.jsonl"
    assert str(summary) == expected
    assert str(Summary(tmp_path, 5, 4, 1, 0, 90.0, 0.0, 30.0)) == (
        "1 file, 1.5 min of audio in 30.0 s (3x real time), 4 done before"
    )


def test_an_error_of_a_single_item_is_its_reason(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings("vocode", str(tmp_path), "wav", str(job.model), device="cpu")
    worker = Worker(settings)

    def reasons(error: Exception) -> Iterator[str]:
        def compute(*arguments: Any) -> Any:
            raise error

        monkeypatch.setattr(tasks._Vocoding, "compute", compute)
        outcomes: Sequence[Outcome] = list(worker.run([Work("a", "a.npy", "a.wav")]))
        yield from (outcome.reason for outcome in outcomes)

    assert [*reasons(MemoryError())] == ["not enough memory"]
    assert [*reasons(RuntimeError("CUDA\nerror"))] == ["RuntimeError: CUDA error"]
    assert [*reasons(PermissionError(errno.EACCES, "Permission denied"))] == ["Permission denied"]
    assert json.loads((tmp_path / JOB).read_text() if (tmp_path / JOB).exists() else "{}") == {}
