"""Networks and checks for the kernels that run residual layers in groups (kernels/ampere, kernels/hopper)."""

from dataclasses import replace

import torch

from engine.config import BASE
from engine.diffusion.noise import normal
from engine.kernels.gpu import GpuNetwork
from tests.gpu import checks
from tests.gpu.ptx.errors import PTXError
from tests.support.targets import weights
from tests.support.tolerances import TOLERANCES

TEN = replace(BASE, residual_layers=10)  # groups of 4, 3 and 3 layers with strides 1, 16 and 128
SEVEN = replace(BASE, residual_layers=7, dilation_cycle=7)
SIX = replace(BASE, residual_layers=6, dilation_cycle=3)
THREE = replace(BASE, residual_layers=3)
SHORT = replace(BASE, residual_layers=3, dilation_cycle=2)  # groups of 2 and 1 layers
UNCONDITIONAL = {"n_mels": 0, "upsample_strides": ()}
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
        (buffers.rows[0], torch.zeros(buffers.rows[0].shape)),
    ):
        device.fill(tensor, values)
    for tensor in (buffers.x[..., None], buffers.stages[-1]):
        checks.fill_rows(device, tensor, lengths)
    checks.run(device, list(net.step(buffers, 0)))
    return all(
        row[:length].numpy().tobytes() == normal(seed, 5, begin, length).tobytes()
        for row, seed, begin, length in zip(buffers.x, seeds, begins, lengths, strict=True)
    )


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
