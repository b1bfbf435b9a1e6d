// One machine: what views say of it and why, its remaining life, its signals with their spectrum, and its alerts.

import { get } from "../api.js";
import { badge, bars, chart, el, isExplanation, isNumber, table } from "../dom.js";
import { say, shown, unitOf } from "../words.js";
import { waveform } from "./waveform.js";

/** Bars of an explanation. */
const GREATEST = 10;
/** How the truth of a prediction is called, where there is one. */
const TRUTHS = ["truth", "{}_truth", "{}_true", "true_{}"];
const LOW = ["_lower", "_low"];
const HIGH = ["_upper", "_high"];

export async function machine(into, view, id) {
  const { tables } = await get("/api/v1/tables");
  const about = tables.find((t) => t.name === view);
  if (!about) return into.append(el("p", { class: "error" }, say("not_found")));
  const [key] = about.key;
  const [facts, why, life, signal, alerts] = Array.from({ length: 5 }, () => el("section", { class: "card" }));
  why.hidden = true;
  life.hidden = true;
  into.append(el("p", {}, el("a", { href: "#/fleet" }, `← ${say("back")}`)), facts, life, why, signal, alerts);
  const parts = about.columns.filter((c) => isExplanation(c.name));
  let before = null;
  let beforeAlerts = null;
  // What the view says is not kept waiting by a long signal.
  for (const [card, drawn] of [[signal, waveform(signal, tables, key, id)], [life, remaining(life, tables, key, id)]]) {
    drawn.catch((e) => card.append(el("p", { class: "error", role: "alert" }, e.message)));
  }

  async function refresh() {
    const page = await get(`/api/v1/tables/${encodeURIComponent(view)}/rows?${encodeURIComponent(key)}=${encodeURIComponent(id)}`);
    if (page !== before) {
      before = page;
      draw(page.rows[0] ?? {});
    }
    const found = await get(`/api/v1/alerts?machine=${encodeURIComponent(id)}&limit=200`).catch(() => ({ rows: [] }));
    if (found === beforeAlerts) return page.epoch;
    beforeAlerts = found;
    const columns = [{ name: "severity", label: say("severity") }, { name: "rule", label: say("rule") }, { name: "state", label: say("state") },
      { name: "raised_at", label: say("raised"), type: "timestamp" }, { name: "cleared_at", label: say("cleared"), type: "timestamp" }];
    alerts.replaceChildren(el("h2", {}, say("alerts")), found.rows.length
      ? table(columns, found.rows, { cells: { severity: badge }, caption: say("alerts") })
      : el("p", { class: "soft" }, say("no_alerts")));
    return page.epoch;
  }

  function draw(row) {
    const others = about.columns.filter((c) => !c.type.startsWith("waveform") && !parts.includes(c));
    facts.replaceChildren(el("h2", {}, view), el("dl", { class: "tiles" }, others.map((c) =>
      el("div", {}, el("dt", { class: "soft" }, c.name), el("dd", {}, shown(row[c.name], c.type) + (c.unit && row[c.name] !== null ? ` ${unitOf(c.unit)}` : ""))))));
    const amounts = explained(row, parts);
    why.hidden = !amounts.length;
    if (amounts.length) why.replaceChildren(el("h2", {}, say("why")), bars(amounts, { caption: say("why") }), el("p", { class: "soft" }, say("why_hint")));
  }
  return { refresh };
}

/** What a row says of why: contributions in columns of their own, or the text of the greatest. */
function explained(row, parts) {
  const amounts = new Map();
  for (const { name, type } of parts) {
    const value = row[name];
    if (isNumber(type) && typeof value === "number") amounts.set(name.replace(/_contribution$/, "").replace(/^.+?_by_/, ""), value);
    if (!/_because$/.test(name) || typeof value !== "string") continue;
    for (const part of value.split(", ")) {
      const [, feature, amount] = part.match(/^(.+) ([+-]?[\d.]+(?:e[+-]?\d+)?)$/i) ?? [];
      if (feature && !amounts.has(feature)) amounts.set(feature, Number(amount));
    }
  }
  return [...amounts].sort(([, a], [, b]) => Math.abs(b) - Math.abs(a)).slice(0, GREATEST);
}

/** The remaining life as it was predicted, with its bounds, and what it was where that is known. */
async function remaining(into, tables, key, id) {
  const isLife = (c) => isNumber(c.type) && /(^|_)rul(_|$)|^remaining_life$/i.test(c.name) && !isExplanation(c.name) && ![...LOW, ...HIGH, "_base", "_truth", "_true"].some((end) => c.name.endsWith(end)) && !/^true_/.test(c.name);
  const from = tables.find((t) => (t.kind === "stream" || t.key.length > 1) && t.key.includes(key) && t.columns.some(isLife));
  if (!from) return;
  const column = from.columns.find(isLife);
  const has = (name) => from.columns.some((c) => c.name === name && isNumber(c.type));
  const [low, high] = [LOW, HIGH].map((ends) => ends.map((end) => column.name + end).find(has));
  const truth = TRUTHS.map((name) => name.replace("{}", column.name)).find(has);
  const columns = [column.name, low, high, truth].filter(Boolean);
  const asked = new URLSearchParams({ columns: columns.join(","), points: "600", [key]: id });
  const picture = el("div", { class: "chart" });
  const { series } = await get(`/api/v1/tables/${encodeURIComponent(from.name)}/series?${asked}`).catch(() => ({ series: {} }));
  const times = [...new Set(Object.values(series).flat().map(([t]) => t))].sort((a, b) => a - b);
  if (!times.length) return;
  into.hidden = false;
  into.replaceChildren(el("h2", {}, `${say("life")}: ${column.name}`), picture);
  // A column is thinned out at its own times; between them its line goes straight on.
  const values = (name) => {
    const at = new Map(series[name]);
    return times.map((t) => at.get(t) ?? undefined);
  };
  const faint = "rgba(18,138,148,.45)";
  const lines = [{ label: column.name, values: values(column.name), width: 2 }];
  if (truth) lines.push({ label: truth, values: values(truth), colour: "#c2571a", dash: [6, 4] });
  const bands = [];
  if (low && high) {
    lines.push({ label: high, values: straight(values(high), times), colour: faint, width: 1 }, { label: low, values: straight(values(low), times), colour: faint, width: 1 });
    bands.push({ series: [lines.length - 1, lines.length], fill: "rgba(18,138,148,.16)" });
  }
  chart(picture, times.map((t) => t / 1000), lines.map((l) => ({ ...l, spanGaps: true, points: false })), { unit: column.unit, bands });
}

/** Values with those between them that are missing on a straight line. */
function straight(values, times) {
  const known = values.flatMap((v, i) => (v === undefined ? [] : [i]));
  let at = 0;
  return values.map((v, i) => {
    while (at + 1 < known.length && known[at + 1] <= i) at += 1;
    const [a, b] = [known[at], known[at + 1]];
    if (v !== undefined || b === undefined || i < a) return v ?? null;
    return values[a] + ((values[b] - values[a]) * (times[i] - times[a])) / (times[b] - times[a]);
  });
}
