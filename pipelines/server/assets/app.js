// The dashboard: which page is shown, and that it is kept up to date.

import { get, login, me, post, Refused, show } from "./api.js";
import { el, field } from "./dom.js";
import { admin } from "./pages/admin.js";
import { alerts } from "./pages/alerts.js";
import { cost } from "./pages/cost.js";
import { diagnoses } from "./pages/diagnoses.js";
import { fleet } from "./pages/fleet.js";
import { machine } from "./pages/machine.js";
import { models } from "./pages/models.js";
import { pipeline } from "./pages/pipeline.js";
import { sql } from "./pages/sql.js";
import { tables } from "./pages/tables.js";
import { choose, language, say, WORDS } from "./words.js";

const PAGES = { fleet, alerts, diagnoses, models, cost, pipeline, tables, sql, admin };
const THEME = "foreline-theme";
/** Between two looks; one that finds nothing new is answered in a few bytes. */
const PAUSE_MS = 1000;
const main = document.getElementById("main");
const live = document.getElementById("live");
let page = {};
let shownPage = 0;
/** Whether somebody is being asked who they are: what they type is not taken away. */
let asks = false;
/** Whether whoever is here makes users and tokens. */
let rules = false;

function frame() {
  document.documentElement.lang = language;
  document.getElementById("skip").textContent = say("skip");
  const at = location.hash.split("/")[1] || "fleet";
  const here = at === "machine" ? "fleet" : at;
  document.getElementById("nav").replaceChildren(...Object.keys(PAGES).filter((name) => name !== "admin" || rules).map((name) =>
    el("a", { href: `#/${name}`, "aria-current": name === here ? "page" : null }, say(name))));
  const select = document.getElementById("language");
  select.value = language;
  select.setAttribute("aria-label", say("language"));
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const theme = document.getElementById("theme");
  theme.textContent = say(dark === "dark" ? "theme_light" : "theme_dark");
  theme.onclick = () => {
    const next = dark === "dark" ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem(THEME, next);
    open();
  };
}

/** Draws the page that the address names. */
async function open() {
  const mine = ++shownPage;
  asks = false;
  const [, name = "fleet", ...parts] = location.hash.split("/").map(decodeURIComponent);
  frame();
  if (name === "signup") return join(parts[0]);
  const body = el("div");
  const title = name === "machine" ? parts[1] : say(name || "fleet");
  document.title = `${title} · Foreline`;
  main.replaceChildren(el("h1", {}, title), body);
  const draw = name === "machine" ? machine : PAGES[name || "fleet"];
  page = {};
  if (!draw) return body.append(el("p", {}, say("not_found")));
  try {
    const drawn = (await draw(body, ...parts)) ?? {};
    if (mine !== shownPage) return;
    page = drawn;
    await look();
    if (!asks) await who();
  } catch (e) {
    if (e instanceof Refused && e.status === 401) return ask();
    body.append(el("p", { class: "error", role: "alert" }, e.message));
  }
}

/** Asks who it is: a name and a password where there are accounts, and otherwise a token. */
async function ask() {
  const into = el("div");
  asks = true;
  page = {};
  rules = false;
  frame();
  document.getElementById("who").replaceChildren();
  live.className = "live";
  live.textContent = "";
  main.replaceChildren(el("h1", {}, say("login")), into);
  const token = el("input", { type: "password", autocomplete: "off", required: true });
  const send = (event) => { event.preventDefault(); show(token.value); open(); };
  const { accounts } = await me();
  const show_token = el("form", { class: "card ask", onsubmit: send }, el("h2", {}, say(accounts ? "or_token" : "token")), field("Token", token),
    el("p", { class: "soft" }, say("token_hint")), el("button", { class: accounts ? "" : "main" }, say("send")));
  if (!accounts) {
    into.replaceChildren(show_token);
    return token.focus();
  }
  const name = el("input", { autocomplete: "username", required: true });
  const password = el("input", { type: "password", autocomplete: "current-password", required: true });
  const wrong = el("p", { class: "error", role: "alert" });
  const enter = async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    try {
      await login(name.value, password.value);
      open();
    } catch (e) {
      wrong.textContent = e.message;
    }
  };
  into.replaceChildren(el("form", { class: "card ask", onsubmit: enter }, field(say("name"), name), field(say("password"), password), wrong,
    el("p", { class: "soft" }, say("login_hint")), el("button", { class: "main" }, say("login"))), show_token);
  name.focus();
}

/** Makes an account for whoever was invited. */
async function join(invitation) {
  asks = true;
  page = {};
  const name = el("input", { autocomplete: "username", required: true, maxlength: 64 });
  const password = el("input", { type: "password", autocomplete: "new-password", required: true, minlength: 10 });
  const wrong = el("p", { class: "error", role: "alert" });
  const enter = async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    try {
      show("");
      await post("/api/v1/auth/signup", { name: name.value, password: password.value, invitation });
      location.hash = "#/fleet";
    } catch (e) {
      wrong.textContent = e.message;
    }
  };
  document.title = `${say("signup")} · Foreline`;
  main.replaceChildren(el("h1", {}, say("signup")), el("form", { class: "card ask", onsubmit: enter }, el("p", {}, say("invited")), field(say("name"), name),
    field(say("new_password"), password), wrong, el("button", { class: "main" }, say("signup"))));
  name.focus();
}

/** Says who is logged in, and lets them out. */
async function who() {
  const { user, scopes = [], accounts } = await me();
  const may = accounts && scopes.includes("admin");
  if (may !== rules) {
    rules = may;
    frame();
  }
  const out = async () => { await post("/api/v1/auth/logout", {}); show(""); open(); };
  document.getElementById("who").replaceChildren(...(user ? [el("span", { class: "soft" }, `${user.name} (${user.role}) `), el("button", { type: "button", onclick: out }, say("logout"))] : []));
}

async function look() {
  if (asks) return;
  try {
    if (page.refresh) await page.refresh();
    const { tables: all } = await get("/api/v1/tables");
    const epoch = Math.max(0, ...all.map((t) => t.epoch));
    live.className = "live on";
    live.textContent = `${say("live")} · ${say("epoch")} ${epoch}`;
  } catch (e) {
    if (e instanceof Refused && e.status === 401) return ask();
    live.className = "live off";
    live.textContent = say("lost");
  }
}

document.getElementById("language").replaceChildren(...Object.keys(WORDS).map((code) =>
  el("option", { value: code }, new Intl.DisplayNames([code], { type: "language" }).of(code))));
document.getElementById("language").onchange = (e) => { choose(e.target.value); open(); };
if (localStorage.getItem(THEME)) document.documentElement.dataset.theme = localStorage.getItem(THEME);
addEventListener("hashchange", () => { main.focus(); open(); });
(async function follow() {
  await open();
  for (;;) {
    await new Promise((resume) => setTimeout(resume, PAUSE_MS));
    if (!document.hidden) await look();
  }
})();
