// A WebSocket client (RFC 6455) for binary messages, over node:http. Node has one of its own
// from version 22 on, which cannot send an Authorization header.
import { createHash, randomBytes } from "node:crypto";
import * as http from "node:http";
import * as https from "node:https";

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // the RFC's
const CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;
const PROTOCOL_ERROR = 1002, ABNORMAL = 1006;

/** The server answered the handshake with something else than a WebSocket. */
export class Refused extends Error {
  constructor(status, body) {
    super(`the server answered ${status}: ${body}`);
    this.status = status;
  }
}

export class WebSocket {
  /** Called with each binary message. */
  onmessage = (_bytes) => {};
  /** Called once, when the connection has ended; 1006 if there was no goodbye. */
  onclose = (_code, _reason) => {};

  #socket;
  #chunks = []; // what has arrived and is not read yet,
  #held = 0; // and how many bytes that is
  #frames; // the generator that reads frames,
  #wanted; // and how many bytes it waits for
  #fragments = [];
  #opcode = null; // of the message that #fragments begin, if one has begun
  #farewell = [ABNORMAL, "the connection was cut"];
  #closing = false;

  /** Connect; `quiet_s` without a byte from the server ends the connection. */
  static connect(url, { protocol, headers = {}, quiet_s = 45 }) {
    const key = randomBytes(16).toString("base64");
    const accept = createHash("sha1").update(key + GUID).digest("base64");
    return new Promise((resolve, reject) => {
      const address = new URL(url);
      const request = (address.protocol === "https:" ? https : http).get(address, {
        agent: false, // a connection of its own
        headers: {
          ...headers,
          Connection: "Upgrade",
          Upgrade: "websocket",
          "Sec-WebSocket-Version": "13",
          "Sec-WebSocket-Key": key,
          "Sec-WebSocket-Protocol": protocol,
        },
      });
      request.on("error", reject);
      request.on("response", async (response) => {
        let body = "";
        for await (const chunk of response.setEncoding("utf8")) body += chunk;
        reject(new Refused(response.statusCode, body));
      });
      request.on("upgrade", ({ statusCode, headers: said }, socket, head) => {
        if (said["sec-websocket-accept"] === accept && said["sec-websocket-protocol"] === protocol)
          return resolve(new WebSocket(socket, head, quiet_s));
        socket.destroy();
        reject(new Refused(statusCode, "its handshake is not that of a WebSocket"));
      });
    });
  }

  constructor(socket, head, quiet_s) {
    this.#socket = socket;
    this.#frames = this.#read();
    this.#wanted = this.#frames.next().value;
    socket.setNoDelay(true);
    socket.setTimeout(quiet_s * 1000, () => socket.destroy());
    socket.on("error", (error) => (this.#farewell = [ABNORMAL, error.message]));
    socket.on("close", () => this.onclose(...this.#farewell));
    socket.on("data", (chunk) => this.#take(chunk));
    // what came with the handshake is read after the caller has set `onmessage`
    if (head.length) socket.unshift(head);
  }

  send(bytes) {
    this.#send(BINARY, bytes);
  }

  /** Say goodbye; `onclose` is called when the server has, too. */
  close(code = 1000, reason = "") {
    if (this.#closing) return;
    const status = Buffer.alloc(2);
    status.writeUInt16BE(code);
    this.#send(CLOSE, Buffer.concat([status, Buffer.from(reason)]));
    this.#closing = true;
    setTimeout(() => this.#socket.destroy(), 5000).unref();
  }

  /** End the connection without a word, as a broken network does. */
  destroy() {
    this.#socket.destroy();
  }

  #send(opcode, payload) {
    if (this.#closing || this.#socket.destroyed) return;
    const length = payload.length;
    const extra = length < 126 ? 0 : length < 2 ** 16 ? 2 : 8;
    const frame = Buffer.alloc(2 + extra + 4 + length);
    frame[0] = 0x80 | opcode; // whole: we never send fragments
    frame[1] = 0x80 | { 0: length, 2: 126, 8: 127 }[extra]; // masked, as a client must
    if (extra === 2) frame.writeUInt16BE(length, 2);
    if (extra === 8) frame.writeBigUInt64BE(BigInt(length), 2);
    const mask = randomBytes(4);
    mask.copy(frame, 2 + extra);
    const start = 2 + extra + 4;
    for (let i = 0; i < length; i++) frame[start + i] = payload[i] ^ mask[i & 3];
    this.#socket.write(frame);
  }

  #take(chunk) {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    while (this.#held >= this.#wanted && !this.#socket.destroyed) {
      // only when there is enough: a long message in many chunks is copied once
      const all = this.#chunks.length === 1 ? this.#chunks[0] : Buffer.concat(this.#chunks);
      const bytes = all.subarray(0, this.#wanted);
      this.#chunks = [all.subarray(this.#wanted)];
      this.#held -= this.#wanted;
      this.#wanted = this.#frames.next(bytes).value;
    }
  }

  /** Read frames: yields how many bytes it needs, and is given them. */
  *#read() {
    for (;;) {
      const [first, second] = yield 2;
      let length = second & 0x7f; // a server does not mask, so the bit above is 0
      if (first & 0x70 || second & 0x80) this.#fail("a frame with unknown bits");
      if (length === 126) length = (yield 2).readUInt16BE();
      else if (length === 127) length = Number((yield 8).readBigUInt64BE());
      this.#frame(Boolean(first & 0x80), first & 15, yield length);
    }
  }

  #frame(final, opcode, payload) {
    if (opcode === PING) return this.#send(PONG, payload);
    if (opcode === PONG) return;
    if (opcode === CLOSE) {
      const code = payload.length < 2 ? 1005 : payload.readUInt16BE();
      this.#farewell = [code, payload.subarray(2).toString()];
      this.close(code === 1005 ? 1000 : code);
      return void this.#socket.end();
    }
    if ((opcode === CONTINUATION) === (this.#opcode === null)) return this.#fail("a fragment out of place");
    if (opcode !== CONTINUATION) this.#opcode = opcode;
    this.#fragments.push(payload);
    if (!final) return;
    const [message, of] = [Buffer.concat(this.#fragments), this.#opcode];
    [this.#fragments, this.#opcode] = [[], null];
    if (of !== BINARY) return this.#fail(of === TEXT ? "a text message" : `a frame of kind ${of}`);
    this.onmessage(message);
  }

  #fail(reason) {
    this.#farewell = [PROTOCOL_ERROR, `the server sent ${reason}`];
    this.#socket.destroy();
  }
}
