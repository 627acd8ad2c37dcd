// QR codes (ISO/IEC 18004), error correction level L, in alphanumeric mode where that is enough and byte mode else.
//
// `modules(text)` gives rows of true and false; `qr(text)` draws them.

import { svg } from "./dom.js";

export const ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:";

// By version (1 to 40) at level L: error correction bytes a block, and blocks.
const EC_BYTES = [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30, 30, 26, 28, 30, 30, 30, 30,
  30, 30, 30, 30, 30, 30, 30, 30, 30, 30];
const BLOCKS = [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18, 19, 19, 20,
  21, 22, 24, 25];

// The field of 256 elements with x^8 + x^4 + x^3 + x^2 + 1.
export const EXP = new Uint8Array(512);
export const LOG = new Uint8Array(256);
for (let power = 0, value = 1; power < 255; power++) {
  EXP[power] = EXP[power + 255] = value;
  LOG[value] = power;
  value = (value << 1) ^ (value & 128 ? 0x11d : 0);
}

function remainder(data, degree) {
  let generator = [1];
  for (let power = 0; power < degree; power++) {
    const next = new Array(generator.length + 1).fill(0);
    generator.forEach((factor, index) => {
      next[index] ^= factor;
      if (factor) next[index + 1] ^= EXP[LOG[factor] + power];
    });
    generator = next;
  }
  const rest = [...data, ...new Array(degree).fill(0)];
  for (let at = 0; at < data.length; at++) {
    const lead = rest[at];
    if (lead) generator.forEach((factor, index) => { if (factor) rest[at + index] ^= EXP[LOG[factor] + LOG[lead]]; });
  }
  return rest.slice(data.length);
}

export function alignments(version) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const size = version * 4 + 17;
  const step = version === 32 ? 26 : Math.ceil((size - 13) / (2 * count - 2)) * 2;
  const places = [6];
  for (let at = size - 7; places.length < count; at -= step) places.splice(1, 0, at);
  return places;
}

// Modules that carry data, those of the format left out.
export function capacity(version) {
  let bits = (16 * version + 128) * version + 64;
  if (version > 1) {
    const count = Math.floor(version / 7) + 2;
    bits -= (25 * count - 10) * count - 55;
    if (version > 6) bits -= 36;
  }
  return Math.floor(bits / 8);
}

function encode(text) {
  const isAlphanumeric = [...text].every((letter) => ALPHANUMERIC.includes(letter));
  const bytes = new TextEncoder().encode(text);
  for (let version = 1; version <= 40; version++) {
    const room = capacity(version) - EC_BYTES[version - 1] * BLOCKS[version - 1];
    const bits = [];
    const put = (value, width) => { for (let bit = width - 1; bit >= 0; bit--) bits.push((value >> bit) & 1); };
    if (isAlphanumeric) {
      put(2, 4);
      put(text.length, version < 10 ? 9 : version < 27 ? 11 : 13);
      for (let at = 0; at < text.length; at += 2) {
        const first = ALPHANUMERIC.indexOf(text[at]);
        if (at + 1 < text.length) put(first * 45 + ALPHANUMERIC.indexOf(text[at + 1]), 11);
        else put(first, 6);
      }
    } else {
      put(4, 4);
      put(bytes.length, version < 10 ? 8 : 16);
      bytes.forEach((byte) => put(byte, 8));
    }
    if (bits.length > room * 8) continue;
    put(0, Math.min(4, room * 8 - bits.length));
    while (bits.length % 8) bits.push(0);
    const data = [];
    for (let at = 0; at < bits.length; at += 8) data.push(bits.slice(at, at + 8).reduce((byte, bit) => byte * 2 + bit, 0));
    for (let pad = 0xec; data.length < room; pad ^= 0xec ^ 0x11) data.push(pad);
    return { version, codewords: interleave(data, version) };
  }
  throw new Error("This is too long for a QR code");
}

function interleave(data, version) {
  const count = BLOCKS[version - 1];
  const long = data.length % count;
  const length = Math.floor(data.length / count);
  const blocks = [];
  for (let block = 0, at = 0; block < count; block++) {
    const size = length + (block >= count - long ? 1 : 0);
    blocks.push(data.slice(at, at + size));
    at += size;
  }
  const checks = blocks.map((block) => remainder(block, EC_BYTES[version - 1]));
  const out = [];
  for (let at = 0; at <= length; at++) blocks.forEach((block) => { if (at < block.length) out.push(block[at]); });
  for (let at = 0; at < EC_BYTES[version - 1]; at++) checks.forEach((check) => out.push(check[at]));
  return out;
}

export const MASKS = [
  (x, y) => (x + y) % 2 === 0,
  (x, y) => y % 2 === 0,
  (x) => x % 3 === 0,
  (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2 === 0,
  (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
];

export function modules(text) {
  const { version, codewords } = encode(text);
  const size = version * 4 + 17;
  const grid = Array.from({ length: size }, () => new Array(size).fill(false));
  const fixed = Array.from({ length: size }, () => new Array(size).fill(false));
  const set = (x, y, dark) => {
    if (x < 0 || y < 0 || x >= size || y >= size) return;
    grid[y][x] = dark;
    fixed[y][x] = true;
  };

  for (let at = 0; at < size; at++) {
    set(6, at, at % 2 === 0);
    set(at, 6, at % 2 === 0);
  }
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) {
    for (let dy = -4; dy <= 4; dy++) {
      for (let dx = -4; dx <= 4; dx++) {
        const ring = Math.max(Math.abs(dx), Math.abs(dy));
        set(x + dx, y + dy, ring !== 2 && ring !== 4);
      }
    }
  }
  const centres = alignments(version);
  const last = centres.length - 1;
  centres.forEach((y, row) => centres.forEach((x, column) => {
    if ((row === 0 && column === 0) || (row === 0 && column === last) || (row === last && column === 0)) return;
    for (let dy = -2; dy <= 2; dy++) {
      for (let dx = -2; dx <= 2; dx++) set(x + dx, y + dy, Math.max(Math.abs(dx), Math.abs(dy)) !== 1);
    }
  }));
  const format = (mask) => {
    // Level L is 01. BCH(15, 5), then the mask of the standard.
    const value = (1 << 3) | mask;
    let rest = value;
    for (let bit = 0; bit < 10; bit++) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
    const bits = ((value << 10) | rest) ^ 0x5412;
    const bit = (index) => ((bits >> index) & 1) !== 0;
    for (let at = 0; at <= 5; at++) set(8, at, bit(at));
    set(8, 7, bit(6));
    set(8, 8, bit(7));
    set(7, 8, bit(8));
    for (let at = 9; at < 15; at++) set(14 - at, 8, bit(at));
    for (let at = 0; at < 8; at++) set(size - 1 - at, 8, bit(at));
    for (let at = 8; at < 15; at++) set(8, size - 15 + at, bit(at));
    set(8, size - 8, true);
  };
  format(0);
  if (version >= 7) {
    let rest = version;
    for (let bit = 0; bit < 12; bit++) rest = (rest << 1) ^ ((rest >> 11) * 0x1f25);
    const bits = (version << 12) | rest;
    for (let at = 0; at < 18; at++) {
      const dark = ((bits >> at) & 1) !== 0;
      const a = size - 11 + (at % 3);
      const b = Math.floor(at / 3);
      set(a, b, dark);
      set(b, a, dark);
    }
  }

  let at = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step++) {
      for (let side = 0; side < 2; side++) {
        const x = right - side;
        const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
        if (fixed[y][x] || at >= codewords.length * 8) continue;
        grid[y][x] = ((codewords[at >> 3] >> (7 - (at & 7))) & 1) !== 0;
        at++;
      }
    }
  }

  const flip = (mask) => {
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++) if (!fixed[y][x] && MASKS[mask](x, y)) grid[y][x] = !grid[y][x];
    }
  };
  let best = 0;
  let least = Infinity;
  for (let mask = 0; mask < 8; mask++) {
    flip(mask);
    format(mask);
    const score = penalty(grid, size);
    if (score < least) [best, least] = [mask, score];
    flip(mask);
  }
  flip(best);
  format(best);
  return grid;
}

function penalty(grid, size) {
  let score = 0;
  let dark = 0;
  const lines = [...grid, ...grid[0].map((_, x) => grid.map((row) => row[x]))];
  for (const line of lines) {
    let run = 1;
    for (let at = 1; at <= size; at++) {
      if (at < size && line[at] === line[at - 1]) run++;
      else {
        if (run >= 5) score += run - 2;
        run = 1;
      }
    }
    const text = line.map((one) => (one ? "1" : "0")).join("");
    for (const pattern of ["10111010000", "00001011101"]) {
      for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + 1)) score += 40;
    }
  }
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      if (grid[y][x]) dark++;
      if (x && y && grid[y][x] === grid[y - 1][x] && grid[y][x] === grid[y][x - 1] && grid[y][x] === grid[y - 1][x - 1]) score += 3;
    }
  }
  return score + Math.floor(Math.abs((dark * 20) / (size * size) - 10)) * 10;
}

// Dark on light whatever the page's colours: cameras want it so.
export function qr(text, label) {
  const rows = modules(text);
  const size = rows.length + 8;
  let path = "";
  rows.forEach((row, y) => row.forEach((dark, x) => { if (dark) path += `M${x + 4} ${y + 4}h1v1h-1z`; }));
  return svg("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": label, class: "qr" },
    svg("rect", { width: size, height: size, fill: "#fff" }), svg("path", { d: path, fill: "#000" }));
}
