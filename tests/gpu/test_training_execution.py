"""The fused layers of training as Triton compiles them: executed instruction by instruction, and their machine code."""

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


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("case", CASES)
def test_compiled_kernels_are_the_reference(capability, case):
    found = training_checks.errors(SimulatedDevice(capability), "bf16", **CASES[case])
    assert all(error < TOLERANCES["training_bf16"] for error in found.values()), found


class AllKernels(RecordingDevice):
    """Keeps every variant of a kernel."""

    def compiled(self, launch):
        self.kernels[launch.kernel] = launch.kernel
        return lambda: None


@pytest.mark.parametrize("channels", [32, 64])
@pytest.mark.parametrize(
    "capability", [c if c in (80, 90) else pytest.param(c, marks=pytest.mark.slow) for c in CAPABILITIES]
)
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
