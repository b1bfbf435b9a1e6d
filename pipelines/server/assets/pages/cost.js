// What columns of costs add up to: in all, by machine, by day.

import { get, query, quoted, streams } from "../api.js";
import { bars, chart, el, field, isNumber } from "../dom.js";
import { say, shown, unitOf } from "../words.js";
import { ofMachines } from "./fleet.js";

const KEEP = { choice: null };
/** Machines that are drawn, the dearest first. */
const MACHINES = 20;
const EXAMPLE = "steps:\n  priced: { from: scored, derive: { downtime_cost: \"hours_down * 410\" } }\nviews:\n  fleet: { from: priced, latest: {} }\nsinks:\n  lake: { from: [priced], parquet: { path: lake } }";

export const isCost = (name) => /._cost$/.test(name);

export async function cost(into) {
  const { tables } = await get("/api/v1/tables");
  const all = await streams().catch(() => new Map());
  const keys = new Set(ofMachines(tables).map((t) => t.key[0]));
  const units = new Map(tables.flatMap((t) => t.columns.map((c) => [`${t.name}.${c.name}`, c.unit])));
  const views = new Map(tables.filter((t) => t.kind !== "stream").map((t) => [t.name, t]));
  const choices = [...all].flatMap(([name, columns]) => columns.filter((c) => isCost(c.name) && isNumber(c.type)).map((c) => {
    const machine = columns.find((k) => keys.has(k.name)) ?? columns.find((k) => k.name === "machine");
    // The latest row of each machine says nothing of the days before it.
    const time = views.get(name)?.key.length === 1 ? null : columns.find((k) => k.type.startsWith("Timestamp"));
    return { id: `${name}.${c.name}`, name, column: c.name, machine: machine?.name, time: time?.name, isView: views.has(name) };
  })).sort((a, b) => Number(a.isView) - Number(b.isView));
  if (!choices.length) return into.append(el("div", { class: "card" }, el("p", {}, say("no_cost")), el("pre", {}, EXAMPLE)));
  KEEP.choice = choices.find((c) => c.id === KEEP.choice)?.id ?? choices[0].id;
  const choice = el("select", { onchange: (e) => { KEEP.choice = e.target.value; draw(); } }, choices.map((c) => el("option", { value: c.id }, `${c.name} · ${c.column}`)));
  choice.value = KEEP.choice;
  const tiles = el("div", { class: "tiles" });
  const machines = el("section", { class: "card" });
  const days = el("section", { class: "card" });
  into.append(el("div", { class: "bar" }, field(say("column"), choice)), tiles, machines, days);

  async function draw() {
    const { id, name, column, machine, time, isView } = choices.find((c) => c.id === KEEP.choice);
    const [c, f] = [quoted(column), quoted(name)];
    const unit = units.get(id) ? ` ${unitOf(units.get(id))}` : "";
    const tile = (value, text) => el("div", { class: "tile" }, el("b", {}, value), el("span", {}, text));
    const [total, rows, count] = (await query(`SELECT sum(${c}), count(${c}), ${machine ? `count(DISTINCT ${quoted(machine)})` : "0"} FROM ${f}`)).rows[0];
    tiles.replaceChildren(tile(shown(total) + unit, say(isView ? "cost_now" : "cost_total")), tile(shown(rows), say("rows")), ...(machine ? [tile(shown(count), say("machines"))] : []));
    machines.hidden = !machine;
    if (machine) {
      const found = await query(`SELECT CAST(${quoted(machine)} AS VARCHAR) AS m, sum(${c}) AS s FROM ${f} GROUP BY m HAVING sum(${c}) IS NOT NULL ORDER BY s DESC, m`, MACHINES);
      machines.replaceChildren(el("h2", {}, say("by_machine")), found.rows.length ? bars(found.rows, { caption: say("by_machine"), unit }) : el("p", { class: "soft" }, say("nothing")));
      if (found.truncated) machines.append(el("p", { class: "soft" }, say("dearest", MACHINES)));
    }
    days.hidden = !time;
    if (time) {
      const found = await query(`SELECT CAST(date_trunc('day', ${quoted(time)}) AS BIGINT) AS d, sum(${c}) FROM ${f} WHERE ${c} IS NOT NULL GROUP BY d ORDER BY d`, 4000);
      const place = el("div", { class: "chart" });
      days.replaceChildren(el("h2", {}, say("by_day")), place);
      // A line needs two days.
      if (found.rows.length < 2) place.append(bars(found.rows.map(([d, v]) => [new Date(d / 1e6).toISOString().slice(0, 10), v]), { caption: say("by_day"), unit }));
      else chart(place, found.rows.map(([d]) => d / 1e9), [{ label: column, values: found.rows.map(([, v]) => v), points: true }], { unit: units.get(id) ?? null });
    }
  }
  await draw();
  return {};
}
