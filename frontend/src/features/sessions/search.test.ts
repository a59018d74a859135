import { expect, it } from "vitest";
import type { Session } from "../../net/api.ts";
import { matches } from "./search.ts";

const one = { title: "Fix the Parser", agent: "claude", source: { git: "https://example.org/Tools.git" } } as Session;

it.each([
  ["", true],
  ["  ", true],
  ["parser", true],
  ["PARSER fix", true],
  ["claude tools", true],
  ["parser echo", false],
  ["fix.*", false],
])("%j: %s", (wanted, found) => expect(matches(one, wanted)).toBe(found));
