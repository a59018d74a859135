import { memo } from "react";
import { reveal } from "../protocol/reveal.ts";

/** A text as the machine will read it: hidden characters are shown, nothing changes direction. */
export const Exact = memo(function Exact({ text }: { text: string }) {
  return reveal(text).map((piece, i) =>
    piece.hidden ? (
      <span key={i} className="hid" title={piece.hidden} data-testid="hidden-character">
        {piece.text}
      </span>
    ) : (
      piece.text
    ),
  );
});

/** A box with exact text. */
export function ExactBox({ text, limited = false, label }: { text: string; limited?: boolean; label: string }) {
  return (
    // A box that scrolls must be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <pre className={`mono exact${limited ? " limited" : ""}`} tabIndex={limited ? 0 : undefined} aria-label={label}>
      <Exact text={text} />
    </pre>
  );
}
