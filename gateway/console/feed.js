// Decisions as they happen: the newest of them, whatever view is open. Says "change" when rows came, and "link" when the state changed.

import { Away, Refused, events, send } from "./client.js";

export const KEPT = 500;
const SILENCE = 25_000; // the gateway says something every 10 s
const PAUSES = [300, 700, 1_500, 3_000, 5_000];

export class Feed extends EventTarget {
  rows = []; // newest first
  missed = 0;
  state = "off"; // off, live, away, refused
  about = null;
  #ids = new Set();
  #abort = null;

  start() {
    if (this.#abort) return;
    this.#abort = new AbortController();
    this.#run(this.#abort.signal);
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
    this.#turn("off");
  }

  forget() {
    this.stop();
    this.rows = [];
    this.missed = 0;
    this.#ids.clear();
  }

  async #run(signal) {
    for (let failures = 0; !signal.aborted; ) {
      let refusal = null;
      const again = new AbortController();
      const stop = () => again.abort();
      signal.addEventListener("abort", stop);
      try {
        await this.#listen(again, () => (failures = 0));
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refused && (error.status === 401 || error.status === 403)) {
          this.#turn("refused", error);
          return;
        }
        if (error instanceof Refused) refusal = error;
        if (!(error instanceof Away || error instanceof Refused) && error.name !== "AbortError" && !(error instanceof TypeError)) console.error(error);
      } finally {
        signal.removeEventListener("abort", stop);
      }
      if (signal.aborted) return;
      if (failures > 0 || refusal) this.#turn("away", refusal); // a stream that ended in order is opened again at once
      await new Promise((done) => setTimeout(done, PAUSES[Math.min(failures, PAUSES.length - 1)] * (0.8 + 0.4 * Math.random())));
      failures += 1;
    }
  }

  async #listen(again, heard) {
    let silence = setTimeout(() => again.abort(), SILENCE);
    try {
      const response = await send("admin/decisions/stream?recent=100", { signal: again.signal });
      for await (const batch of events(response)) {
        clearTimeout(silence);
        silence = setTimeout(() => again.abort(), SILENCE);
        heard();
        this.#take(batch);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  #take(batch) {
    const fresh = [];
    for (const { name, data } of batch) {
      if (name === "decision") fresh.push(JSON.parse(data));
      else if (name === "dropped") this.missed += JSON.parse(data).count;
      else if (name === "hello") {
        const { recent, ...about } = JSON.parse(data);
        this.about = about;
        fresh.push(...recent.reverse());
        this.#turn("live");
      }
    }
    const news = fresh.filter((row) => !this.#ids.has(row.id));
    for (const row of news) this.#ids.add(row.id);
    if (!news.length && !batch.some(({ name }) => name === "hello" || name === "dropped")) return;
    this.rows = [...news.reverse(), ...this.rows];
    for (const row of this.rows.splice(KEPT)) this.#ids.delete(row.id);
    this.dispatchEvent(new CustomEvent("change", { detail: news.length }));
  }

  #turn(state, error = null) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new CustomEvent("link", { detail: error }));
  }
}
