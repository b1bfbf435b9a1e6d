// The models that can be changed while they run: versions, which acts, and another one by a click that is asked about.

import { get, post } from "../api.js";
import { el, table } from "../dom.js";
import { say } from "../words.js";

export async function models(into) {
  let before = null;
  async function refresh() {
    const found = await get("/api/v1/models").catch((e) => { if (e.status === 404) return { models: [] }; throw e; });
    const text = JSON.stringify(found);
    if (text === before) return null;
    before = text;
    const all = found.models ?? [];
    if (!all.length) return void into.replaceChildren(el("p", { class: "soft" }, say("no_models")));
    into.replaceChildren(...all.map((model) => {
      const step = model.step ?? model.name;
      const rows = Object.entries(model.versions ?? {}).map(([version, facts]) => ({
        version, acts: version === model.acts, digest: (facts.model_digest ?? "").slice(0, 12), from: facts.from ?? "", acted: facts.rows?.acted ?? null, failed: facts.rows?.failed ?? null, do: null,
      }));
      const columns = [{ name: "version", label: say("version") }, { name: "acts", label: say("acts") }, { name: "from" }, { name: "digest" },
        { name: "acted", label: say("score_rows"), type: "int64" }, { name: "failed", label: say("failed"), type: "int64" }, { name: "do", label: "" }];
      const cells = {
        acts: (value) => (value ? "●" : ""),
        do: (_, row) => (row.acts ? "" : el("button", { type: "button", class: "small", onclick: () => act(step, row.version) }, say("activate"))),
      };
      return el("section", { class: "card" }, el("h2", {}, step), table(columns, rows, { cells, caption: step }));
    }));
    return null;
  }
  async function act(step, version) {
    if (!confirm(say("sure", version, step))) return;
    await post(`/api/v1/models/${encodeURIComponent(step)}/activate`, { version, by: localStorage.getItem("foreline-name") || "dashboard" }).catch((e) => alert(e.message));
    setTimeout(refresh, 200);
  }
  return { refresh };
}
