/** xterm knows the wheel and no finger. */
export function followTouch(element: HTMLElement, move: (x: number, y: number, dx: number, dy: number) => void): void {
  let last: { x: number; y: number } | undefined;
  const start = (event: TouchEvent): void => {
    const [touch] = event.touches;
    last = touch && event.touches.length === 1 ? { x: touch.clientX, y: touch.clientY } : undefined;
  };
  const follow = (event: TouchEvent): void => {
    const [touch] = event.touches;
    if (!last || !touch) return;
    event.preventDefault();
    const { clientX: x, clientY: y } = touch;
    move(x, y, last.x - x, last.y - y);
    last = { x, y };
  };
  element.addEventListener("touchstart", start, { passive: true });
  element.addEventListener("touchmove", follow, { passive: false });
}
