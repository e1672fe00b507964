// What the console says while its gateway is away, and that it comes back by itself. Whoever runs this stops and starts the gateway when told.

import { createInterface } from "node:readline";
import { browse, signIn, watched } from "./browser.mjs";

const { BASE, KEY } = process.env;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function tell(what) {
  console.log(what);
  await lines.next();
}

await browse(async (browser) => {
  const [page] = await watched(browser);
  await signIn(page, BASE, KEY);
  await page.locator('.link[data-state="live"]').waitFor();
  await tell("stop");
  await page.locator('.link[data-state="away"]').waitFor();
  const said = await page.locator("#notice").innerText();
  await tell("start");
  await page.locator('.link[data-state="live"]').waitFor({ timeout: 60_000 });
  const hidden = await page.locator("#notice").isHidden();
  console.log(JSON.stringify({ said, hidden }));
});
