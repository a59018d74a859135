import { useEffect, useState } from "react";

/** Whether the first card that waits is out of the reader's sight; `key` names the cards. */
export function useOutOfSight(key: string): boolean {
  const [seen, setSeen] = useState<string>();
  useEffect(() => {
    const card = key === "" ? null : document.querySelector('[data-pending-card="true"]');
    if (!card) return;
    // A card higher than the window is seen when any of it is.
    const observer = new IntersectionObserver(([entry]) => setSeen(entry?.isIntersecting ? key : undefined));
    observer.observe(card);
    return () => observer.disconnect();
  }, [key]);
  return key !== "" && seen !== key;
}
