/**
 * The frames of a shell: one binary WebSocket message is a byte that names its channel, then the payload
 * (`protocol/terminal.md`). Output stays bytes: nothing here makes text of it.
 */
import { BadShape, count, flag, list, maybe, oneOf, record, shape, text } from "./shape.ts";
import type { Check } from "./shape.ts";

const STDIN = 0x00;
const STDOUT = 0x01;
const STDERR = 0x02;
const STATUS = 0x03;
const RESIZE = 0x04;
const HEARTBEAT = 0x05;
const CONTROL = 0x10;
const CLOSE = 0xff;

/** Bytes of input in one frame: what every server of this protocol takes. */
export const STDIN_MAX = 65_535;
/** Columns or rows of a shell. */
export const EDGE_MAX = 1000;

export type Role = "type" | "watch";
export interface Size {
  width: number;
  height: number;
}

const size = shape({ width: count, height: count });
const viewer = shape({ id: text, name: text, role: oneOf("type", "watch"), mayType: flag, size: maybe(size) });
export type Viewer = ReturnType<typeof viewer>;

const control = {
  presence: shape({ type: oneOf("presence"), you: text, viewers: list(viewer) }),
  size: shape({ type: oneOf("size"), width: count, height: count }),
  typed: shape({ type: oneOf("typed"), offset: count }),
  refused: shape({ type: oneOf("refused"), what: text, message: text }),
};
export type Said = { [T in keyof typeof control]: ReturnType<(typeof control)[T]> }[keyof typeof control];
export type Asked =
  | { type: "pause" }
  | { type: "resume" }
  | { type: "seen"; offset: number }
  | { type: "role"; role: Role }
  | { type: "take" }
  | { type: "give"; to: string };

const attached = shape({
  shellId: text,
  reconnected: maybe(flag),
  bytesDropped: maybe(count),
  /** Where the next byte of output stands; absent while the server looks for a place to begin. */
  offset: maybe(count),
  live: maybe(count),
  typed: maybe(count),
});
export type Attached = ReturnType<typeof attached>;
const causes = shape({ causes: maybe(list(shape({ reason: text, message: text }))) });

/** How a shell ended, as `$?` says it. */
export interface Exit {
  code: number;
  signal?: number;
}
export type ShellFrame =
  | { is: "output"; data: Uint8Array }
  | { is: "note"; text: string }
  | { is: "attached"; at: Attached }
  | { is: "ended"; exit: Exit }
  | { is: "failed"; message: string }
  | { is: "beat"; payload: Uint8Array }
  | { is: "said"; said: Said }
  | { is: "close" }
  | { is: "bad"; why: string };

const words = new TextDecoder();

/** Reads one message of the server. Never throws: what cannot be read is said in `bad`. */
export function decodeShell(message: ArrayBuffer): ShellFrame {
  const bytes = new Uint8Array(message);
  const payload = bytes.subarray(1);
  const channel = bytes[0];
  switch (channel) {
    case STDOUT:
      return { is: "output", data: payload };
    case STDERR:
      return { is: "note", text: words.decode(payload) };
    case STATUS:
      return safely(payload, status);
    case HEARTBEAT:
      return { is: "beat", payload };
    case CONTROL:
      return safely(payload, said);
    case CLOSE:
      return { is: "close" };
    case undefined:
      return { is: "bad", why: "an empty message" };
    default:
      return { is: "bad", why: `channel 0x${channel.toString(16)}` };
  }
}

function safely(payload: Uint8Array, read: (value: unknown) => ShellFrame): ShellFrame {
  try {
    return read(JSON.parse(words.decode(payload)));
  } catch (error) {
    if (error instanceof BadShape || error instanceof SyntaxError) return { is: "bad", why: error.message };
    throw error;
  }
}

function said(value: unknown): ShellFrame {
  const type = text(record(value, "control").type, "type");
  if (!Object.hasOwn(control, type)) return { is: "bad", why: `control: ${type.slice(0, 40)}` };
  const check = control[type as keyof typeof control] as Check<Said>;
  return { is: "said", said: check(value, type) };
}

function status(value: unknown): ShellFrame {
  const source = record(value, "status");
  const about = record(source.metadata ?? {}, "status.metadata");
  if (about.shellId !== undefined) return { is: "attached", at: attached(about, "status.metadata") };
  if (source.status === "Success") return { is: "ended", exit: { code: 0 } };
  if (source.reason === "InternalError") return { is: "failed", message: text(source.message, "status.message") };
  const given = causes(source.details ?? {}, "status.details").causes ?? [];
  const number = (reason: string): number | undefined => {
    const found = given.find((one) => one.reason === reason)?.message;
    return found !== undefined && /^\d{1,9}$/.test(found) ? Number(found) : undefined;
  };
  const signal = number("Signal");
  return { is: "ended", exit: { code: number("ExitCode") ?? 1, ...(signal === undefined ? {} : { signal }) } };
}

type Bytes = Uint8Array<ArrayBuffer>;

function framed(channel: number, payload: Uint8Array): Bytes {
  const out = new Uint8Array(payload.length + 1);
  out[0] = channel;
  out.set(payload, 1);
  return out;
}
const asJson = (channel: number, body: unknown): Bytes => framed(channel, new TextEncoder().encode(JSON.stringify(body)));

export const stdin = (data: Uint8Array): Bytes => framed(STDIN, data);
export const heartbeat = (payload: Uint8Array): Bytes => framed(HEARTBEAT, payload);
export const ask = (asked: Asked): Bytes => asJson(CONTROL, asked);
export const resize = ({ width, height }: Size): Bytes => asJson(RESIZE, { width, height });

const edge = (n: number): number => Math.max(1, Math.min(EDGE_MAX, Math.floor(n)));
/** A size that a shell may have. */
export const within = ({ width, height }: Size): Size => ({ width: edge(width), height: edge(height) });
