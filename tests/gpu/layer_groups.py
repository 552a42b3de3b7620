"""Networks and checks for the kernels that run residual layers in groups (kernels/ampere, kernels/hopper)."""

from dataclasses import replace

import torch

from engine.config import BASE
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels import reference
from engine.kernels.gpu import GpuNetwork
from engine.sampling import guidance
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.item import Item
from tests.gpu import checks
from tests.gpu.ptx.errors import PTXError
from tests.support.networks import CLASSES
from tests.support.targets import exact, weights
from tests.support.tolerances import TOLERANCES, relative_error

TEN = replace(BASE, residual_layers=10)  # groups of 4, 3 and 3 layers with strides 1, 16 and 128
SEVEN = replace(BASE, residual_layers=7, dilation_cycle=7)
SIX = replace(BASE, residual_layers=6, dilation_cycle=3)
THREE = replace(BASE, residual_layers=3)
SHORT = replace(BASE, residual_layers=3, dilation_cycle=2)  # groups of 2 and 1 layers
UNCONDITIONAL = {"n_mels": 0, "upsample_strides": ()}
LABELLED = replace(SHORT, **UNCONDITIONAL, classes=CLASSES, guidance=2.0)
LABELS = (4, 0, 4, len(CLASSES))  # of a batch; the last one is "no label"
FEW = (0.01, 0.3)  # betas of two steps
FIRST, SECOND, ALL = slice(0, 1), slice(1, 2), slice(None)
# Macros of a kernel by what it computes beside the layers.
PARTS = {"neither": (), "ENTRY": ("ENTRY",), "HEAD": ("HEAD",), "all of HEAD": ("HEAD", "READ_NOISE", "SCALED")}


def noise_is_right(device):
    """Return whether a step whose result is its noise gives that of its definition, bit for bit."""
    lengths, begins, seeds = (65, 6), (2**34, 2**40 + 4), (2**63 + 5, 3)
    net = GpuNetwork(SHORT, weights(SHORT), device, "fp16", device.isa)
    buffers = checks.allocate(device, net, lengths)
    for tensor, values in (
        (buffers.terms[0], torch.tensor([0.0, 0.0, 1.0, torch.inf])),
        (buffers.noise_steps[0], [5] * 4),
        (buffers.seeds, [seed - 2**64 if seed >= 2**63 else seed for seed in seeds]),
        (buffers.begins, begins),
        (buffers.biases[0], torch.zeros(buffers.biases[0].shape)),
    ):
        device.fill(tensor, values)
    for tensor in (buffers.x[..., None], buffers.stages[-1]):
        checks.fill_rows(device, tensor, lengths)
    checks.run(device, list(net.step(buffers, 0)))
    return all(
        row[:length].numpy().tobytes() == normal(seed, 5, begin, length).tobytes()
        for row, seed, begin, length in zip(buffers.x, seeds, begins, lengths, strict=True)
    )


def labelled_items():
    """Return items of different labels and lengths."""
    parts = [(seed, length, label) for seed, (length, label) in enumerate(zip((40, 7, 65, 33), LABELS, strict=True))]
    return [Item(length, seed=seed, x=normal(seed, 0, 0, length), label=label) for seed, length, label in parts]


def labels_are_right(device):
    """Return whether eps of a batch is that of the reference, with the label of each item."""
    loop, errors = GpuLoop(checks.network(device, LABELLED, "fp16")), []
    items = labelled_items()
    for item, eps in zip(items, loop.predict_noise(items, checks.T), strict=True):
        x, label = torch.tensor(item.x).double()[None], torch.tensor([item.label])
        expected = reference.predict_noise(exact(LABELLED), LABELLED, x, checks.T, labels=label)[0]
        errors.append(relative_error(eps, expected))
    print(f"labels {LABELS}: eps {' '.join(f'{error:.1e}' for error in errors)}")
    return max(errors) < TOLERANCES["network_eps_fp16"]


def guidance_is_right(device):
    """Return whether two steps with guidance give the audio of its formula, for items of different labels."""
    loop, plan, errors = GpuLoop(checks.network(device, LABELLED, "fp16")), build_schedule(LABELLED, schedule=FEW), []
    items = labelled_items()[:2]
    audio = guidance.sample(loop, items, plan, LABELLED, LABELLED.guidance, None)
    for item, row in zip(items, audio, strict=True):
        errors.append(relative_error(row, checks.guided_audio(LABELLED, item, plan, LABELLED.guidance)))
    print(f"guidance: audio {' '.join(f'{error:.1e}' for error in errors)}")
    return max(errors) < TOLERANCES["network_audio_fp16"]


def drop_labels(monkeypatch):
    """Let the label add nothing to the biases."""
    monkeypatch.setattr(GpuNetwork, "add_label", lambda network, rows, label: None)


def mix_labels(monkeypatch):
    """Let items of different labels share a plan, which has the biases of its first item."""
    batches = GpuLoop._batches

    def mixed(loop, windows, items):
        return batches(loop, windows, [replace(item, label=None) for item in items])

    monkeypatch.setattr(GpuLoop, "_batches", mixed)


LABEL_FAULTS = [drop_labels, mix_labels]


def detected(device, ptx, right, head, samples):
    """Return whether a fault changes the results of the last group of a step, or cannot be executed.

    The group adds to the skip sum of an earlier one.

    Args:
        device: executes it.
        ptx: with the fault.
        right: that of the kernel without, which it replaces.
        head: whether the kernel has HEAD.
        samples: of the only item.
    """
    device.rewrite = lambda kernel, original: ptx if original == right else original
    try:
        if head:
            error = checks.step_in_groups(device, SIX, "fp16", (samples,))
        else:
            error = checks.residual_stack(device, SIX, "fp16", (samples,), SECOND)
        return not error < TOLERANCES["operation_fp16"]
    except (PTXError, AssertionError):
        return True
