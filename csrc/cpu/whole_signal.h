// Single operations over a whole signal, through the kernels that the sweep runs: for tests, and as a readable example.
// Signals are float32, channels-last: h [L][C], conditioner [L][2C], skip [L][C], upsampled mel [L][M].
#pragma once

#include "network.h"
#include "upsample.h"

namespace diffwave {

// out [L][M], L = frames * hop.
template <class E>
void run_upsample_mel(const Network<E>& network, int layer, const Mel& mel, float* out);

// mel [L][M] -> out [L][2C], with the bias of the dilated convolution.
template <class E>
void run_project_conditioner(const Network<E>& network, int layer, const float* mel, int64_t length, float* out);

// x [L] -> h [L][C].
template <class E>
void run_input_projection(const Network<E>& network, const float* x, int64_t length, float* h);

// Updates h and skip in place. conditioner may be null only for a network without a mel. d [C] is the step bias. In the
// first layer the skip sum starts from the skip biases of all layers, and the previous contents of skip are ignored.
template <class E>
void run_residual_block(const Network<E>& network, int layer, const float* conditioner, const float* d, int64_t length,
                        float* h, float* skip);

// skip [L][C] -> eps [L].
template <class E>
void run_output_head(const Network<E>& network, const float* skip, int64_t length, float* eps);

}  // namespace diffwave
