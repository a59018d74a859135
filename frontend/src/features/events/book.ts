/** What the panel holds of a log: the newest rows, within bounds. Pure. */

/** Rows that are held, and how much text: a page that is left open for a week is no larger than one of an hour. */
export const KEPT = 2_000;
export const KEPT_CHARS = 8_000_000;
/** Rows that are drawn at once, and by how many the reader goes back and forth. */
export const DRAWN = 200;
export const STEP = 100;

export interface EventRow {
  is: "event";
  seq: number;
  type: string;
  at: string;
  /** The JSON as it came. */
  text: string;
}
/** Numbers that are not here. */
export interface HoleRow {
  is: "hole";
  seq: number;
  from: number;
  why: "gone" | "skipped";
}
export type BookRow = EventRow | HoleRow;

export interface Book {
  rows: readonly BookRow[];
  chars: number;
  /** How many events have come since the page began to read, those included that were let go. */
  seen: number;
  /** The last number that was let go to make room; 0: none was. */
  dropped: number;
}
export const emptyBook: Book = { rows: [], chars: 0, seen: 0, dropped: 0 };

export interface Filter {
  text: string;
  /** Types that are not shown. */
  hidden: ReadonlySet<string>;
}
export const noFilter: Filter = { text: "", hidden: new Set() };
export const filtered = ({ text, hidden }: Filter): boolean => text.trim() !== "" || hidden.size > 0;

/** What is no event in the page's eyes is shown all the same. */
export function readRow(seq: number, text: string): EventRow {
  const fields = fieldsOf(text);
  const word = (value: unknown): string => (typeof value === "string" ? value : "");
  return { is: "event", seq, type: word(fields.type) || "unknown", at: word(fields.at), text };
}

const weight = (row: BookRow): number => (row.is === "event" ? row.text.length : 0);

export function append(book: Book, more: readonly BookRow[], kept = KEPT, chars = KEPT_CHARS): Book {
  const rows = [...book.rows, ...more];
  let size = book.chars + more.reduce((sum, row) => sum + weight(row), 0);
  let from = 0;
  // The last one stays, however large it is.
  for (; from < rows.length - 1 && (rows.length - from > kept || size > chars); from += 1) size -= weight(rows[from] as BookRow);
  return {
    rows: from === 0 ? rows : rows.slice(from),
    chars: size,
    seen: book.seen + more.filter((row) => row.is === "event").length,
    dropped: from === 0 ? book.dropped : (rows[from - 1] as BookRow).seq,
  };
}

/** The rows that a filter lets through. Holes always: whoever looks for something should know where it may have been. */
export function matching(rows: readonly BookRow[], { text, hidden }: Filter): readonly BookRow[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === "" && hidden.size === 0) return rows;
  return rows.filter((row) => row.is === "hole" || (!hidden.has(row.type) && (wanted === "" || row.text.toLowerCase().includes(wanted))));
}

/** How many events there are of each type, the most frequent first. */
export function types(rows: readonly BookRow[]): [type: string, count: number][] {
  const counts = new Map<string, number>();
  for (const row of rows) if (row.is === "event") counts.set(row.type, (counts.get(row.type) ?? 0) + 1);
  return [...counts].sort(([a, n], [b, m]) => m - n || a.localeCompare(b));
}

export const eventsOf = (rows: readonly BookRow[]): EventRow[] => rows.filter((row) => row.is === "event");
/** What goes to the clipboard: one event a line, as the log has it. */
export const asLines = (rows: readonly BookRow[]): string => eventsOf(rows).map((row) => row.text).join("\n");

/** What the row's own columns say already, and what is the same in row after row. */
const ENVELOPE = new Set(["sessionId", "jobId", "seq", "at", "type"]);
const SUMMARY_CHARS = 240;

/** The rest of an event on one line: what it says before its ids. */
export function summary({ text }: EventRow): string {
  const rest = Object.entries(fieldsOf(text)).filter(([name]) => !ENVELOPE.has(name));
  const ids = rest.filter(([name]) => name.endsWith("Id"));
  const told = [...rest.filter(([name]) => !name.endsWith("Id")), ...ids];
  return told.map(([name, one]) => `${name}: ${JSON.stringify(short(one))}`).join("  ").slice(0, SUMMARY_CHARS);
}
const short = (value: unknown): unknown => (typeof value === "string" ? value.slice(0, SUMMARY_CHARS) : value);

/** Nothing of what is no JSON object. */
function fieldsOf(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** An event with line breaks, for reading. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
