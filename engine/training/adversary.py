"""The discriminators in training: their losses, their optimizer, and their part of a training's state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from engine.training.discriminators import WINDOWS, Discriminators, feature_distance, hinge_loss
from engine.training.state import DISCRIMINATOR_PARTS
from engine.training.unroll_settings import Unroll

BETAS = (0.8, 0.99)  # AdamW's, as in HiFi-GAN


class Adversary:
    """Discriminators that learn to tell generated audio from recordings.

    Args:
        unroll: the settings.
        samples: of a crop; windows that do not fit are left out.
        device: of the training.
        seed: of the initial weights. The global random generator is not used.
    """

    def __init__(self, unroll: Unroll, samples: int, device: torch.device, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Discriminators([size for size in WINDOWS if size < samples]).to(device)
        self.parameters = dict(self.network.named_parameters())
        self._rate = unroll.adversarial_rate
        self._optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self._rate, betas=BETAS, weight_decay=0.0, fused=device.type == "cuda"
        )

    def opinion(self, audio: Tensor, recording: Tensor) -> list[Tensor]:
        """Return what the network is trained by: the hinge loss of its audio, and the distance of the features, [B].

        The discriminators get no gradient.

        Args:
            audio: [B,L] generated.
            recording: [B,L].
        """
        self.network.requires_grad_(False)
        features, expected = self.network(audio), self.network(recording)
        self.network.requires_grad_(True)
        return [hinge_loss(features, 1.0), feature_distance(features, expected)]

    def loss(self, audio: Tensor, recording: Tensor) -> Tensor:
        """Return the loss of the discriminators, [B].

        Args:
            audio: [B,L] generated, without a gradient.
            recording: [B,L].
        """
        return hinge_loss(self.network(recording), 1.0) + hinge_loss(self.network(audio), -1.0)

    def gradients(self) -> list[Tensor]:
        """Return the gradient of every parameter; zeros where this process had no example."""
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]

    def advance(self, factor: float) -> None:
        """Run one step of the optimizer.

        Args:
            factor: of the learning rate.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = factor * self._rate
        self._optimizer.step()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the weights and both moments by part of a state and parameter."""
        moments = {name: self._optimizer.state.get(parameter, {}) for name, parameter in self.parameters.items()}

        def moment(key: str) -> dict[str, Tensor]:
            return {name: values.get(key, torch.zeros_like(self.parameters[name])) for name, values in moments.items()}

        weights = {name: parameter.detach() for name, parameter in self.parameters.items()}
        return dict(zip(DISCRIMINATOR_PARTS, (weights, moment("exp_avg"), moment("exp_avg_sq")), strict=True))

    def restore(self, tensors: Mapping[str, Mapping[str, Tensor]], steps: int) -> None:
        """Continue from the tensors of a state.

        Args:
            tensors: as `tensors` returns them.
            steps: the number of steps of the optimizer so far.
        """
        weights, moment1, moment2 = (tensors[part] for part in DISCRIMINATOR_PARTS)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
                if steps:
                    self._optimizer.state[parameter] = {
                        "step": torch.tensor(float(steps), device=parameter.device),
                        "exp_avg": moment1[name].to(parameter.device),
                        "exp_avg_sq": moment2[name].to(parameter.device),
                    }
