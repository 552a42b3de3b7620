// Waveforms and spectrograms on canvases.
const STOPS = [[0, 0, 4], [40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];

const COLORS = Uint8ClampedArray.from({ length: 256 * 3 }, (_, i) => {
  const place = (Math.floor(i / 3) / 255) * (STOPS.length - 1);
  const [from, part] = [Math.min(Math.floor(place), STOPS.length - 2), i % 3];
  return STOPS[from][part] + (STOPS[from + 1][part] - STOPS[from][part]) * (place - from);
});

function sized(canvas) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  return [context, width, height];
}

// Draw float samples; `length` is that of the whole sound, which may still be on its way.
export function drawWave(canvas, samples, length, position = -1) {
  const [context, width, height] = sized(canvas);
  if (!length) return;
  const style = getComputedStyle(canvas);
  context.fillStyle = style.getPropertyValue("--wave");
  const middle = height / 2;
  for (let x = 0; x < width; x++) {
    const [begin, end] = [Math.floor((x * length) / width), Math.floor(((x + 1) * length) / width)];
    if (begin >= samples.length) break;
    let peak = 0;
    for (let i = begin; i < Math.min(Math.max(end, begin + 1), samples.length); i++) peak = Math.max(peak, Math.abs(samples[i]));
    const size = Math.max(1, peak * height);
    context.fillRect(x, middle - size / 2, 1, size);
  }
  if (position >= 0) {
    context.fillStyle = style.getPropertyValue("--text");
    context.fillRect(Math.round((position / length) * width), 0, Math.max(1, width / 600), height);
  }
}

// Draw values 0 to 1, frame by frame, the lowest band at the bottom.
export function drawImage(canvas, image) {
  const [context, width, height] = sized(canvas);
  if (!image || !image.frames || !width || !height) return;
  const pixels = context.createImageData(width, height);
  for (let x = 0; x < width; x++) {
    const frame = Math.min(image.frames - 1, Math.floor((x * image.frames) / width));
    for (let y = 0; y < height; y++) {
      const band = Math.min(image.bands - 1, Math.floor(((height - 1 - y) * image.bands) / height));
      const color = 3 * Math.round(255 * image.values[frame * image.bands + band]);
      const at = 4 * (y * width + x);
      pixels.data[at] = COLORS[color];
      pixels.data[at + 1] = COLORS[color + 1];
      pixels.data[at + 2] = COLORS[color + 2];
      pixels.data[at + 3] = 255;
    }
  }
  context.putImageData(pixels, 0, 0);
}
