import type { Session } from "../../net/api.ts";

/** Every word is somewhere in the title, the agent or the source. */
export function matches(one: Session, wanted: string): boolean {
  const text = [one.title, one.agent, one.source?.git, one.source?.dir].join(" ").toLowerCase();
  return wanted.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
