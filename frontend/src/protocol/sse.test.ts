import { expect, it } from "vitest";
import { SseReader } from "./sse.ts";

const STREAM = ': hello\n\nid: 1\ndata: {"a":": é"}\n\nevent: gap\ndata: {"from":1,\ndata: "to":2}\n\nid: 2\r\ndata:x\r\n\r\ndata\n\nretry: 3\n\n';
const MESSAGES = [
  { event: "message", id: "1", data: '{"a":": é"}' },
  { event: "gap", id: "1", data: '{"from":1,\n"to":2}' },
  { event: "message", id: "2", data: "x" },
  { event: "message", id: "2", data: "" },
];

it.each([1, 2, 7, STREAM.length])("reads the same however it is cut: %d", (size) => {
  const reader = new SseReader();
  const pieces = STREAM.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [];
  expect(pieces.flatMap((piece) => reader.take(piece))).toEqual(MESSAGES);
});

it("takes no part of a message for one", () => {
  expect(new SseReader().take('id: 1\ndata: {"cut')).toEqual([]);
});
