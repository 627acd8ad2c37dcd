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
    else if (name === "value") element.value = value;
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

// Puts other children in place. Whoever stood on a button with the keyboard stands on it again.
export function fill(element, ...children) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const place = active && placeOf(active);
  element.replaceChildren();
  add(element, children);
  if (place) [...element.querySelectorAll("button, a, summary, [tabindex]")].find((one) => placeOf(one) === place)?.focus({ preventScroll: true });
  return element;
}

const placeOf = (one) => `${one.closest("[data-point]")?.dataset.point || ""} ${one.title || one.textContent}`;

// A form whose button waits for its answer, and which shows what went wrong. `send(values, form)` gets the fields by name.
export function form(fields, label, send) {
  const problem = h("p.problem", { role: "alert", hidden: true });
  const button = h("button.primary", { type: "submit" }, label);
  const element = h("form", {
    onsubmit: async (event) => {
      event.preventDefault();
      problem.hidden = true;
      button.disabled = true;
      element.setAttribute("aria-busy", "true");
      try {
        await send(Object.fromEntries(new FormData(element)), element);
      } catch (error) {
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

let fieldNumber = 0;

// A labelled input; `more` are its attributes, `hint` a line below it.
export function field(label, name, more = {}, hint = null) {
  const id = `field-${++fieldNumber}`;
  const { options, rows, ...attributes } = more;
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

// A message that goes by itself, and is read out.
export function toast(text) {
  const place = document.getElementById("toasts");
  const one = h("div.toast", { role: "status" }, text);
  place.append(one);
  setTimeout(() => one.remove(), 6000);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied");
  } catch {
    toast("This browser does not let the page copy; select the text instead");
  }
}

// A question that must be answered before anything else. Escape says no.
export function ask(title, lines, label) {
  return new Promise((resolve) => {
    const end = (answer) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const dialog = h("dialog", { oncancel: () => end(false), "aria-label": title },
      h("h2", null, title),
      lines.map((line) => h("p", null, line)),
      h("div.actions", null,
        h("button", { type: "button", onclick: () => end(false) }, "Cancel"),
        h("button.primary", { type: "button", onclick: () => end(true) }, label)));
    document.body.append(dialog);
    dialog.showModal();
  });
}
