// Elements. Values become text nodes and nothing else, so that no row can be a page.

import { say, shown, unitOf } from "./words.js";

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return element;
}

/** The same within a drawing. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function badge(severity) {
  const level = severity ?? 0;
  return el("span", { class: `badge s${level}` }, level ? say(`s${level}`) : say("good"));
}

/** Whether a column says why another one is as it is: the machine has a picture of that. */
export const isExplanation = (name) => /._contribution$|._by_.|._because$/.test(name);

export const isNumber = (type) => /^(u?int|float|decimal)/i.test(type);

/** A table of rows; `cells` may make more of a column than its text. A click on a head sorts. */
export function table(columns, rows, { cells = {}, sort = null, onsort = null, caption = "" } = {}) {
  const heads = columns.map(({ name, type = "", unit, label }) => {
    const text = (label ?? name) + (unit ? ` (${unitOf(unit)})` : "");
    if (label === "") return el("th", { scope: "col" }, el("span", { class: "unseen" }, say("actions")));
    const order = sort?.name === name ? (sort.down ? "descending" : "ascending") : null;
    const head = onsort ? el("button", { type: "button", onclick: () => onsort(name) }, text) : text;
    return el("th", { scope: "col", class: isNumber(type) ? "n" : "", "aria-sort": order }, head);
  });
  const body = rows.map((row) =>
    el("tr", {}, columns.map(({ name, type = "", wrap }) => {
      const value = row[name];
      const content = cells[name] ? cells[name](value, row) : shown(value, type);
      const kind = [isNumber(type) ? "n" : "", value === null ? "null" : "", wrap ? "wrap" : ""].join(" ").trim();
      return el("td", { class: kind || null }, content);
    })));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, body)));
}

/** Rows in the order of a column, missing values last. */
export function sorted(rows, { name, down }) {
  const by = (a, b) => {
    const [x, y] = [a[name], b[name]];
    if (x === y) return 0;
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    const order = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    return down ? -order : order;
  };
  return [...rows].sort(by);
}

/** A labelled field. */
export const field = (label, input) => el("label", {}, label, input);

/** Told apart by those who do not see all colours, on light and dark. */
const COLOURS = ["#128a94", "#c2571a", "#6a6ae0", "#2f8f46", "#b0307b", "#8a6d00"];

const MOMENT = { year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hour12: false };

/**
 * Lines over time, or with `across` over something else. `series`: label and values; times in seconds. `bands` are filled between two series.
 * With `onstretch` a stretch that is drawn with the mouse is asked for, and with `onwhole` a double click goes back.
 */
export function chart(into, times, series, { height = 260, unit: code = null, across = null, bands = [], onstretch = null, onwhole = null } = {}) {
  const unit = unitOf(code);
  into.plot?.destroy();
  into.watched?.disconnect();
  into.replaceChildren();
  if (!times.length) return into.append(el("p", { class: "soft" }, say("nothing")));
  // A canvas knows no variables: an element says which colour they are now.
  const probe = el("span", { class: "soft" });
  into.append(probe);
  const soft = getComputedStyle(probe).color;
  probe.remove();
  const axis = { stroke: soft, grid: { stroke: "rgba(128,140,150,.22)" }, ticks: { stroke: "rgba(128,140,150,.4)" } };
  const read = (_, value) => (value === null || value === undefined ? "—" : shown(value) + (unit ? ` ${unit}` : ""));
  const line = (s, i) => ({
    label: s.label, stroke: s.colour ?? COLOURS[i % COLOURS.length], width: s.width ?? 1.6, dash: s.dash, fill: s.fill, value: read, spanGaps: s.spanGaps,
    points: { show: s.points ?? times.length < 60 },
  });
  const moment = new Intl.DateTimeFormat(document.documentElement.lang, MOMENT);
  const where = (_, value) => (value === null || value === undefined ? "—" : across ? `${shown(value)} ${across.unit}` : moment.format(value * 1000));
  const label = { label: unit, labelSize: 22, labelFont: "12px system-ui, sans-serif" };
  const options = {
    width: Math.max(280, into.clientWidth), height, bands,
    scales: { x: { time: !across } },
    series: [{ label: across?.label ?? say("time"), value: where }, ...series.map(line)],
    axes: [across ? { ...axis, ...label, label: `${across.label} (${across.unit})` } : axis, { ...axis, size: 64, ...(unit ? label : {}) }],
    cursor: { drag: { x: true, y: false, setScale: !onstretch } },
    hooks: {},
  };
  if (onstretch) {
    options.hooks.setSelect = [(plot) => {
      if (plot.select.width < 4) return;
      const ends = [plot.select.left, plot.select.left + plot.select.width].map((x) => plot.posToVal(x, "x"));
      plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      onstretch(...ends);
    }];
    options.cursor.bind = { dblclick: () => () => { onwhole(); return null; } };
  }
  const plot = new uPlot(options, [times, ...series.map((s) => s.values)], into);
  into.plot = plot;
  into.watched = new ResizeObserver(() => plot.setSize({ width: Math.max(280, into.clientWidth), height }));
  into.watched.observe(into);
  return plot;
}

/** Amounts as bars, from a line in the middle where some are negative: `[name, amount, link]`. */
export function bars(amounts, { caption, unit = "" }) {
  const [WIDE, STEP, LEFT, RIGHT] = [760, 26, 210, 110];
  const least = Math.min(0, ...amounts.map(([, v]) => v));
  const most = Math.max(0, ...amounts.map(([, v]) => v));
  const scale = (WIDE - LEFT - RIGHT) / (most - least || 1);
  const zero = LEFT - least * scale;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDE} ${amounts.length * STEP + 4}`, class: "bars", role: "img",
    "aria-label": `${caption}: ${amounts.map(([name, v]) => `${name} ${shown(v)}${unit}`).join(", ")}` });
  amounts.forEach(([name, v], i) => {
    const y = i * STEP + 2;
    drawing.append(
      svg("text", { x: LEFT - 10, y: y + 16, "text-anchor": "end" }, name.length > 30 ? `${name.slice(0, 29)}…` : name),
      svg("rect", { class: v < 0 ? "down" : "up", x: Math.min(zero, zero + v * scale), y: y + 3, width: Math.max(1, Math.abs(v * scale)), height: STEP - 8, rx: 2 }),
      svg("text", { x: Math.max(zero, zero + v * scale) + 8, y: y + 16, class: "amount" }, `${v > 0 && least < 0 ? "+" : ""}${shown(v)}${unit}`));
  });
  if (least < 0) drawing.append(svg("line", { x1: zero, x2: zero, y1: 0, y2: amounts.length * STEP + 4, class: "zero" }));
  return drawing;
}

/** Has the browser keep a text or a file. */
export function keep(blob, name) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}
