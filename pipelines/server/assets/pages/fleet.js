// Every machine: what a view says of it, and its worst alert.

import { get } from "../api.js";
import { badge, el, field, isExplanation, sorted, table } from "../dom.js";
import { say } from "../words.js";

const KEEP = { view: null, text: "", sort: { name: "severity", down: true } };
const EXAMPLE = "views:\n  latest: { from: features, latest: {} }\nserve: { listen: 127.0.0.1:8080 }";

/** The views whose key is one column: a row is a machine. */
export const ofMachines = (tables) =>
  tables.filter((t) => t.kind !== "stream" && t.key.length === 1 && !["alerts", "models"].includes(t.name));

/** The open alerts by machine, the worst first. */
export async function openAlerts() {
  const found = await get("/api/v1/alerts?state=open&limit=10000").catch(() => ({ rows: [] }));
  const worst = new Map();
  for (const alert of found.rows) {
    if (alert.suppressed) continue;
    const known = worst.get(alert.machine);
    if (!known || alert.severity > known.severity) worst.set(alert.machine, alert);
  }
  return { all: found.rows, worst };
}

export async function fleet(into) {
  const { tables } = await get("/api/v1/tables");
  const views = ofMachines(tables);
  if (!views.length) {
    into.append(el("div", { class: "card" }, el("p", {}, say("no_views")), el("pre", {}, EXAMPLE)));
    return {};
  }
  KEEP.view = views.find((v) => v.name === KEEP.view)?.name ?? (views.find((v) => /rul|latest/.test(v.name)) ?? views[0]).name;
  const tiles = el("div", { class: "tiles" });
  const rest = el("div", { class: "card" });
  const choice = el("select", { onchange: (e) => { KEEP.view = e.target.value; refresh(); } },
    views.map((v) => el("option", { value: v.name, selected: v.name === KEEP.view }, v.name)));
  const filter = el("input", { type: "search", value: KEEP.text, oninput: (e) => { KEEP.text = e.target.value; draw(); } });
  into.append(tiles, el("div", { class: "bar" }, field(say("view"), choice), field(say("filter"), filter)), rest);
  let found = null;

  function draw() {
    const { view, rows, alerts } = found;
    const [key] = view.key;
    // Bounds stand on the page of the machine, with the curve.
    const isBound = (name) => view.columns.some((c) => ["_low", "_high", "_lower", "_upper"].some((end) => name === c.name + end));
    const of = (row) => alerts.worst.get(String(row[key]));
    let shownRows = rows.map((row) => ({ ...row, severity: of(row)?.severity ?? 0, alert: of(row)?.rule ?? null }));
    const text = KEEP.text.toLowerCase();
    if (text) shownRows = shownRows.filter((row) => Object.values(row).some((v) => String(v).toLowerCase().includes(text)));
    const columns = [
      { name: key }, { name: "severity", label: say("state") },
      ...view.columns.filter((c) => c.name !== key && !c.type.startsWith("waveform") && !isExplanation(c.name) && !isBound(c.name)), { name: "alert", label: say("rule") },
    ];
    const cells = {
      [key]: (value) => el("a", { href: `#/machine/${encodeURIComponent(view.name)}/${encodeURIComponent(value)}` }, String(value)),
      severity: (value) => badge(value),
    };
    const onsort = (name) => { KEEP.sort = { name, down: KEEP.sort.name === name ? !KEEP.sort.down : false }; draw(); };
    const focused = document.activeElement?.textContent;
    rest.replaceChildren(table(columns, sorted(shownRows, KEEP.sort).slice(0, 1000), { cells, sort: KEEP.sort, onsort, caption: say("fleet") }));
    [...rest.querySelectorAll("th button, td a")].find((e) => e.textContent === focused && rest.contains(e))?.focus();
    const critical = alerts.all.filter((a) => a.severity === 5).length;
    const unseen = alerts.all.filter((a) => !a.acknowledged).length;
    const tile = (number, text, kind = "") => el("div", { class: "tile" }, el("b", { class: kind }, String(number)), el("span", {}, text));
    tiles.replaceChildren(tile(rows.length, say("machines")), tile(alerts.all.length, say("open_alerts")),
      tile(critical, say("critical"), critical ? "s5" : ""), tile(unseen, say("unacknowledged"), unseen ? "s4" : ""));
  }

  async function refresh() {
    const view = views.find((v) => v.name === KEEP.view);
    const [page, alerts] = await Promise.all([get(`/api/v1/tables/${encodeURIComponent(view.name)}/rows?limit=10000`), openAlerts()]);
    const changed = found?.page !== page || found?.alerts.all !== alerts.all;
    found = { view, page, rows: page.rows, alerts };
    if (changed) draw();
    return page.epoch;
  }
  return { refresh };
}
