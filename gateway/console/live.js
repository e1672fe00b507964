// Decisions as they happen, and one of them opened beside.

import { decision } from "./decision.js";
import { KEPT } from "./feed.js";
import { bar, clock, count, empty, h, hue, milliseconds, number, percent, pill, s, usd } from "./page.js";
import * as words from "./words.js";

const SHOWN = 100;
const SPEAK = 10_000;
const MINUTE = 60;

export function view(app, [id, caller]) {
  const { feed } = app;
  const list = h("ol", { class: "rows", "aria-label": "Decisions, newest first" });
  const figures = h("div", { class: "figures" });
  const notes = h("p", { class: "soft small", "aria-live": "off" });
  const pause = h("button", { type: "button", "aria-pressed": "false" }, "Pause");
  const which = h("select", { id: "which", "aria-label": "Route" }, h("option", { value: "" }, "all routes"), app.routes.map(({ name }) => h("option", { value: name }, name)));
  const errors = h("input", { type: "checkbox", id: "errors" });
  const detail = h("section", { class: "detail panel", "aria-label": "Decision", hidden: true });
  const nodes = new Map();
  let held = null;
  let shown = null;
  let spoken = Date.now();
  let frame = 0;

  const element = h(
    "div",
    { class: "live" },
    h("h1", { class: "unseen" }, "Live decisions"),
    figures,
    h(
      "div",
      { class: "split" },
      h(
        "section",
        { class: "panel list", "aria-label": "Feed" },
        h("div", { class: "controls" }, which, h("label", { class: "check" }, errors, "only errors"), pause),
        notes,
        h("div", { class: "row head", "aria-hidden": "true" }, ["time", "route and model", "why", "tokens", "cost", "took", ""].map((name) => h("span", {}, name))),
        list,
      ),
      detail,
    ),
  );

  function rows() {
    const source = held ?? feed.rows;
    return source.filter((row) => (!which.value || row.route === which.value) && (!errors.checked || words.failed(row))).slice(0, SHOWN);
  }

  function render() {
    frame = 0;
    const wanted = rows();
    const focused = document.activeElement?.closest?.(".rows") ? document.activeElement.dataset.id : null;
    const ids = new Set(wanted.map((row) => row.id));
    for (const [known, node] of nodes) {
      if (!ids.has(known)) {
        node.remove();
        nodes.delete(known);
      }
    }
    wanted.forEach((row, place) => {
      let node = nodes.get(row.id);
      if (!node) {
        node = h("li", {}, line(row, () => open(row.id, row.caller, true)));
        nodes.set(row.id, node);
      }
      if (list.children[place] !== node) list.insertBefore(node, list.children[place] ?? null);
    });
    const buttons = [...list.querySelectorAll("button")];
    const kept = buttons.find((button) => button.dataset.id === (focused ?? shown)) ?? buttons[0];
    for (const button of buttons) {
      button.tabIndex = button === kept ? 0 : -1;
      if (button.dataset.id === shown) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    list.querySelector(".empty")?.parentElement.remove();
    if (!wanted.length) list.append(h("li", {}, nothing()));
    const behind = held ? feed.rows.findIndex((row) => row.id === held[0]?.id) : 0;
    pause.textContent = held ? (behind > 0 ? `Go on (${count(behind, "new", "new")})` : "Go on") : "Pause";
    pause.setAttribute("aria-pressed", String(Boolean(held)));
    notes.textContent = feed.missed ? `${count(feed.missed, "decision")} came faster than they could be shown, and ${feed.missed === 1 ? "is" : "are"} left out.` : "";
    notes.hidden = !feed.missed;
    figures.replaceChildren(...sums(feed.rows));
  }

  function nothing() {
    if (errors.checked || which.value) return empty("Nothing like that yet.");
    return empty("No decisions yet.", h("p", {}, "They appear here as requests end. Send one in the ", h("a", { href: "#play" }, "playground"), "."));
  }

  function speak() {
    const now = Date.now();
    if (held || now - spoken < SPEAK) return;
    const since = feed.rows.filter((row) => row.time * 1_000 > spoken);
    const bad = since.filter(words.failed).length;
    if (since.length) app.say(`${count(since.length, "decision")}${bad ? `, ${count(bad, "error")}` : ""}`);
    spoken = now;
  }

  function changed({ detail: fresh }) {
    if (!frame) frame = requestAnimationFrame(render);
    if (fresh) speak();
  }

  async function open(wanted, whose, byHand) {
    shown = wanted;
    const here = `#live/${encodeURIComponent(wanted)}/${encodeURIComponent(whose ?? "")}`;
    if (location.hash !== here) history.replaceState(null, "", here);
    element.classList.add("opened");
    detail.hidden = false;
    detail.replaceChildren(h("p", { class: "waiting" }, "Reading the decision …"));
    render();
    const body = await decision(app, wanted, whose);
    if (shown !== wanted) return;
    const back = h("button", { type: "button", class: "quiet close" }, "Close");
    back.addEventListener("click", shut);
    detail.replaceChildren(back, body);
    if (byHand) body.querySelector("h2")?.focus({ preventScroll: innerWidth >= 1100 });
  }

  function shut() {
    const before = shown;
    shown = null;
    element.classList.remove("opened");
    detail.hidden = true;
    history.replaceState(null, "", "#live");
    render();
    nodes.get(before)?.querySelector("button").focus();
  }

  list.addEventListener("keydown", (event) => {
    const buttons = [...list.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const next = buttons[Math.max(0, Math.min(buttons.length - 1, to))];
    for (const button of buttons) button.tabIndex = button === next ? 0 : -1;
    next?.focus();
  });
  detail.addEventListener("keydown", (event) => {
    if (event.key === "Escape") shut();
  });
  pause.addEventListener("click", () => {
    held = held ? null : feed.rows;
    render();
  });
  which.addEventListener("change", render);
  errors.addEventListener("change", render);
  feed.addEventListener("change", changed);
  const tick = setInterval(() => figures.replaceChildren(...sums(feed.rows)), 2_000);
  render();
  if (id) open(id, caller || null, false);
  return {
    element,
    title: "Live",
    follow: ([next, whose]) => (next ? open(next, whose || null, false) : shown && shut()),
    end() {
      feed.removeEventListener("change", changed);
      clearInterval(tick);
      cancelAnimationFrame(frame);
    },
  };
}

function line(row, onclick) {
  const model = row.model ?? row.chosen;
  const tokens = row.prompt_tokens === null ? "–" : `${number(row.prompt_tokens)} + ${number(row.completion_tokens ?? 0)}`;
  const bad = words.failed(row);
  return h(
    "button",
    { type: "button", class: `row ${bad ? "failed" : ""}`, "data-id": row.id, onclick },
    h("span", { class: "when" }, clock(row.time)),
    h("span", { class: "who" }, row.route ? h("span", { class: "soft" }, `${row.route} → `) : null, h("span", { class: `model ${hue(model)}` }, h("span", { class: "dot", "aria-hidden": "true" }), model)),
    h("span", { class: "why soft" }, words.brief(row.reason), row.calls > 1 ? `, ${row.calls} calls` : "", row.cache === "hit" ? " (remembered)" : ""),
    h("span", { class: "tokens" }, tokens),
    h("span", { class: "cost" }, usd(row.cost_usd)),
    h("span", { class: "took" }, milliseconds(row.ms)),
    pill(words.status(row), bad ? "bad" : row.status === 499 ? "warn" : "good"),
  );
}

function sums(rows) {
  const now = Date.now() / 1000;
  const recent = rows.filter((row) => now - row.time < MINUTE);
  const paired = rows.filter((row) => row.cost_usd !== null && row.baseline_cost_usd !== null);
  const spent = paired.reduce((sum, row) => sum + row.cost_usd, 0);
  const dearest = paired.reduce((sum, row) => sum + row.baseline_cost_usd, 0);
  const bad = recent.filter(words.failed).length;
  const whole = rows.length >= KEPT && recent.length === rows.length; // there were more than are kept here
  const requests = whole ? Math.round((rows.length / Math.max(1, now - rows.at(-1).time)) * MINUTE) : recent.length;
  const streams = recent.filter((row) => row.first_byte_ms !== null).map((row) => row.first_byte_ms);
  const saved = dearest > 0 ? (dearest - spent) / dearest : null;
  return [
    figure("last minute", `${whole ? "about " : ""}${number(requests)}`, requests === 1 ? "request" : "requests", strip(recent, now)),
    figure("saved", percent(saved), `${usd(spent)} instead of ${usd(dearest)} at the dearest model`, saved === null ? null : bar(saved, `${percent(saved)} saved`)),
    figure("median answer", milliseconds(median(recent.map((row) => row.ms))), streams.length ? `first token ${milliseconds(median(streams))}` : "no streams in the last minute"),
    figure("gateway itself", milliseconds(median(recent.map((row) => row.overhead_ms))), "median time before a model is asked"),
    figure("errors", number(bad), recent.length ? `${percent(bad / recent.length, 1)} of the last minute` : "in the last minute", null, bad ? "bad" : ""),
  ];
}

function figure(name, value, more, extra = null, kind = "") {
  return h("div", { class: "figure panel" }, h("h2", {}, name), h("p", { class: `value ${kind}` }, value), h("p", { class: "soft small" }, more), extra);
}

function strip(rows, now) {
  const bins = Array.from({ length: 30 }, () => [0, 0]);
  for (const row of rows) {
    const bin = bins[29 - Math.min(29, Math.max(0, Math.floor((now - row.time) / 2)))];
    bin[words.failed(row) ? 1 : 0] += 1;
  }
  const most = Math.max(4, ...bins.map(([good, bad]) => good + bad));
  const bars = bins.flatMap(([good, bad], place) => {
    const [high, low] = [(good / most) * 24, (bad / most) * 24];
    return [
      s("rect", { x: place * 4, y: 24 - Math.max(0.75, high + low), width: 3, height: Math.max(0.75, high), class: "some" }),
      bad ? s("rect", { x: place * 4, y: 24 - low, width: 3, height: low, class: "wrong" }) : null,
    ];
  });
  return s("svg", { viewBox: "0 0 120 24", class: "strip", preserveAspectRatio: "none", "aria-hidden": "true" }, bars);
}

function median(values) {
  const known = values.filter((value) => value !== null && value !== undefined).sort((a, b) => a - b);
  return known.length ? known[Math.floor((known.length - 1) / 2)] : null;
}
