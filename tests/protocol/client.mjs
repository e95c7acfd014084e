// A client of envhub's native protocol, written from docs/protocol.md. For Node 18 and later,
// without a package.
//
//     const hub = await Hub.connect("http://127.0.0.1:8000");
//     const session = hub.open("echo");
//     await session.reset({ seed: 7 });
//     const { observation, reward } = await session.step({ message: "hi" });
//     await hub.close();
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { decode, encode, encodeArray } from "./msgpack.mjs";
import { Refused, WebSocket } from "./websocket.mjs";

const UNACKNOWLEDGED = 16; // calls of a session, at most
const FRAME_REQUESTS = 8192; // in a frame, at most
const FRAME_BYTES = 16 * 2 ** 20; // of a frame, at most
const CALL_BYTES = FRAME_BYTES - 100; // of an action or options, at most
const GRACE_S = 60; // how long to try to connect again when no session has told its own
const RETRY_S = 1; // the longest pause between two attempts
const OUR_FAULT = [1002, 1007, 1008, 1009]; // codes of a close that the same frame brings again

/** What the hub says instead of an answer. `code` is for programs; see the page's table. */
export class HubError extends Error {
  constructor(code, message, hint = "", details = {}) {
    super(message);
    Object.assign(this, { code, hint, details });
  }
}

// name of a reply that answers a call → what the call's promise becomes
const ANSWERS = {
  observed: (payload, reward, terminated, truncated, metadata, isPart, output) => ({
    observation: decode(payload), reward, terminated, truncated,
    metadata: decode(metadata), isPart, output,
  }),
  finished: () => null,
  read: (payload) => decode(payload),
  described: (title, description, action, observation, state, resetObservation, resetOptions) => ({
    title, description,
    action: JSON.parse(action), observation: JSON.parse(observation),
    state: JSON.parse(state), resetObservation: JSON.parse(resetObservation), resetOptions,
  }),
};

/** A promise and the two functions that settle it. */
function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {}); // nobody need wait for it
  return made;
}

/** One episode after another, in an environment of its own. `Hub.open` makes it. */
export class Session {
  key = randomBytes(32); // whoever knows it has the session
  environment;
  version = null;
  limits = {}; // in force, by name
  process = null; // which isolation is live around the environment
  op = 0; // the number of the last call

  #hub;
  #number;
  #schema;
  #grace_s = GRACE_S;
  #opened = deferred();
  #calls = new Map(); // op → the call, in order, until it is answered
  #bills = []; // those who wait for a bill
  #closed = null; // who waits for the close
  #ended = null; // why there is no session any more

  constructor(hub, number, environment, schema) {
    this.#hub = hub;
    this.#number = number;
    this.environment = environment;
    this.#schema = schema;
    this.#attach();
  }

  /** Fulfilled when the hub has a place. Calls need not wait for it. */
  get opened() {
    return this.#opened.promise;
  }

  /** How long the hub keeps the session when the connection is cut. */
  get grace_s() {
    return this.#grace_s;
  }

  /** Up to which number every call is answered. */
  get acked() {
    const [unanswered = this.op + 1] = this.#calls.keys();
    return unanswered - 1;
  }

  /** Begin an episode. Options are `seed`, `episode_id`, and the environment's own. */
  reset(options = {}) {
    return this.#call("reset", encode(options));
  }

  /** Act: `{observation, reward, terminated, truncated, metadata, isPart, output}`. */
  step(action) {
    return this.#call("step", encode(action), false);
  }

  /** Act, and have each part of the step when it is there. */
  async *stream(action) {
    let part = await this.#call("step", encode(action), true);
    while (part?.isPart) {
      yield part;
      part = await this.#call("continue");
    }
    if (part) yield part;
  }

  state() {
    return this.#call("state");
  }

  describe() {
    return this.#call("describe");
  }

  /** Stop a call, the last one unless told; its promise says what became of it. */
  cancel(op = this.op) {
    const call = this.#calls.get(op);
    if (!call || call.cancelled) return;
    call.cancelled = true;
    if (call.request) this.#hub.send(["cancel", this.#number, op]);
  }

  /** What the session has used, by name. */
  bill() {
    const waiter = deferred();
    if (this.#ended) waiter.reject(this.#ended);
    else {
      this.#bills.push(waiter);
      this.#hub.send(["bill", this.#number]);
    }
    return waiter.promise;
  }

  /** End the session. Calls without an answer fail with `session_closed`. */
  close() {
    if (this.#ended) return Promise.resolve();
    if (!this.#closed) {
      this.#closed = deferred();
      this.#hub.send(["close", this.#number]);
    }
    return this.#closed.promise;
  }

  // What a hub does with its sessions, and nobody else:

  /** Send again all that waits for an answer, over a connection that knows nothing of us. */
  resume() {
    this.#attach();
    for (const call of this.#calls.values()) if (call.request) this.#send(call);
    for (const _ of this.#bills) this.#hub.send(["bill", this.#number]);
    if (this.#closed) this.#hub.send(["close", this.#number]);
  }

  /** Take a reply that is for this session. */
  receive(name, ...fields) {
    if (name === "opened") {
      [this.environment, this.version, , this.#grace_s, this.limits] = fields;
      this.#opened.resolve(this);
      this.#opened.done = true;
    } else if (name === "process") {
      const [pid, tier, launcher, layers, seen, uid, missing] = fields;
      this.process = { pid, tier, launcher, layers, seen, uid, missing };
    } else if (name === "billed") {
      this.#bills.shift()?.resolve(fields[0]);
    } else if (name === "closed") {
      this.end(new HubError("session_closed", "the session was closed"));
    } else if (name === "failed") {
      const [op, ...said] = fields;
      const error = new HubError(...said);
      if (op !== 0) this.#answer(op, (call) => call.reject(error));
      else if (error.code !== "out_of_order") this.end(error);
    } else {
      const [op, ...answer] = fields;
      this.#answer(op, (call) => call.resolve(ANSWERS[name](...answer)));
    }
  }

  /** The session is over: everything that waits fails with `error`. */
  end(error) {
    this.#ended = error;
    this.#hub.forget(this.#number);
    for (const waiter of [this.#opened, ...this.#calls.values(), ...this.#bills])
      waiter.reject(error);
    this.#closed?.resolve(); // gone is what was asked for
    this.#calls.clear();
  }

  /** `open` until it has been answered once: it finds the session if the hub has it already. */
  #attach() {
    if (this.#opened.done) this.#hub.send(["resume", this.#number, this.key]);
    else this.#hub.send(["open", this.#number, this.key, this.environment, this.#schema]);
  }

  #call(name, ...fields) {
    const call = { name, fields, op: 0, request: null, cancelled: false, ...deferred() };
    if (this.#ended) call.reject(this.#ended);
    else if (fields[0]?.length > CALL_BYTES) {
      // the hub would hang up, which is no different from a cut: we would send it for ever
      call.reject(new HubError("usage", `a call has at most ${CALL_BYTES} bytes`));
    } else {
      call.op = ++this.op;
      this.#calls.set(call.op, call);
      this.#sendWhatFits();
    }
    return call.promise;
  }

  /** Send the calls that have not been sent, as many as the hub keeps answers of. */
  #sendWhatFits() {
    const { acked } = this;
    for (const call of this.#calls.values()) {
      if (call.op - acked > UNACKNOWLEDGED) break;
      if (call.request) continue;
      // kept as it is: after a cut the same request is sent again
      call.request = [call.name, this.#number, call.op, acked, ...call.fields];
      this.#send(call);
    }
  }

  #send(call) {
    this.#hub.send(call.request);
    if (call.cancelled) this.#hub.send(["cancel", this.#number, call.op]);
  }

  /** An answer that came twice is for nobody: the first one settled the call. */
  #answer(op, settle) {
    const call = this.#calls.get(op);
    if (!call) return;
    this.#calls.delete(op);
    try {
      settle(call);
    } catch (error) {
      call.reject(error); // what came is nothing that this side can read
    }
    this.#sendWhatFits();
  }
}

/** A connection to a hub, made again when it is cut. */
export class Hub {
  #url;
  #headers;
  #trace;
  #socket = null; // while there is a connection
  #queue = []; // requests that leave together at the end of this turn of the loop
  #sessions = new Map(); // number → session
  #number = 0; // of the last session
  #pause_s = 0; // ahead of the next attempt to connect
  #failure = null; // why there will be no connection any more
  #closing = false;
  #ended = deferred(); // fulfilled when the connection that we close has ended

  /** Connect. `trace(direction, frame)` is shown each frame; `direction` is → or ←, or "cut". */
  static async connect(url, { token = null, trace = () => {} } = {}) {
    const hub = new Hub(url, token, trace);
    await hub.#connect();
    return hub;
  }

  constructor(url, token, trace) {
    this.#url = new URL("/v1/connect", url);
    this.#headers = token === null ? {} : { Authorization: `Bearer ${token}` };
    this.#trace = trace;
  }

  /** Ask for a session. It can be used at once; `await session.opened` waits for its place. */
  open(environment, { schema = "" } = {}) {
    const session = new Session(this, ++this.#number, environment, schema);
    this.#sessions.set(this.#number, session);
    if (this.#failure) session.end(this.#failure);
    return session;
  }

  /**
   * Send all calls that `make` makes in one frame, and return what it returns. In a group
   * (1 to 1,023), answers come when `first` of them are there, and then by `first` again.
   */
  batch({ group, first }, make) {
    this.#flush(); // what was asked before is not of this group
    const made = make();
    this.#flush(group, first);
    return made;
  }

  /** Put a request into the frame that leaves at the end of this turn of the loop. */
  send(request) {
    if (!this.#queue.length) queueMicrotask(() => this.#flush());
    this.#queue.push(request);
  }

  /** Cut the connection, as a broken network does. It is made again at once. */
  cut() {
    this.#socket?.destroy();
  }

  /** Close every session, then the connection. */
  async close() {
    await Promise.all([...this.#sessions.values()].map((session) => session.close()));
    this.#closing = true;
    this.#socket?.close();
    if (this.#socket) await this.#ended.promise;
  }

  /** For a session that has ended. */
  forget(number) {
    this.#sessions.delete(number);
  }

  async #connect() {
    const socket = await WebSocket.connect(this.#url, { protocol: "envhub.v1", headers: this.#headers });
    socket.onmessage = (bytes) => this.#receive(decode(bytes));
    socket.onclose = (code, reason) => this.#lost(code, reason);
    this.#socket = socket;
  }

  #receive(replies) {
    this.#trace("←", replies);
    for (const [name, number, ...fields] of replies) {
      if (name in ANSWERS) this.#pause_s = 0; // the hub is well
      this.#sessions.get(number)?.receive(name, ...fields);
    }
  }

  /** Send the queue; if there is no connection, the sessions know what to send again. */
  #flush(group = 0, first = 0) {
    const requests = this.#queue.splice(0);
    while (this.#socket && requests.length) {
      const [frame, encoded] = [[], []];
      // 32 bytes are more than what is around the requests
      for (let room = FRAME_BYTES - 32; requests.length && frame.length < FRAME_REQUESTS; ) {
        const bytes = encode(requests[0]);
        if ((room -= bytes.length) < 0) break;
        encoded.push(bytes);
        frame.push(requests.shift());
      }
      this.#trace("→", [group, first, frame]);
      this.#socket.send(encodeArray([encode(group), encode(first), encodeArray(encoded)]));
    }
  }

  async #lost(code, reason) {
    this.#socket = null;
    this.#trace("cut", [code, reason]);
    if (this.#closing) return this.#ended.resolve();
    // what the hub called wrong is not right the second time
    let error = new HubError("connection_lost", `${code} ${reason}`);
    let again = !OUR_FAULT.includes(code);
    const grace_s = Math.max(GRACE_S, ...[...this.#sessions.values()].map((s) => s.grace_s));
    const until = Date.now() + grace_s * 1000;
    while (again) {
      await sleep(this.#pause_s * 1000);
      this.#pause_s = Math.min(RETRY_S, this.#pause_s * 2 || 0.05);
      if (this.#closing) return this.#ended.resolve();
      try {
        await this.#connect();
        this.#queue = []; // all of it is in what the sessions send now
        this.#sessions.forEach((session) => session.resume());
        return this.#flush();
      } catch (failure) {
        error = new HubError("connection_lost", failure.message);
        const refused = failure instanceof Refused && failure.status < 500;
        again = !refused && Date.now() < until;
      }
    }
    this.#failure = error;
    this.#sessions.forEach((session) => session.end(error));
  }
}
