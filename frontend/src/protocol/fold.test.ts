import { describe, expect, it } from "vitest";
import type { EventOf } from "./events.ts";
import { fold } from "./fold.ts";
import { emptyView } from "./view.ts";

const artifact = (seq: number, jobId: string, path: string): EventOf<"artifact"> => ({
  type: "artifact", seq, sessionId: "s", jobId, at: "", artifactId: `${seq}`, path, size: 1, sha256: "", url: `/api/artifacts/${seq}/content`,
});

describe("what jobs made", () => {
  it("stands in one place for each job, in the order of the log", () => {
    const said = [artifact(1, "a", "x"), artifact(2, "a", "y"), artifact(3, "b", "x")];
    const view = fold(emptyView(), said);
    expect(view.order).toEqual(["artifacts:a", "artifacts:b"]);
    const item = view.items.get("artifacts:a");
    expect(item?.is === "artifacts" && item.files.map((file) => file.path)).toEqual(["x", "y"]);
    const again = fold(view, said);
    expect(again.items.get("artifacts:a")).toEqual(item);
  });
});
