import { expect, it } from "vitest";
import { base64, BYTES_MAX, faultOf } from "./pictures.ts";

const PNG = new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 1, 2, 3]);
const png = (data: Uint8Array) => ({ name: "a.png", type: "image/png", size: data.length, data });

it("takes a picture", () => expect(faultOf(png(PNG), [])).toBeUndefined());

it.each([
  ["another type", { name: "a.svg", type: "image/svg+xml", size: 11, data: PNG }, [], /PNG, JPEG, GIF or WebP/],
  ["no type", { name: "a", type: "", size: 11, data: PNG }, [], /PNG, JPEG, GIF or WebP/],
  ["an empty file", png(new Uint8Array()), [], /empty/],
  ["a text with a picture's name", png(new TextEncoder().encode("hello")), [], /not what its name says/],
  ["one picture too many", png(PNG), Array.from({ length: 20 }, () => ({ size: 1 })), /one too many/],
  ["a picture that is too big", { name: "a.png", type: "image/png", size: 3e6, data: new Uint8Array() }, [], /too big/],
  ["too much in all", png(PNG), [{ size: BYTES_MAX - 5 }], /too big/],
])("refuses %s", (_, file, already, words) => expect(faultOf(file, already)).toMatch(words));

it("writes base64 of more than one piece", () => {
  const data = Uint8Array.from({ length: 100_000 }, (_, i) => i % 256);
  expect(base64(data)).toBe(Buffer.from(data).toString("base64"));
});
