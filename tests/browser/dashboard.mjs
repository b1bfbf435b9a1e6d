// The dashboard as somebody uses it, in a real browser: `node dashboard.mjs URL TOKEN NAME PASSWORD [FOLDER]`.
//
// Fails on anything that is not as it should be; with a folder it leaves a picture of every page there. The modules
// playwright-core and axe-core are looked for where FORELINE_MODULES says.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [url, token, name, password, folder] = process.argv.slice(2);
const require = createRequire(`${process.env.FORELINE_MODULES}/none.js`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath: process.env.FORELINE_CHROMIUM ?? "/usr/bin/chromium", args: flags });
const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, bypassCSP: true, locale: "en-US", colorScheme: "light" });
const page = await context.newPage();
const wrong = [];
let isIn = false;
page.on("pageerror", (e) => wrong.push(`error: ${e.message}`));
// Before somebody is logged in the server says so, and the browser shows that.
page.on("console", (m) => { if (m.type() === "error" && (isIn || !m.text().includes("401"))) wrong.push(`console: ${m.text()}`); });
page.on("request", (r) => { if (!r.url().startsWith(url) && !r.url().startsWith("data:")) wrong.push(`asks for ${r.url()}`); });

async function push(machine, minute, vibration) {
  const ts = new Date(Date.UTC(2026, 2, 1, 0, minute)).toISOString();
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(`${url}/api/v1/sources/readings/rows`, { method: "POST", headers, body: JSON.stringify([{ machine, ts, vibration }]) });
  if (answer.status !== 200) throw new Error(`rows were not taken: ${await answer.text()}`);
}

/** What people who cannot see or use a mouse would stumble over, and a picture. */
async function look(at) {
  if (folder) await page.screenshot({ path: `${folder}/${at}.png` });
  await page.evaluate(axe);
  const found = await page.evaluate(async () => (await axe.run()).violations.filter((v) => ["serious", "critical"].includes(v.impact)).map((v) => `${v.id}: ${v.nodes[0].html}`));
  wrong.push(...found.map((f) => `${at}: ${f}`));
}

async function open(hash, heading) {
  await page.goto(`${url}/${hash}`);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
}

const row = (text) => page.locator("tbody tr").filter({ hasText: text });

for (let minute = 0; minute < 30; minute += 1) for (const m of ["M-1", "M-2"]) await push(m, minute, m === "M-2" ? 9.5 : minute / 10);

await open("#/fleet", "Log in");
await look("login");
await page.getByLabel("Name").fill(name);
await page.getByLabel("Password").fill("a wrong password");
await page.getByRole("button", { name: "Log in" }).click();
await page.getByRole("alert").filter({ hasText: "name or password is wrong" }).waitFor();
await page.getByLabel("Password").fill(password);
await page.getByRole("button", { name: "Log in" }).click();
await page.getByText(`${name} (admin)`).waitFor();
isIn = true;

// Live: what comes is seen without anybody doing anything.
await row("M-1").waitFor();
await push("M-1", 40, 4.25);
await row("M-1").filter({ hasText: "4.25" }).waitFor();
await look("fleet");

await open("#/alerts", "Alerts");
await page.getByRole("button", { name: "Acknowledge: M-2 hot" }).click();
await look("acknowledge");
await page.getByRole("button", { name: "Send" }).click();
await row("M-2").filter({ hasText: name }).waitFor();
await look("alerts");

await open("#/machine/latest/M-1", "M-1");
await page.locator("canvas").first().waitFor();
await page.waitForFunction(() => {
  const canvas = document.querySelector("canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.some((value) => value > 0);
});
await look("machine");

await open("#/pipeline", "Pipeline");
await page.locator("svg .node").first().waitFor();
await row("readings").first().waitFor();
await look("pipeline");
await open("#/tables", "Tables");
await row("M-2").waitFor();
await look("tables");
await open("#/models", "Models");
await look("models");
await open("#/sql", "SQL");
await page.locator("textarea").fill("SELECT machine, count(*) AS n FROM readings GROUP BY machine ORDER BY machine");
await page.keyboard.press("Control+Enter");
await row("M-1").filter({ hasText: "31" }).waitFor();
await look("sql");

await page.locator("#theme").click();
for (const at of ["fleet", "alerts", "pipeline", "sql"]) {
  await page.goto(`${url}/#/${at}`);
  await page.waitForTimeout(500);
  await look(`${at}-dark`);
}
await page.locator("#language").selectOption("ko");
await open("#/alerts", "알람");
await look("alerts-ko");
await page.getByRole("button", { name: "로그아웃" }).click();
isIn = false;
await page.getByRole("heading", { level: 1, name: "로그인" }).waitFor();
await browser.close();
if (wrong.length) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log("ok");
