import { useSyncExternalStore } from "react";
import type { Shown, Tab } from "./tab.ts";

const never = (): (() => void) => () => undefined;
const nothing = (): undefined => undefined;

/** What a tab shows now; nothing while it was not looked at yet. */
export const useShown = (tab: Tab | undefined): Shown | undefined =>
  useSyncExternalStore<Shown | undefined>(tab?.subscribe ?? never, tab?.snapshot ?? nothing);
