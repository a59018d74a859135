/** What a program wants on the clipboard: `52;c;BASE64`. A question (`?`) is never answered. */
const TEXT_MAX = 100_000;

export function clipboardOf(payload: string): string | undefined {
  const [, where, data] = /^([cpqs0-7]*);([A-Za-z0-9+/]*={0,2})$/.exec(payload) ?? [];
  if (where === undefined || data === undefined || data === "" || data.length > (TEXT_MAX / 3) * 4) return undefined;
  try {
    const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
