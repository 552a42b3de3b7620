"""The recipe table `unroll`: training through the steps of the sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass

from engine.config import Config
from engine.diffusion.schedule import Schedule, build_schedule
from engine.errors import InputError
from engine.voice.draft import GRIFFIN_LIM, check_name, schedule_of_draft

MAX_UNROLLED = 4  # steps; a gradient through more costs more memory than an ordinary schedule is worth
MIN_WINDOW = 32  # samples


@dataclass(frozen=True)
class Unroll:
    """Training through all steps of a short schedule, with spectral losses on the audio that comes out.

    Attributes:
        steps: the numbers of steps to train for, each from 1 to MAX_UNROLLED. Step s of the training unrolls
            ``steps[s % len(steps)]`` of them.
        draft: "griffin-lim" for steps that refine a draft, the last ones of the fast schedule, as
            ``vocode(draft="griffin-lim")`` takes them; "" for steps from noise.
        windows: of the spectral losses, in samples, even numbers.
        anchor: the weight of the paper's objective. 0 for none.
        anchor_share: the share of the examples that are noised for the paper's objective. The others are unrolled.
        checkpointing: whether a step's activations are computed again for its gradient instead of kept. It saves
            memory, (S-1)/S of the activations of S steps, and costs a third of the time.
        adversarial: the weight of the discriminators' opinion (hinge loss) in a second stage. 0 for no second stage.
        matching: the weight of the distance of the discriminators' features in that stage.
        adversarial_after: the share of the training after which that stage begins.
        adversarial_rate: AdamW's learning rate for the discriminators.
    """

    steps: tuple[int, ...] = (3,)
    draft: str = ""
    windows: tuple[int, ...] = (128, 256, 512, 1024, 2048)
    anchor: float = 1.0
    anchor_share: float = 0.5
    checkpointing: bool = False
    adversarial: float = 0.0
    matching: float = 2.0
    adversarial_after: float = 0.5
    adversarial_rate: float = 1e-4

    def __post_init__(self) -> None:
        if not self.steps or not all(type(n) is int and 1 <= n <= MAX_UNROLLED for n in self.steps):
            raise InputError(f"unroll.steps: expected numbers from 1 to {MAX_UNROLLED}, got {list(self.steps)!r:.80}")
        if self.draft not in ("", GRIFFIN_LIM):
            raise InputError(f"unroll.draft: expected '' or {GRIFFIN_LIM!r}, got {self.draft!r:.80}")
        if not self.windows or not all(type(w) is int and w >= MIN_WINDOW and w % 4 == 0 for w in self.windows):
            raise InputError(
                f"unroll.windows: expected multiples of 4 from {MIN_WINDOW} samples, got {list(self.windows)!r:.80}"
            )
        for name in ("anchor", "adversarial", "matching"):
            if not getattr(self, name) >= 0.0:
                raise InputError(f"unroll.{name}: expected a number of at least 0, got {getattr(self, name)!r}")
        for name in ("anchor_share", "adversarial_after"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise InputError(f"unroll.{name}: expected a number from 0 to below 1, got {getattr(self, name)!r}")
        if not self.adversarial_rate > 0.0:
            raise InputError(f"unroll.adversarial_rate: expected a number above 0, got {self.adversarial_rate!r}")

    @property
    def description(self) -> str:
        """The objective in one line, for `Config.objective`."""
        numbers = " and ".join(map(str, sorted(set(self.steps))))
        terms = ["log-mels and spectral convergence of the unrolled sampler"]
        terms += ["discriminators"] * (self.adversarial > 0.0)
        terms += ["noise prediction"] * (self.anchor > 0.0 and self.anchor_share > 0.0)
        return f"{numbers} steps{' on drafts' if self.draft else ''}: {', '.join(terms)}"

    def schedule(self, config: Config, steps: int) -> Schedule:
        """Return the steps to unroll.

        Args:
            config: the network.
            steps: their number.

        Raises:
            InputError: the network has no schedule of so many steps, or cannot refine drafts.
        """
        if not self.draft:
            return build_schedule(config, steps)
        check_name(self.draft, config)
        return schedule_of_draft(config, steps)

    def anchors(self, batch: int) -> int:
        """Return the number of examples of a batch that are noised for the paper's objective."""
        return round(self.anchor_share * batch) if self.anchor else 0

    def is_adversarial(self, step: int, steps: int) -> bool:
        """Return whether a step, counted from 0, belongs to the second stage of a training of `steps` steps."""
        return self.adversarial > 0.0 and step >= self.first_adversarial(steps)

    def first_adversarial(self, steps: int) -> int:
        """Return the first step of the second stage."""
        return math.ceil(self.adversarial_after * steps)
