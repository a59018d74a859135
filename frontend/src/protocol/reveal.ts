/**
 * Characters that a person cannot see but a machine obeys: controls, direction overrides, zero-width and tag
 * characters, look-alike spaces. Where somebody decides about a text, each is shown by its code point.
 */
export interface Piece {
  text: string;
  /** What stands there unseen; absent for ordinary text. */
  hidden?: string;
}

// Tab and line feed are layout; every other control, format, surrogate or private character is named.
// eslint-disable-next-line no-misleading-character-class -- each stands for itself
const HIDDEN = /(?![\t\n])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\u2028\u2029\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000\u115f\u1160\u3164\uffa0\u034f\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/gu;

const NAMES: Readonly<Record<number, string>> = {
  0x00: "NUL", 0x07: "BELL", 0x08: "BACKSPACE", 0x0d: "CARRIAGE RETURN", 0x1b: "ESCAPE", 0x7f: "DELETE",
  0xa0: "NO-BREAK SPACE", 0xad: "SOFT HYPHEN", 0x200b: "ZERO WIDTH SPACE", 0x200c: "ZERO WIDTH NON-JOINER",
  0x200d: "ZERO WIDTH JOINER", 0x200e: "LEFT-TO-RIGHT MARK", 0x200f: "RIGHT-TO-LEFT MARK",
  0x202a: "LEFT-TO-RIGHT EMBEDDING", 0x202b: "RIGHT-TO-LEFT EMBEDDING", 0x202c: "POP DIRECTIONAL FORMATTING",
  0x202d: "LEFT-TO-RIGHT OVERRIDE", 0x202e: "RIGHT-TO-LEFT OVERRIDE", 0x2060: "WORD JOINER",
  0x2066: "LEFT-TO-RIGHT ISOLATE", 0x2067: "RIGHT-TO-LEFT ISOLATE", 0x2068: "FIRST STRONG ISOLATE",
  0x2069: "POP DIRECTIONAL ISOLATE", 0xfeff: "ZERO WIDTH NO-BREAK SPACE",
};

export const codePoint = (char: string): string => {
  const code = char.codePointAt(0) ?? 0;
  return `U+${code.toString(16).toUpperCase().padStart(4, "0")}`;
};

export function reveal(source: string): Piece[] {
  // `\r\n` is a line end like any other; a lone `\r` hides what stands before it.
  const text = source.replaceAll("\r\n", "\n");
  const pieces: Piece[] = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > from) pieces.push({ text: text.slice(from, match.index) });
    const name = NAMES[match[0].codePointAt(0) ?? 0];
    pieces.push({ text: codePoint(match[0]), hidden: name ? `${codePoint(match[0])} ${name}` : codePoint(match[0]) });
    from = match.index + match[0].length;
  }
  if (from < text.length) pieces.push({ text: text.slice(from) });
  return pieces;
}

/** One line for a title bar or a list: hidden characters are dropped, white space is one space. */
export const plain = (source: string): string => source.replace(HIDDEN, "").replace(/\s+/gu, " ").trim();
