import { Center, Loader } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useEffect } from "react";
import { SignIn } from "./features/signin/SignIn.tsx";
import { Shell } from "./features/sessions/Shell.tsx";
import { useMe } from "./model/hooks.ts";
import { HttpError } from "./net/http.ts";
import { api, client } from "./wiring.ts";

/** One ticket is posted once, however often React mounts the page. */
let posted: Promise<undefined> | undefined;

export function App({ ticket }: { ticket: string | undefined }) {
  const { mutate: signIn, ...signing } = useMutation({
    mutationFn: (one: string) => (posted ??= api.signIn(one)),
  });
  // A question that is already on its way would be answered as nobody: ask after the ticket is through.
  const settled = ticket === undefined || signing.isSuccess || signing.isError;
  const me = useMe(settled);
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
  const busy = !settled || (signing.isSuccess && me.isFetching);
  if (me.isPending && !busy)
    return (
      <Center h="100dvh">
        <Loader aria-label="Loading" />
      </Center>
    );
  const unreachable = me.error instanceof HttpError && me.error.status === 401 ? undefined : me.error;
  return <SignIn busy={busy} error={signing.error ?? unreachable} onRetry={() => void me.refetch()} />;
}
