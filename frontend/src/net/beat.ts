/** How long the way to the server and back takes, and whether there still is one. */

/** How often it is measured, and after which silence the connection is given up. */
export const BEAT_MS = 5_000;
export const DEAD_MS = 16_000;

export class Beat {
  /** Milliseconds there and back, as last measured. */
  latency: number | undefined;
  private heardAt = 0;
  private number = 0;
  private asked: { number: string; at: number } | undefined;
  private pulse: ReturnType<typeof setInterval> | undefined;

  /** `send` takes a word that comes back; `dead` is told when nothing has come for long. */
  constructor(private readonly send: (word: string) => void, private readonly dead: () => void) {}

  start(): void {
    this.stop();
    this.heard();
    this.pulse = setInterval(() => this.beat(), BEAT_MS);
  }

  stop(): void {
    clearInterval(this.pulse);
    this.asked = undefined;
    this.latency = undefined;
  }

  /** Anything at all has come. */
  heard(): void {
    this.heardAt = performance.now();
  }

  beat(): void {
    const now = performance.now();
    if (now - this.heardAt > DEAD_MS) return this.dead();
    if (this.asked) return;
    this.number += 1;
    this.asked = { number: String(this.number), at: now };
    this.send(this.asked.number);
  }

  /** The word has come back. */
  back(word: string): void {
    if (word !== this.asked?.number) return;
    this.latency = performance.now() - this.asked.at;
    this.asked = undefined;
  }
}
