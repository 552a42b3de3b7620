"""An interpreter for the PTX that Triton and nvcc compile our kernels to: it runs them on a CPU, and checks them.

parse.py reads text, decode.py turns instructions into functions (arithmetic.py, bits.py, convert.py, memory.py,
copies.py, atomics.py, matrix.py, wgmma.py, warp.py and barriers.py have them by name), chunk.py executes them,
machine.py has the memory and ``launch``. shared.py and clocks.py find races. counters.py counts, mutate.py plants
faults. harness.py and samples.py serve the interpreter's own tests.

It says nothing about ptxas, time, or the order of CTAs.
"""
