// The shell: from a wallet that does not exist, or is locked, to the views; the menu, and what is said above all of them.
//
//   /v1/state ─► no wallet: create · locked: unlock · open: log in ─► a view for each address (#/pay, #/channels …)

import { ApiError, call, get, learnPermissions, may, onReachable, session } from "./api.js";
import { differs, fill, h } from "./dom.js";
import { number, short, words } from "./format.js";
import { create, login, unlock } from "./views/enter.js";
import { overview } from "./views/overview.js";
import { channels } from "./views/channels.js";
import { pay } from "./views/pay.js";
import { receive } from "./views/receive.js";
import { history } from "./views/history.js";
import { wallet } from "./views/wallet.js";
import { chain } from "./views/chain.js";
import { network } from "./views/network.js";
import { towers } from "./views/towers.js";

// Address, name in the menu, the view, and what its macaroon must allow at least.
const VIEWS = [
  ["", "Overview", overview, null],
  ["pay", "Pay", pay, "offchain:write"],
  ["receive", "Get paid", receive, "invoices:write"],
  ["channels", "Channels", channels, "offchain:read"],
  ["history", "History", history, "offchain:read"],
  ["wallet", "Wallet", wallet, "onchain:read"],
  ["chain", "Chain", chain, null],
  ["network", "Network", network, "info:read"],
  ["towers", "Safety", towers, "offchain:read"],
];

const main = document.getElementById("main");
const header = document.getElementById("header");
let leaving = new AbortController();
let info = null;

// A view gets where to draw, and a signal that ends with it. `every` repeats what it shows until then.
function page() {
  leaving.abort();
  leaving = new AbortController();
  const signal = leaving.signal;
  return {
    main,
    signal,
    show: (...children) => { if (!signal.aborted) fill(main, ...children); },
    info: () => info,
    every: (seconds, task) => repeat(seconds, task, signal),
    isNew: (...seen) => differs(signal, ...seen),
  };
}

// Runs at once and again and again, never twice at a time, not while the page is hidden.
async function repeat(seconds, task, signal) {
  while (!signal.aborted) {
    if (!document.hidden) {
      try {
        await task();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ApiError)) throw error;
        if (error.status === 401 || error.status === 403) return start(error.message);
        // What was shown stays; a node that is gone is said above.
        if (error.status !== 0 && !main.dataset.shown) fill(main, h("p.problem", { role: "alert" }, error.message));
      }
    }
    main.dataset.shown = "yes";
    await new Promise((done) => {
      const timer = setTimeout(done, seconds * 1000);
      signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
    });
  }
}

function menu(current) {
  const shown = VIEWS.filter(([, , , permission]) => permission === null || may(permission));
  return h("nav", { "aria-label": "Pages" }, shown.map(([path, name]) =>
    h("a", { href: `#/${path}`, "aria-current": path === current ? "page" : null }, name)));
}

function drawHeader(current) {
  const name = info ? words(info.alias) || short(info.identity_pubkey, 16) : "Leyden";
  const state = h("span.state", { id: "state" }, describe());
  fill(header,
    h("div.top", null, h("img", { src: "/icon.svg", alt: "" }), h("strong", null, name), state,
      h("button", { type: "button", onclick: logOut }, "Log out")),
    menu(current));
}

function logOut() {
  // It ends at the node, too; a macaroon that was pasted has no session to end.
  call("Session/Logout").catch(() => {});
  session.macaroon = null;
  info = null;
  location.hash = "#/";
  start();
}

function describe() {
  if (!info) return "";
  const network = info.chains?.[0]?.network || "";
  return `${network} · block ${number(info.block_height)}${info.synced_to_chain ? "" : " · catching up"}`;
}

async function learnInfo() {
  info = await get("/v1/getinfo");
  const state = document.getElementById("state");
  if (state) state.textContent = describe();
}

async function draw() {
  const path = location.hash.replace(/^#\/?/, "").split("?")[0];
  const [current, name, view] = VIEWS.find(([one]) => one === path) || VIEWS[0];
  const one = page();
  delete main.dataset.shown;
  document.title = `${name} · Leyden`;
  drawHeader(current);
  fill(main, h("p.quiet", null, "Asking the node…"));
  one.every(10, learnInfo);
  view(one);
  main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

// Asks how far the wallet is, and shows what comes next. `problem` is said with it.
export async function start(problem = null) {
  const one = page();
  document.title = "Leyden";
  fill(header, h("div.top", null, h("img", { src: "/icon.svg", alt: "" }), h("strong", null, "Leyden")));
  let state = null;
  one.every(2, async () => {
    const answer = await get("/v1/state", one.signal);
    if (answer.state === state) return;
    state = answer.state;
    const again = () => start();
    if (state === "NON_EXISTING") return create(one, again);
    if (state === "LOCKED") return unlock(one, again);
    if (state === "UNLOCKED" || state === "WAITING_TO_START") {
      return one.show(h("p.quiet", { role: "status" }, "The wallet is open; the node is starting…"));
    }
    if (!session.macaroon) return login(one, again, problem);
    try {
      await learnInfo();
      await learnPermissions();
      // Somebody has logged out meanwhile.
      if (one.signal.aborted) return;
    } catch (error) {
      if (one.signal.aborted) return;
      if (error.status === 0) throw error;
      session.macaroon = null;
      return login(one, again, error.message);
    }
    return draw();
  });
}

// A node that comes back has its wallet locked, unless it opens it by itself: then the page goes on where it was.
async function cameBack() {
  if (!info) return;
  const { state } = await get("/v1/state").catch(() => ({}));
  if (state === "LOCKED" || state === "NON_EXISTING") start();
}

onReachable((is) => {
  const notice = document.getElementById("offline");
  if (is && !notice.hidden) cameBack();
  notice.hidden = is;
});
window.addEventListener("hashchange", () => { if (session.macaroon && info) draw(); });
start();
