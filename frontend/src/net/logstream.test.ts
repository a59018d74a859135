import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { HttpError } from "./http.ts";
import { LogStream } from "./logstream.ts";
import type { LogPlace } from "./logstream.ts";

/** A server: what it answers next, and what was asked of it. */
class Server {
  asked: string[] = [];
  told: string[] = [];
  place: LogPlace | HttpError = { epoch: "e", oldest: 1, head: 0 };
  private feed: ReadableStreamDefaultController<Uint8Array> | undefined;
  readonly stream = new LogStream(
    {
      place: () => (this.place instanceof HttpError ? Promise.reject(this.place) : Promise.resolve(this.place)),
      stream: (after, epoch, signal) => {
        this.asked.push(`${epoch}:${after}`);
        return Promise.resolve(
          new ReadableStream<Uint8Array>({
            start: (feed) => {
              this.feed = feed;
              signal.addEventListener("abort", () => feed.error(new DOMException("", "AbortError")));
            },
          }),
        );
      },
    },
    {
      onRows: (rows) => rows.forEach(({ seq, text }) => this.told.push(`${seq}:${text}`)),
      onHole: (from, to, why) => this.told.push(`${why} ${from}-${to}`),
      onReset: () => this.told.push("reset"),
      onState: (state, error) => this.told.push(error instanceof HttpError ? `${state} ${error.status}` : state),
    },
    10,
  );
  async says(text: string): Promise<void> {
    this.feed?.enqueue(new TextEncoder().encode(text));
    await vi.advanceTimersByTimeAsync(0);
  }
  async row(seq: number): Promise<void> {
    await this.says(`id: ${seq}\ndata: ${seq}\n\n`);
  }
  async ends(): Promise<void> {
    this.feed?.close();
    await vi.advanceTimersByTimeAsync(0);
  }
  async goes(): Promise<void> {
    this.stream.go();
    await vi.advanceTimersByTimeAsync(0);
  }
  since(): string[] {
    return this.told.splice(0);
  }
}
let server: Server;
const TRY_MS = 20_000;

beforeEach(() => {
  vi.useFakeTimers();
  server = new Server();
});
afterEach(() => {
  server.stream.hold();
  vi.useRealTimers();
});

it("reads from the beginning, and comes back by its cursor", async () => {
  await server.goes();
  await server.row(1);
  await server.row(2);
  server.place = { epoch: "e", oldest: 1, head: 3 };
  await server.ends();
  await vi.advanceTimersByTimeAsync(TRY_MS);
  await server.row(2); // what comes twice is said once
  await server.row(3);
  expect(server.asked).toEqual(["e:0", "e:2"]);
  expect(server.told).toEqual(["open", "1:1", "2:2", "waiting", "open", "3:3"]);
});

it("has no connection while it is held", async () => {
  await server.goes();
  await server.row(1);
  server.stream.hold();
  await vi.advanceTimersByTimeAsync(TRY_MS);
  expect(server.asked).toEqual(["e:0"]);
  server.place = { epoch: "e", oldest: 1, head: 2 };
  await server.goes();
  await server.row(2);
  expect([server.asked, server.told]).toEqual([["e:0", "e:1"], ["open", "1:1", "open", "2:2"]]);
});

it("loads no more than the newest, and says what it leaves out", async () => {
  server.place = { epoch: "e", oldest: 5, head: 30 };
  await server.goes();
  expect([server.asked, server.since()]).toEqual([["e:20"], ["skipped 5-20", "open"]]);
  await server.row(30);
  server.stream.hold();
  server.place = { epoch: "e", oldest: 5, head: 100 };
  server.since();
  await server.goes();
  expect([server.asked.at(-1), server.since()]).toEqual(["e:90", ["skipped 31-90", "open"]]);
});

it("says what is not kept any more", async () => {
  await server.goes();
  await server.says('event: gap\ndata: {"from":1,"to":4}\n\nid: 5\ndata: 5\n\n');
  expect(server.since()).toEqual(["open", "gone 1-4", "5:5"]);
});

it.each<[string, LogPlace]>([
  ["another epoch", { epoch: "f", oldest: 1, head: 9 }],
  ["less than was read", { epoch: "e", oldest: 1, head: 1 }],
])("begins again with another log: %s", async (_, place) => {
  await server.goes();
  await server.row(2);
  server.stream.hold();
  server.since();
  server.place = place;
  await server.goes();
  expect([server.asked.at(-1), server.since()]).toEqual([`${place.epoch}:0`, ["reset", "open"]]);
});

it("begins again when the log is exchanged while it reads", async () => {
  await server.goes();
  await server.row(3);
  server.since();
  await server.says('event: gap\ndata: {"from":1,"to":0}\n\nid: 1\ndata: 1\n\n');
  expect(server.since()).toEqual(["reset", "1:1"]);
});

it.each([401, 403, 404])("stays away after %d, until it is asked again", async (status) => {
  server.place = new HttpError(status, "no", "No.");
  await server.goes();
  await vi.advanceTimersByTimeAsync(TRY_MS * 4);
  expect(server.since()).toEqual([`refused ${status}`]);
  server.place = { epoch: "e", oldest: 1, head: 0 };
  await server.goes();
  expect(server.since()).toEqual(["open"]);
});

it.each([0, 429, 503])("tries again after %d", async (status) => {
  server.place = new HttpError(status, "later", "Later.");
  await server.goes();
  expect(server.since()).toEqual(["waiting"]);
  server.place = { epoch: "e", oldest: 1, head: 0 };
  await vi.advanceTimersByTimeAsync(TRY_MS);
  expect(server.since()).toEqual(["open"]);
});
