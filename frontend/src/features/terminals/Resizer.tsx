import type { KeyboardEvent, PointerEvent } from "react";
import { prefer, SHARE_MAX, SHARE_MIN, usePrefs } from "./prefs.ts";

const STEP = 0.05;

/** The edge between conversation and terminal, drawn by pointer or moved by keys. */
export function Resizer() {
  const { share } = usePrefs();
  const onMove = (event: PointerEvent<HTMLElement>): void => {
    const panel = event.currentTarget.parentElement;
    const page = panel?.parentElement;
    if (!panel || !page || !event.currentTarget.hasPointerCapture(event.pointerId)) return;
    const { bottom, height } = page.getBoundingClientRect();
    prefer({ share: (bottom - event.clientY) / height });
  };
  const onKey = (event: KeyboardEvent<HTMLElement>): void => {
    const step = { ArrowUp: STEP, ArrowDown: -STEP }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    prefer({ share: share + step });
  };
  return (
    <div
      className="terminaledge" role="slider" aria-orientation="vertical" aria-label="Height of the terminal" tabIndex={0}
      aria-valuenow={Math.round(share * 100)} aria-valuemin={SHARE_MIN * 100} aria-valuemax={SHARE_MAX * 100} aria-valuetext={`${Math.round(share * 100)} % of the page`}
      onPointerDown={(event) => event.currentTarget.setPointerCapture(event.pointerId)}
      onPointerMove={onMove} onKeyDown={onKey}
    />
  );
}
