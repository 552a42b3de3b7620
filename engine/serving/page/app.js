// The page: sources, settings, live figures, pictures, and listening in comparison.
import { floats, readNpy, writeWav } from "/files.js";
import { drawImage, drawWave } from "/pictures.js";
import { Player } from "/player.js";
import { Refused, Service, WHOLE } from "/service.js";
import { imageOfMel, onMelAxis, spectrogram } from "/spectrum.js";

const $ = (id) => document.getElementById(id);
const service = new Service();
let vocoder = null;
let generator = null;
let player = null; // of the sound that is heard
const players = new Map(); // one per sample rate
let source = null; // {name, bands, mel, original}
let sounds = {}; // float samples by what the listener chooses
let result = null; // {samples: Int16Array, rate}
let output = new Float32Array(0); // what has come of it
let length = 0; // samples of the whole output
let running = null; // an AbortController
let recorder = null;
let usualSteps = "fast";
let images = { input: null, output: null };

function say(text) {
  $("message").textContent = text;
}

function explain(error) {
  if (error.name === "AbortError") return;
  say(error instanceof Refused ? `${error.status}: ${error.message}` : String(error.message || error));
}

// Make the player of a sample rate the one that is heard.
function choosePlayer(rate) {
  if (player && player.sampleRate !== rate) player.stop();
  if (!players.has(rate)) {
    players.set(rate, new Player(rate));
    players.get(rate).onchange = change;
  }
  player = players.get(rate);
}

function change() {
  $("result").dataset.played = player.position; // for tests
  $("toggle").textContent = player.playing ? "Pause" : "Play";
  $("stop").disabled = !player.playing && !running;
  $("note").hidden = !player.late;
  draw();
}

// Run work of a click; one at a time.
async function during(rate, work) {
  running?.abort(new DOMException("stopped", "AbortError"));
  const controller = (running = new AbortController());
  say("");
  $("stop").disabled = false;
  try {
    choosePlayer(rate);
    await player.open();
    await work(controller.signal);
  } catch (error) {
    if (!controller.signal.aborted) {
      player.stop();
      explain(error);
    }
  } finally {
    if (running === controller) {
      running = null;
      $("stop").disabled = !player.playing;
    }
  }
}

function options() {
  const chosen = { seed: Number($("seed").value) || 0, steps: $("steps").value };
  if ($("precision").value) chosen.precision = $("precision").value;
  if ($("draft").value) chosen.draft = $("draft").value;
  if ($("match").value) chosen.match_mel = $("match").value;
  return chosen;
}

// Play audio as it comes and show it; `produce` calls back with 16-bit samples.
async function perform(expected, rate, signal, produce) {
  const begin = performance.now();
  const parts = [];
  let [count, first] = [0, 0];
  const all = new Float32Array(expected);
  [length, result, output] = [expected, null, all.subarray(0, 0)];
  sounds = { original: source?.original };
  images.output = null;
  show(0, 0, 0);
  player.start();
  const take = (samples) => {
    if (signal.aborted) return;
    first ||= performance.now() - begin;
    const heard = floats(samples);
    all.set(heard.subarray(0, Math.max(0, expected - count)), count);
    count += samples.length;
    parts.push(samples);
    player.add(heard);
    show(count / rate, (performance.now() - begin) / 1000, first / 1000);
    output = all.subarray(0, count);
    draw();
  };
  const done = await produce(take);
  player.end();
  const samples = new Int16Array(count);
  parts.reduce((at, part) => (samples.set(part, at), at + part.length), 0);
  [result, length] = [{ samples, rate }, count];
  sounds.voice = output = all.subarray(0, count);
  show(count / rate, done?.work_seconds ?? (performance.now() - begin) / 1000, first / 1000);
  images.output = onMelAxis(spectrogram(sounds.voice), rate);
  offer();
  draw();
  window.dispatchEvent(new CustomEvent("diffwave-done", { detail: { samples, rate } }));
}

function show(audio, work, first) {
  $("audio-seconds").textContent = `${audio.toFixed(2)} s`;
  $("work-seconds").textContent = `${work.toFixed(2)} s`;
  $("factor").textContent = audio ? (work / audio).toFixed(2) : "–";
  $("speed").textContent = audio ? `${(audio / work).toFixed(2)}x real time` : "–";
  $("first").textContent = first ? `${first.toFixed(2)} s` : "–";
}

// Enable what can be heard.
function offer() {
  $("compare").disabled = false;
  const able = { voice: true, original: Boolean(sounds.original), griffin: Boolean(source && vocoder?.griffin_lim) };
  for (const input of document.querySelectorAll("input[name=listen]")) {
    input.disabled = !able[input.value];
    input.parentElement.classList.toggle("off", input.disabled);
  }
  document.querySelector("input[value=voice]").checked = true;
  URL.revokeObjectURL($("save").href);
  $("save").href = URL.createObjectURL(new Blob([writeWav(result.samples, result.rate)], { type: "audio/wav" }));
  $("save").hidden = false;
}

function draw() {
  const position = player?.playing ? player.position : -1;
  const original = source?.original;
  $("input").hidden = result !== null && !source;
  $("in-wave").hidden = Boolean(source && !original);
  drawWave($("in-wave"), original ?? [], original?.length ?? 0);
  drawImage($("in-image"), images.input);
  drawWave($("out-wave"), output, length, position);
  drawImage($("out-image"), images.output);
}

async function vocode(signal) {
  const { bands, mel } = source;
  await perform((mel.length / bands) * vocoder.mel.hop, vocoder.sample_rate, signal, (take) =>
    vocoder.streams && $("draft").value !== WHOLE
      ? service.stream(mel, bands, options(), take, signal)
      : service.vocode(mel, options(), take, signal),
  );
}

async function useMel(name, buffer, signal) {
  const { bands, mel } = readNpy(buffer);
  if (bands !== vocoder.mel.bands) throw new Error(`${name}: expected ${vocoder.mel.bands} bands, got ${bands}`);
  await use({ name, bands, mel, original: null }, signal);
}

async function useRecording(name, bytes, signal) {
  if (!vocoder.recordings) throw new Error(`${name}: this voice takes mels only`);
  const original = await player.decode(bytes);
  const mel = await service.analyze(writeWav(original, vocoder.sample_rate));
  await use({ name, bands: vocoder.mel.bands, mel, original }, signal);
}

async function use(chosen, signal) {
  source = chosen;
  images.input = source.original
    ? onMelAxis(spectrogram(source.original), vocoder.sample_rate)
    : imageOfMel(source.mel, source.bands);
  $("in-caption").textContent = `Input: ${source.name}${source.original ? "" : ", a mel"}`;
  $("out-caption").textContent = `Output: 0 to ${vocoder.sample_rate / 2000} kHz on a mel axis`;
  $("again").disabled = false;
  [sounds, result, output, images.output] = [{}, null, new Float32Array(0), null];
  draw();
  await vocode(signal);
}

async function useFile(file) {
  await during(vocoder.sample_rate, async (signal) => {
    const bytes = await file.arrayBuffer();
    const isNpy = new Uint8Array(bytes)[0] === 0x93;
    await (isNpy ? useMel(file.name, bytes, signal) : useRecording(file.name, bytes, signal));
  });
}

async function record() {
  if (recorder) return recorder.stop();
  await during(vocoder.sample_rate, async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false } });
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = ({ data }) => parts.push(data);
    recorder.onstop = () => {
      recorder = null;
      $("record").textContent = "Record";
      stream.getTracks().forEach((track) => track.stop());
      useFile(new File(parts, "recording"));
    };
    recorder.start();
    $("record").textContent = "Stop recording";
  });
}

async function generate(label) {
  await during(generator.sample_rate, async (signal) => {
    const chosen = new URLSearchParams({ label, seed: $("seed").value || 0, steps: $("steps").value });
    source = null;
    images.input = null;
    $("out-caption").textContent = `Output: ${label || "generated"}, 0 to ${generator.sample_rate / 2000} kHz on a mel axis`;
    $("again").disabled = true;
    const expected = Math.round((generator.clip_seconds ?? 1) * generator.sample_rate);
    await perform(expected, generator.sample_rate, signal, async (take) =>
      take(await service.samples(`/v1/generate?${chosen}`, null, null, signal)),
    );
  });
}

// Change to another sound at the same place.
async function listen(kind, begin) {
  if (kind === "griffin" && !sounds.griffin) {
    await during(player.sampleRate, async (signal) => {
      const answer = await service.samples("/v1/griffin-lim", source.mel, "application/octet-stream", signal);
      sounds.griffin = floats(answer);
      player.play(sounds.griffin, begin);
    });
    return;
  }
  await player.open();
  player.play(sounds[kind], begin);
}

function chosen() {
  return document.querySelector("input[name=listen]:checked").value;
}

function fill(select, values, selected) {
  select.replaceChildren(...values.map(([value, text]) => new Option(text, value, false, value === selected)));
}

// A draft is refined by the last steps of the fast schedule, two where the listener chooses no other number.
function drafted() {
  const [steps, isDrafted] = [$("steps"), Boolean($("draft").value)];
  const most = vocoder?.draft_steps ?? 0; // "full" and the numbers above are not among them
  for (const option of steps.options) {
    option.disabled = isDrafted && option.value !== "fast" && !(Number(option.value) <= most);
  }
  if (isDrafted) steps.value = [...steps.options].some((option) => option.value === "2") ? "2" : "fast";
  else steps.value = usualSteps;
}

async function connect() {
  let answer;
  try {
    answer = await service.models();
  } catch (error) {
    if (error.status !== 401) throw error;
    $("token-form").hidden = false;
    $("about").textContent = "This service needs a token";
    return;
  }
  $("token-form").hidden = true;
  vocoder = answer.models.find((model) => model.kind === "vocoder") ?? null;
  generator = answer.models.find((model) => model.kind === "generator") ?? null;
  const main = vocoder ?? generator;
  choosePlayer(main.sample_rate);
  $("about").textContent = `${main.id}: ${main.sample_rate} Hz, ${main.precision} on ${main.device}, threads per call: ${main.threads}`;
  const numbers = main.steps.map((count) => [String(count), String(count)]);
  fill($("steps"), [["fast", "fast"], ...numbers, ["full", "full"]], String(answer.steps));
  usualSteps = String(answer.steps);
  const drafts = vocoder?.drafts ?? [];
  fill($("draft"), [["", "none"], ...drafts.map((name) => [name, name])], "");
  $("draft-label").hidden = !drafts.length;
  $("match-label").hidden = !vocoder?.recordings;
  drafted();
  fill($("precision"), (vocoder?.precisions ?? []).map((name) => [name, name]), main.precision);
  $("vocoder").hidden = !vocoder;
  $("generator").hidden = !generator;
  $("record").disabled = !vocoder?.recordings;
  const labels = generator ? (generator.labels.length ? generator.labels : [""]) : [];
  $("labels").replaceChildren(
    ...labels.map((label) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label || "Generate";
      button.addEventListener("click", () => generate(label));
      return button;
    }),
  );
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  service.useToken($("token").value.trim());
  connect().catch(explain);
});
$("demo").addEventListener("click", () =>
  during(vocoder.sample_rate, async (signal) => useMel("demo", await (await service.fetch("/demo.npy")).arrayBuffer(), signal)),
);
$("file").addEventListener("change", ({ target }) => target.files.length && useFile(target.files[0]));
$("record").addEventListener("click", record);
$("draft").addEventListener("change", drafted);
$("again").addEventListener("click", () => during(vocoder.sample_rate, vocode));
$("stop").addEventListener("click", () => {
  running?.abort(new DOMException("stopped", "AbortError"));
  player.stop();
});
$("toggle").addEventListener("click", async () => {
  if (player.playing) player.stop();
  else await listen(chosen(), player.position);
});
for (const input of document.querySelectorAll("input[name=listen]")) {
  input.addEventListener("change", () => listen(input.value, player.playing ? player.position : 0).catch(explain));
}
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files.length) useFile(event.dataTransfer.files[0]);
  });
}
window.addEventListener("resize", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
connect().catch(explain);
