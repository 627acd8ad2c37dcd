// Finds a QR code in a picture, and reads it.
//
//   pixels ─► dark or light ─► the three corner marks (1:1:3:1:1) ─► the mark in the fourth corner ─► perspective ─► modules ─► text

import { read } from "./qr-read.js";

// Of the brightness around it, below which a pixel is dark.
const DARK = 0.88;
// Marks that are tried with each other, and that are kept apart while a picture is looked at: noise has many.
const CANDIDATES = 10;
const MARKS = 100;
// A mark is seven modules wide; below two pixels a module nothing can be read.
const NARROWEST = 14;

// The text of the first code in an ImageData; null if there is none.
export function find({ data, width, height }) {
  const dark = binary(data, width, height);
  const marks = cornerMarks(dark, width, height);
  for (const corners of triples(marks)) {
    const text = readAt(dark, width, height, corners);
    if (text) return text;
  }
  return null;
}

// Each pixel is compared with the mean of a quarter of the picture around it: shadows do no harm.
function binary(data, width, height) {
  const luma = new Uint8Array(width * height);
  // A picture of 4000 pixels of 255 on each side fits.
  const sums = new Uint32Array((width + 1) * (height + 1));
  for (let y = 0; y < height; y++) {
    let row = 0;
    for (let x = 0; x < width; x++) {
      const at = (y * width + x) * 4;
      const value = (data[at] * 77 + data[at + 1] * 150 + data[at + 2] * 29) >> 8;
      luma[y * width + x] = value;
      row += value;
      sums[(y + 1) * (width + 1) + x + 1] = sums[y * (width + 1) + x + 1] + row;
    }
  }
  const reach = Math.max(8, Math.round(Math.max(width, height) / 8));
  const dark = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const top = Math.max(0, y - reach);
    const bottom = Math.min(height, y + reach);
    const above = top * (width + 1);
    const below = bottom * (width + 1);
    for (let x = 0; x < width; x++) {
      const left = Math.max(0, x - reach);
      const right = Math.min(width, x + reach);
      const sum = sums[below + right] - sums[above + right] - sums[below + left] + sums[above + left];
      dark[y * width + x] = luma[y * width + x] * (bottom - top) * (right - left) < DARK * sum ? 1 : 0;
    }
  }
  return dark;
}

// Whether five runs are as long as through the middle of a corner mark.
function fits(runs) {
  const total = runs[0] + runs[1] + runs[2] + runs[3] + runs[4];
  if (total < NARROWEST) return false;
  const module = total / 7;
  const slack = module / 1.8;
  return [1, 1, 3, 1, 1].every((wanted, at) => Math.abs(runs[at] - wanted * module) < slack * (wanted === 3 ? 2 : 1));
}

// The five runs through a dark place in a direction, and the middle of the third: null if they do not fit.
function across(dark, width, height, x, y, dx, dy) {
  const is = (step) => {
    const [px, py] = [x + dx * step, y + dy * step];
    return px < 0 || py < 0 || px >= width || py >= height ? -1 : dark[py * width + px];
  };
  const runs = [0, 0, 0, 0, 0];
  let ends = [0, 0];
  for (const way of [-1, 1]) {
    let step = way === 1 ? 1 : 0;
    for (const [run, colour] of [[2, 1], [2 + way, 0], [2 + 2 * way, 1]]) {
      while (is(way * step) === colour) { runs[run]++; step++; }
      if (run === 2) ends[way === 1 ? 1 : 0] = way * step;
    }
  }
  return fits(runs) ? { at: (ends[0] + ends[1]) / 2, length: runs.reduce((sum, one) => sum + one, 0) } : null;
}

function cornerMarks(dark, width, height) {
  const marks = [];
  for (let y = 0; y < height; y++) {
    let runs = [0, 0, 0, 0, 0];
    let colour = 0;
    for (let x = 0; x <= width; x++) {
      const now = x < width ? dark[y * width + x] : 1 - colour;
      if (now === colour) { runs[4]++; continue; }
      if (colour === 1 && fits(runs)) mark(marks, dark, width, height, x - runs[4] - runs[3] - Math.ceil(runs[2] / 2), y);
      runs = [runs[1], runs[2], runs[3], runs[4], 1];
      colour = now;
    }
  }
  return marks.filter((one) => one.seen > 1).sort((a, b) => b.seen - a.seen).slice(0, CANDIDATES);
}

// A row has met a mark: it is looked at in the other direction too, and counted with what was met before.
function mark(marks, dark, width, height, x, y) {
  if (!dark[y * width + x]) return;
  const vertical = across(dark, width, height, x, y, 0, 1);
  if (!vertical) return;
  const middle = Math.round(y + vertical.at);
  const horizontal = across(dark, width, height, x, middle, 1, 0);
  if (!horizontal) return;
  const found = { x: x + horizontal.at + 0.5, y: y + vertical.at + 0.5, module: (vertical.length + horizontal.length) / 14, seen: 1 };
  const known = marks.find((one) => Math.hypot(one.x - found.x, one.y - found.y) < 2 * one.module && Math.abs(one.module - found.module) < one.module);
  if (!known) {
    if (marks.length < MARKS) marks.push(found);
    return;
  }
  const share = known.seen / (known.seen + 1);
  for (const key of ["x", "y", "module"]) known[key] = known[key] * share + found[key] * (1 - share);
  known.seen++;
}

// Three marks that could be the corners of one code, the likeliest first: [top left, top right, bottom left].
function triples(marks) {
  const found = [];
  for (let a = 0; a < marks.length; a++) {
    for (let b = 0; b < marks.length; b++) {
      for (let c = b + 1; c < marks.length; c++) {
        if (a === b || a === c) continue;
        let [corner, right, below] = [marks[a], marks[b], marks[c]];
        const [first, second] = [[right.x - corner.x, right.y - corner.y], [below.x - corner.x, below.y - corner.y]];
        const [one, two] = [Math.hypot(...first), Math.hypot(...second)];
        const sizes = [corner.module, right.module, below.module];
        if (Math.max(...sizes) > 1.7 * Math.min(...sizes)) continue;
        // Seen from the corner both are equally far, and at a right angle.
        const off = Math.abs(one - two) / Math.max(one, two) + Math.abs(first[0] * second[0] + first[1] * second[1]) / (one * two);
        if (off > 0.8) continue;
        if (first[0] * second[1] - first[1] * second[0] < 0) [right, below] = [below, right];
        found.push({ off, corners: [corner, right, below] });
      }
    }
  }
  return found.sort((x, y) => x.off - y.off).slice(0, CANDIDATES).map((one) => one.corners);
}

// From the middle of a mark towards another one: dark, light, dark, light; three and a half modules.
function moduleTowards(pixel, from, to) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  const [dx, dy] = [(to.x - from.x) / length, (to.y - from.y) / length];
  let changes = 0;
  let colour = 1;
  for (let way = 0; way < length; way += 0.25) {
    const now = pixel(from.x + dx * way, from.y + dy * way);
    if (now !== colour) { colour = now; changes++; }
    if (changes === 3) return way / 3.5;
  }
  return 0;
}

function readAt(dark, width, height, [corner, right, below]) {
  const pixel = (x, y) => {
    const [px, py] = [Math.floor(x), Math.floor(y)];
    return px < 0 || py < 0 || px >= width || py >= height ? 0 : dark[py * width + px];
  };
  const sizes = [moduleTowards(pixel, corner, right), moduleTowards(pixel, right, corner), moduleTowards(pixel, corner, below), moduleTowards(pixel, below, corner)].filter(Boolean);
  if (!sizes.length) return null;
  const module = sizes.reduce((sum, one) => sum + one, 0) / sizes.length;
  const sides = Math.hypot(right.x - corner.x, right.y - corner.y) + Math.hypot(below.x - corner.x, below.y - corner.y);
  const near = Math.round((sides / 2 / module + 7 - 17) / 4);
  for (const version of [near, near - 1, near + 1, near - 2, near + 2]) {
    if (version < 1 || version > 40) continue;
    const size = version * 4 + 17;
    for (const fourth of fourths(pixel, size, corner, right, below)) {
      const place = perspective(
        [[3.5, 3.5], [size - 3.5, 3.5], [3.5, size - 3.5], fourth.module],
        [corner, right, below, fourth].map((one) => [one.x, one.y]));
      if (!place) continue;
      const grid = Array.from({ length: size }, (_, y) => Array.from({ length: size }, (_, x) => pixel(...place(x + 0.5, y + 0.5)) === 1));
      const text = read(grid);
      if (text) return text;
    }
  }
  return null;
}

// Where the fourth point may be: the mark near the last corner, which all but the smallest codes have, or where it would be if
// the code lay flat.
function fourths(pixel, size, corner, right, below) {
  const step = { x: [(right.x - corner.x) / (size - 7), (right.y - corner.y) / (size - 7)], y: [(below.x - corner.x) / (size - 7), (below.y - corner.y) / (size - 7)] };
  const at = (x, y) => ({ x: corner.x + step.x[0] * x + step.y[0] * y, y: corner.y + step.x[1] * x + step.y[1] * y });
  const flat = { ...at(size - 7, size - 7), module: [size - 3.5, size - 3.5] };
  if (size < 25) return [flat];
  const guess = at(size - 10, size - 10);
  const score = (cx, cy) => {
    let right = 0;
    for (let y = -2; y <= 2; y++) {
      for (let x = -2; x <= 2; x++) {
        const wanted = Math.max(Math.abs(x), Math.abs(y)) === 1 ? 0 : 1;
        if (pixel(cx + step.x[0] * x + step.y[0] * y, cy + step.x[1] * x + step.y[1] * y) === wanted) right++;
      }
    }
    return right;
  };
  const module = Math.hypot(...step.x);
  const reach = module * Math.max(4, size / 12);
  const stride = Math.max(module / 3, 0.5);
  let best = { score: 0, away: 0, xs: 0, ys: 0, count: 0 };
  for (let dy = -reach; dy <= reach; dy += stride) {
    for (let dx = -reach; dx <= reach; dx += stride) {
      const now = score(guess.x + dx, guess.y + dy);
      const away = Math.hypot(dx, dy);
      // The same mark is met at several places: their middle is its middle.
      const isNear = best.count > 0 && Math.hypot(dx - best.xs / best.count, dy - best.ys / best.count) < module * 1.5;
      if (now > best.score || (now === best.score && !isNear && away < best.away)) best = { score: now, away, xs: dx, ys: dy, count: 1 };
      else if (now === best.score && isNear) best = { ...best, xs: best.xs + dx, ys: best.ys + dy, count: best.count + 1 };
    }
  }
  const found = { x: guess.x + best.xs / best.count, y: guess.y + best.ys / best.count, module: [size - 6.5, size - 6.5] };
  return best.score >= 21 ? [found, flat] : [flat];
}

// The projection that carries four points to four others, as a function; null if there is none.
function perspective(from, to) {
  const rows = [];
  from.forEach(([x, y], at) => {
    const [u, v] = to[at];
    rows.push([x, y, 1, 0, 0, 0, -u * x, -u * y, u], [0, 0, 0, x, y, 1, -v * x, -v * y, v]);
  });
  for (let column = 0; column < 8; column++) {
    let pivot = column;
    for (let row = column; row < 8; row++) if (Math.abs(rows[row][column]) > Math.abs(rows[pivot][column])) pivot = row;
    if (Math.abs(rows[pivot][column]) < 1e-9) return null;
    [rows[column], rows[pivot]] = [rows[pivot], rows[column]];
    for (let row = 0; row < 8; row++) {
      if (row === column) continue;
      const factor = rows[row][column] / rows[column][column];
      for (let at = column; at < 9; at++) rows[row][at] -= factor * rows[column][at];
    }
  }
  const [a, b, c, d, e, f, g, h] = rows.map((row, at) => row[8] / row[at]);
  return (x, y) => [(a * x + b * y + c) / (g * x + h * y + 1), (d * x + e * y + f) / (g * x + h * y + 1)];
}
