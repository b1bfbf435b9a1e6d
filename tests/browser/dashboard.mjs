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
// What failed to load is told by the answers below, which say when it was asked for.
page.on("console", (m) => { if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) wrong.push(`console: ${m.text()}`); });
// Who is not logged in is refused, and that is how it should be.
const asked_outside = new WeakSet();
page.on("request", (r) => { if (!isIn) asked_outside.add(r); });
page.on("response", (r) => { const refused = r.status() === 401 && (!isIn || asked_outside.has(r.request())); if (r.status() >= 400 && !refused) wrong.push(`${r.status()}: ${r.url()}`); });
page.on("request", (r) => { if (!r.url().startsWith(url) && !r.url().startsWith("data:")) wrong.push(`asks for ${r.url()}`); });

async function give(source, rows) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(`${url}/api/v1/sources/${source}/rows`, { method: "POST", headers, body: JSON.stringify(rows) });
  if (answer.status !== 200) throw new Error(`rows were not taken: ${await answer.text()}`);
}

async function push(machine, minute, vibration) {
  const ts = new Date(Date.UTC(2026, 2, 1, 0, minute)).toISOString();
  const isIll = vibration > 8;
  const rul_hours = 100 - minute;
  const life = { rul_hours, rul_hours_low: rul_hours - 20, rul_hours_high: rul_hours + 20, rul_hours_because: "vibration -12.3, load +4.5" };
  await give("readings", [{ machine, ts, vibration, diagnosis: isIll ? "imbalance" : "normal", downtime_cost: isIll ? 1.5 : 0, ...life }]);
}

/** Four seconds of a sine, at 1 kHz, with a spike of one sample. */
const [HERTZ, RATE, SAMPLES] = [50, 1000, 4000];
async function push_wave(machine) {
  const start = Date.UTC(2026, 2, 1, 0, 30);
  const rows = Array.from({ length: SAMPLES }, (_, i) => ({ machine, ts: new Date(start + (i * 1000) / RATE).toISOString(), acceleration: 2 * Math.sin((2 * Math.PI * HERTZ * i) / RATE) + (i === 2345 ? 5 : 0) }));
  await give("wave", rows);
}

function is(condition, what) {
  if (!condition) wrong.push(what);
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
await push_wave("M-1");

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

// A row is given and a stream is kept: all of it is there before somebody looks.
await page.waitForFunction(async (most) => {
  const answer = await fetch("/api/v1/tables/wave/series?columns=acceleration&machine=M-1&points=1");
  return answer.ok && (await answer.json()).rows === most;
}, SAMPLES);
await open("#/machine/latest/M-1", "M-1");
await page.locator("#waveform canvas").waitFor();
const drawn = (at) => page.waitForFunction((at) => {
  const canvas = document.querySelector(`${at} canvas`);
  if (!canvas) return false;
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return data.some((value) => value > 0);
}, at);
const points = async () => Number(await page.locator("#waveform").getAttribute("data-points"));
const shows = (few) => page.waitForFunction((few) => (Number(document.querySelector("#waveform").dataset.points) < 2000) === few, few);
await drawn("#waveform");
await page.locator("#spectrum[data-peak]").waitFor();
await drawn("#spectrum");
const peak = async () => Number(await page.locator("#spectrum").getAttribute("data-peak"));
is(Math.abs((await peak()) - HERTZ) < 0.3, `the highest line is at ${await peak()} Hz`);
const most = await points();
is(most > 2000 && most <= 2400, `${most} points are drawn`);
await page.locator(".u-over").first().waitFor();
await look("machine");
// A stretch that is drawn is asked for anew, in all its samples; a double click goes back.
await page.locator("#waveform").scrollIntoViewIfNeeded();
const over = await page.locator("#waveform .u-over").boundingBox();
await page.mouse.move(over.x + over.width * 0.25, over.y + 60);
await page.mouse.down();
await page.mouse.move(over.x + over.width * 0.5, over.y + 60, { steps: 5 });
await page.mouse.up();
await shows(true);
const few = await points();
is(Math.abs(few - SAMPLES / 4) < 30, `a quarter of the stretch has ${few} samples`);
await page.locator("#spectrum[data-peak]").waitFor();
is(Math.abs((await peak()) - HERTZ) < 1.1, `of a quarter the highest line is at ${await peak()} Hz`);
await page.locator("#waveform .u-over").dblclick();
await shows(false);
// Without a mouse.
await page.getByRole("button", { name: "Look nearer" }).click();
await page.waitForFunction((most) => Number(document.querySelector("#waveform").dataset.points) < most, most);
await page.getByRole("button", { name: "Whole stretch" }).click();
await shows(false);
await page.getByRole("heading", { name: "Remaining life: rul_hours" }).waitFor();
await page.getByRole("img", { name: /vibration -12.3, load 4.5/ }).waitFor();

await open("#/diagnoses", "Diagnoses");
const lane = page.locator("svg.lanes rect").filter({ has: page.locator("title", { hasText: "M-2: imbalance" }) });
await lane.waitFor();
is((await page.locator("svg.lanes rect").count()) === 2, "two machines have a stretch each");
await row("imbalance").first().waitFor();
await lane.focus();
await page.getByRole("status").filter({ hasText: "M-2: imbalance" }).waitFor();
await look("diagnoses");
await page.getByRole("button", { name: /imbalance/ }).click();
await page.getByText("1 – 30").waitFor();
is((await row("normal").count()) === 0, "rows of another class are shown");

await open("#/cost", "Cost");
await page.locator(".tile").filter({ hasText: "45" }).waitFor();
await page.getByRole("img", { name: /M-2 45, M-1 0/ }).waitFor();
await look("cost");

await open("#/admin", "Admin");
await row(name).first().waitFor();
const section = (title) => page.locator("section").filter({ has: page.getByRole("heading", { name: title, exact: true }) });
const users = section("Users");
await users.getByLabel("Name").fill("bob");
await users.getByLabel("Password").fill("a long enough one");
await users.getByRole("button", { name: "Add user" }).click();
await users.locator("tbody tr").filter({ hasText: "bob" }).waitFor();
const tokens = section("Tokens");
await tokens.getByLabel("Name").fill("grafana");
await tokens.getByRole("button", { name: "Make a token" }).click();
const made = tokens.getByLabel("This token is shown this once.");
await made.waitFor();
is((await made.inputValue()).startsWith("flt_"), "a token is shown");
page.on("dialog", (dialog) => dialog.accept());
await tokens.getByRole("button", { name: "Revoke: grafana" }).click();
await tokens.getByRole("button", { name: "Revoke: grafana" }).waitFor({ state: "detached" });
await section("Audit log").locator("tbody tr").filter({ hasText: "/api/v1/tokens/" }).first().waitFor();
await section("Invitations").getByRole("button", { name: "Make an invitation" }).click();
const link = section("Invitations").getByLabel(/This link/);
await link.waitFor();
await look("admin");

// Who is invited makes an account, and is shown nothing of this page.
const other = await (await browser.newContext({ locale: "en-US" })).newPage();
other.on("pageerror", (e) => wrong.push(`invited: ${e.message}`));
await other.goto(await link.inputValue());
await other.getByLabel("Name").fill("cho");
await other.getByLabel("Password").fill("a long enough one");
await other.getByRole("button", { name: "Make an account" }).click();
await other.getByText("cho (viewer)").waitFor();
await other.getByRole("heading", { level: 1, name: "Fleet" }).waitFor();
is((await other.getByRole("link", { name: "Admin" }).count()) === 0, "a viewer is shown the page of administrators");
await other.close();

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
/** What a page has once it is drawn. */
const DRAWN = { fleet: "tbody tr", alerts: "tbody tr", diagnoses: "svg.lanes rect", cost: "svg.bars", admin: "tbody tr", pipeline: "svg .node", sql: "textarea", "machine/latest/M-1": "#spectrum[data-peak]" };
async function look_again(at, heading, as) {
  await open(`#/${at}`, heading);
  await page.locator(`main ${DRAWN[at]}`).first().waitFor();
  await look(`${at.split("/")[0]}-${as}`);
}
const english = { fleet: "Fleet", alerts: "Alerts", diagnoses: "Diagnoses", cost: "Cost", admin: "Admin", pipeline: "Pipeline", sql: "SQL", "machine/latest/M-1": "M-1" };
for (const [at, heading] of Object.entries(english)) await look_again(at, heading, "dark");
await page.locator("#language").selectOption("ko");
const korean = { alerts: "알람", diagnoses: "진단", cost: "비용", admin: "관리", "machine/latest/M-1": "M-1" };
for (const [at, heading] of Object.entries(korean)) await look_again(at, heading, "ko");
isIn = false;
await page.getByRole("button", { name: "로그아웃" }).click();
await page.getByRole("heading", { level: 1, name: "로그인" }).waitFor();
await browser.close();
if (wrong.length) {
  console.error(wrong.join("\n"));
  process.exit(1);
}
console.log("ok");
