import { useEffect, useState } from "react";

/** This near the end counts as being there. */
const NEAR_PX = 60;

/** Follows the end of a log until the reader scrolls up, and again when they come back down. */
export class EndFollower {
  private sticky = true;
  private top = 0;
  private box: HTMLElement | undefined;
  private observer: ResizeObserver | undefined;

  constructor(private readonly onChange: (atEnd: boolean) => void) {}

  /** The scrolling box as a ref: its size and its content's are watched while it is mounted. */
  readonly attach = (box: HTMLElement | null): (() => void) => {
    this.box = box ?? undefined;
    this.observer = new ResizeObserver(() => this.stick());
    if (box) this.observer.observe(box);
    if (box?.firstElementChild) this.observer.observe(box.firstElementChild);
    return () => {
      this.observer?.disconnect();
      this.box = undefined;
    };
  };

  readonly scrolled = (): void => {
    const { box } = this;
    if (!box) return;
    const near = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    // Only a movement upwards is the reader's; growth of the content moves nothing up.
    if (near) this.sticky = true;
    else if (box.scrollTop < this.top - 2) this.sticky = false;
    this.top = box.scrollTop;
    this.onChange(near || this.sticky);
  };

  readonly follow = (): void => {
    this.sticky = true;
    this.onChange(true);
    this.stick();
  };

  /** Runs a change that puts rows above what is read, and keeps that in its place. */
  readonly keepPlace = (change: () => void): void => {
    const { box } = this;
    const below = box ? box.scrollHeight - box.scrollTop : 0;
    change();
    if (box) box.scrollTop = box.scrollHeight - below;
  };

  private stick(): void {
    if (this.box && this.sticky) this.box.scrollTop = this.box.scrollHeight;
  }
}

export function useEndFollower(sent: number) {
  const [atEnd, setAtEnd] = useState(true);
  const [follower] = useState(() => new EndFollower(setAtEnd));
  useEffect(() => {
    if (sent > 0) follower.follow();
  }, [sent, follower]);
  const { attach, scrolled, follow, keepPlace } = follower;
  return { atEnd, attach, scrolled, follow, keepPlace };
}
