/** A dialog gives the focus back first. */
const SETTLED_MS = 100;

/** Where the keyboard goes on when what had the focus before a dialog is gone: from there, or from the page's content. */
export function goOn(next?: () => HTMLElement | null): void {
  setTimeout(() => {
    if (document.activeElement === document.body) (next?.() ?? document.getElementById("content"))?.focus();
  }, SETTLED_MS);
}
