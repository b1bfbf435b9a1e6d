// Who may do what: users, invitations, tokens, and what was changed by whom. For administrators.

import { get, post, send, user } from "../api.js";
import { el, field, table } from "../dom.js";
import { say, shown } from "../words.js";

const ROLES = ["viewer", "operator", "engineer", "admin"];
const SCOPES = ["read", "ack", "write", "swap", "admin"];
const EVENTS = 50;

const moment = (seconds) => (seconds ? shown(new Date(seconds * 1000).toISOString(), "timestamp") : "—");

export async function admin(into) {
  const [people, invitations, tokens, audit] = ["users", "invitations", "tokens", "audit"].map((name) => {
    const [body, error] = [el("div"), el("p", { class: "error", role: "alert" })];
    into.append(el("section", { class: "card" }, el("h2", {}, say(name)), body, error));
    /** Does something, and says here why it could not be done. */
    const attempt = async (work) => {
      error.textContent = "";
      try {
        return await work();
      } catch (e) {
        error.textContent = e.message;
        return null;
      }
    };
    return { body, attempt };
  });
  const roles = (role) => el("select", {}, ROLES.map((r) => el("option", { value: r, selected: r === role }, say(`role_${r}`))));
  const columns = (...names) => names.map(([name, label, more]) => ({ name, label, ...more }));

  async function show_users() {
    const found = await people.attempt(() => get("/api/v1/users"));
    if (!found) return;
    const change = (name, body) => people.attempt(async () => { await send("PATCH", `/api/v1/users/${encodeURIComponent(name)}`, body); await log(); }).then(show_users);
    const cells = {
      name: (value) => (value === user?.name ? `${value} ★` : value),
      role: (value, row) => {
        const select = roles(value);
        select.setAttribute("aria-label", `${say("role")}: ${row.name}`);
        select.addEventListener("change", () => change(row.name, { role: select.value }));
        return select;
      },
      created: moment,
      disabled: (value) => say(value ? "disabled" : "active"),
      do: (_, row) => el("button", { type: "button", class: "small", "aria-label": `${say(row.disabled ? "enable" : "disable")}: ${row.name}`,
        onclick: () => { if (row.disabled || confirm(say("sure_disable", row.name))) change(row.name, { disabled: !row.disabled }); } }, say(row.disabled ? "enable" : "disable")),
    };
    const list = table(columns(["name", say("name")], ["role", say("role")], ["created", say("created")], ["disabled", say("state")], ["do", ""]), found.users, { cells, caption: say("users") });
    const name = el("input", { required: true, maxlength: 64, autocomplete: "off" });
    const password = el("input", { type: "password", required: true, minlength: 10, autocomplete: "new-password" });
    const role = roles("viewer");
    const add = (event) => {
      event.preventDefault();
      people.attempt(async () => {
        await post("/api/v1/users", { name: name.value, password: password.value, role: role.value });
        await show_users();
        await log();
      });
    };
    people.body.replaceChildren(list, el("form", { class: "bar inner", onsubmit: add }, field(say("name"), name), field(say("new_password"), password), field(say("role"), role), el("button", { class: "main" }, say("add_user"))));
  }

  /** What is shown this once, with a button that copies it. */
  function once(text, hint) {
    const shownText = el("input", { readonly: true, value: text, "aria-label": hint, class: "secret" });
    const copy = el("button", { type: "button", onclick: async () => { shownText.select(); await navigator.clipboard?.writeText(text).catch(() => null); copy.textContent = say("copied"); } }, say("copy"));
    return el("div", { class: "once", role: "status" }, el("p", {}, hint), el("div", { class: "bar inner" }, shownText, copy));
  }

  function show_invitations() {
    const role = roles("viewer");
    const out = el("div");
    const invite = (event) => {
      event.preventDefault();
      invitations.attempt(async () => {
        const made = await post("/api/v1/invitations", { role: role.value });
        out.replaceChildren(once(`${location.origin}/#/signup/${made.invitation}`, say("invitation_once", moment(made.expires))));
        await log();
      });
    };
    invitations.body.replaceChildren(el("p", { class: "soft" }, say("invitation_hint")), el("form", { class: "bar", onsubmit: invite }, field(say("role"), role), el("button", { class: "main" }, say("invite"))), out);
  }

  const out = el("div");
  async function show_tokens() {
    const found = await tokens.attempt(() => get("/api/v1/tokens"));
    if (!found) return;
    const revoke = (row) => {
      if (confirm(say("sure_revoke", row.name))) tokens.attempt(async () => { await send("DELETE", `/api/v1/tokens/${encodeURIComponent(row.id)}`); await log(); }).then(show_tokens);
    };
    const cells = {
      scopes: (value) => value.join(", "), created: moment, expires: (value) => (value ? moment(value) : say("never")),
      do: (_, row) => el("button", { type: "button", class: "small", "aria-label": `${say("revoke")}: ${row.name}`, onclick: () => revoke(row) }, say("revoke")),
    };
    const list = found.tokens.length
      ? table(columns(["name", say("name")], ["scopes", say("scopes")], ["created", say("created")], ["expires", say("expires")], ["do", ""]), found.tokens, { cells, caption: say("tokens") })
      : el("p", { class: "soft" }, say("nothing"));
    const name = el("input", { required: true, maxlength: 64, autocomplete: "off" });
    const days = el("input", { type: "number", min: 1, max: 3650, value: 90 });
    const scopes = SCOPES.map((scope) => el("input", { type: "checkbox", value: scope, checked: scope === "read" }));
    const make = (event) => {
      event.preventDefault();
      tokens.attempt(async () => {
        const body = { name: name.value, scopes: scopes.filter((s) => s.checked).map((s) => s.value) };
        if (days.value) body.expires_days = Number(days.value);
        const made = await post("/api/v1/tokens", body);
        out.replaceChildren(once(made.token, say("token_once")));
        await show_tokens();
        await log();
      });
    };
    tokens.body.replaceChildren(list, el("form", { class: "bar inner", onsubmit: make }, field(say("name"), name),
      el("fieldset", {}, el("legend", {}, say("scopes")), scopes.map((s) => el("label", { class: "check" }, s, s.value))),
      field(say("days"), days), el("button", { class: "main" }, say("make_token"))), out);
  }

  let [at, places] = [null, []];
  async function log() {
    const found = await audit.attempt(() => get(`/api/v1/audit?limit=${EVENTS}${at ? `&cursor=${at}` : ""}`));
    if (!found) return;
    const go = (next) => { at = next; log(); };
    const newer = el("button", { type: "button", disabled: !places.length, onclick: () => go(places.pop()) }, say("newer"));
    const older = el("button", { type: "button", disabled: !found.next, onclick: () => { places.push(at); go(found.next); } }, say("older"));
    const cells = { at: moment };
    audit.body.replaceChildren(el("div", { class: "bar" }, newer, older), found.events.length
      ? table(columns(["at", say("when")], ["who", say("who")], ["from", say("address")], ["what", say("what")], ["object", say("object")], ["outcome", say("outcome")]), found.events, { cells, caption: say("audit") })
      : el("p", { class: "soft" }, say("nothing")));
  }

  show_invitations();
  await Promise.all([show_users(), show_tokens(), log()]);
  return {};
}
