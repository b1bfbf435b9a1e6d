// How the pipeline goes: what it is made of with its rates, what holds it up, and rows that could not be used.

import { get } from "../api.js";
import { el, svg, table } from "../dom.js";
import { say, shown } from "../words.js";

const [WIDE, HIGH, APART, BELOW] = [172, 46, 56, 14];

export async function pipeline(into) {
  const state = el("p", { class: "state" });
  const drawing = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": say("graph") });
  const parts = ["sources", "steps", "sinks", "dead_letters"].map((name) => [name, el("div")]);
  into.append(state, el("div", { class: "card" }, drawing), ...parts.map(([name, card]) => el("section", { class: "card" }, el("h2", {}, say(name)), card)));
  const card = Object.fromEntries(parts);

  async function refresh() {
    const [now, graph, dead] = await Promise.all(["pipeline", "graph", "dead_letters?limit=20"].map((path) => get(`/api/v1/${path}`)));
    const held = now.held_up_by.map((f) => `${f.what} '${f.name}': ${f.why}`).join("; ");
    state.className = `state ${now.state}`;
    state.textContent = `${now.name} · ${say(`is_${now.state}`)}${held ? `: ${held}` : ""}`;
    drawing.replaceChildren(draw(graph));
    fill(card.sources, say("sources"), now.sources, ["name", "kind", "rows", "rows_per_second", "late", "deduplicated", "dead", "watermark", "lag_seconds", "silent_seconds"]);
    fill(card.steps, say("steps"), now.steps, ["name", "kind", "in", "used", "filtered", "late", "dead", "held", "out", "in_per_second", "busy_seconds"]);
    fill(card.sinks, say("sinks"), now.sinks, ["name", "stream", "kind", "rows", "committed_epoch", "lag_epochs", "waiting_epochs", "retries", "trouble"]);
    const counts = Object.entries(dead.counts).flatMap(([operator, reasons]) => Object.entries(reasons).map(([reason, n]) => `${operator}: ${reason} ${shown(n)}`));
    fill(card.dead_letters, say("dead_letters"), dead.dead_letters, ["operator", "reason", "detail", "key", "epoch"]);
    if (counts.length) card.dead_letters.prepend(el("p", { class: "soft" }, counts.join(" · ")));
    return now.epoch;
  }
  return { refresh };
}

/** Rates and times flicker: three digits of them are read. */
const rounded = (value) => (Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3)));

/** Rows as a table whose columns are counts and rates. */
function fill(into, caption, rows, names) {
  const number = (name) => rows.some((row) => typeof row[name] === "number");
  const columns = names.map((name) => ({ name, label: name.replaceAll("_", " "), type: number(name) ? "float64" : "", wrap: name === "detail" || name === "trouble" }));
  const cells = Object.fromEntries(names.filter((name) => /second/.test(name)).map((name) => [name, (value) => shown(typeof value === "number" ? rounded(value) : value)]));
  into.replaceChildren(rows.length ? table(columns, rows, { caption, cells }) : el("p", { class: "soft" }, say("nothing")));
}

/** Nodes from left to right, each behind all that it reads. */
function draw({ nodes, edges }) {
  const at = new Map(nodes.map((node) => [node.id, 0]));
  for (let round = 0; round < nodes.length; round += 1) {
    for (const { from, to } of edges) if (from && at.get(to) <= at.get(from)) at.set(to, at.get(from) + 1);
  }
  const columns = [];
  const place = new Map();
  for (const node of nodes) {
    const column = (columns[at.get(node.id)] ??= []);
    place.set(node.id, { x: at.get(node.id) * (WIDE + APART) + 1, y: column.push(node) * (HIGH + BELOW) - HIGH - BELOW + 1 });
  }
  const rows = Math.max(1, ...columns.map((column) => column?.length ?? 0));
  const [width, height] = [columns.length * (WIDE + APART) - APART + 2, rows * (HIGH + BELOW) - BELOW + 2];
  const lines = edges.filter(({ from }) => from).map(({ from, to, stream, rows_per_second: rate }) => {
    const [a, b] = [place.get(from), place.get(to)];
    const [x0, y0, x1, y1] = [a.x + WIDE, a.y + HIGH / 2, b.x, b.y + HIGH / 2];
    const path = svg("path", { class: rate > 0 ? "edge flows" : "edge", d: `M${x0},${y0} C${x0 + APART / 2},${y0} ${x1 - APART / 2},${y1} ${x1},${y1}` });
    path.append(svg("title", {}, `${stream}: ${shown(rounded(rate ?? 0))} ${say("per_second")}`));
    return path;
  });
  const boxes = nodes.map((node) => {
    const { x, y } = place.get(node.id);
    const rate = node.sort === "source" ? node.out_per_second : node.in_per_second;
    const box = svg("g", { class: `node ${node.sort}`, transform: `translate(${x},${y})` },
      svg("rect", { width: WIDE, height: HIGH, rx: 6 }),
      svg("text", { x: 10, y: 19, class: "name" }, node.name.length > 22 ? `${node.name.slice(0, 21)}…` : node.name),
      svg("text", { x: 10, y: 36 }, `${node.kind} · ${shown(rounded(rate ?? 0))}/s`));
    box.prepend(svg("title", {}, `${node.sort} ${node.name}: ${shown(node.rows_in)} → ${shown(node.rows_out)}`));
    return box;
  });
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": say("graph") }, ...lines, ...boxes);
}
