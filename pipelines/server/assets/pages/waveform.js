// A signal of one machine, as near as somebody wants to look, and the spectrum of what is shown.
//
// Nothing here thins a signal out: a stream with `keep` is asked for through its series, others through SQL, and both
// answer with the least and the greatest of each stretch. Whoever looks nearer asks again.

import { get, literal, query, quoted, streams } from "../api.js";
import { chart, el, field, isNumber } from "../dom.js";
import { say, shown } from "../words.js";

const SPANS = { everything: null, week: 7 * 86400e3, day: 86400e3, hour: 3600e3, minute: 60e3 };
/** Stretches of a picture: more are not told apart on a screen. */
const POINTS = 1200;
/** Lines of a spectrum, each the greatest of those beside it. */
const LINES = 2000;

export async function waveform(into, tables, key, id) {
  into.append(el("h2", {}, say("waveform")));
  const kept = new Map(tables.filter((t) => t.kind === "stream" && t.key.includes(key)).map((t) => [t.name, t]));
  const known = await streams(key).catch(() => new Map());
  const choices = new Map([...kept].map(([name, t]) => [name, { time: t.time, columns: t.columns.filter((c) => isNumber(c.type)) }]));
  for (const [name, columns] of known) {
    const time = columns.find((c) => c.type.startsWith("Timestamp"));
    const isView = tables.some((t) => t.name === name && t.kind !== "stream");
    if (time && !isView && !choices.has(name)) choices.set(name, { time: time.name, columns: columns.filter((c) => isNumber(c.type)) });
  }
  for (const [name, { columns }] of choices) if (!columns.length) choices.delete(name);
  if (!choices.size) return into.append(el("p", { class: "soft" }, say("no_history")));

  const option = (name) => el("option", { value: name }, name);
  const stream = el("select", { onchange: () => { fill(); whole(); } }, [...choices.keys()].map(option));
  const column = el("select", { onchange: () => draw() });
  const span = el("select", { onchange: whole }, Object.keys(SPANS).map((name) => el("option", { value: name }, say(name))));
  const nearer = el("button", { type: "button", onclick: () => closer(0.25, 0.75) }, say("nearer"));
  const back = el("button", { type: "button", onclick: whole }, say("whole"));
  const picture = el("div", { class: "chart", id: "waveform" });
  const said = el("p", { class: "soft", role: "status" });
  const lines = el("div", { class: "chart", id: "spectrum" });
  const title = el("h2", { class: "below" }, say("spectrum"));
  into.append(el("div", { class: "bar" }, field(say("stream"), stream), field(say("column"), column), field(say("span"), span), nearer, back), picture, said, title, lines);
  /** What is shown, in milliseconds; without it everything. */
  let stretch = null;
  let turn = 0;
  // The machine's fastest signal is what somebody comes for, and not every stream has this machine.
  for (const name of ["wave", "signal", "accel"]) {
    const likely = [...choices.keys()].find((s) => s.toLowerCase().includes(name));
    if (!likely || !(await has(likely))) continue;
    stream.value = likely;
    break;
  }

  async function has(name) {
    const { time, columns } = choices.get(name);
    const found = await signal(name, time, columns[0].name, null, 1).catch(() => null);
    return Boolean(found?.points.length);
  }

  function fill() {
    const { columns } = choices.get(stream.value);
    column.replaceChildren(...columns.map((c) => option(c.name)));
  }

  async function whole() {
    stretch = null;
    const back = SPANS[span.value];
    if (back) {
      const { time } = choices.get(stream.value);
      const { points } = await signal(stream.value, time, column.value, null, 1).catch(() => ({ points: [] }));
      const last = await end(time).catch(() => points.at(-1)?.[0]);
      if (last !== undefined) stretch = [last - back, last + 1];
    }
    await draw();
  }

  /** The time of the machine's last row: what is shown ends there, and not now, when nobody may be sending. */
  async function end(time) {
    const found = await query(`SELECT CAST(max(${quoted(time)}) AS BIGINT) FROM ${quoted(stream.value)} WHERE ${quoted(key)} = ${literal(id)}`);
    return found.rows[0][0] / 1e6;
  }

  function closer(from, to) {
    const { min, max } = picture.plot?.scales.x ?? {};
    if (min === undefined) return;
    stretch = [from, to].map((part) => (min + (max - min) * part) * 1000);
    draw();
  }

  const moment = (ms) => new Date(ms).toISOString();
  const within = (time, [from, to]) => `${quoted(time)} >= TIMESTAMP '${moment(from)}' AND ${quoted(time)} < TIMESTAMP '${moment(to)}'`;
  const where = (time, ends) => `${quoted(key)} = ${literal(id)}${ends ? ` AND ${within(time, ends)}` : ""}`;

  async function signal(name, time, value, ends, points = POINTS) {
    if (kept.has(name) && kept.get(name).key.length === 1) {
      const asked = new URLSearchParams({ columns: value, points: String(points), [key]: id });
      if (ends) for (const [i, at] of ["from", "to"].entries()) asked.set(at, moment(ends[i]));
      const found = await get(`/api/v1/tables/${encodeURIComponent(name)}/series?${asked}`);
      // What is kept is forgotten with a restart; files are not.
      if (found.series[value].length || !known.has(name)) return { points: found.series[value] };
    }
    const [t, v, from] = [quoted(time), quoted(value), quoted(name)];
    const all = await query(`SELECT CAST(min(${t}) AS BIGINT), CAST(max(${t}) AS BIGINT) FROM ${from} WHERE ${where(time, ends)} AND ${v} IS NOT NULL`);
    const [first, last] = all.rows[0];
    if (first === null) return { points: [] };
    const step = Math.max(1, Math.ceil((last - first + 1) / 1e3 / points));
    const found = await query(`SELECT CAST(first_value(${t} ORDER BY ${v}, ${t}) AS BIGINT), min(${v}), CAST(first_value(${t} ORDER BY ${v} DESC, ${t}) AS BIGINT), max(${v})
      FROM ${from} WHERE ${where(time, ends)} AND ${v} IS NOT NULL GROUP BY time_bucket(INTERVAL '${step} microseconds', ${t})`, 10000);
    const both = new Map(found.rows.flatMap(([a, least, b, most]) => [[a / 1e6, least], [b / 1e6, most]]));
    return { points: [...both].sort(([a], [b]) => a - b) };
  }

  async function draw() {
    const mine = ++turn;
    const { time, columns } = choices.get(stream.value);
    const { name, unit } = columns.find((c) => c.name === column.value);
    back.disabled = !stretch;
    try {
      const { points } = await signal(stream.value, time, name, stretch);
      if (mine !== turn) return;
      const onstretch = (from, to) => { stretch = [from * 1000, to * 1000]; draw(); };
      const onwhole = () => { span.value = "everything"; whole(); };
      chart(picture, points.map(([at]) => at / 1000), [{ label: name, values: points.map(([, v]) => v), width: 1.2 }], { unit, onstretch, onwhole });
      picture.dataset.points = points.length;
      said.textContent = say("waveform_hint", shown(points.length));
      await draw_spectrum(mine, time, name, unit, points);
    } catch (e) {
      if (mine === turn) picture.replaceChildren(el("p", { class: "error", role: "alert" }, e.message));
    }
  }

  async function draw_spectrum(mine, time, name, unit, points) {
    delete lines.dataset.peak;
    const ends = stretch ?? (points.length ? [points[0][0], points.at(-1)[0] + 1] : null);
    const nothing = (text) => { lines.plot?.destroy(); lines.plot = null; lines.replaceChildren(el("p", { class: "soft" }, text)); };
    if (!ends) return nothing(say("nothing"));
    const spectrum = `SELECT unnest(spectrum(${quoted(name)}, ${quoted(time)})) AS line FROM ${quoted(stream.value)} WHERE ${where(time, ends)} AND ${quoted(name)} IS NOT NULL`;
    const each = `SELECT line['frequency'] AS f, line['amplitude'] AS a, max(line['frequency']) OVER () AS most, min(nullif(line['frequency'], 0)) OVER () AS apart FROM (${spectrum})`;
    try {
      const found = await query(`SELECT first_value(f ORDER BY a DESC) AS frequency, max(a) AS amplitude, min(apart) FROM (${each}) WHERE most > 0 GROUP BY floor(f / most * ${LINES}) ORDER BY frequency`, LINES + 1);
      if (mine !== turn) return;
      if (!found.rows.length) return nothing(say("no_spectrum"));
      const peak = found.rows.reduce((best, row) => (row[1] > best[1] ? row : best));
      const [frequencies, amplitudes] = [0, 1].map((i) => found.rows.map((row) => row[i]));
      chart(lines, frequencies, [{ label: say("amplitude"), values: amplitudes, width: 1.2, fill: "rgba(18,138,148,.14)", points: false }],
        { height: 220, unit: unit ?? null, across: { label: say("frequency"), unit: "Hz" } });
      lines.dataset.peak = peak[0];
      title.textContent = `${say("spectrum")} · ${say("peak", shown(peak[0]), shown(Number(peak[2].toPrecision(3))))}`;
    } catch (e) {
      if (mine !== turn) return;
      title.textContent = say("spectrum");
      nothing(e.message);
    }
  }

  fill();
  await draw();
}
