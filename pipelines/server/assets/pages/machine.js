// One machine: what views say of it, its alerts, and its history as lines.

import { get, literal, query, quoted } from "../api.js";
import { badge, chart, el, field, isNumber, table } from "../dom.js";
import { say, shown } from "../words.js";

const SPANS = { hour: "1 hour", day: "1 day", week: "7 days", everything: null };
const POINTS = 1200;

export async function machine(into, view, id) {
  const { tables } = await get("/api/v1/tables");
  const about = tables.find((t) => t.name === view);
  if (!about) return into.append(el("p", { class: "error" }, say("not_found")));
  const [key] = about.key;
  const facts = el("div", { class: "card" });
  const alerts = el("div", { class: "card" });
  const history = el("div", { class: "card" });
  into.append(el("p", {}, el("a", { href: "#/fleet" }, `← ${say("back")}`)), facts, history, alerts);
  await lines(history, key, id);

  async function refresh() {
    const page = await get(`/api/v1/tables/${encodeURIComponent(view)}/rows?${encodeURIComponent(key)}=${encodeURIComponent(id)}`);
    const row = page.rows[0] ?? {};
    facts.replaceChildren(el("h2", {}, view), el("dl", { class: "tiles" }, about.columns.filter((c) => !c.type.startsWith("waveform")).map((c) =>
      el("div", {}, el("dt", { class: "soft" }, c.name), el("dd", {}, shown(row[c.name], c.type) + (c.unit && row[c.name] !== null ? ` ${c.unit}` : ""))))));
    const found = await get(`/api/v1/alerts?machine=${encodeURIComponent(id)}&limit=200`).catch(() => ({ rows: [] }));
    const columns = [{ name: "severity", label: say("severity") }, { name: "rule", label: say("rule") }, { name: "state", label: say("state") },
      { name: "raised_at", label: say("raised"), type: "timestamp" }, { name: "cleared_at", label: say("cleared"), type: "timestamp" }];
    alerts.replaceChildren(el("h2", {}, say("alerts")), found.rows.length
      ? table(columns, found.rows, { cells: { severity: badge }, caption: say("alerts") })
      : el("p", { class: "soft" }, say("no_alerts")));
    return page.epoch;
  }
  return { refresh };
}

/** The history of one column, thinned out where it is asked for: least, mean and greatest of each stretch. */
async function lines(into, key, id) {
  into.append(el("h2", {}, say("history")));
  const sql = "SELECT table_name AS t, column_name AS c, data_type AS d FROM information_schema.columns WHERE table_schema = 'public' ORDER BY ordinal_position";
  const known = await query(sql, 10000).catch(() => ({ rows: [] }));
  const streams = new Map();
  for (const [t, c, d] of known.rows) streams.set(t, [...(streams.get(t) ?? []), { name: c, type: d }]);
  const { tables } = await get("/api/v1/tables");
  for (const [name, columns] of streams) {
    const time = columns.find((c) => c.type.startsWith("Timestamp"));
    const values = columns.filter((c) => isNumber(c.type));
    const isView = tables.some((t) => t.name === name);
    if (isView || !time || !values.length || !columns.some((c) => c.name === key)) streams.delete(name);
  }
  if (!streams.size) return into.append(el("p", { class: "soft" }, say("no_history")));
  const picture = el("div", { class: "chart" });
  const stream = el("select", { onchange: () => { fill(); draw(); } }, [...streams.keys()].map((s) => el("option", {}, s)));
  const column = el("select", { onchange: () => draw() });
  const span = el("select", { onchange: () => draw() }, Object.keys(SPANS).map((s) => el("option", { value: s, selected: s === "everything" }, say(s))));
  into.append(el("div", { class: "bar" }, field(say("stream"), stream), field(say("column"), column), field(say("span"), span)), picture);
  const preferred = [...streams.keys()].find((s) => /rul/.test(s)) ?? [...streams.keys()][0];
  stream.value = preferred;

  function fill() {
    const numbers = streams.get(stream.value).filter((c) => isNumber(c.type));
    column.replaceChildren(...numbers.map((c) => el("option", {}, c.name)));
    column.value = (numbers.find((c) => /^rul/.test(c.name)) ?? numbers[0]).name;
  }

  async function draw() {
    const time = streams.get(stream.value).find((c) => c.type.startsWith("Timestamp")).name;
    const [t, v, from] = [quoted(time), quoted(column.value), quoted(stream.value)];
    const since = SPANS[span.value] ? ` AND ${t} >= now() - INTERVAL '${SPANS[span.value]}'` : "";
    const where = `${quoted(key)} = ${literal(id)}${since}`;
    try {
      const ends = await query(`SELECT CAST(min(${t}) AS BIGINT), CAST(max(${t}) AS BIGINT), count(*) FROM ${from} WHERE ${where}`);
      const [first, last, n] = ends.rows[0];
      if (!n) return picture.replaceChildren(el("p", { class: "soft" }, say("nothing")));
      const step = Math.max(1, Math.ceil((last - first) / 1e6 / POINTS));
      const found = await query(`SELECT CAST(time_bucket(INTERVAL '${step} milliseconds', ${t}) AS BIGINT) AS t, min(${v}), avg(${v}), max(${v}) FROM ${from} WHERE ${where} GROUP BY t ORDER BY t`, 10000);
      const at = (i) => found.rows.map((r) => r[i]);
      const thinned = n > found.rows.length;
      const mean = { label: column.value, values: at(2) };
      const around = [{ label: "min", values: at(1), colour: "rgba(18,138,148,.45)" }, { label: "max", values: at(3), colour: "rgba(18,138,148,.45)" }];
      chart(picture, at(0).map((ns) => ns / 1e9), thinned ? [mean, ...around] : [mean]);
    } catch (e) {
      picture.replaceChildren(el("p", { class: "error" }, e.message));
    }
  }
  fill();
  await draw();
}
