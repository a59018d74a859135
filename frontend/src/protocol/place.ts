/**
 * Where a viewer stands in a shell's output, in bytes from its first one. What comes before `live` is a replay: a
 * terminal that answered queries in it would type into a shell that asked long ago.
 */
import type { Attached } from "./shell.ts";

/** Bytes that the terminal has not drawn yet, above which the server is asked to pause, and below which to go on. */
export const PAUSE_AT = 1024 * 1024;
export const RESUME_AT = 128 * 1024;

export class Place {
  /** The next byte; undefined before the first connection. */
  after: number | undefined;
  private live = 0;
  /** What the terminal was given and has not drawn, in order. */
  private queue: { length: number; replay: boolean }[] = [];
  private undrawn = 0;
  private paused = false;

  /** A connection says where the output goes on; the answer is how many bytes were missed. */
  attached(at: Attached): number {
    if (at.offset === undefined) return 0;
    const missed = this.after === undefined ? 0 : (at.bytesDropped ?? 0);
    this.after = at.offset;
    this.live = at.live ?? at.offset;
    return missed;
  }

  /** A new connection has heard no `pause`. */
  begin(): void {
    this.paused = false;
  }

  /** Cut where the replay ends, so that each piece is wholly within it or after it. `drew` is called for each in turn. */
  take(data: Uint8Array): Uint8Array[] {
    const start = this.after ?? 0;
    this.after = start + data.length;
    const cut = Math.min(Math.max(0, this.live - start), data.length);
    const pieces = [data.subarray(0, cut), data.subarray(cut)];
    return pieces.filter((piece, i) => {
      if (piece.length > 0) this.queue.push({ length: piece.length, replay: i === 0 });
      this.undrawn += piece.length;
      return piece.length > 0;
    });
  }

  drew(): void {
    this.undrawn -= this.queue.shift()?.length ?? 0;
  }

  /** Whether what is being drawn is a replay. */
  get replaying(): boolean {
    return this.queue[0]?.replay ?? false;
  }

  /** What the server is to be told now, if anything. */
  pace(): "pause" | "resume" | undefined {
    if (!this.paused && this.undrawn > PAUSE_AT) {
      this.paused = true;
      return "pause";
    }
    if (this.paused && this.undrawn < RESUME_AT) {
      this.paused = false;
      return "resume";
    }
    return undefined;
  }
}

/**
 * What a terminal says by itself: reports of state, position, colour, focus. No key gives these forms, but F3 with a
 * modifier that of a position.
 */
// eslint-disable-next-line no-control-regex -- that is what they begin with
const ANSWER = /^\x1b(?:\[[?>=]?[\d;:]*(?:[cnRtuxIO]|\$y)|[P\]^_X][^]{2,})/;
export const isAnswer = (data: string): boolean => ANSWER.test(data);
