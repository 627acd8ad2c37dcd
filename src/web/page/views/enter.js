// Before the views: a wallet is made, opened, or logged in to.

import { call, get, hexOf, post, session, toHex, utf8 } from "../api.js";
import { field, form, h } from "../dom.js";

const MIN_PASSWORD = 8;

// Password managers keep passwords under a name.
const owner = () => h("input", { name: "username", autocomplete: "username", value: "leyden", hidden: true, "aria-hidden": "true", tabindex: -1 });

export function unlock(page, done) {
  page.show(h("div.card.narrow", null,
    h("h1", null, "Unlock the wallet"),
    form([owner(), field("Wallet password", "password", { type: "password", autocomplete: "current-password", required: true })],
      "Unlock",
      async ({ password }) => {
        await post("/v1/unlockwallet", { wallet_password: utf8(password) }, page.signal);
        await loginWith(password, page.signal);
        done();
      })));
  page.main.querySelector("input")?.focus();
}

export function login(page, done, problem) {
  const file = h("input", { type: "file", accept: ".macaroon", "aria-label": "Macaroon file" });
  page.show(
    problem && h("p.problem.narrow", { role: "alert" }, problem),
    h("div.card.narrow", null,
      h("h1", null, "Log in"),
      form([owner(), field("Wallet password", "password", { type: "password", autocomplete: "current-password", required: true })],
        "Log in",
        async ({ password }) => {
          await loginWith(password, page.signal);
          done();
        })),
    h("details.card.narrow", null, h("summary", null, "Or with a macaroon"),
      h("p.quiet", null, "A macaroon allows what its maker wrote into it: with readonly.macaroon this page only shows things."),
      form([
        field("Macaroon, as hex", "macaroon", { rows: 3 }),
        h("div.field", null, h("label", null, "or a file ", file)),
      ], "Use it", async ({ macaroon }) => {
        const [chosen] = file.files;
        const hex = chosen ? toHex(new Uint8Array(await chosen.arrayBuffer())) : macaroon.replace(/\s/g, "").toLowerCase();
        if (!/^([0-9a-f]{2})+$/.test(hex)) throw new Error("A macaroon is an even number of hex digits; `xxd -p -c 1000 FILE` prints them.");
        session.macaroon = hex;
        try {
          await get("/v1/getinfo");
        } catch (error) {
          session.macaroon = null;
          throw error;
        }
        done();
      })));
  page.main.querySelector("input")?.focus();
}

// A macaroon for this session, for the wallet's password. Whoever has left the view meanwhile, or logged out, is not logged in.
async function loginWith(password, signal) {
  const { macaroon } = await call("Session/Login", { wallet_password: utf8(password) }, signal);
  signal.throwIfAborted();
  session.macaroon = hexOf(macaroon);
}

export function create(page, done) {
  page.show(h("div.card.narrow", null,
    h("h1", null, "Welcome to your node"),
    h("p", null, "It has no wallet yet. A wallet is 24 words: whoever has them has its coins, and with them alone it can be made again."),
    h("p", null, "Have paper and a pen at hand: it takes two minutes."),
    h("div.actions", null,
      h("button.primary", { type: "button", onclick: () => fresh(page, done) }, "Make a new wallet"),
      h("button", { type: "button", onclick: () => restore(page, done) }, "I have words already"))));
}

const passwords = () => [
  field("New wallet password", "password", { type: "password", minlength: MIN_PASSWORD, required: true, autocomplete: "new-password" },
    `At least ${MIN_PASSWORD} characters. It is asked for at each start of the node, and here.`),
  field("The same again", "again", { type: "password", required: true, autocomplete: "new-password" }),
];

async function make(words, values, signal, more = {}) {
  if (values.password !== values.again) throw new Error("The two passwords differ.");
  const answer = await post("/v1/initwallet", { wallet_password: utf8(values.password), cipher_seed_mnemonic: words, ...more });
  session.macaroon = answer.admin_macaroon ? hexOf(answer.admin_macaroon) : null;
  if (!session.macaroon) await loginWith(values.password, signal);
}

async function fresh(page, done) {
  const { cipher_seed_mnemonic: words } = await get("/v1/genseed");
  const asked = [4, 11, 20];
  page.show(h("div.card", null,
    h("h1", null, "Write these 24 words down"),
    h("p", null, "On paper, in this order. They are shown once: the node keeps them behind your password and shows them to nobody."),
    h("ol.words", { "data-words": words.join(" ") }, words.map((word) => h("li", null, word))),
    h("p.quiet", null, "Channels are not in the words alone: the node also keeps the file channel.backup, which is worth copying elsewhere."),
    form([
      asked.map((index) => field(`Word ${index + 1}, from your paper`, `word${index}`, { required: true, autocapitalize: "none" })),
      passwords(),
    ], "Make the wallet", async (values) => {
      const wrong = asked.filter((index) => values[`word${index}`].trim().toLowerCase() !== words[index]);
      if (wrong.length) throw new Error(`Word ${wrong[0] + 1} is another one. Look again at your paper.`);
      await make(words, values, page.signal);
      done();
    })));
}

function restore(page, done) {
  page.show(h("div.card.narrow", null,
    h("h1", null, "Make the wallet again from its words"),
    form([
      field("The 24 words", "words", { rows: 4, required: true, autocapitalize: "none" }, "With spaces between them."),
      field("Addresses to look for", "window", { type: "number", min: 1, max: 20000, value: 250 },
        "In a row that nobody has paid. 250 is enough unless you gave out many addresses."),
      passwords(),
    ], "Make the wallet", async (values) => {
      const words = values.words.trim().toLowerCase().split(/\s+/);
      if (words.length !== 24) throw new Error(`These are ${words.length} words; a wallet has 24.`);
      await make(words, values, page.signal, { recovery_window: Number(values.window) });
      done();
    })));
}
