/** What is pasted, before it is. */

/** More goes into a file: nobody reads it in a terminal. */
export const PASTE_MAX = 4 * 1024 * 1024;

/** Control characters are keys, and an ESC could end the marks that tell a program that this is pasted. */
// eslint-disable-next-line no-control-regex -- these are what is taken out
const KEYS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]/g;
export const cleaned = (text: string): string => text.replace(KEYS, "");

/** Each line may be a command that runs at once. */
export const mustAsk = (text: string): boolean => /[\r\n]/.test(text);

export const lines = (text: string): number => text.replace(/\r\n?/g, "\n").replace(/\n$/, "").split("\n").length;
