// As much of MessagePack as docs/protocol.md needs: nil, bool, integers, float64, str, bin,
// array, map, timestamps, and extension 1 for arrays of numbers.

/** A number that is float64 on the wire though it has no fraction, as 60.0 in Python. */
export class Float {
  constructor(value) {
    this.value = value;
  }
}

// numpy's names of the element types that JavaScript has an array for; "|" is "no byte order"
const TYPED = {
  "|i1": Int8Array, "<i2": Int16Array, "<i4": Int32Array, "<i8": BigInt64Array,
  "|u1": Uint8Array, "<u2": Uint16Array, "<u4": Uint32Array, "<u8": BigUint64Array,
  "<f4": Float32Array, "<f8": Float64Array, "|b1": Uint8Array,
};
const NDARRAY = 1, TIMESTAMP = -1; // the extensions' numbers

/** An array of numbers as numpy has it: `data` are its bytes in C order. */
export class NdArray {
  constructor(dtype, shape, data) {
    Object.assign(this, { dtype, shape, data });
  }

  /** Its numbers, flat: a Float32Array for "<f4", and so on. */
  numbers() {
    const Typed = TYPED[this.dtype];
    if (!Typed) throw new TypeError(`no array of JavaScript holds ${this.dtype}`);
    return new Typed(Uint8Array.from(this.data).buffer); // a copy begins at a fit address
  }
}

/** The bytes of `value`. */
export function encode(value) {
  const parts = [];
  write(value, parts);
  return Buffer.concat(parts);
}

/** The bytes of an array whose items are encoded already. */
export function encodeArray(items) {
  return Buffer.concat([head(items.length, 0x90, 15, [null, 0xdc, 0xdd]), ...items]);
}

function write(value, parts) {
  if (value === null || value === undefined) parts.push(Buffer.of(0xc0));
  else if (value === true) parts.push(Buffer.of(0xc3));
  else if (value === false) parts.push(Buffer.of(0xc2));
  else if (typeof value === "number") parts.push(Number.isSafeInteger(value) ? int(value) : float(value));
  else if (typeof value === "bigint") parts.push(int(value));
  else if (value instanceof Float) parts.push(float(value.value));
  else if (typeof value === "string") {
    const text = Buffer.from(value);
    parts.push(head(text.length, 0xa0, 31, [0xd9, 0xda, 0xdb]), text);
  } else if (value instanceof Uint8Array) {
    parts.push(head(value.length, 0, -1, [0xc4, 0xc5, 0xc6]), value);
  } else if (value instanceof NdArray) {
    const data = encode([value.dtype, value.shape, value.data]);
    parts.push(head(data.length, 0, -1, [0xc7, 0xc8, 0xc9]), Buffer.of(NDARRAY), data);
  } else if (value instanceof Date) {
    parts.push(Buffer.of(0xc7, 12, TIMESTAMP & 0xff), timestamp(value));
  } else if (Array.isArray(value)) {
    parts.push(head(value.length, 0x90, 15, [null, 0xdc, 0xdd]));
    for (const item of value) write(item, parts);
  } else if (typeof value === "object") {
    const pairs = value instanceof Map ? [...value] : Object.entries(value);
    parts.push(head(pairs.length, 0x80, 15, [null, 0xde, 0xdf]));
    for (const pair of pairs) pair.forEach((item) => write(item, parts));
  } else throw new TypeError(`MessagePack has no ${typeof value}`);
}

/** The type and length of what follows: in one byte up to `fits`, else with 1, 2 or 4 more. */
function head(length, short, fits, [tag8, tag16, tag32]) {
  if (length <= fits) return Buffer.of(short | length);
  if (tag8 !== null && length < 2 ** 8) return Buffer.of(tag8, length);
  if (length < 2 ** 16) return Buffer.of(tag16, length >> 8, length & 0xff);
  const bytes = Buffer.alloc(5);
  bytes.writeUInt8(tag32);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

function float(value) {
  const bytes = Buffer.alloc(9);
  bytes.writeUInt8(0xcb);
  bytes.writeDoubleBE(value, 1);
  return bytes;
}

/** Nanoseconds, then seconds: the one form of the three that holds every time. */
function timestamp(date) {
  const seconds = Math.floor(date.getTime() / 1000);
  const bytes = Buffer.alloc(12);
  bytes.writeUInt32BE((date.getTime() - seconds * 1000) * 1e6);
  bytes.writeBigInt64BE(BigInt(seconds), 4);
  return bytes;
}

/** The shortest form of an integer, as everybody's encoder chooses it. */
function int(value) {
  const tagged = (tag, size, method, number) => {
    const bytes = Buffer.alloc(1 + size);
    bytes.writeUInt8(tag);
    bytes[method](number, 1);
    return bytes;
  };
  if (value >= 0) {
    if (value < 2 ** 7) return Buffer.of(Number(value));
    if (value < 2 ** 8) return Buffer.of(0xcc, Number(value));
    if (value < 2 ** 16) return tagged(0xcd, 2, "writeUInt16BE", Number(value));
    if (value < 2 ** 32) return tagged(0xce, 4, "writeUInt32BE", Number(value));
    return tagged(0xcf, 8, "writeBigUInt64BE", BigInt(value));
  }
  if (value >= -(2 ** 5)) return Buffer.of(Number(value) & 0xff);
  if (value >= -(2 ** 7)) return tagged(0xd0, 1, "writeInt8", Number(value));
  if (value >= -(2 ** 15)) return tagged(0xd1, 2, "writeInt16BE", Number(value));
  if (value >= -(2 ** 31)) return tagged(0xd2, 4, "writeInt32BE", Number(value));
  return tagged(0xd3, 8, "writeBigInt64BE", BigInt(value));
}

/** The value that all of `bytes` is. Maps become objects, or Maps if a key is not a string. */
export function decode(bytes, { float = Number } = {}) {
  const reader = new Reader(bytes, float);
  const value = reader.value();
  if (reader.at !== bytes.length) throw new RangeError(`${bytes.length - reader.at} bytes too many`);
  return value;
}

class Reader {
  constructor(bytes, float) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.float = float; // what becomes of a float64: vectors.mjs keeps them apart from integers
    this.at = 0;
  }

  take(length) {
    if (this.at + length > this.bytes.length) throw new RangeError("the bytes end too early");
    return this.bytes.subarray(this.at, (this.at += length));
  }

  uint = (size) => this.take(size).readUIntBE(0, size);
  text = (length) => this.take(length).toString("utf8");
  array = (length) => Array.from({ length }, () => this.value());

  map(length) {
    const pairs = Array.from({ length }, () => [this.value(), this.value()]);
    const plain = pairs.every(([key]) => typeof key === "string");
    return plain ? Object.fromEntries(pairs) : new Map(pairs);
  }

  extension(length) {
    const type = this.take(1).readInt8();
    const data = this.take(length);
    if (type === NDARRAY) return new NdArray(...decode(data));
    if (type !== TIMESTAMP) throw new TypeError(`extension ${type} is unknown`);
    if (length === 4) return new Date(data.readUInt32BE() * 1000);
    // 30 bits of nanoseconds and 34 of seconds; or 32 and 64
    const both = data.readBigUInt64BE();
    const [nanoseconds, seconds] =
      length === 8 ? [both >> 34n, both & 0x3ffffffffn] : [both >> 32n, data.readBigInt64BE(4)];
    return new Date(Number(seconds) * 1000 + Number(nanoseconds) / 1e6);
  }

  value() {
    const tag = this.uint(1);
    if (tag < 0x80) return tag;
    if (tag < 0x90) return this.map(tag & 15);
    if (tag < 0xa0) return this.array(tag & 15);
    if (tag < 0xc0) return this.text(tag & 31);
    if (tag >= 0xe0) return tag - 0x100;
    switch (tag) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return this.take(this.uint(1 << (tag - 0xc4)));
      case 0xc7: case 0xc8: case 0xc9: return this.extension(this.uint(1 << (tag - 0xc7)));
      case 0xca: return this.float(this.take(4).readFloatBE());
      case 0xcb: return this.float(this.take(8).readDoubleBE());
      case 0xcc: case 0xcd: case 0xce: return this.uint(1 << (tag - 0xcc));
      case 0xcf: return exact(this.take(8).readBigUInt64BE());
      case 0xd0: case 0xd1: case 0xd2: {
        const size = 1 << (tag - 0xd0);
        return this.take(size).readIntBE(0, size);
      }
      case 0xd3: return exact(this.take(8).readBigInt64BE());
      case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8:
        return this.extension(1 << (tag - 0xd4));
      case 0xd9: case 0xda: case 0xdb: return this.text(this.uint(1 << (tag - 0xd9)));
      case 0xdc: case 0xdd: return this.array(this.uint(2 << (tag - 0xdc)));
      case 0xde: case 0xdf: return this.map(this.uint(2 << (tag - 0xde)));
      default: throw new TypeError(`0x${tag.toString(16)} is not MessagePack`);
    }
  }
}

/** A number where JavaScript's numbers are exact, which is up to 2^53, and else a BigInt. */
function exact(big) {
  const number = Number(big);
  return Number.isSafeInteger(number) ? number : big;
}
