// Cost against quality: what each weight of cost would have been worth, and each model alone.

import { h, hue, percent, plain, s, usd } from "./page.js";

const HIGH = 300;

// `at`: place in `points` of the weight that is looked at; `own`: of the one in force.
export function plot(evaluation, at, own, wide) {
  const { points, models } = evaluation;
  const left = 52;
  const right = 16;
  const [x, y, ticks] = scales([...points, ...models], left, wide - right);
  const path = points.map((one, place) => `${place ? "L" : "M"}${x(one.cost_usd)} ${y(one.quality)}`).join("");
  const [here, now] = [points[at], points[own]];
  const text = `Cost against quality. At weight ${plain(here.weight)}: quality ${percent(here.quality, 1)} for ${usd(here.cost_usd)} an answer; now, at ${plain(now.weight)}: ${percent(now.quality, 1)} for ${usd(now.cost_usd)}.`;
  return s(
    "svg",
    { viewBox: `0 0 ${wide} ${HIGH}`, class: "plot", role: "img", "aria-label": text },
    ticks.y.map((value) => [s("line", { x1: left, x2: wide - right, y1: y(value), y2: y(value), class: "grid" }), s("text", { x: left - 8, y: y(value) + 4, class: "tick", "text-anchor": "end" }, percent(value))]),
    ticks.x.map((value) => s("text", { x: x(value), y: HIGH - 22, class: "tick", "text-anchor": "middle" }, usd(value))),
    s("text", { x: (left + wide - right) / 2, y: HIGH - 4, class: "axis", "text-anchor": "middle" }, "mean cost of an answer"),
    s("text", { x: 12, y: 14, class: "axis" }, "mean quality"),
    s("path", { d: path, class: "curve" }),
    points.map((one) => s("circle", { cx: x(one.cost_usd), cy: y(one.quality), r: 2.5, class: "step" })),
    labels(models, x, y, wide),
    s("circle", { cx: x(now.cost_usd), cy: y(now.quality), r: 9, class: "now" }),
    s("circle", { cx: x(here.cost_usd), cy: y(here.quality), r: 6, class: "here" }),
  );
}

function labels(models, x, y, wide) {
  const taken = [];
  return models.map((one) => {
    const [cx, cy] = [x(one.cost_usd), y(one.quality)];
    const size = one.model.length * 6.6 + 14;
    const before = cx + size > wide - 8;
    let at = before ? cy - 10 : cy + 4;
    while (taken.some(([tx, ty, ts]) => Math.abs(ty - at) < 13 && tx < cx + size && cx < tx + ts)) at += 13;
    taken.push([before ? cx - size : cx, at, size]);
    return s(
      "g",
      { class: hue(one.model) },
      s("path", { d: `M${cx} ${cy - 6}l6 6l-6 6l-6 -6z`, class: "alone" }),
      s("text", { x: before ? cx + 6 : cx + 10, y: at, class: "name", "text-anchor": before ? "end" : "start" }, one.model),
    );
  });
}

function scales(all, left, right) {
  const costs = all.map((one) => one.cost_usd);
  const qualities = all.map((one) => one.quality);
  const [low, c1] = padded(Math.min(...costs), Math.max(...costs), 0.06);
  const c0 = Math.max(0, low);
  const [q0, q1] = padded(Math.min(...qualities), Math.max(...qualities), 0.12);
  const x = (value) => Math.round((left + ((value - c0) / (c1 - c0)) * (right - left)) * 10) / 10;
  const y = (value) => Math.round((HIGH - 44 - ((value - q0) / (q1 - q0)) * (HIGH - 72)) * 10) / 10;
  return [x, y, { x: steps(c0, c1, right - left > 460 ? 5 : 3), y: steps(q0, Math.min(1, q1), 5) }];
}

function padded(least, most, share) {
  const span = most - least || Math.abs(most) || 1;
  return [least - span * share, most + span * share];
}

function steps(least, most, wanted) {
  const rough = (most - least) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const found = [];
  for (let value = Math.ceil(Math.max(0, least) / step) * step; value <= most; value += step) found.push(Number(value.toPrecision(6)));
  return found;
}

export function legend() {
  const key = (shape, text) => h("span", {}, s("svg", { viewBox: "0 0 22 14", width: "22", height: "14", "aria-hidden": "true" }, shape), text);
  return h(
    "p",
    { class: "small legend" },
    key(s("path", { d: "M1 12C8 12 10 3 21 2", class: "curve" }), "the route, by weight of cost"),
    key(s("circle", { cx: 11, cy: 7, r: 6, class: "now" }), "now"),
    key(s("circle", { cx: 11, cy: 7, r: 5, class: "here" }), "at the slider"),
    key(s("path", { d: "M11 1l6 6l-6 6l-6 -6z", class: "alone" }), "one model alone"),
  );
}
