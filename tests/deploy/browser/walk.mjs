// One walk through the console, as an operator takes it. Prints what was found; tests/deploy/test_console.py judges it.

import { browse, signIn, watched } from "./browser.mjs";

const { BASE, OTHER, KEY, USER } = process.env;
const found = {};

await browse(async (browser) => {
  const [page, log] = await watched(browser);
  await page.goto(`${BASE}/console`);
  await page.getByLabel("Admin key").waitFor();
  found.paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null);
  found.focused = await page.evaluate(() => document.activeElement.id);
  found.wrong = await refused(page, "pm_nobody");
  found.user = await refused(page, USER);
  await signIn(page, BASE, KEY);
  await page.locator('.link[data-state="live"]').waitFor();
  found.stored = await page.evaluate(() => ({ session: Object.values(sessionStorage), local: Object.values(localStorage), address: location.href }));

  found.here = await appears(page, BASE);
  found.there = await appears(page, OTHER);
  found.decision = await opened(page);
  found.keyboard = await byKeyboard(page);
  found.fleet = await text(page, "fleet", ".cards .panel >> nth=2");
  found.slider = await slid(page);
  found.unlearned = await text(page, "tradeoff/plain", ".halves .panel >> nth=0");
  found.play = await played(page);
  found.keys = await text(page, "keys", "main");
  found.theme = await themed(page);
  found.files = {};
  for (const [url, body] of log.files) found.files[new URL(url).pathname] = (await body).length;
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Admin key").waitFor();
  found.left = await page.evaluate(() => Object.values(sessionStorage).length);
  found.hosts = [...new Set(log.asked.filter((url) => !url.startsWith("data:")).map((url) => new URL(url).origin))];
  found.errors = log.errors.filter((text) => !/status of 40[13]/.test(text));
});
console.log(JSON.stringify(found));

async function refused(page, key) {
  await page.getByLabel("Admin key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  const alert = page.getByRole("alert");
  await alert.waitFor();
  return alert.textContent();
}

// Milliseconds from the end of a request until its row stands in the list.
async function appears(page, base) {
  await page.waitForTimeout(1_500); // within a second the other gateway knows that somebody watches
  const best = [];
  for (let number = 0; number < 5; number += 1) {
    const response = await fetch(`${base}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${USER}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "small", messages: [{ role: "user", content: `Hello ${number}` }], max_tokens: 4 }),
    });
    await response.text();
    const began = performance.now();
    await page.locator(`.rows button[data-id="${response.headers.get("x-router-decision-id")}"]`).waitFor();
    best.push(performance.now() - began);
  }
  return best;
}

async function opened(page) {
  await page.locator(".rows button", { hasText: "auto" }).first().click();
  await page.locator(".decision").waitFor();
  const seen = await page.locator(".decision").innerText();
  await page.keyboard.press("Escape");
  await page.locator(".decision").waitFor({ state: "hidden" });
  return seen;
}

async function byKeyboard(page) {
  const focused = () => page.evaluate(() => document.activeElement.dataset.id ?? document.activeElement.id);
  const steps = [];
  await page.reload();
  await page.locator(".rows button").nth(2).waitFor();
  await page.keyboard.press("Tab");
  steps.push(await page.evaluate(() => document.activeElement.className));
  await page.keyboard.press("Enter");
  steps.push(await focused());
  const ids = await page.locator(".rows button").evaluateAll((all) => all.slice(0, 3).map((one) => one.dataset.id));
  await page.locator('.rows button[tabindex="0"]').focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowDown");
  steps.push((await focused()) === ids[1]);
  await page.keyboard.press("Enter");
  await page.locator(".decision").waitFor();
  await page.keyboard.press("Escape");
  steps.push((await focused()) === ids[1]);
  return steps;
}

async function text(page, view, place) {
  await page.evaluate((hash) => (location.hash = hash), view);
  await page.locator(view === "fleet" || view === "keys" ? ".cards .panel" : '[aria-busy="false"]').first().waitFor();
  return page.locator(place).innerText();
}

async function slid(page) {
  await page.evaluate(() => (location.hash = "tradeoff/auto"));
  await page.locator(".plot").waitFor();
  await page.locator('[aria-busy="false"]').waitFor();
  const seen = { now: await page.locator("[aria-busy]").innerText(), curve: await page.locator(".plot").getAttribute("aria-label") };
  await page.getByRole("slider").focus();
  await page.keyboard.press("End");
  await page.locator('[aria-busy="false"]').waitFor();
  return { ...seen, most: await page.locator("[aria-busy]").innerText(), snippet: await page.locator(".snippet").innerText() };
}

async function played(page) {
  await page.evaluate(() => (location.hash = "play"));
  await page.locator("#model option").first().waitFor({ state: "attached" });
  await page.getByRole("textbox", { name: "Prompt" }).fill("What is 123 * 456?");
  await page.getByRole("spinbutton", { name: "Weight of cost" }).fill("0");
  await page.keyboard.press("Tab");
  await page.getByRole("textbox", { name: "Prompt" }).press("Control+Enter");
  await page.locator(".decision .timeline").waitFor();
  return { answer: await page.locator(".reply").innerText(), decision: await page.locator(".decision").innerText() };
}

async function themed(page) {
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const before = await paper();
  await page.locator("#theme").click();
  return [before, await paper()];
}
