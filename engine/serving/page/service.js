// The routes of the service.
const SUBPROTOCOL = "diffwave.v1";
const PIECE = 64; // frames of a message
export const WHOLE = "griffin-lim"; // the draft that needs the whole mel

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export class Service {
  constructor() {
    this.token = sessionStorage.getItem("token") || "";
  }

  useToken(token) {
    this.token = token;
    sessionStorage.setItem("token", token);
  }

  async fetch(path, options = {}) {
    const headers = { ...options.headers };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    const answer = await fetch(path, { ...options, headers });
    if (answer.ok) return answer;
    const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
    throw new Refused(answer.status, problem.detail);
  }

  async models() {
    return (await this.fetch("/v1/models")).json();
  }

  // The mel of a recording, frame by frame.
  async analyze(wav) {
    const answer = await this.fetch("/v1/mel", {
      method: "POST",
      body: wav,
      headers: { "Content-Type": "audio/wav" },
    });
    return new Float32Array(await answer.arrayBuffer());
  }

  // Audio as it becomes final: calls `take` with the samples of every message, and returns the last message.
  stream(frames, bands, options, take, signal) {
    const protocols = this.token ? [SUBPROTOCOL, `bearer.${this.token}`] : [SUBPROTOCOL];
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/v1/stream`, protocols);
    socket.binaryType = "arraybuffer";
    return new Promise((resolve, reject) => {
      let done = null;
      const stop = () => socket.close(1000);
      signal.addEventListener("abort", stop, { once: true });
      socket.onopen = () => {
        socket.send(JSON.stringify({ ...options, format: "s16" }));
        for (let begin = 0; begin < frames.length; begin += PIECE * bands) {
          socket.send(frames.slice(begin, begin + PIECE * bands));
        }
        socket.send(JSON.stringify({ type: "end" }));
      };
      socket.onmessage = ({ data }) => {
        if (typeof data !== "string") {
          take(new Int16Array(data));
        } else if (JSON.parse(data).type === "done") {
          done = JSON.parse(data);
        }
      };
      socket.onclose = (event) => {
        signal.removeEventListener("abort", stop);
        if (done) resolve(done);
        else if (signal.aborted) reject(signal.reason);
        else reject(new Refused(event.code, event.reason || `the connection ended with code ${event.code}`));
      };
    });
  }

  // The same over HTTP, for a service on a GPU, and for a draft that needs the whole mel.
  async vocode(frames, options, take, signal) {
    const query = new URLSearchParams({ ...options, stream: options.draft === WHOLE ? "0" : "1" });
    const answer = await this.fetch(`/v1/vocode?${query}`, {
      method: "POST",
      body: frames,
      headers: { "Content-Type": "application/octet-stream", Accept: "audio/pcm" },
      signal,
    });
    take(new Int16Array(await answer.arrayBuffer()));
  }

  async samples(path, body, kind, signal) {
    const headers = { Accept: "audio/pcm" };
    if (kind) headers["Content-Type"] = kind;
    const answer = await this.fetch(path, { method: "POST", body, headers, signal });
    return new Int16Array(await answer.arrayBuffer());
  }
}
