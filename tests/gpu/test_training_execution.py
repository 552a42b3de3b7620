"""The fused training layers as Triton compiles them: executed instruction by instruction, and their machine code."""

import pytest

pytest.importorskip("triton")

from engine.kernels.triton.table import CAPABILITIES
from tests.gpu import training_checks
from tests.gpu.devices import SimulatedDevice
from tests.gpu.machine_code import MULTIPROCESSORS, TENSOR_CORES, RecordingDevice, machine_code
from tests.support.tolerances import TOLERANCES

pytestmark = pytest.mark.usefixtures("one_torch_thread")
CASES = {
    "a voice": {"channels": 64, "bands": 80, "batch": 1, "length": 70, "dilations": (1, 8)},
    "digits": {"channels": 32, "length": 70, "dilations": (100, 1)},
}
# Every run covers both architectures and both widths, but not every pair of them; the others are slow tests.
EXECUTED = [(80, "digits"), (90, "a voice")]
COMPILED = [(80, 32), (90, 64)]


def pairs(capabilities, values, quick):
    every = [(capability, value) for capability in capabilities for value in values]
    return [pair if pair in quick else pytest.param(*pair, marks=pytest.mark.slow) for pair in every]


@pytest.mark.parametrize(("capability", "case"), pairs([80, 90], CASES, EXECUTED))
def test_compiled_kernels_match_the_reference(capability, case):
    errors = training_checks.errors(SimulatedDevice(capability), "bf16", **CASES[case])
    assert all(error < TOLERANCES["training_bf16"] for error in errors.values()), errors


class AllKernels(RecordingDevice):
    """Keeps every variant of a kernel."""

    def compiled(self, launch):
        self.kernels[launch.kernel] = launch.kernel
        return lambda: None


@pytest.mark.parametrize(("capability", "channels"), pairs(CAPABILITIES, (32, 64), COMPILED))
def test_machine_code(capability, channels):
    device = AllKernels(capability)
    training_checks.errors(device, "bf16", channels=channels, bands=80, batch=1, length=128, dilations=(1, 2))
    assert len({kernel.name for kernel in device.kernels}) == 5 and len(device.kernels) > 9
    for kernel in device.kernels:
        code = machine_code(kernel, capability)
        assert (code.stack, code.local) == (0, 0) and not code.count("LDL|STL"), (kernel, code)
        assert any(map(TENSOR_CORES.match, code.opcodes)), (kernel, code)
        assert code.count(r"(LDG|LDGSTS)\S*\.128") and not code.count(r"LDG\S*\.[US](8|16)"), (kernel, code)
        assert MULTIPROCESSORS[capability].programs(code) >= 1, (kernel, code)
