import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { BEAT_MS, DEAD_MS } from "./beat.ts";
import { ShellSocket } from "./shellsocket.ts";
import type { Finding } from "./shellsocket.ts";

const words = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** A WebSocket that a test opens, feeds and closes by hand. */
class FakeSocket {
  static all: FakeSocket[] = [];
  readyState = 0;
  sent: { channel: number; text: string }[] = [];
  onopen?: () => void;
  onmessage?: (message: { data: ArrayBuffer }) => void;
  onclose?: (event: { code: number; reason: string }) => void;
  readonly query: URLSearchParams;
  constructor(url: string) {
    this.query = new URL(url).searchParams;
    FakeSocket.all.push(this);
  }
  send(frame: Uint8Array): void {
    this.sent.push({ channel: frame[0] ?? -1, text: words(frame.subarray(1)) });
  }
  close(): void {
    this.readyState = 3;
  }
  /** What a server does with a viewer that comes. */
  attach(about: { offset?: number; live?: number; typed?: number; bytesDropped?: number }, role: "type" | "watch" = "type"): void {
    this.readyState = 1;
    this.onopen?.();
    this.status({ metadata: { shellId: "s", ...about } });
    this.presence(role);
  }
  presence(role: "type" | "watch"): void {
    this.control({ type: "presence", you: "me", viewers: [{ id: "me", name: "Me", role, mayType: true }] });
  }
  status(body: unknown): void {
    this.feed(3, JSON.stringify(body));
  }
  control(body: unknown): void {
    this.feed(16, JSON.stringify(body));
  }
  feed(channel: number, text: string): void {
    const payload = new TextEncoder().encode(text);
    const frame = new Uint8Array(payload.length + 1);
    frame[0] = channel;
    frame.set(payload, 1);
    this.onmessage?.({ data: frame.buffer });
  }
  drop(code: number, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }
  get typed(): string {
    return this.sent.filter((one) => one.channel === 0).map((one) => one.text).join("");
  }
  private get controls(): string[] {
    return this.sent.filter((one) => one.channel === 16).map((one) => one.text);
  }
  get asked(): string[] {
    return this.controls.filter((one) => !one.includes('"seen"'));
  }
  get seen(): number[] {
    const said = this.controls.filter((one) => one.includes('"seen"')).map((one): unknown => JSON.parse(one));
    return said.map((one) => (one as { offset: number }).offset);
  }
}

let screen = "";
let drawn: (() => void)[] = [];
let finding: Finding;
const missed = vi.fn();
const sizes = vi.fn();
const doubts = vi.fn(() => Promise.resolve(finding));
let size: { width: number; height: number } | undefined;
const make = (): ShellSocket =>
  new ShellSocket({
    url: "ws://x/shells/s",
    role: "type",
    size: () => size,
    onOutput: (data, drew) => {
      screen += words(data);
      drawn.push(drew);
    },
    onMissed: missed,
    onSize: sizes,
    onNote: () => undefined,
    onChange: () => undefined,
    onDoubt: doubts,
  });
const last = (): FakeSocket => FakeSocket.all.at(-1) ?? new FakeSocket("ws://none");

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeSocket);
  FakeSocket.all = [];
  screen = "";
  drawn = [];
  size = { width: 120, height: 40 };
  finding = { is: "there" };
  vi.clearAllMocks();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

it("comes back by offset and typist: nothing is lost, shown twice or typed twice", async () => {
  const shell = make();
  shell.start();
  const first = last();
  expect([first.query.get("after"), first.query.get("width"), first.query.get("role")]).toEqual([null, "120", "type"]);
  first.attach({ offset: 1000, live: 1000, typed: 0 });
  first.feed(1, "abc");
  shell.type("one");
  shell.type("two");
  first.drop(1006);
  shell.type("three");
  await vi.advanceTimersByTimeAsync(5_000);
  const second = last();
  expect(second).not.toBe(first);
  expect(second.query.get("after")).toBe("1003");
  expect(second.query.get("typist")).toBe(first.query.get("typist"));
  second.attach({ offset: 1003, live: 1006, typed: 4 });
  second.feed(1, "def");
  expect(screen).toBe("abcdef");
  expect(first.typed).toBe("onetwo");
  expect(second.typed).toBe("wothree");
  expect(missed).not.toHaveBeenCalled();
});

it("says how much was missed", async () => {
  const shell = make();
  shell.start();
  last().attach({ offset: 0, live: 0 });
  last().drop(1001);
  await vi.advanceTimersByTimeAsync(5_000);
  last().attach({ offset: 500, live: 500, bytesDropped: 500 });
  expect(missed).toHaveBeenCalledExactlyOnceWith(500);
});

it("keeps a terminal from answering what a replay asks", () => {
  const shell = make();
  shell.start();
  last().attach({ offset: 0, live: 4 });
  last().feed(1, "\x1b[c");
  expect(shell.type("\x1b[?1;2c")).toBe(true);
  shell.type("k");
  drawn.forEach((drew) => drew());
  last().feed(1, "xx\x1b[c");
  drawn[1]?.(); // the last byte of the replay
  shell.type("\x1b[?1;2c");
  expect(last().typed).toBe("k\x1b[?1;2c");
});

it("types nothing while somebody else does, and counts anew when it is its turn again", () => {
  const shell = make();
  shell.start();
  const first = last();
  first.attach({ offset: 0, live: 0, typed: 0 });
  shell.type("on its way");
  first.presence("watch");
  expect(shell.type("x")).toBe(false);
  first.presence("type");
  const second = last();
  expect(second).not.toBe(first);
  expect(second.query.get("typist")).not.toBe(first.query.get("typist"));
  second.attach({ offset: 0, live: 0, typed: 0 });
  shell.type("mine");
  expect(second.typed).toBe("mine");
});

it("asks the server to pause when the screen does not keep up", () => {
  const shell = make();
  shell.start();
  last().attach({ offset: 0, live: 0 });
  for (let i = 0; i < 20; i++) last().feed(1, "x".repeat(60_000));
  expect(last().asked).toEqual(['{"type":"pause"}']);
  drawn.forEach((drew) => drew());
  expect(last().asked).toEqual(['{"type":"pause"}', '{"type":"resume"}']);
});

it("tells a size that changed before the server was there", () => {
  const shell = make();
  shell.start();
  size = { width: 100, height: 30 };
  shell.resize(size);
  last().attach({ offset: 0, live: 0 });
  expect(last().sent.filter((one) => one.channel === 4).map((one) => one.text)).toEqual(['{"width":100,"height":30}']);
  shell.resize(size);
  expect(last().sent.filter((one) => one.channel === 4)).toHaveLength(1);
});

it("stays away when the shell has ended", async () => {
  const shell = make();
  shell.start();
  last().attach({ offset: 0, live: 0 });
  last().status({ metadata: {}, status: "Failure", reason: "NonZeroExitCode", details: { causes: [{ reason: "ExitCode", message: "3" }] } });
  last().drop(1000);
  await vi.advanceTimersByTimeAsync(60_000);
  expect([shell.state, shell.exit, FakeSocket.all.length]).toEqual(["ended", { code: 3 }, 1]);
});

it.each<[string, Finding, string, string]>([
  ["a handshake that fails", { is: "gone" }, "ended", ""],
  ["a handshake that fails", { is: "refused", why: "not for you" }, "refused", "not for you"],
])("asks after %s what there is: %j", async (_, found, state, why) => {
  finding = found;
  const shell = make();
  shell.start();
  last().drop(1006);
  await vi.advanceTimersByTimeAsync(60_000);
  expect([shell.state, shell.why, FakeSocket.all.length]).toEqual([state, why, 1]);
});

it.each([1003, 1008, 1009])("does not come back by itself after %i", async (code) => {
  const shell = make();
  shell.start();
  last().attach({ offset: 0, live: 0 });
  last().drop(code, "why");
  await vi.advanceTimersByTimeAsync(60_000);
  expect([shell.state, shell.why, FakeSocket.all.length]).toEqual(["refused", "why", 1]);
  shell.start();
  expect(FakeSocket.all).toHaveLength(2);
});

it("asks who it is when told to sign in", async () => {
  finding = { is: "refused", why: "signed out" };
  const shell = make();
  shell.start();
  last().attach({ offset: 0, live: 0 });
  last().drop(4401);
  await vi.advanceTimersByTimeAsync(60_000);
  expect([doubts.mock.calls.length, shell.state, shell.why]).toEqual([1, "refused", "signed out"]);
});

it("measures the way, and gives up a connection that says nothing", async () => {
  const shell = make();
  shell.start();
  const first = last();
  first.attach({ offset: 0, live: 0 });
  await vi.advanceTimersByTimeAsync(7);
  first.feed(5, "1");
  expect(shell.latency).toBe(7);
  await vi.advanceTimersByTimeAsync(BEAT_MS + DEAD_MS + BEAT_MS);
  expect(FakeSocket.all.length).toBeGreaterThan(1);
  expect(first.readyState).toBe(3);
});

it("holds the place while nobody looks", async () => {
  const shell = make();
  shell.start();
  last().attach({ offset: 0, live: 0 });
  last().feed(1, "abc");
  shell.hold();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([shell.state, FakeSocket.all.length]).toEqual(["held", 1]);
  shell.start();
  expect(last().query.get("after")).toBe("3");
});

it("says what it has, so that a kill of the server costs it nothing, and not for every frame", () => {
  const shell = make();
  shell.start();
  last().attach({ offset: 1000, typed: 0 });
  expect(last().seen).toEqual([1000]);
  const frame = "x".repeat(64 * 1024);
  for (let n = 0; n < 8; n += 1) last().feed(1, frame);
  expect(last().seen).toEqual([1000]);
  vi.advanceTimersByTime(25);
  expect(last().seen).toEqual([1000, 1000 + 8 * frame.length]);
  vi.advanceTimersByTime(25);
  last().feed(1, frame);
  vi.advanceTimersByTime(25);
  expect(last().seen.length).toBe(2);
  last().feed(1, frame);
  expect(last().seen.at(-1)).toBe(1000 + 10 * frame.length);
  last().drop(1006);
  vi.advanceTimersByTime(10_000);
  last().attach({ offset: 1000 + 10 * frame.length, typed: 0 });
  expect(last().seen).toEqual([1000 + 10 * frame.length]);
});
