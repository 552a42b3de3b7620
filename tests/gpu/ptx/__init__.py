"""PTX interpreter: runs and checks, on a CPU, the PTX that the GPU kernels compile to. See README.md.

parse.py reads PTX text. decode.py turns instructions into functions; arithmetic.py, functions.py, bits.py, convert.py,
memory.py, copies.py, atomics.py, matrix.py, wgmma.py, warp.py, barriers.py, mbarriers.py, bulk.py and clusters.py
define them by name. chunk.py executes them. machine.py holds the memory and `launch`. shared.py and clocks.py detect
races. counters.py counts instructions and traffic. mutate.py plants faults. harness.py and samples.py serve the tests
of the interpreter.

The interpreter does not model ptxas, timing, or the order of CTAs.
"""
