import { browse, signIn, watched } from "./browser.mjs";
await browse(async (browser) => {
  const [page] = await watched(browser);
  for (const [w, h, theme] of [[1280, 800, "light"], [1600, 900, "dark"]]) {
    await page.emulateMedia({ colorScheme: theme });
    await page.setViewportSize({ width: w, height: h });
    if (theme === "light") await signIn(page, process.env.BASE, process.env.KEY);
    else await page.reload();
    await page.locator(".rows button").nth(5).waitFor();
    await page.locator(".rows button", { hasText: "auto" }).nth(1).click();
    await page.locator(".decision").waitFor();
    await page.mouse.move(5, 400);
    await page.waitForTimeout(600);
    await page.screenshot({ path: `/tmp/shot-${theme}.png` });
  }
});
