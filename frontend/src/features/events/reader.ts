/** Reads the log of a session into a book, one step per animation frame, however many events come. */
import { LogStream } from "../../net/logstream.ts";
import type { LogSource, LogState } from "../../net/logstream.ts";
import { append, emptyBook, KEPT, readRow } from "./book.ts";
import type { Book, BookRow } from "./book.ts";

export interface Reading {
  book: Book;
  state: LogState;
  error?: unknown;
}

export class Reader {
  private reading: Reading = { book: emptyBook, state: "loading" };
  private readonly wakes = new Set<() => void>();
  private readonly stream: LogStream;
  private came: BookRow[] = [];
  private frame = 0;

  constructor(source: LogSource) {
    this.stream = new LogStream(
      source,
      {
        onRows: (rows) => this.take(rows.map(({ seq, text }) => readRow(seq, text))),
        onHole: (from, to, why) => this.take([{ is: "hole", seq: to, from, why }]),
        onReset: () => {
          this.came = [];
          this.set({ book: emptyBook });
        },
        onState: (state, error) => this.set({ state, error }),
      },
      KEPT,
    );
  }

  readonly subscribe = (wake: () => void): (() => void) => {
    this.wakes.add(wake);
    return () => this.wakes.delete(wake);
  };
  readonly snapshot = (): Reading => this.reading;

  go(): void {
    if (this.reading.state === "refused") this.set({ state: "loading", error: undefined });
    this.stream.go();
  }

  hold(): void {
    this.stream.hold();
  }

  private take(rows: readonly BookRow[]): void {
    this.came.push(...rows);
    if (rows.length > 0) this.frame ||= requestAnimationFrame(() => this.flush());
  }

  private flush(): void {
    this.frame = 0;
    const rows = this.came;
    this.came = [];
    this.set({ book: append(this.reading.book, rows) });
  }

  private set(change: Partial<Reading>): void {
    this.reading = { ...this.reading, ...change };
    for (const wake of this.wakes) wake();
  }
}
