// The native module, engine.kernels._native: the Python interface of csrc. It validates arguments; csrc/cpu does not.
// kernels/cpu.py is its only caller.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "cpu/measure_peak.h"
#include "cpu/noise.h"
#include "cpu/sweep.h"
#include "cpu/whole_signal.h"

namespace py = pybind11;
using diffwave::Bf16;

namespace {

using Floats = py::array_t<float, py::array::c_style>;

// Releases the GIL for a block, like py::gil_scoped_release. While an interpreter ends, a daemon thread that requests
// the GIL never returns from the request. Python 3.14 hangs the thread. Older versions call pthread_exit, which unwinds
// the stack. The destructor of py::gil_scoped_release is noexcept, so unwinding through it calls std::terminate. Other
// destructors on that stack would use Python objects without the GIL. Therefore this class always hangs the thread.
class GilRelease {
 public:
  GilRelease() : state_(PyEval_SaveThread()) {}
  GilRelease(const GilRelease&) = delete;
  ~GilRelease() noexcept(false) {
    HangOnUnwinding hang;
    PyEval_RestoreThread(state_);
    hang.armed = false;
  }

 private:
  struct HangOnUnwinding {
    bool armed = true;
    ~HangOnUnwinding() {
      while (armed) std::this_thread::sleep_for(std::chrono::hours(24));
    }
  };
  PyThreadState* const state_;
};

template <class Error = std::invalid_argument, class... Parts>
[[noreturn]] void reject(const Parts&... message) {
  std::ostringstream text;
  (text << ... << message);
  throw Error(text.str());
}

const diffwave::Tier& find_tier(const std::string& name) {
  for (const diffwave::Tier& tier : diffwave::tiers()) {
    if (name != tier.name || !tier.supported) continue;
    if (!tier.ask || tier.ask()) return tier;
    reject<std::runtime_error>("isa: the system denies the registers of '", name, "'");
  }
  reject("isa: expected a tier that this processor supports, got '", name, "'; see tiers()");
}

template <class E>
const diffwave::Operations<E>& operations_of(const diffwave::Tier& tier);
template <>
const diffwave::Operations<float>& operations_of<float>(const diffwave::Tier& tier) {
  return tier.fp32;
}
template <>
const diffwave::Operations<Bf16>& operations_of<Bf16>(const diffwave::Tier& tier) {
  return tier.bf16;
}

py::list list_tiers() {
  py::list list;
  for (const diffwave::Tier& tier : diffwave::tiers()) {
    py::list precisions;
    if (tier.fp32.width) precisions.append("fp32");
    if (tier.bf16.width) precisions.append("bf16");
    precisions.append("int8");
    list.append(py::make_tuple(tier.name, tier.supported, tier.requires_, precisions));
  }
  return list;
}

using Shape = std::vector<py::ssize_t>;

std::string text(const Shape& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Returns the array itself, never a converted copy: pybind11 would free the copy before its values are read.
Floats as_floats(const py::handle& array, const char* name) {
  if (!py::isinstance<Floats>(array)) reject(name, ": expected contiguous float32, got another array");
  return py::reinterpret_borrow<Floats>(array);
}

void expect(const Floats& array, const Shape& shape, const char* name) {
  const Shape actual(array.shape(), array.shape() + array.ndim());
  if (actual == shape) return;
  reject(name, ": expected shape ", text(shape), ", got ", text(actual));
}

const float* checked(const py::dict& arrays, const char* name, const Shape& shape) {
  const auto array = as_floats(arrays[name], name);
  expect(array, shape, name);
  return array.data();
}

diffwave::Parameters parameters(const py::dict& a, std::vector<int> dilations, std::vector<int> strides, int bands,
                                bool reflect, bool residual_carries_d) {
  diffwave::Parameters p;
  p.reflect = reflect;
  p.residual_carries_d = residual_carries_d;
  const py::ssize_t C = as_floats(a["input_weight"], "input_weight").size(),
                    N = static_cast<py::ssize_t>(dilations.size());
  if (C < 16 || C % 16) reject("input_weight: expected a multiple of 16 channels, got ", C);
  if (N < 1) reject("dilations: expected at least one layer, got none");
  p.channels = static_cast<int>(C);
  p.layers = static_cast<int>(N);
  p.bands = bands;
  p.dilations = std::move(dilations);
  p.input_weight = checked(a, "input_weight", {C});
  p.input_bias = checked(a, "input_bias", {C});
  p.dilated_weight = checked(a, "dilated_weight", {N, 2 * C, C, 3});
  p.dilated_bias = checked(a, "dilated_bias", {N, 2 * C});
  p.projection_weight = checked(a, "projection_weight", {N, 2 * C, C});
  p.projection_bias = checked(a, "projection_bias", {N, 2 * C});
  p.skip_weight = checked(a, "skip_weight", {C, C});
  p.skip_bias = checked(a, "skip_bias", {C});
  p.out_weight = checked(a, "out_weight", {C});
  p.out_bias = checked(a, "out_bias", {1});
  if (bands) {
    p.conditioner_weight = checked(a, "conditioner_weight", {N, 2 * C, bands});
    p.conditioner_bias = checked(a, "conditioner_bias", {N, 2 * C});
    // One upsampler for all layers, or one for each: [1 or N][3][2 * stride] and [1 or N] per stride.
    const py::ssize_t count = as_floats(a["upsample_bias_0"], "upsample_bias_0").size();
    if (count != 1 && count != N) reject("upsample_bias_0: expected 1 or ", N, " upsamplers, got ", count);
    p.upsamplers.resize(static_cast<size_t>(count));
    for (size_t i = 0; i < strides.size(); ++i) {
      const std::string weight = "upsample_weight_" + std::to_string(i), bias = "upsample_bias_" + std::to_string(i);
      const float* w = checked(a, weight.c_str(), {count, 3, 2 * strides[i]});
      const float* b = checked(a, bias.c_str(), {count});
      for (auto& upsampler : p.upsamplers) {
        upsampler.push_back({std::vector<float>(w, w + 6 * strides[i]), *b++});
        w += 6 * strides[i];
      }
    }
    p.strides = std::move(strides);
  }
  if (a.contains("ranges")) {
    p.ranges = checked(a, "ranges", {N});
    if (p.ranges[0] != 0.0f) reject("ranges: expected 0 for the first layer, got ", p.ranges[0]);
    if (bands) p.mel_range = *checked(a, "mel_range", {1});
    if (bands) p.conditioner_ranges = checked(a, "conditioner_ranges", {N, 2 * C});
  }
  return p;
}

diffwave::Mel view(const py::array_t<float>& mel, int bands) {
  if (mel.ndim() != 2 || mel.shape(0) != bands)
    reject("mel: expected shape [", bands, ", frames], got ", text(Shape(mel.shape(), mel.shape() + mel.ndim())));
  const py::ssize_t size = sizeof(float);
  if (mel.strides(0) % size || mel.strides(1) % size)
    reject("mel: expected strides in whole floats, got ", mel.strides(0), " and ", mel.strides(1), " bytes");
  return {mel.data(), mel.strides(0) / size, mel.strides(1) / size, mel.shape(1)};
}

template <class E>
std::shared_ptr<diffwave::Network<E>> make_network(const std::string& isa, const py::dict& arrays,
                                                   std::vector<int> dilations, std::vector<int> strides, int bands,
                                                   bool reflect, bool residual_carries_d) {
  const auto& operations = operations_of<E>(find_tier(isa));
  if (!operations.width) reject("precision: expected one that tier '", isa, "' has, got bf16; see tiers()");
  return std::make_shared<diffwave::Network<E>>(
      parameters(arrays, std::move(dilations), std::move(strides), bands, reflect, residual_carries_d), operations);
}

// A sweep with the arrays that its window points into: keeps them alive and knows their sizes.
template <class E>
struct SweepHandle {
  std::atomic_flag busy = ATOMIC_FLAG_INIT;  // while a call changes the sweep
  std::unique_ptr<diffwave::Sweep<E>> sweep;
  py::object x, mel, noise, scale;
  int64_t samples = 0, frames = 0, scales = 0;
  bool bound = false;
};

// For the duration of a call that changes a sweep. The GIL does not keep two such calls apart: `advance` releases it,
// and a free-threaded interpreter has none.
class Exclusive {
 public:
  explicit Exclusive(std::atomic_flag& busy) : busy_(busy) {
    if (busy_.test_and_set(std::memory_order_acquire))
      reject<std::runtime_error>("sweep: expected calls from one thread at a time, got two calls at once");
  }
  Exclusive(const Exclusive&) = delete;
  ~Exclusive() { busy_.clear(std::memory_order_release); }

 private:
  std::atomic_flag& busy_;
};

int64_t length_or_unknown(const py::object& length) {
  if (length.is_none()) return diffwave::kUnknown;
  const int64_t value = py::cast<int64_t>(length);
  if (value < 1) reject("length: expected at least one sample, got ", value);
  return value;
}

template <class E>
void check_reflection(const diffwave::Network<E>& network, int64_t length) {
  int64_t padding = 0;
  for (const auto& layer : network.layers) padding = std::max(padding, static_cast<int64_t>(layer.dilation));
  if (network.reflect && length <= padding)
    reject("length: expected more samples than the reflected padding of ", padding, ", got ", length);
}

void check_rows(int threads, int64_t rows) {
  if (threads < 1 || threads > 1024 || rows < 1 || rows % diffwave::kUnit)
    reject("sweep: expected threads in 1 to 1024 and rows a multiple of 12, got threads ", threads, " and rows ", rows);
}

// coefficients [S][3]: a, b, sigma; conditioner_rows [N][2C] or None.
template <class E>
std::unique_ptr<SweepHandle<E>> make_sweep(std::shared_ptr<diffwave::Network<E>> network, const Floats& d,
                                           const Floats& coefficients, bool clamp, uint64_t seed, uint32_t noise_step,
                                           const py::object& length, int threads, int64_t rows,
                                           const py::object& conditioner_rows) {
  const py::ssize_t S = coefficients.shape(0), N = static_cast<py::ssize_t>(network->layers.size());
  const py::ssize_t C = network->channels;
  expect(coefficients, {S, 3}, "coefficients");
  expect(d, {S, N, C}, "d");
  if (S < 1) reject("coefficients: expected at least one step, got none");
  check_rows(threads, rows);
  const int64_t samples = length_or_unknown(length);
  check_reflection(*network, samples);
  Floats rows_array;
  if (!conditioner_rows.is_none()) {
    if (network->bands) reject("conditioner_rows: expected None for a network with a mel, got an array");
    rows_array = as_floats(conditioner_rows, "conditioner_rows");
    expect(rows_array, {N, 2 * C}, "conditioner_rows");
  }
  const float* constants = conditioner_rows.is_none() ? nullptr : rows_array.data();
  std::vector<diffwave::Step> steps;
  for (py::ssize_t s = 0; s < S; ++s) {
    const float *row = d.data() + s * N * C, *c = coefficients.data() + s * 3;
    steps.push_back(
        {std::vector<float>(row, row + N * C), c[0], c[1], c[2], clamp, seed, noise_step + static_cast<uint32_t>(s)});
  }
  auto handle = std::make_unique<SweepHandle<E>>();
  const GilRelease release;
  handle->sweep = std::make_unique<diffwave::Sweep<E>>(network, std::move(steps), samples, threads, rows, constants);
  return handle;
}

// x [W] and noise [S or S-1][W] start at sample `origin`, mel [M][T] at frame `first_frame`, scale at value
// `scale_origin`. A value of scale covers `repeat` samples.
template <class E>
void bind_window(SweepHandle<E>& handle, Floats x, int64_t origin, py::object mel, int64_t first_frame,
                 py::object noise, py::object scale, int64_t scale_origin, int64_t repeat) {
  const Exclusive exclusive(handle.busy);
  const auto& network = handle.sweep->network();
  diffwave::Window window;
  const py::ssize_t W = x.size();
  expect(x, {W}, "x");
  if (origin < 0 || first_frame < 0 || scale_origin < 0 || repeat < 1)
    reject("bind: expected origins >= 0 and repeat >= 1, got origin ", origin, ", first_frame ", first_frame,
           ", scale_origin ", scale_origin, ", repeat ", repeat);
  window.x = {x.mutable_data(), origin};
  handle.frames = 0;
  if (network.bands) {
    if (!py::isinstance<py::array_t<float>>(mel)) reject("mel: expected a float32 array [M, T], got another type");
    window.mel = view(py::reinterpret_borrow<py::array_t<float>>(mel), network.bands);
    handle.frames = window.mel.frames;
    window.mel.first = first_frame;
  }
  if (!noise.is_none()) {
    const auto array = as_floats(noise, "noise");
    const py::ssize_t steps = handle.sweep->steps();
    const bool last_needed = handle.sweep->adds_noise(static_cast<int>(steps - 1));
    if (array.ndim() != 2 || array.shape(1) != W || array.shape(0) < (last_needed ? steps : steps - 1))
      reject("noise: expected shape [steps >= ", last_needed ? steps : steps - 1, ", ", W, "], got ",
             text(Shape(array.shape(), array.shape() + array.ndim())));
    window.noise = {array.data(), origin};
    window.noise_stride = W;
  }
  handle.scales = 0;
  if (!scale.is_none()) {
    const auto array = as_floats(scale, "scale");
    expect(array, {array.size()}, "scale");
    window.scale = {array.data(), scale_origin, repeat};
    handle.scales = array.size();
  }
  handle.sweep->bind(window);
  handle.x = std::move(x);
  handle.mel = std::move(mel);
  handle.noise = std::move(noise);
  handle.scale = std::move(scale);
  handle.samples = W;
  handle.bound = true;
}

// Rejects a window without all the values [first, last) that a tile needs.
void expect_values(const char* name, int64_t first, int64_t last, int64_t origin, int64_t count) {
  if (first < last && (first < origin || last > origin + count))
    reject(name, ": expected a window that holds [", first, ", ", last, "), got [", origin, ", ", origin + count, ")");
}

template <class E>
void advance(SweepHandle<E>& handle, int step, int64_t begin, int64_t rows) {
  const Exclusive exclusive(handle.busy);
  auto& sweep = *handle.sweep;
  const auto& network = sweep.network();
  const auto& window = sweep.window();
  if (step < 0 || step >= sweep.steps())
    reject<py::index_error>("step: expected 0 to ", sweep.steps() - 1, ", got ", step);
  if (rows < 1 || rows % diffwave::kUnit || rows > sweep.tile())
    reject("rows: expected a multiple of 12 up to ", sweep.tile(), ", got ", rows);
  const int64_t consumed = sweep.consumed(step);
  if (consumed > std::numeric_limits<int64_t>::min() ? begin != consumed : begin > 0 || begin <= -rows)
    reject("begin: expected tiles in order, the first of them with sample 0, got ", begin);
  if (!handle.bound) reject("advance: expected a bound window, got none; call bind first");
  const int64_t last = std::min(begin + rows, sweep.length()), first = std::max(begin - network.reach, int64_t{0});
  expect_values("x", first, last, window.x.origin, handle.samples);
  const int64_t repeat = window.scale.repeat;
  if (window.scale.data && first < last)
    expect_values("scale", first / repeat, (last - 1) / repeat + 1, window.scale.origin, handle.scales);
  const int64_t from = network.shared_upsampler() ? std::max(begin, int64_t{0}) : first;
  if (network.bands && step == 0 && from < last) {
    const auto [low, high] = diffwave::frames_of(network.strides, from, last);
    const int64_t end = std::min(high, sweep.length() / network.hop());
    expect_values("mel", std::max(low, int64_t{0}), end, window.mel.first, handle.frames);
  }
  const GilRelease release;
  sweep.advance(step, begin, rows);
}

template <class E>
void end_sweep(SweepHandle<E>& handle, int64_t length) {
  const Exclusive exclusive(handle.busy);
  auto& sweep = *handle.sweep;
  if (length < 1 || length < sweep.consumed(0) || sweep.length() != diffwave::kUnknown)
    reject("length: expected a first length, at or after the tiles so far, got ", length);
  check_reflection(sweep.network(), length);
  sweep.end(length);
}

template <class E>
void check_layer(const diffwave::Network<E>& network, int layer) {
  const int layers = static_cast<int>(network.layers.size());
  if (layer < 0 || layer >= layers) reject<py::index_error>("layer: expected 0 to ", layers - 1, ", got ", layer);
}

template <class E>
Floats upsample_mel(const diffwave::Network<E>& network, int layer, const py::array_t<float>& mel) {
  check_layer(network, layer);
  const diffwave::Mel frames = view(mel, network.bands);
  py::ssize_t length = frames.frames;
  for (int stride : network.strides) length *= stride;
  Floats out({length, static_cast<py::ssize_t>(network.bands)});
  diffwave::run_upsample_mel(network, layer, frames, out.mutable_data());
  return out;
}

template <class E>
Floats project_conditioner(const diffwave::Network<E>& network, int layer, const Floats& mel) {
  check_layer(network, layer);
  expect(mel, {mel.shape(0), network.bands}, "mel");
  Floats out({mel.shape(0), static_cast<py::ssize_t>(2 * network.channels)});
  diffwave::run_project_conditioner(network, layer, mel.data(), mel.shape(0), out.mutable_data());
  return out;
}

template <class E>
Floats input_projection(const diffwave::Network<E>& network, const Floats& x) {
  Floats h({x.size(), static_cast<py::ssize_t>(network.channels)});
  diffwave::run_input_projection(network, x.data(), x.size(), h.mutable_data());
  return h;
}

template <class E>
void residual_block(const diffwave::Network<E>& network, int layer, py::object conditioner, const Floats& d, Floats h,
                    Floats skip) {
  check_layer(network, layer);
  const py::ssize_t L = h.shape(0), C = network.channels;
  expect(h, {L, C}, "h");
  expect(skip, {L, C}, "skip");
  expect(d, {C}, "d");
  const float* values = nullptr;
  if (!conditioner.is_none()) {
    const auto array = as_floats(conditioner, "conditioner");
    expect(array, {L, 2 * C}, "conditioner");
    if (!network.bands && network.int8())
      reject("conditioner: expected None for an int8 network without a mel, got an array");
    values = array.data();
  } else if (network.bands) {
    reject("conditioner: expected an array for a network with a mel, got None");
  }
  const int64_t padding = network.layers[static_cast<size_t>(layer)].dilation;
  if (network.reflect && L <= padding)
    reject("h: expected more samples than the reflected padding of ", padding, ", got ", L);
  diffwave::run_residual_block(network, layer, values, d.data(), L, h.mutable_data(), skip.mutable_data());
}

template <class E>
Floats output_head(const diffwave::Network<E>& network, const Floats& skip) {
  expect(skip, {skip.shape(0), network.channels}, "skip");
  Floats eps(skip.shape(0));
  diffwave::run_output_head(network, skip.data(), skip.shape(0), eps.mutable_data());
  return eps;
}

double peak(const std::string& isa, const std::string& precision, int threads, double seconds) {
  const diffwave::Tier& tier = find_tier(isa);
  const auto in_int8 = tier.bf16.width ? tier.bf16.peak8 : tier.fp32.peak8;
  const auto run = precision == "int8" ? in_int8 : precision == "bf16" ? tier.bf16.peak : tier.fp32.peak;
  if (!run) reject("precision: expected one that tier '", isa, "' has, got ", precision, "; see tiers()");
  const GilRelease release;
  return diffwave::measure_peak(run, threads, seconds);
}

template <class E>
void bind(py::module_& m, const std::string& suffix) {
  using Network = diffwave::Network<E>;
  py::class_<Network, std::shared_ptr<Network>>(m, ("Network_" + suffix).c_str())
      .def(py::init(&make_network<E>), py::arg("isa"), py::arg("arrays"), py::arg("dilations"), py::arg("strides"),
           py::arg("bands"), py::arg("reflect"), py::arg("residual_carries_d"))
      .def_readonly("reach", &Network::reach)
      .def("frames_of",
           [](const Network& n, int64_t begin, int64_t end) { return diffwave::frames_of(n.strides, begin, end); })
      .def(
          "sweep_bytes",
          [](const Network& n, int steps, const py::object& length, int threads, int64_t rows) {
            check_rows(threads, rows);
            return diffwave::Rings<E>(n, static_cast<size_t>(steps), length_or_unknown(length), rows * threads, threads)
                .bytes;
          },
          py::arg("steps"), py::arg("length"), py::arg("threads"), py::arg("rows"))
      .def("upsample_mel", &upsample_mel<E>)
      .def("project_conditioner", &project_conditioner<E>)
      .def("input_projection", &input_projection<E>)
      .def("residual_block", &residual_block<E>, py::arg("layer"), py::arg("conditioner"), py::arg("d"),
           py::arg("h").noconvert(), py::arg("skip").noconvert())
      .def("output_head", &output_head<E>);
  using Handle = SweepHandle<E>;
  py::class_<Handle>(m, ("Sweep_" + suffix).c_str())
      .def(py::init(&make_sweep<E>), py::arg("network"), py::arg("d"), py::arg("coefficients"), py::arg("clamp"),
           py::arg("seed"), py::arg("noise_step"), py::arg("length"), py::arg("threads"), py::arg("rows"),
           py::arg("conditioner_rows") = py::none())
      .def_property_readonly("tile", [](const Handle& h) { return h.sweep->tile(); })
      .def_property_readonly("bytes", [](const Handle& h) { return h.sweep->bytes(); })
      .def("bind", &bind_window<E>, py::arg("x").noconvert(), py::arg("origin") = 0, py::arg("mel") = py::none(),
           py::arg("first_frame") = 0, py::arg("noise") = py::none(), py::arg("scale") = py::none(),
           py::arg("scale_origin") = 0, py::arg("repeat") = 1)
      .def("advance", &advance<E>, py::arg("step"), py::arg("begin"), py::arg("rows"))
      .def("end", &end_sweep<E>, py::arg("length"));
}

}  // namespace

// Needs no GIL: networks do not change after their construction, their pools of memory have a lock, and a sweep rejects
// a second call at once. Constants that are computed at first use are initialized by one thread.
PYBIND11_MODULE(_native, m, py::mod_gil_not_used()) {
  m.doc() = "DiffWave kernels for the CPU; use them through engine.kernels.cpu";
  m.def("tiers", &list_tiers, "(name, supported, requires, precisions) of every tier, slowest first");
  m.def(
      "normal",
      [](uint64_t seed, uint32_t step, int64_t begin, int64_t count) {
        if (begin < 0 || count < 0) reject("normal: expected begin >= 0 and count >= 0, got ", begin, " and ", count);
        Floats out(count);
        float* values = out.mutable_data();
        const GilRelease release;
        diffwave::normal(seed, step, begin, count, values);
        return out;
      },
      py::arg("seed"), py::arg("step"), py::arg("begin"), py::arg("count"));
  m.def("peak", &peak, py::arg("isa"), py::arg("precision"), py::arg("threads"), py::arg("seconds"));
  bind<float>(m, "fp32");
  bind<Bf16>(m, "bf16");
}
