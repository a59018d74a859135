/**
 * The screen of one shell: xterm.js, with what we add and what we forbid. It lives as long as its tab; only the one that
 * is looked at has a renderer of the graphics card, of which a page has few.
 */
import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { WebglAddon } from "@xterm/addon-webgl";
import { Terminal } from "@xterm/xterm";
import type { Size } from "../../protocol/shell.ts";
import { Halves } from "./keys.ts";
import { addressOf } from "./links.ts";
import { clipboardOf } from "./osc52.ts";
import { followTouch } from "./touch.ts";
import { themeOf } from "./themes.ts";

/** Lines above the screen; about 1 KB each. */
const SCROLLBACK = 5_000;
/** Pixels of the bar at the right. */
const RULER = 10;
/** Smaller letters are hard to read: what does not fit then is scrolled to. Who wants them smaller chooses so. */
const FONT_MIN_WATCHING = 11;
const MATCHES = {
  light: { matchBackground: "#ffefbf", matchOverviewRuler: "#e8a200", activeMatchBackground: "#ff9632", activeMatchBorder: "#8f4400", activeMatchColorOverviewRuler: "#c96a00" },
  dark: { matchBackground: "#4a3a10", matchOverviewRuler: "#ffd43b", activeMatchBackground: "#ffb84d", activeMatchBorder: "#ffffff", activeMatchColorOverviewRuler: "#ff922b" },
};
/** On the current match, in both schemes. */
const ON_MATCH = "#1d2227";

export interface ScreenHost {
  /** Keys, and the terminal's own answers. */
  onData: (data: string, binary: boolean) => void;
  /** The size that fits the box has changed. */
  onFit: (size: Size) => void;
  onTitle: (title: string) => void;
  /** Somebody followed a link: it is asked about before it is opened. */
  onLink: (address: string) => void;
  /** A program wants this on the clipboard. */
  onClipboard: (text: string) => void;
  /** A key before the terminal has it; true if it is not for the terminal. */
  onKey: (event: KeyboardEvent) => boolean;
}
export interface Look {
  fontSize: number;
  scheme: "light" | "dark";
  reader: boolean;
}

export class Screen {
  private readonly term: Terminal;
  private readonly fit = new FitAddon();
  private readonly search = new SearchAddon();
  private webgl: WebglAddon | undefined;
  private observer: ResizeObserver | undefined;
  private fitting = 0;
  private scheme: "light" | "dark";
  private searching = false;
  private drawn = 0;
  private fontSize: number;
  /** Of a line, by a finger. */
  private dragged = 0;
  /** What it lives in; moved into the page while it is looked at. */
  private readonly element = document.createElement("div");

  constructor(private readonly host: ScreenHost, look: Look) {
    this.scheme = look.scheme;
    this.fontSize = look.fontSize;
    const follow = (_event: MouseEvent, text: string): void => {
      const address = addressOf(text);
      if (address !== undefined) host.onLink(address);
    };
    this.term = new Terminal({
      allowProposedApi: true,
      cursorBlink: !window.matchMedia("(prefers-reduced-motion: reduce)").matches,
      fontFamily: getComputedStyle(document.body).getPropertyValue("--mantine-font-family-monospace") || "monospace",
      fontSize: look.fontSize,
      linkHandler: { activate: follow, allowNonHttpProtocols: false },
      macOptionIsMeta: true,
      minimumContrastRatio: 4.5,
      overviewRuler: { width: RULER },
      rightClickSelectsWord: false,
      screenReaderMode: look.reader,
      scrollback: SCROLLBACK,
      theme: themeOf(look.scheme),
    });
    this.term.loadAddon(this.fit);
    this.term.loadAddon(this.search);
    this.term.loadAddon(new Unicode11Addon());
    this.term.unicode.activeVersion = "11";
    this.term.loadAddon(new WebLinksAddon(follow));
    const halves = new Halves();
    this.term.onData((data) => {
      const whole = halves.whole(data);
      if (whole !== "") host.onData(whole, false);
    });
    this.term.onBinary((data) => host.onData(data, true));
    this.term.onTitleChange((title) => host.onTitle(title));
    this.term.attachCustomKeyEventHandler((event) => !host.onKey(event));
    this.term.parser.registerOscHandler(52, (payload) => {
      const text = clipboardOf(payload);
      if (text !== undefined) host.onClipboard(text);
      return true;
    });
    this.element.className = "xtermhost";
    followTouch(this.element, (x, y, dx, dy) => this.drag(x, y, dx, dy));
  }

  /** Into the page. */
  show(box: HTMLElement, label: string): void {
    box.append(this.element);
    if (!this.term.element) this.term.open(this.element);
    this.term.textarea?.setAttribute("aria-label", label);
    this.term.textarea?.setAttribute("aria-describedby", "terminal-leave");
    this.accelerate();
    this.observer = new ResizeObserver(() => {
      cancelAnimationFrame(this.fitting);
      this.fitting = requestAnimationFrame(() => this.refit());
    });
    this.observer.observe(box);
    this.refit();
  }

  /** Out of the page; what was drawn stays. */
  hide(): void {
    cancelAnimationFrame(this.fitting);
    this.observer?.disconnect();
    this.observer = undefined;
    this.webgl?.dispose();
    this.webgl = undefined;
    this.element.remove();
  }

  dispose(): void {
    this.hide();
    this.term.dispose();
  }

  look(look: Look): void {
    this.scheme = look.scheme;
    this.paint();
    this.term.options.screenReaderMode = look.reader;
    if (this.fontSize === look.fontSize) return;
    this.fontSize = this.term.options.fontSize = look.fontSize;
    this.refit();
  }

  /** Columns and rows that fit the box in letters of the size that is wanted, once it is known. Measured in such letters:
   * a cell is whole pixels wide, so that what fits in smaller ones says nothing exact. */
  get fits(): Size | undefined {
    if (!this.observer) return undefined;
    const fontSize = this.term.options.fontSize ?? this.fontSize;
    if (fontSize !== this.fontSize) this.term.options.fontSize = this.fontSize;
    const found = this.fit.proposeDimensions();
    if (fontSize !== this.fontSize) this.term.options.fontSize = fontSize;
    if (!found || !Number.isFinite(found.cols) || !Number.isFinite(found.rows)) return undefined;
    return { width: found.cols, height: found.rows };
  }

  /** The shell has another size. */
  resize({ width, height }: Size): void {
    // After what came before it: what was written is drawn later.
    this.term.write("", () => {
      if (width >= 1 && height >= 1 && (width !== this.term.cols || height !== this.term.rows)) this.term.resize(width, height);
      this.settle();
    });
  }

  write(data: Uint8Array | string, drawn?: () => void): void {
    this.term.write(data, drawn);
  }

  /** For tests: how much there is on the screen. */
  drew(bytes: number): void {
    this.drawn += bytes;
    Object.assign(this.element.dataset, { drawn: this.drawn, cols: this.term.cols, rows: this.term.rows });
  }

  /** A line of our own between the shell's; on the screen of a full-screen program there is no place for one. */
  note(text: string): void {
    // CAN ends what a missing piece has left half said.
    this.term.write("\x18", () => {
      if (this.term.buffer.active.type === "normal") this.term.write(`\x1b[0m\r\n\x1b[7m ${text} \x1b[0m\r\n`);
    });
  }

  paste(text: string): void {
    this.term.paste(text);
    this.term.scrollToBottom();
  }
  get bracketed(): boolean {
    return this.term.modes.bracketedPasteMode;
  }
  /** What the cursor keys are to say now. */
  get applicationKeys(): boolean {
    return this.term.modes.applicationCursorKeysMode;
  }

  /** Whether it is written in the upper half: what is said over the screen then stands below. */
  get upper(): boolean {
    return this.term.buffer.active.cursorY < this.term.rows / 2;
  }

  get selection(): string {
    return this.term.getSelection();
  }
  focus(): void {
    this.term.focus();
  }
  find(text: string, back: boolean): boolean {
    this.paint(true);
    const options = { decorations: MATCHES[this.scheme], caseSensitive: false };
    return back ? this.search.findPrevious(text, options) : this.search.findNext(text, options);
  }
  found(listen: (at: number, of: number) => void): () => void {
    const handle = this.search.onDidChangeResults(({ resultIndex, resultCount }) => listen(resultIndex + 1, resultCount));
    return () => handle.dispose();
  }
  findNothing(): void {
    this.search.clearDecorations();
    this.term.clearSelection();
    this.paint(false);
  }

  /** The current match is selected, and the colour of what is selected covers that of a match. */
  private paint(searching = this.searching): void {
    this.searching = searching;
    const current = MATCHES[this.scheme].activeMatchBackground;
    const selection = { selectionBackground: current, selectionInactiveBackground: current, selectionForeground: ON_MATCH };
    this.term.options.theme = { ...themeOf(this.scheme), ...(searching ? selection : {}) };
  }

  private refit(): void {
    const size = this.fits;
    if (!size) return;
    this.host.onFit(size);
    this.settle();
  }

  /** A shell larger than the box, because somebody else types, is shown in smaller letters; what is then still outside is
   * scrolled to. */
  private settle(): void {
    const { fits } = this;
    const { element } = this.term;
    if (!fits || !element) return;
    const share = Math.min(1, fits.width / this.term.cols, fits.height / this.term.rows);
    const wanted = Math.max(Math.min(FONT_MIN_WATCHING, this.fontSize), Math.floor(this.fontSize * share * 2) / 2);
    if (this.term.options.fontSize !== wanted) this.term.options.fontSize = wanted;
    const cell = this.fit.proposeDimensions();
    const screen = element.querySelector<HTMLElement>(".xterm-screen");
    if (!cell || !screen) return;
    element.style.width = this.term.cols > cell.cols ? `${screen.offsetWidth + RULER}px` : "";
    element.style.height = this.term.rows > cell.rows ? `${screen.offsetHeight}px` : "";
  }

  /** A finger moves what is seen: the history, what is outside of the box, or what the program makes of a wheel. */
  private drag(x: number, y: number, dx: number, dy: number): void {
    const box = this.element.parentElement;
    const screen = this.element.querySelector<HTMLElement>(".xterm-screen");
    if (!box || !screen) return;
    box.scrollBy(dx, dy);
    if (this.term.buffer.active.type === "alternate" || this.term.modes.mouseTrackingMode !== "none") {
      screen.dispatchEvent(new WheelEvent("wheel", { deltaY: dy, deltaMode: 0, clientX: x, clientY: y, bubbles: true, cancelable: true }));
      return;
    }
    const row = screen.offsetHeight / this.term.rows;
    this.dragged += dy / row;
    const lines = Math.trunc(this.dragged);
    this.dragged -= lines;
    if (lines !== 0) this.term.scrollLines(lines);
  }

  /** By the graphics card where there is one; else, or when it is taken away, xterm draws with elements. */
  private accelerate(): void {
    if (this.webgl) return;
    try {
      const addon = new WebglAddon();
      addon.onContextLoss(() => {
        addon.dispose();
        if (this.webgl === addon) this.webgl = undefined;
        // The cells of elements are not of the same width.
        this.refit();
      });
      this.term.loadAddon(addon);
      this.webgl = addon;
    } catch {
      this.webgl = undefined;
    }
  }
}
