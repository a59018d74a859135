import { Center, Loader } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useEffect } from "react";
import { SignIn } from "./features/signin/SignIn.tsx";
import { Shell } from "./features/sessions/Shell.tsx";
import { useMe } from "./model/hooks.ts";
import { HttpError } from "./net/http.ts";
import { api, client, queries } from "./wiring.ts";

/** One ticket is posted once, however often React mounts the page. */
let posted: Promise<undefined> | undefined;

export function App({ ticket }: { ticket: string | undefined }) {
  const me = useMe();
  const { mutate: signIn, ...signing } = useMutation({
    mutationFn: (one: string) => (posted ??= api.signIn(one)),
    onSettled: () => queries.invalidateQueries({ queryKey: ["me"] }),
  });
  useEffect(() => {
    if (ticket !== undefined) signIn(ticket);
  }, [ticket, signIn]);

  const known = me.data !== undefined && !(me.error instanceof HttpError && me.error.status === 401);
  useEffect(() => {
    if (!known) return;
    client.socket.start();
    return () => client.socket.stop();
  }, [known]);

  if (known) return <Shell me={me.data} />;
  const busy = signing.isPending || (ticket !== undefined && signing.isIdle) || (signing.isSuccess && me.isFetching);
  if (me.isPending && !busy)
    return (
      <Center h="100dvh">
        <Loader aria-label="Loading" />
      </Center>
    );
  const unreachable = me.error instanceof HttpError && me.error.status === 401 ? undefined : me.error;
  return <SignIn busy={busy} error={signing.error ?? unreachable} onRetry={() => void me.refetch()} />;
}
