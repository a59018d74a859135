import { Text } from "@mantine/core";
import { Eye } from "lucide-react";
import type { Right } from "../../net/api.ts";

/** Stands where the prompt would be, for those who may not give one. */
export function Watching({ rights }: { rights: readonly Right[] }) {
  return (
    <div className="watching" role="note" data-testid="watching">
      <Eye size={15} aria-hidden="true" />
      <Text fz="sm" c="dimmed">
        {rights.includes("approve") ? "You are watching, and may answer what is asked." : "You are watching."}
      </Text>
    </div>
  );
}
