"""SpeechBrain's vocoder: `from engine.compat.speechbrain import DiffWaveVocoder`.

It stands in place of `speechbrain.inference.vocoders.DiffWaveVocoder`. The reference is speechbrain 1.1. Differences:

- A batch of several mels works. The package passes 2-D audio to a convolution, which PyTorch takes as one item.
- The settings are read from the hparams file without creating the objects in it (`engine.checkpoint`), so `overrides`
  and modules of other classes are errors.
- A call without `hop_len` uses the network's. In the package `forward` fails for lack of it.
- A schedule with betas outside the range of the training schedule is an error. The package fails or misaligns it.
- It is no torch.nn.Module: it has no parameters, and no gradients, as there after `freeze_params`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from engine.checkpoint import hub
from engine.checkpoint.folders import find_checkpoint
from engine.checkpoint.hyperparams import read_hyperparams
from engine.checks.arrays import AnyArray
from engine.compat.original import (
    OriginalVoice,
    as_batch,
    check_noise,
    check_torch,
    device_of,
    draw_noise,
    load_original,
)
from engine.errors import CheckpointError, InputError

if TYPE_CHECKING:
    import torch

_CHECKPOINT = "diffwave.ckpt"  # the package's name of the loadable "diffwave"


class DiffWaveVocoder:
    """A vocoder with the calls of SpeechBrain's.

    The noise is drawn from PyTorch's generator in the order of the package: after the same torch.manual_seed the audio
    is the package's. `noise`, `seed` and `generator` of the calls replace it.

    Attributes:
        hparams: the plain values of the hparams file, by name.
        device: of the audio, as text: "cpu" or "cuda:0".
        sample_rate: of the audio, in Hz.
    """

    def __init__(self, voice: OriginalVoice, hparams: dict[str, Any]) -> None:
        self.hparams = SimpleNamespace(**hparams)
        self.device = str(device_of(voice))
        self.sample_rate = voice.sample_rate
        self._voice = voice

    @classmethod
    def from_hparams(
        cls,
        source: str | os.PathLike[str],
        hparams_file: str = "hyperparams.yaml",
        overrides: object = None,
        overrides_must_match: bool = True,
        savedir: str | os.PathLike[str] | None = None,
        download_only: bool = False,
        local_strategy: object = None,
        fetch_config: object = None,
        run_opts: object = None,
        freeze_params: bool = True,
        *,
        precision: str = "fp32",
        threads: int | None = None,
    ) -> DiffWaveVocoder | None:
        """Load a vocoder from a folder, or from a repository of the Hugging Face Hub (extra `hub`).

        Args:
            source: a folder, or "owner/name".
            hparams_file: the name of the file of settings in it.
            overrides: expected None or empty.
            overrides_must_match: without effect.
            savedir: a folder that receives links to the two files, as in the package; None for none.
            download_only: whether to fetch the files and return None.
            local_strategy: without effect: `savedir` receives links.
            fetch_config: an object with the package's fields, of which `token`, `revision`, `allow_network` and
                `huggingface_cache_dir` have an effect.
            run_opts: a dict or an object with `device`; None for a GPU if there is one.
            freeze_params: without effect: nothing can be trained.
            precision: see `engine.load`. "fp32" is the package's; "auto" is the fastest.
            threads: see `engine.load`.

        Raises:
            CheckpointError: a file is missing or is not of SpeechBrain's vocoder; see `engine.load`.
            InputError: `overrides` has values, or an argument has an impossible value.
            UnavailableError: PyYAML, or for the hub huggingface_hub, is not installed.
        """
        check_torch()
        if overrides:
            raise InputError(f"overrides: expected none, got {overrides!r:.80}; change them in {hparams_file}")
        checkpoint, hparams = _fetched(os.fspath(source), hparams_file, fetch_config)
        if savedir is not None:
            _link_into(Path(savedir), checkpoint, hparams)
        if download_only:
            return None
        device = run_opts.get("device") if isinstance(run_opts, dict) else getattr(run_opts, "device", None)
        voice = load_original(
            {},
            str(checkpoint),
            ("speechbrain",),
            device=device or "auto",
            precision=precision,
            threads=threads,
            config=str(hparams),
        )
        return cls(voice, {**read_hyperparams(hparams), "savedir": savedir})

    def decode_batch(
        self,
        mel: AnyArray,
        hop_len: int | None = None,
        mel_lens: AnyArray | Sequence[int] | None = None,
        fast_sampling: bool = False,
        fast_sampling_noise_schedule: Sequence[float] | None = None,
        *,
        noise: tuple[torch.Tensor, torch.Tensor] | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return the audio of a batch of mels.

        Args:
            mel: float32 [B, M, T], or [M, T] as a batch of one.
            hop_len: samples per frame, that of the network.
            mel_lens: the frames of every item. The audio behind them is zero; it is computed all the same, and the
                frames behind them influence the end of the item, as in the package. `engine.Voice.vocode(lengths=)`
                does neither.
            fast_sampling: whether to use `fast_sampling_noise_schedule`.
            fast_sampling_noise_schedule: betas, smallest first.
            noise: x_T [B, L] and z [S-1, B, L] in place of drawing them.
            seed: of the engine's own noise, in place of PyTorch's.
            generator: of PyTorch's noise; None for the global one.

        Returns:
            float32 [B, T * hop] on `device`; with `mel_lens` [B, 1, T * hop]. These are the package's shapes.

        Raises:
            InputError: an argument has an impossible value.
        """
        import torch

        hop = self._voice.hop if hop_len is None else hop_len
        audio = self.infer(
            False,
            hop,
            mel,
            fast_sampling,
            fast_sampling_noise_schedule,
            noise=noise,
            seed=seed,
            generator=generator,
        )
        if mel_lens is None:
            return audio
        lengths = torch.as_tensor(mel_lens, device=audio.device)
        if lengths.shape != audio.shape[:1]:
            raise InputError(f"mel_lens: expected {len(audio)} lengths, got shape {tuple(lengths.shape)}")
        behind = torch.arange(audio.shape[1], device=audio.device) >= (lengths * hop).unsqueeze(1)
        return audio.masked_fill(behind, 0.0).unsqueeze(1)

    def decode_spectrogram(
        self,
        spectrogram: AnyArray,
        hop_len: int | None = None,
        fast_sampling: bool = False,
        fast_sampling_noise_schedule: Sequence[float] | None = None,
        *,
        noise: tuple[torch.Tensor, torch.Tensor] | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return the audio of one mel.

        Args:
            spectrogram: float32 [M, T].
            hop_len: see `decode_batch`, as for the following.
            fast_sampling: whether to use `fast_sampling_noise_schedule`.
            fast_sampling_noise_schedule: betas, smallest first.
            noise: x_T [1, L] and z [S-1, 1, L].
            seed: of the engine's own noise.
            generator: of PyTorch's noise.

        Returns:
            float32 [T * hop] on `device`: the package's shape.

        Raises:
            InputError: an argument has an impossible value.
        """
        if len(getattr(spectrogram, "shape", ())) != 2:
            raise InputError(f"spectrogram: expected [M, T], got {getattr(spectrogram, 'shape', spectrogram)!s:.80}")
        return self.infer(
            False,
            self._voice.hop if hop_len is None else hop_len,
            spectrogram,
            fast_sampling,
            fast_sampling_noise_schedule,
            noise=noise,
            seed=seed,
            generator=generator,
        ).squeeze(0)

    __call__ = forward = decode_batch

    def infer(
        self,
        unconditional: bool,
        scale: int,
        condition: AnyArray | None = None,
        fast_sampling: bool = False,
        fast_sampling_noise_schedule: Sequence[float] | None = None,
        *,
        noise: tuple[torch.Tensor, torch.Tensor] | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Return audio with or without a mel, as `DiffWaveDiffusion.inference` of the package.

        Args:
            unconditional: whether the network takes no mel.
            scale: samples per frame of the condition; for an unconditional network, samples.
            condition: float32 [B, M, T] or [M, T].
            fast_sampling: see `decode_batch`, as for the following.
            fast_sampling_noise_schedule: betas, smallest first.
            noise: x_T [B, L] and z [S-1, B, L].
            seed: of the engine's own noise.
            generator: of PyTorch's noise.

        Returns:
            float32 [B, L] on `device`.

        Raises:
            InputError: an argument has an impossible value.
        """
        import torch

        check_noise(noise=noise, seed=seed, generator=generator)
        voice = self._voice
        if unconditional == bool(voice.config.n_mels) or unconditional == (condition is not None):
            wanted = f"[B, {voice.config.n_mels}, T]" if voice.config.n_mels else "none, with unconditional=True"
            raise InputError(f"condition: expected {wanted}, got {getattr(condition, 'shape', None)!s:.80}")
        if condition is not None and scale != voice.hop:
            raise InputError(f"hop_len: expected {voice.hop}, as the network upsamples, got {scale!r:.80}")
        betas = fast_sampling_noise_schedule if fast_sampling else None
        if fast_sampling and betas is None:
            raise InputError("fast_sampling_noise_schedule: expected betas beside fast_sampling, got None")
        plan, place = voice.plan(betas), device_of(voice)
        with torch.no_grad():
            mel = None if condition is None else as_batch(condition, place)
            shape = (1, scale) if mel is None else (mel.shape[0], mel.shape[-1] * scale)
            if noise is None and seed is None:
                noise = draw_noise(*shape, len(plan), place, generator)
            return voice.decode(mel, shape, plan, noise, seed).to(place)

    def eval(self) -> DiffWaveVocoder:
        """Return the vocoder itself: there is no other mode."""
        return self


def _fetched(source: str, hparams_file: str, fetch_config: object) -> tuple[Path, Path]:
    """Return the paths of the checkpoint and of the settings."""
    if os.path.isdir(source):
        folder = Path(source)
        named = folder / _CHECKPOINT
        checkpoint = named if named.is_file() else find_checkpoint(folder)
    else:
        local_only = not getattr(fetch_config, "allow_network", True)
        checkpoint = hub.download(
            hub.parse_address(hub.address_of(source, getattr(fetch_config, "revision", None))),
            cache_dir=getattr(fetch_config, "huggingface_cache_dir", None),
            local_files_only=local_only,
            token=getattr(fetch_config, "token", None),
            settings=(hparams_file,),
        )
    hparams = checkpoint.parent / hparams_file
    if not hparams.is_file():
        raise CheckpointError(f"{source}: expected {hparams_file} beside {checkpoint.name}, got none")
    return checkpoint, hparams


def _link_into(folder: Path, *files: Path) -> None:
    """Create links to files in a folder, which is created; existing names stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        link = folder / file.name
        if not link.exists() and not link.is_symlink():
            link.symlink_to(file.absolute())
