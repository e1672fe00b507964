// A playground: an answer as it is streamed, and the decision behind it.

import { ask, events, send } from "./client.js";
import { decision, shown } from "./decision.js";
import { empty, facts, h, milliseconds, number } from "./page.js";

export function view(app) {
  const model = h("select", { id: "model" });
  const prompt = h("textarea", { id: "prompt", rows: 5, required: true, placeholder: "What is 123 * 456?" });
  const weight = h("input", { id: "cost-weight", type: "number", min: 0, max: 1000, step: "any", inputmode: "decimal", placeholder: "the route's" });
  const most = h("input", { id: "most", type: "number", min: 1, max: 100000, step: 1, inputmode: "numeric", placeholder: "unbounded" });
  const go = h("button", { type: "submit", class: "main" }, "Send");
  const stop = h("button", { type: "button", hidden: true }, "Stop");
  const answer = h("div", { class: "reply", role: "region", "aria-label": "Answer", tabindex: "0" }, empty("The answer appears here, as it is streamed."));
  const meta = h("div", { role: "status" });
  const beside = h("section", { class: "panel detail", "aria-label": "Decision" }, empty("And here the decision behind it."));
  let abort = null;

  const form = h(
    "form",
    { class: "panel" },
    h("div", { class: "fields" }, h("label", { for: "model" }, "Route or model", model), h("label", { for: "cost-weight" }, "Weight of cost", weight), h("label", { for: "most" }, "Most tokens", most)),
    h("label", { for: "prompt" }, "Prompt", prompt),
    h("p", { class: "beside wrap" }, go, stop, h("span", { class: "soft small" }, "Ctrl and Enter send it. It is a real request: it costs what it costs.")),
  );
  const element = h("div", {}, h("h1", {}, "Playground"), h("div", { class: "halves" }, h("div", {}, form, h("section", { class: "panel", "aria-label": "Exchange" }, answer, meta)), beside));

  async function list() {
    try {
      const { data } = await ask("v1/models");
      const routes = data.filter((one) => one.candidates);
      const models = data.filter((one) => !one.candidates && (one.capabilities ?? ["chat"]).includes("chat"));
      const group = (label, found) => (found.length ? h("optgroup", { label }, found.map(({ id }) => h("option", { value: id }, id))) : null);
      model.replaceChildren(...[group("Routes", routes), group("Models", models)].filter(Boolean));
    } catch (error) {
      app.fail(error);
    }
  }

  async function run() {
    abort = new AbortController();
    go.disabled = true;
    stop.hidden = false;
    const text = h("div", {});
    answer.replaceChildren(text);
    meta.replaceChildren();
    beside.replaceChildren(h("p", { class: "waiting" }, "Deciding …"));
    const began = performance.now();
    const state = { first: null, usage: null, model: null, id: null };
    try {
      await stream(text, state, began);
    } catch (error) {
      if (error.name === "AbortError") text.append(h("p", { class: "warn" }, "Stopped."));
      else {
        text.append(h("p", { class: "bad" }, error.message));
        if (!state.id) beside.replaceChildren(empty("There was no decision."));
        if (error.status === 401) app.fail(error);
      }
    }
    go.disabled = false;
    stop.hidden = true;
    const took = performance.now() - began;
    meta.replaceChildren(
      facts(state.model ? ["answered by", state.model] : null, state.first === null ? null : ["first token", milliseconds(state.first)], ["in all", milliseconds(took)], state.usage ? ["tokens", `${number(state.usage.prompt_tokens)} in, ${number(state.usage.completion_tokens)} out`] : null),
    );
    if (state.id) beside.replaceChildren(await decision(app, state.id, null, 6));
  }

  async function stream(text, state, began) {
    const body = { model: model.value, stream: true, stream_options: { include_usage: true }, messages: [{ role: "user", content: prompt.value }], router: { explain: true } };
    if (weight.value !== "") body.router.cost_weight = Number(weight.value);
    if (most.value !== "") body.max_tokens = Number(most.value);
    const response = await send("v1/chat/completions", { body, signal: abort.signal });
    state.id = response.headers.get("x-router-decision-id");
    state.model = response.headers.get("x-router-model");
    for await (const batch of events(response)) {
      for (const { data } of batch) {
        if (!data || data === "[DONE]") continue;
        const found = JSON.parse(data);
        if (found.error) throw new Error(found.error.message ?? "the answer broke off");
        if (found.router) beside.replaceChildren(early(found.router, state.model));
        state.usage = found.usage ?? state.usage;
        const delta = found.choices?.[0]?.delta ?? {};
        const piece = delta.content ?? delta.reasoning_content ?? "";
        if (piece && state.first === null) state.first = performance.now() - began;
        text.append(piece);
      }
      answer.scrollTop = answer.scrollHeight;
    }
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!go.disabled) run();
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  stop.addEventListener("click", () => abort?.abort());
  list();
  return { element, title: "Playground", end: () => abort?.abort() };
}

// What is known before the answer is complete.
function early(found, model) {
  return shown({ pending: true, request_id: "", caller: "", endpoint: "chat", stream: true, answered_by: model, attempts: [], rounds: [], status: null, error: null, usage: null, estimated: false, cost_usd: null, baseline_cost_usd: null, overhead_ms: null, time_to_first_token_ms: null, duration_ms: null, ...found });
}
