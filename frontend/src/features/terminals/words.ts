/** What the page says of a shell. */
import type { Exit } from "../../protocol/shell.ts";
import type { ShellState } from "../../net/shellsocket.ts";
import { plain } from "../../protocol/reveal.ts";

const MADE = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The same for everybody, now and later, and to be found in what the command line lists: the end of an id that the
 * server has made, else the id that a person gave it. */
export const nameOf = (shellId: string): string => `Shell ${MADE.test(shellId) ? shellId.slice(-4) : shellId}`;

/** How the command line calls what it wraps a command in, whose words come after (`cli/piped.py`). */
const WRAPPED = "pilothouse-sh";
const SAFE = /^[\w@%+=:,./-]+$/;
const COMMAND_MAX = 120;

/** What runs in a shell that was made with a command, as one would type it; else nothing. Its author may be anybody. */
export function commandOf(command: readonly string[] | undefined): string {
  const words = command?.[3] === WRAPPED ? command.slice(4) : (command ?? []);
  const typed = words.map((word) => (SAFE.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(" ");
  const text = plain(typed);
  return text.length > COMMAND_MAX ? `${text.slice(0, COMMAND_MAX - 1)}…` : text;
}

export const STATES: Record<ShellState, string> = {
  held: "Not connected",
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Reconnecting…",
  ended: "Ended",
  refused: "Disconnected",
};

const SIGNALS: Readonly<Record<number, string>> = { 1: "hung up", 2: "interrupted", 6: "aborted", 9: "killed", 11: "a segmentation fault", 15: "terminated" };

export function endOf(exit: Exit | undefined): string {
  if (!exit) return "This shell has ended. It is not known how.";
  if (exit.signal === undefined) return `This shell has ended with exit code ${exit.code}.`;
  const name = SIGNALS[exit.signal];
  return `This shell was ended by signal ${exit.signal}${name ? ` (${name})` : ""}.`;
}
