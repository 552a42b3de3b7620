"""Many files in one call: `engine.vocode_files`, and `mel_files` for the mels of recordings."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np

from engine.audio.folders import SUFFIXES as RECORDINGS
from engine.audio.spectrogram import mel_settings
from engine.bulk import identity
from engine.bulk.formats import MEL_FORMAT, check_format
from engine.bulk.identity import Network, arithmetic_of, read_network
from engine.bulk.inputs import MELS, Input
from engine.bulk.job import Folder
from engine.bulk.paths import folder_of
from engine.bulk.plan import CLUSTER_FRAMES, GPU_FRAMES, grouped
from engine.bulk.ray_cluster import Cluster, connected, for_cluster
from engine.bulk.run import Outcomes, Request, in_processes, preview, run
from engine.bulk.summary import BulkProgress, Summary
from engine.bulk.tasks import MEL, VOCODE, Settings, Work, with_kind
from engine.bulk.workers import settings_of
from engine.checkpoint.bundled import NAMES, Model
from engine.checks.arguments import check_count, check_number, check_seed
from engine.diffusion.prior import resolve_energy_min
from engine.errors import InputError
from engine.kernels import registry
from engine.kernels.processors import default_threads
from engine.voice.draft import check_white
from engine.voice.loading import MAX_THREADS
from engine.voice.matching import check_match

_LOG = logging.getLogger(__name__)
MAX_WORKERS = 1024
MAX_SHARDS = 1_000_000
MAX_GROUPS = 4096  # of a cluster, each scheduled as one
PATIENCE = 30 * 60.0  # seconds

# One or several inputs, see `vocode_files`.
Inputs = Input | Sequence[Input]


def vocode_files(
    inputs: Inputs,
    folder: str | os.PathLike[str],
    *,
    model: Model | None = "voice",
    steps: int | str | None = None,
    draft: str | None = None,
    match_mel: float | None = None,
    seed: int = 0,
    energy_min: float | None = None,
    device: str | Sequence[str] = "auto",
    precision: str = "auto",
    threads: int | None = None,
    isa: str | None = None,
    mel_kind: str | None = None,
    weights: str | None = None,
    format: str = "wav",
    workers: int | None = None,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    ray: str | None = None,
    patience: float = PATIENCE,
    dry_run: bool = False,
    progress: BulkProgress | None = None,
) -> Summary:
    """Vocode many mels and recordings into a folder; the same call resumes after any interruption.

    The result of `mels/a/b.npy` of the folder `mels` is `folder/a/b.wav`. A result appears under its name only when it
    is complete. Its bytes depend on its mel, its id ("a/b") and the arguments above `workers` alone: not on the number
    of workers, the shards, the cluster or interruptions.

    An input without a result is listed in `folder/_failed.jsonl` with the reason, does not end the job, and is tried
    again by the next call. `folder/_job.json` records what the bytes depend on; a call that would give others is
    refused.

    Args:
        inputs: one or several of: mels and recordings; folders, which are searched for them; patterns such as
            "mels/**/*.npy"; "@list.txt" with a path per line; "manifest.jsonl" with an object per line,
            {"id", "mel" or "audio", "seed"?, "out"?} and notes ("text", "speaker", "language", "duration", "meta");
            another key is refused.
        folder: of the results; it is created, its parent exists.
        model: see `engine.load`.
        steps: see `Voice.vocode`.
        draft: None, "griffin-lim" or "rtisi-la", see `Voice.vocode`.
        match_mel: see `Voice.vocode`.
        seed: of the job. The seed of an item follows from it and from the item's id; that of a manifest comes first.
        energy_min: see `Voice.vocode`.
        device: see `engine.load`; several devices get a worker each.
        precision: see `engine.load`.
        threads: of all workers together, see `engine.load`; with `ray` those of one actor, 1 by default.
        isa: see `engine.load`.
        mel_kind: see `engine.load`.
        weights: see `engine.load`.
        format: "wav", or "flac" and "ogg" (Vorbis), which need the extra `audio`.
        workers: processes, between which the threads and the devices are shared out; None for one per device. With
            `ray` the most actors, None for as many as there is room for.
        shard: (3, 16) for the third of 16 parts of the job, which may run on other machines at the same time.
        overwrite: start the job anew; earlier results in the folder are replaced one after the other.
        ray: the address of a Ray cluster, "auto" for that of this machine, "local" to start one (extra `ray`).
        patience: seconds without a finished group after which a job on Ray is given up.
        dry_run: only return what there is to do: `total`, `done_before` and `seconds_left`.
        progress: called with a `Summary` of the work so far, at the beginning and after every item.

    Raises:
        InputError: an argument has an impossible value, there are no inputs, two inputs would write one file, the
            folder has results of another job, or another process works on it.
        CheckpointError: see `engine.load`.
        UnavailableError: see `engine.load`; or an extra is missing, or the cluster does not answer.
        OSError: no further result can be written, for example because the disk is full.
    """
    place = folder_of(folder)
    check_format(format)
    (seed,) = check_seed(seed, 1)
    devices = _check_devices(device)
    threads = None if threads is None else check_count(threads, "threads", MAX_THREADS)
    steps = int(steps) if isinstance(steps, np.integer) else steps  # the settings of workers are JSON
    if ray is not None and not isinstance(ray, str):
        raise InputError(f"ray: expected an address, got {type(ray).__name__}")
    network = read_network(model, mel_kind, weights)
    config = network.config
    if not config.n_mels:
        raise InputError("model: expected a network that takes a mel, got one without; use generate()")
    if draft is not None:
        check_white(config, energy_min)
    if resolve_energy_min(config, energy_min) is None and config.prior:
        raise InputError("energy_min: a PriorGrad network needs the smallest frame energy of its training data")
    settings = replace(
        _settings(VOCODE, network, model, place, format),
        mel_kind=mel_kind,
        device=devices[0],
        precision=precision,
        isa=isa,
        threads=threads,
        steps=steps,
        draft=draft,
        match_mel=check_match(match_mel, config),
        energy_min=energy_min,
    )
    if ray is not None:
        settings = for_cluster(settings)
    with connected(ray, settings) if ray is not None else nullcontext() as cluster:
        calibrated = bool(config.int8_ranges)
        if cluster is not None:
            choice = cluster.choose(settings, calibrated)
        else:
            choice = registry.select(settings.device, precision, isa, calibrated)
            _check_one_arithmetic(devices, choice, isa, calibrated)
        settings = replace(settings, precision=choice.precision, arithmetic=arithmetic_of(choice))
        request = Request(
            inputs=_listed(inputs),
            folder=place,
            suffixes=MELS | RECORDINGS,
            identity=identity.vocoding(
                network,
                choice,
                steps=steps,
                draft=draft,
                match_mel=settings.match_mel,
                seed=seed,
                energy_min=energy_min,
                form=format,
            ),
            config=config,
            settings=settings,
            seed=seed,
            shard=_check_shard(shard),
            overwrite=overwrite,
        )
        if dry_run:
            return preview(request)
        budget = GPU_FRAMES if choice.device == "cuda" else 0
        return _run(request, devices, workers, cluster, budget, patience, progress)


def mel_files(
    inputs: Inputs,
    folder: str | os.PathLike[str],
    *,
    model: Model | None = "voice",
    kind: str | None = None,
    workers: int | None = None,
    shard: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    ray: str | None = None,
    patience: float = PATIENCE,
    dry_run: bool = False,
    progress: BulkProgress | None = None,
) -> Summary:
    """Compute the mels of many recordings into a folder, as `vocode_files` vocodes.

    Args:
        inputs: see `vocode_files`; all are recordings.
        folder: see `vocode_files`; the results are .npy files, float32 [M, T].
        model: the checkpoint that the mels are for.
        kind: of the mels, None for that of the checkpoint.
        workers: see `vocode_files`.
        shard: see `vocode_files`.
        overwrite: see `vocode_files`.
        ray: see `vocode_files`.
        patience: see `vocode_files`.
        dry_run: see `vocode_files`.
        progress: see `vocode_files`.

    Raises:
        InputError: see `vocode_files`; or the network takes no mel, or a mel that the engine does not compute.
        CheckpointError: see `engine.load`.
        UnavailableError: an extra is missing, or the cluster does not answer.
        OSError: no further result can be written.
    """
    place = folder_of(folder)
    network = read_network(model)
    mel_settings(with_kind(network.config, kind))
    settings = replace(_settings(MEL, network, model, place, MEL_FORMAT), mel_kind=kind, device="cpu")
    request = Request(
        inputs=_listed(inputs),
        folder=place,
        suffixes=RECORDINGS,
        identity=identity.analysis(network, kind),
        config=network.config,
        settings=settings,
        shard=_check_shard(shard),
        overwrite=overwrite,
    )
    if dry_run:
        return preview(request)
    with connected(ray, settings) if ray is not None else nullcontext() as cluster:
        return _run(request, ["cpu"], workers, cluster, 0, patience, progress)


def _run(
    request: Request,
    devices: Sequence[str],
    workers: int | None,
    cluster: Cluster | None,
    budget: int,
    patience: float,
    progress: BulkProgress | None,
) -> Summary:
    settings = request.settings
    if workers is not None:
        check_count(workers, "workers", MAX_WORKERS)
    if not check_number(patience, "patience") > 0:
        raise InputError(f"patience: expected a time above 0, got {patience!r:.80}")
    if progress is not None and not callable(progress):
        raise InputError(f"progress: expected a function of one Summary, got {type(progress).__name__}")

    def on_cluster(works: Sequence[Work], folder: Folder) -> Outcomes:
        assert cluster is not None
        share = sum(work.frames for work in works) // MAX_GROUPS
        groups = grouped(works, max(budget, CLUSTER_FRAMES, share))
        return cluster.run(groups, settings, folder.since, workers, patience)

    def on_this_machine(works: Sequence[Work], folder: Folder) -> Outcomes:
        groups = grouped(works, budget)
        count = min(workers or len(devices), len(groups))
        if count == 1:
            return in_processes([settings], groups)
        workers_settings = settings_of(settings, devices, count, settings.threads or default_threads().count)
        for number, worker in enumerate(workers_settings, start=1):
            _LOG.info("worker %d: %s, %s, %s threads", number, worker.device, worker.precision, worker.threads)
        return in_processes(workers_settings, groups)

    return run(request, on_this_machine if cluster is None else on_cluster, progress)


def _settings(task: str, network: Network, model: Model | None, folder: str | os.PathLike[str], form: str) -> Settings:
    name, content, sha256 = None, None, ""
    if model is None or (isinstance(model, str) and model in NAMES):
        name = model  # a name is right on every machine
    elif isinstance(network.source.content, bytes):
        content = base64.b64encode(network.source.content).decode()
    else:
        name, sha256 = os.path.abspath(network.source.content), network.sha256
    return Settings(task, os.path.abspath(folder), form, name, content, sha256, weights=network.weights)


def _listed(inputs: Inputs) -> list[Input]:
    if isinstance(inputs, (str, os.PathLike)):
        return [inputs]
    if isinstance(inputs, bytes) or not isinstance(inputs, Iterable):
        raise InputError(f"inputs: expected paths, got {type(inputs).__name__}")
    return list(inputs)


def _check_devices(device: str | Sequence[str]) -> list[str]:
    if not isinstance(device, (str, list, tuple)):
        raise InputError(f"device: expected a name or a list of names, got {type(device).__name__}")
    devices = [device] if isinstance(device, str) else list(device)
    if not devices:
        raise InputError("device: expected at least one device, got none")
    if others := [name for name in devices if not isinstance(name, str)]:
        raise InputError(f"device: expected names, got {others[0]!r:.80}")
    return devices


def _check_one_arithmetic(devices: Sequence[str], first: registry.Choice, isa: str | None, calibrated: bool) -> None:
    """Check before the work that all devices can be used, and that their results are those of the first."""
    for device in devices[1:]:
        arithmetic = arithmetic_of(registry.select(device, first.precision, isa, calibrated))
        if arithmetic != arithmetic_of(first):
            raise InputError(
                f"device: expected devices that give the same bytes, got {devices[0]!r} ({arithmetic_of(first)}) and "
                f"{device!r} ({arithmetic}); use one kind of device"
            )


def _check_shard(shard: tuple[int, int]) -> tuple[int, int]:
    if not isinstance(shard, (tuple, list)) or len(shard) != 2:
        raise InputError(f"shard: expected a pair such as (3, 16), got {shard!r:.80}")
    count = check_count(shard[1], "shard", MAX_SHARDS)
    return check_count(shard[0], "shard", count), count
