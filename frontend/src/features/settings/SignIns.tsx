import { Alert, Badge, Button, Group, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import type { SignIn } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { ago } from "../../ui/words.ts";
import { api } from "../../wiring.ts";
import { Part } from "./Settings.tsx";
import { signOut } from "./signout.ts";

/** Where one is signed in, to be ended from here; for an administrator everybody. */
export function SignIns() {
  const queries = useQueryClient();
  const signIns = useQuery({ queryKey: ["signins"], queryFn: ({ signal }) => api.signIns(signal) });
  const ending = useMutation({
    mutationFn: (id: string) => api.endSignIn(id),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["signins"] }),
  });
  const fault = signIns.error ?? ending.error;
  const items = signIns.data?.items ?? [];
  const others = items.some((one) => !one.own);
  return (
    <Part title="Sign-ins">
      <Text fz="sm" c="dimmed">
        {others ? "Who is signed in, and where. Ending one takes effect at once." : "Where you are signed in. Ending one takes effect at once."}
      </Text>
      {fault ? (
        <Alert color="red" variant="light" role="alert">
          {sayError(fault)}
        </Alert>
      ) : null}
      <ul className="signins">
        {items.map((one) => (
          <li key={one.id} data-testid="signin-row" data-current={one.current}>
            <div>
              <Text fz="sm" fw={500}>
                {one.agent || "Unknown browser"}
                {others ? `, ${one.name}` : ""}
              </Text>
              <Text fz="xs" c="dimmed" style={{ overflowWrap: "anywhere" }}>
                {place(one)}; began {ago(one.createdAt)}, seen {ago(one.lastSeenAt)}
              </Text>
            </div>
            {one.current ? (
              <Badge size="sm" variant="light" color="teal" style={{ flex: "none" }}>
                this one
              </Badge>
            ) : (
              <Button size="compact-xs" variant="subtle" color="red" loading={ending.isPending && ending.variables === one.id} onClick={() => ending.mutate(one.id)} aria-label={`End the sign-in of ${one.name}, ${one.agent || "unknown browser"}, ${one.address}`} data-testid="signin-end">
                End
              </Button>
            )}
          </li>
        ))}
      </ul>
      <Group justify="flex-end">
        <Button variant="default" size="xs" onClick={() => signOut(true)} data-testid="signout-everywhere">
          Sign out everywhere
        </Button>
      </Group>
    </Part>
  );
}

const place = (one: SignIn): string => [one.address, one.via ? `by ${one.via}` : "by link"].filter((part) => part !== "").join(", ");
