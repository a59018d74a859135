import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { emptyLive, foldFrames } from "./feed.ts";
import { decodeEvent, EVENT_TYPES } from "../protocol/events.ts";
import { decodeFrame } from "../protocol/frames.ts";
import type { ServerFrame } from "../protocol/frames.ts";

const read = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../../protocol/vectors/${name}`, import.meta.url), "utf8"));

interface Events {
  valid: { name: string; event: { type: string } }[];
  invalid: { name: string; event: unknown; field: string }[];
}
interface Conversation {
  name: string;
  server: unknown[];
  text: string[];
  head: number;
  running: boolean;
  pending: string[];
  gaps?: number;
  hole?: boolean;
}

const events = read("events.json") as Events;
const { chatId, conversations } = read("conversations.json") as { chatId: string; conversations: Conversation[] };

describe("events", () => {
  it.each(events.valid)("reads $name", ({ event }) => {
    expect(decodeEvent(event)).toEqual(event);
  });
  it.each(events.invalid)("refuses $name", ({ event, field }) => {
    expect(() => decodeEvent(event)).toThrow(field);
  });
  it("has an example of every type", () => {
    expect(new Set(events.valid.map((one) => one.event.type))).toEqual(new Set(EVENT_TYPES));
  });
});

function play(frames: ServerFrame[][]): ReturnType<typeof emptyLive> {
  let lives = new Map([[chatId, emptyLive()]]);
  for (const batch of frames) lives = foldFrames(lives, batch);
  const live = lives.get(chatId);
  if (!live) throw new Error("the session is gone");
  return live;
}

describe("conversations", () => {
  it.each(conversations)("$name", ({ server, text, head, running, pending, gaps = 0, hole = false }) => {
    const frames = server.map((one) => {
      const frame = decodeFrame(JSON.stringify(one));
      if (frame.is === "bad") throw new Error(frame.why);
      return frame;
    });
    const live = play([frames]);
    const { view } = live;
    const items = view.order.map((key) => view.items.get(key));
    expect(items.flatMap((one) => (one?.is === "text" ? [one.text] : []))).toEqual(text);
    expect(items.filter((one) => one?.is === "notice" && one.notice === "gap")).toHaveLength(gaps);
    expect({ head: view.head, hole, pending: view.pendingApprovals }).toEqual({ head, hole: view.hole, pending });
    expect(live.running).toBe(running);
    // However the frames were cut into batches, the view is the same.
    expect(play(frames.map((one) => [one]))).toEqual(play([frames]));
  });
});
