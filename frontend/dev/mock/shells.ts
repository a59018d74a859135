/** Shells of the mock: what is typed comes back, and `exit 3`, `title`, `flood`, `link`, `ask` do what they say. */
import { randomUUID } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { WebSocket } from "ws";
import { ME, now } from "./world.ts";
import type { Json } from "./world.ts";

const SHELLS_MAX = 10;
const PROMPT = "\x1b[32mmock\x1b[0m:\x1b[34m/workspace\x1b[0m$ ";

export class Shell {
  readonly id = randomUUID();
  readonly startedAt = now();
  width = 80;
  height = 24;
  output = Buffer.from(PROMPT);
  exitCode: number | undefined;
  private line = "";
  readonly viewers = new Map<string, { peer: WebSocket; role: string; cursor: number }>();
  readonly typed = new Map<string, number>();

  describe(): Json {
    const viewers = [...this.viewers].map(([id, { role }]) => ({ id, name: ME, role }));
    const end = this.exitCode === undefined ? {} : { exitCode: this.exitCode };
    return { shellId: this.id, startedAt: this.startedAt, width: this.width, height: this.height, oldest: 0, head: this.output.length, running: this.exitCode === undefined, ...end, viewers };
  }

  write(text: string): void {
    this.output = Buffer.concat([this.output, Buffer.from(text)]);
    this.push();
  }

  type(text: string): void {
    for (const char of text) {
      if (char === "\r") this.run(this.line);
      else if (char === "\x7f") this.write(this.line === "" ? "" : "\b \b");
      else if (char >= " ") this.write(char);
      this.line = char === "\r" ? "" : char === "\x7f" ? this.line.slice(0, -1) : char >= " " ? this.line + char : this.line;
    }
  }

  end(code: number): void {
    this.exitCode = code;
    const body = code === 0 ? { metadata: {}, status: "Success" } : { metadata: {}, status: "Failure", reason: "NonZeroExitCode", details: { causes: [{ reason: "ExitCode", message: String(code) }] } };
    for (const { peer } of this.viewers.values()) {
      send(peer, 3, body);
      peer.close(1000);
    }
  }

  presence(): void {
    const viewers = [...this.viewers].map(([id, { role }]) => ({ id, name: ME, role, mayType: true }));
    for (const [you, { peer }] of this.viewers) send(peer, 16, { type: "presence", you, viewers });
  }

  push(): void {
    for (const viewer of this.viewers.values()) {
      for (; viewer.cursor < this.output.length; viewer.cursor += 60_000)
        viewer.peer.send(Buffer.concat([Buffer.from([1]), this.output.subarray(viewer.cursor, viewer.cursor + 60_000)]));
      viewer.cursor = this.output.length;
    }
  }

  private run(line: string): void {
    const [word, argument] = line.trim().split(" ");
    if (word === "exit") return this.end(Number(argument ?? 0));
    const said: Record<string, string> = {
      title: `\x1b]2;${argument ?? "a title"}\x07`,
      flood: "all work and no play makes a dull mock\r\n".repeat(20_000),
      link: "https://example.org/shown \x1b]8;;https://example.com/hidden\x07another\x1b]8;;\x07\r\n",
      ask: "\x1b[c\x1b[6n",
    };
    this.write(`\r\n${said[word ?? ""] ?? (line === "" ? "" : `${line}\r\n`)}${PROMPT}`);
  }
}

const send = (peer: WebSocket, channel: number, body: Json): void => peer.send(Buffer.concat([Buffer.from([channel]), Buffer.from(JSON.stringify(body))]));

export const shells = new Map<string, Shell[]>();
export const openShell = (session: string): Shell | undefined => {
  const there = shells.get(session) ?? [];
  if (there.filter((one) => one.exitCode === undefined).length >= SHELLS_MAX) return undefined;
  const made = new Shell();
  shells.set(session, [...there, made]);
  return made;
};

/** The shell that an upgrade asks for. */
export function shellOf(request: IncomingMessage): { shell: Shell; query: URLSearchParams } | undefined {
  const url = new URL(request.url ?? "/", "http://mock");
  const [, session, id] = /^\/api\/sessions\/([^/]+)\/shells\/([^/]+)$/.exec(url.pathname) ?? [];
  const shell = shells.get(session ?? "")?.find((one) => one.id === id && one.exitCode === undefined);
  return shell && { shell, query: url.searchParams };
}

export function view(shell: Shell, query: URLSearchParams, peer: WebSocket): void {
  const id = randomUUID();
  const typist = query.get("typist") ?? id;
  const after = Number(query.get("after") ?? 0);
  const resize = (width: number, height: number): void => {
    Object.assign(shell, { width, height });
    for (const one of shell.viewers.values()) send(one.peer, 16, { type: "size", width, height });
  };
  shell.viewers.set(id, { peer, role: query.get("role") ?? "type", cursor: after });
  send(peer, 3, { metadata: { shellId: shell.id, reconnected: query.has("after"), offset: after, live: shell.output.length, typed: shell.typed.get(typist) ?? 0 }, status: "Success" });
  shell.presence();
  resize(Number(query.get("width") ?? shell.width), Number(query.get("height") ?? shell.height));
  shell.push();
  peer.on("close", () => (shell.viewers.delete(id), shell.presence()));
  peer.on("message", (data: Buffer) => {
    const payload = data.subarray(1);
    const me = shell.viewers.get(id);
    if (data[0] === 5) peer.send(data);
    if (data[0] === 4) resize(...(Object.values(JSON.parse(payload.toString()) as Json) as [number, number]));
    if (data[0] === 0 && me?.role === "type") {
      shell.typed.set(typist, (shell.typed.get(typist) ?? 0) + payload.length);
      send(peer, 16, { type: "typed", offset: shell.typed.get(typist) ?? 0 });
      shell.type(payload.toString());
    }
    if (data[0] !== 16) return;
    const asked = JSON.parse(payload.toString()) as { type: string; role?: string; to?: string };
    for (const [other, one] of shell.viewers) {
      if (asked.type === "take") one.role = other === id ? "type" : "watch";
      if (asked.type === "give") one.role = other === asked.to ? "type" : other === id ? "watch" : one.role;
      if (asked.type === "role" && other === id) one.role = asked.role ?? one.role;
    }
    shell.presence();
  });
}
