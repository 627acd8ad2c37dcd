// What a QR code says (ISO/IEC 18004), from its modules: the other direction of qr.js, for every version and level.
//
//   modules ─► format (level, mask) ─► codewords ─► blocks, each corrected (Reed-Solomon) ─► segments ─► text

import { ALPHANUMERIC, EXP, LOG, MASKS, alignments, capacity } from "./qr.js";

// By the two bits of the level in the format (M, L, H, Q), then by version: error correction bytes a block, and blocks.
const EC_BYTES = [
  [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24, 28, 28, 26, 26, 26, 26, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28, 28],
  [7, 10, 15, 20, 26, 18, 20, 24, 30, 18, 20, 24, 26, 30, 22, 24, 28, 30, 28, 28, 28, 28, 30, 30, 26, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30],
  [17, 28, 22, 16, 22, 28, 26, 26, 24, 28, 24, 28, 22, 24, 24, 30, 28, 28, 26, 28, 30, 24, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30],
  [13, 22, 18, 26, 18, 24, 18, 22, 20, 24, 28, 26, 24, 20, 30, 24, 28, 28, 26, 30, 28, 30, 30, 30, 30, 28, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30, 30],
];
const BLOCKS = [
  [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10, 10, 11, 13, 14, 16, 17, 17, 18, 20, 21, 23, 25, 26, 28, 29, 31, 33, 35, 37, 38, 40, 43, 45, 47, 49],
  [1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4, 4, 6, 6, 6, 6, 7, 8, 8, 9, 9, 10, 12, 12, 12, 13, 14, 15, 16, 17, 18, 19, 19, 20, 21, 22, 24, 25],
  [1, 1, 2, 4, 4, 4, 5, 6, 8, 8, 11, 11, 16, 16, 18, 16, 19, 21, 25, 25, 25, 34, 30, 32, 35, 37, 40, 42, 45, 48, 51, 54, 57, 60, 63, 66, 70, 74, 77, 81],
  [1, 1, 2, 2, 4, 4, 6, 6, 8, 8, 8, 10, 12, 16, 12, 17, 16, 18, 21, 20, 23, 23, 25, 27, 29, 34, 34, 35, 38, 40, 43, 45, 48, 51, 53, 56, 59, 62, 65, 68],
];
// The format's code corrects so many bits.
const MOST_WRONG = 3;

// The text of a square of true (dark) and false; null if it is none.
export function read(grid) {
  const size = grid.length;
  const version = (size - 17) / 4;
  if (!Number.isInteger(version) || version < 1 || version > 40) return null;
  const format = formatOf(grid, size);
  if (!format) return null;
  const codewords = codewordsOf(grid, size, version, format.mask);
  const count = BLOCKS[format.level][version - 1];
  const checks = EC_BYTES[format.level][version - 1];
  const length = Math.floor(codewords.length / count) - checks;
  const long = codewords.length % count;
  const blocks = Array.from({ length: count }, () => []);
  let at = 0;
  for (let column = 0; column <= length; column++) {
    for (let block = column < length ? 0 : count - long; block < count; block++) blocks[block].push(codewords[at++]);
  }
  for (let column = 0; column < checks; column++) blocks.forEach((block) => block.push(codewords[at++]));
  const data = [];
  for (const block of blocks) {
    if (!correct(block, checks)) return null;
    data.push(...block.slice(0, block.length - checks));
  }
  return textOf(data, version);
}

function formatOf(grid, size) {
  const bit = (x, y) => (grid[y][x] ? 1 : 0);
  let [first, second] = [0, 0];
  const places = [...[0, 1, 2, 3, 4, 5, 7, 8].map((y) => [8, y]), ...[7, 5, 4, 3, 2, 1, 0].map((x) => [x, 8])];
  places.forEach(([x, y], at) => { first |= bit(x, y) << at; });
  for (let at = 0; at < 15; at++) second |= (at < 8 ? bit(size - 1 - at, 8) : bit(8, size - 15 + at)) << at;
  let best = null;
  for (let value = 0; value < 32; value++) {
    let rest = value;
    for (let step = 0; step < 10; step++) rest = (rest << 1) ^ ((rest >> 9) * 0x537);
    const code = ((value << 10) | rest) ^ 0x5412;
    const wrong = Math.min(ones(code ^ first), ones(code ^ second));
    if (!best || wrong < best.wrong) best = { wrong, level: value >> 3, mask: value & 7 };
  }
  return best.wrong <= MOST_WRONG ? best : null;
}

function ones(value) {
  let count = 0;
  for (let rest = value; rest; rest &= rest - 1) count++;
  return count;
}

// Whether a module belongs to a pattern and carries no data.
function fixedOf(size, version) {
  const centres = alignments(version);
  const last = centres.length - 1;
  const near = [];
  centres.forEach((y, row) => centres.forEach((x, column) => {
    if (!((row === 0 && column === 0) || (row === 0 && column === last) || (row === last && column === 0))) near.push([x, y]);
  }));
  return (x, y) => x === 6 || y === 6 || (x < 9 && y < 9) || (x >= size - 8 && y < 9) || (x < 9 && y >= size - 8)
    || (version >= 7 && ((x >= size - 11 && y < 6) || (y >= size - 11 && x < 6)))
    || near.some(([cx, cy]) => Math.abs(x - cx) <= 2 && Math.abs(y - cy) <= 2);
}

function codewordsOf(grid, size, version, mask) {
  const isFixed = fixedOf(size, version);
  const codewords = new Array(capacity(version)).fill(0);
  let at = 0;
  for (let right = size - 1; right >= 1; right -= 2) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step++) {
      for (let side = 0; side < 2; side++) {
        const x = right - side;
        const y = ((right + 1) & 2) === 0 ? size - 1 - step : step;
        if (at >= codewords.length * 8 || isFixed(x, y)) continue;
        if (grid[y][x] !== MASKS[mask](x, y)) codewords[at >> 3] |= 128 >> (at & 7);
        at++;
      }
    }
  }
  return codewords;
}

const times = (a, b) => (a && b ? EXP[LOG[a] + LOG[b]] : 0);
const over = (a, b) => (a ? EXP[LOG[a] + 255 - LOG[b]] : 0);

// The value of a polynomial, its lowest power first.
const valueAt = (polynomial, x) => polynomial.reduceRight((sum, factor) => times(sum, x) ^ factor, 0);

// Mends a block in place (Berlekamp and Massey, Chien, Forney); false if too much of it is wrong.
function correct(block, checks) {
  const syndromes = Array.from({ length: checks }, (_, power) => block.reduce((sum, byte) => times(sum, EXP[power]) ^ byte, 0));
  if (syndromes.every((one) => one === 0)) return true;
  let [locator, before] = [[1], [1]];
  let [errors, shift, lead] = [0, 1, 1];
  for (let at = 0; at < checks; at++) {
    let gap = syndromes[at];
    for (let i = 1; i <= errors; i++) gap ^= times(locator[i] || 0, syndromes[at - i]);
    if (gap === 0) { shift++; continue; }
    const factor = over(gap, lead);
    const next = [...locator];
    before.forEach((one, i) => { next[i + shift] = (next[i + shift] || 0) ^ times(factor, one); });
    for (let i = 0; i < next.length; i++) next[i] = next[i] || 0;
    if (2 * errors <= at) [errors, before, lead, shift] = [at + 1 - errors, locator, gap, 1];
    else shift++;
    locator = next;
  }
  if (errors * 2 > checks) return false;
  const evaluator = Array.from({ length: checks }, (_, power) => {
    let sum = 0;
    for (let i = 0; i <= power; i++) sum ^= times(locator[i] || 0, syndromes[power - i]);
    return sum;
  });
  let found = 0;
  for (let place = 0; place < block.length; place++) {
    const inverse = EXP[(255 - place) % 255];
    if (valueAt(locator, inverse) !== 0) continue;
    // The derivative: the odd powers alone.
    let slope = 0;
    for (let i = 1; i < locator.length; i += 2) slope ^= times(locator[i], EXP[(LOG[inverse] * (i - 1)) % 255]);
    if (slope === 0) return false;
    block[block.length - 1 - place] ^= times(EXP[place], over(valueAt(evaluator, inverse), slope));
    found++;
  }
  return found === errors;
}

function textOf(data, version) {
  let at = 0;
  const room = data.length * 8;
  const take = (width) => {
    let value = 0;
    for (let bit = 0; bit < width; bit++, at++) value = value * 2 + ((data[at >> 3] >> (7 - (at & 7))) & 1);
    return value;
  };
  const range = version < 10 ? 0 : version < 27 ? 1 : 2;
  const bytes = [];
  const put = (text) => bytes.push(...new TextEncoder().encode(text));
  while (room - at >= 4) {
    const mode = take(4);
    if (mode === 0) break;
    if (mode === 7) { take(8); continue; }
    const width = { 1: [10, 12, 14], 2: [9, 11, 13], 4: [8, 16, 16] }[mode]?.[range];
    if (!width || room - at < width) return null;
    let left = take(width);
    if (mode === 4) {
      if (room - at < left * 8) return null;
      for (; left; left--) bytes.push(take(8));
    } else if (mode === 2) {
      for (; left >= 2; left -= 2) { const pair = take(11); put((ALPHANUMERIC[Math.floor(pair / 45)] || "") + (ALPHANUMERIC[pair % 45] || "")); }
      if (left) put(ALPHANUMERIC[take(6)] || "");
    } else {
      for (; left >= 3; left -= 3) put(String(take(10)).padStart(3, "0"));
      if (left) put(String(take(left === 2 ? 7 : 4)).padStart(left, "0"));
    }
    if (at > room) return null;
  }
  return new TextDecoder().decode(Uint8Array.from(bytes));
}
