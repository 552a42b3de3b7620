"""The GPU's operations: one Triton function a file, the same operations as `engine.kernels.reference`.

Rows are channels-last, ``[B, L, C]``: a dilated tap is a shift by whole rows, and loads are 16 bytes wide. A batch has
one capacity L, a multiple of 128, and every item its own length, read on the device: programs beyond an item's end
return at once, so that one captured graph serves all lengths up to its capacity.

The two halves of what is gated are interleaved, ``(gate 0, filter 0, gate 1, ...)``, so that both lie in one thread.
Storage is fp16, bf16 or fp32; every sum is fp32. Channels are padded with zeros to a power of two, which adds exact
zeros and nothing else.
"""
