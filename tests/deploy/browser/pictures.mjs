// Pictures of every view, at every width, light and dark; and what axe-core says of each.

import { mkdirSync } from "node:fs";
import { browse, overflow, signIn, violations, watched } from "./browser.mjs";

const { BASE, KEY, OUT } = process.env;
const WIDTHS = (process.env.WIDTHS ?? "360,768,1280,1600").split(",").map(Number);
const JUDGED = [360, 1280]; // layouts; axe-core takes its time
const VIEWS = ["live", "opened", "fleet", "tradeoff", "unlearned", "play", "keys"];
const found = { errors: [], violations: [], overflow: [], pictures: 0 };

mkdirSync(OUT, { recursive: true });
await browse(async (browser) => {
  const [page, log] = await watched(browser);
  await entrance(page, found);
  await signIn(page, BASE, KEY);
  for (const theme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: theme, reducedMotion: "reduce" });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: width < 700 ? 780 : 900 });
      for (const view of VIEWS) {
        await visit(page, view);
        await page.screenshot({ path: `${OUT}/${view}-${width}-${theme}.png` });
        found.pictures += 1;
        const wide = await overflow(page);
        if (wide > 0) found.overflow.push(`${view} at ${width}: ${wide} px`);
        if (JUDGED.includes(width)) for (const one of await violations(page)) found.violations.push(`${view} at ${width}, ${theme}: ${one}`);
      }
    }
  }
  found.errors = log.errors.filter((text) => !/status of 401|ERR_FAILED/.test(text));
});
console.log(JSON.stringify(found));

// The form to sign in, and what is said where no gateway answers.
async function entrance(page, found) {
  for (const width of [360, 1280]) {
    await page.setViewportSize({ width, height: 780 });
    await page.goto(`${BASE}/console`);
    await page.getByLabel("Admin key").fill("pm_nobody");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByRole("alert").waitFor();
    await page.screenshot({ path: `${OUT}/sign-in-${width}-light.png` });
    for (const one of await violations(page)) found.violations.push(`sign-in at ${width}: ${one}`);
    await page.route("**/admin/**", (route) => route.abort());
    await page.goto(`${BASE}/console`);
    await page.locator("#notice:not([hidden])").waitFor();
    await page.screenshot({ path: `${OUT}/away-${width}-light.png` });
    for (const one of await violations(page)) found.violations.push(`away at ${width}: ${one}`);
    await page.unroute("**/admin/**");
  }
  found.pictures += 4;
}

async function visit(page, view) {
  await page.evaluate((hash) => (location.hash = hash), { opened: "live", unlearned: "tradeoff/plain" }[view] ?? view);
  if (view === "opened") {
    await page.locator(".rows button").first().waitFor();
    await page.locator(".rows button", { hasText: "auto" }).first().click();
    await page.locator(".decision").waitFor();
  } else if (view === "live") {
    if (await page.locator(".opened").count()) await page.getByRole("button", { name: "Close" }).click();
    await page.locator(".rows button").first().waitFor();
  } else if (view === "tradeoff" || view === "unlearned") {
    await page.locator(view === "tradeoff" ? ".plot" : ".halves pre >> nth=0").waitFor();
    if (view === "tradeoff") await page.getByRole("slider").fill("40");
    await page.locator('[aria-busy="false"]').waitFor();
  } else if (view === "play") {
    await page.locator("#model option").first().waitFor({ state: "attached" });
    await page.getByRole("textbox", { name: "Prompt" }).fill("What is 123 * 456?");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator(".decision .timeline").waitFor();
  } else await page.locator(".cards .panel").first().waitFor();
}
