import { Button } from "@mantine/core";
import { FilePen, FilePlus2, FileSymlink, FileX2 } from "lucide-react";
import { memo, useMemo, useState } from "react";
import type { Diff } from "../protocol/events.ts";
import { readPatch } from "../protocol/patch.ts";
import type { PatchRow } from "../protocol/patch.ts";
import { Exact } from "./Exact.tsx";
import type { Colored, Highlight } from "./highlighter.ts";
import { languageOfPath, useHighlighter } from "./useHighlighter.ts";

const ICONS = { add: FilePlus2, edit: FilePen, delete: FileX2, rename: FileSymlink };
const WORDS = { add: "New file", edit: "Edited", delete: "Deleted", rename: "Renamed" };
const SIGNS = { add: "+", del: "−", same: "", hunk: "" };
/** Rows drawn before the reader asks for all: a table of 20,000 rows would freeze the page. */
const ROWS_AT_FIRST = 400;

/** Each row's pieces. What was and what is are two texts; a string that goes over lines is known only in its own. */
function colorsOf(rows: readonly PatchRow[], highlight: Highlight, language: string): Map<PatchRow, Colored[]> | undefined {
  const out = new Map<PatchRow, Colored[]>();
  for (const side of ["del", "add"] as const) {
    const own = rows.filter((row) => row.is === side || row.is === "same");
    if (own.length === 0) continue;
    const lines = highlight(own.map((row) => row.text).join("\n"), language);
    if (lines?.length !== own.length) return undefined;
    own.forEach((row, i) => out.set(row, lines[i] ?? []));
  }
  return out;
}

export const DiffView = memo(function DiffView({ diff }: { diff: Diff }) {
  const patch = useMemo(() => readPatch(diff.patch), [diff.patch]);
  const [all, showAll] = useState(false);
  const language = languageOfPath(diff.path);
  const highlight = useHighlighter(language !== "");
  const colored = useMemo(() => (highlight ? colorsOf(patch.rows, highlight, language) : undefined), [highlight, patch.rows, language]);
  const Icon = ICONS[diff.kind];
  const rows = all ? patch.rows : patch.rows.slice(0, ROWS_AT_FIRST);
  return (
    <section className="diff" data-testid="diff" data-path={diff.path} aria-label={`${WORDS[diff.kind]}: ${diff.path}`}>
      <div className="diffhead">
        <Icon size={15} aria-label={WORDS[diff.kind]} />
        <span className="exact"><Exact text={diff.path} /></span>
        <span className="plus">+{patch.added}</span>
        <span className="minus">−{patch.removed}</span>
      </div>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- it scrolls, so the keyboard must reach it */}
      <div className={`difflines exact${all ? " all" : ""}`} tabIndex={0} role="group" aria-label="Changes">
        <table>
          <tbody>
            {rows.map((row, i) => (
              <tr key={i} className={row.is}>
                <td className="no">{row.before}</td>
                <td className="no">{row.after}</td>
                <td className="sign">
                  {row.is === "add" ? <ins className="sr-only">added </ins> : row.is === "del" ? <del className="sr-only">removed </del> : null}
                  <span aria-hidden="true">{SIGNS[row.is]}</span>
                </td>
                <td>
                  {colored?.get(row)?.map((piece, j) => (
                    <span key={j} className={piece.className}>
                      <Exact text={piece.text} />
                    </span>
                  )) ?? <Exact text={row.text} />}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length < patch.rows.length ? (
        <Button variant="subtle" size="xs" fullWidth radius={0} onClick={() => showAll(true)}>
          Show all {patch.rows.length} lines
        </Button>
      ) : null}
    </section>
  );
});
