"""CUDA kernels for Hopper (compute capability 9.0), whose tensor cores read their operands from shared memory.

NVRTC compiles them when a network is loaded. NVRTC and `cuda.bindings` come with PyTorch's CUDA builds.
"""
