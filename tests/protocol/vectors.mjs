// Decode and encode each row of protocol-vectors.json, whose path is the only argument.
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { decode, encode, Float } from "./msgpack.mjs";

// JSON.parse makes 60.0 and 60 the same number; on the wire they are not.
const floats = (text) => text.replace(/(?<=[[ ])-?\d+\.\d+(?=[,\]}])/g, '{"float": $&}');
const revived = (_name, value) => {
  if (value?.float !== undefined) return new Float(value.float);
  return value?.bin === undefined ? value : Buffer.from(value.bin, "hex");
};

const rows = JSON.parse(floats(readFileSync(process.argv[2], "utf8")), revived);
let wrong = 0;
for (const { what, frame, bytes } of rows) {
  const decoded = decode(Buffer.from(bytes, "hex"), { float: (value) => new Float(value) });
  if (isDeepStrictEqual(decoded, frame) && encode(frame).toString("hex") === bytes) continue;
  console.error(`${what}: decoded`, decoded, "encoded", encode(frame).toString("hex"));
  wrong++;
}
console.log(JSON.stringify({ rows: rows.length, wrong }));
process.exitCode = wrong || !rows.length ? 1 : 0;
