/** Keys and focus of a card that waits. What a key does may never be an accident: see each rule. */
import { useEffect, useRef } from "react";
import type { KeyboardEvent as ReactKeyboardEvent, RefObject } from "react";

/** A card answers no key and no click before a reader can have seen it. */
export const GRACE_MS = 400;
/** Somebody who pressed a key this recently is typing: the card does not take the focus from them. */
const TYPING_MS = 1_500;

let lastKeyAt = 0;
export function watchTyping(): () => void {
  const onKey = (): void => {
    lastKeyAt = performance.now();
  };
  window.addEventListener("keydown", onKey, true);
  return () => window.removeEventListener("keydown", onKey, true);
}

/** Takes the focus if nobody is using it: nothing is focused, or an empty prompt field lies idle. */
export function useArrival(card: RefObject<HTMLElement | null>): RefObject<number> {
  const since = useRef(0);
  useEffect(() => {
    since.current = performance.now();
    const timer = setTimeout(() => {
      const element = card.current;
      const first = document.querySelector('[data-pending-card="true"]');
      if (element && first === element && mayTake(document.activeElement)) element.focus({ preventScroll: true });
    }, 0);
    return () => clearTimeout(timer);
  }, [card]);
  return since;
}

function mayTake(active: Element | null): boolean {
  if (document.querySelector('[role="dialog"]')) return false;
  if (active === null || active === document.body || active.id === "content") return true;
  if (active.closest('[data-state="done"]')) return true;
  const idle = performance.now() - lastKeyAt > TYPING_MS;
  return idle && active instanceof HTMLTextAreaElement && active.dataset.testid === "composer" && active.value === "";
}

export interface Keys {
  approve: () => void;
  deny: () => void;
  showAll: () => void;
}

/** A, D and S while the card itself has the focus: not in its fields, not with a modifier, not on key repeat. */
export function onCardKey(event: ReactKeyboardEvent, since: number, keys: Keys): void {
  if (event.target !== event.currentTarget || event.repeat) return;
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const act = { a: keys.approve, d: keys.deny, s: keys.showAll }[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  if (performance.now() - since >= GRACE_MS) act();
}
