import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ChatSocket } from "./socket.ts";
import type { SocketHost } from "./socket.ts";

/** A WebSocket that a test opens, feeds and closes by hand. */
class FakeSocket {
  static all: FakeSocket[] = [];
  readyState = 0;
  sent: { type: string; [key: string]: unknown }[] = [];
  onopen?: () => void;
  onmessage?: (message: { data: string }) => void;
  onclose?: (event: { code: number }) => void;
  constructor() {
    FakeSocket.all.push(this);
  }
  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  send(data: string): void {
    this.sent.push(JSON.parse(data) as { type: string });
  }
  close(): void {
    this.readyState = 3;
  }
  drop(code: number): void {
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

const states: string[] = [];
const doubts = vi.fn();
function make(): ChatSocket {
  const host: SocketHost = {
    url: "ws://x/ws",
    cursor: () => ({ after: 7, epoch: "e1" }),
    onFrame: () => undefined,
    onConnection: (state) => states.push(state),
    onDoubt: doubts,
    onOpen: () => undefined,
  };
  return new ChatSocket(host);
}

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", FakeSocket);
  FakeSocket.all = [];
  states.length = 0;
  doubts.mockClear();
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});
const last = (): FakeSocket => FakeSocket.all.at(-1) ?? new FakeSocket();

it("comes back with cursor and epoch after the server went away", () => {
  const socket = make();
  socket.start();
  last().open();
  socket.follow("s1");
  last().drop(1001);
  expect(states.at(-1)).toBe("waiting");
  vi.advanceTimersByTime(500);
  expect(FakeSocket.all).toHaveLength(2);
  last().open();
  expect(last().sent).toEqual([{ type: "subscribe", chatId: "s1", after: 7, epoch: "e1" }]);
});

it.each([1008, 1009, 4403])("stays away after %i", (code) => {
  make().start();
  last().open();
  last().drop(code);
  vi.advanceTimersByTime(120_000);
  expect(FakeSocket.all).toHaveLength(1);
  expect(states.at(-1)).toBe("refused");
});

it("asks who it is when told to sign in", () => {
  make().start();
  last().open();
  last().drop(4401);
  expect(doubts).toHaveBeenCalledOnce();
});

it("gives up a connection that says nothing, and asks before it does", () => {
  make().start();
  const first = last();
  first.open();
  vi.advanceTimersByTime(30_000);
  expect(first.sent.map((one) => one.type)).toContain("ping");
  vi.advanceTimersByTime(25_000);
  expect(states).toContain("waiting");
});

it("one subscription serves several followers", () => {
  const socket = make();
  socket.start();
  last().open();
  const [one, two] = [socket.follow("s1"), socket.follow("s1")];
  one();
  expect(last().sent.map((frame) => frame.type)).toEqual(["subscribe"]);
  two();
  expect(last().sent.map((frame) => frame.type)).toEqual(["subscribe", "unsubscribe"]);
});
