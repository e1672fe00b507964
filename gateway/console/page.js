// Elements, and numbers as people read them. Nothing here ever parses HTML.

export function h(tag, given = {}, ...children) {
  return fill(document.createElement(tag), given, children);
}

export function s(tag, given = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), given, children);
}

function fill(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "width" && element instanceof HTMLElement) element.style.width = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function usd(value) {
  if (value === null || value === undefined) return "unknown";
  if (value === 0) return "$0";
  const size = Math.abs(value);
  if (size >= 100) return `$${value.toFixed(0)}`;
  if (size >= 1) return `$${value.toFixed(2)}`;
  const digits = Math.min(10, 2 - Math.floor(Math.log10(size)));
  return `$${value.toFixed(digits).replace(/0+$/, "")}`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 60_000) return `${(value / 60_000).toFixed(1)} min`;
  if (value >= 1_000) return `${(value / 1_000).toFixed(2)} s`;
  return `${value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

export function percent(share, digits = 0) {
  return share === null || share === undefined || Number.isNaN(share) ? "–" : `${(share * 100).toFixed(digits)} %`;
}

export function number(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en");
}

export function plain(value, digits = 3) {
  return value === null || value === undefined ? "–" : String(Number(value.toFixed(digits)));
}

export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString("en-GB");
}

export function ago(unix) {
  if (unix === null || unix === undefined) return "–";
  const seconds = Date.now() / 1000 - unix;
  if (Math.abs(seconds) < 1.5) return "now";
  const size = Math.abs(seconds);
  const [count, unit] = size < 100 ? [size, "s"] : size < 6_000 ? [size / 60, "min"] : size < 172_800 ? [size / 3_600, "h"] : [size / 86_400, "d"];
  return seconds > 0 ? `${Math.round(count)} ${unit} ago` : `in ${Math.round(count)} ${unit}`;
}

export function count(many, one, more = `${one}s`) {
  return `${number(many)} ${many === 1 ? one : more}`;
}

// The same model has the same colour in every view.
const seen = [];
export function hue(model) {
  if (!seen.includes(model)) seen.push(model);
  return `hue-${seen.indexOf(model) % 6}`;
}

export function tag(model) {
  return h("span", { class: `model ${hue(model)}` }, h("span", { class: "dot", "aria-hidden": "true" }), model);
}

export function bar(share, label, kind = "") {
  const width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  return h("span", { class: `bar ${kind}`, role: "img", "aria-label": label }, h("span", { width }));
}

export function facts(...pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, ...value]) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value))));
}

export function pill(text, kind) {
  return h("span", { class: `pill ${kind}` }, text);
}

export function copied(text, label = "Copy") {
  const button = h("button", { type: "button", class: "quiet" }, label);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = label), 1500);
  });
  return button;
}

export function empty(title, ...rest) {
  return h("div", { class: "empty" }, h("p", { class: "lead" }, title), ...rest);
}
