// One decision, opened: who was chosen and why, who was not, what was tried, what it cost.

import { Refused, ask } from "./client.js";
import { bar, clock, copied, empty, facts, h, milliseconds, number, percent, pill, plain, tag, usd } from "./page.js";
import * as words from "./words.js";

const LEAST = 0.05; // milliseconds of a plugin that are worth a word

// The decision as an element; a kind word where there is none (any more).
export async function decision(app, id, caller, patient = 0) {
  const whose = caller ? `?caller=${encodeURIComponent(caller)}` : "";
  for (let left = patient; ; left -= 1) {
    try {
      return shown(await ask(`admin/decisions/${encodeURIComponent(id)}${whose}`));
    } catch (error) {
      if (error instanceof Refused && error.status === 404) {
        if (left > 0) {
          await new Promise((done) => setTimeout(done, 150));
          continue;
        }
        return h("div", {}, h("h2", { tabindex: "-1" }, "This decision is gone"), empty("It is no longer kept, or another gateway made it and there is no Redis to ask."));
      }
      app.fail(error);
      return h("div", {}, h("h2", { tabindex: "-1" }, "This decision cannot be read now"));
    }
  }
}

export function shown(found) {
  const model = found.answered_by ?? found.model;
  const bad = words.failed(found);
  return h(
    "article",
    { class: "decision" },
    h("h2", { tabindex: "-1" }, found.route ? `${found.route} → ` : "", tag(model)),
    h("p", { class: "lead" }, sentence(found, model)),
    h("p", { class: "marks" }, found.status === null ? pill(found.pending ? "on its way" : "not sent", "") : pill(words.status(found), bad ? "bad" : "good"), pill(words.cache(found.cache), ""), found.stream ? pill("streamed", "") : null),
    candidates(found),
    rejected(found),
    times(found),
    attempts(found),
    rounds(found),
    cost(found),
    plugins(found),
    facts(
      ["decision", h("code", {}, found.id)],
      found.request_id ? ["request", h("code", {}, found.request_id)] : null,
      found.caller ? ["caller", h("code", {}, found.caller)] : null,
      ["when", `${new Date(found.created * 1000).toLocaleDateString("en-GB")} ${clock(found.created)}`],
      ["endpoint", found.endpoint],
      ["policy", h("code", {}, found.policy)],
      found.shadow ? ["another picker would choose", found.shadow] : null,
    ),
    h("details", {}, h("summary", {}, "As JSON"), copied(JSON.stringify(found, null, 2)), h("pre", { tabindex: "0", "aria-label": "The decision as JSON" }, JSON.stringify(found, null, 2))),
  );
}

function sentence(found, model) {
  const [first, ...others] = found.candidates;
  const best = others.reduce((so, one) => (so && so.score >= one.score ? so : one), null);
  let text = `${found.model} was chosen: ${words.reason(found.reason)}`;
  if (found.reason === "best_score" && best?.score > first.score) text = `${found.model} was picked with ${plain(first.score)}, though ${best.model} scores ${plain(best.score)}`;
  else if (found.reason === "best_score" && best) text += ` (${plain(first.score)}, before ${best.model} with ${plain(best.score)})`;
  text += ".";
  if (found.propensity !== null) text += ` Chance had a part: ${percent(found.propensity, 1)} for it.`;
  if (model !== found.model) text += ` ${model} answered.`;
  if (found.single) text += ` One call made the answer: ${words.single(found.single)}.`;
  return text;
}

function part(title, ...rest) {
  return h("section", {}, h("h3", {}, title), ...rest);
}

function candidates(found) {
  if (found.candidates.length < 2 && !Object.keys(found.candidates[0]?.opinions ?? {}).length) return null;
  const most = Math.max(1e-9, ...found.candidates.map((one) => one.score));
  const names = [...new Set(found.candidates.flatMap((one) => Object.keys(one.opinions)))];
  return part(
    "Scores",
    h(
      "ol",
      { class: "candidates" },
      found.candidates.map((one) =>
        h(
          "li",
          {},
          h("div", { class: "beside" }, tag(one.model), h("strong", {}, plain(one.score))),
          bar(one.score / most, `score ${plain(one.score)}`),
          h(
            "p",
            { class: "soft small" },
            names.map((name) => h("span", { class: "opinion" }, `${name} `, h("b", {}, name in one.opinions ? plain(one.opinions[name]) : "no opinion"))),
            one.quality !== null ? h("span", { class: "opinion" }, "expected quality ", h("b", {}, plain(one.quality) + (one.uncertainty !== null ? ` ± ${plain(one.uncertainty)}` : ""))) : null,
            h("span", { class: "opinion" }, "expected cost ", h("b", {}, usd(one.expected_cost_usd))),
            one.propensity !== null ? h("span", { class: "opinion" }, "chance ", h("b", {}, percent(one.propensity, 1))) : null,
          ),
        ),
      ),
    ),
  );
}

function rejected(found) {
  const entries = Object.entries(found.rejected);
  if (!entries.length) return null;
  return part("Filtered out", h("ul", { class: "plain" }, entries.map(([model, why]) => h("li", { class: "beside" }, tag(model), h("span", { class: "soft" }, words.rejection(why))))));
}

function times(found) {
  const whole = found.duration_ms;
  if (!whole) return null;
  const inside = Math.min(found.overhead_ms ?? 0, whole);
  const first = found.time_to_first_token_ms;
  const steps = [["gateway", inside, "own"], first === null ? ["model", whole - inside, "answer"] : ["first token", Math.max(0, first - inside), "first"], first === null ? null : ["answer", Math.max(0, whole - first), "answer"]];
  const known = steps.filter(Boolean);
  return part(
    "Time",
    h("div", { class: "timeline", role: "img", "aria-label": known.map(([name, ms]) => `${name} ${milliseconds(ms)}`).join(", ") }, known.map(([, ms, kind]) => h("span", { class: kind, width: `${Math.max(0.6, (ms / whole) * 100)}%` }))),
    h("p", { class: "small legend" }, known.map(([name, ms, kind]) => h("span", {}, h("span", { class: `key ${kind}`, "aria-hidden": "true" }), `${name} ${milliseconds(ms)}`)), h("span", {}, `in all ${milliseconds(whole)}`)),
  );
}

function attempts(found) {
  if (!found.attempts.length) return null;
  return part(
    found.attempts.length === 1 ? "Attempt" : "Attempts",
    h(
      "ol",
      { class: "plain" },
      found.attempts.map((one) => h("li", { class: "beside" }, tag(one.model), h("code", { class: "grow" }, one.backend), pill(words.outcome(one.outcome), one.outcome === "ok" ? "good" : "bad"), h("span", { class: "soft" }, milliseconds(one.ms)))),
    ),
  );
}

function rounds(found) {
  if (!found.rounds.length) return null;
  return part(
    "Asked before the answer",
    h(
      "ol",
      { class: "plain rounds" },
      found.rounds.map((one) =>
        h(
          "li",
          {},
          h("div", { class: "beside" }, tag(one.model ?? one.asked[0]), h("span", { class: "grow soft" }, one.purpose || "ask"), one.error ? pill(one.error.replaceAll("_", " "), "bad") : null, h("span", { class: "soft" }, `${milliseconds(one.ms)}, ${usd(one.cost_usd)}${one.estimated ? " (estimated)" : ""}`)),
          one.text ? h("blockquote", {}, one.text) : null,
        ),
      ),
    ),
  );
}

function cost(found) {
  if (found.cost_usd === null && !found.usage) return null;
  const base = found.baseline_cost_usd;
  const saved = base > 0 && found.cost_usd !== null ? (base - found.cost_usd) / base : null;
  return part(
    "Cost",
    facts(
      ["cost", usd(found.cost_usd)],
      ["at the dearest model", usd(base), saved === null ? "" : h("span", { class: saved >= 0 ? "good" : "bad" }, ` ${percent(Math.abs(saved))} ${saved >= 0 ? "saved" : "more"}`)],
      found.usage ? ["tokens", `${number(found.usage.prompt_tokens)} in, ${number(found.usage.completion_tokens)} out${found.estimated ? " (estimated)" : ""}`] : null,
    ),
  );
}

function plugins(found) {
  const entries = Object.entries(found.plugin_ms).filter(([, ms]) => ms >= LEAST);
  const errors = Object.entries(found.errors);
  if (!entries.length && !errors.length) return null;
  return part(
    "Plugins",
    h("p", { class: "soft small" }, entries.map(([name, ms]) => h("span", { class: "opinion" }, `${name} `, h("b", {}, milliseconds(ms))))),
    errors.length ? h("ul", { class: "plain bad" }, errors.map(([name, what]) => h("li", {}, `${name} ${what}`))) : null,
  );
}
