// The HTTP API of the pipeline: everything that the pages know comes through here.

let token = sessionStorage.getItem("foreline-token");
const kept = new Map();

/** What the server said of a request that it did not carry out. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `HTTP ${status}`);
    this.status = status;
  }
}

export function show(next) {
  token = next;
  kept.clear();
  sessionStorage.setItem("foreline-token", next);
}

async function ask(path, options = {}) {
  const headers = { "x-foreline-request": "1", ...options.headers };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok || answer.status === 304) return answer;
  throw new Refused(answer.status, await answer.json().catch(() => null));
}

/** What stands at a path; the answer before, where nothing has changed since. */
export async function get(path) {
  const before = kept.get(path);
  const answer = await ask(path, { headers: before ? { "if-none-match": before.tag } : {} });
  if (answer.status === 304) return before.body;
  const [tag, body] = [answer.headers.get("etag"), await answer.json()];
  if (tag) kept.set(path, { tag, body });
  return body;
}

export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  return (await ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** The same of another kind: PATCH, DELETE. */
export async function send(method, path, body) {
  const headers = { "content-type": "application/json" };
  return (await ask(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) })).json();
}

/** Who is logged in. */
export let user = null;

/** The same, asked anew, and whether anybody can be. */
export async function me() {
  const answer = await ask("/api/v1/auth/me").catch(() => null);
  const about = answer ? await answer.json() : { accounts: false, user: null };
  user = about.user;
  return about;
}

/** Logs in: from then on the browser shows the session. */
export async function login(name, password) {
  show("");
  return post("/api/v1/auth/login", { name, password });
}

export async function query(sql, limit = 1000) {
  return post("/api/v1/query", { sql, limit });
}

export async function csv(sql) {
  const headers = { "content-type": "application/json", accept: "text/csv" };
  const answer = await ask("/api/v1/query", { method: "POST", headers, body: JSON.stringify({ sql, limit: 1000000 }) });
  return answer.blob();
}

/** The streams and views that SQL knows, by name, with their columns; `key` asks that they have that column. */
export async function streams(key = null) {
  const sql = "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position";
  const known = await query(sql, 10000);
  const all = new Map();
  for (const [table, name, type] of known.rows) all.set(table, [...(all.get(table) ?? []), { name, type }]);
  for (const [name, columns] of all) if (key && !columns.some((c) => c.name === key)) all.delete(name);
  return all;
}

/** A name, and a text, as SQL has them. */
export const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
export const literal = (text) => (typeof text === "number" ? String(text) : `'${String(text).replaceAll("'", "''")}'`);
