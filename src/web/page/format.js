// How amounts, times and names are shown.

import { now } from "./clock.js";
import { h, copy } from "./dom.js";

const whole = new Intl.NumberFormat("en-US");

export const number = (value) => whole.format(Number(value || 0));
export const sat = (value) => `${number(value)} sat`;

export function msat(value) {
  const amount = BigInt(value || 0);
  const rest = amount % 1000n;
  return rest === 0n ? sat(amount / 1000n) : `${whole.format(amount / 1000n)}.${String(rest).padStart(3, "0")} sat`;
}

export function amount(value) {
  const [digits, unit] = sat(value).split(" ");
  return h("span.amount", null, digits, h("i", null, ` ${unit}`));
}

export function bytes(value) {
  let size = Number(value || 0);
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000) return `${size < 10 && unit !== "B" ? size.toFixed(1) : Math.round(size)} ${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(1)} TB`;
}

export function rate(hashes) {
  let value = Number(hashes || 0);
  for (const unit of ["H/s", "kH/s", "MH/s", "GH/s", "TH/s"]) {
    if (value < 1000) return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
  return `${Math.round(value)} PH/s`;
}

export function duration(seconds) {
  const left = Math.max(0, Math.round(seconds));
  if (left < 60) return `${left} s`;
  if (left < 3600) return `${Math.round(left / 60)} min`;
  if (left < 86400 * 2) return `${Math.round(left / 3600)} h`;
  if (left < 86400 * 730) return `${Math.round(left / 86400)} days`;
  return `${Math.round(left / 86400 / 365.25)} years`;
}

export function time(seconds) {
  const value = Number(seconds);
  if (!value) return "";
  const ago = now() - value;
  const words = ago < 0 ? "now" : ago < 86400 * 7 ? `${duration(ago)} ago` : new Date(value * 1000).toLocaleDateString();
  return h("time", { datetime: new Date(value * 1000).toISOString(), title: new Date(value * 1000).toLocaleString() }, words);
}

export const short = (text, length = 12) => (text && text.length > length ? `${text.slice(0, length)}…` : text || "");

// A name too long to read, whole when it is copied.
export function id(text, length = 12) {
  if (!text) return "";
  return h("button.id", { type: "button", title: `Copy ${text}`, onclick: () => copy(text) }, short(text, length));
}

// Names and memos are others' words: control characters and tricks of direction are shown as what they are.
export function words(text) {
  return (text || "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, "\ufffd").slice(0, 700);
}

// Parts of one whole as a bar with a legend. Parts: [label, value, class].
export function bar(parts, title) {
  const total = parts.reduce((sum, [, value]) => sum + Number(value), 0);
  const text = parts.filter(([, value]) => Number(value) > 0).map(([label, value]) => `${label} ${sat(value)}`).join(", ");
  return h("div.bar", { role: "img", "aria-label": `${title}: ${text || "nothing"}` },
    parts.filter(([, value]) => Number(value) > 0).map(([, value, kind]) =>
      h(`span.${kind}`, { style: { "flex-grow": String(Number(value) / total) } })));
}

export function legend(parts) {
  return h("dl.legend", null, parts.map(([label, value, kind]) => [
    h("dt", null, h(`i.${kind}`, { "aria-hidden": "true" }), label), h("dd", null, amount(value))]));
}
