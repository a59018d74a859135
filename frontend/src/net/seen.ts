/**
 * Tells the server how much of a shell's output is here. A kill of the server throws away what lies between it and this
 * page: it keeps what it was not told of.
 */

/** Bytes of output after which it is told, and how soon again at most. */
const STEP = 128 * 1024;
const AGAIN_MS = 20;

export class Seen {
  private told = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `here`: where the output ends that is here. */
  constructor(private readonly here: () => number, private readonly tell: (offset: number) => void) {}

  /** A connection begins. */
  begin(): void {
    this.stop();
    this.say();
  }

  /** More is here. */
  more(): void {
    if (this.timer === undefined && this.here() - this.told >= STEP) this.say();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private say(): void {
    this.told = this.here();
    this.tell(this.told);
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.more();
    }, AGAIN_MS);
  }
}
