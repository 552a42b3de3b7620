// Plays samples as they come. In: {type: "reset"}, {type: "data", samples}, {type: "end"}.
// Out: {type: "position", played, late} twenty times a second, and {type: "ended"}. A sound that comes too late pauses
// until half a second of it is there: one pause in place of many clicks.
const FIRST = 0.1; // seconds
const AGAIN = 0.5;

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
    this.buffered = 0;
    this.waits = FIRST * sampleRate;
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
      this.buffered += message.samples.length;
      this.started = true;
    } else if (message.type === "end") {
      this.complete = true;
    }
  }

  process(inputs, [[output]]) {
    let filled = 0;
    if (this.complete || this.buffered >= this.waits) this.waits = 0;
    while (!this.waits && filled < output.length && this.chunks.length) {
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
    this.buffered -= filled;
    if (this.played && filled < output.length && !this.complete) {
      this.late += output.length - filled;
      this.waits = AGAIN * sampleRate;
    }
    if (this.played - this.reported > sampleRate / 20) {
      this.reported = this.played;
      this.port.postMessage({ type: "position", run: this.run, played: this.played, late: this.late });
    }
    if (this.complete && !this.chunks.length && this.started) {
      this.started = false;
      this.played = 0;
      this.port.postMessage({ type: "ended", run: this.run });
    }
    return true;
  }
}

registerProcessor("player", Player);
