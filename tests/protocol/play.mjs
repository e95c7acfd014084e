// Play with a server of `echo`, `coding` and `doubling`, whose address is the only argument.
// Each line printed is a fact, as JSON; test_javascript.py says which ones it wants to see.
import { Hub } from "./client.mjs";
import { NdArray } from "./msgpack.mjs";

const frames = []; // all that was sent and received, as [direction, frame]
let arrived = () => {};
const hub = await Hub.connect(process.argv[2], {
  trace(direction, frame) {
    frames.push([direction, frame]);
    queueMicrotask(arrived); // after the client has taken it
  },
});

const fact = (name, said) => console.log(JSON.stringify({ fact: name, ...said }));
const code = (promise) => promise.then(() => "answered", (error) => error.code);

/** The replies that have come since frame `start` and fit; waits until there are `count`. */
async function replies(start, count, fits) {
  for (;;) {
    const came = frames.slice(start).filter(([way]) => way === "←").flatMap(([, frame]) => frame);
    const found = came.filter(fits);
    if (found.length >= count) return found;
    await new Promise((resolve) => (arrived = resolve));
  }
}

/** The last request of this name that was sent. */
function sent(name) {
  const all = frames.filter(([way]) => way === "→").flatMap(([, [, , requests]]) => requests);
  return all.filter(([of]) => of === name).at(-1);
}

const echo = hub.open("echo");
const coding = hub.open("coding");
await Promise.all([echo.opened, coding.opened]);
fact("opened", { environments: [echo.environment, coding.environment], step_s: coding.limits.step_s });

const first = await echo.reset({ seed: 7 });
fact("reset", { message: first.observation.message, reward: first.reward, isolated: echo.process.layers.includes("seccomp") });
await coding.reset({ seed: 7 });
const second = await echo.step({ message: "hi" });
fact("step", { message: second.observation.message, reward: second.reward, terminated: second.terminated });
const { title, action, resetOptions } = await echo.describe();
fact("describe", { title, properties: Object.keys(action.properties), resetOptions });

// twenty calls at once are more than the hub keeps answers of: the client holds some back
const many = await Promise.all(Array.from({ length: 20 }, (_, i) => echo.step({ message: "x".repeat(i) })));
fact("many", { rewards: many.map(({ reward }) => reward) });

// What it has used, asked once with a cut behind the question.
{
  const bill = echo.bill();
  await Promise.resolve(); // the request leaves with this turn of the loop
  hub.cut();
  const { calls, wall_s } = await bill;
  fact("bill", { calls, wall: wall_s > 0, later: (await echo.bill()).calls });
}

// The same call once more, while its answer is not acknowledged: answered, not carried out.
{
  const before = await echo.state();
  await echo.step({ message: "twice" });
  const start = frames.length;
  const request = sent("step");
  hub.send(request);
  const [again] = await replies(start, 1, ([name, , op]) => name === "observed" && op === request[2]);
  const after = await echo.state();
  fact("twice", { reward: again[4], counted: after.step_count - before.step_count });
}

// A cut in the middle of a step. That of `echo` was in the same frame and is answered when the
// other is under way; if that one was answered as well by then, the next one takes longer.
for (let seconds = 0.5, cut = false; !cut; seconds *= 2) {
  await coding.reset({ seed: 7 });
  let answered = false;
  const step = coding.step({ code: `import time\ntime.sleep(${seconds})\nprint("once")` });
  step.then(() => (answered = true));
  await echo.state();
  cut = !answered;
  const start = frames.length;
  hub.cut();
  const { observation } = await step;
  const { step_count } = await coding.state();
  const resent = frames.slice(start).filter(([way]) => way === "→").flatMap(([, [, , all]]) => all);
  if (cut)
    fact("cut", {
      stdout: observation.stdout, step_count,
      resent: resent.filter(([, number]) => number === 2).slice(0, 2).map(([name]) => name),
      echo_goes_on: (await echo.step({ message: "still here" })).reward,
    });
}

// A batch of three of which two are awaited: the third runs until it is cancelled.
{
  const other = hub.open("echo");
  await other.reset();
  const start = frames.length;
  const [slow, ...quick] = hub.batch({ group: 1, first: 2 }, () => [
    coding.step({ code: "while True: pass" }),
    echo.step({ message: "a" }),
    other.step({ message: "bc" }),
  ]);
  const rewards = (await Promise.all(quick)).map(({ reward }) => reward);
  const received = frames.slice(start).filter(([way]) => way === "←").map(([, frame]) => frame.length);
  fact("batch", { rewards, received });

  coding.cancel();
  const error = await slow.catch((failure) => failure);
  fact("cancelled", { code: error.code, verdict: error.details.verdict });
  fact("after_cancel", { step: await code(coding.step({ code: "1" })) });
  await coding.reset({ seed: 7 });
  const { observation } = await coding.step({ code: "print(6 * 7)" });
  fact("begun_again", { stdout: observation.stdout });

  // of two calls at once the second has not begun
  const running = coding.step({ code: "while True: pass" });
  const waiting = coding.step({ code: "1" });
  coding.cancel(); // the last
  fact("cancelled_waiting", { code: await code(waiting) });
  const closed = other.close();
  const late = [await closed.then(() => "closed"), await code(other.state())];
  fact("closed", { late });
  coding.close();
  fact("closed_running", { code: await code(running) });
}

// Arrays, and a step in parts.
{
  const doubling = hub.open("doubling");
  const { observation } = await doubling.reset({ seed: 3 });
  const { dtype, shape } = observation.numbers;
  fact("array", { dtype, shape, numbers: [...observation.numbers.numbers()] });
  const numbers = new NdArray("<f8", [2], Buffer.from(Float64Array.of(1, 0.5).buffer));
  const parts = [];
  for await (const part of doubling.stream({ numbers, parts: 3 }))
    parts.push([...part.observation.numbers.numbers(), part.isPart]);
  const { step_count } = await doubling.state();
  const last = await doubling.step({ numbers, parts: 3 });
  fact("parts", { parts, step_count, last: [...last.observation.numbers.numbers()] });
}

// Errors say what went wrong, and nothing has happened.
{
  const unknown = await hub.open("ecko").opened.catch((error) => error);
  fact("unknown_environment", { code: unknown.code, hint: unknown.hint });
  const invalid = await echo.step({ massage: "hi" }).catch((error) => error);
  fact("invalid_action", { code: invalid.code, missing: JSON.parse(invalid.details.detail)[0].loc });
  fact("invalid_option", { code: await code(echo.reset({ sneed: 1 })) });
  fact("too_long", { code: await code(echo.step({ message: "x".repeat(2 ** 24) })) });

  await echo.state();
  const [, number, op, acked] = sent("state");
  const start = frames.length;
  hub.send(["state", number, op + 5, acked]);
  const [[, , of, why]] = await replies(start, 1, ([name]) => name === "failed");
  fact("out_of_order", { code: why, gap: of - op, goes_on: (await echo.step({ message: "ok" })).reward });
}

await hub.close();
fact("end", { ways: [...new Set(frames.map(([way]) => way))] });
