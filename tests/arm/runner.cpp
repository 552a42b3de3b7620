// A server for tests/arm/proxy.py: the functions of csrc/bindings.cpp without Python. A request on stdin is an
// operation's name, integers (int64) and arrays (float32), in the proxy's order. The answer on stdout is an error's
// text (empty on success) and the result's bytes. Each of these is preceded by its count.
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../csrc/cpu/noise.h"
#include "../../csrc/cpu/sweep.h"
#include "../../csrc/cpu/whole_signal.h"

namespace {

using namespace diffwave;
using Floats = std::vector<float>;
using Integers = std::vector<int64_t>;

struct Request {
  std::string name;
  Integers n;
  std::vector<Floats> a;
};

bool read(void* to, size_t size, size_t count) { return std::fread(to, size, count, stdin) == count; }

template <class Values>
bool read(Values& values) {
  int64_t count;
  if (!read(&count, sizeof count, 1)) return false;
  values.resize(static_cast<size_t>(count));
  return read(values.data(), sizeof values[0], values.size());
}

bool read(Request& request) {
  int64_t arrays;
  if (!read(request.name) || !read(request.n) || !read(&arrays, sizeof arrays, 1)) return false;
  request.a.resize(static_cast<size_t>(arrays));
  for (Floats& array : request.a)
    if (!read(array)) return false;
  return true;
}

template <class Values>
std::string bytes(const Values& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof values[0]};
}

void write(const std::string& text) {
  const int64_t count = static_cast<int64_t>(text.size());
  std::fwrite(&count, sizeof count, 1, stdout);
  std::fwrite(text.data(), 1, text.size(), stdout);
}

const float* data(const Floats& values) { return values.empty() ? nullptr : values.data(); }

long length_or_unknown(int64_t length) { return length < 0 ? kUnknown : length; }

struct Object {
  std::shared_ptr<Network<float>> network;
  std::unique_ptr<Sweep<float>> sweep;
};

std::map<long, Object> objects;

// name: "network <tier>". n: id, bands, reflect, residual_carries_d, N, dilations, strides. a: the weights, and the
// ranges of an int8 network.
std::string make_network(const Request& request, const std::string& isa) {
  const Integers& n = request.n;
  Parameters p;
  p.bands = static_cast<int>(n[1]);
  p.reflect = n[2];
  p.residual_carries_d = n[3];
  p.layers = static_cast<int>(n[4]);
  p.dilations.assign(n.begin() + 5, n.begin() + 5 + p.layers);
  p.strides.assign(n.begin() + 5 + p.layers, n.end());
  p.channels = static_cast<int>(request.a[0].size());
  const float** const weights[] = {
      &p.input_weight, &p.input_bias, &p.dilated_weight, &p.dilated_bias, &p.projection_weight,  &p.projection_bias,
      &p.skip_weight,  &p.skip_bias,  &p.out_weight,     &p.out_bias,     &p.conditioner_weight, &p.conditioner_bias};
  const size_t count = p.bands ? 12 : 10;
  for (size_t i = 0; i < count; ++i) *weights[i] = request.a[i].data();
  if (p.bands) p.upsamplers.resize(request.a[13].size());
  for (size_t i = 0; p.bands && i < p.strides.size(); ++i) {
    const float *weight = request.a[12 + 2 * i].data(), *bias = request.a[13 + 2 * i].data();
    for (auto& upsampler : p.upsamplers) {
      upsampler.push_back({Floats(weight, weight + 6 * p.strides[i]), *bias++});
      weight += 6 * p.strides[i];
    }
  }
  const size_t weight_count = p.bands ? count + 2 * p.strides.size() : count;
  if (request.a.size() > weight_count) p.ranges = request.a[weight_count].data();
  if (request.a.size() > weight_count + 1) {
    p.mel_range = request.a[weight_count + 1][0];
    p.conditioner_ranges = request.a[weight_count + 2].data();
  }
  for (const Tier& tier : tiers())
    if (isa == tier.name && tier.supported) {
      const auto network = std::make_shared<Network<float>>(p, tier.fp32);
      objects[n[0]].network = network;
      return bytes(Integers{network->reach});
    }
  throw std::runtime_error("no tier '" + isa + "'");
}

// n: id, network, clamp, seed, noise_step, length, threads, rows. a: d, coefficients, conditioner_rows (may be empty).
std::string make_sweep(const Integers& n, const std::vector<Floats>& a) {
  const auto network = objects.at(n[1]).network;
  const size_t row = network->layers.size() * static_cast<size_t>(network->channels);
  std::vector<Step> steps;
  for (size_t s = 0; s < a[1].size() / 3; ++s) {
    const float *d = a[0].data() + s * row, *c = a[1].data() + s * 3;
    const uint32_t noise_step = static_cast<uint32_t>(n[4]) + static_cast<uint32_t>(s);
    steps.push_back({Floats(d, d + row), c[0], c[1], c[2], n[2] != 0, static_cast<uint64_t>(n[3]), noise_step});
  }
  auto& sweep = objects[n[0]].sweep;
  sweep = std::make_unique<Sweep<float>>(network, std::move(steps), length_or_unknown(n[5]), static_cast<int>(n[6]),
                                         n[7], a[2].empty() ? nullptr : a[2].data());
  return bytes(Integers{sweep->tile(), static_cast<int64_t>(sweep->bytes())});
}

// The whole window comes with every tile, and the updated x is returned.
// n: sweep, step, begin, rows, origin, first_frame, scale_origin, repeat. a: x, mel, noise, scale.
std::string advance(const Integers& n, std::vector<Floats>& a) {
  Sweep<float>& sweep = *objects.at(n[0]).sweep;
  const long frames = static_cast<long>(a[1].size()) / std::max(sweep.network().bands, 1);
  Window window;
  window.x = {a[0].data(), n[4]};
  window.mel = {data(a[1]), frames, 1, frames, n[5]};
  window.noise = {data(a[2]), n[4]};
  window.noise_stride = static_cast<long>(a[0].size());
  window.scale = {data(a[3]), n[6], n[7]};
  sweep.bind(window);
  sweep.advance(static_cast<int>(n[1]), n[2], n[3]);
  return bytes(a[0]);
}

std::string answer(Request& request) {
  const auto& [name, n, a] = request;
  if (name.rfind("network ", 0) == 0) return make_network(request, name.substr(8));
  if (name == "normal") {
    Floats out(static_cast<size_t>(n[3]));
    normal(static_cast<uint64_t>(n[0]), static_cast<uint32_t>(n[1]), n[2], n[3], out.data());
    return bytes(out);
  }
  if (name == "forget") {
    objects.erase(n[0]);
    return {};
  }
  if (name == "sweep") return make_sweep(n, a);
  if (name == "advance") return advance(n, request.a);
  if (name == "end") {
    objects.at(n[0]).sweep->end(n[1]);
    return {};
  }
  // The remaining operations are methods of a network. n: network, then the layer if the operation takes one.
  const Network<float>& network = *objects.at(n[0]).network;
  const int layer = n.size() > 1 ? static_cast<int>(n[1]) : 0;
  const long C = network.channels, rows = a.empty() ? 0 : static_cast<long>(a[0].size());
  const auto floats = [](long count) { return Floats(static_cast<size_t>(count)); };
  if (name == "frames_of") {
    const auto [low, high] = frames_of(network.strides, n[1], n[2]);
    return bytes(Integers{low, high});
  }
  if (name == "sweep_bytes") {
    const int threads = static_cast<int>(n[3]);
    const Rings<float> rings(network, static_cast<size_t>(n[1]), length_or_unknown(n[2]), n[4] * threads, threads);
    return bytes(Integers{static_cast<int64_t>(rings.bytes)});
  }
  if (name == "upsample_mel") {
    const long frames = rows / network.bands;
    Floats out = floats(rows * network.hop());
    run_upsample_mel(network, layer, {a[0].data(), frames, 1, frames}, out.data());
    return bytes(out);
  }
  if (name == "project_conditioner") {
    const long length = rows / network.bands;
    Floats out = floats(length * 2 * C);
    run_project_conditioner(network, layer, a[0].data(), length, out.data());
    return bytes(out);
  }
  if (name == "input_projection") {
    Floats h = floats(rows * C);
    run_input_projection(network, a[0].data(), rows, h.data());
    return bytes(h);
  }
  if (name == "residual_block") {  // h, skip, d, conditioner
    Floats h = a[0], skip = a[1];
    run_residual_block(network, layer, data(a[3]), a[2].data(), rows / C, h.data(), skip.data());
    return bytes(h) + bytes(skip);
  }
  if (name == "output_head") {
    Floats eps = floats(rows / C);
    run_output_head(network, a[0].data(), rows / C, eps.data());
    return bytes(eps);
  }
  throw std::runtime_error("no operation '" + name + "'");
}

}  // namespace

int main() {
  for (Request request; read(request);) {
    std::string error, result;
    try {
      result = answer(request);
    } catch (const std::exception& caught) {
      error = caught.what();
    }
    write(error);
    write(result);
    std::fflush(stdout);
  }
}
