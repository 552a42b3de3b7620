"""Triton kernels: the operations of `engine.kernels.reference` on a GPU, one operation per file.

Rows are channels-last, ``[B, L, C]``. A dilated tap is then a shift by whole rows, and loads are 16 bytes wide. A batch
has one capacity L, a multiple of 128. Every item has its own length, which the kernels read on the device. Programs
beyond an item's end return at once, so that one captured graph serves all lengths up to its capacity.

Gate and filter channels are interleaved, ``(gate 0, filter 0, gate 1, ...)``, so that both of a pair lie in one thread.
Storage is fp16, bf16 or fp32; every sum is fp32. Channels are padded with zeros to a power of two, which adds only
exact zeros.
"""
