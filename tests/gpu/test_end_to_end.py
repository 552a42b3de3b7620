"""The bundled voice through a whole plan, 6 steps of 30 layers, as compiled: against the CPU engine's audio."""

import numpy as np
import pytest

pytest.importorskip("triton")

import engine
from engine.audio.metrics import snr
from engine.checkpoint.load import load_checkpoint
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels.gpu import GpuNetwork
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.item import Item
from engine.voice import BUNDLED
from tests.gpu.devices import SimulatedDevice
from tests.support.tolerances import TOLERANCES

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(not BUNDLED.is_file(), reason="the bundled voice is not beside the package"),
]

SPEECH = slice(120, 122)  # frames: 512 samples, amplitude 0.15
SEED = 1


@pytest.fixture(scope="module")
def mel():
    return np.ascontiguousarray(np.load(BUNDLED.with_name("demo_mel.npy"))[:, SPEECH])


@pytest.fixture(scope="module")
def cpu():
    return engine.load(device="cpu", precision="fp32")


def loop_on(capability, precision, **options):
    checkpoint = load_checkpoint(BUNDLED)
    device = SimulatedDevice(capability, **options)
    return GpuLoop(GpuNetwork(checkpoint.config, checkpoint.tensors, device, precision))


@pytest.mark.parametrize(
    ("capability", "precision"),
    [(80, "fp16"), *(pytest.param(c, "fp16", marks=pytest.mark.slow) for c in (86, 89, 90, 120))]
    + [pytest.param(80, p, marks=pytest.mark.slow) for p in ("bf16", "tf32", "fp32")],
)
def test_the_plan_makes_the_cpu_engines_audio(capability, precision, mel, cpu):
    loop = loop_on(capability, precision, worst_approximations=True)
    plan = build_schedule(cpu.config)
    audio = loop.sample([Item(512, mel, SEED)], plan)[0].numpy()
    found = snr(cpu.vocode(mel, seed=SEED), audio)
    print(f"sm_{capability} {precision}: audio {found:.1f} dB")
    assert found >= TOLERANCES[f"gpu_audio_{precision}_db"]

    loop = loop_on(capability, precision, worst_approximations=True, checks=False)  # the same kernels, checked above
    x = normal(SEED, 0, 0, 512)
    for t in plan.t:
        eps, expected = loop.predict_noise([Item(512, mel, x=x)], t)[0].numpy(), cpu.predict_noise(x, t, mel)
        found = snr(expected, eps)
        print(f"  eps at t = {t:.2f}: {found:.1f} dB")
        assert found >= TOLERANCES[f"gpu_eps_{precision}_db"]


def test_launches_are_those_of_the_loop(mel):
    """Capture safety and order: nothing but 6 x (entry, 30 layers, exit) in the graph, all on tensors of the device."""
    loop = loop_on(80, "fp16", checks=False)
    device = loop._device
    with loop.plans.plan(shape_of(loop)) as plan:
        order = ["input_projection", *["residual_block"] * 30, "output_head"]
        before = len(device.launched)
        plan.buffers.lengths.zero_()
        plan.run()
        assert device.launched[before:] == order * 6
        plan.run(2)
        assert device.launched[before + 192 :] == order * 2
        before = len(device.launched)
        plan.prepare()
        assert device.launched[before:] == ["upsample_mel", "upsample_mel", "project_conditioner"]
    assert device.captured == 3


def shape_of(loop):
    from engine.sampling.gpu.plan import Shape

    return Shape(1, 512, False)
