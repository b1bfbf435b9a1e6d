// Any view, a page at a time.

import { get } from "../api.js";
import { el, field, table } from "../dom.js";
import { say } from "../words.js";

const KEEP = { name: null };

export async function tables(into) {
  const about = (await get("/api/v1/tables")).tables;
  if (!about.length) return into.append(el("p", { class: "soft" }, say("nothing")));
  KEEP.name = about.find((t) => t.name === KEEP.name)?.name ?? about[0].name;
  const card = el("div", { class: "card" });
  const count = el("span", { class: "soft" });
  let cursor = null;
  let shownPage = null;
  const choose = (e) => { KEEP.name = e.target.value; cursor = null; shownPage = null; refresh(); };
  const choice = el("select", { onchange: choose }, about.map((t) => el("option", { value: t.name, selected: t.name === KEEP.name }, t.name)));
  const first = el("button", { type: "button", onclick: () => { cursor = null; refresh(); } }, say("first"));
  const next = el("button", { type: "button", onclick: () => { cursor = shownPage.next; refresh(); } }, say("next"));
  into.append(el("div", { class: "bar" }, field(say("view"), choice), first, next, count), card);

  async function refresh() {
    const view = about.find((t) => t.name === KEEP.name);
    const path = `/api/v1/tables/${encodeURIComponent(view.name)}/rows?limit=100${cursor ? `&cursor=${cursor}` : ""}`;
    const page = await get(path);
    if (page !== shownPage) {
      shownPage = page;
      card.replaceChildren(page.rows.length ? table(view.columns, page.rows, { caption: view.name }) : el("p", { class: "soft" }, say("nothing")));
      next.disabled = !page.next;
      first.disabled = !cursor;
      count.textContent = `${page.rows.length} ${say("rows")}`;
    }
    return page.epoch;
  }
  return { refresh };
}
