// What the closed tables of the gateway mean, in words.

const REASONS = {
  named: "the request named it",
  only_candidate: "no other model could serve",
  best_score: "it had the best score",
  no_opinion: "nobody had an opinion: the route's default",
  deadline: "the policy was late: the route's default",
  policy_error: "the policy broke: the route's default",
  pinned: "the conversation keeps its model",
};

const BRIEF = {
  named: "named by the request",
  only_candidate: "only candidate",
  best_score: "best score",
  no_opinion: "no opinion: default",
  deadline: "too late: default",
  policy_error: "policy broke: default",
  pinned: "keeps its model",
};

const REJECTIONS = {
  not_allowed: "outside the caller's or the request's list of models",
  no_capability: "lacks something that the request uses",
  context_length: "prompt and answer don't fit its context window",
  max_cost: "dearer than the request's own bound",
  budget: "may cost more than is left of the caller's budget",
  unhealthy: "no backend of it could serve",
};

const CACHE = {
  hit: "a remembered decision",
  miss: "decided anew",
  pin: "kept for this conversation",
  bypass: "decided anew, and not remembered",
};

const KEPT = {
  pinned: "stay with their conversation's model",
  own_weight: "came with a weight of their own",
  only_candidate: "had one candidate only",
  named: "named their model",
  no_opinion: "had no opinion to weigh",
  deadline: "were decided too late",
  policy_error: "met a policy that broke",
  unknown: "cannot be made again",
};

const SINGLE = {
  only_candidate: "there was one candidate only",
  budget: "the budget pays for one call only",
};

function spaced(code) {
  return code.replaceAll("_", " ");
}

export const reason = (code) => REASONS[code] ?? spaced(code);
export const brief = (code) => BRIEF[code] ?? spaced(code);
export const rejection = (code) => REJECTIONS[code] ?? spaced(code);
export const cache = (code) => CACHE[code] ?? spaced(code);
export const kept = (code) => KEPT[code] ?? spaced(code);
export const single = (code) => SINGLE[code] ?? spaced(code);

export function outcome(code) {
  if (code === "ok") return "answered";
  return /^\d+$/.test(code) ? `HTTP ${code}` : spaced(code);
}

export function status(row) {
  if (row.error) return spaced(row.error);
  if (row.status === 499) return "client left";
  return row.status === null ? "not sent" : row.status < 400 ? "answered" : `HTTP ${row.status}`;
}

export function failed(row) {
  return Boolean(row.error) || (row.status !== null && row.status >= 400 && row.status !== 499);
}
