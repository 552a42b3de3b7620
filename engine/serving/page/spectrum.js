// Magnitudes of short-time spectra, for the pictures.
const SIZE = 1024;
const HOP = 256;
const FLOOR = -90; // dB

const WINDOW = Float32Array.from({ length: SIZE }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / SIZE));
const COS = Float32Array.from({ length: SIZE / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / SIZE));
const SIN = Float32Array.from({ length: SIZE / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / SIZE));

// Transform in place: radix 2, decimation in time.
export function fft(re, im) {
  const size = re.length;
  for (let i = 1, j = 0; i < size; i++) {
    let bit = size >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      [re[i], re[j]] = [re[j], re[i]];
      [im[i], im[j]] = [im[j], im[i]];
    }
  }
  for (let span = 1; span < size; span <<= 1) {
    const step = SIZE / (2 * span);
    for (let begin = 0; begin < size; begin += 2 * span) {
      for (let k = 0; k < span; k++) {
        const [c, s, a, b] = [COS[k * step], SIN[k * step], begin + k, begin + k + span];
        const [x, y] = [re[b] * c - im[b] * s, re[b] * s + im[b] * c];
        [re[b], im[b]] = [re[a] - x, im[a] - y];
        re[a] += x;
        im[a] += y;
      }
    }
  }
}

// Return {frames, bands, values} of float samples, values 0 to 1, frame by frame, lowest frequency first.
export function spectrogram(samples) {
  const frames = Math.max(1, Math.ceil(samples.length / HOP));
  const bands = SIZE / 2;
  const values = new Float32Array(frames * bands);
  const re = new Float32Array(SIZE);
  const im = new Float32Array(SIZE);
  for (let frame = 0; frame < frames; frame++) {
    const begin = frame * HOP - SIZE / 2;
    for (let i = 0; i < SIZE; i++) {
      re[i] = (samples[begin + i] ?? 0) * WINDOW[i];
      im[i] = 0;
    }
    fft(re, im);
    for (let band = 0; band < bands; band++) {
      const decibels = 20 * Math.log10(Math.hypot(re[band], im[band]) / (SIZE / 4) + 1e-9);
      values[frame * bands + band] = Math.min(1, Math.max(0, 1 - decibels / FLOOR));
    }
  }
  return { frames, bands, values };
}

// Return a spectrogram on the axis of a mel, the brightest value 1: each band has the maximum of its frequencies.
export function onMelAxis({ frames, bands, values }, rate, count = 160) {
  const top = 1127 * Math.log1p(rate / 2 / 700);
  const edges = Array.from({ length: count + 1 }, (_, i) => (700 * Math.expm1((i / count) * top / 1127) * bands) / (rate / 2));
  const brightest = values.reduce((most, value) => Math.max(most, value), 1e-9);
  const mapped = new Float32Array(frames * count);
  for (let frame = 0; frame < frames; frame++) {
    for (let band = 0; band < count; band++) {
      const end = Math.max(Math.floor(edges[band]) + 1, Math.ceil(edges[band + 1]));
      let most = 0;
      for (let bin = Math.floor(edges[band]); bin < Math.min(end, bands); bin++) {
        most = Math.max(most, values[frame * bands + bin]);
      }
      mapped[frame * count + band] = most / brightest;
    }
  }
  return { frames, bands: count, values: mapped };
}

// Return the same form of a mel, scaled to 0 to 1.
export function imageOfMel(mel, bands) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of mel) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const values = Float32Array.from(mel, (value) => (high > low ? (value - low) / (high - low) : 0));
  return { frames: mel.length / bands, bands, values };
}
