/**
 * The log of a session as the server has it, row by row, for whoever wants to see it raw. It is the log's own stream and
 * not a channel of the event API: that one takes a key, adds to some events and leaves the contents of large ones out.
 *
 * Comes back by its cursor. While it is held (nobody looks) it has no connection, since a browser has six of them to a
 * server and not more.
 */
import { SseReader } from "../protocol/sse.ts";
import { backoff } from "./closing.ts";
import { HttpError } from "./http.ts";

export interface LogPlace {
  epoch: string;
  oldest: number;
  head: number;
}
export interface LogSource {
  place: (signal: AbortSignal) => Promise<LogPlace>;
  stream: (after: number, epoch: string, signal: AbortSignal) => Promise<ReadableStream<Uint8Array>>;
}
export interface LogHost {
  /** A row is the event's JSON, byte for byte. */
  onRows: (rows: { seq: number; text: string }[]) => void;
  /** Numbers that do not come: the log does not keep them any more (`gone`), or there were too many to load. */
  onHole: (from: number, to: number, why: "gone" | "skipped") => void;
  /** It is another log: what came before belongs to none. */
  onReset: () => void;
  onState: (state: LogState, error?: unknown) => void;
}
export type LogState = "loading" | "open" | "waiting" | "refused";

/** Answers that another try does not change. */
const final = (error: unknown): boolean =>
  error instanceof HttpError && error.status >= 400 && error.status < 500 && error.status !== 408 && error.status !== 429;

export class LogStream {
  private running: AbortController | undefined;
  private epoch = "";
  private seq = 0;

  /** `most`: how many rows are loaded at once; what lies further back is skipped, and said. */
  constructor(
    private readonly source: LogSource,
    private readonly host: LogHost,
    private readonly most: number,
  ) {}

  go(): void {
    if (this.running) return;
    const { signal } = (this.running = new AbortController());
    void this.follow(signal);
  }

  hold(): void {
    this.running?.abort();
    this.running = undefined;
  }

  private async follow(signal: AbortSignal): Promise<void> {
    const left = (): boolean => signal.aborted;
    for (let attempt = 0; !left(); attempt += 1) {
      try {
        if (await this.once(signal)) attempt = 0;
      } catch (error) {
        if (final(error) && !left()) return this.stopped(error);
      }
      if (left()) return;
      this.host.onState("waiting");
      await pause(backoff(attempt, Math.random()), signal);
    }
  }

  private stopped(error: unknown): void {
    this.hold();
    this.host.onState("refused", error);
  }

  /** Until the stream ends. The answer: whether it said anything. */
  private async once(signal: AbortSignal): Promise<boolean> {
    const { epoch, oldest, head } = await this.source.place(signal);
    if (signal.aborted) return false;
    if (this.epoch !== "" && (epoch !== this.epoch || head < this.seq)) this.reset();
    this.epoch = epoch;
    const from = Math.max(this.seq, head - this.most, 0);
    const body = await this.source.stream(from, epoch, signal);
    const known = Math.max(this.seq, oldest - 1);
    if (from > known) this.host.onHole(known + 1, from, "skipped");
    this.seq = from;
    this.host.onState("open");
    return this.read(body, signal);
  }

  private async read(body: ReadableStream<Uint8Array>, signal: AbortSignal): Promise<boolean> {
    const sse = new SseReader();
    const utf8 = new TextDecoder();
    const reader = body.getReader();
    let any = false;
    for (;;) {
      const { value, done } = await reader.read();
      if (signal.aborted || done) return any;
      const rows: { seq: number; text: string }[] = [];
      for (const { event, id, data } of sse.take(utf8.decode(value, { stream: true }))) {
        any = true;
        if (event === "message") {
          const seq = Number(id);
          if (seq > this.seq) rows.push({ seq, text: data });
          this.seq = Math.max(this.seq, seq);
          continue;
        }
        this.host.onRows(rows.splice(0));
        if (event === "gap") this.gap(data);
      }
      this.host.onRows(rows);
    }
  }

  private gap(data: string): void {
    const { from, to } = JSON.parse(data) as { from: number; to: number };
    // Without a span the whole log is another one.
    if (to < from) return this.reset();
    this.host.onHole(from, to, "gone");
    this.seq = Math.max(this.seq, to);
  }

  private reset(): void {
    this.seq = 0;
    this.host.onReset();
  }
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((go) => {
    const timer = setTimeout(go, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), go()), { once: true });
  });
