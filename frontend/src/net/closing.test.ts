import { expect, it } from "vitest";
import { afterClose, backoff, BACKOFF_MAX_MS } from "./closing.ts";

it.each([
  [1001, "again"], [1006, "again"], [4500, "again"], [4508, "again"], [4599, "again"],
  [4401, "signin"],
  [1008, "stay"], [1009, "stay"], [4400, "stay"], [4403, "stay"], [4499, "stay"],
])("close code %i: %s", (code, then) => expect(afterClose(code)).toBe(then));

it("waits longer each time, within bounds, never all at one instant", () => {
  for (let attempt = 0; attempt < 40; attempt++) {
    expect(backoff(attempt, 0)).toBeGreaterThan(0);
    expect(backoff(attempt, 1)).toBeLessThanOrEqual(BACKOFF_MAX_MS);
    expect(backoff(attempt, 0)).toBeLessThan(backoff(attempt, 1));
  }
  expect(backoff(3, 0.5)).toBeGreaterThan(backoff(1, 0.5));
});
