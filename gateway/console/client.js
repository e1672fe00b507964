// The way to the gateway. The key is kept in this tab alone, and is sent in a header, never in an address.

const KEY = "pointsman.key";
const base = new URL("../", import.meta.url);

export class Refused extends Error {
  constructor(status, document) {
    super(document?.error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = document?.error?.code ?? "";
  }
}

export class Away extends Error {}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

export async function send(path, { body, signal } = {}) {
  const headers = key.get() ? { authorization: `Bearer ${key.get()}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const given = { method: body === undefined ? "GET" : "POST", headers, signal, cache: "no-store", redirect: "error" };
  if (body !== undefined) given.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(new URL(path, base), given);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("the gateway does not answer");
  }
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
  return response;
}

export async function ask(path, given) {
  const response = await send(path, given);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Away("the answer broke off");
  }
}

// Server-sent events of a response: EventSource cannot send a key.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      left += value;
      const parts = left.split(/\r?\n\r?\n/);
      left = parts.pop();
      yield parts.map(parse);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  let name = "message";
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return { name, data: data.join("\n") };
}
