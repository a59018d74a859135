/** The keys that a phone's keyboard has not, and what they say to a shell. */
export interface Bar {
  ctrl: boolean;
  alt: boolean;
}
export const NONE: Bar = { ctrl: false, alt: false };

export type BarKey = { label: string; name: string } & ({ says: string } | { cursor: string } | { holds: keyof Bar });
export const KEYS: readonly BarKey[] = [
  { label: "Esc", name: "Esc", says: "\x1b" },
  { label: "Tab", name: "Tab", says: "\t" },
  { label: "Ctrl", name: "Ctrl, for the next key", holds: "ctrl" },
  { label: "Alt", name: "Alt, for the next key", holds: "alt" },
  { label: "←", name: "Left", cursor: "D" },
  { label: "↓", name: "Down", cursor: "B" },
  { label: "↑", name: "Up", cursor: "A" },
  { label: "→", name: "Right", cursor: "C" },
  { label: "|", name: "Pipe", says: "|" },
  { label: "~", name: "Tilde", says: "~" },
  { label: "/", name: "Slash", says: "/" },
  { label: "-", name: "Dash", says: "-" },
];

/** A character with Ctrl, as terminals have it since the teletype: `@` to `_` lose their high bits. */
function controlled(char: string): string {
  if (char === " ") return "\0";
  if (char === "?") return "\x7f";
  const code = char.toUpperCase().charCodeAt(0);
  return code >= 0x40 && code <= 0x5f ? String.fromCharCode(code & 0x1f) : char;
}

/** What a key says while Ctrl or Alt of the bar are held. Only a single character is bent. */
export function bend(data: string, held: Bar): string {
  if (!/^.$/su.test(data)) return data;
  const bent = held.ctrl ? controlled(data) : data;
  return held.alt ? `\x1b${bent}` : bent;
}

/** A cursor key; with a modifier it has a form of its own. */
export function cursor(final: string, held: Bar, application: boolean): string {
  const modifier = 1 + (held.alt ? 2 : 0) + (held.ctrl ? 4 : 0);
  if (modifier > 1) return `\x1b[1;${modifier}${final}`;
  return `\x1b${application ? "O" : "["}${final}`;
}

/** Firefox says a character beyond U+FFFF in two keys, a half each, of which neither is a character: the first waits. */
export class Halves {
  private first = "";

  whole(data: string): string {
    const text = this.first + data;
    this.first = /[\ud800-\udbff]$/.test(text) ? text.slice(-1) : "";
    return text.slice(0, text.length - this.first.length);
  }
}
