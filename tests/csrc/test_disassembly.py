"""Tests of the compiled inner loops: accumulators stay in registers, and peaks execute every counted product.

A compiler that spills accumulators halves the speed, and no other test would notice.
"""

import platform
import re
import shutil
import subprocess
from functools import cache

import pytest

from engine.kernels import _native, cpu
from tests.arm.proxy import build, needs_tools

# The direct block (bf16, int8), the Winograd block (fp32, int16 products) and the conditioner.
OPERATIONS = ("::direct_block_for_channels", "::winograd_block_for_channels", "project_conditioner<")
MULTIPLY_ADDS = [
    ("avx2", "vfmadd", 12),
    ("avx2", "vpmaddwd", 12),
    ("avxvnni", "vfmadd", 12),
    ("avxvnni", "vpdpbusd", 12),
    ("avx512", "vfmadd", 24),
    ("avx512vnni", "vfmadd", 24),
    ("avx512vnni", "vpdpbusd", 24),
    ("avx512bf16", "vdpbf16ps", 24),
    ("avx512bf16", "vpdpbusd", 24),
]


def functions(text):
    """Return {name: [(address, instruction)]} of a disassembly."""
    result, current = {}, None
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            current = result.setdefault(head[1], [])
        elif current is not None and (body := re.match(r"\s+([0-9a-f]+):\s+(.*)", line)):
            current.append((int(body[1], 16), body[2]))
    return result


def innermost_loops(instructions):
    """Yield the bodies of loops that contain no other loop."""
    index = {address: i for i, (address, _) in enumerate(instructions)}
    spans = []
    for i, (_, text) in enumerate(instructions):
        jump = re.match(r"(?:j\w+|b(?:\.\w+)?|[ct]bn?z)\s+(?:.*, )?([0-9a-f]+) <", text)
        if jump and index.get(int(jump[1], 16), i + 1) <= i:
            spans.append((index[int(jump[1], 16)], i))
    for low, high in spans:
        if not any(other != (low, high) and low <= other[0] and other[1] <= high for other in spans):
            yield [text for _, text in instructions[low : high + 1]]


@cache
def disassembled(objdump, binary):
    command = [objdump, "-dC", "--no-show-raw-insn", binary]
    return functions(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def disassembly():
    if platform.machine() != "x86_64":
        pytest.skip(f"reads x86-64 instructions, this is {platform.machine()}")
    if shutil.which("objdump") is None:
        pytest.skip("objdump (binutils) is not installed")
    return disassembled("objdump", _native.__file__)


def multiply_add_loops(disassembly, tier, instruction, count):
    """Return the inner loops of a tier's operations; each consists of whole register tiles of multiply-adds."""
    loops_of = {
        operation: [
            loop
            for name, instructions in disassembly.items()
            if f"diffwave::{tier}::" in name and operation in name
            for loop in innermost_loops(instructions)
            if sum(instruction in text for text in loop) >= count // 2
        ]
        for operation in OPERATIONS
    }
    # A residual block has a loop per tap or Winograd product, and one for the projection.
    direct, winograd, _ = OPERATIONS
    block = winograd if instruction in ("vfmadd", "fmla", "vpmaddwd") else direct
    assert len(loops_of[block]) >= 4
    loops = [loop for operation in OPERATIONS for loop in loops_of[operation]]
    assert all(sum(instruction in text for text in loop) % count == 0 for loop in loops)
    return loops


@pytest.mark.parametrize(("tier", "instruction", "count"), MULTIPLY_ADDS)
def test_inner_loops_keep_their_accumulators_in_registers(disassembly, tier, instruction, count):
    if tier not in [name for name, *_ in cpu.tiers()]:
        pytest.skip(f"this compiler is too old for the tier {tier}")
    for loop in multiply_add_loops(disassembly, tier, instruction, count):
        spills = [text for text in loop if re.search(r"[yz]mm\d", text) and re.search(r"\(%r[sb]p", text)]
        assert not spills, f"{tier}: vectors on the stack in an inner loop: {spills}"


# Without an int8 dot product, a product of four int8 takes two instructions on int16.
IN_PEAKS = [*MULTIPLY_ADDS, ("avx512", "vpmaddwd", 48)]


def check_peak(disassembly, tier, instruction, count):
    """Check that the loop of one of the tier's peaks executes the instruction `count` times per round."""
    loops = [
        loop
        for name, instructions in disassembly.items()
        if f"diffwave::{tier}::" in name and "::peak<" in name
        for loop in innermost_loops(instructions)
    ]
    assert count in [sum(instruction in text for text in loop) for loop in loops]


@pytest.mark.parametrize(("tier", "instruction", "count"), IN_PEAKS)
def test_the_peak_executes_every_product_that_it_counts(disassembly, tier, instruction, count):
    """Check that no part of an int8 product runs once before the loop, which would overstate the peak."""
    if tier not in [name for name, *_ in cpu.tiers()]:
        pytest.skip(f"this compiler is too old for the tier {tier}")
    check_peak(disassembly, tier, instruction, count)


# bf16 layers, and those of int8 networks that are not quantized; quantized layers.
@pytest.mark.parametrize(("product", "layers"), [("tdpbf16ps", 2), ("tdpbusd", 1)])
def test_loops_on_tile_registers_load_each_operand_once(disassembly, product, layers):
    """Check that every four products share four loads of tiles, and that nothing else uses memory."""
    if "amx" not in [name for name, *_ in cpu.tiers()]:
        pytest.skip("this compiler is too old for the tier amx")
    blocks = [code for name, code in disassembly.items() if "diffwave::amx::" in name and "tiles_peak" not in name]
    loops = [loop for code in blocks for loop in innermost_loops(code) if any(product in text for text in loop)]
    assert len(loops) >= 2 * layers  # the taps and the projection
    for loop in loops:
        words = [text.split()[0] for text in loop]
        assert words.count(product) == words.count("tileloadd") == 4, loop
        others = [text for text in loop if "(%" in text and not text.startswith(("tileloadd", "lea"))]
        assert len(loop) <= 16 and not others, loop


@pytest.mark.parametrize("product", ["tdpbf16ps", "tdpbusd"])
def test_the_peak_of_tile_registers_consists_of_products(disassembly, product):
    if "amx" not in [name for name, *_ in cpu.tiers()]:
        pytest.skip("this compiler is too old for the tier amx")
    peaks = [code for name, code in disassembly.items() if re.search(r"amx::.*::tiles_peak<", name)]
    loops = [[text.split()[0] for text in loop] for code in peaks for loop in innermost_loops(code)]
    assert [loop.count(product) for loop in loops if product in loop] == [4]


@pytest.mark.arm
@needs_tools
@pytest.mark.parametrize(
    ("tier", "instruction", "count"), [("neon", "smull", 96), ("dotprod", "sdot", 24), ("neon", "fmla", 24)]
)
def test_the_peak_of_arm_executes_every_product_that_it_counts(tier, instruction, count):
    check_peak(disassembled("aarch64-linux-gnu-objdump", build()), tier, instruction, count)


@pytest.mark.arm
@needs_tools
@pytest.mark.parametrize(("tier", "instruction"), [("neon", "fmla"), ("dotprod", "fmla"), ("dotprod", "sdot")])
def test_arm_inner_loops_never_touch_the_stack(tier, instruction):
    for loop in multiply_add_loops(disassembled("aarch64-linux-gnu-objdump", build()), tier, instruction, 24):
        assert not [text for text in loop if "[sp" in text]
        assert len([text for text in loop if text.startswith("ld")]) == 13, (
            "expected the inputs of 12 rows and two vectors of weights"
        )


def test_code_for_every_processor_uses_no_instructions_of_a_tier(disassembly):
    """Check the functions that list the tiers: they run before the processor is checked."""
    listing = [
        name for name in disassembly if re.fullmatch(r"diffwave::\w+::(fp32|bf16)\(\)|diffwave::tiers\(\).*", name)
    ]
    assert len(listing) >= 5
    for name in listing:
        assert not [text for _, text in disassembly[name] if text.startswith("v")], name
