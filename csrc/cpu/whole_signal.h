// Single operations over a whole signal, through the same kernels that the sweep runs: for tests, and for reading.
// Signals are channels-last: h [L][C], conditioner [L][2C], skip [L][C], upsampled mel [L][M].
#pragma once

#include "network.h"
#include "upsample.h"

namespace diffwave {

template <class E>
void run_upsample_mel(const Network<E>& network, int layer, const Mel& mel, float* out);

template <class E>
void run_project_conditioner(const Network<E>& network, int layer, const float* mel, long length, float* out);

template <class E>
void run_input_projection(const Network<E>& network, const float* x, long length, float* h);

// h and skip are updated in place. conditioner may be null only for a network without a mel. In the first layer the
// skip sum starts from the skip biases of all layers, and what is in skip is ignored.
template <class E>
void run_residual_block(const Network<E>& network, int layer, const float* conditioner, const float* d, long length,
                        float* h, float* skip);

template <class E>
void run_output_head(const Network<E>& network, const float* skip, long length, float* eps);

}  // namespace diffwave
