/** Who looks at a shell, and who of them types, as the server tells one viewer. */
import type { Role, Said, Viewer } from "./shell.ts";

export class Presence {
  viewers: Viewer[] = [];
  you = "";

  /** `role`: what this viewer asks to be when it comes (back). */
  constructor(public role: Role) {}

  get me(): Viewer | undefined {
    return this.viewers.find((one) => one.id === this.you);
  }

  get types(): boolean {
    return (this.me?.role ?? this.role) === "type";
  }

  /** Whether what the terminal answers is wanted from this one: two answers to one question would be typed. */
  get answers(): boolean {
    return this.you !== "" && this.viewers.find((one) => one.role === "type")?.id === this.you;
  }

  /** Whether this viewer has won the typing, or lost it. */
  heard(said: Said & { type: "presence" }): "won" | "lost" | undefined {
    const before = this.types;
    this.viewers = said.viewers;
    this.you = said.you;
    this.role = this.types ? "type" : "watch";
    if (before === this.types) return undefined;
    return this.types ? "won" : "lost";
  }

  /** The connection has ended. */
  left(): void {
    this.viewers = [];
    this.you = "";
  }
}
