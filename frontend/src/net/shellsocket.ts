/**
 * A viewer's connection to one shell, come back to by offset and typist. It draws nothing: `onOutput` hands the bytes
 * over, and `drew` is called back when they are on the screen.
 */
import { isAnswer, Place } from "../protocol/place.ts";
import { ask, decodeShell, heartbeat, resize, stdin, within } from "../protocol/shell.ts";
import { Presence } from "../protocol/presence.ts";
import type { Asked, Attached, Exit, Role, Said, Size } from "../protocol/shell.ts";
import { newTypist, Typed } from "../protocol/typed.ts";
import { Beat } from "./beat.ts";
import { afterClose, backoff, SHELL_WAIT_MAX_MS } from "./closing.ts";
import { Seen } from "./seen.ts";

/** `held`: let go on purpose, and come back to. */
export type ShellState = "held" | "connecting" | "open" | "waiting" | "ended" | "refused";

export interface ShellHost {
  url: string;
  /** What the viewer asks to be. */
  role: Role;
  /** Of its screen; none while it is not known. */
  size: () => Size | undefined;
  /** `drew` is called when it is on the screen. */
  onOutput: (data: Uint8Array, drew: () => void) => void;
  /** So many bytes of output were not sent. */
  onMissed: (bytes: number) => void;
  onSize: (size: Size) => void;
  /** Something that the server has to say. */
  onNote: (text: string) => void;
  /** Anything below has changed. */
  onChange: () => void;
  /** It did not come up, or was ended: find out what there is to come back to. */
  onDoubt: () => Promise<Finding>;
}
export type Finding = { is: "there" } | { is: "gone" } | { is: "refused"; why: string };

const HANDSHAKE_MS = 10_000;

export class ShellSocket {
  state: ShellState = "held";
  /** Why it is refused. */
  why = "";
  exit: Exit | undefined;
  readonly presence: Presence;
  readonly place = new Place();
  readonly typed = new Typed();
  private typist = newTypist();
  /** Some of what this typist sent came when it did not type any more: how much, nobody knows. */
  private spoilt = false;
  private socket: WebSocket | undefined;
  private placed = false;
  private attempt = 0;
  private generation = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private pacing: ReturnType<typeof setTimeout> | undefined;
  /** The size that the server was last told. */
  private told: Size | undefined;
  private readonly seen = new Seen(() => this.place.after ?? 0, (offset) => this.ask({ type: "seen", offset }));
  private readonly utf8 = new TextEncoder();
  private readonly beat = new Beat(
    (word) => this.send(heartbeat(this.utf8.encode(word))),
    () => void this.lost(1006, true),
  );

  constructor(private readonly host: ShellHost) {
    this.presence = new Presence(host.role);
  }

  get latency(): number | undefined {
    return this.beat.latency;
  }

  // --- coming and going

  /** For the first time, or again after `hold` or a refusal. */
  start(): void {
    if (this.state !== "held" && this.state !== "refused") return;
    this.attempt = 0;
    this.open();
  }

  /** Lets go of the shell, which goes on; `start` comes back to the same place. */
  hold(): void {
    if (this.state === "ended" || this.state === "refused") return;
    this.drop("held");
  }

  /** Somebody came back to the page, or the network did: do not wait for the timer. */
  hurry(): void {
    if (this.state !== "waiting") return;
    this.attempt = 0;
    this.open();
  }

  // --- what the viewer does

  /** What the terminal gives out: keys, a paste, or its own answers. False if it does not go to the shell. */
  type(text: string, binary = false): boolean {
    const answer = isAnswer(text);
    if (answer && (this.place.replaying || !this.presence.answers)) return true;
    if (!this.presence.types || this.state === "ended" || this.state === "refused") return answer;
    this.typed.add(binary ? Uint8Array.from(text, (one) => one.charCodeAt(0)) : this.utf8.encode(text));
    this.flush();
    return true;
  }

  ask(asked: Asked): void {
    this.send(ask(asked));
  }

  /** The screen has another size. While there is no connection the next one says it. */
  resize(size: Size | undefined): void {
    if (!size || !this.placed || (size.width === this.told?.width && size.height === this.told.height)) return;
    this.told = size;
    this.send(resize(within(size)));
  }

  /** Takes back what was typed or pasted and not sent. */
  stopSending(): void {
    this.typed.stop();
    this.host.onChange();
  }

  // ---

  private open(): void {
    clearTimeout(this.timer);
    const generation = ++this.generation;
    this.set("connecting");
    const socket = new WebSocket(this.address());
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.placed = false;
    this.place.begin();
    let opened = false;
    const ours = (): boolean => this.generation === generation;
    this.timer = setTimeout(() => ours() && !opened && void this.lost(1006, false), HANDSHAKE_MS);
    socket.onopen = () => {
      if (!ours()) return;
      opened = true;
      clearTimeout(this.timer);
      this.beat.start();
    };
    socket.onmessage = (message: MessageEvent<unknown>) => {
      if (!ours()) return;
      this.beat.heard();
      if (message.data instanceof ArrayBuffer) this.hear(message.data);
    };
    socket.onclose = (event) => ours() && void this.lost(event.code, opened, event.reason);
  }

  private address(): string {
    const query = new URLSearchParams({ typist: this.typist, role: this.presence.role });
    if (this.place.after !== undefined) query.set("after", String(this.place.after));
    const size = (this.told = this.host.size());
    if (size) {
      const { width, height } = within(size);
      query.set("width", String(width));
      query.set("height", String(height));
    }
    return `${this.host.url}?${query.toString()}`;
  }

  private hear(message: ArrayBuffer): void {
    const frame = decodeShell(message);
    switch (frame.is) {
      case "output":
        for (const piece of this.place.take(frame.data)) this.host.onOutput(piece, () => this.drew());
        this.seen.more();
        return this.pace();
      case "attached":
        return this.attached(frame.at);
      case "beat":
        this.beat.back(new TextDecoder().decode(frame.payload));
        return this.host.onChange();
      case "said":
        return this.said(frame.said);
      case "ended":
        this.exit = frame.exit;
        return this.drop("ended");
      case "failed":
        this.why = frame.message;
        return this.drop("refused");
      case "note":
        return this.host.onNote(frame.text);
      case "bad":
        return console.warn("shell: a frame could not be read:", frame.why);
      case "close":
        return;
    }
  }

  private attached(at: Attached): void {
    const missed = this.place.attached(at);
    if (missed > 0) this.host.onMissed(missed);
    if (at.offset === undefined || this.placed) return;
    this.placed = true;
    this.attempt = 0;
    this.seen.begin();
    this.typed.begin(at.typed ?? 0);
    this.set("open");
    this.beat.beat();
    this.resize(this.host.size());
    this.flush();
  }

  private said(said: Said): void {
    if (said.type === "size") this.host.onSize(said);
    else if (said.type === "typed") {
      this.typed.taken(said.offset);
      this.flush();
    } else if (said.type === "refused") this.host.onNote(said.message);
    else {
      const change = this.presence.heard(said);
      if (change === "lost") this.yielded();
      if (change === "won" && this.spoilt) this.anew();
      this.host.onChange();
    }
  }

  /** Somebody else types now: what of ours is on its way is refused, and must not be typed when it is our turn again. */
  private yielded(): void {
    this.spoilt = this.typed.open;
    if (this.spoilt) this.typed.forget();
  }

  /** Our turn again, and it is not known how much arrived last time: count anew, as another typist. */
  private anew(): void {
    this.spoilt = false;
    this.typist = newTypist();
    this.typed.reset();
    this.drop("held");
    this.open();
  }

  private flush(): void {
    clearTimeout(this.pacing);
    if (!this.placed) return;
    for (;;) {
      const { piece, wait } = this.typed.next(performance.now());
      if (wait !== undefined) this.pacing = setTimeout(() => this.flush(), wait);
      if (!piece) break;
      this.send(stdin(piece));
    }
    this.host.onChange();
  }

  private drew(): void {
    this.place.drew();
    this.pace();
  }

  private pace(): void {
    const type = this.place.pace();
    if (type) this.ask({ type });
  }

  private send(frame: Uint8Array<ArrayBuffer>): void {
    if (this.socket?.readyState === 1) this.socket.send(frame);
  }

  private async lost(code: number, opened: boolean, reason = ""): Promise<void> {
    this.drop("waiting");
    const generation = this.generation;
    const next = afterClose(code);
    // A policy, a frame that we should not have sent: coming back would end the same way. What ended is not there any more.
    const doubtful = !opened || next !== "again" || code === 1000 || code === 1003;
    if (doubtful) {
      const found = await this.host.onDoubt();
      if (this.generation !== generation) return;
      if (found.is === "gone") return this.set("ended");
      const stay = next === "stay" || code === 1003 ? reason || `The server ended the connection (${code}).` : "";
      if (found.is === "refused" || stay) {
        this.why = found.is === "refused" ? found.why : stay;
        return this.set("refused");
      }
    }
    this.attempt += 1;
    this.timer = setTimeout(() => this.open(), Math.min(SHELL_WAIT_MAX_MS, backoff(this.attempt - 1, Math.random())));
  }

  private drop(state: ShellState): void {
    this.generation += 1;
    clearTimeout(this.timer);
    clearTimeout(this.pacing);
    this.seen.stop();
    this.beat.stop();
    const { socket } = this;
    this.socket = undefined;
    this.placed = false;
    this.presence.left();
    socket?.close();
    this.set(state);
  }

  private set(state: ShellState): void {
    this.state = state;
    this.host.onChange();
  }
}
