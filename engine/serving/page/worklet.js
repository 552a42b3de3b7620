// Plays samples as they come. In: {type: "reset"}, {type: "data", samples}, {type: "end"}.
// Out: {type: "position", played, late} twenty times a second, and {type: "ended"}.
class Player extends AudioWorkletProcessor {
  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.take(data);
    this.reset();
  }

  reset() {
    this.chunks = [];
    this.offset = 0;
    this.played = 0;
    this.late = 0;
    this.started = false;
    this.complete = false;
    this.reported = 0;
    this.run = 0;
  }

  take(message) {
    if (message.type === "reset") {
      this.reset();
      this.run = message.run;
    } else if (message.run !== this.run) {
      return; // of a sound that was stopped
    } else if (message.type === "data") {
      this.chunks.push(message.samples);
      this.started = true;
    } else if (message.type === "end") {
      this.complete = true;
    }
  }

  process(inputs, [[output]]) {
    let filled = 0;
    while (filled < output.length && this.chunks.length) {
      const chunk = this.chunks[0];
      const count = Math.min(chunk.length - this.offset, output.length - filled);
      output.set(chunk.subarray(this.offset, this.offset + count), filled);
      filled += count;
      this.offset += count;
      if (this.offset === chunk.length) {
        this.chunks.shift();
        this.offset = 0;
      }
    }
    this.played += filled;
    if (this.started && filled < output.length && !this.complete) this.late += output.length - filled;
    if (this.played - this.reported > sampleRate / 20) {
      this.reported = this.played;
      this.port.postMessage({ type: "position", run: this.run, played: this.played, late: this.late });
    }
    if (this.complete && !this.chunks.length && this.started) {
      this.started = false;
      this.port.postMessage({ type: "ended", run: this.run });
    }
    return true;
  }
}

registerProcessor("player", Player);
