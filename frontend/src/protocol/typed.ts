/**
 * What was typed and may not have arrived. Input is counted in bytes; the server says how many of them the shell has,
 * and who comes back sends from there on, so nothing is typed twice or lost.
 */
import { STDIN_MAX } from "./shell.ts";

/** Bytes on their way that the shell is not known to have. The server holds a viewer back at 256 KiB, and lets it go if
 * the shell reads nothing for long: below that, a paste waits here, where it can be taken back. */
export const AHEAD = 128 * 1024;
/** Frames at once, then so many a second: well within the 250 a second that a connection may send. */
export const BURST = 60;
export const RATE = 120;

export const newTypist = (): string => crypto.getRandomValues(new BigUint64Array(1)).join("");

export class Typed {
  private kept: Uint8Array = new Uint8Array(0);
  /** All that the shell has; `kept` begins there. */
  private acked = 0;
  /** Of `kept`: what this connection has sent. */
  private sent = 0;
  private tokens = BURST;
  private refilled = 0;

  /** Bytes that have not been sent. */
  get waiting(): number {
    return this.kept.length - this.sent;
  }

  /** Whether there is anything that the shell is not known to have. */
  get open(): boolean {
    return this.kept.length > 0;
  }

  add(data: Uint8Array): void {
    const all = new Uint8Array(this.kept.length + data.length);
    all.set(this.kept);
    all.set(data, this.kept.length);
    this.kept = all;
  }

  /** A connection begins: the shell has `typed` bytes of ours; what is left goes out again. */
  begin(typed: number): void {
    this.taken(typed);
    this.sent = 0;
  }

  /** The shell has so many bytes of ours, in all. */
  taken(offset: number): void {
    const fresh = Math.min(Math.max(0, offset - this.acked), this.kept.length);
    this.kept = this.kept.subarray(fresh);
    this.sent = Math.max(0, this.sent - fresh);
    this.acked = Math.max(this.acked, offset);
  }

  /** Takes back what was not sent. */
  stop(): void {
    this.kept = this.kept.subarray(0, this.sent);
  }

  /** Lets go of everything, also of what may have arrived. */
  forget(): void {
    this.kept = new Uint8Array(0);
    this.sent = 0;
  }

  /** Counts from 0 again. */
  reset(): void {
    this.forget();
    this.acked = 0;
  }

  /** The next piece to send, or nothing: there is none, enough is on its way, or (`wait`, in ms) it is too soon. */
  next(now: number): { piece?: Uint8Array; wait?: number } {
    if (this.waiting === 0 || this.sent >= AHEAD) return {};
    this.tokens = Math.min(BURST, this.tokens + ((now - this.refilled) / 1000) * RATE);
    this.refilled = now;
    if (this.tokens < 1) return { wait: Math.ceil(((1 - this.tokens) * 1000) / RATE) };
    this.tokens -= 1;
    const end = Math.min(this.kept.length, this.sent + STDIN_MAX, AHEAD);
    const piece = this.kept.subarray(this.sent, end);
    this.sent = end;
    return { piece };
  }
}
