/**
 * One tab: a screen and the connection that feeds it. Only the tab that is looked at is connected. The others keep their
 * screen and their place in the output and come back by offset, as after any cut: they cost no socket, slow no shell and
 * are not counted as somebody who is there.
 */
import type { Exit, Size, Viewer } from "../../protocol/shell.ts";
import { STDIN_MAX } from "../../protocol/shell.ts";
import { plain } from "../../protocol/reveal.ts";
import { ShellSocket } from "../../net/shellsocket.ts";
import type { Finding, ShellState } from "../../net/shellsocket.ts";
import { bytes } from "../../ui/words.ts";
import { writeClipboard } from "./copy.ts";
import { Screen } from "./screen.ts";
import type { Look } from "./screen.ts";

const TITLE_MAX = 80;

/** What the page shows of a tab. */
export interface Shown {
  state: ShellState;
  why: string;
  exit: Exit | undefined;
  title: string;
  /** The last thing that went wrong, or was kept from happening. */
  note: string;
  latency: number | undefined;
  viewers: readonly Viewer[];
  you: string;
  types: boolean;
  mayType: boolean;
  /** Bytes of a paste that wait. */
  sending: number;
}

export interface TabHost {
  url: string;
  label: string;
  look: () => Look;
  mayWriteClipboard: () => boolean;
  onDoubt: () => Promise<Finding>;
}

/** What the page does for the tab that is looked at. */
export interface Hands {
  onLink: (address: string) => void;
  /** True if the key is not for the terminal. */
  onKey: (event: KeyboardEvent) => boolean;
  /** Before keys go to the shell: the keys bar's Ctrl and Alt. */
  bend: (data: string) => string;
}

export class Tab {
  readonly socket: ShellSocket;
  readonly screen: Screen;
  private shown: Shown;
  private title = "";
  private note = "";
  private hands: Hands = { onLink: () => undefined, onKey: () => false, bend: (data) => data };
  private readonly listeners = new Set<() => void>();

  constructor(private readonly host: TabHost) {
    this.screen = new Screen(
      {
        onData: (data, binary) => this.type(data, binary),
        onFit: (size) => this.fitted(size),
        onTitle: (title) => this.change({ title: plain(title).slice(0, TITLE_MAX) }),
        onLink: (address) => this.hands.onLink(address),
        onClipboard: (text) => this.toClipboard(text),
        onKey: (event) => this.hands.onKey(event),
      },
      host.look(),
    );
    this.socket = new ShellSocket({
      url: host.url,
      // The server says if it may not.
      role: "type",
      size: () => this.screen.fits,
      onOutput: (data, drew) =>
        this.screen.write(data, () => {
          drew();
          this.screen.drew(data.length);
        }),
      onMissed: (missed) => {
        this.screen.note(`${bytes(missed)} of output are not kept any more`);
        this.change({ note: `${bytes(missed)} of output were missed: they are not kept any more.` });
      },
      onSize: (size) => this.screen.resize(size),
      onNote: (note) => this.change({ note }),
      onChange: () => this.wake(),
      onDoubt: host.onDoubt,
    });
    this.shown = this.look();
  }

  readonly subscribe = (wake: () => void): (() => void) => {
    this.listeners.add(wake);
    return () => this.listeners.delete(wake);
  };
  readonly snapshot = (): Shown => this.shown;

  listen(hands: Hands): void {
    this.hands = hands;
  }

  show(box: HTMLElement): void {
    this.screen.show(box, `Terminal, ${this.host.label}`);
    this.socket.start();
  }

  hide(): void {
    this.socket.hold();
    this.screen.hide();
  }

  dispose(): void {
    this.listeners.clear();
    this.socket.hold();
    this.screen.dispose();
  }

  /** Keys, from the keyboard or the keys bar. */
  type(data: string, binary = false): void {
    const sent = this.socket.type(binary ? data : this.hands.bend(data), binary);
    const mouse = data.startsWith("\x1b[<") || data.startsWith("\x1b[M");
    if (!sent && !mouse && this.shown.state === "open") this.change({ note: this.shown.mayType ? "You are watching. Take the typing to write here." : "You are watching: you have no right to type here." });
  }

  paste(text: string): void {
    if (!this.shown.types) return this.type(text);
    this.screen.paste(text);
  }

  unnote(): void {
    this.change({ note: "" });
  }

  private fitted(size: Size): void {
    // Nobody but those who type decides how large a shell is; before the first word of the server the box does.
    if (this.socket.presence.viewers.length === 0 && this.socket.place.after === undefined) this.screen.resize(size);
    this.socket.resize(size);
  }

  private toClipboard(text: string): void {
    if (this.socket.place.replaying) return;
    if (!this.host.mayWriteClipboard()) return this.change({ note: "A program wanted to write to your clipboard. The settings can allow it." });
    writeClipboard(text).catch(() => this.change({ note: "The browser did not let a program write to your clipboard." }));
  }

  private change(what: { title?: string; note?: string }): void {
    this.title = what.title ?? this.title;
    this.note = what.note ?? this.note;
    this.wake();
  }

  private look(): Shown {
    const { socket } = this;
    const { waiting } = socket.typed;
    return {
      state: socket.state,
      why: socket.why,
      exit: socket.exit,
      title: this.title,
      note: this.note,
      latency: socket.latency === undefined ? undefined : Math.round(socket.latency),
      viewers: socket.presence.viewers,
      you: socket.presence.you,
      types: socket.presence.types,
      mayType: socket.presence.me?.mayType ?? false,
      sending: waiting > STDIN_MAX ? waiting : 0,
    };
  }

  /** Most keystrokes change nothing that is shown: React hears of what does. */
  private wake(): void {
    // While it is being made there is nobody to tell.
    if (!(this as Partial<Tab>).socket) return;
    const now = this.look();
    const before = this.shown;
    if ((Object.keys(now) as (keyof Shown)[]).every((name) => now[name] === before[name])) return;
    this.shown = now;
    for (const wake of this.listeners) wake();
  }
}
