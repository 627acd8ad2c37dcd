// The node's public REST API, with the macaroon of this session.
//
// Promises: the macaroon stays in this tab (sessionStorage) and goes to the page's own origin alone; an error is the node's own
// sentence; a node that is gone is noticed, said, and found again; each answer tells the time by the node's clock.

import { learnTime } from "./clock.js";

const KEY = "macaroon";

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export const session = {
  get macaroon() {
    return sessionStorage.getItem(KEY);
  },
  set macaroon(hex) {
    if (hex) sessionStorage.setItem(KEY, hex);
    else sessionStorage.removeItem(KEY);
  },
};

// Heard when the node stops or starts to answer: a function of true or false.
const listeners = new Set();
let reachable = true;

export function onReachable(listener) {
  listeners.add(listener);
  listener(reachable);
}

function reached(is) {
  if (is === reachable) return;
  reachable = is;
  listeners.forEach((listener) => listener(is));
}

async function request(method, path, body, signal) {
  const headers = {};
  if (session.macaroon) headers["Grpc-Metadata-macaroon"] = session.macaroon;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method, headers, signal, cache: "no-store", credentials: "omit",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    reached(false);
    throw new ApiError("The node does not answer. Is leydend running? This page tries again by itself.", 0);
  }
  reached(true);
  learnTime(Date.parse(response.headers.get("date") || "") / 1000);
  if (!response.ok) throw await refusal(response);
  return response;
}

// What an error says: LND's words, and the node's advice beside them.
const told = ({ message, advice }) => (message && advice ? `${message}: ${advice}` : message);

async function refusal(response) {
  let message = `The node answered ${response.status}.`;
  try {
    const said = await response.json();
    message = told(said) || (said.error && told(said.error)) || message;
  } catch { /* not JSON: the status has to do */ }
  return new ApiError(message[0].toUpperCase() + message.slice(1), response.status);
}

export const get = async (path, signal) => (await request("GET", path, undefined, signal)).json();
export const post = async (path, body = {}, signal) => (await request("POST", path, body, signal)).json();
export const remove = async (path) => (await request("DELETE", path)).json();

// Leyden's own services, by their name in gRPC.
export const call = (method, body = {}, signal) => post(`/leyden.${method}`, body, signal);

// The messages of a stream, one after the other.
export async function* stream(method, path, body, signal) {
  const response = await request(method, path, body, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const lines = text.split("\n");
    text = lines.pop();
    for (const line of lines.filter((one) => one.trim())) {
      const message = JSON.parse(line);
      if (message.error) throw new ApiError(told(message.error), response.status);
      yield message.result;
    }
  }
}

// What this session's macaroon allows. A button that would be refused is not shown.
let permissions = null;

export async function learnPermissions() {
  permissions = null;
  try {
    const { permissions: list } = await call("Session/GetPermissions");
    permissions = new Set(list.map((one) => `${one.entity}:${one.action}`));
  } catch (error) {
    // An older node, or one that does not say: everything is shown, and may be refused.
    if (error.status !== 404 && error.status !== 501) throw error;
  }
}

export const may = (permission) => permissions === null || permissions.has(permission);

// What a node calls itself, as far as the network has told; asked once.
const aliases = new Map();

export async function aliasOf(key) {
  if (!aliases.has(key)) {
    const node = await get(`/v1/graph/node/${key}`).catch(() => null);
    aliases.set(key, node?.node?.alias || "");
  }
  return aliases.get(key);
}

export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function fromHex(hex) {
  return Uint8Array.from(hex.match(/../g) || [], (pair) => parseInt(pair, 16));
}

export function toBase64(bytes) {
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

export function fromBase64(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

export const utf8 = (text) => toBase64(new TextEncoder().encode(text));
export const hexOf = (base64) => toHex(fromBase64(base64 || ""));
