// The models that can be changed while they run: versions, which acts, and another one by a click that is asked about.

import { get, post } from "../api.js";
import { el, isNumber, table } from "../dom.js";
import { say, shown } from "../words.js";

/** How a view calls the same figure of the challenger. */
const CHALLENGER = "challenger_";
/** Rows of a view of figures that are read. */
const FIGURES = 200;

/** What views say of champion and challenger on the same rows, and what they say of each model by its digest. */
async function judged() {
  const { tables } = await get("/api/v1/tables");
  const [compared, byDigest] = [[], new Map()];
  for (const view of tables.filter((t) => t.kind !== "stream")) {
    const numbers = view.columns.filter((c) => isNumber(c.type)).map((c) => c.name);
    const pairs = numbers.filter((name) => numbers.includes(CHALLENGER + name));
    const isByModel = view.key.length === 1 && view.key[0] === "model_digest";
    if (!pairs.length && !isByModel) continue;
    const { rows } = await get(`/api/v1/tables/${encodeURIComponent(view.name)}/rows?limit=${FIGURES}`).catch(() => ({ rows: [] }));
    for (const row of rows) {
      if (isByModel) byDigest.set(row.model_digest, { ...byDigest.get(row.model_digest), ...Object.fromEntries(numbers.map((name) => [name, row[name]])) });
      const of = `${view.name}: ${view.key.map((k) => row[k]).join(" · ")}`;
      for (const figure of pairs) compared.push({ of, figure, champion: row[figure], challenger: row[CHALLENGER + figure], difference: row[figure] ? row[CHALLENGER + figure] / row[figure] - 1 : null });
    }
  }
  return { compared, byDigest };
}

export async function models(into) {
  let before = null;
  async function refresh() {
    const found = await get("/api/v1/models").catch((e) => { if (e.status === 404) return { models: [] }; throw e; });
    const { compared, byDigest } = await judged();
    const text = JSON.stringify([found, compared, [...byDigest]]);
    if (text === before) return null;
    before = text;
    const all = found.models ?? [];
    if (!all.length) return void into.replaceChildren(el("p", { class: "soft" }, say("no_models")));
    into.replaceChildren(...all.map((model) => {
      const step = model.step ?? model.name;
      const rows = Object.entries(model.versions ?? {}).map(([version, facts]) => ({
        acted: null, failed: null, shadowed: null, shadow_failed: null, version, acts: version === model.acts, digest: (facts.model_digest ?? "").slice(0, 12), from: facts.from ?? "", model: [facts.model_name, facts.model_version].filter(Boolean).join(" "),
        ...facts.rows, ...byDigest.get(facts.model_digest), do: null,
      }));
      const figures = [...new Set(Object.values(model.versions ?? {}).flatMap((facts) => Object.keys(byDigest.get(facts.model_digest) ?? {})))];
      const columns = [{ name: "version", label: say("version") }, { name: "acts", label: say("acts") }, { name: "model", label: say("model") }, { name: "from", label: say("from") }, { name: "digest" },
        { name: "acted", label: say("score_rows"), type: "int64" }, { name: "failed", label: say("failed"), type: "int64" },
        { name: "shadowed", label: say("shadowed"), type: "int64" }, { name: "shadow_failed", label: say("shadow_failed"), type: "int64" }, ...figures.map((name) => ({ name, type: "float64" })), { name: "do", label: "" }];
      const cells = {
        acts: (value) => (value ? "●" : ""),
        do: (_, row) => (row.acts ? "" : el("button", { type: "button", class: "small", onclick: () => act(step, row.version) }, say("activate"))),
      };
      return el("section", { class: "card" }, el("h2", {}, step), table(columns, rows, { cells, caption: step }));
    }));
    if (compared.length) into.append(el("section", { class: "card" }, el("h2", {}, say("compared")), comparison(compared), el("p", { class: "soft" }, say("compared_hint"))));
    return null;
  }
  function comparison(rows) {
    const columns = [{ name: "of", label: say("view") }, { name: "figure", label: say("figure") }, { name: "champion", label: say("champion"), type: "float64" },
      { name: "challenger", label: say("challenger"), type: "float64" }, { name: "difference", label: say("difference"), type: "float64" }];
    const cells = { difference: (value) => (value === null ? "—" : `${value > 0 ? "+" : ""}${shown(Math.round(value * 1000) / 10)} %`) };
    return table(columns, rows, { cells, caption: say("compared") });
  }
  async function act(step, version) {
    if (!confirm(say("sure", version, step))) return;
    await post(`/api/v1/models/${encodeURIComponent(step)}/activate`, { version, by: localStorage.getItem("foreline-name") || "dashboard" }).catch((e) => alert(e.message));
    setTimeout(refresh, 200);
  }
  return { refresh };
}
