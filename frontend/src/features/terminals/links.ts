/** The address that a link of a terminal leads to, or nothing: http and https only. */
const ADDRESS_MAX = 2048;

export function addressOf(text: string): string | undefined {
  if (text.length > ADDRESS_MAX) return undefined;
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : undefined;
  } catch {
    return undefined;
  }
}
