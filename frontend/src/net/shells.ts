/** The calls of `protocol/http.md` about the shells of a session. */
import type { Size } from "../protocol/shell.ts";
import type { Http } from "./http.ts";

export interface ShellRow {
  shellId: string;
  startedAt: string;
  width: number;
  height: number;
  oldest: number;
  /** How much it has written. */
  head: number;
  running: boolean;
  /** What it was made with; without one it is the session's own shell. */
  command?: string[];
  exitCode?: number;
  signal?: number;
  viewers: { id: string; name: string; role: "type" | "watch" }[];
}

const id = encodeURIComponent;
const shellPath = (session: string, shell: string): string => `api/sessions/${id(session)}/shells/${id(shell)}`;

export const makeShells = (http: Http) => ({
  shells: (session: string, signal?: AbortSignal) =>
    http.get<{ items: ShellRow[] }>(`api/sessions/${id(session)}/shells`, signal),
  openShell: (session: string, size: Size | undefined) =>
    http.send<ShellRow>("POST", `api/sessions/${id(session)}/shells`, size ?? {}),
  endShell: (session: string, shell: string) => http.send<undefined>("DELETE", shellPath(session, shell)),
  shellUrl: (session: string, shell: string) => http.url(shellPath(session, shell)).replace(/^http/, "ws"),
});
