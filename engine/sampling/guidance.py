"""Classifier-free guidance (Ho & Salimans, 2022): strengthens the influence of a class label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.checks.arrays import device_of, on_device
from engine.diffusion.noise import normal
from engine.sampling.item import stop_if_set

if TYPE_CHECKING:
    from engine.config import Config
    from engine.diffusion.schedule import Schedule
    from engine.sampling.item import Event, Item, Progress
    from engine.sampling.loops import Loop


def sample(
    loop: Loop,
    items: Sequence[Item],
    schedule: Schedule,
    config: Config,
    weight: float,
    progress: Progress | None,
    cancel: Event | None = None,
) -> list[Any]:
    """Run the reverse process with two evaluations per step, with and without the label.

    Equation 6 of the paper with weight = 1 + w::

        eps = eps(x, no label) + weight (eps(x, label) - eps(x, no label))
        x <- a x + b eps + sigma z, limited to [-1, 1] if the network clamps

    Args:
        loop: the loop that evaluates the network.
        items: items with labels, without a mel or a scale; they are not changed.
        schedule: S steps.
        config: configuration of a network that was also trained without labels (`Config.guidance`).
        weight: 1 for the label alone, 0 for no label.
        progress: called with the fraction done after every step.
        cancel: asked before every step.

    Returns:
        float32 [L_i] per item, on the loop's device.

    Raises:
        Cancelled: the event was set.
    """
    no_label = len(config.classes)
    current = [replace(item, x=_noise(item, 0) if item.x is None else item.x) for item in items]
    for n, t in enumerate(schedule.t):
        stop_if_set(cancel)
        eps = loop.predict_noise([*current, *(replace(item, label=no_label) for item in current)], t)
        for i, (item, labelled, without) in enumerate(zip(current, eps, eps[len(items) :], strict=False)):
            device = device_of(labelled)
            guided = without + weight * (labelled - without)
            x = schedule.a[n] * on_device(item.x, device) + schedule.b[n] * guided
            if schedule.sigma[n]:
                x = x + schedule.sigma[n] * on_device(_noise(item, n + 1), device)
            current[i] = replace(item, x=x.clip(-1.0, 1.0) if config.clamp else x)
        if progress is not None:
            progress((n + 1) / len(schedule))
    return [item.x for item in current]


def _noise(item: Item, step: int) -> Any:
    """Return x_T for step 0, else the z of that step: the item's own noise, or that of its seed."""
    return normal(item.seed, step, 0, item.length) if item.noise is None else item.noise[step - 1]
