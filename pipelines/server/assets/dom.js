// Elements. Values become text nodes and nothing else, so that no row can be a page.

import { say, shown } from "./words.js";

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

export const isNumber = (type) => /^(u?int|float|decimal)/i.test(type);

/** A table of rows; `cells` may make more of a column than its text. A click on a head sorts. */
export function table(columns, rows, { cells = {}, sort = null, onsort = null, caption = "" } = {}) {
  const heads = columns.map(({ name, type = "", unit, label }) => {
    const text = (label ?? name) + (unit ? ` (${unit})` : "");
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

/** Lines over time. `series`: label and values; times in seconds. */
export function chart(into, times, series, height = 260) {
  into.replaceChildren();
  if (!times.length) return into.append(el("p", { class: "soft" }, say("nothing")));
  // A canvas knows no variables: an element says which colour they are now.
  const probe = el("span", { class: "soft" });
  into.append(probe);
  const soft = getComputedStyle(probe).color;
  probe.remove();
  const axis = { stroke: soft, grid: { stroke: "rgba(128,140,150,.22)" }, ticks: { stroke: "rgba(128,140,150,.4)" } };
  const line = (s, i) => ({ label: s.label, stroke: s.colour ?? COLOURS[i % COLOURS.length], width: 1.6, dash: s.dash, points: { show: times.length < 60 } });
  const options = {
    width: Math.max(280, into.clientWidth), height, series: [{}, ...series.map(line)], axes: [axis, { ...axis, size: 64 }],
  };
  const plot = new uPlot(options, [times, ...series.map((s) => s.values)], into);
  new ResizeObserver(() => plot.setSize({ width: Math.max(280, into.clientWidth), height })).observe(into);
  return plot;
}
