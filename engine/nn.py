"""A vocoder inside a PyTorch model: `engine.nn.Vocoder`, a module around one operator of PyTorch.

The operator is opaque to PyTorch: `torch.compile` and `torch.export` place one call of `Voice.vocode` in their graph
and compile what stands around it. Importing this module imports torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

try:
    import torch
except ModuleNotFoundError as error:
    if error.name != "torch":  # the installation of torch is damaged
        raise
    message = "engine.nn: it needs PyTorch: pip install torch (the extra 'gpu')"
    raise ModuleNotFoundError(message, name="torch") from None

from engine.checkpoint.bundled import NAMES, Model, source_of
from engine.checkpoint.load import load_checkpoint
from engine.checks.arguments import check_seed
from engine.diffusion.prior import resolve_energy_min
from engine.diffusion.schedule import build_schedule
from engine.errors import InputError
from engine.voice import Voice
from engine.voice.api import load
from engine.voice.loading import portable

_LOADED = 8  # networks kept in memory, counting one on two devices twice
_contents: dict[str, bytes] = {}  # checkpoints that came as bytes, by their place in a description


class Vocoder(torch.nn.Module):
    """A vocoder as a module: mel spectrograms [B, M, T] in, audio [B, L] out.

    `to` moves it: it computes on the device of the module, and the mel must be there too. It has no parameters, its
    state_dict is empty, and it computes in the precision of the engine, whatever the dtype of the model. A network is
    loaded once per device in every process, when it is first used.

    It is for inference. Its output has no gradient: `backward` through it raises InputError.

    Args:
        model: see `engine.load`. A pickle or a program from `torch.export` finds a path or a bundled name in another
            process, which imports engine.nn first, but no content that came as bytes.
        steps: see `Voice.vocode`, as for the two following arguments.
        schedule: betas in place of `steps`.
        seed: of the noise. Item i of a batch has the seed s + i.
        precision: see `engine.load`, as for all following arguments.
        threads: the most threads of a call on a CPU.
        isa: the instruction set.
        mel_kind: the kind of mel that the checkpoint needs, where its file does not say.
        weights: "raw" or "ema".

    Attributes:
        config: the network's hyper-parameters (`engine.config.Config`).
        sample_rate: of the audio, in Hz.
        hop: samples per mel frame.

    Raises:
        CheckpointError: see `engine.load`.
        InputError: an argument has an impossible value, or the network takes no mel.
    """

    def __init__(
        self,
        model: Model | None = None,
        *,
        steps: int | str | None = None,
        schedule: Sequence[float] | None = None,
        seed: int = 0,
        precision: str = "auto",
        threads: int | None = None,
        isa: str | None = None,
        mel_kind: str | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        source = source_of(model)
        self.config = load_checkpoint(source, mel_kind, weights=weights).config
        if not self.config.n_mels:
            raise InputError("model: expected a network that takes a mel, got one without; use engine.generate")
        if self.config.prior and resolve_energy_min(self.config, None) is None:
            raise InputError("model: this PriorGrad network does not say its energy_min; use Voice.vocode(energy_min=)")
        build_schedule(self.config, steps, schedule)
        self.sample_rate, self.hop = self.config.sample_rate, self.config.hop
        (self.seed,) = check_seed(seed, 1)
        place, digest = portable(model, source), None
        if isinstance(place, bytes):
            content, place = place, f"bytes {source.sha256()}"
            _contents[place] = content
        elif place is not None and place not in NAMES:
            digest = source.sha256()
        betas = None if schedule is None else [float(beta) for beta in schedule]
        loading = {"precision": precision, "threads": threads, "isa": isa, "mel_kind": mel_kind, "weights": weights}
        calling = {"steps": steps, "schedule": betas}
        self._description = json.dumps({"model": place, "sha256": digest, "load": loading, "vocode": calling})
        self.register_buffer("_place", torch.empty(0, dtype=torch.uint8), persistent=False)  # is where the module is

    def forward(
        self,
        mel: torch.Tensor,
        lengths: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        seeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Turn mel spectrograms into audio.

        Args:
            mel: [B, M, T], a floating-point type, of the checkpoint's kind, on the device of the module.
            lengths: [B] integers, the frames of every item of a padded batch. The audio of an item is the audio that it
                has alone, followed by zeros.
            generator: draws the seeds with `draw_seeds`. `torch.compile` does not trace generators: in a compiled model
                pass the seeds.
            seeds: [B] integers, the seed of every item; None, without a generator, for those of the module: the same
                mel then gives the same audio. The audio of an item depends on its seed, never on the batch.

        Returns:
            float32 [B, T * hop], in [-1, 1].

        Raises:
            InputError: an argument has an impossible value; the message names it.
            UnavailableError: the engine does not support the device.
        """
        for name, value in (("mel", mel), ("lengths", lengths), ("seeds", seeds)):
            if not isinstance(value, torch.Tensor) and (value is not None or name == "mel"):
                raise InputError(f"{name}: expected a torch tensor, got {type(value).__name__}")
        if generator is not None and not isinstance(generator, torch.Generator):
            raise InputError(f"generator: expected a torch.Generator, got {type(generator).__name__}")
        if mel.ndim != 3:
            raise InputError(f"mel: expected [B, {self.config.n_mels}, T], got {list(mel.shape)}")
        if mel.device != self._place.device:
            raise InputError(f"mel: expected a tensor on {self._place.device} like the vocoder, got {mel.device}")
        if not mel.is_floating_point():
            raise InputError(f"mel: expected a floating-point type, got {mel.dtype}")
        if generator is not None:
            if seeds is not None:
                raise InputError("seeds: expected None beside a generator, which draws them")
            seeds = draw_seeds(len(mel), generator)
        signed = self.seed - 2**64 * (self.seed >= 2**63)  # an operator's integers have 63 bits and a sign
        return vocode(mel, lengths, seeds, signed, self.hop, self._description)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Return what stands between the parentheses of the module's repr."""
        return f"{self.config.summary()}, {self.sample_rate} Hz"


def draw_seeds(count: int, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draw seeds for `Vocoder.forward`.

    Args:
        count: B.
        generator: None for PyTorch's default one, which `torch.manual_seed` sets.

    Returns:
        int64 [B] on the device of the generator.
    """
    device = "cpu" if generator is None else generator.device
    return torch.randint(2**63 - 1, (count,), generator=generator, device=device)


@torch.library.custom_op("diffwave_engine::vocode", mutates_args=())
def vocode(
    mel: torch.Tensor,
    lengths: torch.Tensor | None,
    seeds: torch.Tensor | None,
    seed: int,
    hop: int,
    description: str,
) -> torch.Tensor:
    """Compute the audio of a batch; the operator behind `Vocoder`.

    Args:
        mel: [B, M, T].
        lengths: [B] or None.
        seeds: int64 [B]; None for seed + i.
        seed: used where `seeds` is None; modulo 2^64.
        hop: samples per frame.
        description: the JSON that `Vocoder` writes: the model, and the arguments of `load` and `vocode`.
    """
    voice, settings = _voice(description, str(mel.device))
    each = seed % 2**64 if seeds is None else seeds.tolist()
    audio: torch.Tensor = voice.vocode(mel.detach().float(), lengths=lengths, seed=each, **settings)
    return audio


@vocode.register_fake
def _(
    mel: torch.Tensor, lengths: torch.Tensor | None, seeds: torch.Tensor | None, seed: int, hop: int, description: str
) -> torch.Tensor:
    return mel.new_empty((mel.shape[0], mel.shape[2] * hop), dtype=torch.float32)


def _no_gradient(ctx: Any, gradient: torch.Tensor) -> Any:
    raise InputError(
        "backward: the vocoder is for inference and has no gradient; detach the mel before it, or call it under "
        "torch.no_grad()"
    )


vocode.register_autograd(_no_gradient)


@lru_cache(maxsize=_LOADED)
def _voice(description: str, device: str) -> tuple[Voice, dict[str, Any]]:
    """Return the network of a description on a device, and the arguments of its `vocode`."""
    fields = json.loads(description)
    model = fields["model"]
    if isinstance(model, str) and model.startswith("bytes "):
        if model not in _contents:
            raise InputError(f"model: expected the content with the digest {model[6:18]}, which this process never saw")
        return load(_contents[model], device=device, **fields["load"]), fields["vocode"]
    if fields["sha256"] is not None and fields["sha256"] != source_of(model).sha256():
        raise InputError(
            f"model: expected the checkpoint with which the vocoder was made, but {model} has changed since"
        )
    return load(model, device=device, **fields["load"]), fields["vocode"]
