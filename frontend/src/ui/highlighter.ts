/** Code into coloured pieces. Loaded when the first code is shown: see `useHighlighter`. */
import type { Element, ElementContent } from "hast";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import css from "highlight.js/lib/languages/css";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import ini from "highlight.js/lib/languages/ini";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { createLowlight } from "lowlight";

/** A run of text with one colour; the texts of all pieces together are the code, to the character. */
export interface Colored {
  text: string;
  className?: string;
}
export type Highlight = (code: string, language: string) => Colored[][] | undefined;

/** Longer code stays plain: colouring it would stop the page for a moment. */
const CHARACTERS_MAX = 30_000;

const low = createLowlight({
  bash, cpp, css, diff, go, ini, java, javascript, json, markdown, python, rust, sql, typescript, xml, yaml,
});

/** The lines of `code` in pieces, or nothing when the language is unknown or the code too long. */
export const highlight: Highlight = (code, language) => {
  if (code.length > CHARACTERS_MAX || !low.registered(language)) return undefined;
  const lines: Colored[][] = [[]];
  const add = (text: string, className: string | undefined): void => {
    text.split("\n").forEach((part, i) => {
      if (i > 0) lines.push([]);
      if (part !== "") lines.at(-1)?.push(className ? { text: part, className } : { text: part });
    });
  };
  const walk = (nodes: readonly (ElementContent | Element)[], className: string | undefined): void => {
    for (const node of nodes) {
      if (node.type === "text") add(node.value, className);
      else if (node.type === "element") walk(node.children, classOf(node) ?? className);
    }
  };
  walk(low.highlight(language, code).children as Element[], undefined);
  return lines;
};

function classOf(node: Element): string | undefined {
  const { className } = node.properties;
  return Array.isArray(className) ? className.join(" ") : undefined;
}
