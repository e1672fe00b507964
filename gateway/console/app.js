// The frame around the views: signing in, finding one's way, the state of the connection, light and dark.

import { Away, Refused, ask, key } from "./client.js";
import { Feed } from "./feed.js";
import * as live from "./live.js";
import { h, hue } from "./page.js";

const VIEWS = {
  live: async () => live,
  fleet: () => import("./fleet.js"),
  tradeoff: () => import("./tradeoff.js"),
  play: () => import("./play.js"),
  keys: () => import("./keys.js"),
};
const LINK = { off: "not connected", live: "live", away: "reconnecting …", refused: "signed out" };
const find = (id) => document.getElementById(id);
const main = find("main");
const nav = document.querySelector("nav");
const feed = new Feed();
let open = null; // the view that is shown, with what ends it
let turn = 0;

const app = {
  feed,
  routes: [],
  say(text) {
    find("spoken").textContent = text;
  },
  fail(error) {
    if (error.name === "AbortError") return;
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) signIn(error);
    else notice(error instanceof Away ? "The gateway does not answer. The console tries again by itself." : error.message, "bad");
  },
  clear: () => notice(""),
};

function notice(text, kind = "") {
  const place = find("notice");
  if (place.textContent !== text) place.textContent = text;
  place.className = `notice ${kind}`;
  place.hidden = !text;
}

function signIn(error = null) {
  feed.forget();
  close();
  turn += 1;
  nav.hidden = true;
  find("leave").hidden = true;
  notice("");
  const wrong = error instanceof Refused && key.get();
  const why = !wrong ? "" : error.status === 403 ? "This key is good, but it is no admin key: the console needs one with the role “admin”." : "The gateway does not know this key.";
  const field = h("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "key-help", "aria-invalid": wrong ? "true" : null });
  const form = h(
    "form",
    { class: "sign-in panel" },
    h("h1", {}, "Sign in"),
    h("p", { id: "key-help" }, "With an admin key. It stays in this tab and is forgotten when the tab closes."),
    h("label", { for: "key" }, "Admin key"),
    field,
    why && h("p", { class: "bad", role: "alert" }, why),
    h("button", { type: "submit", class: "main" }, "Sign in"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    key.set(field.value.trim());
    enter();
  });
  key.forget();
  main.replaceChildren(form);
  document.title = "Sign in · Pointsman console";
  field.focus();
}

async function enter() {
  try {
    const { config } = await ask("admin/config");
    app.routes = config.routes;
    for (const { name } of config.models) hue(name); // in this order, so that colours are the same each time
  } catch (error) {
    if (error instanceof Refused && (error.status === 401 || error.status === 403)) return signIn(error);
    notice("The gateway does not answer. The console tries again by itself.", "bad");
    setTimeout(enter, 1_500);
    return;
  }
  notice("");
  nav.hidden = false;
  find("leave").hidden = !key.get();
  feed.start();
  show();
}

function close() {
  open?.end?.();
  open = null;
}

async function show(moved = false) {
  const [name, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const wanted = name in VIEWS ? name : "live";
  if (open?.name === wanted && open.follow) {
    open.follow(rest);
    return;
  }
  const mine = ++turn;
  const { view } = await VIEWS[wanted]();
  if (mine !== turn) return;
  close();
  notice("");
  const made = view(app, rest);
  open = { name: wanted, ...made };
  main.replaceChildren(made.element);
  for (const link of nav.children) {
    if (link.hash === `#${wanted}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${made.title} · Pointsman console`;
  window.scrollTo(0, 0);
  if (moved) main.focus({ preventScroll: true });
}

feed.addEventListener("link", ({ detail }) => {
  const link = find("link");
  link.dataset.state = feed.state;
  link.querySelector(".what").textContent = LINK[feed.state];
  link.title = feed.about && feed.state === "live" ? `Pointsman ${feed.about.version}, ${feed.about.place}` : "";
  if (feed.state === "refused") signIn(detail);
  if (feed.state === "away") notice(detail ? `The gateway lets nobody watch now: ${detail.message}. The console tries again by itself.` : "The gateway is away. What you see is what was known before; the console reconnects by itself.", "bad");
  if (feed.state === "live") notice("");
});

find("leave").addEventListener("click", () => {
  key.forget();
  location.hash = "";
  signIn();
});

function theme() {
  return document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function label() {
  find("theme").textContent = theme() === "dark" ? "Light" : "Dark";
  find("theme").setAttribute("aria-label", `Use the ${theme() === "dark" ? "light" : "dark"} theme`);
}

find("theme").addEventListener("click", () => {
  const other = theme() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = other;
  localStorage.setItem("pointsman.theme", other);
  label();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => {
  if (!nav.hidden) show(true);
});

label();
enter();
