/** Sessions, their logs and what is asked in them, in memory. */
import { createHash, randomUUID } from "node:crypto";

export type Json = Record<string, unknown>;
export interface Logged extends Json {
  type: string;
  seq: number;
}
export interface MockSession {
  id: string;
  title: string;
  agent: string;
  source: Json | null;
  createdAt: string;
  lastActiveAt: string;
  mode: string;
  totalCost: number;
  log: Logged[];
  job: string | undefined;
  queue: { job: string; prompt: string }[];
  viewers: Set<(frame: Json) => void>;
  /** Set while a script runs: the word that stops it. */
  interrupted: boolean;
  stopped: boolean;
}
export interface Ask {
  session: MockSession;
  event: Logged;
  full: Json;
  settle: (answer: Json) => void;
  outcome?: string;
  by?: string;
}

export const now = (): string => new Date().toISOString();
export const ME = "you";
export const ISOLATION = process.env.MOCK_ISOLATION ?? "namespaces";

export class World {
  signedIn = true;
  readonly epoch = randomUUID();
  readonly sessions = new Map<string, MockSession>();
  readonly asks = new Map<string, Ask>();
  readonly keys = new Map<string, Json>();
  readonly texts = new Map<string, string>();

  create(body: Json): MockSession {
    const session: MockSession = {
      id: randomUUID(),
      title: String(body.title ?? ""),
      agent: String(body.agent ?? "claude"),
      source: (body.source as Json | undefined) ?? null,
      createdAt: now(),
      lastActiveAt: now(),
      mode: String(body.permissionMode ?? "acceptEdits"),
      totalCost: 0,
      log: [],
      job: undefined,
      queue: [],
      viewers: new Set(),
      interrupted: false,
      stopped: false,
    };
    this.sessions.set(session.id, session);
    this.append(session, { type: "session", agent: session.agent, isolation: ISOLATION, title: session.title, ...(session.source ? { source: session.source } : {}) });
    return session;
  }

  append(session: MockSession, event: Json & { type: string }): Logged {
    const logged: Logged = { sessionId: session.id, at: now(), ...event, seq: session.log.length + 1 };
    session.log.push(logged);
    session.lastActiveAt = now();
    for (const tell of session.viewers) tell(logged);
    return logged;
  }

  /** Asks a person and waits: an approval or a question. */
  ask(session: MockSession, event: Json & { type: string }): Promise<Json> {
    const id = randomUUID();
    const key = event.type === "question" ? "questionId" : "approvalId";
    const hash = createHash("sha256").update(JSON.stringify(event.input ?? null)).digest("hex");
    const expiresAt = new Date(Date.now() + 300_000).toISOString();
    const full: Json & { type: string } = { ...event, [key]: id, expiresAt, ...(key === "approvalId" ? { inputHash: hash } : {}) };
    return new Promise((settle) => {
      const logged = this.append(session, this.cut(session, full));
      this.asks.set(id, { session, event: logged, full, settle });
    });
  }

  pending(session: MockSession, type: string): Ask[] {
    return [...this.asks.values()].filter((one) => one.session === session && one.event.type === type && !one.outcome);
  }

  /** Input over 64 KiB is cut in the log, as the server does it. */
  private cut(session: MockSession, event: Json & { type: string }): Json & { type: string } {
    const input = event.input as Json | undefined;
    const long = Object.entries(input ?? {}).find(([, value]) => typeof value === "string" && value.length > 65_536);
    if (!long) return event;
    const [name, text] = long as [string, string];
    const digest = createHash("sha256").update(text).digest("hex");
    this.texts.set(digest, JSON.stringify(input));
    const short = `${text.slice(0, 2000)}\n…\n${text.slice(-2000)}`;
    return { ...event, input: { ...input, [name]: short }, truncated: { input: { size: text.length, url: `/api/sessions/${session.id}/texts/${digest}` } } };
  }
}

export const describe = (world: World, one: MockSession): Json => ({
  id: one.id,
  title: one.title,
  agent: one.agent,
  isolation: ISOLATION,
  source: one.source,
  createdAt: one.createdAt,
  lastActiveAt: one.lastActiveAt,
  state: one.stopped ? "stopped" : one.job ? "active" : one.log.length > 1 ? "idle" : "new",
  running: one.job !== undefined,
  pendingApprovals: world.pending(one, "approval_required").length,
  pendingQuestions: world.pending(one, "question").length,
  totalCost: one.totalCost,
  head: one.log.length,
  permissionMode: one.mode,
  model: "demo",
});
