// @vitest-environment jsdom
import { expect, it, vi } from "vitest";
import { Screen } from "./screen.ts";

vi.hoisted(() => {
  HTMLCanvasElement.prototype.getContext = () => null;
});
vi.stubGlobal("matchMedia", () => ({ matches: true, addListener: () => undefined, removeListener: () => undefined, addEventListener: () => undefined, removeEventListener: () => undefined }));

/** What a shell writes does to everything but the screen: answers that would be typed, the clipboard, the title. */
async function heard(pieces: Uint8Array[]): Promise<string[]> {
  const said: string[] = [];
  const screen = new Screen(
    {
      onData: (data) => said.push(`types ${JSON.stringify(data)}`),
      onFit: () => undefined,
      onTitle: (title) => said.push(`title ${title}`),
      onLink: (address) => said.push(`link ${address}`),
      onClipboard: (text) => said.push(`clipboard ${text}`),
      onKey: () => false,
    },
    { fontSize: 13, scheme: "dark", reader: false },
  );
  for (const piece of pieces) screen.write(piece);
  await new Promise<void>((drawn) => screen.write("", drawn));
  screen.dispose();
  return said;
}

const WRITTEN = new TextEncoder().encode(
  "a\x1b]2;é🙂 named\x07\x1b[c\x1b[>c\x1b[6n\x1b[?25$p\x1b]52;c;w7w=\x07\x1b]52;c;?\x07\x1b]52;c;%%\x07\x1b[21t\x1b[18t\x1b[8;5;5t\x1b]8;;javascript:x\x1b\\b\x1b]8;;\x1b\\\x1b]0;again\x1b\\c",
);
const HEARD = ["title é🙂 named", 'types "\\u001b[?1;2c"', 'types "\\u001b[>0;276;0c"', 'types "\\u001b[1;2R"', 'types "\\u001b[?25;1$y"', "clipboard ü", "title again"];

it("answers, names and copies what a shell says, once, and nothing of its window or of what is on the clipboard", async () => {
  expect(await heard([WRITTEN])).toEqual(HEARD);
});
it("does the same wherever that is cut", async () => {
  for (let at = 1; at < WRITTEN.length; at += 1) expect(await heard([WRITTEN.subarray(0, at), WRITTEN.subarray(at)]), `cut at ${at}`).toEqual(HEARD);
  expect(await heard(Array.from(WRITTEN, (byte) => Uint8Array.of(byte)))).toEqual(HEARD);
});
