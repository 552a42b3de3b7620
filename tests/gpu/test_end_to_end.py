"""The bundled voice through a whole plan of compiled PTX, 6 steps of 30 layers, against the CPU backend."""

import numpy as np
import pytest

pytest.importorskip("triton")

import engine
from engine.audio.metrics import snr
from engine.checkpoint.bundled import BUNDLED
from engine.checkpoint.load import load_checkpoint
from engine.diffusion.noise import normal
from engine.diffusion.schedule import build_schedule
from engine.kernels.cuda import build
from engine.kernels.gpu import GpuNetwork
from engine.kernels.hopper import stack as hopper
from engine.kernels.stacks import STACKS
from engine.sampling.gpu.loop import GpuLoop
from engine.sampling.item import Item
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


def loop_on(capability, precision, isa=None, **options):
    checkpoint = load_checkpoint(BUNDLED)
    device = SimulatedDevice(capability, **options)
    return GpuLoop(GpuNetwork(checkpoint.config, checkpoint.tensors, device, precision, isa))


TARGETS = [(80, "fp16")]
SLOW_TARGETS = [(c, "fp16") for c in (86, 89, 90, 120)] + [(80, precision) for precision in ("bf16", "tf32", "fp32")]


@pytest.mark.parametrize(
    ("capability", "precision"), TARGETS + [pytest.param(*target, marks=pytest.mark.slow) for target in SLOW_TARGETS]
)
def test_a_plan_computes_the_audio_of_the_cpu(capability, precision, mel, cpu):
    loop = loop_on(capability, precision, worst_approximations=True)
    audio = loop.sample([Item(512, mel, SEED)], build_schedule(cpu.config))[0].numpy()
    db = snr(cpu.vocode(mel, seed=SEED), audio)
    print(f"sm_{capability} {precision}: audio {db:.1f} dB")
    assert db >= TOLERANCES[f"gpu_audio_{precision}_db"]


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "precision"), TARGETS + SLOW_TARGETS)
def test_every_step_computes_the_eps_of_the_cpu(capability, precision, mel, cpu):
    """The checks are off: the test above runs the same kernels with them."""
    loop = loop_on(capability, precision, worst_approximations=True, checks=False)
    x = normal(SEED, 0, 0, 512)
    for t in build_schedule(cpu.config).t:
        eps, expected = loop.predict_noise([Item(512, mel, x=x)], t)[0].numpy(), cpu.predict_noise(x, t, mel=mel)
        db = snr(expected, eps)
        print(f"sm_{capability} {precision}: eps at t = {t:.2f}: {db:.1f} dB")
        assert db >= TOLERANCES[f"gpu_eps_{precision}_db"]


NVRTC = pytest.mark.skipif(build.obstacle() is not None, reason=str(build.obstacle()))


@NVRTC
def test_a_step_in_groups_computes_the_eps_of_the_cpu(mel, cpu):
    """All 30 layers in nine launches; tests/gpu/test_hopper.py runs their kernels with the checks."""
    loop = loop_on(90, "fp16", hopper.ISA, worst_approximations=True, checks=False)
    x, t = normal(SEED, 0, 0, 512), build_schedule(cpu.config).t[3]
    eps, expected = loop.predict_noise([Item(512, mel, x=x)], t)[0].numpy(), cpu.predict_noise(x, t, mel=mel)
    db = snr(expected, eps)
    print(f"{hopper.ISA}: eps at t = {t:.2f}: {db:.1f} dB")
    assert db >= TOLERANCES["gpu_eps_fp16_db"]


GROUPS = [*((90, "sm_90a", precision) for precision in ("fp16", "bf16")), (80, "mma", "fp16"), (120, "mma", "bf16")]


@NVRTC
@pytest.mark.slow
@pytest.mark.parametrize(("capability", "isa", "precision"), GROUPS)
def test_a_plan_in_groups_computes_the_audio_of_the_cpu(capability, isa, precision, mel, cpu):
    loop = loop_on(capability, precision, isa, worst_approximations=True, checks=False)
    audio = loop.sample([Item(512, mel, SEED)], build_schedule(cpu.config))[0].numpy()
    db = snr(cpu.vocode(mel, seed=SEED), audio)
    print(f"{isa} {precision}: audio {db:.1f} dB")
    assert db >= TOLERANCES[f"gpu_groups_{precision}_db"]


@NVRTC
@pytest.mark.parametrize("isa", STACKS)
def test_a_plan_in_groups_launches_nine_kernels_a_step(isa):
    loop = loop_on(90, "fp16", isa, checks=False)
    device = loop._device
    with loop.plans.plan(shape_of(loop)) as plan:
        before = len(device.launched)
        plan.buffers.lengths.zero_()
        plan.run(1, prepare=True)
        assert device.launched[before:] == ["upsample_mel", "upsample_mel", *["stack"] * 9]


def test_a_plan_launches_the_kernels_in_order(mel):
    """The graph holds only 6 x (input projection, 30 layers, output head), on tensors of the device."""
    loop = loop_on(80, "fp16", checks=False)
    device = loop._device
    with loop.plans.plan(shape_of(loop)) as plan:
        step = ["input_projection", *["residual_block"] * 30, "output_head"]
        conditioner = ["upsample_mel", "upsample_mel", "project_conditioner"]
        plan.buffers.lengths.zero_()
        for steps, options, launched in (
            (6, {}, step * 6),
            (2, {}, step * 2),
            (6, {"start": True, "prepare": True}, ["initial_noise", *conditioner, *step * 6]),
            (1, {"prepare": True}, [*conditioner, *step]),
        ):
            for _ in range(2):
                before = len(device.launched)
                plan.run(steps, **options)
                assert device.launched[before:] == launched
    assert device.captured == 4


def shape_of(loop):
    from engine.sampling.gpu.plan import Shape

    return Shape(1, 512, False)
