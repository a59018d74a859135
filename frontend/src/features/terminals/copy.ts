import { client } from "../../wiring.ts";
import type { Tab } from "./tab.ts";

/** What is selected, to the clipboard; what keeps it from getting there is said. */
export function copy(tab: Tab): void {
  const { selection } = tab.screen;
  if (selection === "") return client.say("Nothing is selected in the terminal.");
  writeClipboard(selection).catch(() => client.say("The browser did not let the page write to the clipboard."));
}

/** Where the page did not come by TLS there is no clipboard at all: that is a failure like any other. */
export async function writeClipboard(text: string): Promise<void> {
  await navigator.clipboard.writeText(text);
}
