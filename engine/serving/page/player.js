// Sound through the AudioWorklet: a stream as it comes, or samples that are there.
export class Player {
  constructor(sampleRate) {
    this.sampleRate = sampleRate;
    this.run = 0;
    this.begin = 0;
    this.position = 0;
    this.late = 0; // samples that came after their time
    this.playing = false;
    this.onchange = () => {};
  }

  // Browsers start audio in a handler of a click or key alone, so this is called there.
  async open() {
    if (!this.context) {
      this.context = new AudioContext({ sampleRate: this.sampleRate });
      this.ready = this.context.audioWorklet.addModule("/worklet.js").then(() => {
        this.node = new AudioWorkletNode(this.context, "player", { numberOfInputs: 0, outputChannelCount: [1] });
        this.node.port.onmessage = ({ data }) => this.hear(data);
        this.node.connect(this.context.destination);
      });
    }
    await this.ready;
    if (this.context.state !== "running") await this.context.resume();
  }

  hear(message) {
    if (message.run !== this.run) return;
    if (message.type === "position") [this.position, this.late] = [this.begin + message.played, message.late];
    if (message.type === "ended") this.playing = false;
    this.onchange();
  }

  start(begin = 0) {
    this.run += 1;
    this.begin = this.position = begin;
    this.late = 0;
    this.playing = true;
    this.node.port.postMessage({ type: "reset", run: this.run });
    this.onchange();
  }

  add(samples) {
    if (samples.length) this.node.port.postMessage({ type: "data", run: this.run, samples });
  }

  end() {
    this.node.port.postMessage({ type: "end", run: this.run });
  }

  play(samples, begin = 0) {
    const from = begin < samples.length ? begin : 0;
    this.start(from);
    this.add(samples.slice(from));
    this.end();
  }

  stop() {
    if (!this.node) return;
    this.run += 1;
    this.playing = false;
    this.node.port.postMessage({ type: "reset", run: this.run });
    this.onchange();
  }

  // Decode a file of any format of this browser to one channel at the rate of the voice.
  async decode(bytes) {
    const buffer = await this.context.decodeAudioData(bytes);
    const mono = new Float32Array(buffer.length);
    for (let channel = 0; channel < buffer.numberOfChannels; channel++) {
      const data = buffer.getChannelData(channel);
      for (let i = 0; i < mono.length; i++) mono[i] += data[i] / buffer.numberOfChannels;
    }
    return mono;
  }
}
