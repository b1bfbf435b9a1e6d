// A query, its rows, and a picture of them where the first column is a time or a number.

import { csv, query } from "../api.js";
import { chart, el, isNumber, keep, table } from "../dom.js";
import { say } from "../words.js";

const KEPT = "foreline-sql";

export async function sql(into) {
  const text = el("textarea", { spellcheck: "false", "aria-label": "SQL" });
  text.value = sessionStorage.getItem(KEPT) ?? "SELECT table_name, column_name, data_type\nFROM information_schema.columns\nWHERE table_schema = 'public' ORDER BY table_name, ordinal_position";
  const result = el("div");
  const said = el("span", { class: "soft", role: "status" });
  const run = el("button", { type: "button", class: "main", onclick: ask }, say("run"));
  const save = el("button", { type: "button", onclick: download }, say("csv"));
  text.addEventListener("keydown", (e) => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) ask(); });
  into.append(el("div", { class: "card" }, text, el("div", { class: "bar" }, run, save, el("span", { class: "soft" }, say("run_hint")), said)), result);

  async function ask() {
    sessionStorage.setItem(KEPT, text.value);
    run.disabled = true;
    said.textContent = "…";
    try {
      const found = await query(text.value, 5000);
      // Columns may share a name; their place tells them apart.
      const columns = found.columns.map((c, i) => ({ name: String(i), label: c.name, type: c.type }));
      const rows = found.rows.map((row) => Object.fromEntries(row.map((v, i) => [String(i), v])));
      said.textContent = `${rows.length} ${say("rows")} · ${Math.round(found.seconds * 1000)} ms` +
        (found.epoch === null ? "" : ` · ${say("epoch")} ${found.epoch}`) + (found.truncated ? ` · ${say("truncated")}` : "");
      result.replaceChildren(el("div", { class: "card" }, table(columns, rows.slice(0, 1000), { caption: "SQL" })));
      picture(found, result);
    } catch (e) {
      said.textContent = "";
      result.replaceChildren(el("div", { class: "card error", role: "alert" }, e.message));
    }
    run.disabled = false;
  }

  async function download() {
    try {
      keep(await csv(text.value), "foreline.csv");
    } catch (e) {
      said.textContent = e.message;
    }
  }
  return {};
}

function picture(found, into) {
  const isTime = (c) => c.type.startsWith("timestamp");
  const x = found.columns.findIndex(isTime);
  const values = found.columns.map((c, i) => ({ ...c, i })).filter((c) => c.i !== x && isNumber(c.type)).slice(0, 6);
  if (x < 0 || !values.length || found.rows.length < 2) return;
  const rows = [...found.rows].filter((r) => r[x] !== null).sort((a, b) => (a[x] < b[x] ? -1 : 1));
  const card = el("div", { class: "card" }, el("h2", {}, say("chart")));
  const place = el("div", { class: "chart" });
  card.append(place);
  into.prepend(card);
  chart(place, rows.map((r) => Date.parse(r[x]) / 1000), values.map((c) => ({ label: c.name, values: rows.map((r) => r[c.i]) })));
}
