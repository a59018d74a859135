/** The HTTP API of the mock. */
import { randomBytes, randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { openShell, shells } from "./shells.ts";
import { runJob } from "./script.ts";
import { describe, ISOLATION, ME, now } from "./world.ts";
import type { Json, World } from "./world.ts";

const YESTERDAY = new Date(Date.now() - 86_400_000).toISOString();
const WEBHOOKS = [
  { id: "w1", name: "CI", url: "https://ci.example/pilothouse", events: ["job.completed"], enabled: true, pending: 0, dead: 1, last: { id: "msg_1", type: "job.completed", state: "dead", attempts: 10, createdAt: YESTERDAY, lastAttemptAt: YESTERDAY, error: "It answered 500." } },
];
const NOTIFIERS = [
  { id: "n1", kind: "slack", name: "Slack", to: "https://hooks.slack.com", events: ["approval", "question"], sessions: "own", enabled: true, current: false, last: { id: "msg_2", type: "approval", state: "delivered", attempts: 1, createdAt: YESTERDAY, lastAttemptAt: YESTERDAY } },
];

const REDUCED =
  "Sessions run with REDUCED isolation: This container or kernel does not let ordinary users make namespaces. Sessions have no network besides the model, " +
  "share the host's paths, users and process limits, and can connect to unix sockets that this host leaves open to everybody. Mend it: sysctl -w kernel.unprivileged_userns_clone=1";
const GIB = 2 ** 30;
const LIMITS = { memory: 4 * GIB, processes: 512, cpu: 2, disk: 10 * GIB, files: 500_000, tmp: GIB / 4, shm: GIB / 16, run: GIB / 64 };
const USED: Record<keyof typeof LIMITS, [share: number | undefined, enforced: string, hits: number, unit?: string]> = {
  memory: [0.97, "cgroup", 2], processes: [0.07, "rlimit", 0, "count"], cpu: [undefined, "cgroup", 1204, "cores"], disk: [0.84, "image", 0],
  files: [0.0042, "none", 0, "count"], tmp: [0.2, "tmpfs", 0], shm: [0, "tmpfs", 0], run: [0.001, "watchdog", 0],
};

const SERVER: Json = {
  version: "0.1.0-mock",
  isolation: ISOLATION,
  isolationSummary: ISOLATION === "reduced" ? REDUCED : ISOLATION === "none" ? "Sessions run as plain processes of this machine: only for trying things out." : "bubblewrap: own file system, processes and network per session.",
  isolationFindings: ["User namespaces are available.", "No hardware virtualisation on this host."],
  provider: "demo",
  demo: true,
  model: "demo-1",
  ready: true,
  agents: [
    { id: "claude", label: "Claude Code" },
    { id: "echo", label: "Echo (for tests)" },
  ],
  defaultAgent: "claude",
  permissionModes: ["acceptEdits", "manual", "acceptAll", "plan", "dontAsk"],
  promptMax: 1_048_576,
  approvalTimeoutS: 300,
  limits: LIMITS,
  rates: { ratePerS: 10, rateBurst: 20, quotaPerDay: 1000 },
};
const TREE: Record<string, [string, string, number][]> = {
  "": [["src", "directory", 0], ["tests", "directory", 0], ["README.md", "file", 812], ["latest", "link", 0], ["primes.py", "file", 431]],
  src: [["app.py", "file", 2412], ["\u202egnp.exe", "file", 99]],
  tests: [["test_app.py", "file", 1201]],
};

const RULES: Json[] = [{ id: "r1", scope: "session", sessionId: "none", tool: "Bash", rule: "Bash(npm test:*)", outcome: "approved", by: ME, createdAt: now() }];

const HOUR = 3_600_000;
const signIn = (id: string, hours: number, agent: string, address: string, more: Json = {}): Json => ({
  id, account: ME, name: ME, via: "okta", agent, address, own: true, current: false, ...more,
  createdAt: new Date(Date.now() - hours * HOUR).toISOString(), lastSeenAt: new Date(Date.now() - (hours * HOUR) / 5).toISOString(), expiresAt: new Date(Date.now() + 12 * HOUR).toISOString(),
});
const SIGNINS: Json[] = [
  signIn("s1", 1, "Firefox on Linux", "192.0.2.7", { current: true }),
  signIn("s2", 30, "Safari on iPhone", "2001:db8:1:2:3:4:5:6", { via: null }),
  signIn("s3", 3, "Chrome on Windows", "198.51.100.23", { own: false, account: "bob", name: "Bob Builder" }),
];

const SECRETS: Json[] = [
  { name: "GH_TOKEN", where: "project", for: "both", file: false, masked: true, setAt: YESTERDAY, setBy: ME, project: { git: "https://github.com/owner/app.git" } },
  { name: "NPM_TOKEN", where: "account", for: "shells", file: false, masked: true, setAt: YESTERDAY, setBy: ME, lastUsedAt: now() },
];
const secretsOf = (session: string | undefined): Json[] => SECRETS.filter((one) => (session === undefined ? one.where !== "session" : one.where === "account" || one.session === session));

/** What was said is not kept. */
function secrets(method: string, session: string | undefined, name: string, body: Json): Answer {
  if (method === "GET") return [200, { items: secretsOf(session), next: null }];
  const at = SECRETS.findIndex((one) => one.name === name && (session === undefined ? one.where !== "session" : one.session === session));
  if (at >= 0) SECRETS.splice(at, 1);
  if (method === "DELETE") return [204];
  if (/^(PATH|LD_.*)$/.test(name)) throw new Refusal(400, "bad_request", `name: ${name} may not be set: programs and sessions are steered by it`);
  const { value, project, ...more } = body;
  if (value === "") throw new Refusal(400, "bad_request", "value: it is empty");
  const made = { name, where: session !== undefined ? "session" : project ? "project" : "account", ...more, masked: String(value).length >= 8, setAt: now(), setBy: ME, ...(project ? { project } : {}), ...(session === undefined ? {} : { session }) };
  SECRETS.push(made);
  return [200, made];
}

class Refusal extends Error {
  constructor(readonly status: number, readonly code: string, detail: string, readonly more: Json = {}) {
    super(detail);
  }
}

async function bodyOf(request: IncomingMessage): Promise<Json> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString("utf8");
  return text === "" ? {} : (JSON.parse(text) as Json);
}

export async function answer(world: World, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const reply = (status: number, body?: unknown, type = "application/json"): void => {
    response.writeHead(status, body === undefined ? {} : { "content-type": type });
    response.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body));
  };
  try {
    const url = new URL(request.url ?? "/", "http://mock");
    if (stream(world, request, response, url)) return;
    const [status, body, type] = route(world, request.method ?? "GET", url, await bodyOf(request));
    reply(status, body, type);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    reply(error.status, { type: "about:blank", title: error.code, status: error.status, code: error.code, detail: error.message, ...error.more }, "application/problem+json");
  }
}

/** The log of a session as it grows. */
function stream(world: World, request: IncomingMessage, response: ServerResponse, url: URL): boolean {
  const session = world.sessions.get(/^\/api\/sessions\/([^/]+)\/events$/.exec(url.pathname)?.[1] ?? "");
  if (!session || !world.signedIn || request.headers.accept !== "text/event-stream") return false;
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  let after = Number(url.searchParams.get("after") ?? 0);
  const tell = (): void => {
    for (const event of session.log.slice(after)) response.write(`id: ${event.seq}\ndata: ${JSON.stringify(event)}\n\n`);
    after = session.log.length;
  };
  response.write(": mock\n\n");
  tell();
  session.viewers.add(tell);
  response.on("close", () => session.viewers.delete(tell));
  return true;
}

type Answer = [status: number, body?: unknown, type?: string];

function route(world: World, method: string, url: URL, body: Json): Answer {
  const [, , kind, id, part, tail] = url.pathname.split("/");
  if (kind === "signin" && method === "GET") {
    if (id === "providers") return [200, { items: [{ id: "okta", label: "Okta" }, { id: "acme", label: "Acme Corporation" }] }];
    return (world.signedIn = true), [200, `<!doctype html><meta http-equiv="refresh" content="0;url=/">`, "text/html"];
  }
  if (kind === "signin") {
    if (body.ticket !== "demo") throw new Refusal(401, "unauthenticated", "The ticket is unknown, used or too old.");
    world.signedIn = true;
    return [204];
  }
  if (!world.signedIn) throw new Refusal(401, "unauthenticated", "Sign in first.");
  if (kind === "signout") return (world.signedIn = false), [204];
  if (kind === "me") return [200, { principal: { kind: "person", id: "p1", name: ME, scopes: ["read", "run", "approve", "admin"], account: ME, organisation: "default", role: "admin" }, csrf: "mock", server: SERVER }];
  if (kind === "signins") {
    if (method === "DELETE") SIGNINS.splice(SIGNINS.findIndex((one) => one.id === id), 1);
    return method === "DELETE" ? [204] : [200, { items: SIGNINS, next: null }];
  }
  if (kind === "rules") {
    if (method === "DELETE") return RULES.splice(0), [204];
    return [200, { items: RULES, next: null }];
  }
  if (kind === "webhooks" && method === "GET") return [200, { items: WEBHOOKS, next: null }];
  if (kind === "notifications" && method === "GET") return [200, { items: NOTIFIERS, next: null }];
  if (kind === "organisations") return [200, { items: [{ id: "default", name: "Default" }], next: null }];
  if (kind === "members") return members(method, decodeURIComponent(id ?? ""), body);
  if (kind === "tickets") return [201, { ticket: "demo", url: "http://localhost/#ticket=demo", expiresAt: new Date(Date.now() + 600_000).toISOString() }];
  if (kind === "audit") return [200, { items: AUDIT, next: null }];
  if (kind === "secrets") return secrets(method, undefined, id ?? "", body);
  if (kind === "keys") return keys(world, method, id, body);
  if (kind === "approvals" || kind === "questions") return decide(world, method, id ?? "", body);
  if (kind !== "sessions") throw new Refusal(404, "not_found", "No such thing.");
  if (!id) {
    const { memory = GIB } = (body.limits ?? {}) as { memory?: number };
    if (memory < GIB / 16) throw new Refusal(400, "bad_request", `limits.memory: from 64 MiB to 64 TiB, not ${memory} B`);
    if (method === "POST") return [201, describe(world, world.create(body))];
    const items = [...world.sessions.values()].map((one) => describe(world, one)).reverse();
    return [200, { items, next: null }];
  }
  const session = world.sessions.get(id);
  if (!session) throw new Refusal(404, "not_found", "No such session.");
  if (part === "events") return [200, { epoch: world.epoch, oldest: 1, head: session.log.length, gap: false, events: [] }];
  if (part === "secrets") return secrets(method, id, tail ?? "", body);
  if (part === "texts") return [200, world.texts.get(tail ?? "") ?? "", "text/plain"];
  if (part === "shells") {
    const there = shells.get(id) ?? [];
    if (method === "GET") return [200, { items: there.filter((one) => one.exitCode === undefined).map((one) => one.describe()), next: null }];
    if (method === "DELETE") return there.find((one) => one.id === tail)?.end(129), [204];
    const made = openShell(id);
    if (!made) throw new Refusal(429, "too_many", "A session has at most 10 shells.");
    return [201, made.describe()];
  }
  if (part === "limits") {
    const names = Object.keys(LIMITS) as (keyof typeof LIMITS)[];
    const row = (name: keyof typeof LIMITS): Json => {
      const [share, enforced, hits, unit = "bytes"] = USED[name];
      return { name, unit, max: LIMITS[name], used: share === undefined || session.stopped ? null : Math.round(share * LIMITS[name]), enforced, hits };
    };
    return [200, { limits: names.map(row) }];
  }
  if (part === "files") {
    const path = url.searchParams.get("path") ?? "";
    if (tail) return [200, `content of ${path}\n`, "application/octet-stream"];
    const entries = TREE[path];
    if (!entries) throw new Refusal(404, "not_found", "No such directory.");
    return [200, { path, entries: entries.map(([name, what, size]) => ({ name, kind: what, size, mtime: now() })) }];
  }
  if (part === "jobs" && method === "POST") {
    const job = randomUUID();
    const attachments = (body.attachments as Json[] | undefined)?.map(({ name, mediaType, data }) => ({ name, mediaType, size: Math.floor((String(data).length * 3) / 4) }));
    world.append(session, { type: "chat", jobId: job, message: body.prompt, by: ME, clientMessageId: body.clientMessageId, ...(attachments ? { attachments } : {}) });
    void runJob(world, session, job, String(body.prompt));
    return [202, { id: job }];
  }
  if (part === "stop") return (session.stopped = true), [204];
  if (method === "DELETE") return world.sessions.delete(id), [204];
  if (method === "PATCH") {
    session.title = String(body.title ?? session.title);
    world.append(session, { type: "session", agent: session.agent, isolation: ISOLATION, title: session.title });
  }
  return [200, describe(world, session)];
}

const member = (account: string, role: string, more: Json = {}): [string, Json] => [account, { account, name: account, organisation: "default", role, createdAt: now(), disabled: false, ...more }];
const MEMBERS = new Map([member(ME, "admin"), member("bob", "approver", { name: "Bob Builder" }), member("eve@example.com", "viewer", { name: "Eve", disabled: true })]);

function members(method: string, account: string, body: Json): Answer {
  if (method === "GET") return [200, { items: [...MEMBERS.values()], next: null }];
  const before = MEMBERS.get(account);
  if (account === ME && (method === "DELETE" || (body.role ?? "admin") !== "admin")) throw new Refusal(409, "last_admin", "That is the organisation's last admin; make another first.");
  if (method === "DELETE") return MEMBERS.delete(account), [204];
  const after = { ...member(account, "viewer")[1], ...before, ...body };
  return MEMBERS.set(account, after), [200, after];
}

const AUDIT: Json[] = [
  { action: "signin", actor: { kind: "nobody", id: "", name: "" }, object: "", outcome: "refused", details: { count: 12 } },
  { action: "key.create", actor: { kind: "person", id: "local", name: "local" }, object: "key:0a1b2c3d4e5f", outcome: "ok", details: { name: "ci", scopes: ["read", "run"] } },
  { action: "signin", actor: { kind: "person", id: "local", name: "local" }, object: "", outcome: "ok", details: { by: "ticket" } },
].map((one, i) => ({ seq: 3 - i, at: new Date(Date.now() - i * 3_600_000).toISOString(), address: "192.0.2.7", ...one }));

function keys(world: World, method: string, id: string | undefined, body: Json): Answer {
  if (method === "GET") return [200, { items: [...world.keys.values()], next: null }];
  if (method === "DELETE") return world.keys.delete(id ?? ""), [204];
  const pair = body.kind === "sigv4";
  if (body.rateBurst === 0) throw new Refusal(400, "bad_request", "rateBurst: from 1 to 1000000");
  const { ratePerS, rateBurst, quotaPerDay } = body;
  const expiresAt = typeof body.expiresInS === "number" ? { expiresAt: new Date(Date.now() + body.expiresInS * 1000).toISOString() } : {};
  const key = { id: pair ? "PHKAMOCKMOCKMOCKMOCK" : randomUUID(), kind: pair ? "sigv4" : "key", account: ME, name: body.name, scopes: body.scopes, createdAt: now(), ratePerS, rateBurst, quotaPerDay, ...expiresAt };
  world.keys.set(key.id, key);
  if (pair) return [201, { ...key, accessKeyId: key.id, secretAccessKey: randomBytes(30).toString("base64url"), ...(body.sessionToken ? { sessionToken: randomBytes(32).toString("base64url") } : {}) }];
  return [201, { ...key, key: `ph_${randomBytes(24).toString("base64url")}` }];
}

function decide(world: World, method: string, id: string, body: Json): Answer {
  const ask = world.asks.get(id);
  if (!ask) throw new Refusal(404, "not_found", "No such approval.");
  const { session, event } = ask;
  if (method === "GET") return [200, { ...ask.full, sessionId: session.id, state: ask.outcome ?? "pending" }];
  if (ask.outcome) throw new Refusal(409, "already_resolved", "Already decided.", { outcome: ask.outcome, by: ask.by });
  ask.by = ME;
  if (event.type === "question") {
    ask.outcome = "answered";
    world.append(session, { type: "question_answered", jobId: event.jobId, questionId: id, answers: body.answers, by: ME, outcome: "answered" });
  } else {
    if (body.inputHash !== event.inputHash) throw new Refusal(409, "conflict", "The input is not the one that was shown.");
    ask.outcome = body.approved === true ? "approved" : "denied";
    const { optionId, message, updatedInput } = body;
    world.append(session, { type: "approval_resolved", jobId: event.jobId, approvalId: id, outcome: ask.outcome, by: ME, ...(optionId ? { optionId } : {}), ...(message ? { message } : {}), ...(updatedInput ? { updatedInput } : {}) });
  }
  ask.settle(body);
  return [200, { ...event, state: ask.outcome }];
}
