"""Identity of a job: everything that the bytes of its results depend on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from engine.bulk.items import SEEDS
from engine.checkpoint.bundled import Model, source_of
from engine.checkpoint.load import load_checkpoint
from engine.checkpoint.source import Source
from engine.config import Config
from engine.diffusion.noise import VERSION as NOISE
from engine.diffusion.schedule import build_schedule
from engine.kernels import registry
from engine.voice.draft import check_name, schedule_of_draft


@dataclass(frozen=True)
class Network:
    """What a job has to know of a network before any worker packs it.

    Attributes:
        config: the hyper-parameters.
        sha256: of the checkpoint.
        source: the checkpoint.
        weights: which weights of the checkpoint, "raw" or "ema".
    """

    config: Config
    sha256: str
    source: Source
    weights: str


def read_network(model: Model | None, mel_kind: str | None = None, weights: str | None = None) -> Network:
    """Read a network.

    Args:
        model: see `engine.load`, as for the others.
        mel_kind: the kind of mel that the checkpoint needs.
        weights: "raw", "ema", or None for the checkpoint's default.

    Raises:
        CheckpointError: the file is missing, damaged or not a DiffWave network.
        InputError: an argument has an impossible value.
    """
    source = source_of(model)
    checkpoint = load_checkpoint(source, mel_kind, weights=weights)
    return Network(checkpoint.config, source.sha256(), source, checkpoint.weights)


def arithmetic_of(choice: registry.Choice) -> str:
    """Return the class of instruction sets that give the same bytes.

    In fp32 every instruction set with fused multiply-add gives the bytes of the others. In bf16 and int8, and on a GPU,
    the class is the instruction set.

    Args:
        choice: of a loaded voice.
    """
    if choice.device == "cpu" and choice.precision == "fp32" and choice.isa != "generic":
        return "cpu with fused multiply-add"
    return f"{choice.device} {choice.isa}"


def vocoding(
    network: Network,
    choice: registry.Choice,
    *,
    steps: int | str | None,
    draft: str | None,
    match_mel: float | None,
    seed: int,
    energy_min: float | None,
    form: str,
) -> dict[str, Any]:
    """Return the identity of a job that vocodes.

    Args:
        network: the checkpoint.
        choice: precision and instruction set.
        steps: see `Voice.vocode`.
        draft: see `Voice.vocode`.
        match_mel: see `Voice.vocode`.
        seed: of the job.
        energy_min: see `Voice.vocode`.
        form: the format of the results.
    """
    if draft is None:
        plan = build_schedule(network.config, steps)
    else:
        check_name(draft, network.config)
        plan = schedule_of_draft(network.config, steps)
    begin = {} if draft is None else {"draft": draft}
    end = {} if match_mel is None else {"match_mel": f"{match_mel!r}"}
    return {
        **begin,
        **end,
        "task": "vocode",
        "checkpoint": network.sha256,
        "network": _digest(network.config.to_json()),
        "weights": network.weights,
        "precision": choice.precision,
        "arithmetic": arithmetic_of(choice),
        "steps": len(plan),
        "schedule": _digest(repr((plan.beta, plan.t))),
        "energy_min": energy_min,
        "seed": seed,
        "seeds": SEEDS,
        "noise": NOISE,
        "format": form,
    }


def analysis(network: Network, kind: str | None) -> dict[str, Any]:
    """Return the identity of a job that computes mels.

    Args:
        network: the checkpoint that the mels are for.
        kind: of the mels.
    """
    config = network.config
    return {
        "task": "mel",
        "kind": kind or config.mel_kind,
        "bands": config.n_mels,
        "sample_rate": config.sample_rate,
        "hop": config.hop,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
