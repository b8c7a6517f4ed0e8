// Cloudflare's D1 in miniature: workerd's own D1 behind a Worker that speaks the shape of the HTTP API.
// Usage: node d1.mjs <folder of node_modules> <token> <database id> …; prints its URL on one line.
import { createRequire } from "node:module";

const [modules, token, ...databases] = process.argv.slice(2);
const { Miniflare } = createRequire(`${modules}/`)("miniflare");

const worker = `
const answer = (status, body, headers = {}) => Response.json({ messages: [], ...body }, { status, headers });
const refusal = (status, code, message, headers) =>
  answer(status, { result: [], success: false, errors: [{ code, message }] }, headers);

// Statements of one string, as the API takes them apart: semicolons in quotes, comments and triggers do not count.
function split(sql) {
  const parts = sql.match(/'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\\n]*|\\/\\*[^]*?\\*\\/|\\w+|;|[^]/g) ?? [];
  const found = [];
  let text = "", depth = 0, blank = true;
  for (const part of parts) {
    if (/^(begin|case)$/i.test(part)) depth++;
    if (/^end$/i.test(part)) depth--;
    if (part === ";" && depth <= 0) { if (!blank) found.push(text); text = ""; blank = true; continue; }
    if (!/^(\\s|--|\\/\\*)/.test(part)) blank = false;
    text += part;
  }
  return blank ? found : [...found, text];
}

function statements(db, { sql, params }) {
  if (typeof sql !== "string") throw new TypeError("sql");
  if (params !== undefined && !Array.isArray(params)) throw new TypeError("params");
  const parts = split(sql);
  if (parts.length > 1 && params?.length) throw new TypeError("params");
  return parts.map((part) => (params?.length ? db.prepare(part).bind(...params) : db.prepare(part)));
}

let refusing = { count: 0 };  // the next so many queries, as the rate limit would

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === "/refuse") { refusing = await request.json(); return answer(200, {}); }
    if (request.headers.get("authorization") !== "Bearer " + env.TOKEN) {
      return refusal(401, 10000, "Authentication error");
    }
    if (refusing.count > 0) {
      refusing.count--;
      return refusal(refusing.status, refusing.code, refusing.message, refusing.headers);
    }
    const path = url.pathname.match(/^\\/client\\/v4\\/accounts\\/[^/]+\\/d1\\/database\\/([^/]+)\\/query$/);
    if (!path || request.method !== "POST") return refusal(404, 7003, "Could not route to " + url.pathname);
    const db = env["DB_" + path[1]];
    if (!db) return refusal(404, 7404, "The database " + path[1] + " could not be found");
    let prepared;
    try {
      const body = await request.json();
      prepared = (body.batch ?? [body]).flatMap((query) => statements(db, query));
    } catch (error) {
      return refusal(400, 7400, "The request is malformed: " + error.message);
    }
    try {
      const result = await db.batch(prepared);
      return answer(200, { result, success: true, errors: [] });
    } catch (error) {
      return refusal(400, 7500, error.message.replace(/^D1_ERROR: /, ""));
    }
  },
};
`;

const server = new Miniflare({
  modules: true,
  script: worker,
  host: "127.0.0.1",
  port: 0,
  compatibilityDate: "2026-04-01",
  bindings: { TOKEN: token },
  d1Databases: Object.fromEntries(databases.map((id) => [`DB_${id}`, id])),
});

const end = async () => {
  await server.dispose();
  process.exit(0);
};
process.on("SIGTERM", end);
process.on("SIGINT", end);
console.log((await server.ready).origin);
