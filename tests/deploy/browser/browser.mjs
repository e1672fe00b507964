// A real Chromium before the console, without a way to anywhere else.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export async function browse(work) {
  const folder = mkdtempSync(join(tmpdir(), "pointsman-chromium-"));
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  const browser = await chromium.launchPersistentContext(folder, { executablePath, args: process.getuid() === 0 ? ["--no-sandbox", ...FLAGS] : FLAGS, viewport: { width: 1280, height: 800 } });
  try {
    return await work(browser);
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

// A page that writes down what goes wrong on it, and every address that it asks.
export async function watched(browser) {
  const page = await browser.newPage();
  const log = { errors: [], asked: [], files: new Map() };
  page.on("console", (message) => message.type() === "error" && log.errors.push(message.text()));
  page.on("pageerror", (error) => log.errors.push(String(error)));
  page.on("request", (request) => log.asked.push(request.url()));
  page.on("response", (response) => response.url().includes("/console") && !log.files.has(response.url()) && log.files.set(response.url(), response.body().catch(() => "")));
  return [page, log];
}

export async function signIn(page, base, key) {
  await page.goto(`${base}/console`);
  await page.getByLabel("Admin key").fill(key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("navigation").waitFor();
}

export async function violations(page) {
  await page.evaluate(AXE);
  const { violations: found } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return found.map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
}

export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
