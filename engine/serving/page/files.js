// Files that the page reads and writes: .npy mels in, WAV files out.

// Return {bands, frames, mel}, the mel frame by frame.
export function readNpy(buffer) {
  const bytes = new Uint8Array(buffer);
  const magic = [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59];
  if (!magic.every((value, i) => bytes[i] === value)) throw new Error("expected an .npy file");
  const view = new DataView(buffer);
  const [length, begin] = bytes[6] === 1 ? [view.getUint16(8, true), 10] : [view.getUint32(8, true), 12];
  const header = new TextDecoder("latin1").decode(bytes.subarray(begin, begin + length));
  const kind = /'descr':\s*'([<|=>][a-z]\d+)'/.exec(header)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1].split(",").filter((part) => part.trim()).map(Number) ?? [];
  const types = { "<f4": Float32Array, "<f8": Float64Array };
  if (!(kind in types)) throw new Error(`expected float32 or float64, got ${kind}`);
  if (shape.length === 3 && shape[0] === 1) shape.shift();
  if (shape.length !== 2) throw new Error(`expected a mel [bands, frames], got shape (${shape})`);
  const [bands, frames] = shape;
  const values = new types[kind](buffer.slice(begin + length));
  if (values.length !== bands * frames) throw new Error(`expected ${bands * frames} values, got ${values.length}`);
  const isFortran = /'fortran_order':\s*True/.test(header);
  const mel = new Float32Array(bands * frames);
  for (let frame = 0; frame < frames; frame++) {
    for (let band = 0; band < bands; band++) {
      mel[frame * bands + band] = values[isFortran ? frame * bands + band : band * frames + frame];
    }
  }
  return { bands, frames, mel };
}

// Return a 16-bit WAV file of float samples or 16-bit samples.
export function writeWav(samples, rate) {
  const data = samples instanceof Int16Array ? samples : quantized(samples);
  const buffer = new ArrayBuffer(44 + 2 * data.length);
  const view = new DataView(buffer);
  const text = (at, word) => [...word].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + 2 * data.length, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, 2 * data.length, true);
  data.forEach((value, i) => view.setInt16(44 + 2 * i, value, true));
  return buffer;
}

// Return float samples of 16-bit ones.
export function floats(samples) {
  return Float32Array.from(samples, (value) => value / 32768);
}

function quantized(samples) {
  return Int16Array.from(samples, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32768))));
}
