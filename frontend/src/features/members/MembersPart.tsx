import { Button, Group, Text } from "@mantine/core";
import { hrefOf } from "../../model/route.ts";
import type { Me } from "../../net/api.ts";
import { Part } from "../settings/Settings.tsx";
import { aRole } from "./words.ts";

/** In the settings: what one is here, and the way to the members. */
export function MembersPart({ me: { principal } }: { me: Me }) {
  const admin = principal.scopes.includes("admin");
  return (
    <Part title="Members">
      <Group justify="space-between">
        <Text fz="sm" miw={0} flex={1}>
          You are {aRole(principal.role ?? "viewer")}. {admin ? "You say who else belongs here, and as what." : "Admins say who belongs here, and make keys for programs."}
        </Text>
        <Button component="a" href={hrefOf({ page: "members" })} variant="default" size="xs" data-testid="members-open">
          {admin ? "Open the members" : "What may I do?"}
        </Button>
      </Group>
    </Part>
  );
}
