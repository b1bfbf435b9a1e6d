// Alerts of all rules, and what people do with them.

import { get, post, user } from "../api.js";
import { badge, el, field, table } from "../dom.js";
import { say } from "../words.js";

const KEEP = { state: "open", severity: "", text: "" };
const NAME = "foreline-name";

export async function alerts(into) {
  const list = el("div", { class: "card" });
  const option = (value, text, now) => el("option", { value, selected: value === now }, text);
  const state = el("select", { onchange: (e) => { KEEP.state = e.target.value; refresh(); } },
    option("open", say("open"), KEEP.state), option("cleared", say("cleared"), KEEP.state), option("", say("all"), KEEP.state));
  const severity = el("select", { onchange: (e) => { KEEP.severity = e.target.value; refresh(); } },
    option("", say("all"), KEEP.severity), [5, 4, 3, 2, 1].map((s) => option(String(s), say(`s${s}`), KEEP.severity)));
  const filter = el("input", { type: "search", value: KEEP.text, oninput: (e) => { KEEP.text = e.target.value; draw(); } });
  into.append(el("div", { class: "bar" }, field(say("state"), state), field(say("severity"), severity), field(say("filter"), filter)), list);
  let page = null;

  function draw() {
    const text = KEEP.text.toLowerCase();
    const rows = page.rows.filter((row) => !text || Object.values(row).some((v) => String(v).toLowerCase().includes(text)));
    if (!rows.length) return list.replaceChildren(el("p", { class: "soft" }, say("no_alerts")));
    const columns = [{ name: "severity", label: say("severity") }, { name: "machine", label: say("machine") }, { name: "rule", label: say("rule") },
      { name: "raised_at", label: say("raised"), type: "timestamp" }, { name: "cleared_at", label: say("cleared"), type: "timestamp" },
      { name: "acknowledged", label: say("acknowledged") }, { name: "comment", label: say("comment"), wrap: true }, { name: "do", label: "" }];
    const cells = {
      severity: badge,
      acknowledged: (value, row) => (value ? `✓ ${row.acknowledged_by ?? ""}` : "—"),
      do: (_, row) => actions(row),
    };
    list.replaceChildren(table(columns, [...rows].sort((a, b) => b.severity - a.severity), { cells, caption: say("alerts") }));
  }

  function actions(row) {
    const button = (key, command) => el("button", { type: "button", class: "small", onclick: () => tell(row, key, command) }, say(key));
    const label = (b) => { b.setAttribute("aria-label", `${b.textContent}: ${row.machine} ${row.rule}`); return b; };
    const all = [row.acknowledged || row.state !== "open" ? null : button("ack", "ack"), button("comment", "comment"), row.state === "open" ? button("shelve", "shelve") : null];
    return el("div", { class: "actions" }, all.filter(Boolean).map(label));
  }

  /** Asks who it is and what there is to say. */
  function tell(row, key, command) {
    const by = el("input", { required: true, value: user?.name ?? localStorage.getItem(NAME) ?? "", readonly: user !== null, autocomplete: "name", maxlength: 200 });
    const text = el("input", { maxlength: 2000, required: command === "comment" });
    const soon = new Date(Date.now() + 8 * 3600e3 - new Date().getTimezoneOffset() * 60e3).toISOString().slice(0, 16);
    const until = el("input", { type: "datetime-local", value: soon, required: true });
    const error = el("p", { class: "error", role: "alert" });
    const dialog = el("dialog", { "aria-label": say(key) },
      el("form", { onsubmit: send }, el("h2", {}, `${say(key)}: ${row.machine} · ${row.rule}`), field(say("by"), by),
        command === "shelve" ? field(say("until"), until) : null, field(say("text"), text), error,
        el("div", { class: "actions" }, el("button", { class: "main" }, say("send")), el("button", { type: "button", onclick: () => dialog.close() }, say("cancel")))));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    async function send(event) {
      event.preventDefault();
      const body = { by: by.value };
      if (text.value) body.comment = text.value;
      if (command === "shelve") body.until = new Date(until.value).toISOString();
      localStorage.setItem(NAME, by.value);
      try {
        await post(`/api/v1/alerts/${encodeURIComponent(row.alert ?? row.id)}/${command}`, body);
        dialog.close();
        setTimeout(refresh, 150);
      } catch (e) {
        error.textContent = e.message;
      }
    }
  }

  async function refresh() {
    const asked = new URLSearchParams({ limit: "1000" });
    if (KEEP.state) asked.set("state", KEEP.state);
    if (KEEP.severity) asked.set("severity", KEEP.severity);
    try {
      const found = await get(`/api/v1/alerts?${asked}`);
      if (found !== page) { page = found; draw(); }
      return page.epoch;
    } catch (e) {
      if (e.status !== 404) throw e;
      list.replaceChildren(el("p", { class: "soft" }, say("no_book")));
    }
  }
  return { refresh };
}
