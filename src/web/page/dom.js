// Elements without strings of markup: what others have written can only ever be text.

// h("button.primary", {onclick}, "Pay", child, …). Attributes with null or false are left out.
export function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  set(element, attributes, children);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  set(element, attributes, children);
  return element;
}

function set(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    // The content policy allows no style attribute; the style object is none.
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    // What a form is reset to, as well.
    else if (name === "value") { element.value = value; element.defaultValue = value; }
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
}

export function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

// Puts other children in place. Whoever stood on something with the keyboard stands on it, or on what took its place, again.
export function fill(element, ...children) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const place = active && placeOf(active);
  element.replaceChildren();
  add(element, children);
  if (!active) return element;
  const again = active.isConnected ? active : [...element.querySelectorAll("button, a, summary, [tabindex]")].find((one) => placeOf(one) === place);
  again?.focus({ preventScroll: true });
  return element;
}

const placeOf = (one) => `${one.closest("[data-point]")?.dataset.point || ""} ${one.title || one.textContent}`;

// Whether what would be drawn in a place differs from the last time: what stands still can be read and used.
const drawn = new WeakMap();
export function differs(place, ...seen) {
  const text = JSON.stringify(seen);
  const is = drawn.get(place) !== text;
  drawn.set(place, text);
  return is;
}

// A form whose button waits for its answer, and which shows what went wrong. `send(values, form)` gets the fields by name.
export function form(fields, label, send) {
  const problem = h("p.problem", { role: "alert", hidden: true });
  const button = h("button.primary", { type: "submit" }, label);
  const element = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      // Twice pressed is once meant.
      if (button.disabled) return;
      problem.hidden = true;
      button.disabled = true;
      element.setAttribute("aria-busy", "true");
      try {
        await send(Object.fromEntries(new FormData(element)), element);
      } catch (error) {
        if (error.name === "AbortError") return;
        problem.textContent = error.message;
        problem.hidden = false;
      } finally {
        button.disabled = false;
        element.removeAttribute("aria-busy");
      }
    },
  }, fields, problem, h("div.actions", null, button));
  return element;
}

let ids = 0;

// A labelled field. Options make it a choice, `rows` a text of several lines; `hint` stands below it.
export function field(label, name, { options, rows, ...attributes } = {}, hint) {
  const id = `field-${++ids}`;
  let input;
  if (options) {
    input = h("select", { id, name, ...attributes }, options.map(([value, text]) => h("option", { value }, text)));
  } else if (rows) {
    input = h("textarea", { id, name, rows, autocomplete: "off", spellcheck: "false", ...attributes });
  } else {
    input = h("input", { id, name, autocomplete: "off", ...attributes });
  }
  const described = hint ? `${id}-hint` : null;
  if (described) input.setAttribute("aria-describedby", described);
  return h("div.field", null, h("label", { for: id }, label), input, hint && h("small", { id: described }, hint));
}

// A box that is ticked or not; its words are part of what can be touched.
export function tick(name, words, attributes = {}) {
  return h("label.tick", null, h("input", { type: "checkbox", name, ...attributes }), h("span", null, words));
}

// A field for satoshi. People write 1,000,000 and 1 000 000.
export function amountField(label, name, { required, ...attributes } = {}, hint = "Satoshi.") {
  return field(label, name, { inputmode: "numeric", required, ...attributes }, hint);
}

// What stands in such a field, as digits; empty if nothing does.
export function satoshi(text) {
  const digits = text.replace(/[\s,_'\u2019\u202f\u00a0]/g, "").replace(/sats?$/i, "");
  if (digits === "") return "";
  if (!/^\d{1,16}$/.test(digits)) throw new Error(`"${text.trim()}" is no amount: whole satoshi, such as 25,000.`);
  if (Number(digits) === 0) throw new Error("The amount is zero.");
  return String(BigInt(digits));
}

// Calls `found` with what was typed, once nobody has typed for a moment.
export function searchField(label, found) {
  let timer = null;
  const tell = () => { clearTimeout(timer); found(input.value.trim()); };
  const input = h("input", {
    type: "search", name: "search", placeholder: label, "aria-label": label, maxlength: 100, autocomplete: "off", spellcheck: "false", autocapitalize: "none",
    oninput: () => { clearTimeout(timer); timer = setTimeout(tell, 250); },
    onkeydown: (event) => { if (event.key === "Enter") tell(); },
  });
  return input;
}

// Buttons of which one is pressed.
export function choice(label, options, chosen, choose) {
  const place = h("div.choice", { role: "group", "aria-label": label });
  const draw = (current) => fill(place, options.map(([value, text]) => h("button", {
    type: "button", "aria-pressed": String(value === current), onclick: () => { draw(value); choose(value); },
  }, text)));
  draw(chosen);
  return place;
}

// A message that goes by itself, and is read out.
export function toast(text) {
  const place = document.getElementById("toasts");
  const one = h("div.toast", { role: "status" }, text);
  place.append(one);
  setTimeout(() => one.remove(), 6000);
}

// What a button does; what goes wrong is said.
export const pressed = (task) => async (event) => {
  const button = event.currentTarget;
  if (button.disabled) return;
  button.disabled = true;
  try {
    await task();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message);
  } finally {
    button.disabled = false;
  }
};

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("This browser does not let the page copy; select the text instead");
  }
}

// A question that must be answered before anything else. Escape says no, and so does leaving the view.
export function ask(title, lines, label) {
  return new Promise((resolve) => {
    const end = (answer) => {
      removeEventListener("hashchange", no);
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const no = () => end(false);
    const dialog = h("dialog", { oncancel: no, "aria-label": title },
      h("h2", null, title),
      lines.filter(Boolean).map((line) => h("p", null, line)),
      h("div.actions", null,
        h("button", { type: "button", onclick: no }, "Cancel"),
        h("button.primary", { type: "button", onclick: () => end(true) }, label)));
    addEventListener("hashchange", no);
    document.body.append(dialog);
    dialog.showModal();
  });
}
