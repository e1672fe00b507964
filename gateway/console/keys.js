// Who may call, how much, and what is spent. Read only, and never a key.

import { ask } from "./client.js";
import { bar, count, empty, facts, h, number, percent, pill, usd } from "./page.js";

const PAGE = 60;

export function view(app) {
  const body = h("div", {}, h("p", { class: "waiting" }, "Reading the keys …"));
  const element = h("div", {}, h("h1", {}, "Keys and budgets"), body);

  async function load(offset) {
    try {
      const found = await ask(`admin/keys?offset=${offset}&limit=${PAGE}`);
      body.replaceChildren(...shown(found, offset, load));
    } catch (error) {
      app.fail(error);
    }
  }

  load(0);
  return { element, title: "Keys" };
}

function shown({ open, tokens, total, keys }, offset, load) {
  if (open) return [empty("Every caller is let in.", h("p", {}, "The configuration has no ", h("code", {}, "auth"), " section. Make a key, and name the file under ", h("code", {}, "auth: {keys: keys.yaml}"), ":"), h("pre", { tabindex: "0", "aria-label": "Command" }, "pointsman keys new --name alice --budget-usd 20 --rpm 60 --file keys.yaml"))];
  const more = [
    offset > 0 ? h("button", { type: "button", onclick: () => load(Math.max(0, offset - PAGE)) }, "Before") : null,
    offset + keys.length < total ? h("button", { type: "button", onclick: () => load(offset + PAGE) }, "More") : null,
  ].filter(Boolean);
  return [
    h("p", { class: "lead" }, total ? `${count(total, "key")}${tokens ? ", and tokens of an identity provider" : ""}.` : tokens ? "No keys: callers come with tokens of an identity provider." : "The keys file is empty: nobody is let in."),
    h("div", { class: "cards" }, keys.map(card)),
    more.length ? h("p", { class: "beside" }, more, h("span", { class: "soft small" }, `${offset + 1} to ${offset + keys.length} of ${total}`)) : null,
  ].filter(Boolean);
}

function card(one) {
  const over = one.expires !== null && one.expires * 1000 < Date.now();
  return h(
    "section",
    { class: "panel", "aria-label": one.name },
    h("div", { class: "beside" }, h("h2", { class: "grow" }, one.name), over ? pill("expired", "bad") : null, one.role === "admin" ? pill("admin", "warn") : null, one.priority === "batch" ? pill("batch", "") : null),
    h("p", { class: "soft small" }, h("code", {}, one.id)),
    one.budget_usd === null ? null : budget(one),
    facts(
      ["budget", one.budget_usd === null ? "unbounded" : `${usd(one.budget_usd)} a ${one.budget_window}`],
      ["requests a minute", one.rpm === null ? "unbounded" : number(one.rpm)],
      ["tokens a minute", one.tpm === null ? "unbounded" : number(one.tpm)],
      ["models", one.models === null ? "all" : one.models.join(", ")],
      ["routes", one.routes === null ? "all" : one.routes.join(", ")],
      one.expires === null ? null : ["expires", new Date(one.expires * 1000).toLocaleDateString("en-GB")],
    ),
  );
}

function budget(one) {
  const share = one.spent_usd / one.budget_usd;
  const text = `${usd(one.spent_usd)} of ${usd(one.budget_usd)} spent (${percent(share, share < 0.1 ? 1 : 0)})`;
  return h("div", {}, bar(share, text, share > 0.9 ? "full" : ""), h("p", { class: "small" }, text, one.spent_here_only ? h("span", { class: "soft" }, ", as far as this gateway knows") : ""));
}
