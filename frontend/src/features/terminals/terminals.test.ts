// @vitest-environment jsdom
import { afterEach, expect, it } from "vitest";
import { bend, cursor, Halves, NONE } from "./keys.ts";
import { addressOf } from "./links.ts";
import { opened, remember } from "./opened.ts";
import { clipboardOf } from "./osc52.ts";
import { cleaned, lines, mustAsk } from "./paste.ts";
import { prefer, prefs, readPrefs } from "./prefs.ts";
import { commandOf, endOf, nameOf } from "./words.ts";

afterEach(() => {
  localStorage.clear();
  sessionStorage.clear();
});

it("takes the keys out of what is pasted", () => {
  expect(cleaned("a\x1b[201~b\x03\x7f\x9bc\td\r\ne")).toBe("a[201~bc\td\r\ne");
});
it.each([["one", false], ["one\n", true], ["one\rtwo", true]])("asks about %j: %j", (text, asks) => expect(mustAsk(text)).toBe(asks));
it.each([["one", 1], ["one\n", 1], ["one\r\ntwo\n", 2], ["a\n\nb", 3]])("counts the lines of %j: %i", (text, count) => expect(lines(text)).toBe(count));

it.each([["https://example.org/a b", "https://example.org/a%20b"], ["HTTP://x", "http://x/"]])("opens %s", (text, address) => expect(addressOf(text)).toBe(address));
it.each(["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "vscode://x", "//x", "", `https://x/${"y".repeat(3000)}`])("does not open %s", (text) => expect(addressOf(text)).toBeUndefined());

it("puts a character together that the browser gives in two halves", () => {
  const halves = new Halves();
  expect(["a", "\u{1f600}", "b", "\u{1f600}"].map((one) => halves.whole(one))).toEqual(["a", "\u{1f600}", "b", "\u{1f600}"]);
  expect(["\ud83d", "\ude00", "c"].map((one) => halves.whole(one))).toEqual(["", "\u{1f600}", "c"]);
  // What has no second half goes with the next, and loses nothing.
  expect(["\ud83d", "x", "\ude00", "y"].map((one) => halves.whole(one))).toEqual(["", "\ud83dx", "\ude00", "y"]);
});

it("reads what a program wants on the clipboard, and answers no question for it", () => {
  expect(clipboardOf("c;w7w=")).toBe("ü");
  for (const bad of ["c;?", "c;", "c", "c;%%%", "c;/w==", "z;w7w=", `c;${"A".repeat(200_000)}`]) expect(clipboardOf(bad)).toBeUndefined();
});

it.each([["a", "ctrl", "\x01"], ["[", "ctrl", "\x1b"], [" ", "ctrl", "\0"], ["?", "ctrl", "\x7f"], ["ü", "ctrl", "ü"], ["x", "alt", "\x1bx"], ["\r", "alt", "\x1b\r"], ["ab", "ctrl", "ab"]] as const)(
  "bends %j by %s to %j",
  (data, by, bent) => expect(bend(data, { ...NONE, [by]: true })).toBe(bent),
);
it("sends cursor keys as the program wants them", () => {
  expect([cursor("A", NONE, false), cursor("A", NONE, true), cursor("A", { ctrl: true, alt: false }, true)]).toEqual(["\x1b[A", "\x1bOA", "\x1b[1;5A"]);
});

it("reads preferences that are none as the usual ones", () => {
  for (const bad of [null, "", "7", "[]", '{"fontSize":"x","clipboard":1,"share":null}']) expect(readPrefs(bad)).toEqual({ fontSize: 13, clipboard: false, reader: false, share: 0.45 });
  expect(readPrefs('{"fontSize":900}').fontSize).toBe(32);
});
it("remembers preferences, one by one", () => {
  prefer({ fontSize: 16 });
  prefer({ reader: true });
  expect(prefs()).toMatchObject({ fontSize: 16, reader: true, clipboard: false });
});
it("remembers what was open, for its session alone", () => {
  remember({ session: "a", shell: "s" });
  expect([opened("a"), opened("b")]).toEqual([{ session: "a", shell: "s" }, undefined]);
  remember(undefined);
  expect(opened("a")).toBeUndefined();
});

it.each([[{ code: 0 }, "exit code 0"], [{ code: 137, signal: 9 }, "signal 9 (killed)"], [{ code: 162, signal: 34 }, "signal 34."], [undefined, "not known"]])("says how %j ended", (exit, said) => expect(endOf(exit)).toContain(said));
it.each<[string[] | undefined, string]>([
  [undefined, ""],
  [["npm", "test", "--", "a b", ""], "npm test -- 'a b' ''"],
  [["/bin/sh", "-c", "stty -echo", "pilothouse-sh", "tar", "x"], "tar x"],
  [["sh", "-c", "echo it's"], "sh -c 'echo it'\\''s'"],
  [["echo", "a\u202Eb\u0007\n  c"], "echo 'ab c'"],
  [["x".repeat(200)], `${"x".repeat(119)}…`],
])("shows the command %j as %s", (command, shown) => expect(commandOf(command)).toBe(shown));
it.each([["0198c2f0-1111-7000-8000-00000000a1b2", "Shell a1b2"], ["build", "Shell build"], ["long-running-job", "Shell long-running-job"]])("calls %s %s for everybody", (id, name) => expect(nameOf(id)).toBe(name));
