/**
 * The chat socket's frames: what a client says and what the server answers besides events. One JSON object per
 * WebSocket text message.
 */
import { decodeEvent, isEventType } from "./events.ts";
import type { LogEvent } from "./events.ts";
import { BadShape, count, flag, json, maybe, oneOf, record, shape, text } from "./shape.ts";
import type { Check } from "./shape.ts";

export type ClientFrame =
  | { type: "subscribe"; chatId: string; after: number; epoch?: string }
  | { type: "unsubscribe"; chatId: string }
  | { type: "chat"; message: string; chatId: string; clientMessageId: string; permissionMode?: string; steer?: boolean }
  | { type: "interrupt"; chatId: string }
  | { type: "set_mode"; chatId: string; mode: string }
  | { type: "set_model"; chatId: string; model: string }
  | { type: "ping" };

const subscribed = shape({
  type: oneOf("subscribed"),
  chatId: text,
  epoch: text,
  oldest: count,
  head: count,
  gap: flag,
  running: flag,
  pendingApprovals: maybe(json),
  pendingQuestions: maybe(json),
  viewers: count,
});
const control = {
  subscribed,
  caught_up: shape({ type: oneOf("caught_up"), chatId: text, seq: count }),
  viewers: shape({ type: oneOf("viewers"), chatId: text, viewers: count }),
  gap: shape({ type: oneOf("gap"), chatId: text, from: count, to: count }),
  rejected: shape({ type: oneOf("rejected"), ref: maybe(text), code: text, message: text }),
  pong: shape({ type: oneOf("pong") }),
};
export type Subscribed = ReturnType<typeof subscribed>;
export type ControlFrame = { [T in keyof typeof control]: ReturnType<(typeof control)[T]> }[keyof typeof control];

/** A record of the log that this page cannot read: it still has its place in the sequence. */
export interface Unreadable {
  type: "unreadable";
  sessionId: string;
  seq: number;
  named: string;
}
export type Entry = LogEvent | Unreadable;
export type ServerFrame = { is: "control"; frame: ControlFrame } | { is: "event"; chatId: string; event: Entry };

/** Reads one message of the server. Never throws: what cannot be read is said in `bad`. */
export function decodeFrame(data: string): ServerFrame | { is: "bad"; why: string } {
  try {
    const value: unknown = JSON.parse(data);
    const source = record(value, "frame");
    const type = text(source.type, "type");
    if (Object.hasOwn(control, type)) {
      const check = control[type as keyof typeof control] as Check<ControlFrame>;
      return { is: "control", frame: check(value, type) };
    }
    return decodeLogFrame(source, type);
  } catch (error) {
    if (error instanceof BadShape || error instanceof SyntaxError) return { is: "bad", why: error.message };
    throw error;
  }
}

function decodeLogFrame(source: Record<string, unknown>, type: string): ServerFrame {
  const chatId = text(source.sessionId, `${type}.sessionId`);
  const seq = count(source.seq, `${type}.seq`);
  const unreadable = { type: "unreadable" as const, sessionId: chatId, seq, named: type };
  if (!isEventType(type)) return { is: "event", chatId, event: unreadable };
  try {
    return { is: "event", chatId, event: decodeEvent(source) };
  } catch (error) {
    if (error instanceof BadShape) return { is: "event", chatId, event: { ...unreadable, named: error.message } };
    throw error;
  }
}
