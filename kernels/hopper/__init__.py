"""What is worth its own CUDA code on Hopper (compute capability 9.0), whose tensor cores read shared memory themselves.

Compiled by NVRTC when a network is loaded; both it and `cuda.bindings` come with PyTorch's CUDA builds.
"""
