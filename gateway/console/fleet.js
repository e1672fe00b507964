// The backends of every model: how each is and why, its load and its bound; and who takes turns on GPUs.

import { ask } from "./client.js";
import { ago, bar, count, empty, facts, h, number, percent, pill, plain, tag } from "./page.js";

const EVERY = 2_000;
const KINDS = { up: "good", healthy: "good", in_service: "good", unknown: "warn", probing: "warn", half_open: "warn", slow_start: "warn" };
const AWAKE = { awake: "good", asleep: "", waking: "warn", falling_asleep: "warn", failed: "bad" };

export function view(app) {
  const body = h("div", {}, h("p", { class: "waiting" }, "Reading the fleet …"));
  const element = h("div", {}, h("h1", {}, "Fleet"), body);
  let timer = 0;
  let ended = false;
  let failed = false;

  async function look() {
    if (!document.hidden) {
      try {
        body.replaceChildren(...shown(await ask("admin/backends")));
        if (failed) app.clear();
        failed = false;
      } catch (error) {
        if (ended) return;
        failed = true;
        app.fail(error);
      }
    }
    if (!ended) timer = setTimeout(look, EVERY);
  }

  look();
  return {
    element,
    title: "Fleet",
    end() {
      ended = true;
      clearTimeout(timer);
    },
  };
}

function shown({ backends, experts }) {
  const models = Map.groupBy ? Map.groupBy(backends, (one) => one.model) : grouped(backends);
  const usable = backends.filter((one) => one.usable).length;
  const busy = backends.reduce((sum, one) => sum + one.inflight, 0);
  return [
    h("p", { class: "lead" }, `${usable} of ${count(backends.length, "backend")} can serve; ${count(busy, "request")} in flight.`),
    h("div", { class: "cards" }, [...models].map(([model, found]) => card(model, found))),
    experts.length ? turns(experts) : null,
  ].filter(Boolean);
}

function grouped(backends) {
  const found = new Map();
  for (const one of backends) found.set(one.model, [...(found.get(one.model) ?? []), one]);
  return found;
}

function card(model, backends) {
  const usable = backends.filter((one) => one.usable).length;
  const kind = usable === backends.length ? "good" : usable ? "warn" : "bad";
  return h(
    "section",
    { class: "panel", "aria-label": model },
    h("div", { class: "beside" }, h("h2", {}, tag(model)), pill(backends.length ? `${usable} of ${backends.length} usable` : "no backends", backends.length ? kind : "bad")),
    backends.length ? h("ul", { class: "plain backends" }, backends.map(backend)) : empty("None was found yet."),
  );
}

function backend(one) {
  const bound = one.limit;
  const share = bound ? one.inflight / bound : null;
  const kv = one.load.kv_cache_usage;
  return h(
    "li",
    {},
    h("div", { class: "beside" }, h("code", { class: "grow" }, one.url), pill(one.state.replaceAll("_", " "), one.usable ? (KINDS[one.state] ?? "good") : "bad")),
    h("p", { class: "soft small" }, [one.why ? `${one.why.replaceAll("_", " ")}, ` : "", one.since ? `since ${ago(one.since)}` : "", one.next_probe && !one.usable ? `; looked at again ${ago(one.next_probe)}` : "", one.ejections ? `; taken out ${count(one.ejections, "time")}` : ""].join("")),
    share === null ? null : bar(share, `${one.inflight} of ${plain(bound, 1)} places taken`, share > 0.9 ? "full" : ""),
    facts(
      ["in flight", bound ? `${number(one.inflight)} of ${plain(bound, 1)}` : number(one.inflight)],
      ["waiting", plain(one.load.waiting, 0)],
      ["KV cache", percent(kv)],
      ["breaker", h("span", { class: one.breaker === "closed" ? "" : one.breaker === "open" ? "bad" : "warn" }, one.breaker.replaceAll("_", " "))],
      one.load.adapters.length ? ["adapters", one.load.adapters.join(", ")] : null,
    ),
  );
}

function turns(experts) {
  return h(
    "section",
    {},
    h("h2", {}, "Taking turns on GPUs"),
    h(
      "div",
      { class: "cards" },
      experts.map((one) =>
        h(
          "section",
          { class: "panel", "aria-label": one.expert },
          h("div", { class: "beside" }, h("h3", {}, tag(one.expert)), pill(one.state.replaceAll("_", " ") + (one.draining ? ", draining" : ""), AWAKE[one.state] ?? "warn")),
          one.why ? h("p", { class: "soft small" }, one.why) : null,
          facts(
            ["for", `${plain(one.seconds, 0)} s`],
            ["could serve", one.wake_seconds === null ? "nobody knows when" : one.wake_seconds === 0 ? "now" : `in ${plain(one.wake_seconds, 1)} s`],
            ["busy", number(one.busy)],
            ["waiting", number(one.waiting)],
            ["size", plain(one.size, 2)],
            one.failures ? ["failures", h("span", { class: "bad" }, number(one.failures))] : null,
          ),
        ),
      ),
    ),
  );
}
