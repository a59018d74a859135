/**
 * Cuts Markdown where no construct can reach across, so that a growing text is parsed again only at its end. A cut is
 * made before a line that begins in the first column with a letter or `#`, after a blank line, outside a fence: there
 * every list, quote, table and indented block has ended. Texts with reference definitions are not cut.
 */
export function splitBlocks(text: string): string[] {
  if (text.length < 400 || /^ {0,3}\[[^\]\n]+\]:/m.test(text)) return [text];
  const blocks: string[] = [];
  let start = 0;
  let at = 0;
  let blank = false;
  let fence = "";
  for (const line of text.split("\n")) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence === "" && blank && /^[\p{L}#]/u.test(line) && at > start) {
      blocks.push(text.slice(start, at));
      start = at;
    }
    if (mark !== undefined) {
      if (fence === "") fence = mark;
      else if (mark[0] === fence[0] && mark.length >= fence.length && line.trim() === mark) fence = "";
    }
    blank = line.trim() === "";
    at += line.length + 1;
  }
  blocks.push(text.slice(start));
  return blocks;
}
