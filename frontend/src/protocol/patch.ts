/** A unified patch as rows with line numbers. */
export interface PatchRow {
  is: "add" | "del" | "same" | "hunk";
  text: string;
  before?: number;
  after?: number;
}

export interface Patch {
  rows: PatchRow[];
  added: number;
  removed: number;
}

const HEAD = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/;

/** Counts the lines that each hunk announces: a removed line that begins with `--` is not taken for a file header. */
export function readPatch(patch: string): Patch {
  const out: Patch = { rows: [], added: 0, removed: 0 };
  let [before, after, oldLeft, newLeft] = [0, 0, 0, 0];
  const lines = patch.split("\n");
  if (lines.at(-1) === "") lines.pop();
  for (const line of lines) {
    const head = HEAD.exec(line);
    if (head && oldLeft <= 0 && newLeft <= 0) {
      before = Number(head[1]);
      after = Number(head[3]);
      oldLeft = Number(head[2] ?? 1);
      newLeft = Number(head[4] ?? 1);
      out.rows.push({ is: "hunk", text: line });
    } else if (oldLeft <= 0 && newLeft <= 0) {
      // Between hunks there are only file headers; whatever else stands there is shown, not dropped.
      if (!/^(---|\+\+\+|diff |index |new file|deleted file|similarity|rename )/.test(line))
        out.rows.push({ is: "hunk", text: line });
    } else if (line.startsWith("+")) {
      out.rows.push({ is: "add", text: line.slice(1), after: after++ });
      out.added += 1;
      newLeft -= 1;
    } else if (line.startsWith("-")) {
      out.rows.push({ is: "del", text: line.slice(1), before: before++ });
      out.removed += 1;
      oldLeft -= 1;
    } else if (line.startsWith("\\")) {
      out.rows.push({ is: "hunk", text: line });
    } else {
      out.rows.push({ is: "same", text: line.slice(1), before: before++, after: after++ });
      oldLeft -= 1;
      newLeft -= 1;
    }
  }
  return out;
}
