import { describe, expect, it } from "vitest";
import { append, asLines, emptyBook, matching, noFilter, pretty, readRow, summary, types } from "./book.ts";
import type { Book, BookRow } from "./book.ts";

const event = (seq: number, type = "stream", more: Record<string, unknown> = {}): BookRow =>
  readRow(seq, JSON.stringify({ type, sessionId: "s", jobId: "j", seq, at: "2026-01-01T00:00:00.000Z", ...more }));
const seqs = (book: Book): number[] => book.rows.map((row) => row.seq);

describe("what is held", () => {
  it("is the newest, by number and by size, and says what it let go", () => {
    const rows = [1, 2, 3, 4, 5].map((seq) => event(seq));
    const three = append(emptyBook, rows, 3);
    expect([seqs(three), three.dropped, three.seen]).toEqual([[3, 4, 5], 2, 5]);
    const weight = three.chars / 3;
    const two = append(emptyBook, rows, 100, weight * 2);
    expect([seqs(two), two.chars]).toEqual([[4, 5], weight * 2]);
    expect(append(three, [event(6)], 3)).toMatchObject({ dropped: 3, seen: 6, chars: weight * 3 });
  });

  it("is one event at least, however large that is", () => {
    const book = append(emptyBook, [event(1), event(2, "stream", { content: "x".repeat(500) })], 10, 100);
    expect(seqs(book)).toEqual([2]);
  });

  it("counts no hole as an event", () => {
    const book = append(emptyBook, [{ is: "hole", seq: 4, from: 1, why: "gone" }, event(5)]);
    expect([book.seen, types(book.rows), asLines(book.rows)]).toEqual([1, [["stream", 1]], (event(5) as { text: string }).text]);
  });
});

describe("what is shown", () => {
  const rows = [{ is: "hole", seq: 1, from: 1, why: "gone" } as const, event(2, "chat", { message: "Grüße" }), event(3), event(4, "odd", { name: "x" })];
  it.each([
    ["", [], [1, 2, 3, 4]],
    ["GRÜSSE", [], [1]],
    ["grüße", [], [1, 2]],
    ['"seq":3', [], [1, 3]],
    ["", ["stream", "odd"], [1, 2]],
    ["grüße", ["chat"], [1]],
  ])("of %j without %j: %j", (text, hidden, left) => {
    expect(matching(rows, { text, hidden: new Set(hidden) }).map((row) => row.seq)).toEqual(left);
  });
  it("is the very list where nothing is chosen", () => {
    expect(matching(rows, noFilter)).toBe(rows);
  });
});

describe("an event that is none", () => {
  it.each(["{", "null", "[1]", '"text"', '{"type":7,"at":{}}'])("%s", (text) => {
    const row = readRow(9, text);
    expect(row).toMatchObject({ type: "unknown", at: "", text });
    expect(summary(row)).toBeTypeOf("string");
    expect(pretty(text)).not.toBe("");
  });
});

it("says what an event tells before its ids, and nothing twice", () => {
  const row = readRow(1, '{"type":"tool_use","sessionId":"s","jobId":"j","seq":1,"toolId":"t1","tool":"Bash","input":{"a":1}}');
  expect(summary(row)).toBe('tool: "Bash"  input: {"a":1}  toolId: "t1"');
});
