import { describe, expect, it } from "vitest";
import vectors from "../../../protocol/vectors/terminal.json" with { type: "json" };
import { isAnswer, PAUSE_AT, Place } from "./place.ts";
import { Presence } from "./presence.ts";
import { ask, decodeShell, heartbeat, resize, stdin, STDIN_MAX, within } from "./shell.ts";
import type { Asked, Said, Size } from "./shell.ts";
import { AHEAD, BURST, RATE, Typed } from "./typed.ts";

const bytes = (hex: string): Uint8Array<ArrayBuffer> => Uint8Array.from(hex.match(/../g) ?? [], (one) => parseInt(one, 16));
const hex = (data: Uint8Array): string => Array.from(data, (one) => one.toString(16).padStart(2, "0")).join("");
const of = (length: number): Uint8Array => new Uint8Array(length).map((_, i) => i % 251);
const attached = (offset: number, live: number, bytesDropped?: number) => ({ shellId: "s", offset, live, ...(bytesDropped ? { bytesDropped } : {}) });

describe("the codec", () => {
  it.each(vectors.fromServer)("reads $name", (vector) => {
    const found: unknown = JSON.parse(JSON.stringify(decodeShell(bytes(vector.hex).buffer), (_, one: unknown) => (one instanceof Uint8Array ? hex(one) : one)));
    expect(found).toEqual(vector.frame);
  });

  it.each(vectors.fromViewer)("writes $name", ({ hex: wanted, frame }) => {
    const { stdin: typed, resize: size, heartbeat: beat, control } = frame as { stdin?: string; resize?: Size; heartbeat?: string; control?: Asked };
    const made = typed ? stdin(bytes(typed)) : size ? resize(size) : beat ? heartbeat(bytes(beat)) : ask(control ?? { type: "take" });
    expect(hex(made)).toBe(wanted);
  });

  it.each(["", "07", "00", "03", "037b", "0322", "037b226d65746164617461223a317d", "10", "107b2274797065223a2278227d", "107b2274797065223a227479706564222c226f6666736574223a2d317d"])(
    "says what is wrong with %j, and never throws",
    (one) => expect(decodeShell(bytes(one).buffer)).toMatchObject({ is: "bad" }),
  );

  it("keeps a size within what a shell may have", () => {
    expect(within({ width: 0, height: 4000.7 })).toEqual({ width: 1, height: 1000 });
  });
});

describe("the place in the output", () => {
  it("counts bytes, and cuts where the replay ends", () => {
    const place = new Place();
    expect(place.attached(attached(100, 110))).toBe(0);
    expect(place.take(of(4)).map((one) => one.length)).toEqual([4]);
    expect(place.take(of(10)).map((one) => one.length)).toEqual([6, 4]);
    expect(place.after).toBe(114);
    expect(place.replaying).toBe(true);
    place.drew();
    place.drew();
    expect(place.replaying).toBe(false);
  });

  it("is no replay for what came after it, whatever was left out between", () => {
    const place = new Place();
    place.attached(attached(0, 0));
    place.take(of(10));
    expect(place.attached(attached(5_000_000, 5_000_000, 4_999_990))).toBe(4_999_990);
    place.drew();
    place.take(of(1));
    expect(place.replaying).toBe(false);
    expect(place.pace()).toBeUndefined();
  });

  it("tells nobody of what was gone before it came", () => {
    expect(new Place().attached(attached(70, 90, 70))).toBe(0);
  });

  it("pauses when too much is not drawn, and goes on when it is", () => {
    const place = new Place();
    place.attached(attached(0, 0));
    for (let i = 0; i <= PAUSE_AT / 65_536; i++) place.take(of(65_536));
    expect([place.pace(), place.pace()]).toEqual(["pause", undefined]);
    for (let i = 0; i < 16; i++) place.drew();
    expect([place.pace(), place.pace()]).toEqual(["resume", undefined]);
  });
});

describe("a terminal's own answers", () => {
  it.each(["\x1b[?1;2c", "\x1b[>0;276;0c", "\x1b[0n", "\x1b[12;40R", "\x1b[?12;40R", "\x1b[?2026;2$y", "\x1b[4;2$y", "\x1b]11;rgb:1212/1616/1a1a\x1b\\", "\x1b]4;1;rgb:ff/00/00\x07", "\x1bP1$r0m\x1b\\", "\x1bP>|xterm.js(6.0.0)\x1b\\", "\x1b[I", "\x1b[8;24;80t", "\x1b[?0u"])("%j is one", (one) => expect(isAnswer(one)).toBe(true));
  it.each(["c", "\r", "\x1b", "\x1b[A", "\x1bOA", "\x1bOP", "\x1b[1;5C", "\x1b[3~", "\x1bP", "\x1b]", "\x1b[200~echo\x1b[201~", "\x1b[<0;1;1M", "\x1b[Z", "R", "[I"])("%j is typed", (one) => expect(isAnswer(one)).toBe(false));
});

describe("what is typed", () => {
  const all = (typed: Typed, now = 0): number[] => {
    const sizes: number[] = [];
    for (let next = typed.next(now); next.piece; next = typed.next(now)) sizes.push(next.piece.length);
    return sizes;
  };

  it("goes in frames that a server takes, and waits where too much is on its way", () => {
    const typed = new Typed();
    typed.add(of(600_000));
    expect(all(typed)).toEqual([STDIN_MAX, STDIN_MAX, AHEAD - 2 * STDIN_MAX]);
    typed.taken(100_000);
    expect(all(typed, 1).reduce((a, b) => a + b)).toBe(100_000);
    expect(typed.waiting).toBe(600_000 - AHEAD - 100_000);
  });

  it("goes out again from where the shell has it, once", () => {
    const typed = new Typed();
    typed.begin(0);
    typed.add(Uint8Array.from([1, 2, 3, 4, 5]));
    all(typed);
    typed.taken(1);
    typed.begin(3);
    expect(typed.next(9).piece).toEqual(Uint8Array.from([4, 5]));
    expect(typed.next(9).piece).toBeUndefined();
    typed.taken(5);
    typed.taken(4);
    expect(typed.open).toBe(false);
  });

  it("is no more frames a second than a connection may send", () => {
    const typed = new Typed();
    let sent = 0;
    for (let ms = 0; ms < 1000; ms++) {
      typed.add(of(1));
      if (typed.next(ms + 1).piece) sent += 1;
    }
    expect(sent).toBeLessThanOrEqual(BURST + RATE);
    expect(sent).toBeGreaterThan(RATE);
    expect(typed.waiting).toBeLessThan(10);
  });

  it("says when the next frame may go", () => {
    const typed = new Typed();
    for (let i = 0; i < BURST; i++) {
      typed.add(of(1));
      expect(typed.next(5).piece).toBeDefined();
    }
    typed.add(of(1));
    const { wait } = typed.next(5);
    expect(wait).toBe(Math.ceil(1000 / RATE));
    expect(typed.next(5 + (wait ?? 0)).piece).toHaveLength(1);
  });

  it("can be taken back as far as it was not sent", () => {
    const typed = new Typed();
    typed.add(of(600_000));
    all(typed);
    typed.stop();
    expect([typed.waiting, typed.open]).toEqual([0, true]);
  });
});

describe("presence", () => {
  const said = (...roles: ("type" | "watch")[]): Said & { type: "presence" } => ({
    type: "presence", you: "v1", viewers: roles.map((role, i) => ({ id: `v${i}`, name: "n", role, mayType: true })),
  });

  it("notices when the typing is won and lost", () => {
    const presence = new Presence("type");
    expect(presence.heard(said("watch", "type"))).toBeUndefined();
    expect(presence.heard(said("type", "watch"))).toBe("lost");
    expect(presence.role).toBe("watch");
    presence.left();
    expect(presence.types).toBe(false);
    expect(presence.heard(said("watch", "type"))).toBe("won");
  });

  it("lets the first of those who type answer for all", () => {
    const presence = new Presence("type");
    expect(presence.answers).toBe(false);
    presence.heard(said("type", "type"));
    expect(presence.answers).toBe(false);
    presence.heard(said("watch", "type"));
    expect(presence.answers).toBe(true);
  });
});
