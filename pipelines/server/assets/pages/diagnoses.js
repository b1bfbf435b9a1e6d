// What models said was wrong, over time: how often, when on which machine, and the rows.

import { csv, get, literal, query, quoted, streams } from "../api.js";
import { el, field, keep, svg, table } from "../dom.js";
import { say, shown } from "../words.js";
import { ofMachines } from "./fleet.js";

const KEEP = { table: null, column: null, machine: "", from: "", to: "", kind: null };
const IS_CLASS = /^(diagnosis|class|predicted_class|fault.*|.*_(class|fault|diagnosis))$/i;
const IS_WORD = /^(Utf8|LargeUtf8|Utf8View|Dictionary|U?Int(8|16|32|64)|Boolean)/;
const HEALTHY = /^(normal|healthy|ok|good|none|no.?fault|0|false)$/i;
/** Stretches that are drawn, lanes, classes, and rows of a page. */
const [STRETCHES, LANES, CLASSES, ROWS] = [4000, 60, 24, 50];
/** Those that are not healthy; what is common comes first. */
const COLOURS = 8;
const [WIDE, LEFT, LANE, FOOT] = [1180, 150, 26, 26];

/** Between two marks of time, in minutes. */
const STEPS = [1, 5, 15, 30, 60, 180, 360, 720, 1440, 2880, 10080, 20160, 43200, 129600, 525600];

/** Round times of whoever looks, at most eight. */
function ticks(first, last) {
  const step = 60e3 * (STEPS.find((minutes) => (last - first) / (minutes * 60e3) <= 8) ?? STEPS.at(-1) * Math.ceil((last - first) / 8 / 525600 / 60e3));
  const east = new Date(first).getTimezoneOffset() * -60e3;
  const found = [];
  for (let at = Math.ceil((first + east) / step) * step - east; at <= last; at += step) found.push(at);
  return found;
}

/** What the timeline and the filters ask of a table. */
function candidates(all, keys, tables) {
  const found = new Map();
  for (const [name, columns] of all) {
    const time = columns.find((c) => c.type.startsWith("Timestamp"));
    const machine = columns.find((c) => keys.has(c.name)) ?? columns.find((c) => c.name === "machine");
    if (!time || !machine) continue;
    const classes = columns.filter((c) => c !== machine && IS_WORD.test(c.type) && !/^(model_|alert$)/.test(c.name));
    const units = new Map(tables.find((t) => t.name === name)?.columns.map((c) => [c.name, c.unit]));
    if (classes.length) found.set(name, { units, time: time.name, machine: machine.name, columns, classes, known: classes.find((c) => IS_CLASS.test(c.name)) });
  }
  return found;
}

export async function diagnoses(into) {
  const { tables } = await get("/api/v1/tables");
  const keys = new Set(ofMachines(tables).map((t) => t.key[0]));
  const all = await streams().catch(() => new Map());
  for (const own of ["metrics", "runs", "audit", "dead_letters", "alerts", "models"]) all.delete(own);
  // A view of the latest rows has no history: whatever has one comes first.
  const views = new Set(ofMachines(tables).map((t) => t.name));
  const found = [...candidates(all, keys, tables)].sort(([a, x], [b, y]) => Number(!x.known) - Number(!y.known) || Number(views.has(a)) - Number(views.has(b)));
  if (!found.length) return into.append(el("div", { class: "card" }, el("p", {}, say("no_diagnoses"))));
  const choices = new Map(found);
  if (!choices.has(KEEP.table)) Object.assign(KEEP, { table: found[0][0], column: null, machine: "", kind: null });
  const option = (name) => el("option", { value: name }, name);
  const change = (name) => (e) => { KEEP[name] = e.target.value; page = 0; draw(); };
  const from_table = el("select", { onchange: (e) => { Object.assign(KEEP, { table: e.target.value, column: null, machine: "", kind: null }); fill(); } }, found.map(([name]) => option(name)));
  const column = el("select", { onchange: (e) => { Object.assign(KEEP, { column: e.target.value, kind: null }); page = 0; draw(); } });
  const machine = el("select", { onchange: change("machine") });
  const from = el("input", { type: "datetime-local", value: KEEP.from, onchange: change("from") });
  const to = el("input", { type: "datetime-local", value: KEEP.to, onchange: change("to") });
  const kinds = el("div", { class: "kinds", role: "group", "aria-label": say("class") });
  const lanes = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("timeline") });
  const told = el("p", { class: "soft told", role: "status" });
  const list = el("div");
  const count = el("span", { class: "soft" });
  const before = el("button", { type: "button", onclick: () => { page -= 1; draw(); } }, say("before"));
  const next = el("button", { type: "button", onclick: () => { page += 1; draw(); } }, say("next"));
  const save = el("button", { type: "button", onclick: download }, say("csv"));
  let page = 0;
  /** The last thing that was asked: an answer to one before is not shown. */
  let turn = 0;
  into.append(
    el("div", { class: "bar" }, field(say("table"), from_table), field(say("column"), column), field(say("machine"), machine), field(say("from"), from), field(say("to"), to)),
    el("section", { class: "card" }, el("h2", {}, say("class")), kinds),
    el("section", { class: "card" }, el("h2", {}, say("timeline")), lanes, told),
    el("section", { class: "card" }, el("h2", {}, say("rows_below")), el("div", { class: "bar" }, before, next, save, count), list));
  from_table.value = KEEP.table;
  await fill();

  async function fill() {
    const { classes, known, machine: key } = choices.get(KEEP.table);
    column.replaceChildren(...classes.map((c) => option(c.name)));
    KEEP.column = classes.find((c) => c.name === KEEP.column)?.name ?? (known ?? classes[0]).name;
    column.value = KEEP.column;
    const names = await query(`SELECT DISTINCT ${quoted(key)} FROM ${quoted(KEEP.table)} ORDER BY 1`, 500);
    machine.replaceChildren(el("option", { value: "" }, say("all")), ...names.rows.filter(([m]) => m !== null).map(([m]) => option(String(m))));
    machine.value = KEEP.machine;
    page = 0;
    await draw();
  }

  function where(isOfKind = true) {
    const { time, machine: key } = choices.get(KEEP.table);
    const of = (name) => quoted(name);
    const moment = (text) => `TIMESTAMP '${new Date(text).toISOString()}'`;
    const all = [`${of(KEEP.column)} IS NOT NULL`];
    if (KEEP.machine) all.push(`CAST(${of(key)} AS VARCHAR) = ${literal(KEEP.machine)}`);
    if (KEEP.from) all.push(`${of(time)} >= ${moment(KEEP.from)}`);
    if (KEEP.to) all.push(`${of(time)} < ${moment(KEEP.to)}`);
    if (isOfKind && KEEP.kind !== null) all.push(`CAST(${of(KEEP.column)} AS VARCHAR) = ${literal(KEEP.kind)}`);
    return all.join(" AND ");
  }

  /** The newest first; who, when and what at the left. */
  function list_sql() {
    const { time, machine: key, columns } = choices.get(KEEP.table);
    const head = [time, key, KEEP.column];
    const names = [...head, ...columns.map((c) => c.name).filter((name) => !head.includes(name))];
    return `SELECT ${names.map(quoted).join(", ")} FROM ${quoted(KEEP.table)} WHERE ${where()} ORDER BY ${quoted(time)} DESC, ${quoted(key)}`;
  }

  async function draw() {
    const failed = (into) => (e) => into.replaceChildren(el("p", { class: "error", role: "alert" }, e.message));
    await Promise.all([classes_and_lanes().catch(failed(lanes)), rows().catch(failed(list))]);
  }

  async function classes_and_lanes() {
    const { time, machine: key } = choices.get(KEEP.table);
    const mine = ++turn;
    const [c, m, t, f] = [KEEP.column, key, time, KEEP.table].map(quoted);
    const counts = await query(`SELECT CAST(${c} AS VARCHAR) AS class, count(*) AS n FROM ${f} WHERE ${where(false)} GROUP BY 1 ORDER BY n DESC, class`, CLASSES);
    if (mine !== turn) return;
    const colours = new Map();
    for (const [name] of counts.rows) colours.set(name, HEALTHY.test(name) ? "healthy" : `class${[...colours.values()].filter((k) => k !== "healthy").length % COLOURS}`);
    const total = counts.rows.reduce((sum, [, n]) => sum + n, 0);
    kinds.replaceChildren(...counts.rows.map(([name, n]) => el("button", { type: "button", "aria-pressed": String(KEEP.kind === name), onclick: () => { KEEP.kind = KEEP.kind === name ? null : name; page = 0; draw(); } },
      svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, svg("rect", { width: 12, height: 12, rx: 3, class: colours.get(name) })),
      el("b", {}, name), el("span", { class: "soft" }, `${shown(n)} · ${shown(Math.round((1000 * n) / total) / 10)} %`))));
    if (!total) {
      told.textContent = "";
      return lanes.replaceChildren(el("p", { class: "soft" }, say("nothing")));
    }
    // A row at which the class changes begins a stretch; the last row of a machine ends its lane.
    const steps = `SELECT CAST(${m} AS VARCHAR) AS m, CAST(${t} AS BIGINT) AS t, CAST(${c} AS VARCHAR) AS c,
      lag(CAST(${c} AS VARCHAR)) OVER (PARTITION BY ${m} ORDER BY ${t}) AS p, lead(${t}) OVER (PARTITION BY ${m} ORDER BY ${t}) AS n FROM ${f} WHERE ${where(false)}`;
    const changes = await query(`SELECT m, t, c, n IS NULL AS is_last FROM (${steps}) WHERE p IS NULL OR p <> c OR n IS NULL ORDER BY m, t`, STRETCHES);
    if (mine !== turn) return;
    timeline(changes, colours);
  }

  function timeline(changes, colours) {
    const machines = new Map();
    for (const [m, ns, kind] of changes.rows) {
      const own = machines.get(m) ?? [];
      const last = own.at(-1);
      if (last) last.to = ns / 1e6;
      if (!last || last.kind !== kind) own.push({ kind, from: ns / 1e6, to: ns / 1e6 });
      machines.set(m, own);
    }
    const shownLanes = [...machines].slice(0, LANES);
    const every = shownLanes.flatMap(([, own]) => own);
    const [first, last] = [Math.min(...every.map((s) => s.from)), Math.max(...every.map((s) => s.to))];
    const x = (at) => LEFT + ((at - first) / (last - first || 1)) * (WIDE - LEFT - 10);
    const height = shownLanes.length * LANE + FOOT;
    const drawing = svg("svg", { class: "lanes", viewBox: `0 0 ${WIDE} ${height}`, width: WIDE, height, role: "group", "aria-label": say("timeline") });
    const moment = (at) => shown(new Date(at).toISOString(), "timestamp");
    shownLanes.forEach(([name, own], lane) => {
      const y = lane * LANE;
      drawing.append(svg("text", { x: LEFT - 12, y: y + 17, "text-anchor": "end" }, name.length > 20 ? `${name.slice(0, 19)}…` : name));
      own.forEach((stretch, i) => {
        const text = `${name}: ${stretch.kind}, ${moment(stretch.from)} – ${moment(stretch.to)}`;
        const faint = KEEP.kind !== null && KEEP.kind !== stretch.kind ? " faint" : "";
        const rect = svg("rect", { x: x(stretch.from), y: y + 3, width: Math.max(2, x(stretch.to) - x(stretch.from)), height: LANE - 6, rx: 2,
          class: `${colours.get(stretch.kind) ?? "class7"}${faint}`, tabindex: i ? -1 : 0, role: "img", "aria-label": text, "data-lane": lane, "data-at": i }, svg("title", {}, text));
        const tell = () => { told.textContent = text; };
        rect.addEventListener("focus", tell);
        rect.addEventListener("mouseenter", tell);
        drawing.append(rect);
      });
    });
    for (const at of ticks(first, last)) {
      drawing.prepend(svg("line", { x1: x(at), x2: x(at), y1: 0, y2: height - FOOT + 4, class: "tick" }));
      drawing.append(svg("text", { x: x(at), y: height - 6, "text-anchor": x(at) > WIDE - 60 ? "end" : "middle", class: "faded" }, day(at, last - first)));
    }
    drawing.addEventListener("keydown", (e) => {
      const [lane, at] = [Number(e.target.dataset.lane), Number(e.target.dataset.at)];
      const aim = { ArrowRight: [lane, at + 1], ArrowLeft: [lane, at - 1], ArrowDown: [lane + 1, 0], ArrowUp: [lane - 1, 0] }[e.key];
      if (!aim) return;
      e.preventDefault();
      drawing.querySelector(`[data-lane="${aim[0]}"][data-at="${aim[1]}"]`)?.focus();
    });
    lanes.replaceChildren(drawing);
    const left = machines.size > LANES || changes.truncated;
    told.textContent = left ? say("more_lanes", shownLanes.length) : say("timeline_hint");
  }

  function day(at, span) {
    return new Intl.DateTimeFormat(document.documentElement.lang, span > 4 * 86400e3 ? { month: "short", day: "numeric" } : { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(at);
  }

  async function rows() {
    const at = page;
    const asked = `${list_sql()} LIMIT ${ROWS + 1} OFFSET ${at * ROWS}`;
    const found = await query(asked, ROWS + 1);
    if (at !== page || asked !== `${list_sql()} LIMIT ${ROWS + 1} OFFSET ${at * ROWS}`) return;
    const { units } = choices.get(KEEP.table);
    const columns = found.columns.map((c) => ({ name: c.name, type: c.type, unit: units.get(c.name) }));
    const all = found.rows.slice(0, ROWS).map((row) => Object.fromEntries(row.map((v, i) => [columns[i].name, v])));
    list.replaceChildren(all.length ? table(columns, all, { caption: say("rows_below") }) : el("p", { class: "soft" }, say("nothing")));
    before.disabled = page === 0;
    next.disabled = found.rows.length <= ROWS;
    count.textContent = all.length ? `${shown(page * ROWS + 1)} – ${shown(page * ROWS + all.length)}` : "";
  }

  async function download() {
    try {
      keep(await csv(list_sql()), "diagnoses.csv");
    } catch (e) {
      count.textContent = e.message;
    }
  }
  return {};
}
