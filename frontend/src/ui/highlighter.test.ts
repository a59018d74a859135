import { expect, it } from "vitest";
import { highlight } from "./highlighter.ts";
import { languageOfPath } from "./useHighlighter.ts";

const joined = (code: string, language: string) =>
  highlight(code, language)?.map((line) => line.map((piece) => piece.text).join("")).join("\n");

it.each(["py", "ts", "tsx", "html", "sh", "yml", "toml", "rs", "sql", "json"])("keeps every character of %s", (language) => {
  const code = 'def f(x):\n\t"""two\nlines <b>"""\n\n  return "a\u202eb" // # \r\n';
  expect(joined(code, language)).toBe(code);
});

it("colours a string over two lines on both", () => {
  const lines = highlight('x = """one\ntwo"""', "python");
  expect(lines?.[1]?.[0]).toEqual({ text: 'two"""', className: "hljs-string" });
});

it("leaves unknown languages and long code alone", () => {
  expect(highlight("x", "klingon")).toBeUndefined();
  expect(highlight("x".repeat(40_000), "python")).toBeUndefined();
});

it.each([["src/a.py", "py"], ["Makefile", ""], [".env", ""], ["a.b/c", ""], ["X.TS", "ts"]])("knows %s", (path, language) =>
  expect(languageOfPath(path)).toBe(language),
);
