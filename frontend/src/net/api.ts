/** The calls of `protocol/http.md` that the page makes, with their answers' types. */
import type { EventOf, Isolation } from "../protocol/events.ts";
import type { Http } from "./http.ts";
import type { LogPlace, LogSource } from "./logstream.ts";
import { makeOutgoing } from "./outgoing.ts";
import { makePeople } from "./people.ts";
import type { NewKey, Rates } from "./people.ts";
import { makeSecrets } from "./secrets.ts";
import { makeShells } from "./shells.ts";
import { usageOf } from "./usage.ts";

export interface Me {
  principal: {
    kind: "person" | "key" | "link";
    id: string;
    name: string;
    scopes: string[];
    account?: string;
    organisation?: string;
    role?: string;
    /** Of a share link: the one session that it opens. */
    session?: string;
  };
  csrf: string;
  server: {
    version: string;
    isolation: Isolation;
    isolationSummary: string;
    isolationFindings: (string | { name?: string; message?: string; summary?: string })[];
    provider: string;
    demo: boolean;
    model: string;
    ready: boolean;
    agents: { id: string; label: string }[];
    defaultAgent: string;
    permissionModes: string[];
    promptMax: number;
    approvalTimeoutS: number;
    /** What a session may use that asks for nothing else. */
    limits?: Readonly<Record<string, number>>;
    /** Of a key that has none of its own. */
    rates?: Rates;
  };
}

export interface Session {
  id: string;
  title: string;
  agent: string;
  isolation: Isolation;
  source?: { git?: string; dir?: string } | null;
  createdAt: string;
  lastActiveAt: string;
  state: "new" | "active" | "idle" | "stopped" | "lost";
  running: boolean;
  pendingApprovals: number;
  pendingQuestions: number;
  totalCost: number;
  head: number;
  permissionMode: string;
  model?: string | null;
  /** What the reader may do here. */
  rights?: Right[];
  owner?: string;
  private?: boolean;
  /** By account; only for those who share the session. */
  grants?: Readonly<Record<string, string>>;
}
export type Right = "read" | "run" | "approve" | "admin";

export type LinkRight = "watch" | "approve" | "type";
export interface ShareLink {
  id: string;
  name: string;
  right: LinkRight;
  madeBy: string;
  createdAt: string;
  expiresAt: string;
}

export interface NewSession {
  agent?: string;
  title?: string;
  source?: { git: string } | { dir: string };
  permissionMode?: string;
  model?: string;
  limits?: Readonly<Record<string, number>>;
}

export interface Limit {
  name: string;
  unit: "bytes" | "count" | "cores";
  max: number | null;
  used: number | null;
  enforced: "cgroup" | "image" | "watchdog" | "rlimit" | "tmpfs" | "none";
  hits: number;
}

export interface NewJob {
  prompt: string;
  clientMessageId: string;
  permissionMode?: string;
  attachments: { name: string; mediaType: string; data: string }[];
}

export type Approval = Omit<EventOf<"approval_required">, "type" | "seq"> & { state: string };
export interface Decision {
  approved: boolean;
  inputHash: string;
  optionId?: string;
  message?: string;
  updatedInput?: unknown;
}
/** Its rates where they are not as configured. */
export interface Key extends Partial<Rates> {
  id: string;
  name: string;
  scopes: string[];
  kind?: "key" | "sigv4";
  account?: string;
  createdAt: string;
  lastUsedAt?: string | null;
  expiresAt?: string;
}
export interface Rule {
  id: string;
  scope: string;
  sessionId?: string | null;
  project?: string | null;
  tool: string;
  rule: string;
  outcome: "approved" | "denied";
  by: string;
  createdAt: string;
}
/** Names in it may be anybody's words. */
export interface AuditRecord {
  seq: number;
  at: string;
  actor: { kind: string; id: string; name: string };
  action: string;
  object: string;
  address: string;
  outcome: "ok" | "refused" | "failed";
  details: Readonly<Record<string, string | number | boolean | string[]>>;
}
export interface FileEntry {
  name: string;
  kind: "file" | "directory" | "link" | "other";
  size: number;
  mtime: string | number;
}
export type Policy = "off" | "allow" | "full";
/** A host name here is the session's own word. */
export interface Contact {
  host: string;
  port: number;
  verdict: "allowed" | "refused";
  reason: string;
  count: number;
  first: string;
  last: string;
  bytesIn: number;
  bytesOut: number;
}
export interface Network {
  policy: Policy;
  domains: string[];
  contacts: Contact[];
}
/** With whom people sign in, besides the printed link. */
export interface Provider {
  id: string;
  label: string;
}
export interface SignIn {
  id: string;
  account: string;
  name: string;
  /** The provider; null by a printed link. */
  via: string | null;
  createdAt: string;
  lastSeenAt: string;
  expiresAt: string;
  address: string;
  agent: string;
  own: boolean;
  current: boolean;
}
interface Page<T> {
  items: T[];
  next: string | null;
}

const id = encodeURIComponent;

export const makeApi = (http: Http) => ({
  ...makeOutgoing(http),
  ...makePeople(http),
  ...makeSecrets(http),
  ...makeShells(http),
  me: (signal?: AbortSignal) => http.get<Me>("api/me", signal),
  signIn: (ticket: string) => http.send<undefined>("POST", "api/signin", { ticket }),
  followLink: (link: string) => http.send<{ session: string }>("POST", "api/signin", { link }),
  signOut: () => http.send<undefined>("POST", "api/signout"),
  signOutEverywhere: () => http.send<undefined>("POST", "api/signout", { everywhere: true }),
  providers: (signal?: AbortSignal) => http.get<{ items: Provider[] }>("api/signin/providers", signal),
  providerUrl: (provider: string) => http.url(`api/signin/oidc/${id(provider)}`),
  signIns: (signal?: AbortSignal) => http.get<{ items: SignIn[] }>("api/signins", signal),
  endSignIn: (signIn: string) => http.send<undefined>("DELETE", `api/signins/${id(signIn)}`),
  sessions: (cursor: string | undefined, signal?: AbortSignal) =>
    http.get<Page<Session>>(`api/sessions?limit=200${cursor ? `&cursor=${id(cursor)}` : ""}`, signal),
  session: (session: string, signal?: AbortSignal) => http.get<Session>(`api/sessions/${id(session)}`, signal),
  limits: (session: string, signal?: AbortSignal) =>
    http.get<{ limits: Limit[] }>(`api/sessions/${id(session)}/limits`, signal),
  createSession: (body: NewSession) => http.send<Session>("POST", "api/sessions", body),
  changeSession: (session: string, body: { title?: string; permissionMode?: string; private?: boolean }) =>
    http.send<Session>("PATCH", `api/sessions/${id(session)}`, body),
  deleteSession: (session: string) => http.send<undefined>("DELETE", `api/sessions/${id(session)}`),
  stopSession: (session: string) => http.send<undefined>("POST", `api/sessions/${id(session)}/stop`),
  createJob: (session: string, body: NewJob) => http.send<unknown>("POST", `api/sessions/${id(session)}/jobs`, body),
  approval: (approval: string) => http.get<Approval>(`api/approvals/${id(approval)}`),
  decide: (approval: string, body: Decision) => http.send<Approval>("POST", `api/approvals/${id(approval)}`, body),
  answer: (question: string, answers: Record<string, string>) =>
    http.send<unknown>("POST", `api/questions/${id(question)}`, { answers }),
  files: (session: string, path: string) =>
    http.get<{ path: string; entries: FileEntry[] }>(`api/sessions/${id(session)}/files?path=${id(path)}`),
  fileUrl: (session: string, path: string) =>
    http.url(`api/sessions/${id(session)}/files/content?path=${id(path)}`),
  zipUrl: (session: string, path = "") =>
    http.url(`api/sessions/${id(session)}/files/zip${path ? `?path=${id(path)}` : ""}`),
  /** The whole of a field that the log holds cut. Only addresses of our own API are followed. */
  fullText: (url: string) => {
    const path = url.replace(/^\/+/, "");
    if (!/^api\/sessions\/[\w-]+\/texts\/[\w-]+$/.test(path)) throw new Error("The full text has a strange address.");
    return http.text(path);
  },
  /** The same rule for a collected file. */
  artifactUrl: (url: string): string | undefined => {
    const path = url.replace(/^\/+/, "");
    return path.startsWith("api/") && !path.includes("..") ? http.url(path) : undefined;
  },
  artifactsUrl: (job: string) => http.url(`api/jobs/${id(job)}/artifacts/zip`),
  /** The raw log, for `LogStream`. */
  log: (session: string): LogSource => ({
    place: (signal) => http.get<LogPlace>(`api/sessions/${id(session)}/events?limit=1`, signal),
    stream: (after, epoch, signal) => http.stream(`api/sessions/${id(session)}/events?after=${after}&epoch=${id(epoch)}`, signal),
  }),
  networkStreamUrl: (session: string) => http.url(`api/sessions/${id(session)}/network/stream`),
  changeEgress: (session: string, body: { policy: Policy; domains?: string[] }) =>
    http.send<Network>("PUT", `api/sessions/${id(session)}/egress`, body),
  links: (session: string, signal?: AbortSignal) =>
    http.get<Page<ShareLink>>(`api/sessions/${id(session)}/links`, signal),
  makeLink: (session: string, body: { right: LinkRight; expiresInS: number }) =>
    http.send<ShareLink & { url: string }>("POST", `api/sessions/${id(session)}/links`, body),
  revokeLink: (session: string, link: string) =>
    http.send<undefined>("DELETE", `api/sessions/${id(session)}/links/${id(link)}`),
  keys: (signal?: AbortSignal, organisation?: string) =>
    http.get<Page<Key>>(`api/keys${organisation ? `?organisation=${id(organisation)}` : ""}`, signal),
  createKey: (body: NewKey) => http.send<Key & { key: string }>("POST", "api/keys", body),
  /** Newest first; `before` a record's number, 0 for all. */
  audit: (asked: { action: string; who: string; before: number }, signal?: AbortSignal) => {
    const query = new URLSearchParams({ action: asked.action, who: asked.who, before: String(asked.before) });
    return http.get<{ items: AuditRecord[]; next: number | null }>(`api/audit?${query.toString()}`, signal);
  },
  ...usageOf(http),
  rules: (signal?: AbortSignal) => http.get<Page<Rule>>("api/rules", signal),
  removeRule: (rule: string) => http.send<undefined>("DELETE", `api/rules/${id(rule)}`),
  revokeKey: (key: string) => http.send<undefined>("DELETE", `api/keys/${id(key)}`),
});

export type Api = ReturnType<typeof makeApi>;
