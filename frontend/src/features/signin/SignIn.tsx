import { Alert, Button, Code, Divider, Group, Loader, Paper, Stack, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { CircleAlert } from "lucide-react";
import { HttpError } from "../../net/http.ts";
import { Mark } from "../../ui/Mark.tsx";
import { api } from "../../wiring.ts";

/** Why somebody sees this page, in words that help. */
function explain(error: unknown, link: boolean): { title: string; text: string } | undefined {
  if (error === undefined || error === null) return undefined;
  if (error instanceof HttpError && error.status === 401 && link)
    return { title: "This share link does not work any more", text: "It has ended or was revoked. Ask whoever gave it to you for another." };
  if (error instanceof HttpError && error.status === 401)
    return { title: "This sign-in link does not work any more", text: "A link works once and for ten minutes. Make another." };
  if (error instanceof HttpError && error.status === 0)
    return { title: "The server cannot be reached", text: "Check that Pilothouse is running, then try again." };
  return { title: "Sign-in failed", text: error instanceof Error ? error.message : "Unknown error." };
}

export function SignIn({ busy, link, error, onRetry }: { busy: boolean; link: boolean; error: unknown; onRetry: () => void }) {
  const trouble = explain(error, link);
  const providers = useQuery({ queryKey: ["providers"], queryFn: ({ signal }) => api.providers(signal), enabled: !busy, staleTime: Infinity });
  const offered = providers.data?.items ?? [];
  return (
    <main className="signin" data-testid="signin">
      <Paper withBorder shadow="sm" radius="lg" p={{ base: "lg", xs: "xl" }} w="100%" maw={440}>
        <Stack gap="md">
          <Group gap="sm">
            <Mark size={32} />
            <Title order={1} fz={22}>
              Pilothouse
            </Title>
          </Group>
          {busy ? (
            <Group gap="sm" role="status">
              <Loader size="sm" />
              <Text>Signing in…</Text>
            </Group>
          ) : (
            <>
              {trouble ? (
                <Alert color="red" variant="light" icon={<CircleAlert />} title={trouble.title} role="alert">
                  {trouble.text}
                </Alert>
              ) : null}
              {offered.map((one) => (
                <Button key={one.id} component="a" href={api.providerUrl(one.id)} fullWidth data-testid="provider" data-provider={one.id}>
                  Sign in with {one.label}
                </Button>
              ))}
              {offered.length > 0 ? <Divider label="or" labelPosition="center" /> : null}
              <Text c="dimmed">
                Sign in with a one-time link. On the machine where the server runs, make one and open it in this browser:
              </Text>
              <Code block fz="sm" className="command">
                pilothouse ticket
              </Code>
              <Group>
                <Button variant="default" onClick={onRetry}>
                  Try again
                </Button>
              </Group>
            </>
          )}
        </Stack>
      </Paper>
    </main>
  );
}
