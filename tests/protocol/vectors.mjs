// Decode and encode each row of protocol-vectors.json, whose path is the only argument.
import { readFileSync } from "node:fs";
import { isDeepStrictEqual } from "node:util";
import { decode, encode, Float, NdArray } from "./msgpack.mjs";

// what JSON has not, by the name that the file has for it
const KINDS = {
  bin: (hex) => Buffer.from(hex, "hex"),
  float: (number) => new Float(number),
  array: (fields) => new NdArray(...fields),
};
const revived = (_name, value) => {
  const [[kind, content] = []] = Object.entries(value ?? {});
  return Object.hasOwn(KINDS, kind) ? KINDS[kind](content) : value;
};

const rows = JSON.parse(readFileSync(process.argv[2], "utf8"), revived);
let wrong = 0;
for (const { what, frame, value = frame, bytes } of rows) {
  const decoded = decode(Buffer.from(bytes, "hex"), { float: (value) => new Float(value) });
  if (isDeepStrictEqual(decoded, value) && encode(value).toString("hex") === bytes) continue;
  console.error(`${what}: decoded`, decoded, "encoded", encode(value).toString("hex"));
  wrong++;
}
console.log(JSON.stringify({ rows: rows.length, wrong }));
process.exitCode = wrong || !rows.length ? 1 : 0;
