// Cost against quality of a route, with a slider on the weight of cost; and what recent decisions would have been at that weight.

import { ask } from "./client.js";
import { legend, plot } from "./chart.js";
import { ago, bar, copied, count, empty, facts, h, percent, plain, tag, usd } from "./page.js";
import * as words from "./words.js";

const SETTLE = 180;

export function view(app, [wanted]) {
  const names = app.routes.map(({ name }) => name);
  const choose = h("select", { id: "route" }, names.map((name) => h("option", { value: name, selected: name === wanted }, name)));
  const body = h("div", {});
  const element = h("div", {}, h("div", { class: "beside wrap bar-line" }, h("h1", {}, "Cost against quality"), names.length ? h("label", { for: "route" }, "Route", choose) : null), body);
  let page = null;

  async function load() {
    page?.end();
    page = null;
    const name = choose.value;
    body.replaceChildren(h("p", { class: "waiting" }, "Reading the route's evaluation …"));
    try {
      const found = await ask(`admin/frontier?route=${encodeURIComponent(name)}`);
      if (choose.value !== name) return;
      page = shown(app, found);
      body.replaceChildren(...page.parts);
      page.begin();
    } catch (error) {
      body.replaceChildren(empty("The route cannot be read now."));
      app.fail(error);
    }
  }

  choose.addEventListener("change", () => {
    history.replaceState(null, "", `#tradeoff/${encodeURIComponent(choose.value)}`);
    load();
  });
  if (names.length) load();
  else body.append(empty("There are no routes.", h("p", {}, "Every request names its model, so there is nothing to weigh. Add a section ", h("code", {}, "routes"), " to the configuration.")));
  return { element, title: "Trade-off", end: () => page?.end() };
}

function shown(app, found) {
  const { evaluation, weights } = found;
  const own = weights.indexOf(found.own_weight);
  const picture = h("div", { class: "picture" });
  const slider = h("input", { type: "range", id: "weight", min: 0, max: weights.length - 1, step: 1, value: own });
  const output = h("output", { for: "weight", class: "value" });
  const reset = h("button", { type: "button" }, "Back to now");
  const worth = h("div", { class: "worth" });
  const line = h("code", {});
  const snippet = h("p", { class: "snippet" });
  const replayed = h("div", { "aria-busy": "true" });
  let timer = 0;
  let abort = null;
  let wide = 0;
  const size = new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now && now !== wide) {
      wide = now;
      draw();
    }
  });

  const at = () => Number(slider.value);

  function draw() {
    if (evaluation && wide) picture.replaceChildren(plot(evaluation, at(), own, Math.max(280, wide)));
  }

  function moved() {
    const weight = weights[at()];
    const same = at() === own;
    output.textContent = plain(weight, 4);
    slider.setAttribute("aria-valuetext", `${plain(weight, 4)}${same ? ", as it is now" : ""}`);
    reset.disabled = same;
    draw();
    if (evaluation) worth.replaceChildren(...figures(evaluation.points[at()], evaluation.points[own], same));
    line.textContent = `- {type: cost, weight: ${plain(weight, 4)}}`;
    snippet.replaceChildren("In the route's ", h("code", {}, "policy.scorers"), ": ", line, " ", copied(line.textContent));
    replayed.setAttribute("aria-busy", "true");
    clearTimeout(timer);
    timer = setTimeout(again, SETTLE);
  }

  async function again() {
    abort?.abort();
    abort = new AbortController();
    try {
      const result = await ask("admin/replay", { body: { route: found.route, weight: weights[at()] }, signal: abort.signal });
      replayed.replaceChildren(...replay(result));
      replayed.setAttribute("aria-busy", "false");
      app.clear();
    } catch (error) {
      if (error.code === "overloaded") timer = setTimeout(again, 1_000);
      else app.fail(error);
    }
  }

  slider.addEventListener("input", moved);
  reset.addEventListener("click", () => {
    slider.value = own;
    moved();
    slider.focus();
  });
  const knob = h(
    "section",
    { class: "panel", "aria-label": "Weight of cost" },
    h("div", { class: "beside wrap" }, h("label", { for: "weight", class: "grow" }, "Weight of cost ", output), reset),
    slider,
    h("div", { class: "ends soft small" }, h("span", {}, "0: quality alone"), h("span", {}, "cheapest first")),
    evaluation ? worth : null,
    snippet,
  );
  return {
    parts: [
      h("div", { class: "halves" }, h("section", { class: "panel", "aria-label": "Evaluation" }, evaluation ? curve(found, picture) : missing(found)), h("div", {}, knob, h("section", { class: "panel", "aria-label": "Replay" }, h("h2", {}, "What would have happened"), replayed))),
      evaluation ? table(evaluation) : null,
    ].filter(Boolean),
    begin() {
      if (evaluation) size.observe(picture);
      moved();
    },
    end() {
      clearTimeout(timer);
      abort?.abort();
      size.disconnect();
    },
  };
}

function curve(found, picture) {
  const { evaluation } = found;
  return [
    h("h2", {}, "On questions held back"),
    picture,
    legend(),
    h("p", { class: "soft small" }, `${count(evaluation.questions, "question")} that nothing was chosen on, from the artifact of the scorer ${evaluation.scorer} (${evaluation.kind}, made ${new Date(evaluation.created).toLocaleDateString("en-GB")}). A question's cost is the mean cost of the model that it goes to.`),
    evaluation.gaps.length ? h("p", { class: "small warn" }, `Not in the picture, since the artifact does not know them: ${evaluation.gaps.join(", ")}.`) : null,
  ];
}

function missing(found) {
  const lines = [`pointsman calibrate --config gateway.yaml --starter --out outcomes.parquet`, `pointsman train knn --outcomes outcomes.parquet --out artifacts/knn`];
  return [
    h("h2", {}, "No evaluation yet"),
    h("p", {}, `No scorer of this route (${found.policy}) was trained on outcomes, so nobody knows what its answers are worth. Ask your models, grade them, and fit a router:`),
    h("pre", { tabindex: "0", "aria-label": "Commands" }, lines.join("\n")),
    h("p", {}, "Then name it in the route's scorers and reload:"),
    h("pre", { tabindex: "0", "aria-label": "Configuration" }, "- {type: knn, artifact: artifacts/knn, weight: 1.0}"),
    h("p", { class: "soft" }, "Where an artifact is named already, its table of outcomes had no validation split. The replay works without one."),
  ];
}

function figures(here, now, same) {
  return [
    facts(
      ["quality", percent(here.quality, 1), same ? "" : change(here.quality - now.quality, `${signed((here.quality - now.quality) * 100, 1)} points`, true)],
      ["an answer costs", usd(here.cost_usd), same || !now.cost_usd ? "" : change(here.cost_usd - now.cost_usd, `${signed((here.cost_usd / now.cost_usd - 1) * 100, 0)} %`, false)],
    ),
    h("ul", { class: "plain shares" }, Object.entries(here.shares).map(([model, share]) => h("li", {}, tag(model), bar(share, `${percent(share)} of the questions`), h("span", {}, percent(share))))),
  ];
}

function change(difference, text, moreIsBetter) {
  const kind = Math.abs(difference) < 1e-12 ? "soft" : difference > 0 === moreIsBetter ? "good" : "bad";
  return h("span", { class: kind }, ` ${text}`);
}

function signed(value, digits) {
  return `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(digits)}`;
}

function replay(found) {
  if (!found.decisions) return [empty("No decision of this route is kept here.", h("p", {}, "Send a request in the ", h("a", { href: "#play" }, "playground"), ", or wait for some traffic."))];
  const models = [...new Set([...Object.keys(found.before.models), ...Object.keys(found.after.models)])];
  const { before, after } = found;
  const cost = before.cost_usd ? after.cost_usd / before.cost_usd - 1 : null;
  const kept = Object.entries(found.kept).filter(([why]) => why !== "named");
  return [
    h("p", { class: "lead" }, found.changed ? h("strong", {}, `${count(found.changed, "decision")} of ${found.decisions.toLocaleString("en")} (${percent(found.changed / found.decisions, 1)})`) : "None ", found.changed ? " would have gone elsewhere." : `of the last ${count(found.decisions, "decision")} would have gone elsewhere.`),
    facts(
      cost === null ? null : ["expected cost of one", `${usd(before.cost_usd)} → ${usd(after.cost_usd)}`, found.changed ? change(cost, `${signed(cost * 100, 1)} %`, false) : ""],
      before.quality === null ? null : ["expected quality", `${percent(before.quality, 1)} → ${percent(after.quality, 1)}`, found.changed ? change(after.quality - before.quality, `${signed((after.quality - before.quality) * 100, 1)} points`, true) : ""],
    ),
    h(
      "ul",
      { class: "plain shares double" },
      models.map((model) => {
        const [then, now] = [before.models[model] ?? 0, after.models[model] ?? 0];
        return h("li", {}, tag(model), h("span", {}, bar(then / found.decisions, `then ${then}`, "then"), bar(now / found.decisions, `now ${now}`)), h("span", {}, `${then} → ${now}`));
      }),
    ),
    kept.length ? h("p", { class: "soft small" }, `Whatever the weight: ${kept.map(([why, many]) => `${many} ${words.kept(why)}`).join("; ")}.`) : null,
    found.notes.map((note) => h("p", { class: "soft small" }, `${note[0].toUpperCase()}${note.slice(1)}.`)),
    h("p", { class: "soft small" }, `The newest ${count(found.decisions, "decision")} that ${found.place} keeps, the oldest from ${ago(found.oldest)}; made again of the opinions of then, nobody was asked.`),
    found.moved.length
      ? h("details", {}, h("summary", {}, "Which, for example"), h("ul", { class: "plain" }, found.moved.slice(0, 10).map((one) => h("li", { class: "beside" }, h("a", { href: `#live/${one.id}/${one.caller}` }, ago(one.created)), h("span", { class: "grow" }, tag(one.before), " → ", tag(one.after)), h("span", { class: "soft" }, `${usd(one.cost_before_usd)} → ${usd(one.cost_after_usd)}`)))))
      : null,
  ].flat().filter(Boolean);
}

function table(evaluation) {
  const row = (name, one) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, percent(one.quality, 1)), h("td", {}, usd(one.cost_usd)));
  return h(
    "details",
    { class: "panel" },
    h("summary", {}, "The numbers"),
    h("table", {}, h("caption", { class: "unseen" }, "Quality and cost by weight and of each model alone"), h("thead", {}, h("tr", {}, ["weight or model", "quality", "cost of an answer"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, evaluation.models.map((one) => row(one.model, one)), evaluation.points.map((one) => row(plain(one.weight, 4), one)))),
  );
}
